//! Frames that equal pages have in common, and what is known about the content of frames.

use super::FramePool;
use pleat_overcommit::ledger::{Bug, Company, Error, Key, Owner, Several};
use pleat_overcommit::merge::Inserted;
use pleat_types::{FRAME_SIZE, FrameMemory, Hfn, OwnedFrame, PageSize, Share};

impl FramePool {
    /// The frame that a page owned is one that equal pages have in common.
    pub(crate) fn share(&mut self, frame: OwnedFrame) {
        let done = self.ledger.share(frame).is_ok();
        self.note(done);
    }

    /// The frame is one that equal pages have in common, and this is the share of the first.
    pub(crate) fn share_out(&mut self, frame: OwnedFrame) -> Option<Share> {
        let shared = self.ledger.share_out(frame);
        self.note(shared.is_ok());
        shared.ok()
    }

    /// One more page maps this frame.
    pub(crate) fn add_share(&mut self, frame: Hfn) -> Result<Share, Error> {
        self.ledger.add_share(frame)
    }

    /// One page less maps it; with the last one it goes back to the pool.
    pub(crate) fn release_share<M: FrameMemory>(&mut self, memory: &mut M, share: Share) {
        if self.ledger.sharers(share.frame()) == 1 {
            self.unindex(share.frame());
        }
        let done = self.ledger.release_share(memory, share).is_ok();
        self.note(done);
    }

    /// Who shares a frame.
    #[inline]
    pub(crate) fn company(&self, frame: Hfn) -> Company {
        self.ledger.company(frame)
    }

    /// One page less maps it, of several.
    #[inline]
    pub(crate) fn part(&mut self, several: Several, share: Share) {
        self.ledger.part(several, share);
    }

    /// The only page that still maps it owns it from now on.
    pub(crate) fn own_share<M: FrameMemory>(&mut self, memory: &mut M, share: Share, owner: Owner) {
        let done = self.ledger.own_share(memory, share, owner).is_ok();
        self.note(done);
    }

    /// How many pages map a shared frame.
    pub(crate) fn sharers(&self, frame: Hfn) -> u32 {
        self.ledger.sharers(frame)
    }

    /// Mappings of shared frames.
    pub(crate) const fn shares(&self) -> u64 {
        self.ledger.shares()
    }

    /// Visits the pages that were noted to share a frame.
    pub(crate) fn for_each_sharer<M: FrameMemory>(
        &self,
        memory: &M,
        frame: Hfn,
        visit: impl FnMut(Owner),
    ) -> Result<(), Bug> {
        self.ledger.for_each_sharer(memory, frame, visit)
    }

    /// A page that was noted to share a frame; it may not any more.
    pub(crate) fn any_sharer<M: FrameMemory>(&self, memory: &M, frame: Hfn) -> Option<Owner> {
        self.ledger.any_sharer(memory, frame)
    }

    /// Writes down that these pages share a frame. `freed` is used if that takes memory, and goes back otherwise. One page
    /// can do without as long as there is room.
    pub(crate) fn note_sharers<M: FrameMemory>(
        &mut self,
        memory: &mut M,
        frame: Hfn,
        pages: &[Owner],
        freed: Option<OwnedFrame>,
        is_live: impl FnMut(&mut M, Owner) -> bool,
    ) -> Result<(), Error> {
        if let Some(freed) = &freed {
            self.unindex(freed.first());
        }
        if let Some(freed) = self.ledger.note_sharers(memory, frame, pages, freed, is_live)? {
            self.release(freed);
        }
        Ok(())
    }

    /// Frames that had this key when they were looked at last.
    pub(crate) fn with_key(&self, key: Key) -> impl Iterator<Item = Hfn> {
        self.index.find(&self.ledger, key)
    }

    /// Lets a frame be found by its key.
    pub(crate) fn index(&mut self, frame: Hfn, key: Key) -> Inserted {
        self.index.insert(&mut self.ledger, frame, key)
    }

    /// It is not found any more.
    pub(crate) fn unindex(&mut self, frame: Hfn) {
        self.index.remove(&mut self.ledger, frame);
    }

    /// Its key, if it can be found by one.
    pub(crate) fn key(&self, frame: Hfn) -> Option<Key> {
        self.ledger.key(frame)
    }

    /// Its key when it was looked at last.
    pub(crate) fn last_key(&self, frame: Hfn) -> Option<Key> {
        self.ledger.last_key(frame)
    }

    /// The mapping of a block was split.
    pub(crate) fn split(&mut self, first: Hfn, size: PageSize) {
        let done = self.ledger.split(first, size).is_ok();
        self.note(done);
    }

    /// The mappings of a block's parts were put together. Its parts are not found any more.
    pub(crate) fn join(&mut self, first: Hfn, size: PageSize) {
        (first.get()..first.get() + size.frames()).for_each(|frame| self.unindex(Hfn::new(frame)));
        let done = self.ledger.join(first, size).is_ok();
        self.note(done);
    }

    /// Whether what found no room in the index would find some now.
    pub(crate) fn has_room_in_index(&self) -> bool {
        self.index.has_room()
    }

    /// Frames in the index.
    pub(crate) fn indexed(&self) -> u64 {
        self.index.len() as u64
    }

    /// How often a page's content has been found changed.
    pub(crate) fn changes(&self, frame: Hfn) -> u8 {
        self.ledger.changes(frame)
    }

    /// Notes how often a page's content has been found changed.
    pub(crate) fn set_changes(&mut self, frame: Hfn, changes: u8) {
        let done = self.ledger.set_changes(frame, changes).is_ok();
        self.note(done);
    }

    /// Bytes of what exists for merging only: the index and the lists of sharers.
    pub(crate) fn merge_metadata_bytes(&self) -> u64 {
        let lists = self.ledger.counts().lists * FRAME_SIZE as u64;
        self.index.bytes() as u64 + lists
    }
}
