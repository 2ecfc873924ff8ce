//! Drivers that are broken or mean, and hosts that are short of memory.

use std::vec::Vec;

use pleat_types::{Gfn, Gpa};

use super::super::super::testing::RawDescriptor;
use super::super::super::{Step, Trouble};
use super::{DATA, DEFLATE, INFLATE, RAM_BYTES, REPORTING, Rig, STATISTICS, gfns, into, out, statistics};

const LEAVES: Trouble = Trouble::Guest("a buffer that leaves the address space");
const TOO_MANY: Trouble = Trouble::Guest("more pages in one chain than a balloon takes");
const NO_RAM: Trouble = Trouble::Guest("an address without RAM");

#[test]
fn a_number_may_be_cut_by_the_end_of_a_buffer() {
    let mut rig = Rig::new(0);
    let raw: Vec<u8> = [7u32, 8, 9].iter().flat_map(|n| n.to_le_bytes()).collect();
    rig.hands.poke(Gpa::new(DATA), &raw[..3]);
    rig.hands.poke(Gpa::new(DATA + 0x1000), &raw[3..10]);
    rig.hands.poke(Gpa::new(DATA + 0x2000), &raw[10..]);
    let buffers = [
        out(DATA, 3),
        out(DATA + 0x5000, 0),
        out(DATA + 0x1000, 7),
        out(DATA + 0x2000, 2),
    ];
    rig.driver[0].add(&mut rig.hands, &buffers);
    assert_eq!(rig.kick(INFLATE), Ok(0));
    assert_eq!(rig.hands.inflated, gfns(&[7, 8, 9]));
}

#[test]
fn an_odd_rest_is_no_page() {
    for (bytes, pages) in [
        (0, 0),
        (1, 0),
        (3, 0),
        (4, 1),
        (7, 1),
        (1023, 255),
        (1025, 256),
        (1027, 256),
        (1028, 257),
    ] {
        let mut rig = Rig::new(0);
        let head = rig.driver[0].add(&mut rig.hands, &[out(DATA, bytes)]);
        assert_eq!(rig.kick(INFLATE), Ok(0));
        assert_eq!(rig.hands.inflated.len(), pages, "{bytes}");
        assert_eq!(rig.used(INFLATE), [(head, 0)]);
    }
}

/// 64 Ki pages: what one chain may name.
const MOST: u32 = 0x1_0000;

#[test]
fn a_chain_names_so_many_pages_and_no_more() {
    for (buffers, taken) in [
        (std::vec![out(DATA, 4 * MOST)], Ok(0)),
        (std::vec![out(DATA, 4 * MOST + 3)], Ok(0)),
        (std::vec![out(DATA, 4 * MOST + 4)], Err(TOO_MANY)),
        (
            std::vec![out(DATA, 4 * MOST), out(DATA, 2), out(DATA, 2)],
            Err(TOO_MANY),
        ),
        (std::vec![out(DATA, u32::MAX); 100], Err(TOO_MANY)),
        (std::vec![out(u64::MAX - 100, u32::MAX)], Err(TOO_MANY)),
    ] {
        for index in [INFLATE, DEFLATE] {
            let mut rig = Rig::new(0);
            rig.driver[index].add(&mut rig.hands, &buffers);
            assert_eq!(rig.kick(index), taken, "{buffers:?}");
            let pages = if taken.is_ok() { u64::from(MOST) } else { 0 };
            assert_eq!(rig.pages(), pages, "nothing of what is too much");
        }
    }
    for (buffers, taken) in [
        (std::vec![into(0, 4096 * MOST)], Ok(0)),
        (std::vec![into(0, 4096 * MOST), into(0, 4095)], Ok(0)),
        (std::vec![into(0, 4096 * MOST), into(0, 4096)], Err(TOO_MANY)),
        (std::vec![into(0, u32::MAX)], Err(TOO_MANY)),
        (std::vec![into(0, u32::MAX); 128], Err(TOO_MANY)),
    ] {
        let mut rig = Rig::new(REPORTING);
        rig.driver[2].add(&mut rig.hands, &buffers);
        assert_eq!(rig.kick(2), taken);
        let reported = if taken.is_ok() { u64::from(MOST) } else { 0 };
        assert_eq!(rig.balloon.reported(), reported);
    }
}

