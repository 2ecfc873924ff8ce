//! The memory device (virtio 1.2, 5.15): a guest grows past its boot size and shrinks again.
//!
//! A region of guest-physical memory, which no firmware table mentions, consists of blocks of 2 MiB. The device says how
//! much of it the guest should have; the driver chooses blocks and asks to have them plugged or unplugged. Whether a block
//! is plugged is known to the owner alone, who has the page tables; here only their number is kept.
//!
//! ```text
//!   request --> check every block --> plug, 64 blocks a step --> answer
//!                     |                  | no memory: undo what was done, BUSY
//!                     |--> unplug, block by block ------------->
//!                     `--> state ------------------------------>
//! ```
//!
//! A request is worked on in steps, and how far it got is kept here, so that neither a guest that asks for everything at
//! once nor one that is stopped for want of memory has anything done twice.

mod job;
mod request;
#[cfg(test)]
mod tests;

use pleat_types::{FRAME_SIZE, Gfn, LARGE_FRAMES};

use super::device::{Device, Step, Trouble};
use super::hands::Hands;
use super::queue::{Chain, Direction, Queue};
use job::Job;
use request::{ANSWER_BYTES, Answer, Kind, REQUEST_BYTES, Request};

const FEATURE_UNPLUGGED_INACCESSIBLE: u64 = 1 << 1;
/// What the used ring says of an answer.
const ANSWER_WRITTEN: u32 = 10;
const _: () = assert!(ANSWER_WRITTEN as usize == ANSWER_BYTES);
const BLOCK_BYTES: u64 = LARGE_FRAMES * FRAME_SIZE as u64;

/// Where a guest's memory device has its region.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemSetup {
    /// Its first page. Linux wants a multiple of 128 MiB, its memory blocks.
    pub first: Gfn,
    /// Its size in pages; what is not a whole block at its end is left out.
    pub frames: u64,
}

/// What has become of the first request in the queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Work {
    /// It has not been read.
    None,
    /// It is being worked on.
    Job(Job),
    /// It is done, and the guest has to be told.
    Answer(Answer),
}

/// A guest's memory device.
#[derive(Clone, Debug)]
pub struct Mem {
    region: Region,
    /// As negotiated.
    features: u64,
    /// In blocks.
    requested: u64,
    work: Work,
    requests: u64,
}

/// The region and how much of it is plugged, in blocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Region {
    first: Gfn,
    blocks: u64,
    plugged: u64,
}

impl Region {
    /// The first page of a block, and how many pages so many blocks are.
    const fn frames(&self, block: u64, count: u64) -> (Gfn, u64) {
        // Within the region, which `new` has seen to end before the address space does.
        (
            Gfn::new(self.first.get() + block * LARGE_FRAMES),
            count * LARGE_FRAMES,
        )
    }

    /// The first block of a request, if it is about whole blocks of this region and at least one.
    fn first_block(&self, request: &Request) -> Option<u64> {
        let at = request.at.get();
        let first = at.checked_sub(self.first.base().get())? / BLOCK_BYTES;
        let count = u64::from(request.blocks);
        let fits = first.checked_add(count)? <= self.blocks;
        (at.is_multiple_of(BLOCK_BYTES) && count > 0 && fits).then_some(first)
    }
}

impl Mem {
    /// A region with nothing plugged, of which nothing is requested.
    #[must_use]
    pub fn new(setup: MemSetup) -> Self {
        let first = setup.first.large_base();
        let room = (u64::MAX / FRAME_SIZE as u64).saturating_sub(first.get());
        let region = Region {
            first,
            blocks: setup.frames.min(room) / LARGE_FRAMES,
            plugged: 0,
        };
        Self {
            region,
            features: 0,
            requested: 0,
            work: Work::None,
            requests: 0,
        }
    }

    /// Bytes that the guest is to have plugged.
    #[must_use]
    pub const fn requested_bytes(&self) -> u64 {
        self.requested * BLOCK_BYTES
    }

    /// Sets how many bytes the guest is to have plugged, in whole blocks and at most all of the region; says whether that
    /// has changed, and so its configuration.
    #[must_use]
    pub fn set_requested(&mut self, bytes: u64) -> bool {
        let before = self.requested;
        self.requested = (bytes / BLOCK_BYTES).min(self.region.blocks);
        self.requested != before
    }

