//! Plans, case by case.

use super::world::{THRESHOLDS, check};
use super::{mib, terms, wishes};
use crate::promise::{
    Asked, Claims, GuestView, Health, HostState, HostView, MAX_GUESTS, OutOfMemory, Reason, Target, Wishes,
    cushion, plan, survival,
};
use arrayvec::ArrayVec;

/// A guest that has all of what it was promised, and says nothing.
pub(super) fn full(wishes: Wishes) -> GuestView {
    let terms = terms(wishes);
    GuestView {
        terms,
        held: terms.promised(),
        untouched: 0,
        ballooned: 0,
        health: Health::Moving,
        told: Asked::NOTHING,
        out_of_memory: OutOfMemory::Deflates,
        left: None,
        claims: Claims::default(),
    }
}

pub(super) fn saying(free: u64, available: u64, disk_caches: u64) -> Claims {
    Claims {
        total: None,
        free: Some(free),
        available: Some(available),
        disk_caches: Some(disk_caches),
        ballooned: 0,
    }
}

pub(super) fn inflated(view: GuestView, ballooned: u64, reason: Reason) -> GuestView {
    GuestView {
        ballooned,
        held: view.held.min(view.terms.promised() - ballooned),
        told: Asked {
            frames: ballooned,
            reason,
        },
        claims: Claims {
            ballooned,
            ..view.claims
        },
        ..view
    }
}

/// The plan of a host of 1,000 MiB.
pub(super) fn planned(state: HostState, free: u64, views: &[GuestView]) -> ArrayVec<Target, MAX_GUESTS> {
    let host = HostView {
        state,
        free,
        total: mib(1000),
        thresholds: THRESHOLDS,
    };
    let mut out = ArrayVec::new();
    plan(&host, views, &mut out);
    check(state, views, &out);
    out
}

pub(super) fn frames(targets: &[Target]) -> std::vec::Vec<u64> {
    targets.iter().map(|target| target.frames).collect()
}

#[test]
fn with_enough_memory_nobody_is_asked() {
    let targets = planned(
        HostState::High,
        mib(500),
        &[full(wishes(mib(256))), full(wishes(mib(256)))],
    );
    assert_eq!(frames(&targets), [0, 0]);
    assert!(
        targets
            .iter()
            .all(|target| target.reason == Reason::Rest && target.wanted == 0)
    );
}

#[test]
fn just_what_is_missing_is_asked_for() {
    // Soft at 55 MiB: high again from 70 MiB on.
    let targets = planned(
        HostState::Soft,
        mib(55),
        &[full(wishes(mib(400))), full(wishes(mib(400)))],
    );
    let asked: u64 = frames(&targets).iter().sum();
    assert_eq!(asked, mib(15));
    assert!(
        frames(&targets)[0].abs_diff(frames(&targets)[1]) <= 128,
        "{targets:?}"
    );
    assert!(targets.iter().all(|target| target.reason == Reason::Shortage));
    // What is on its way is not asked for again.
    let views = [0, 1].map(|at: usize| {
        let view = full(wishes(mib(400)));
        GuestView {
            told: targets[at].asked(),
            ..view
        }
    });
    assert_eq!(planned(HostState::Soft, mib(55), &views), targets);
}

#[test]
fn the_worse_the_state_the_more() {
    let views = [full(wishes(mib(800)))];
    let asked = |state, free| frames(&planned(state, free, &views))[0];
    assert_eq!(asked(HostState::Soft, mib(50)), mib(20));
    assert_eq!(asked(HostState::Hard, mib(35)), mib(35 + 10));
    assert_eq!(asked(HostState::Low, mib(10)), mib(60 + 20));
    // A sixteenth of the guest at once, an eighth when it is urgent.
    assert_eq!(asked(HostState::Soft, 0), mib(50));
    assert_eq!(asked(HostState::Low, 0), mib(90));
    let views = [full(wishes(mib(400)))];
    assert_eq!(frames(&planned(HostState::Low, 0, &views)), [mib(50)]);
}

#[test]
fn who_has_fewer_shares_gives_first() {
    let poor = Wishes {
        shares: 50,
        ..wishes(mib(400))
    };
    let targets = planned(HostState::Soft, mib(55), &[full(wishes(mib(400))), full(poor)]);
    assert_eq!(frames(&targets), [0, mib(15)]);
    // Among equals, the lowest priority.
    let lesser = Wishes {
        priority: 99,
        ..wishes(mib(400))
    };
    let targets = planned(
        HostState::Soft,
        mib(70) - 60,
        &[full(wishes(mib(400))), full(lesser)],
    );
    assert_eq!(frames(&targets), [0, 60]);
}

#[test]
fn who_is_idle_gives_first() {
    let mut idle = full(wishes(mib(400)));
    idle.claims = saying(mib(200), mib(300), mib(100));
    let mut busy = full(wishes(mib(400)));
    busy.claims = saying(mib(10), mib(300), mib(290));
    assert_eq!(
        frames(&planned(HostState::Soft, mib(55), &[busy, idle])),
        [0, mib(15)]
    );
}

#[test]
fn the_reservation_is_not_touched_even_in_the_low_state() {
    let kept = Wishes {
        reservation: mib(390),
        ..wishes(mib(400))
    };
    let targets = planned(HostState::Low, 0, &[full(kept)]);
    assert_eq!(frames(&targets), [mib(10)]);
}

