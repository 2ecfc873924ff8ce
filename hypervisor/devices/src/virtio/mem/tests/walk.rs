//! What Linux 6.1's driver does, in its order.

use std::collections::BTreeSet;

use pleat_types::Gfn;

use super::super::super::{Device, Step};
use super::super::{BLOCK_BYTES, Mem, MemSetup};
use super::{ACK, ERROR, NACK, PLUG, REGION, Rig, STATE, UNPLUG, UNPLUG_ALL, block_at, gfn};

const MIB: u64 = 1 << 20;

#[test]
fn the_configuration_has_the_fields_of_the_standard() {
    let mut rig = Rig::new(128);
    assert!(rig.mem.set_requested(100 * MIB));
    let fields = [0, 8, 16, 24, 32, 40, 48].map(|at| rig.field(at));
    assert_eq!(fields, [2 * MIB, 0, REGION, 256 * MIB, 256 * MIB, 0, 100 * MIB]);
    for at in 0..100 {
        rig.mem.write_config(at, 0xee);
    }
    assert_eq!([0, 8, 16, 24, 32, 40, 48].map(|at| rig.field(at)), fields);
    assert_eq!(rig.mem.config(56), 0);
    assert_eq!(rig.mem.config(usize::MAX), 0);
    assert_eq!((rig.mem.offered(), rig.mem.queues()), (2, 1));
}

#[test]
fn a_guest_grows_and_shrinks() {
    let mut rig = Rig::new(128);
    assert!(rig.mem.set_requested(200 * MIB));
    // A memory block of 128 MiB, then what is left of the request.
    assert_eq!(rig.ask(PLUG, block_at(0), 64), (ACK, 0));
    assert_eq!(rig.ask(PLUG, block_at(64), 36), (ACK, 0));
    assert_eq!(rig.mem.plugged_bytes(), 200 * MIB);
    // Eight blocks at a time, and what is left of each request.
    assert_eq!(rig.hands.plugs.len(), 8 + 5);
    assert!(rig.hands.plugs.iter().all(|(_, count)| *count <= 8 * 512));
    assert_eq!(rig.hands.plugs.last(), Some(&(gfn(96), 4 * 512)));
    assert_eq!(rig.ask(PLUG, block_at(100), 1), (NACK, 0));
    assert_eq!(rig.ask(STATE, block_at(0), 100), (ACK, 0));
    assert_eq!(rig.ask(STATE, block_at(100), 28), (ACK, 1));
    assert_eq!(rig.ask(STATE, block_at(0), 128), (ACK, 2));

    assert!(rig.mem.set_requested(6 * MIB));
    assert_eq!(rig.ask(UNPLUG, block_at(3), 97), (ACK, 0));
    assert_eq!(rig.plugged(), BTreeSet::from([0, 1, 2]));
    assert_eq!(rig.hands.unplugs.len(), 97);
    assert!(rig.hands.unplugs.iter().all(|(_, count)| *count == 512));

    assert_eq!(rig.ask(UNPLUG_ALL, 0, 0), (ACK, 0));
    assert_eq!(rig.mem.plugged_bytes(), 0);
    assert_eq!(rig.ask(UNPLUG_ALL, 0, 0), (ACK, 0));
    assert_eq!(rig.mem.requests(), 9);
    // The request from the host stands.
    assert_eq!(rig.field(48), 6 * MIB);
    assert_eq!(rig.ask(PLUG, block_at(127), 1), (ACK, 0));
}

#[test]
fn the_state_of_many_blocks_is_that_of_all_of_them() {
    // Each 64 of them, which are looked at together, are all the same.
    for first in [0, 64] {
        let mut rig = Rig::new(128);
        assert_eq!(rig.ask(PLUG, block_at(first), 64), (ACK, 0));
        assert_eq!(rig.ask(STATE, block_at(0), 128), (ACK, 2));
        assert_eq!(rig.ask(STATE, block_at(first), 64), (ACK, 0));
        assert_eq!(rig.ask(STATE, block_at(64 - first), 64), (ACK, 1));
    }
}

#[test]
fn unplugging_goes_block_by_block_and_two_for_each_call() {
    let mut rig = Rig::new(8);
    assert_eq!(rig.ask(PLUG, block_at(0), 8), (ACK, 0));
    rig.send(UNPLUG, block_at(1), 5);
    let mut left = std::vec![];
    while rig.answer().is_none() {
        assert_eq!(rig.serve(), Ok(Step::More));
        left.push(rig.plugged().len());
    }
    assert_eq!(left, [8, 6, 4, 3]);
    assert_eq!(rig.serve(), Ok(Step::Done));
}

