//! Ranges that are discarded or zeroed: what is read afterwards, what is refused, and how much is done at a time.

use super::{
    Block, DATA, DISCARD, FromGuest, HEADER, IN, Machine, NOTHING, OUT, SECTORS, STATUS, Step, ToGuest,
    Trouble, Vec, WRITE_ZEROES, pattern, vec,
};
use crate::virtio::testing::DISCARDED;

/// A range as it lies in a request: sector, sectors, flags.
type Range = (u64, u32, u32);
const UNMAP: u32 = 1;

impl Machine {
    /// A request to clear these ranges.
    fn clear(&mut self, kind: u32, ranges: &[Range]) -> u16 {
        let bytes: Vec<u8> = ranges.iter().flat_map(raw).collect();
        self.clear_with(kind, &bytes)
    }

    fn clear_with(&mut self, kind: u32, ranges: &[u8]) -> u16 {
        self.header(kind, u64::MAX);
        self.hands.inner.poke(DATA, ranges);
        let bytes = u32::try_from(ranges.len()).unwrap();
        let buffers = [
            (HEADER, 16, FromGuest),
            (DATA, bytes, FromGuest),
            (STATUS, 1, ToGuest),
        ];
        self.guest.add(&mut self.hands.inner, &buffers)
    }

    /// The status of a request to clear.
    fn cleared(&mut self, kind: u32, ranges: &[Range]) -> u8 {
        let head = self.clear(kind, ranges);
        self.serve_all();
        assert_eq!(self.guest.used(&self.hands.inner), [(head, 1)]);
        self.status()
    }
}

fn raw(range: &Range) -> Vec<u8> {
    let (sector, sectors, flags) = *range;
    let mut raw = sector.to_le_bytes().to_vec();
    raw.extend_from_slice(&sectors.to_le_bytes());
    raw.extend_from_slice(&flags.to_le_bytes());
    raw
}

#[test]
fn whole_pages_are_discarded_and_all_bytes_are_zeroed() {
    let mut machine = Machine::new();
    let mut model = machine.hands.inner.disk.clone();
    // Parts of pages at both ends; a page; nothing; less than a page.
    let ranges = [(3, 30, 0), (64, 8, 0), (80, 0, 0), (SECTORS, 0, 0), (97, 7, 0)];
    assert_eq!(machine.cleared(DISCARD, &ranges), 0);
    for pages in [1..4, 8..9] {
        model[pages.start * 4096..pages.end * 4096].fill(DISCARDED);
    }
    assert!(machine.hands.inner.disk == model);
    assert_eq!(machine.block.sectors_cleared(), 45);
    let ranges = [(5, 30, UNMAP), (201, 1, 0), (SECTORS - 1, 1, UNMAP)];
    assert_eq!(machine.cleared(WRITE_ZEROES, &ranges), 0);
    for (first, count, _) in ranges {
        let first = usize::try_from(first).unwrap() * 512;
        model[first..first + count as usize * 512].fill(0);
    }
    assert!(machine.hands.inner.disk == model);
    assert_eq!(machine.cleared(DISCARD, &[]), 0);
    let block = &machine.block;
    assert_eq!((block.requests(), block.refused()), (3, 0));
    assert_eq!((block.sectors_read(), block.sectors_written()), (0, 0));
}

#[test]
fn ranges_that_cannot_be_are_refused_as_a_whole() {
    let whole = (0, 8, 0);
    for kind in [DISCARD, WRITE_ZEROES] {
        for (range, status) in [
            ((SECTORS, 1, 0), 1),
            ((SECTORS - 1, 2, 0), 1),
            ((0, u32::MAX, 0), 1),
            ((0, (1 << 21) + 1, 0), 1),
            ((u64::MAX, 1, 0), 1),
            ((u64::MAX, u32::MAX, 0), 1),
            ((u64::MAX / 512, 1, 0), 1),
            ((SECTORS + 1, 0, 0), 1),
            ((0, 8, 2), 2),
            ((0, 8, u32::MAX), 2),
            ((0, 8, UNMAP), if kind == DISCARD { 2 } else { 0 }),
        ] {
            let mut machine = Machine::new();
            let before = machine.hands.inner.disk.clone();
            assert_eq!(machine.cleared(kind, &[whole, range]), status, "{kind} {range:?}");
            assert_eq!(machine.hands.inner.disk == before, status != 0);
        }
    }
}

