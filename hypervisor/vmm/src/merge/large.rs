//! 2 MiB mappings: split where duplicates pay for it, put together again where they do not.
//!
//! A large mapping saves the guest page walks, and hides 512 pages from merging. So of a calm one a few pages are
//! sampled; and of one that was split, when all of its pages are owned and many are being written, nothing will be
//! merged any time soon.

use super::look::Scanner;
use crate::frames::FramePool;
use crate::memory::MemoryError;
use pleat_bundle::config::Pages;
use pleat_overcommit::merge::{Look, SAMPLE_WORDS, Sample, Secret, content, should_split};
use pleat_overcommit::promise::HostState;
use pleat_stage2::{Error, Level, Page};
use pleat_types::{FRAME_SIZE, FrameMemory, Gfn, Hfn, LARGE_FRAMES, OwnedFrame, PageSize, Platform};

/// A region is hot when so many of its 512 pages were written in one epoch.
const HOT: u64 = 128;
/// As much memory as so many blocks of 2 MiB must be free, in whatever pieces, for pages to be collapsed into a new
/// one.
const SPARE_BLOCKS: u64 = 4;

/// With fewer samples than these there is no estimate.
const FEW: u32 = 4;
/// Then of so many pages one is sampled.
const BY_PLACE: usize = 32;

/// What looking at pages of a large mapping takes. The guest may write to them: they are copied.
struct Sampling<'a, M: FrameMemory> {
    memory: &'a M,
    frames: &'a FramePool,
    secret: &'a Secret,
}

impl<M: FrameMemory> Sampling<'_, M> {
    /// Whether the content of the n-th page asks for it.
    fn is_wanted(&self, n: u64, frame: Hfn) -> bool {
        let words = SAMPLE_WORDS.map(|word| self.memory.load_entry(frame, word));
        Look::wants(n, &words)
    }

    fn sample(&self, frame: Hfn) -> Sample {
        let mut page = [0; FRAME_SIZE];
        self.memory.read_frame(frame, &mut page);
        let key = self.secret.key(&page);
        match () {
            () if content::is_zero(&page) => Sample::Zero,
            () if self.frames.with_key(key).next().is_some() => Sample::Indexed(key),
            () => Sample::Content(key),
        }
    }
}