#[test]
fn unplug_all_finds_what_is_plugged_anywhere() {
    let mut rig = Rig::new(300);
    for block in [0, 63, 64, 130, 131, 299] {
        assert_eq!(rig.ask(PLUG, block_at(block), 1), (ACK, 0));
    }
    // Address and number are ignored.
    assert_eq!(rig.ask(UNPLUG_ALL, 12345, 7), (ACK, 0));
    assert!(rig.hands.plugged.is_empty());
    let order = rig.hands.unplugs.iter().map(|(first, _)| *first);
    assert!(order.eq([0, 63, 64, 130, 131, 299].map(gfn)));
}

#[test]
fn a_request_for_too_much_is_refused_and_one_for_what_is_there_is_an_error() {
    let mut rig = Rig::new(64);
    assert!(rig.mem.set_requested(4 * BLOCK_BYTES));
    assert_eq!(rig.ask(PLUG, block_at(0), 5), (NACK, 0));
    assert_eq!(rig.ask(PLUG, block_at(0), 4), (ACK, 0));
    assert_eq!(rig.ask(PLUG, block_at(5), 1), (NACK, 0));
    assert_eq!(rig.ask(PLUG, block_at(3), 2), (ERROR, 0));
    assert!(rig.mem.set_requested(0));
    assert_eq!(rig.ask(PLUG, block_at(5), 1), (NACK, 0));
    assert_eq!(rig.mem.plugged_bytes(), 4 * BLOCK_BYTES);
}

#[test]
fn requested_memory_is_whole_blocks_of_the_region() {
    let mut rig = Rig::new(10);
    assert!(!rig.mem.set_requested(u64::MAX), "all of it already");
    assert_eq!(rig.mem.requested_bytes(), 20 * MIB);
    assert!(rig.mem.set_requested(5 * MIB));
    assert_eq!(rig.field(48), 4 * MIB);
    assert!(!rig.mem.set_requested(4 * MIB));
}

#[test]
fn a_region_is_whole_blocks_within_the_address_space() {
    let region = |first, frames| {
        let mem = Mem::new(MemSetup {
            first: Gfn::new(first),
            frames,
        });
        (mem.first().get(), mem.region_bytes())
    };
    assert_eq!(region(512, 1000), (512, 2 * MIB));
    assert_eq!(region(512, 511), (512, 0));
    assert_eq!(region(700, 512), (512, 2 * MIB));
    let last = u64::MAX >> 12;
    let (first, bytes) = region(last, u64::MAX);
    assert!(
        first
            .checked_mul(4096)
            .and_then(|at| at.checked_add(bytes))
            .is_some()
    );
    let (first, bytes) = region(u64::MAX, u64::MAX);
    assert_eq!((first, bytes), (u64::MAX - 511, 0));
}

#[test]
fn a_device_reset_keeps_what_is_plugged() {
    let mut rig = Rig::new(64);
    assert_eq!(rig.ask(PLUG, block_at(7), 9), (ACK, 0));
    rig.mem.reset();
    rig.mem.negotiated(2);
    rig.check();
    assert_eq!(rig.field(40), 9 * BLOCK_BYTES);
    assert_eq!(rig.field(48), 64 * BLOCK_BYTES);
    assert_eq!(rig.ask(STATE, block_at(7), 9), (ACK, 0));
    assert_eq!(rig.ask(UNPLUG_ALL, 0, 0), (ACK, 0));
}

#[test]
fn a_reset_in_the_middle_leaves_what_was_done_so_far() {
    let mut rig = Rig::new(8);
    assert_eq!(rig.ask(PLUG, block_at(0), 8), (ACK, 0));
    rig.send(UNPLUG, block_at(0), 8);
    assert_eq!(rig.serve(), Ok(Step::More));
    assert_eq!(rig.serve(), Ok(Step::More));
    rig.mem.reset();
    rig.check();
    assert_eq!(rig.plugged(), (2..8).collect());
    // Its driver comes back, with the request in a queue that is still there, which is an error by now.
    rig.mem.negotiated(2);
    assert_eq!(rig.kick(), Ok(0));
    assert_eq!(rig.answer(), Some((ERROR, 0)));
    assert_eq!(rig.ask(UNPLUG_ALL, 0, 0), (ACK, 0));
}
