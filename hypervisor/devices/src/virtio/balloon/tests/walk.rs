//! What Linux 6.1's driver does, in its order.

use std::vec::Vec;

use pleat_types::Gfn;

use super::super::super::{Device, Step};
use super::super::{Balloon, BalloonSetup};
use super::{DEFLATE, INFLATE, POISON, REPORTING, Rig, STATISTICS, gfns, into};

#[test]
fn a_target_is_followed_up_and_down() {
    let mut rig = Rig::new(STATISTICS | REPORTING);
    assert!(rig.balloon.set_target(256));
    assert!(!rig.balloon.set_target(256), "nothing has changed");
    assert_eq!(rig.field(0), 256);

    let numbers: Vec<u32> = (1000..1256).collect();
    let head = rig.send(INFLATE, &numbers);
    assert_eq!(rig.kick(INFLATE), Ok(0));
    assert_eq!(rig.used(INFLATE), [(head, 0)]);
    assert_eq!(rig.hands.inflated, gfns(&numbers));
    rig.set_field(4, 256);
    assert_eq!(rig.balloon.actual_claimed(), 256);

    assert!(rig.balloon.set_target(0));
    let head = rig.send(DEFLATE, &numbers[..100]);
    assert_eq!(rig.kick(DEFLATE), Ok(0));
    assert_eq!(rig.used(DEFLATE), [(head, 0)]);
    assert_eq!(rig.hands.deflated, gfns(&numbers[..100]));
    assert_eq!((rig.balloon.inflated(), rig.balloon.deflated()), (256, 100));
    assert_eq!(rig.hands.inflated.len(), 256);
}

#[test]
fn a_long_chain_is_taken_in_pieces_of_64_pages() {
    let mut rig = Rig::new(0);
    let numbers: Vec<u32> = (0..250).collect();
    rig.send(INFLATE, &numbers);
    for pages in [64, 128, 192, 250] {
        assert_eq!(rig.serve(INFLATE), Ok(Step::More));
        assert_eq!(rig.hands.inflated, gfns(&numbers[..pages]));
    }
    assert_eq!(rig.used(INFLATE).len(), 1);
    assert_eq!(rig.serve(INFLATE), Ok(Step::Done));
}

#[test]
fn queues_are_compacted_by_what_was_negotiated() {
    for features in [0, STATISTICS, REPORTING, STATISTICS | REPORTING] {
        let mut rig = Rig::new(features);
        let mut expected = std::vec![];
        expected.extend((features & STATISTICS != 0).then_some("statistics"));
        expected.extend((features & REPORTING != 0).then_some("reporting"));
        for (index, what) in [2, 3].into_iter().zip(&expected) {
            if *what == "statistics" {
                rig.answer(index, &[(5, 77)]);
                assert_eq!(rig.kick(index), Ok(0));
                assert_eq!(rig.balloon.statistics().unwrap().total, Some(77));
            } else {
                rig.driver[index].add(&mut rig.hands, &[into(0x20_0000, 0x20_0000)]);
                assert_eq!(rig.kick(index), Ok(0));
                assert_eq!(rig.hands.reported, [(Gfn::new(512), 512)]);
            }
        }
        // Queues that do not exist take nothing.
        for index in 2 + expected.len()..4 {
            rig.driver[index].add(&mut rig.hands, &[into(0x20_0000, 0x20_0000), into(0, 1)]);
            let before = rig.balloon.reported();
            assert_eq!(rig.kick(index), Ok(0));
            assert!(rig.used(index).is_empty());
            assert_eq!(rig.balloon.reported(), before);
        }
    }
}

#[test]
fn features_depend_on_the_setup() {
    let offered = |deflates_on_oom, has_reporting| {
        let balloon = Balloon::new(BalloonSetup {
            deflates_on_oom,
            has_reporting,
        });
        (balloon.offered(), balloon.queues())
    };
    assert_eq!(offered(true, true), (0b11_0110, 4));
    assert_eq!(offered(false, true), (0b11_0010, 4));
    assert_eq!(offered(true, false), (0b01_0110, 3));
    assert_eq!(offered(false, false), (0b01_0010, 3));
}