#[test]
fn a_guest_of_which_nothing_is_known_survives() {
    assert_eq!(survival(mib(64)), mib(58));
    assert_eq!(survival(mib(256)), mib(64));
    assert_eq!(survival(mib(16)), mib(4));
    assert!((0..mib(300)).all(|promised| survival(promised) <= promised));
    let view = inflated(full(wishes(mib(64))), mib(5), Reason::Shortage);
    assert_eq!(
        frames(&planned(HostState::Low, 0, &[view])),
        [mib(64) - survival(mib(64))]
    );
}

#[test]
fn what_a_guest_has_available_is_asked_for_up_to_a_cushion() {
    assert_eq!((cushion(mib(400)), cushion(mib(16))), (mib(25), mib(4)));
    let mut view = full(wishes(mib(400)));
    view.claims = saying(mib(5), mib(31), mib(26));
    assert_eq!(frames(&planned(HostState::Hard, mib(30), &[view])), [mib(6)]);
    // Old statistics do not ask twice.
    let later = GuestView {
        told: Asked {
            frames: mib(6),
            reason: Reason::Shortage,
        },
        ballooned: mib(6),
        held: mib(394),
        ..view
    };
    assert_eq!(frames(&planned(HostState::Hard, mib(30), &[later])), [mib(6)]);
    // In the low state it does not count.
    assert_eq!(frames(&planned(HostState::Low, mib(10), &[view])), [mib(50)]);
}

#[test]
fn in_the_low_state_who_cannot_help_itself_is_left_with_what_it_says_it_needs() {
    let mut view = full(wishes(mib(400)));
    view.claims = saying(mib(5), mib(31), mib(26));
    let planned_low = |view| frames(&planned(HostState::Low, mib(10), &[view]));
    assert_eq!(planned_low(view), [mib(50)]);
    view.out_of_memory = OutOfMemory::Kills;
    assert_eq!(planned_low(view), [mib(6)]);
    // What it was asked for when it had more goes back.
    let squeezed = inflated(view, mib(60), Reason::Shortage);
    let squeezed = GuestView {
        claims: Claims {
            ballooned: mib(60),
            ..saying(0, mib(1), 0)
        },
        ..squeezed
    };
    assert_eq!(planned_low(squeezed), [mib(60 + 1 - 25)]);
    // Who says nothing is asked like all others.
    view.claims = Claims::default();
    assert_eq!(planned_low(view), [mib(50)]);
}

#[test]
fn others_are_asked_in_place_of_a_stuck_balloon() {
    let mut stuck = full(Wishes {
        shares: 1,
        ..wishes(mib(400))
    });
    stuck.health = Health::Stuck;
    stuck.told = Asked {
        frames: mib(100),
        reason: Reason::Shortage,
    };
    let targets = planned(HostState::Soft, mib(55), &[stuck, full(wishes(mib(400)))]);
    // Its target stays for when it moves again, as far as a period's step goes.
    assert_eq!(frames(&targets), [mib(25), mib(15)]);
    let absent = GuestView {
        health: Health::Absent,
        left: Some(mib(393)),
        ..stuck
    };
    let targets = planned(HostState::Soft, mib(55), &[absent, full(wishes(mib(400)))]);
    assert_eq!(frames(&targets), [mib(7), mib(15)]);
}

#[test]
fn the_limit_is_enforced_step_by_step() {
    let limited = Wishes {
        limit: Some(mib(100)),
        ..wishes(mib(256))
    };
    let mut view = full(limited);
    for expected in [32, 64, 96, 128, 156, 156] {
        let targets = planned(HostState::High, mib(700), &[view]);
        assert_eq!(frames(&targets), [mib(expected)]);
        assert_eq!(
            (targets[0].reason, targets[0].firm, targets[0].wanted),
            (Reason::Limit, mib(expected), 0)
        );
        view = inflated(view, mib(expected), Reason::Limit);
    }
}

#[test]
fn the_operators_target_holds_and_ends_at_once() {
    let mut view = full(wishes(mib(256)));
    view.left = Some(mib(56));
    let targets = planned(HostState::High, mib(700), &[view]);
    assert_eq!(
        (frames(&targets)[0], targets[0].reason, targets[0].firm),
        (mib(200), Reason::Operator, mib(200))
    );
    // The policy adds to it.
    let mut view = full(wishes(mib(800)));
    view.left = Some(mib(790));
    view.ballooned = mib(10);
    view.held = mib(790);
    let targets = planned(HostState::Soft, mib(55), &[view]);
    assert_eq!(
        (frames(&targets)[0], targets[0].reason, targets[0].wanted),
        (mib(25), Reason::Shortage, mib(15))
    );
    let view = inflated(full(wishes(mib(256))), mib(200), Reason::Operator);
    let targets = planned(HostState::High, mib(700), &[view]);
    assert_eq!((frames(&targets)[0], targets[0].reason), (0, Reason::Return));
}

#[test]
fn the_operator_leaves_the_reservation_and_the_same_to_a_guest_that_grows() {
    // No more than the memory there is can be left: that asks for nothing when more is to be left than there is.
    let mut reserved = full(Wishes {
        reservation: mib(200),
        ..wishes(mib(256))
    });
    reserved.left = Some(mib(10));
    assert_eq!(
        frames(&planned(HostState::High, mib(700), &[reserved])),
        [mib(56)]
    );
    reserved.left = Some(u64::MAX);
    assert_eq!(frames(&planned(HostState::High, mib(700), &[reserved])), [0]);
    // A guest that has grown meanwhile is left with the same.
    let mut grown = full(wishes(mib(512)));
    grown.left = Some(mib(56));
    assert_eq!(frames(&planned(HostState::High, mib(700), &[grown])), [mib(456)]);
}