/// `page_reporting_cycle`: 32 buffers, each of the largest size that Linux's allocator has.
#[test]
fn the_largest_report_of_linux_is_taken() {
    let mut rig = Rig::new(REPORTING);
    let buffers: Vec<_> = (0..32).map(|n| into(n << 22, 4 << 20)).collect();
    rig.driver[2].add(&mut rig.hands, &buffers);
    assert_eq!(rig.kick(2), Ok(0));
    assert_eq!(rig.balloon.reported(), 32 << 10);
}

#[test]
fn a_long_buffer_is_taken_up_to_the_end_of_ram() {
    let mut rig = Rig::new(0);
    let there = 10 * 64;
    rig.driver[0].add(&mut rig.hands, &[out(RAM_BYTES - 4 * there, 4 * MOST)]);
    assert_eq!(rig.kick(INFLATE), Err(NO_RAM));
    assert_eq!(rig.balloon.inflated(), there);
    assert!(rig.used(INFLATE).is_empty());
}

#[test]
fn buffers_at_the_end_of_the_address_space_are_trouble() {
    for (at, bytes, trouble) in [
        (u64::MAX, 4, LEAVES),
        (u64::MAX - 3, 8, LEAVES),
        (u64::MAX - 100, 4 * MOST, LEAVES),
        (RAM_BYTES, 4, NO_RAM),
        (RAM_BYTES - 2, 4, NO_RAM),
        (u64::MAX - 4096, 4, NO_RAM),
    ] {
        let mut rig = Rig::new(STATISTICS);
        for index in [INFLATE, DEFLATE, 2] {
            rig.driver[index].add(&mut rig.hands, &[out(at, bytes)]);
            assert_eq!(rig.kick(index), Err(trouble), "{at:#x} {index}");
        }
        assert_eq!(rig.pages(), 0);
        assert_eq!(rig.balloon.statistics(), None);
    }
}

#[test]
fn buffers_to_write_hold_no_page_numbers() {
    let mut rig = Rig::new(STATISTICS);
    for index in [INFLATE, DEFLATE, 2] {
        rig.hands.poke(Gpa::new(DATA), &[5; 40]);
        rig.driver[index].add(&mut rig.hands, &[into(DATA, 40), into(u64::MAX, 40)]);
        assert_eq!(rig.kick(index), Ok(0));
        assert_eq!(rig.hands.peek(Gpa::new(DATA), 40), [5; 40]);
    }
    assert_eq!(rig.pages(), 0);
    assert_eq!(rig.used(INFLATE).len(), 1);
    assert_eq!(rig.balloon.statistics().unwrap().total, None);
}

#[test]
fn any_page_number_is_passed_on_for_the_owner_to_judge() {
    let mut rig = Rig::new(0);
    let numbers = [0, 5, 5, u32::MAX, 5, 1 << 31];
    rig.send(INFLATE, &numbers);
    assert_eq!(rig.kick(INFLATE), Ok(0));
    assert_eq!(rig.hands.inflated, gfns(&numbers));
    assert_eq!(rig.balloon.inflated(), 6);
}

#[test]
fn reports_are_of_whole_pages_only() {
    let cases = [
        (0x20_0000, 4095, None),
        (0x20_0001, 4096, None),
        (0x20_0001, 8191, Some((0x201, 1))),
        (0x20_0fff, 2, None),
        (0x20_0fff, 4097, Some((0x201, 1))),
        (0x20_0000, 0, None),
        (0x20_0001, 0, None),
        (0x20_0000, 12_287, Some((0x200, 2))),
        (u64::MAX, 1, None),
        (u64::MAX, 4096 * MOST, None),
        // Its last page would end at 2^64, and is not counted.
        (u64::MAX - 8191, 4096 * MOST, Some((0xf_ffff_ffff_fffe, 1))),
        (u64::MAX - 4095, 4096, None),
    ];
    for (at, bytes, taken) in cases {
        let mut rig = Rig::new(REPORTING);
        let head = rig.driver[2].add(&mut rig.hands, &[into(at, bytes)]);
        assert_eq!(rig.kick(2), Ok(0), "{at:#x}");
        assert_eq!(rig.used(2), [(head, 0)]);
        let taken: Vec<_> = taken
            .into_iter()
            .map(|(first, count)| (Gfn::new(first), count))
            .collect();
        assert_eq!(rig.hands.reported, taken, "{at:#x} {bytes}");
    }
}