#[test]
fn statistics_come_when_they_are_asked_for() {
    let mut rig = Rig::new(STATISTICS);
    let first = rig.answer(2, &[(4, 1), (5, 2)]);
    assert_eq!(rig.kick(2), Ok(0));
    // The buffer stays with the device.
    assert!(rig.used(2).is_empty());
    assert_eq!(rig.balloon.inquiries(), (0, 0));

    rig.balloon.ask_statistics();
    assert_eq!(rig.balloon.take_wishes(), 1 << 2);
    assert_eq!(rig.balloon.take_wishes(), 0);
    assert_eq!(rig.kick(2), Ok(0));
    assert_eq!(rig.used(2), [(first, 0)]);
    assert_eq!(rig.balloon.inquiries(), (1, 0));

    // While the driver has it, asking again does nothing.
    rig.balloon.ask_statistics();
    rig.balloon.ask_statistics();
    assert_eq!(rig.balloon.take_wishes(), 0);
    assert_eq!(rig.kick(2), Ok(0));

    rig.answer(2, &[(4, 3)]);
    assert_eq!(rig.kick(2), Ok(0));
    assert!(rig.used(2).is_empty());
    assert_eq!(rig.balloon.inquiries(), (1, 1));
    let seen = rig.balloon.statistics().unwrap();
    assert_eq!((seen.serial, seen.free, seen.total), (2, Some(3), None));
}

#[test]
fn each_tag_of_the_standard_has_its_field() {
    let mut rig = Rig::new(STATISTICS);
    let entries: Vec<(u16, u64)> = (0..10).map(|tag| (tag, 10 + u64::from(tag))).collect();
    rig.answer(2, &entries);
    assert_eq!(rig.kick(2), Ok(0));
    let seen = rig.balloon.statistics().unwrap();
    assert_eq!((seen.swap_in, seen.swap_out), (Some(10), Some(11)));
    assert_eq!((seen.major_faults, seen.minor_faults), (Some(12), Some(13)));
    assert_eq!(
        (seen.free, seen.total, seen.available),
        (Some(14), Some(15), Some(16))
    );
    assert_eq!(seen.disk_caches, Some(17));
    assert_eq!((seen.htlb_allocations, seen.htlb_failures), (Some(18), Some(19)));
}

#[test]
fn statistics_asked_for_before_there_is_a_buffer_are_not_forgotten() {
    let mut rig = Rig::new(STATISTICS);
    rig.balloon.ask_statistics();
    assert_eq!(rig.balloon.take_wishes(), 1 << 2);
    assert_eq!(rig.kick(2), Ok(0));
    assert_eq!(rig.balloon.inquiries(), (0, 0));
    let head = rig.answer(2, &[(4, 1)]);
    assert_eq!(rig.kick(2), Ok(0));
    assert_eq!(rig.used(2), [(head, 0)]);
    assert_eq!(rig.balloon.inquiries(), (1, 0));
}

#[test]
fn without_the_feature_nobody_is_asked() {
    let mut rig = Rig::new(REPORTING);
    rig.balloon.ask_statistics();
    assert_eq!(rig.balloon.take_wishes(), 0);
    assert_eq!(rig.balloon.inquiries(), (0, 0));
}

#[test]
fn a_report_of_32_large_pages_is_taken_one_by_one() {
    let mut rig = Rig::new(REPORTING);
    let buffers: Vec<_> = (1..33).map(|n| into(n << 22, 2 << 20)).collect();
    let head = rig.driver[2].add(&mut rig.hands, &buffers);
    assert_eq!(rig.kick(2), Ok(0));
    assert_eq!(rig.used(2), [(head, 0)]);
    let expected: Vec<_> = (1..33).map(|n| (Gfn::new(n << 10), 512)).collect();
    assert_eq!(rig.hands.reported, expected);
    assert_eq!(rig.balloon.reported(), 32 * 512);
}