#[test]
fn requests_of_any_length_are_answered() {
    for kind in [DISCARD, WRITE_ZEROES] {
        for (bytes, status) in [
            (0, 0),
            (1, 1),
            (15, 1),
            (17, 1),
            (16 * 16, 0),
            (16 * 17, 1),
            (0x1_0000, 1),
        ] {
            let mut machine = Machine::new();
            machine.clear_with(kind, &vec![0; bytes]);
            machine.serve_all();
            assert_eq!(machine.status(), status, "{bytes}");
        }
    }
    // Lengths that no memory has are refused before they are read.
    let mut machine = Machine::new();
    machine.header(DISCARD, 0);
    let mut buffers = vec![(HEADER, 16, FromGuest)];
    buffers.extend([(DATA, !15, FromGuest); 100]);
    buffers.push((STATUS, 1, ToGuest));
    machine.guest.add(&mut machine.hands.inner, &buffers);
    assert_eq!(machine.serve(), Ok(Step::Done));
    assert_eq!(machine.status(), 1);
}

#[test]
fn a_long_range_takes_several_calls_of_2_mib() {
    for kind in [DISCARD, WRITE_ZEROES] {
        let mut machine = Machine::new();
        machine.block = Block::new(5 << 12);
        machine.hands.inner.disk = pattern(9, 10 << 20);
        machine.clear(kind, &[(8, 8, 0), (4 << 10, (3 << 12) + 8, 0)]);
        // A page; 2 MiB to 4 MiB; to 6; to 8; a page.
        let calls = machine.serve_all();
        assert_eq!((machine.status(), calls), (0, 4));
        assert_eq!(machine.block.sectors_cleared(), (3 << 12) + 16);
        let expected = if kind == DISCARD { DISCARDED } else { 0 };
        let disk = &machine.hands.inner.disk;
        assert!(
            disk[2 << 20..(8 << 20) + 4096]
                .iter()
                .all(|byte| *byte == expected)
        );
        assert!(disk[(8 << 20) + 4096..] == pattern(9, 10 << 20)[(8 << 20) + 4096..]);
    }
}

#[test]
fn ranges_that_change_while_they_are_cleared_stay_on_the_disk() {
    for (range, status) in [((0, 8, 0), 0), ((1 << 20, 8, 0), 1), ((0, 5 << 12, 8), 2)] {
        let mut machine = Machine::new();
        machine.block = Block::new(5 << 12);
        machine.hands.inner.disk = vec![1; 10 << 20];
        machine.clear(DISCARD, &[(0, 5 << 12, 0)]);
        assert_eq!(machine.serve(), Ok(Step::More));
        machine.hands.inner.poke(DATA, &raw(&range));
        assert_eq!(machine.status(), NOTHING);
        assert_eq!(machine.serve(), Ok(Step::Done));
        assert_eq!(machine.status(), status);
        // What comes next begins at its beginning.
        machine.request(IN, 0, 512);
        machine.serve_all();
        assert_eq!(machine.data(512), [DISCARDED; 512]);
    }
}

#[test]
fn short_memory_only_delays_zeros() {
    // Two fields of the ring and three descriptors, the header, the list of ranges; two ranges, the status, the two parts of
    // the used ring; the ring again.
    for calls in 0..13 {
        let mut machine = Machine::new();
        machine.clear(WRITE_ZEROES, &[(8, 8, 0), (32, 16, 0)]);
        machine.hands.refuse_after(calls);
        assert_eq!(machine.serve(), Err(Trouble::HostShort));
        machine.serve_all();
        assert_eq!(machine.status(), 0);
        let disk = &machine.hands.inner.disk;
        assert!(
            disk[8 * 512..16 * 512]
                .iter()
                .chain(&disk[32 * 512..48 * 512])
                .all(|byte| *byte == 0)
        );
        assert_eq!(machine.block.requests(), 1);
    }
}

#[test]
fn a_disk_that_takes_no_more_pages_says_so_and_goes_on() {
    let mut machine = Machine::new();
    machine.hands.inner.disk_room = Some(2);
    machine.hands.inner.poke(DATA, &pattern(40, 4 * 4096));
    let head = machine.request(OUT, 0, 3 * 4096);
    assert_eq!(machine.serve(), Ok(Step::Done));
    assert_eq!(machine.status(), 1);
    assert_eq!(machine.guest.used(&machine.hands.inner), [(head, 1)]);
    // What is the guest's own can be written again; nothing else, by zeros neither.
    for (kind, sector, status) in [(OUT, 8, 0), (OUT, 16, 1), (IN, 16, 0)] {
        machine.request(kind, sector, 4096);
        machine.serve_all();
        assert_eq!(machine.status(), status, "{kind} {sector}");
    }
    machine.guest.used(&machine.hands.inner);
    assert_eq!(machine.cleared(WRITE_ZEROES, &[(8, 8, UNMAP), (16, 8, UNMAP)]), 1);
    assert_eq!(machine.cleared(DISCARD, &[(0, 8, 0)]), 0);
    machine.request(OUT, 16, 4096);
    machine.serve_all();
    assert_eq!(machine.status(), 0);
    assert_eq!(machine.block.refused(), 3);
}
