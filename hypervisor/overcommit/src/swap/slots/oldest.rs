//! Which content of the pool is to go to the disk: one that has been there for long.
//!
//! An exact order would take two links in each slot. Instead a slot in the pool has a stamp of 16 bits, and of the few
//! next slots the oldest goes: the mean of the best of so many is in the oldest part of all, as where caches evict by
//! sampling (Psounis and Prabhakar, "A randomized web-cache replacement scheme", INFOCOM 2001). It is bounded work, and
//! ends at once.

use pleat_types::FrameMemory;

use super::record::Record;
use super::{Location, Slots};
use crate::swap::pool::Place;

/// Slots that one look passes.
const WINDOW: u32 = 64;

impl Slots {
    /// The oldest content of the pool among the next few slots, by a clock that shows this now.
    pub fn oldest_packed<M: FrameMemory>(&mut self, memory: &M, now: u16) -> Option<(u32, Place)> {
        let mut oldest: Option<(u16, u32, Place)> = None;
        for _ in 0..WINDOW.min(self.fresh) {
            let number = if self.hand < self.fresh { self.hand } else { 0 };
            self.hand = number + 1;
            let record = self.directory.find(memory, number)?.load(memory);
            let Some(Record::Used(slot)) = record else {
                continue;
            };
            let Location::Packed(place) = slot.location else {
                continue;
            };
            let age = now.wrapping_sub(slot.stamp);
            if oldest.is_none_or(|(most, ..)| age > most) {
                oldest = Some((age, number, place));
            }
        }
        oldest.map(|(_, number, place)| (number, place))
    }
}
