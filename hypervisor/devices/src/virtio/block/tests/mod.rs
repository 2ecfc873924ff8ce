//! The block device against a driver that does what Linux's does, against hostile ones, and against a model.

mod clear;
mod hostile;
mod model;

use std::vec;
use std::vec::Vec;

use pleat_types::Gpa;

use super::{Block, Device, MOVED_MAX, Step, Trouble};
use crate::virtio::Queue;
use crate::virtio::queue::Direction::{self, FromGuest, ToGuest};
use crate::virtio::testing::{Grudging, GuestQueue};

const IN: u32 = 0;
const OUT: u32 = 1;
const FLUSH: u32 = 4;
const GET_ID: u32 = 8;
const DISCARD: u32 = 11;
const WRITE_ZEROES: u32 = 13;

const HEADER: Gpa = Gpa::new(0x4000);
const STATUS: Gpa = Gpa::new(0x5000);
const DATA: Gpa = Gpa::new(0x1_0000);
const RAM_BYTES: usize = 0x8_0000;
const SECTORS: u64 = 400;
/// No status: what lies there before the answer.
const NOTHING: u8 = 0xaa;

type Buffers = Vec<(Gpa, u32, Direction)>;

struct Machine {
    hands: Grudging,
    guest: GuestQueue,
    queue: Queue,
    block: Block,
}

impl Machine {
    fn new() -> Self {
        let guest = GuestQueue::new(Gpa::new(0x1000), 128);
        let mut hands = Grudging::new(RAM_BYTES);
        hands.inner.disk = pattern(3, usize::try_from(SECTORS * 512).unwrap());
        let mut block = Block::new(SECTORS);
        block.negotiated(block.offered());
        Self {
            queue: guest.enabled(),
            hands,
            guest,
            block,
        }
    }

    fn serve(&mut self) -> Result<Step, Trouble> {
        self.block.serve(0, &mut self.queue, &mut self.hands)
    }

    /// Until nothing is left, the guest running in between; how many calls it took.
    fn serve_all(&mut self) -> usize {
        for calls in 1..10_000 {
            match self.serve() {
                Ok(Step::Done) => return calls,
                Ok(Step::More) | Err(Trouble::HostShort) => self.hands.inner.run_guest(),
                Err(Trouble::Guest(why)) => panic!("{why}"),
            }
        }
        panic!("never done");
    }

    fn header(&mut self, kind: u32, sector: u64) {
        let mut raw = [0xff; 16];
        raw[..4].copy_from_slice(&kind.to_le_bytes());
        raw[8..].copy_from_slice(&sector.to_le_bytes());
        self.hands.inner.poke(HEADER, &raw);
        self.hands.inner.poke(STATUS, &[NOTHING]);
    }

    /// A request as Linux builds it: header, a segment for each page, status.
    fn request(&mut self, kind: u32, sector: u64, bytes: u32) -> u16 {
        self.header(kind, sector);
        let direction = if kind == OUT { FromGuest } else { ToGuest };
        let mut buffers: Buffers = vec![(HEADER, 16, FromGuest)];
        for offset in (0..bytes).step_by(4096) {
            let at = DATA.checked_add(u64::from(offset)).unwrap();
            buffers.push((at, (bytes - offset).min(4096), direction));
        }
        buffers.push((STATUS, 1, ToGuest));
        self.guest.add(&mut self.hands.inner, &buffers)
    }

    fn status(&self) -> u8 {
        self.hands.inner.peek(STATUS, 1)[0]
    }

    fn data(&self, bytes: usize) -> &[u8] {
        self.hands.inner.peek(DATA, bytes)
    }
}

/// Bytes that differ from sector to sector and from seed to seed.
fn pattern(seed: u8, bytes: usize) -> Vec<u8> {
    let byte = |n: usize| (n / 512 * 7 + n % 512 * 3).to_le_bytes()[0].wrapping_add(seed);
    (0..bytes).map(byte).collect()
}

