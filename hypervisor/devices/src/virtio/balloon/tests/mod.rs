//! A balloon beside a driver that does what it is told.

mod hostile;
mod model;
mod walk;

use std::vec::Vec;

use pleat_types::{Gfn, Gpa};

use super::super::testing::{FakeHands, GuestQueue};
use super::super::{Device, Direction, Queue, Step, Trouble};
use super::{Balloon, BalloonSetup, PAGES_MAX, REPORT_MAX};

const STATISTICS: u64 = 1 << 1;
const POISON: u64 = 1 << 4;
const REPORTING: u64 = 1 << 5;
const INFLATE: usize = 0;
const DEFLATE: usize = 1;

const RAM_BYTES: u64 = 1 << 20;
const QUEUE_BYTES: u64 = 0x1000;
/// Behind the queues.
const DATA: u64 = 0x1_0000;
/// What no serve may exceed: pages moved, and a chain of 128 descriptors with a buffer each.
const WORK_MAX: u64 = 2000;

/// A buffer that the device reads.
fn out(at: u64, bytes: u32) -> (Gpa, u32, Direction) {
    (Gpa::new(at), bytes, Direction::FromGuest)
}

/// A buffer that the device writes.
fn into(at: u64, bytes: u32) -> (Gpa, u32, Direction) {
    (Gpa::new(at), bytes, Direction::ToGuest)
}

fn gfns(numbers: &[u32]) -> Vec<Gfn> {
    numbers
        .iter()
        .map(|&number| Gfn::new(u64::from(number)))
        .collect()
}

fn statistics(entries: &[(u16, u64)]) -> Vec<u8> {
    let entry = |&(tag, value): &(u16, u64)| [&tag.to_le_bytes()[..], &value.to_le_bytes()].concat();
    entries.iter().flat_map(entry).collect()
}

/// A guest with a balloon whose driver is there.
struct Rig {
    hands: FakeHands,
    balloon: Balloon,
    driver: Vec<GuestQueue>,
    device: Vec<Queue>,
}

impl Rig {
    fn new(features: u64) -> Self {
        let mut balloon = Balloon::new(BalloonSetup {
            deflates_on_oom: true,
            has_reporting: true,
        });
        balloon.negotiated(features);
        let places = (0..4).map(|index| Gpa::new(index * QUEUE_BYTES));
        let driver: Vec<GuestQueue> = places.map(|place| GuestQueue::new(place, 128)).collect();
        let mut hands = FakeHands::new(usize::try_from(RAM_BYTES).unwrap());
        // Whatever is written must have been made writable before.
        hands.short.write = u32::MAX;
        Self {
            hands,
            balloon,
            device: driver.iter().map(GuestQueue::enabled).collect(),
            driver,
        }
    }

    /// One call, of bounded work, after the guest has run.
    fn serve(&mut self, index: usize) -> Result<Step, Trouble> {
        self.hands.run_guest();
        let (work, pages) = (self.hands.work, self.pages());
        let result = self
            .balloon
            .serve(index, &mut self.device[index], &mut self.hands);
        assert!(
            self.hands.work - work <= WORK_MAX,
            "{} steps",
            self.hands.work - work
        );
        assert!(self.pages() - pages <= REPORT_MAX);
        result
    }

    /// All pages that the owner was told of.
    fn pages(&self) -> u64 {
        let reported: u64 = self.hands.reported.iter().map(|(_, count)| count).sum();
        let numbers = self.hands.inflated.len() + self.hands.deflated.len();
        reported + numbers as u64
    }

    /// Calls until nothing is left; says how often there was no memory.
    fn kick(&mut self, index: usize) -> Result<u32, Trouble> {
        let mut shortages = 0;
        for _ in 0..10_000 {
            match self.serve(index) {
                Ok(Step::Done) => return Ok(shortages),
                Ok(Step::More) => {}
                Err(Trouble::HostShort) => shortages += 1,
                Err(guest) => return Err(guest),
            }
        }
        panic!("it does not come to an end");
    }

    /// The driver writes page numbers and makes them available as one buffer.
    fn send(&mut self, index: usize, numbers: &[u32]) -> u16 {
        let raw: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        self.hands.poke(Gpa::new(DATA), &raw);
        let bytes = u32::try_from(raw.len()).unwrap();
        self.driver[index].add(&mut self.hands, &[out(DATA, bytes)])
    }

    /// The driver answers with these statistics.
    fn answer(&mut self, index: usize, entries: &[(u16, u64)]) -> u16 {
        let raw = statistics(entries);
        self.hands.poke(Gpa::new(DATA), &raw);
        let bytes = u32::try_from(raw.len()).unwrap();
        self.driver[index].add(&mut self.hands, &[out(DATA, bytes)])
    }

    fn used(&mut self, index: usize) -> Vec<(u16, u32)> {
        self.driver[index].used(&self.hands)
    }

    fn field(&self, at: usize) -> u32 {
        u32::from_le_bytes([0, 1, 2, 3].map(|byte| self.balloon.config(at + byte)))
    }

    fn set_field(&mut self, at: usize, value: u32) {
        for (byte, value) in value.to_le_bytes().into_iter().enumerate() {
            self.balloon.write_config(at + byte, value);
        }
    }
}

#[test]
fn the_bounds_are_those_of_the_owner() {
    assert_eq!((PAGES_MAX, REPORT_MAX), (64, 512));
}