#[test]
fn a_huge_report_goes_on_in_pieces_of_512_pages() {
    let mut rig = Rig::new(REPORTING);
    let buffers = [into(0x1800, 4096 * (MOST - 1) - 1), into(0x10, 100)];
    rig.driver[2].add(&mut rig.hands, &buffers);
    for n in 0..20 {
        assert_eq!(rig.serve(2), Ok(Step::More));
        assert_eq!(rig.hands.reported.last(), Some(&(Gfn::new(2 + 512 * n), 512)));
    }
    assert_eq!(rig.kick(2), Ok(0));
    // It begins and ends within a page, and the other buffer has none.
    assert_eq!(rig.balloon.reported(), u64::from(MOST) - 2);
    assert_eq!(rig.used(2).len(), 1);
}

#[test]
fn buffers_to_read_are_no_report() {
    let mut rig = Rig::new(REPORTING);
    rig.driver[2].add(
        &mut rig.hands,
        &[out(0x20_0000, 0x20_0000), into(0x40_0000, 4096)],
    );
    assert_eq!(rig.kick(2), Ok(0));
    assert_eq!(rig.hands.reported, [(Gfn::new(0x400), 1)]);
}

#[test]
fn without_host_memory_no_page_is_taken_twice() {
    for (shortages, later) in [(0, 0), (1, 0), (1, 1), (2, 1), (5, 0), (5, 1)] {
        let mut rig = Rig::new(REPORTING);
        let numbers: Vec<u32> = (0..300).collect();
        let head = rig.send(INFLATE, &numbers);
        rig.hands.short.make_writable = shortages;
        rig.hands.short.make_writable_later = later;
        assert_eq!(rig.kick(INFLATE), Ok(shortages));
        assert_eq!(rig.hands.inflated, gfns(&numbers));
        assert_eq!(rig.used(INFLATE), [(head, 0)]);

        let head = rig.driver[2].add(&mut rig.hands, &[into(0x20_0000, 4096)]);
        rig.hands.short.make_writable = shortages;
        rig.hands.short.make_writable_later = later;
        assert_eq!(rig.kick(2), Ok(shortages));
        assert_eq!(rig.hands.reported, [(Gfn::new(0x200), 1)]);
        assert_eq!(rig.used(2), [(head, 0)]);
    }
}

#[test]
fn a_page_that_is_away_at_any_read_neither_repeats_nor_loses_a_page() {
    for later in 0.. {
        let mut rig = Rig::new(REPORTING);
        let numbers: Vec<u32> = (0..300).collect();
        (rig.hands.short.read_later, rig.hands.short.read) = (later, 2);
        let head = rig.send(INFLATE, &numbers);
        let shortages = rig.kick(INFLATE).unwrap();
        assert_eq!(rig.hands.inflated, gfns(&numbers));
        assert_eq!(rig.balloon.inflated(), 300);
        assert_eq!(rig.used(INFLATE), [(head, 0)]);

        let head = rig.driver[2].add(&mut rig.hands, &[into(0x20_0000, 1 << 23)]);
        let shortages = shortages + rig.kick(2).unwrap();
        let reported: Vec<_> = (0..4).map(|n| (Gfn::new(0x200 * (n + 1)), 512)).collect();
        assert_eq!(rig.hands.reported, reported);
        assert_eq!(rig.used(2), [(head, 0)]);
        if shortages == 0 {
            assert!(later > 30, "{later}");
            return;
        }
    }
}

#[test]
fn statistics_in_a_page_that_is_away_are_read_once_and_whole() {
    // The ring's index and entry, two descriptors, two buffers: all are there, or nothing is told.
    for later in 0..6 {
        let mut rig = Rig::new(STATISTICS);
        rig.answer(2, &[(4, 1)]);
        assert_eq!(rig.kick(2), Ok(0));
        rig.balloon.ask_statistics();
        assert_eq!(rig.kick(2), Ok(0));
        let raw = statistics(&[(4, 5), (5, 6)]);
        rig.hands.poke(Gpa::new(DATA), &raw);
        rig.driver[2].add(&mut rig.hands, &[out(DATA, 13), out(DATA + 13, 7)]);
        (rig.hands.short.read_later, rig.hands.short.read) = (later, 1);
        assert_eq!(rig.serve(2), Err(Trouble::HostShort));
        let latest = |rig: &Rig| {
            rig.balloon
                .statistics()
                .map(|seen| (seen.serial, seen.free, seen.total))
        };
        assert_eq!(latest(&rig), Some((1, Some(1), None)));
        assert_eq!(rig.balloon.inquiries(), (1, 0));
        assert_eq!(rig.kick(2), Ok(0));
        assert_eq!(latest(&rig), Some((2, Some(5), Some(6))));
        assert_eq!(rig.balloon.inquiries(), (1, 1));
    }
}