#[test]
fn linux_finds_a_disk_that_suits_it() {
    let block = Block::new(0x1_2345_6789);
    let field = |at: usize, bytes: usize| -> u64 {
        (0..bytes).fold(0, |sum, n| sum | u64::from(block.config(at + n)) << (8 * n))
    };
    assert_eq!(field(0, 8), 0x1_2345_6789, "capacity");
    assert_eq!(field(12, 4), 32, "seg_max");
    assert_eq!(field(20, 4), 512, "blk_size");
    assert_eq!((field(24, 1), field(25, 1)), (3, 0), "a page is eight sectors");
    assert_eq!((field(26, 2), field(28, 4)), (8, 0), "and the least to write");
    assert_eq!(field(32, 1), 0, "writethrough");
    for limits in [36, 48] {
        assert_eq!(field(limits, 4), 1 << 21, "sectors of a range to clear: 1 GiB");
        assert_eq!(field(limits + 4, 4), 16, "ranges of a request");
    }
    assert_eq!(field(44, 4), 8, "discard_sector_alignment: a page");
    assert_eq!(field(56, 1), 1, "write_zeroes_may_unmap");
    let is_gap = |at: &usize| (33..36).contains(at) || *at > 56;
    assert!((33..300).filter(is_gap).all(|at| block.config(at) == 0) && block.config(usize::MAX) == 0);
    let (basic, clearing) = (1 << 2 | 1 << 6 | 1 << 9 | 1 << 10 | 1 << 11, 1 << 13 | 1 << 14);
    assert_eq!(block.offered(), basic | clearing);
    assert!(field(12, 4) + 2 <= u64::from(Block::QUEUE_SIZES[0]));
}

#[test]
fn the_cache_mode_is_the_guests_until_it_resets() {
    let mut block = Block::new(8);
    block.write_config(32, 1);
    block.write_config(31, 0xff);
    block.write_config(usize::MAX, 0xff);
    assert_eq!((block.config(32), block.config(31), block.config(0)), (1, 0, 8));
    block.reset();
    assert_eq!(block.config(32), 0);
}

#[test]
fn what_is_read_is_what_is_there_and_what_was_written() {
    let mut machine = Machine::new();
    let head = machine.request(IN, 7, 9 * 512);
    assert_eq!(machine.serve(), Ok(Step::Done));
    assert_eq!(machine.guest.used(&machine.hands.inner), [(head, 9 * 512 + 1)]);
    assert_eq!(machine.status(), 0);
    assert_eq!(
        machine.data(9 * 512),
        &machine.hands.inner.disk[7 * 512..16 * 512]
    );

    machine.hands.inner.poke(DATA, &pattern(99, 1024));
    let head = machine.request(OUT, 398, 1024);
    assert_eq!(machine.serve(), Ok(Step::Done));
    assert_eq!(machine.guest.used(&machine.hands.inner), [(head, 1)]);
    assert_eq!(machine.status(), 0);
    assert_eq!(machine.hands.inner.disk[398 * 512..], pattern(99, 1024));
    assert_eq!(machine.hands.inner.disk[..398 * 512], pattern(3, 398 * 512));
    let block = &machine.block;
    assert_eq!((block.sectors_read(), block.sectors_written()), (9, 2));
    assert_eq!(
        (block.requests(), block.refused(), block.sectors()),
        (2, 0, SECTORS)
    );
}

