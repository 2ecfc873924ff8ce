//! Pages whose content waits in the swap store, and that several pages have: they come back to one frame.
//!
//! A guest that touches such a page leaves the processor, and between two slices its page is given a share in a frame
//! that has the content. If there is none, a frame is filled, and is found by those that come later. So what was shared
//! when it went is shared when it is back, and is unpacked once.

use super::look::Scanner;
use crate::frames::Shortage;
use crate::guest::Life;
use crate::memory::{MemoryError, Wanted};
use crate::run::Hypervisor;
use crate::stop::Stop;
use crate::swap::not_had;
use pleat_overcommit::ledger::{FrameState, Key, Owner, Purpose};
use pleat_overcommit::merge::{EQUAL_KEYS_MAX, content};
use pleat_overcommit::swap::Slot as SwapSlotState;
use pleat_stage2::{Page, Spot};
use pleat_types::{Access, FrameMemory, FrozenFrame, Hfn, OwnedFrame, Platform, SwapSlot};

/// What came of bringing a page back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Brought {
    /// It is there, or was already.
    Back,
    /// It takes more time.
    Later,
    /// There is no frame for it.
    HostShort(Shortage),
    /// It is lost.
    Lost(SwapSlot),
}

/// A page on its way back.
struct Returning {
    guest: usize,
    spot: Spot,
    slot: SwapSlot,
    known: SwapSlotState,
    access: Access,
}

impl Returning {
    fn owner<P: Platform>(&self, scanner: &Scanner<'_, P>) -> Owner {
        Owner {
            guest: scanner.slots[self.guest].guest.id,
            gfn: self.spot.gfn(),
        }
    }
}

impl<P: Platform> Hypervisor<P> {
    /// Brings back the pages that guests wait for.
    pub(crate) fn bring_back(&mut self) {
        for index in 0..self.slots.len() {
            let Some(wanted) = self.slots[index].guest.memory.wanted() else {
                continue;
            };
            let mut scanner = Scanner {
                host: &mut self.host,
                slots: self.slots.as_mut_slice(),
                merger: self.merger,
            };
            let brought = scanner.bring_back(index, wanted);
            let guest = &mut self.slots[index].guest;
            match brought {
                Ok(Brought::Later) => continue,
                Ok(Brought::Back) => {}
                Ok(Brought::HostShort(shortage)) => match guest.life {
                    Life::Fetching => {
                        guest.life = Life::Parked(shortage);
                        guest.note_shortage(self.host.platform.now(), self.slice);
                    }
                    // It is halted, and a device of its waits; or it runs, and that one tries again soon.
                    _ => guest.devices_short = Some(shortage),
                },
                Ok(Brought::Lost(slot)) => guest.lost = Some(Stop::Lost(slot)),
                Err(error) => {
                    guest.lost = Some(Stop::Bug("bringing a page back", 0));
                    self.host.fail(format_args!("bringing a page back: {error:?}"));
                }
            }
            self.slots[index].guest.memory.want_nothing();
        }
    }
}