impl<P: Platform> Scanner<'_, P> {
    /// A 2 MiB mapping was written and is calm now.
    pub(super) fn consider_large(
        &mut self,
        index: usize,
        gfn: Gfn,
        state: HostState,
    ) -> Result<(), MemoryError> {
        let slot = &self.slots[index];
        let mapping = self.host.lookup(&slot.guest.memory, gfn)?;
        let (Page::Unique(first), Level::Two, false) = (mapping.page, mapping.level, mapping.dirty) else {
            return Ok(());
        };
        let percent = self.sample(index, gfn, first);
        self.merger.work.sampled += 1;
        if should_split(percent, self.merger.split_percent, state) {
            return self.split(index, gfn, first);
        }
        Ok(())
    }

    /// How many percent of its sampled pages are duplicates. Where hardly any page's content asks to be sampled, as
    /// where all are one of a few, some are by their place.
    fn sample(&mut self, index: usize, gfn: Gfn, first: Hfn) -> u8 {
        let guest = self.slots[index].guest.id;
        let sampler = Sampling {
            memory: self.host.platform.memory(),
            frames: &self.host.frames,
            secret: &self.merger.secrets[index],
        };
        let mut look = self.merger.sampler.look(guest, gfn);
        let frame = |n: u64| Hfn::new(first.get() + n);
        for n in 0..LARGE_FRAMES {
            if sampler.is_wanted(n, frame(n)) {
                look.note(sampler.sample(frame(n)));
            }
        }
        if look.estimate().sampled < FEW {
            for n in (0..LARGE_FRAMES).step_by(BY_PLACE) {
                look.note(sampler.sample(frame(n)));
            }
        }
        let estimate = look.estimate();
        self.merger.work.hashed += u64::from(estimate.sampled);
        estimate.percent()
    }

    /// One mapping becomes 512, which will be looked at one by one. The table may be one of the reserve: it is to
    /// free memory. Without one the mapping stays whole.
    fn split(&mut self, index: usize, gfn: Gfn, first: Hfn) -> Result<(), MemoryError> {
        let memory = &mut self.slots[index].guest.memory;
        match self
            .host
            .with_relief_tables(memory, |stage2, tables| stage2.split(tables, gfn))?
        {
            Ok(pending) => self.host.settle(pending),
            Err(Error::HostShort) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        self.host.frames.split(first, PageSize::Large);
        memory.look_mut().due.add(gfn);
        self.merger.work.split += 1;
        Ok(())
    }

    /// Memory has become scarcer: what was left whole is sampled again, with a lower threshold.
    pub(super) fn reconsider_large(&mut self, index: usize) -> Result<(), MemoryError> {
        let memory = &mut self.slots[index].guest.memory;
        let (mut at, end) = (Gfn::new(0), memory.look().due.end());
        while at < end && memory.pages() != Pages::Small {
            let mapping = self.host.lookup(memory, at)?;
            if let (Page::Unique(_), Level::Two) = (mapping.page, mapping.level) {
                self.host
                    .with_fixed_tables(memory, |stage2, tables| stage2.owe_calm(tables, at))??;
                memory.look_mut().left.add(at);
            }
            at = mapping
                .end()
                .max(at.large_base().checked_add(LARGE_FRAMES).unwrap_or(end));
        }
        Ok(())
    }

    /// The region from `first` on was swept: if all of it is small pages that own their frames, and hot, and there
    /// is memory, it becomes one mapping again.
    pub(super) fn consider_collapse(
        &mut self,
        index: usize,
        first: Gfn,
        written: u64,
        state: HostState,
    ) -> Result<(), MemoryError> {
        let memory = &self.slots[index].guest.memory;
        let is_wanted = memory.pages() != Pages::Small && state == HostState::High;
        if !is_wanted || written < HOT || first.large_base() != first {
            return Ok(());
        }
        let mapping = self.host.lookup(memory, first)?;
        let (Page::Unique(frame), Level::One) = (mapping.page, mapping.level) else {
            return Ok(());
        };
        if frame.large_base() == frame && self.collapse_in_place(index, first, frame)? {
            return Ok(());
        }
        self.collapse_by_copying(index, first)
    }

    /// Where the frames still lie as they did before the split, only tables change.
    fn collapse_in_place(&mut self, index: usize, first: Gfn, frame: Hfn) -> Result<bool, MemoryError> {
        let memory = &mut self.slots[index].guest.memory;
        match self
            .host
            .with_tables(memory, |stage2, tables| stage2.collapse(tables, first))?
        {
            Ok(pending) => self.host.settle(pending),
            // Some page is shared, zero or untouched, or lies elsewhere.
            Err(_) => return Ok(false),
        }
        self.host.frames.join(frame, PageSize::Large);
        self.merger.work.collapsed += 1;
        Ok(true)
    }

    /// Copies the pages into a block of their own. No processor runs the guest.
    fn collapse_by_copying(&mut self, index: usize, first: Gfn) -> Result<(), MemoryError> {
        let memory = &self.slots[index].guest.memory;
        let is_full = self
            .host
            .with_fixed_tables(memory, |stage2, tables| stage2.is_gatherable(tables, first))??;
        let has_room = self.host.frames.available() >= SPARE_BLOCKS * LARGE_FRAMES;
        if !is_full || !has_room {
            return Ok(());
        }
        let Some(block) = self.host.frames.allocate_large(memory.guest(), first) else {
            return Ok(());
        };
        let mut to = block.first();
        let copied = self.host.with_fixed_tables(memory, |stage2, tables| {
            stage2.gather(tables, first, |tables, from| {
                tables.0.copy_frame(from, to);
                to = Hfn::new(to.get() + 1);
            })
        })?;
        match copied {
            Ok(true) => self.map_collapsed(index, first, block),
            Ok(false) | Err(_) => {
                self.host.frames.release(block);
                Err(MemoryError::Bug("pages that changed while no guest ran"))
            }
        }
    }

    fn map_collapsed(&mut self, index: usize, first: Gfn, block: OwnedFrame) -> Result<(), MemoryError> {
        let memory = &mut self.slots[index].guest.memory;
        match self.host.with_tables(memory, |stage2, tables| {
            stage2.replace_by_block(tables, first, block)
        })? {
            Ok(pending) => {
                self.host.settle(pending);
                self.merger.work.collapsed += 1;
                Ok(())
            }
            Err(refused) => {
                self.host.frames.release(refused.frame);
                Err(refused.error.into())
            }
        }
    }
}
