//! Gathering what is spread: frames with little in them are emptied into others.
//!
//! One step looks at the few emptiest frames and moves the objects of the first that can be emptied. An object only
//! goes where more bytes are afterwards than were where it came from. So the sum of the squares of all frames' bytes
//! grows with each move, and steps come to an end, also when others store and free in between: two frames never pass
//! an object to and fro.

use pleat_types::{FrameMemory, Hfn};

use super::page::{NONE, Page};
use super::{Place, Pool};
use crate::swap::error::Bug;

/// Frames that a step looks at.
const CANDIDATES: usize = 8;

/// What a step did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// A frame was emptied: it is no longer one of the pool.
    Freed(Hfn),
    /// Objects have moved to fuller frames. The next step may free one.
    Moved,
    /// There is nothing to gain, until something else is freed.
    Nothing,
}

impl Pool {
    /// One step: at most as many moves as one frame has objects. `moved` is told of each: the slot, where its
    /// content was and where it is. If it fails, this object has not moved, and the step ends.
    pub fn compact<M: FrameMemory>(
        &mut self,
        memory: &mut M,
        mut moved: impl FnMut(&mut M, u32, Place, Place) -> Result<(), Bug>,
    ) -> Result<Step, Bug> {
        for frame in self.candidates(memory)? {
            if frame == NONE {
                break;
            }
            let mut page = Page::load(memory, frame)?;
            let room = page.room();
            self.bins.unlink(memory, &mut page, room)?;
            let objects = page.objects;
            let result = self.empty(memory, &mut page, &mut moved);
            if page.objects == 0 {
                return result.map(|()| Step::Freed(self.give(memory, &page)));
            }
            self.bins.link(memory, &mut page)?;
            result?;
            if page.objects < objects {
                return Ok(Step::Moved);
            }
        }
        Ok(Step::Nothing)
    }

    /// The emptiest frames.
    fn candidates<M: FrameMemory>(&self, memory: &M) -> Result<[u32; CANDIDATES], Bug> {
        let mut frames = [NONE; CANDIDATES];
        for (place, page) in frames.iter_mut().zip(self.bins.emptiest_first(memory)) {
            *place = page?.frame;
        }
        Ok(frames)
    }

    /// Moves the objects of a frame that is on no list to others, as far as they fit. None, if the longest does not.
    fn empty<M: FrameMemory>(
        &mut self,
        memory: &mut M,
        page: &mut Page,
        moved: &mut impl FnMut(&mut M, u32, Place, Place) -> Result<(), Bug>,
    ) -> Result<(), Bug> {
        let longest = page.objects(memory).map(|(_, entry)| entry.length).max();
        if !self.is_target(memory, page, longest.unwrap_or(0))? {
            return Ok(());
        }
        for index in 0..page.entries {
            let entry = match page.entry(memory, index) {
                Ok(entry) => entry,
                Err(Bug::NoObject(_)) => continue,
                Err(bug) => return Err(bug),
            };
            if !self.is_target(memory, page, entry.length)? {
                return Ok(());
            }
            self.relocate(memory, page, index, moved)?;
        }
        Ok(())
    }

    /// Whether there is a frame that an object of this one may go to.
    fn is_target<M: FrameMemory>(&self, memory: &M, page: &Page, length: u32) -> Result<bool, Bug> {
        let Some(frame) = self.bins.fitting(length as usize) else {
            return Ok(false);
        };
        Ok(Page::load(memory, frame)?.bytes + length > page.bytes)
    }

    fn relocate<M: FrameMemory>(
        &mut self,
        memory: &mut M,
        page: &mut Page,
        index: u32,
        moved: &mut impl FnMut(&mut M, u32, Place, Place) -> Result<(), Bug>,
    ) -> Result<(), Bug> {
        let slot = page.entry(memory, index)?.slot;
        let from = Place::new(page.frame, index);
        let length = page.read(memory, index, &mut self.object)?;
        let bytes = &self.object[..length];
        let target = self.bins.fitting(length).ok_or(Bug::BadLength(length))?;
        let to = self.bins.insert(memory, &mut self.scratch, target, slot, bytes)?;
        if let Err(bug) = moved(memory, slot, from, to) {
            // The copy goes. Its frame had others before.
            let mut page = Page::load(memory, to.frame)?;
            let before = page.room();
            page.remove(memory, to.index())?;
            self.bins.settle(memory, &mut page, before)?;
            return Err(bug);
        }
        page.remove(memory, index)?;
        Ok(())
    }
}
