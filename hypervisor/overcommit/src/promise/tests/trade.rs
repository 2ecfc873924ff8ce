//! Guests that trade memory over time.

use super::mib;
use super::world::{Guest, Manner, World};
use crate::promise::{HostState, Wishes};

fn four(manner: Manner) -> World {
    World::new(512, (0..4).map(|_| Guest::plain(256, manner)).collect())
}

/// Moves each demand towards its goal by no more than so much.
fn ramp(world: &mut World, goals: [u64; 4], step: u64) {
    for (guest, goal) in world.guests.iter_mut().zip(goals) {
        guest.demand = if guest.demand < goal {
            goal.min(guest.demand + step)
        } else {
            goal.max(guest.demand.saturating_sub(step))
        };
    }
}

/// Four guests, each in turn with a large demand, ten times each: the sum fits, so nobody may be killed.
fn take_turns(reports: bool, cache_wish: u64) -> World {
    let mut world = four(Manner::Obeys(mib(32)));
    for guest in &mut world.guests {
        guest.reports = reports;
        guest.cache_wish = cache_wish;
    }
    for turn in 0..40_usize {
        let mut goals = [mib(50); 4];
        goals[turn % 4] = mib(200);
        for _ in 0..60 {
            ramp(&mut world, goals, mib(4));
            world.period();
        }
        let served = world.guests.iter().all(|guest| guest.used == guest.demand);
        assert!(served, "turn {turn}: {world:?}");
    }
    world
}

#[test]
fn four_guests_under_changing_demand_are_never_killed() {
    for (reports, cache_wish) in [(true, 0), (false, 0), (true, mib(200)), (false, mib(200))] {
        let world = take_turns(reports, cache_wish);
        let kills: u64 = world.guests.iter().map(|guest| guest.kills).sum();
        assert_eq!(kills, 0, "reports {reports}, cache {cache_wish}");
        assert_eq!(world.state, HostState::High);
    }
}

#[test]
fn balloons_are_let_down_when_the_shortage_is_over() {
    let mut world = four(Manner::Obeys(mib(32)));
    for guest in &mut world.guests {
        guest.demand = mib(40);
        guest.cache_wish = mib(256);
    }
    world.run(100);
    assert!(
        world.told().iter().all(|told| *told > mib(64)),
        "{:?}",
        world.told()
    );
    world.guests.iter_mut().for_each(|guest| guest.cache_wish = 0);
    world.run(100);
    assert_eq!(world.told(), [0; 4]);
}

#[test]
fn shares_are_respected_among_equally_idle_guests() {
    for tax in [0, 75] {
        let shared = |shares| Wishes {
            shares,
            idle_tax_percent: tax,
            ..super::wishes(mib(1024))
        };
        let greedy = [100, 200, 300].map(|shares| Guest::new(shared(shares), Manner::Silent(mib(64))));
        let mut world = World::new(1024, greedy.to_vec());
        world
            .guests
            .iter_mut()
            .for_each(|guest| guest.cache_wish = mib(1024));
        world.run(300);
        let held = world.held();
        let for_guests = world.total - world.free();
        for (held, share) in held.iter().zip([1, 2, 3]) {
            let fair = for_guests * share / 6;
            assert!(
                held.abs_diff(fair) <= fair / 20,
                "{held:?} instead of {fair}: {world:?}"
            );
        }
        assert_eq!(world.state, HostState::High);
    }
}

#[test]
fn a_guest_that_lies_does_not_starve_others() {
    // The liar uses all it can get, and says that it needs more. Others came first, went idle, and come back.
    let mut guests: std::vec::Vec<_> = (0..3)
        .map(|_| Guest::plain(256, Manner::Obeys(mib(32))))
        .collect();
    guests.push(Guest::plain(256, Manner::Lies(mib(32))));
    let mut world = World::new(512, guests);
    world.guests[3].cache_wish = mib(256);
    world.guests[..3]
        .iter_mut()
        .for_each(|guest| guest.demand = mib(20));
    world.run(100);
    // An equal part of what is there for guests is 119 MiB.
    for _ in 0..200 {
        ramp(&mut world, [mib(110), mib(110), mib(110), 0], mib(1));
        world.period();
    }
    for guest in &world.guests[..3] {
        assert_eq!((guest.used, guest.kills), (mib(110), 0), "{world:?}");
    }
}

#[test]
fn the_strict_limit_holds_while_memory_is_plentiful() {
    let strict = Wishes {
        cache_strict_percent: 25,
        ..super::wishes(mib(256))
    };
    let mut world = World::new(2048, std::vec![Guest::new(strict, Manner::Obeys(mib(64)))]);
    world.guests[0].demand = mib(60);
    world.guests[0].cache_wish = mib(256);
    world.run(60);
    assert_eq!(world.held(), [mib(60 + 64)]);
    // Computation that grows gets its memory, the cache stays within the limit.
    for demand in 60..180 {
        world.guests[0].demand = mib(demand);
        world.run(4);
    }
    world.run(20);
    assert_eq!((world.guests[0].kills, world.guests[0].used), (0, mib(179)));
    assert!(world.held()[0] <= mib(179 + 64), "{world:?}");
}
