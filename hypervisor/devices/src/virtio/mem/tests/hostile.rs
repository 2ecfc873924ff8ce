//! Drivers that are broken or mean, and hosts that are short of memory.

use std::vec::Vec;

use pleat_types::Gpa;

use super::super::super::{Device, Direction, Step, Trouble};
use super::super::BLOCK_BYTES;
use super::{
    ACK, ANSWER, BUSY, ERROR, PLUG, REGION, REQUEST, Rig, STATE, UNPLUG, UNPLUG_ALL, block_at, gfn, request,
};

fn from_guest(at: u64, bytes: u32) -> (Gpa, u32, Direction) {
    (Gpa::new(at), bytes, Direction::FromGuest)
}

fn to_guest(at: u64, bytes: u32) -> (Gpa, u32, Direction) {
    (Gpa::new(at), bytes, Direction::ToGuest)
}

#[test]
fn ranges_that_are_no_blocks_of_the_region_are_errors() {
    let mut rig = Rig::new(64);
    assert_eq!(rig.ask(PLUG, block_at(0), 2), (ACK, 0));
    let ranges = [
        (block_at(0), 0),
        (block_at(0) + 1, 1),
        (block_at(0) + 4096, 1),
        (block_at(0) - BLOCK_BYTES, 1),
        (block_at(0) - BLOCK_BYTES, 3),
        (block_at(64), 1),
        (block_at(63), 2),
        (block_at(0), 65),
        (block_at(0), u16::MAX),
        (0, 1),
        (u64::MAX, 1),
        (u64::MAX - BLOCK_BYTES + 1, 1),
        (u64::MAX - BLOCK_BYTES + 1, u16::MAX),
        (REGION ^ 1 << 63, 1),
    ];
    for (at, blocks) in ranges {
        for kind in [PLUG, UNPLUG, STATE] {
            assert_eq!(rig.ask(kind, at, blocks), (ERROR, 0), "{kind} {at:#x} {blocks}");
        }
    }
    assert_eq!(rig.plugged(), [0, 1].into());
}

#[test]
fn blocks_in_the_wrong_state_are_errors_and_stay_as_they_are() {
    let mut rig = Rig::new(200);
    assert_eq!(rig.ask(PLUG, block_at(150), 1), (ACK, 0));
    // The one that is wrong is the last, beyond what one step looks at.
    assert_eq!(rig.ask(PLUG, block_at(10), 141), (ERROR, 0));
    assert_eq!(rig.ask(UNPLUG, block_at(150), 2), (ERROR, 0));
    assert_eq!(rig.ask(UNPLUG, block_at(0), 1), (ERROR, 0));
    assert_eq!(rig.plugged(), [150].into());
    assert_eq!((rig.hands.plugs.len(), rig.hands.unplugs.len()), (1, 0));
}

#[test]
fn unknown_requests_are_errors() {
    let mut rig = Rig::new(64);
    for kind in [4, 5, 0x100, u16::MAX] {
        assert_eq!(rig.ask(kind, block_at(0), 1), (ERROR, 0));
    }
}

#[test]
fn a_region_of_nothing_has_nothing_to_plug() {
    let mut rig = Rig::new(0);
    assert_eq!(rig.ask(PLUG, REGION, 1), (ERROR, 0));
    assert_eq!(rig.ask(UNPLUG_ALL, 0, 0), (ACK, 0));
}

#[test]
fn requests_in_any_pieces_are_understood() {
    let mut rig = Rig::new(64);
    let raw = request(PLUG, block_at(3), 2);
    rig.hands.poke(Gpa::new(REQUEST), &raw[..9]);
    rig.hands.poke(Gpa::new(REQUEST + 0x100), &raw[9..]);
    rig.hands.poke(Gpa::new(ANSWER), &[0xaa; 12]);
    let buffers = [
        from_guest(REQUEST, 9),
        from_guest(u64::MAX, 0),
        from_guest(REQUEST + 0x100, 500),
        to_guest(ANSWER, 1),
        to_guest(ANSWER + 1, 0),
        to_guest(ANSWER + 1, 9),
        to_guest(u64::MAX, u32::MAX),
    ];
    rig.driver.add(&mut rig.hands, &buffers);
    assert_eq!(rig.kick(), Ok(0));
    assert_eq!(rig.answer(), Some((ACK, 0)));
    assert_eq!(rig.plugged(), [3, 4].into());
}

