//! Which pages share a frame: the reverse map.
//!
//! A list is one chunk of a slab frame (see `slab.rs`), or several whole frames linked through their last
//! elements, the newest first. It is only ever appended to; unused elements fill the tail, so its length
//! need not be kept. When a page leaves its frame the list stays as it is: an element counts only if that
//! page still maps the frame, which its own table entry says. What has become stale is thrown out when a
//! list is full, instead of growing it, as soon as it is a quarter of all; so the work for one page is a
//! few steps on average, and a list is never much longer than it has to be.
//!
//! Memory for the lists is made of the frames that merging frees: each page that joins a shared frame
//! leaves one of its own behind, and to note that it did no more than one is ever wanted (rule 5). A page that leaves
//! none, because it comes back from the swap store, is noted without if there is room.

use pleat_types::{FrameMemory, Hfn, OwnedFrame};

use super::Ledger;
use super::error::{Bug, Error};
use super::list::{List, Page};
use super::record::{FrameRecord, Owner};
use super::slab::{Chunk, Class};

/// As many pages can be noted at once: the first two of a frame.
pub const NOTED_AT_ONCE: usize = 2;

impl Ledger<'_> {
    /// Notes that these pages, two at most, map a shared frame. `donor` is a frame that merging has just
    /// freed, mapped nowhere any more: if the list needs memory it is taken for that, else it comes back.
    /// Without one, for one page, [`Error::HostShort`] says that it is needed, and then nobody is noted.
    /// `is_live` says whether a page still maps the frame.
    pub fn note_sharers<M: FrameMemory>(
        &mut self,
        memory: &mut M,
        frame: Hfn,
        pages: &[Owner],
        mut donor: Option<OwnedFrame>,
        mut is_live: impl FnMut(&mut M, Owner) -> bool,
    ) -> Result<Option<OwnedFrame>, Error> {
        if pages.len() > NOTED_AT_ONCE {
            return Err(Bug::TooManyPages.into());
        }
        if let Some(donor) = &donor {
            self.donor(donor)?;
        }
        for page in pages {
            let page = Page::new(*page)?;
            self.note_one(memory, frame, page, &mut donor, &mut is_live)?;
        }
        Ok(donor)
    }

    /// Calls `visit` with every page that maps a shared frame; with some that do not any more too, and
    /// with some more than once. For a frame that is not shared with none.
    pub fn for_each_sharer<M: FrameMemory>(
        &self,
        memory: &M,
        frame: Hfn,
        visit: impl FnMut(Owner),
    ) -> Result<(), Bug> {
        let record = self.shared(frame).ok();
        if let Some(chunk) = record.and_then(FrameRecord::chunk) {
            let list = self.list(memory, chunk)?;
            list.pages(memory).map(Page::owner).for_each(visit);
        }
        Ok(())
    }

    /// One of the pages that were noted to share a frame: it may have left it since.
    #[must_use]
    pub fn any_sharer<M: FrameMemory>(&self, memory: &M, frame: Hfn) -> Option<Owner> {
        let chunk = self.shared(frame).ok()?.chunk()?;
        self.slab(chunk).ok()?;
        chunk.get(memory, 0).map(Page::owner)
    }

    fn note_one<M: FrameMemory>(
        &mut self,
        memory: &mut M,
        frame: Hfn,
        page: Page,
        donor: &mut Option<OwnedFrame>,
        is_live: &mut impl FnMut(&mut M, Owner) -> bool,
    ) -> Result<(), Error> {
        let Some(chunk) = self.shared(frame)?.chunk() else {
            let chunk = self.chunk_for(memory, Class::FIRST, donor)?;
            chunk.clear(memory);
            chunk.set(memory, 0, Some(page));
            self.shared_mut(frame)?.set_chunk(chunk);
            return Ok(());
        };
        self.slab(chunk)?;
        let length = chunk.length(memory);
        if length < chunk.class.elements() {
            chunk.set(memory, length, Some(page));
            return Ok(());
        }
        let mut list = self.list(memory, chunk)?;
        self.tidy(memory, frame, &mut list, page, is_live)?;
        self.extend(memory, frame, list, page, donor)
    }

    /// Throws out of a full list what is stale, and `page`, if there is a quarter or more of it.
    fn tidy<M: FrameMemory>(
        &mut self,
        memory: &mut M,
        frame: Hfn,
        list: &mut List,
        page: Page,
        is_live: &mut impl FnMut(&mut M, Owner) -> bool,
    ) -> Result<(), Bug> {
        let sharers = self.sharers(frame);
        let length = list.length() + 1;
        if length.saturating_sub(sharers) * 4 < length {
            return Ok(());
        }
        list.retain(memory, |memory, other| {
            other != page && is_live(memory, other.owner())
        });
        // With `page`, more than there are: then some are there twice.
        if list.length() >= sharers {
            list.remove_repeated(memory);
        }
        while let Some(empty) = list.pop_empty() {
            self.shared_mut(frame)?.set_chunk(list.head());
            self.free_chunk(memory, empty)?;
        }
        Ok(())
    }

    /// Adds a page to a list: where there is room, or by moving it to a chunk that fits better, or by
    /// putting another frame in front.
    fn extend<M: FrameMemory>(
        &mut self,
        memory: &mut M,
        frame: Hfn,
        mut list: List,
        page: Page,
        donor: &mut Option<OwnedFrame>,
    ) -> Result<(), Error> {
        let old = list.head();
        // Two more, so that the next page of the same call needs no other chunk.
        let class = Class::for_elements(list.length() + 2).unwrap_or(Class::LAST);
        let is_wasteful = list.is_single() && class.elements() * 4 <= old.class.elements();
        if list.has_room() && !is_wasteful {
            list.push(memory, page);
            return Ok(());
        }
        let new = self.chunk_for(memory, class, donor)?;
        new.clear(memory);
        if list.is_single() && class != old.class {
            list.copy_to(memory, new);
            new.set(memory, list.length(), Some(page));
            self.shared_mut(frame)?.set_chunk(new);
            self.free_chunk(memory, old)?;
            return Ok(());
        }
        new.set(memory, 0, Some(page));
        new.set_older(memory, old.frame);
        self.shared_mut(frame)?.set_chunk(new);
        Ok(())
    }

    /// A chunk of this class: a free one, or one of a new slab frame made of the donor.
    fn chunk_for<M: FrameMemory>(
        &mut self,
        memory: &mut M,
        class: Class,
        donor: &mut Option<OwnedFrame>,
    ) -> Result<Chunk, Error> {
        if let Some(chunk) = self.take_chunk(memory, class)? {
            return Ok(chunk);
        }
        let donor = donor.take().ok_or(Error::HostShort)?;
        self.add_slab(memory, donor, class)?;
        Ok(self.take_chunk(memory, class)?.ok_or(Bug::TooManyPages)?)
    }

    /// Takes back all chunks of a list, which no record names any more.
    pub(super) fn free_list<M: FrameMemory>(
        &mut self,
        memory: &mut M,
        record: &FrameRecord,
    ) -> Result<(), Bug> {
        let Some(head) = record.chunk() else {
            return Ok(());
        };
        // First the whole of it: freed chunks have no links.
        let list = self.list(memory, head)?;
        for chunk in list.chunks() {
            self.free_chunk(memory, chunk)?;
        }
        Ok(())
    }

    /// The whole of a list.
    pub(super) fn list<M: FrameMemory>(&self, memory: &M, head: Chunk) -> Result<List, Bug> {
        List::new(memory, head, |chunk| self.slab(chunk).map(|_| ()))
    }
}