#[test]
fn a_poison_value_keeps_reported_pages_as_they_are() {
    for (value, taken) in [(0xaaaa_aaaa, 0), (0, 512)] {
        let mut rig = Rig::new(REPORTING | POISON);
        rig.set_field(12, value);
        assert_eq!(rig.balloon.poison(), Some(value));
        let head = rig.driver[2].add(&mut rig.hands, &[into(0x20_0000, 0x20_0000)]);
        assert_eq!(rig.kick(2), Ok(0));
        assert_eq!(rig.used(2), [(head, 0)], "answered in any case");
        assert_eq!(rig.balloon.reported(), taken);
    }
    // Without the feature the field means nothing.
    let mut rig = Rig::new(REPORTING);
    rig.set_field(12, 0xaaaa_aaaa);
    assert_eq!(rig.balloon.poison(), None);
    rig.driver[2].add(&mut rig.hands, &[into(0x20_0000, 0x20_0000)]);
    assert_eq!(rig.kick(2), Ok(0));
    assert_eq!(rig.balloon.reported(), 512);
}

#[test]
fn only_two_fields_can_be_written() {
    let mut rig = Rig::new(POISON);
    assert!(rig.balloon.set_target(0x0403_0201));
    for at in 0..300 {
        rig.balloon.write_config(at, 0xee);
    }
    assert_eq!(rig.field(0), 0x0403_0201);
    assert_eq!(rig.field(4), 0xeeee_eeee);
    assert_eq!(rig.field(8), 0);
    assert_eq!(rig.field(12), 0xeeee_eeee);
    assert_eq!(rig.balloon.config(16), 0);
    assert_eq!(rig.balloon.config(usize::MAX), 0);
}

#[test]
fn a_target_beyond_what_the_field_holds_is_all_it_holds() {
    let mut rig = Rig::new(0);
    assert!(rig.balloon.set_target(u64::MAX));
    assert_eq!(
        (rig.balloon.target(), rig.field(0)),
        (u64::from(u32::MAX), u32::MAX)
    );
    assert!(!rig.balloon.set_target(u64::MAX - 1));
}

#[test]
fn a_reset_forgets_the_driver_and_keeps_target_and_totals() {
    let mut rig = Rig::new(STATISTICS | POISON);
    assert!(rig.balloon.set_target(9));
    rig.set_field(4, 5);
    rig.set_field(12, 6);
    rig.send(INFLATE, &[1, 2, 3]);
    assert_eq!(rig.kick(INFLATE), Ok(0));
    rig.answer(2, &[(4, 1)]);
    assert_eq!(rig.kick(2), Ok(0));
    rig.balloon.ask_statistics();
    rig.balloon.reset();
    assert_eq!([0, 4, 8, 12].map(|at| rig.field(at)), [9, 0, 0, 0]);
    assert_eq!(rig.balloon.statistics(), None);
    assert_eq!(rig.balloon.poison(), None);
    assert_eq!(rig.balloon.take_wishes(), 0);
    assert_eq!(rig.balloon.inflated(), 3);
    assert_eq!(rig.balloon.target(), 9);
}

#[test]
fn a_reset_in_the_middle_of_a_chain_forgets_the_place() {
    let mut rig = Rig::new(0);
    let numbers: Vec<u32> = (0..600).collect();
    rig.send(INFLATE, &numbers);
    assert_eq!(rig.serve(INFLATE), Ok(Step::More));
    rig.balloon.reset();
    rig.balloon.negotiated(0);
    rig.hands.inflated.clear();
    assert_eq!(rig.kick(INFLATE), Ok(0));
    assert_eq!(rig.hands.inflated, gfns(&numbers));
}
