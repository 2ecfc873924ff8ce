//! A memory device beside a driver that does what it is told.

mod hostile;
mod model;
mod walk;

use std::collections::BTreeSet;
use std::vec::Vec;

use pleat_types::{Gfn, Gpa};

use super::super::testing::{FakeHands, GuestQueue};
use super::super::{Device, Direction, Queue, Step, Trouble};
use super::{BLOCK_BYTES, Mem, MemSetup};

const INACCESSIBLE: u64 = 1 << 1;
/// Where the region begins: 4 GiB.
const REGION: u64 = 4 << 30;
const REQUEST: u64 = 0x1000;
const ANSWER: u64 = 0x2000;
/// What no serve may exceed: two blocks unplugged page by page, and 128 looks.
const WORK_MAX: u64 = 2 * 512 + 200;

const PLUG: u16 = 0;
const UNPLUG: u16 = 1;
const UNPLUG_ALL: u16 = 2;
const STATE: u16 = 3;

const ACK: u16 = 0;
const NACK: u16 = 1;
const BUSY: u16 = 2;
const ERROR: u16 = 3;

/// What the used ring and the answer say of a request: its type, and the state.
type Answered = (u16, u16);

fn block_at(block: u64) -> u64 {
    REGION + block * BLOCK_BYTES
}

fn request(kind: u16, at: u64, blocks: u16) -> Vec<u8> {
    // What is padding in the standard says something here, so that it shows if somebody reads it.
    let padding = [0xee; 6];
    [
        &kind.to_le_bytes()[..],
        &padding,
        &at.to_le_bytes(),
        &blocks.to_le_bytes(),
        &padding,
    ]
    .concat()
}

/// A guest with a memory device whose driver is there.
struct Rig {
    hands: FakeHands,
    mem: Mem,
    driver: GuestQueue,
    device: Queue,
}

impl Rig {
    /// A region of so many blocks, all of them requested.
    fn new(blocks: u64) -> Self {
        let mut mem = Mem::new(MemSetup {
            first: Gpa::new(REGION).gfn(),
            frames: blocks * 512,
        });
        mem.negotiated(INACCESSIBLE);
        assert_eq!(mem.set_requested(blocks * BLOCK_BYTES), blocks > 0);
        let driver = GuestQueue::new(Gpa::new(0), 16);
        let mut hands = FakeHands::new(0x4000);
        // Whatever is written must have been made writable before.
        hands.short.write = u32::MAX;
        Self {
            hands,
            mem,
            device: driver.enabled(),
            driver,
        }
    }

    /// One call, of bounded work, after the guest has run.
    fn serve(&mut self) -> Result<Step, Trouble> {
        self.hands.run_guest();
        let work = self.hands.work;
        let result = self.mem.serve(0, &mut self.device, &mut self.hands);
        assert!(
            self.hands.work - work <= WORK_MAX,
            "{} steps",
            self.hands.work - work
        );
        self.check();
        result
    }

    /// What the device counts is what there is, at any time.
    fn check(&self) {
        let pages = self.hands.plugged.len() as u64;
        assert_eq!(self.mem.plugged_bytes(), pages * 4096);
        assert_eq!(self.field(40), pages * 4096);
    }

    /// Calls until nothing is left; says how often there was no memory.
    fn kick(&mut self) -> Result<u32, Trouble> {
        let mut shortages = 0;
        for _ in 0..10_000 {
            match self.serve() {
                Ok(Step::Done) => return Ok(shortages),
                Ok(Step::More) => {}
                Err(Trouble::HostShort) => shortages += 1,
                Err(guest) => return Err(guest),
            }
        }
        panic!("it does not come to an end");
    }

    /// Makes a request available, as Linux does: one buffer to read and one to write.
    fn send(&mut self, kind: u16, at: u64, blocks: u16) {
        self.hands.poke(Gpa::new(REQUEST), &request(kind, at, blocks));
        self.hands.poke(Gpa::new(ANSWER), &[0xaa; 12]);
        let buffers = [
            (Gpa::new(REQUEST), 24, Direction::FromGuest),
            (Gpa::new(ANSWER), 10, Direction::ToGuest),
        ];
        self.driver.add(&mut self.hands, &buffers);
    }

    /// The answer to the one request, if it is there.
    fn answer(&mut self) -> Option<Answered> {
        let used = self.driver.used(&self.hands);
        let &[(_, written)] = used.as_slice() else {
            assert!(used.is_empty(), "one answer to one request");
            return None;
        };
        assert_eq!(written, 10);
        let raw = self.hands.peek(Gpa::new(ANSWER), 12);
        assert_eq!(raw[2..8], [0; 6]);
        assert_eq!(raw[10..], [0xaa; 2], "nothing behind the answer");
        Some((
            u16::from_le_bytes([raw[0], raw[1]]),
            u16::from_le_bytes([raw[8], raw[9]]),
        ))
    }

    /// A request and its answer.
    fn ask(&mut self, kind: u16, at: u64, blocks: u16) -> Answered {
        self.send(kind, at, blocks);
        assert!(self.kick().is_ok());
        self.answer().expect("an answer")
    }

    /// The numbers of the blocks that are plugged, all of their pages.
    fn plugged(&self) -> BTreeSet<u64> {
        let first = Gpa::new(REGION).gfn().get();
        let pages = self.hands.plugged.iter();
        pages.map(|page| (page - first) / 512).collect()
    }

    fn field(&self, at: usize) -> u64 {
        u64::from_le_bytes([0, 1, 2, 3, 4, 5, 6, 7].map(|byte| self.mem.config(at + byte)))
    }
}

fn gfn(block: u64) -> Gfn {
    Gpa::new(block_at(block)).gfn()
}