#[test]
fn chains_that_are_no_request_are_trouble_and_change_nothing() {
    let no_room = "a request without room for the answer";
    let too_short = "a request that is too short";
    let no_ram = "an address without RAM";
    let leaves = "a buffer that leaves the address space";
    let chains: [(&str, Vec<_>); 10] = [
        (no_room, [from_guest(REQUEST, 24)].into()),
        (no_room, [from_guest(REQUEST, 24), to_guest(ANSWER, 9)].into()),
        (too_short, [to_guest(ANSWER, 10)].into()),
        (too_short, [from_guest(REQUEST, 23), to_guest(ANSWER, 10)].into()),
        (too_short, [from_guest(REQUEST, 0), to_guest(ANSWER, 10)].into()),
        (no_ram, [from_guest(0x3ff0, 24), to_guest(ANSWER, 10)].into()),
        (no_ram, [from_guest(REQUEST, 24), to_guest(0x3ffb, 10)].into()),
        (
            leaves,
            [from_guest(u64::MAX - 5, 24), to_guest(ANSWER, 10)].into(),
        ),
        (
            leaves,
            [from_guest(REQUEST, 24), to_guest(u64::MAX - 5, u32::MAX)].into(),
        ),
        (
            no_ram,
            [from_guest(REQUEST, 24), to_guest(ANSWER, 9), to_guest(REGION, 1)].into(),
        ),
    ];
    for (why, buffers) in chains {
        let mut rig = Rig::new(64);
        rig.hands.poke(Gpa::new(REQUEST), &request(PLUG, block_at(0), 1));
        rig.driver.add(&mut rig.hands, &buffers);
        assert_eq!(rig.kick(), Err(Trouble::Guest(why)));
        assert_eq!(rig.answer(), None);
        assert!(rig.hands.plugged.is_empty());
    }
}

#[test]
fn a_driver_that_wants_to_read_unplugged_memory_is_not_served() {
    let mut rig = Rig::new(64);
    rig.mem.negotiated(0);
    assert_eq!(rig.kick(), Ok(0), "as long as it asks for nothing");
    rig.send(PLUG, block_at(0), 1);
    assert!(matches!(rig.kick(), Err(Trouble::Guest(_))));
    assert!(rig.hands.plugged.is_empty());
}

#[test]
fn without_memory_to_plug_the_device_is_busy_and_nothing_has_changed() {
    let mut rig = Rig::new(64);
    rig.hands.short.plug = 1;
    assert_eq!(rig.ask(PLUG, block_at(0), 64), (BUSY, 0));
    assert!(rig.hands.plugged.is_empty());
    assert_eq!(rig.ask(PLUG, block_at(0), 64), (ACK, 0));
}

#[test]
fn a_plug_that_fails_halfway_is_undone() {
    for is_short in [false, true] {
        let mut rig = Rig::new(200);
        assert_eq!(rig.ask(PLUG, block_at(0), 3), (ACK, 0));
        let begun = rig.hands.unplugs.len();
        rig.send(PLUG, block_at(10), 20);
        // Three looks, and the first eight blocks.
        for _ in 0..4 {
            assert_eq!(rig.serve(), Ok(Step::More));
        }
        assert_eq!(rig.plugged().len(), 11);
        if is_short {
            rig.hands.short.plug = 1;
        } else {
            rig.hands.pluggable = 0..gfn(20).get();
        }
        // And when it is undone there is none either for a while.
        assert_eq!(rig.serve(), Ok(Step::More));
        rig.hands.short.unplug = 3;
        assert_eq!(rig.kick(), Ok(3));
        assert_eq!(rig.answer(), Some((BUSY, 0)));
        assert_eq!(rig.plugged(), [0, 1, 2].into());
        assert_eq!(rig.hands.unplugs.len() - begun, 8);
        rig.hands.pluggable = 0..u64::MAX;
        assert_eq!(rig.ask(PLUG, block_at(10), 20), (ACK, 0));
    }
}