    /// Bytes that are plugged.
    #[must_use]
    pub const fn plugged_bytes(&self) -> u64 {
        self.region.plugged * BLOCK_BYTES
    }

    /// The size of the region in bytes.
    #[must_use]
    pub const fn region_bytes(&self) -> u64 {
        self.region.blocks * BLOCK_BYTES
    }

    /// The first page of the region.
    #[must_use]
    pub const fn first(&self) -> Gfn {
        self.region.first
    }

    /// Requests that have been answered.
    #[must_use]
    pub const fn requests(&self) -> u64 {
        self.requests
    }

    /// Reads a request. One that makes no sense is answered at once.
    fn read<H: Hands>(&self, chain: &Chain, hands: &mut H) -> Result<Work, Trouble> {
        let mut raw = [0; REQUEST_BYTES];
        if chain.copy_out(hands, 0, &mut raw)? < REQUEST_BYTES {
            return Err(Trouble::Guest("a request that is too short"));
        }
        let Some(request) = Request::decode(&raw) else {
            return Ok(Work::Answer(Answer::Error));
        };
        let job = if request.kind == Kind::UnplugAll {
            // Anything beside the type is ignored (5.15.6.5.2).
            Some(Job::new(request.kind, 0, self.region.blocks))
        } else {
            let first = self.region.first_block(&request);
            first.map(|first| Job::new(request.kind, first, u64::from(request.blocks)))
        };
        Ok(job.map_or(Work::Answer(Answer::Error), Work::Job))
    }
}

impl Device for Mem {
    const ID: u16 = 24;
    // Linux has one request on its way, of two descriptors.
    const QUEUE_SIZES: &'static [u16] = &[16];

    /// Memory that is not plugged is not there at all, so that a guest has to promise not to touch it.
    fn offered(&self) -> u64 {
        FEATURE_UNPLUGGED_INACCESSIBLE
    }

    fn negotiated(&mut self, features: u64) {
        self.features = features & self.offered();
    }

    /// What is plugged stays so (5.15.5.2), also of a request that was not finished.
    fn reset(&mut self) {
        self.features = 0;
        self.work = Work::None;
    }

    /// The whole region is usable: it never has to grow with `requested_size` (5.15.4.2 wants it as large as that).
    fn config(&self, at: usize) -> u8 {
        let node_and_padding = 0;
        let fields = [
            BLOCK_BYTES,
            node_and_padding,
            self.region.first.base().get(),
            self.region_bytes(),
            self.region_bytes(),
            self.plugged_bytes(),
            self.requested_bytes(),
        ];
        let byte = fields.get(at / 8).map(|field| field.to_le_bytes()[at % 8]);
        byte.unwrap_or(0)
    }

    fn serve<H: Hands>(&mut self, _index: usize, queue: &mut Queue, hands: &mut H) -> Result<Step, Trouble> {
        let Some(chain) = queue.first(hands)? else {
            return Ok(Step::Done);
        };
        if self.features & FEATURE_UNPLUGGED_INACCESSIBLE == 0 {
            // 5.15.5.2: the device may fail then.
            return Err(Trouble::Guest(
                "memory devices need VIRTIO_MEM_F_UNPLUGGED_INACCESSIBLE",
            ));
        }
        if chain.bytes(Direction::ToGuest) < ANSWER_BYTES as u64 {
            return Err(Trouble::Guest("a request without room for the answer"));
        }
        chain.make_writable(hands, 0, ANSWER_BYTES as u64)?;
        if self.work == Work::None {
            self.work = self.read(&chain, hands)?;
        }
        if let Work::Job(job) = &mut self.work {
            match job.step(&mut self.region, self.requested, hands)? {
                Some(answer) => self.work = Work::Answer(answer),
                None => return Ok(Step::More),
            }
        }
        if let Work::Answer(answer) = self.work {
            chain.copy_in(hands, 0, &answer.encode())?;
            queue.complete(hands, &chain, ANSWER_WRITTEN)?;
            self.work = Work::None;
            self.requests += 1;
        }
        Ok(Step::More)
    }
}