impl<P: Platform> Scanner<'_, P> {
    fn bring_back(&mut self, guest: usize, wanted: Wanted) -> Result<Brought, MemoryError> {
        let memory = &self.slots[guest].guest.memory;
        if memory.stage2().is_none() || memory.is_dying() {
            return Ok(Brought::Back);
        }
        let spot = self.host.find(memory, wanted.gfn)?;
        let Page::Swapped(slot) = spot.mapping().page else {
            return Ok(Brought::Back);
        };
        let known = self.host.slot(slot)?;
        let returning = Returning {
            guest,
            spot,
            slot,
            known,
            access: wanted.access,
        };
        let brought = if wanted.access == Access::Write {
            self.own(&returning)
        } else {
            self.rejoin(&returning)
        };
        match brought {
            Ok(()) => Ok(Brought::Back),
            Err(MemoryError::Away) => self.fetch(slot),
            Err(MemoryError::HostShort) => {
                let purpose = self.slots[guest].guest.memory.purpose_of(Purpose::Demand);
                Ok(Brought::HostShort(self.host.frames.shortage(purpose)))
            }
            Err(MemoryError::Lost(slot)) => Ok(Brought::Lost(slot)),
            Err(error) => Err(error),
        }
    }

    /// Its content is on the disk: it is read.
    fn fetch(&mut self, slot: SwapSlot) -> Result<Brought, MemoryError> {
        match self.host.want_content(slot) {
            Ok(()) => Ok(Brought::Later),
            Err(MemoryError::Lost(slot)) => Ok(Brought::Lost(slot)),
            Err(error) => Err(error),
        }
    }

    /// To a frame that has the content already; else to a new one, which others will find.
    fn rejoin(&mut self, returning: &Returning) -> Result<(), MemoryError> {
        if let Some(frame) = self.twin(returning)? {
            return self.join_twin(returning, frame);
        }
        if returning.known.references > 1 {
            self.begin_share(returning)
        } else {
            self.own(returning)
        }
    }

    /// A frame that guests of the same domain share and that has the content, byte for byte.
    fn twin(&mut self, returning: &Returning) -> Result<Option<Hfn>, MemoryError> {
        let key = returning.known.key;
        if key == Key(0) {
            return Ok(None);
        }
        let mut frames = arrayvec::ArrayVec::<Hfn, EQUAL_KEYS_MAX>::new();
        frames.extend(self.host.frames.with_key(key).take(EQUAL_KEYS_MAX));
        let own = self.slots[returning.guest].guest.id;
        for frame in frames {
            if !matches!(self.host.frames.state(frame), FrameState::Shared { .. }) {
                continue;
            }
            let sharer = self.host.any_sharer(frame);
            let is_ours = sharer.and_then(|page| self.merger.domain(page.guest)) == self.merger.domain(own);
            if is_ours && self.has_content(returning.slot, frame)? {
                return Ok(Some(frame));
            }
        }
        Ok(None)
    }

    fn has_content(&mut self, slot: SwapSlot, frame: Hfn) -> Result<bool, MemoryError> {
        let memory = self.host.platform.memory();
        let frozen = FrozenFrame::claim(frame);
        let bytes = memory.frozen(&frozen);
        match self.host.swap.store.content(memory, slot) {
            Ok(content) => Ok(content::are_equal(content, bytes)),
            Err(why) => Err(not_had(slot, why)),
        }
    }

    /// The page gets a share in a frame that others share.
    fn join_twin(&mut self, returning: &Returning, frame: Hfn) -> Result<(), MemoryError> {
        let Ok(share) = self.host.frames.add_share(frame) else {
            // As many share it as can: this page gets a frame of its own.
            return self.own(returning);
        };
        if let Err(error) = self.note_returning(returning, frame) {
            let memory = self.host.platform.memory();
            self.host.frames.release_share(memory, share);
            return Err(error);
        }
        let memory = &mut self.slots[returning.guest].guest.memory;
        let mapped = self.host.with_tables(memory, |stage2, tables| {
            stage2.swap_in_share(tables, &returning.spot, share)
        })?;
        let reference = mapped.map_err(|_| MemoryError::Bug("joining a shared frame"))?;
        self.host.release_slot(reference);
        self.slots[returning.guest].guest.memory.count_swapped_in();
        Ok(())
    }

    /// Writes down that the page shares a frame, before it does: who is noted too early does no harm, and that may take a
    /// frame, if the list is full and no other has room.
    fn note_returning(&mut self, returning: &Returning, frame: Hfn) -> Result<(), MemoryError> {
        let owner = [returning.owner(self)];
        match self.note_sharers(frame, &owner, None) {
            Err(MemoryError::HostShort) => {
                let spare = self.spare_for(returning)?;
                self.note_sharers(frame, &owner, Some(spare))
            }
            noted => noted,
        }
    }

    /// The page gets a frame that is shared from the start, with itself as the only sharer so far.
    fn begin_share(&mut self, returning: &Returning) -> Result<(), MemoryError> {
        let spare = self.spare_for(returning)?;
        let frame = match self.filled(returning) {
            Ok(frame) => frame,
            Err(error) => {
                self.host.frames.release(spare);
                // One frame is enough for a page that shares with nobody.
                return if error == MemoryError::HostShort {
                    self.own(returning)
                } else {
                    Err(error)
                };
            }
        };
        let hfn = frame.first();
        let Some(share) = self.host.frames.share_out(frame) else {
            return Err(MemoryError::Bug("sharing a frame"));
        };
        let memory = &mut self.slots[returning.guest].guest.memory;
        let mapped = self.host.with_tables(memory, |stage2, tables| {
            stage2.swap_in_share(tables, &returning.spot, share)
        })?;
        let reference = mapped.map_err(|_| MemoryError::Bug("sharing a frame"))?;
        self.host.release_slot(reference);
        let owner = returning.owner(self);
        self.note_sharers(hfn, &[owner], Some(spare))?;
        if returning.known.key != Key(0) {
            self.host.frames.index(hfn, returning.known.key);
        }
        self.slots[returning.guest].guest.memory.count_swapped_in();
        Ok(())
    }

    /// The page gets a frame of its own.
    fn own(&mut self, returning: &Returning) -> Result<(), MemoryError> {
        let frame = self.filled(returning)?;
        let memory = &mut self.slots[returning.guest].guest.memory;
        self.host
            .map_content(memory, &returning.spot, frame, returning.access)?;
        memory.count_swapped_in();
        Ok(())
    }

    /// A frame with the content.
    fn filled(&mut self, returning: &Returning) -> Result<OwnedFrame, MemoryError> {
        let frame = self.spare_for(returning)?;
        match self.host.fill_from_slot(returning.slot, &frame) {
            Ok(()) => Ok(frame),
            Err(error) => {
                self.host.frames.release(frame);
                Err(error)
            }
        }
    }

    /// A frame: for the page, or for the list of those that share one.
    fn spare_for(&mut self, returning: &Returning) -> Result<OwnedFrame, MemoryError> {
        let memory = &self.slots[returning.guest].guest.memory;
        self.host.frame_for(memory, returning.spot.gfn())
    }
}