#[test]
fn without_memory_to_unplug_it_waits_and_goes_on() {
    for kind in [UNPLUG, UNPLUG_ALL] {
        let mut rig = Rig::new(20);
        assert_eq!(rig.ask(PLUG, block_at(0), 20), (ACK, 0));
        rig.send(kind, block_at(0), 20);
        let mut shortages = 0;
        while rig.answer().is_none() {
            rig.hands.short.unplug = 1;
            match rig.serve() {
                Err(Trouble::HostShort) => shortages += 1,
                other => assert_eq!(other, Ok(Step::More)),
            }
            rig.hands.short.unplug = 0;
            assert_eq!(rig.serve(), Ok(Step::More));
        }
        assert!(shortages > 5);
        let order = rig.hands.unplugs.iter().map(|(first, _)| *first);
        assert!(order.eq((0..20).map(gfn)), "each block once");
    }
}

#[test]
fn an_answer_that_finds_no_memory_is_given_later_and_nothing_is_done_again() {
    // Which call finds none: that for the answer's buffer, or one of those for the used ring, in any of the steps.
    for later in 0..12 {
        for shortages in 0..4 {
            let mut rig = Rig::new(8);
            assert_eq!(rig.ask(PLUG, block_at(0), 8), (ACK, 0));
            rig.send(UNPLUG, block_at(1), 5);
            rig.hands.short.make_writable_later = later;
            rig.hands.short.make_writable = shortages;
            let seen = rig.kick();
            assert!(
                seen.is_ok_and(|seen| seen == shortages || later > 5),
                "{later} {seen:?}"
            );
            assert_eq!(rig.answer(), Some((ACK, 0)));
            assert_eq!(rig.mem.requests(), 2);
            let order = rig.hands.unplugs.iter().map(|(first, _)| *first);
            assert!(order.eq((1..6).map(gfn)), "each block once");
        }
    }
}

#[test]
fn a_page_that_is_away_at_any_read_only_delays_a_request() {
    for kind in [PLUG, UNPLUG, UNPLUG_ALL, STATE] {
        for later in 0.. {
            let mut rig = Rig::new(20);
            if kind != PLUG {
                assert_eq!(rig.ask(PLUG, block_at(0), 5), (ACK, 0));
            }
            let begun = rig.hands.plugs.len();
            rig.send(kind, block_at(0), 5);
            (rig.hands.short.read_later, rig.hands.short.read) = (later, 2);
            let shortages = rig.kick().unwrap();
            assert_eq!(rig.answer(), Some((ACK, 0)), "{kind} {later}");
            assert_eq!(rig.hands.plugs.len() - begun, usize::from(kind == PLUG));
            let order = rig.hands.unplugs.iter().map(|(first, _)| *first);
            let is_unplugged = kind == UNPLUG || kind == UNPLUG_ALL;
            assert!(
                order.eq((0..if is_unplugged { 5 } else { 0 }).map(gfn)),
                "each block once"
            );
            if shortages == 0 {
                // The ring, two descriptors and the request, then at least the ring again.
                assert!(later > 5, "{later}");
                break;
            }
        }
    }
}

#[test]
fn a_request_that_changes_while_it_is_worked_on_stays_what_it_was() {
    let mut rig = Rig::new(64);
    assert_eq!(rig.ask(PLUG, block_at(0), 10), (ACK, 0));
    rig.send(UNPLUG, block_at(0), 4);
    assert_eq!(rig.serve(), Ok(Step::More));
    rig.hands
        .poke(Gpa::new(REQUEST), &request(UNPLUG, block_at(5), 5));
    assert_eq!(rig.kick(), Ok(0));
    assert_eq!(rig.answer(), Some((ACK, 0)));
    assert_eq!(rig.plugged(), (4..10).collect());
}

#[test]
fn a_smaller_target_does_not_stop_what_was_allowed() {
    let mut rig = Rig::new(200);
    rig.send(PLUG, block_at(0), 130);
    for _ in 0..18 {
        assert_eq!(rig.serve(), Ok(Step::More));
    }
    assert!(rig.mem.set_requested(0));
    assert_eq!(rig.kick(), Ok(0));
    assert_eq!(rig.answer(), Some((ACK, 0)));
    assert_eq!(rig.mem.plugged_bytes(), 130 * BLOCK_BYTES);
}
