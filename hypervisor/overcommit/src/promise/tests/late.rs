//! Statistics that come late, and that are taken for those of another size of the balloon.

use super::mib;
use super::world::{Answers, Guest, Manner, World};
use crate::promise::{HostState, cushion};
use std::vec::Vec;

/// A host short of memory whatever is given: one guest has cache to give, and one takes all that comes, and gives
/// nothing.
fn never_enough(answers: Answers) -> World {
    let mut guests = [
        Guest::plain(256, Manner::Obeys(mib(64))),
        Guest::plain(4096, Manner::Absent),
    ];
    guests[0].demand = mib(60);
    guests[0].cache_wish = mib(256);
    let mut world = World::new(400, guests.to_vec());
    world.answers = answers;
    world
}

/// Lets the second guest take what brings the host to so many percent of free memory.
fn take_all_but(world: &mut World, percent: u64) {
    let spare = world.free().saturating_sub(world.total * percent / 100);
    world.guests[1].demand = world.guests[1].held + spare;
}

/// [`World::period`] checks each target against what the guest said. Beyond that: what it really has left.
#[test]
fn answers_that_come_late_do_not_squeeze_a_guest_to_nothing() {
    for answers in [Answers::EveryOther, Answers::Late] {
        for (percent, state) in [(5, HostState::Soft), (3, HostState::Hard)] {
            let mut world = never_enough(answers);
            let mut left = Vec::new();
            for _ in 0..200 {
                take_all_but(&mut world, percent);
                world.period();
                left.push(world.guests[0].available());
            }
            assert_eq!(world.state, state);
            let cushion = cushion(mib(256));
            // What comes late and seems to have come in time swings, but never so far that nothing is left, and back to
            // the cushion each time.
            let settled = &left[left.len() / 2..];
            let least = match answers {
                Answers::EveryOther => cushion,
                Answers::Late => cushion / 4,
            };
            assert!(
                settled.iter().all(|left| *left >= least),
                "{answers:?} {state:?}: {settled:?}"
            );
            let comes_back = settled
                .windows(6)
                .all(|left| left.iter().any(|left| *left >= cushion));
            assert!(comes_back, "{answers:?} {state:?}: {settled:?}");
        }
    }
}