#[test]
fn flush_and_identity_are_answered_and_nothing_else() {
    let mut machine = Machine::new();
    machine.request(FLUSH, 0, 0);
    machine.serve_all();
    assert_eq!(machine.status(), 0);
    for (room, written) in [(20, 21), (30, 20), (4, 5), (0, 1)] {
        machine.hands.inner.poke(DATA, &[NOTHING; 40]);
        let head = machine.request(GET_ID, 0, room);
        machine.guest.used(&machine.hands.inner);
        machine.serve_all();
        assert_eq!(machine.guest.used(&machine.hands.inner), [(head, written)]);
        let told = 20.min(room as usize);
        assert_eq!(machine.data(told), &b"pleat-disk\0\0\0\0\0\0\0\0\0\0"[..told]);
        assert_eq!(machine.data(40)[told..], [NOTHING; 40][told..]);
        assert_eq!(machine.status(), 0);
    }
    assert_eq!(machine.block.refused(), 0);
    for kind in [2, 3, 5, 10, 12, 14, 16, 0x8000_0000, u32::MAX] {
        machine.request(kind, 0, 512);
        machine.serve_all();
        assert_eq!(machine.status(), 2, "{kind}");
    }
    assert_eq!((machine.block.requests(), machine.block.refused()), (14, 9));
    assert_eq!((machine.hands.disk_read, machine.hands.disk_written), (0, 0));
}

#[test]
fn what_is_not_on_the_disk_is_an_error_and_moves_nothing() {
    for kind in [IN, OUT] {
        for (sector, bytes) in [
            (SECTORS, 512),
            (SECTORS - 1, 1024),
            (u64::MAX, 512),
            (u64::MAX - 1, 512),
            (u64::MAX / 512, 512),
            (1 << 55, 512),
            (0, 511),
            (0, 513),
            (0, 1),
            (u64::MAX, 0),
        ] {
            let mut machine = Machine::new();
            let head = machine.request(kind, sector, bytes);
            assert_eq!(machine.serve(), Ok(Step::Done));
            assert_eq!(machine.status(), 1, "{kind} {sector} {bytes}");
            // Only without room for data before it is the status the first byte.
            let written = u32::from(kind == OUT || bytes == 0);
            assert_eq!(machine.guest.used(&machine.hands.inner), [(head, written)]);
            assert_eq!((machine.hands.disk_read, machine.hands.disk_written), (0, 0));
            assert_eq!((machine.block.requests(), machine.block.refused()), (1, 1));
        }
    }
}

#[test]
fn a_request_for_nothing_is_done() {
    for kind in [IN, OUT] {
        for sector in [0, SECTORS] {
            let mut machine = Machine::new();
            let head = machine.request(kind, sector, 0);
            assert_eq!(machine.serve(), Ok(Step::Done));
            assert_eq!((machine.status(), machine.block.refused()), (0, 0));
            assert_eq!(machine.guest.used(&machine.hands.inner), [(head, 1)]);
        }
    }
}

#[test]
fn where_a_request_is_split_does_not_matter() {
    let mut machine = Machine::new();
    machine.header(OUT, 5);
    machine.hands.inner.poke(DATA, &pattern(50, 1024));
    // The header in three parts, the last of them with the first data; parts without bytes in between.
    let header: Vec<u8> = machine.hands.inner.peek(HEADER, 16).to_vec();
    let glued = Gpa::new(0x6000);
    machine.hands.inner.poke(glued, &header[9..]);
    machine
        .hands
        .inner
        .poke(glued.checked_add(7).unwrap(), &pattern(50, 1024)[..100]);
    let at = |offset| DATA.checked_add(offset).unwrap();
    machine.guest.add(
        &mut machine.hands.inner,
        &[
            (HEADER, 3, FromGuest),
            (Gpa::new(u64::MAX), 0, FromGuest),
            (HEADER.checked_add(3).unwrap(), 6, FromGuest),
            (glued, 107, FromGuest),
            (at(100), 1, FromGuest),
            (at(101), 923, FromGuest),
            (STATUS, 1, ToGuest),
            (Gpa::new(u64::MAX), 0, ToGuest),
        ],
    );
    assert_eq!(machine.serve(), Ok(Step::Done));
    assert_eq!(machine.status(), 0);
    assert_eq!(machine.hands.inner.disk[5 * 512..7 * 512], pattern(50, 1024));
}

