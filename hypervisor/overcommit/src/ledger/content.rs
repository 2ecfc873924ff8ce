//! What the ledger remembers about the content of a frame, for those who look for equal pages.

use pleat_types::Hfn;

use super::Ledger;
use super::buddy::at;
use super::error::Bug;
use super::record::{FrameRecord, Owner, State};

/// A part of the hash of a page's content. Equal pages of one domain have equal keys; the inverse is not
/// true, and must be found out by comparing bytes (rule 4).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Key(pub u32);

impl Ledger<'_> {
    /// How many frames have a record, from frame 0 on.
    #[must_use]
    #[allow(clippy::cast_possible_truncation)] // `new` takes no more
    pub const fn frames(&self) -> u32 {
        self.records.len() as u32
    }

    /// The page that owns a frame, as part of a block of whatever size; `None` if none does.
    #[must_use]
    pub fn owner(&self, frame: Hfn) -> Option<Owner> {
        let (head, record) = self.block_of(frame)?;
        let offset = frame.get() - u64::from(head);
        record.is(State::Guest).then(|| record.owner().at_offset(offset))
    }

    /// The key of a frame that is in the index of contents.
    #[must_use]
    pub fn key(&self, frame: Hfn) -> Option<Key> {
        let record = self.content(frame).ok()?;
        record.is_indexed().then(|| record.key())
    }

    /// The key that was set last, whether the frame is in the index or not; zero for a frame that has
    /// none yet, and `None` where no content is on record.
    #[must_use]
    pub fn last_key(&self, frame: Hfn) -> Option<Key> {
        self.content(frame).ok().map(FrameRecord::key)
    }

    /// Notes the key of a frame that is not in the index.
    pub fn set_key(&mut self, frame: Hfn, key: Key) -> Result<(), Bug> {
        let record = self.content_mut(frame)?;
        if record.is_indexed() {
            return Err(Bug::Indexed(frame));
        }
        record.set_key(key);
        Ok(())
    }

    /// Notes that the frame is in the index of contents, under its key. As long as it is, the frame is not
    /// taken back: who finds it there must find what it was.
    pub fn set_indexed(&mut self, frame: Hfn) -> Result<(), Bug> {
        self.content_mut(frame).map(FrameRecord::index)
    }

    /// Notes that the frame is no longer in the index of contents.
    pub fn clear_indexed(&mut self, frame: Hfn) -> Result<(), Bug> {
        self.content_mut(frame).map(FrameRecord::unindex)
    }

    /// How often in a row the content of a page's own frame was seen to have changed; 0 for any other
    /// frame.
    #[must_use]
    pub fn changes(&self, frame: Hfn) -> u8 {
        let record = self.content(frame).ok();
        let owned = record.filter(|record| record.is(State::Guest));
        owned.map_or(0, FrameRecord::changes)
    }

    /// Notes how often the content of a page's own frame was seen to have changed: 7 at most, more are
    /// noted as 7.
    pub fn set_changes(&mut self, frame: Hfn, changes: u8) -> Result<(), Bug> {
        let record = self.content_mut(frame)?;
        if !record.is(State::Guest) {
            return Err(Bug::NotThat(frame));
        }
        record.set_changes(changes);
        Ok(())
    }

    fn content(&self, frame: Hfn) -> Result<&FrameRecord, Bug> {
        let index = self.index(frame)?;
        let record = self.records.get(at(index));
        let record = record.filter(|record| record.has_content());
        record.ok_or(Bug::NotThat(frame))
    }

    fn content_mut(&mut self, frame: Hfn) -> Result<&mut FrameRecord, Bug> {
        let index = self.index(frame)?;
        let record = self.records.get_mut(at(index));
        let record = record.filter(|record| record.has_content());
        record.ok_or(Bug::NotThat(frame))
    }
}
