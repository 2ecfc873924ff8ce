//! A disk for the host that takes its time, and fails as a test says.

use crate::fake_memory::FakeMemory;
use pleat_types::{DISK_RUN, DiskDirection, DiskFailure, DiskInfo, DiskKind, DiskRequest, FrameMemory, Hfn};
use std::collections::{BTreeMap, HashMap};

/// What goes wrong with a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trouble {
    /// It fails, and nothing has happened.
    Fails(DiskFailure),
    /// It fails after half of its blocks.
    Torn(DiskFailure),
    /// It reports success, and one bit of each block is another one.
    Flips,
    /// It reports success, and has written nothing.
    Forgets,
}

/// A request under way.
#[derive(Clone, Debug)]
struct Request {
    direction: DiskDirection,
    first: u64,
    frames: Vec<Hfn>,
    ends: u64,
    trouble: Option<Trouble>,
}

#[derive(Clone, Debug)]
pub struct FakeDisk {
    blocks: u64,
    /// Ticks that a request takes.
    ticks: u64,
    content: HashMap<u64, [u8; 4096]>,
    /// By the number of the request.
    pub troubles: BTreeMap<u64, Trouble>,
    /// From this request on nothing is answered any more.
    pub vanishes_at: Option<u64>,
    pub requests: u64,
    request: Option<Request>,
}

impl FakeDisk {
    pub fn new(blocks: u64, ticks: u64) -> Self {
        Self {
            blocks,
            ticks,
            content: HashMap::new(),
            troubles: BTreeMap::new(),
            vanishes_at: None,
            requests: 0,
            request: None,
        }
    }

    pub const fn info(&self) -> DiskInfo {
        DiskInfo {
            blocks: self.blocks,
            kind: DiskKind::AtaDma,
        }
    }

    pub fn start(&mut self, now: u64, request: &DiskRequest<'_>) -> Result<(), DiskFailure> {
        self.info().check(request)?;
        assert!(self.request.is_none(), "one request at a time");
        assert!(request.frames.len() <= DISK_RUN);
        self.requests += 1;
        if self.vanishes_at.is_some_and(|at| self.requests >= at) {
            return Err(DiskFailure::Gone);
        }
        self.request = Some(Request {
            direction: request.direction,
            first: request.first,
            frames: request.frames.to_vec(),
            ends: now + self.ticks,
            trouble: self.troubles.get(&self.requests).copied(),
        });
        Ok(())
    }

    pub fn poll(&mut self, now: u64, memory: &mut FakeMemory) -> Option<Result<(), DiskFailure>> {
        let request = self.request.take_if(|request| request.ends <= now)?;
        let count = request.frames.len();
        let (done, result) = match request.trouble {
            None | Some(Trouble::Flips) => (count, Ok(())),
            Some(Trouble::Forgets) if request.direction == DiskDirection::Write => (0, Ok(())),
            Some(Trouble::Forgets) => (count, Ok(())),
            Some(Trouble::Fails(failure)) => (0, Err(failure)),
            Some(Trouble::Torn(failure)) => (count / 2, Err(failure)),
        };
        for (block, frame) in (request.first..).zip(request.frames.iter().take(done)) {
            self.transfer(&request, block, *frame, memory);
        }
        Some(result)
    }

    fn transfer(&mut self, request: &Request, block: u64, frame: Hfn, memory: &mut FakeMemory) {
        let mut bytes = [0; 4096];
        match request.direction {
            DiskDirection::Write => {
                memory.read(frame.base(), &mut bytes);
                self.content.insert(block, bytes);
            }
            DiskDirection::Read => {
                bytes = self.content.get(&block).copied().unwrap_or([0xee; 4096]);
                if request.trouble == Some(Trouble::Flips) {
                    bytes[77] ^= 4;
                }
                memory.write(frame.base(), &bytes);
            }
        }
    }
}
