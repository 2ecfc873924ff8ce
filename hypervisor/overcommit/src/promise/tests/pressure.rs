//! Levels, messages, and the grace.

use crate::promise::{Clock, Grace, HOLD_MS, HostState, Level, Notice, PressureGauge, Reason, Target};
use proptest::collection::vec;
use proptest::prelude::{Just, prop_assert, prop_oneof, proptest};
use std::string::ToString;

fn target(frames: u64, firm: u64) -> Target {
    Target {
        guest: 0,
        frames,
        firm,
        wanted: frames - firm,
        reason: Reason::Shortage,
    }
}

fn at(now_ms: u64, state: HostState) -> Clock {
    Clock {
        now_ms,
        grace_ms: 1000,
        state,
    }
}

#[test]
fn the_level_is_by_state_and_by_what_is_wanted() {
    let levels = [HostState::High, HostState::Soft, HostState::Hard, HostState::Low].map(|state| {
        (
            Level::for_guest(state, 0).name(),
            Level::for_guest(state, 1).name(),
        )
    });
    assert_eq!(
        levels,
        [
            ("none", "none"),
            ("some", "some"),
            ("some", "full"),
            ("full", "full")
        ]
    );
    assert_eq!(Level::named("some"), Some(Level::Some));
    assert_eq!(Level::named("auto"), None);
}

#[test]
fn a_notice_is_a_line_of_the_protocol() {
    let notice = Notice {
        level: Level::Some,
        free: 10,
        wanted: 3,
    };
    assert_eq!(notice.to_string(), "pressure some free=40 wanted=12\n");
}

#[test]
fn the_level_goes_up_at_once_and_down_after_a_while() {
    let mut gauge = PressureGauge::NONE;
    assert_eq!(gauge.update(0, HostState::High, 0), None);
    assert_eq!(gauge.update(100, HostState::Soft, 9), Some(Level::Some));
    assert_eq!(gauge.update(200, HostState::Hard, 9), Some(Level::Full));
    // Lower, with one relapse to some: it falls to that, 2 s after it was full.
    assert_eq!(gauge.update(1000, HostState::High, 0), None);
    assert_eq!(gauge.update(2000, HostState::Soft, 9), None);
    assert_eq!(gauge.update(2999, HostState::High, 0), None);
    assert_eq!(
        gauge.update(1000 + HOLD_MS, HostState::High, 0),
        Some(Level::Some)
    );
    // Full for a moment begins the time anew.
    assert_eq!(gauge.update(3100, HostState::High, 0), None);
    assert_eq!(gauge.update(4000, HostState::Hard, 9), Some(Level::Full));
    assert_eq!(gauge.update(4100, HostState::High, 0), None);
    assert_eq!(gauge.update(6099, HostState::High, 0), None);
    assert_eq!(gauge.update(6100, HostState::High, 0), Some(Level::None));
}

#[test]
fn the_operator_decides() {
    let mut gauge = PressureGauge::NONE;
    gauge.force(Some(Level::Full));
    assert_eq!(gauge.update(0, HostState::High, 0), Some(Level::Full));
    gauge.force(Some(Level::None));
    assert_eq!(gauge.update(1, HostState::Low, 9), Some(Level::None));
    gauge.force(None);
    assert_eq!(gauge.update(2, HostState::Soft, 9), Some(Level::Some));
    // A level that was forced is not held once it is not, whichever way it goes; after that levels are held again.
    gauge.force(Some(Level::Full));
    assert_eq!(gauge.update(3, HostState::Soft, 9), Some(Level::Full));
    assert_eq!(gauge.update(4, HostState::High, 0), None);
    gauge.force(None);
    assert_eq!(gauge.update(5, HostState::Soft, 9), Some(Level::Some));
    assert_eq!(gauge.update(6, HostState::High, 0), None);
    // One that was never told holds nothing up and lets nothing go.
    gauge.force(Some(Level::Full));
    gauge.force(None);
    assert_eq!(gauge.update(7, HostState::High, 0), None);
}

#[test]
fn force_comes_after_the_message() {
    let mut grace = Grace::NONE;
    assert_eq!(
        grace.released(at(0, HostState::High), Level::None, 0, &target(0, 0)),
        0
    );
    let asked = target(500, 100);
    // What the operator wants does not wait; what the shortage wants does, for a second.
    assert_eq!(
        grace.released(at(100, HostState::Soft), Level::Some, 0, &asked),
        100
    );
    assert_eq!(
        grace.released(at(1099, HostState::Soft), Level::Some, 100, &asked),
        100
    );
    assert!(grace.is_running(1099) && !grace.is_running(1100));
    assert_eq!(
        grace.released(at(1100, HostState::Soft), Level::Some, 100, &asked),
        500
    );
    // The next level is a new message; what was told stays told.
    let more = target(900, 100);
    assert_eq!(
        grace.released(at(1200, HostState::Hard), Level::Full, 500, &more),
        500
    );
    // Less is told at once.
    let less = target(300, 100);
    assert_eq!(
        grace.released(at(1300, HostState::Hard), Level::Full, 500, &less),
        300
    );
}

#[test]
fn a_grace_that_runs_is_not_made_longer() {
    let mut grace = Grace::NONE;
    let asked = target(500, 0);
    assert_eq!(grace.released(at(0, HostState::Soft), Level::Some, 0, &asked), 0);
    assert_eq!(
        grace.released(at(900, HostState::Hard), Level::Full, 0, &asked),
        0
    );
    assert_eq!(
        grace.released(at(1000, HostState::Hard), Level::Full, 0, &asked),
        500
    );
}

#[test]
fn in_the_low_state_nothing_waits() {
    let mut grace = Grace::NONE;
    assert_eq!(
        grace.released(at(0, HostState::Low), Level::Full, 0, &target(500, 0)),
        500
    );
}

proptest! {
    #[test]
    fn the_level_is_never_below_what_is_measured_and_falls_in_the_end(
        steps in vec((0..1500_u64, 0..3_u64, prop_oneof![
            Just(HostState::High), Just(HostState::Soft), Just(HostState::Hard), Just(HostState::Low)
        ]), 1..60),
    ) {
        let (mut gauge, mut now) = (PressureGauge::NONE, 0);
        let mut falls = 0_u64;
        let mut first = now;
        for (passed, wanted, state) in steps {
            now += passed;
            let before = gauge.level();
            gauge.update(now, state, wanted);
            prop_assert!(gauge.level() >= Level::for_guest(state, wanted));
            if gauge.level() < before {
                falls += 1;
            }
            first = first.min(now);
        }
        // A fall takes its hold: there are no more than fit into the time.
        prop_assert!(falls <= (now - first) / HOLD_MS + 1);
        gauge.update(now + 1, HostState::High, 0);
        gauge.update(now + 1 + HOLD_MS, HostState::High, 0);
        gauge.update(now + 1 + 2 * HOLD_MS, HostState::High, 0);
        gauge.update(now + 1 + 3 * HOLD_MS, HostState::High, 0);
        prop_assert!(gauge.level() == Level::None);
    }
}