#[test]
fn the_status_may_share_a_buffer_with_the_last_data() {
    let mut machine = Machine::new();
    machine.header(IN, 5);
    let last = Gpa::new(0x2_0fff);
    let buffers = [(HEADER, 16, FromGuest), (DATA, 1, ToGuest), (last, 1024, ToGuest)];
    machine.guest.add(&mut machine.hands.inner, &buffers);
    assert_eq!(machine.serve(), Ok(Step::Done));
    let expected = &machine.hands.inner.disk[5 * 512..7 * 512];
    assert_eq!(machine.data(1), &expected[..1]);
    assert_eq!(machine.hands.inner.peek(last, 1023), &expected[1..]);
    assert_eq!(machine.hands.inner.peek(Gpa::new(last.get() + 1023), 1), [0]);
}

#[test]
fn a_long_request_takes_several_calls_of_64_kib() {
    for kind in [IN, OUT] {
        let mut machine = Machine::new();
        machine.hands.inner.poke(DATA, &pattern(77, 0x2_0000));
        let head = machine.request(kind, 100, 0x2_0000);
        assert_eq!(machine.serve(), Ok(Step::More));
        assert_eq!(machine.hands.disk_read + machine.hands.disk_written, MOVED_MAX);
        assert_eq!((machine.status(), machine.block.requests()), (NOTHING, 0));
        assert_eq!(machine.guest.used(&machine.hands.inner), vec![]);
        machine.hands.inner.run_guest();
        assert_eq!(machine.serve(), Ok(Step::Done));
        assert_eq!(
            machine.hands.disk_read + machine.hands.disk_written,
            2 * MOVED_MAX
        );
        assert_eq!(machine.guest.used(&machine.hands.inner).first().unwrap().0, head);
        assert_eq!(
            machine.data(0x2_0000),
            &machine.hands.inner.disk[100 * 512..356 * 512]
        );
        assert_eq!((machine.status(), machine.block.requests()), (0, 1));
    }
}

#[test]
fn short_memory_at_any_call_only_delays() {
    for kind in [IN, OUT] {
        let mut calls = 0;
        loop {
            let mut machine = Machine::new();
            machine.hands.inner.poke(DATA, &pattern(78, 0x1_4000));
            let head = machine.request(kind, 3, 0x1_4000);
            machine.hands.refuse_after(calls);
            machine.serve_all();
            assert_eq!(
                machine.hands.disk_read + machine.hands.disk_written,
                0x1_4000,
                "nothing twice"
            );
            assert_eq!(machine.guest.used(&machine.hands.inner).first().unwrap().0, head);
            assert_eq!(
                machine.data(0x1_4000),
                &machine.hands.inner.disk[3 * 512..][..0x1_4000]
            );
            assert_eq!((machine.status(), machine.block.requests()), (0, 1));
            let sectors = machine.block.sectors_read() + machine.block.sectors_written();
            assert_eq!(sectors, 0x1_4000 / 512);
            if machine.hands.refusals == 0 {
                // Each of twenty pages and the odd ends of them to be read and to be written, the status, the used ring,
                // and more than twenty descriptors, twice.
                assert!(calls > 2 * 20 + 3 + 2 * 22, "{calls}");
                break;
            }
            calls += 1;
        }
    }
}

#[test]
fn a_reset_forgets_how_far_a_request_got() {
    let mut machine = Machine::new();
    machine.request(IN, 0, 0x2_0000);
    assert_eq!(machine.serve(), Ok(Step::More));
    machine.block.reset();
    let again = GuestQueue::new(Gpa::new(0x1000), 128);
    machine.hands.inner.poke(Gpa::new(0x1000), &[0; 0x1000]);
    machine.queue = again.enabled();
    machine.guest = again;
    machine.hands.inner.poke(DATA, &[0; 1024]);
    machine.request(IN, 0, 1024);
    assert_eq!(machine.serve(), Ok(Step::Done));
    assert_eq!(machine.data(1024), &machine.hands.inner.disk[..1024]);
}