#[test]
fn a_request_for_statistics_survives_a_shortage() {
    let mut rig = Rig::new(STATISTICS);
    let head = rig.answer(2, &[(4, 1)]);
    assert_eq!(rig.kick(2), Ok(0));
    rig.balloon.ask_statistics();
    rig.hands.short.make_writable = 3;
    assert_eq!(rig.serve(2), Err(Trouble::HostShort));
    assert_eq!(rig.balloon.inquiries(), (0, 0));
    assert_eq!(rig.kick(2), Ok(2));
    assert_eq!(rig.used(2), [(head, 0)]);
    assert_eq!(rig.balloon.inquiries(), (1, 0));
}

#[test]
fn a_flood_of_statistics_is_read_one_at_a_time() {
    let mut rig = Rig::new(STATISTICS);
    for value in 0..100 {
        rig.hands
            .poke(Gpa::new(DATA + 16 * value), &statistics(&[(4, value)]));
        rig.driver[2].add(&mut rig.hands, &[out(DATA + 16 * value, 10)]);
    }
    for _ in 0..1000 {
        assert_eq!(rig.kick(2), Ok(0));
    }
    let latest = |rig: &Rig| rig.balloon.statistics().map(|seen| (seen.serial, seen.free));
    assert_eq!(latest(&rig), Some((1, Some(0))));
    rig.balloon.ask_statistics();
    assert_eq!(rig.kick(2), Ok(0));
    assert_eq!(rig.used(2).len(), 1);
    assert_eq!(latest(&rig), Some((2, Some(1))));
    assert_eq!(rig.balloon.inquiries(), (1, 1));
}

#[test]
fn a_buffer_full_of_statistics_is_read_to_a_bound() {
    let mut rig = Rig::new(STATISTICS);
    let mut entries = std::vec![(4, 1); 63];
    entries.extend([(5, 2), (6, 3)]);
    let raw = statistics(&entries);
    rig.hands.poke(Gpa::new(DATA), &raw);
    // All of RAM that follows, and more than the bound.
    rig.driver[2].add(&mut rig.hands, &[out(DATA, u32::MAX)]);
    assert_eq!(rig.kick(2), Ok(0));
    let seen = *rig.balloon.statistics().unwrap();
    assert_eq!((seen.free, seen.total, seen.available), (Some(1), Some(2), None));
}

#[test]
fn strange_entries_are_passed_over() {
    let mut rig = Rig::new(STATISTICS);
    let mut raw = statistics(&[(99, 1), (4, 2), (u16::MAX, 3), (4, u64::MAX), (10, 4)]);
    // Nine bytes of a total.
    raw.extend([5, 0, 1, 1, 1, 1, 1, 1, 1]);
    rig.hands.poke(Gpa::new(DATA), &raw);
    let (front, back) = (3, u32::try_from(raw.len()).unwrap() - 3);
    rig.driver[2].add(&mut rig.hands, &[out(DATA, front), out(DATA + 3, back)]);
    assert_eq!(rig.kick(2), Ok(0));
    let seen = *rig.balloon.statistics().unwrap();
    assert_eq!((seen.free, seen.total), (Some(u64::MAX), None));
}

#[test]
fn a_driver_that_never_answers_is_asked_once() {
    let mut rig = Rig::new(STATISTICS);
    rig.answer(2, &[(4, 1)]);
    for _ in 0..100 {
        rig.balloon.ask_statistics();
        assert_eq!(rig.kick(2), Ok(0));
    }
    assert_eq!(rig.balloon.inquiries(), (1, 0));
    assert_eq!(rig.used(2).len(), 1);
}

#[test]
fn a_chain_that_shrinks_while_it_is_worked_on_just_ends() {
    let mut rig = Rig::new(0);
    let numbers: Vec<u32> = (0..600).collect();
    let head = rig.send(INFLATE, &numbers);
    assert_eq!(rig.serve(INFLATE), Ok(Step::More));
    let raw = RawDescriptor {
        at: DATA,
        bytes: 8,
        ..Default::default()
    };
    rig.driver[0].set_descriptor(&mut rig.hands, head, raw);
    assert_eq!(rig.kick(INFLATE), Ok(0));
    assert_eq!(rig.hands.inflated.len(), 64);
    assert_eq!(rig.used(INFLATE), [(head, 0)]);
    // And the next one begins at its beginning.
    rig.send(INFLATE, &[77]);
    assert_eq!(rig.kick(INFLATE), Ok(0));
    assert_eq!(rig.hands.inflated[64..], gfns(&[77]));
}
