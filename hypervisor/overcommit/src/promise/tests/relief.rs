//! Plans, case by case: page cache, what goes back, and guests in need.

use super::targets::{frames, full, inflated, planned, saying};
use super::world::THRESHOLDS;
use super::{mib, terms, wishes};
use crate::promise::{Claims, GuestView, HostState, HostView, MAX_GUESTS, Reason, Wishes, plan};
use arrayvec::ArrayVec;

#[test]
fn cache_beyond_the_strict_limit_is_taken_always() {
    let mut view = full(Wishes {
        cache_strict_percent: 25,
        ..wishes(mib(400))
    });
    view.claims = saying(mib(10), mib(200), mib(120));
    let targets = planned(HostState::High, mib(700), &[view]);
    assert_eq!(
        (frames(&targets)[0], targets[0].reason, targets[0].wanted),
        (mib(20), Reason::CacheStrict, 0)
    );
    // It is not given back while what is free could become cache beyond the limit ...
    let mut view = inflated(view, mib(60), Reason::CacheStrict);
    view.claims = Claims {
        ballooned: mib(60),
        ..saying(mib(10), mib(100), mib(90))
    };
    assert_eq!(frames(&planned(HostState::High, mib(700), &[view])), [mib(60)]);
    // ... and is when computation has pushed cache out.
    view.claims = Claims {
        ballooned: mib(60),
        ..saying(mib(5), mib(80), mib(75))
    };
    let targets = planned(HostState::High, mib(700), &[view]);
    assert_eq!(
        (frames(&targets)[0], targets[0].reason),
        (mib(40), Reason::Return)
    );
}

#[test]
fn cache_beyond_the_soft_limit_goes_before_any_computation() {
    let mut cached = full(Wishes {
        cache_soft_percent: 25,
        shares: 1000,
        ..wishes(mib(400))
    });
    cached.claims = saying(mib(10), mib(200), mib(180));
    let busy = full(Wishes {
        shares: 1,
        ..wishes(mib(400))
    });
    assert_eq!(
        frames(&planned(HostState::High, mib(65), &[busy, cached])),
        [0, 0]
    );
    let targets = planned(HostState::Soft, mib(55), &[busy, cached]);
    assert_eq!(frames(&targets), [0, mib(15)]);
    assert_eq!(targets[1].reason, Reason::CacheSoft);
    // Within its soft limit it is like any other memory.
    cached.claims = saying(mib(10), mib(200), mib(100));
    let targets = planned(HostState::Soft, mib(55), &[busy, cached]);
    assert_eq!(frames(&targets), [mib(15), 0]);
}

#[test]
fn memory_goes_back_step_by_step_and_only_where_there_is_enough() {
    let view = inflated(full(wishes(mib(400))), mib(200), Reason::Shortage);
    // Between the bound and the margin above it nothing moves.
    for free in [61, 69, 70, 79, 80] {
        let targets = planned(HostState::High, mib(free), &[view]);
        assert_eq!(
            (frames(&targets)[0], targets[0].reason),
            (mib(200), Reason::Shortage),
            "{free}"
        );
    }
    // Half of what is beyond.
    let targets = planned(HostState::High, mib(100), &[view]);
    assert_eq!(
        (frames(&targets)[0], targets[0].reason),
        (mib(190), Reason::Return)
    );
    // A sixteenth of the guest at most.
    assert_eq!(frames(&planned(HostState::High, mib(500), &[view])), [mib(175)]);
    // Nothing more goes back to who has not used what it got, unless there is memory for all of that.
    let unused = GuestView {
        held: mib(160),
        ..view
    };
    assert_eq!(frames(&planned(HostState::High, mib(120), &[unused])), [mib(200)]);
}

#[test]
fn a_guest_in_need_is_relieved_by_the_idle() {
    let mut needy = inflated(full(wishes(mib(400))), mib(300), Reason::Shortage);
    needy.claims = Claims {
        ballooned: mib(300),
        ..saying(mib(1), mib(2), mib(1))
    };
    let mut idle = full(wishes(mib(400)));
    idle.claims = saying(mib(200), mib(250), mib(50));
    // The host has nothing to spare. Two cushions would be 50 MiB; a sixteenth of the idle guest is 25.
    let targets = planned(HostState::High, mib(65), &[needy, idle]);
    // Without anybody's help it is left with one cushion of the 302 MiB that its balloon could hold; the idle one gives
    // the second.
    assert_eq!(frames(&targets), [mib(302 - 50), mib(25)]);
    assert_eq!(
        (targets[0].reason, targets[1].reason),
        (Reason::Return, Reason::Shortage)
    );
    // What the host has to spare goes first.
    let targets = planned(HostState::High, mib(200), &[needy, idle]);
    assert_eq!(frames(&targets), [mib(300 - 48), 0]);
    // Who says nothing, and pays more for its frames, does not give.
    let mut rich = idle;
    rich.claims = Claims::default();
    rich.terms = terms(Wishes {
        shares: 10_000,
        ..wishes(mib(400))
    });
    assert_eq!(
        frames(&planned(HostState::High, mib(65), &[needy, rich])),
        [mib(302 - 25), 0]
    );
}

#[test]
fn who_says_that_it_has_nothing_to_spare_cannot_keep_what_others_are_entitled_to() {
    let mut needy = inflated(full(wishes(mib(400))), mib(300), Reason::Shortage);
    needy.claims = Claims {
        ballooned: mib(300),
        ..saying(0, mib(2), 0)
    };
    let mut liar = full(wishes(mib(400)));
    liar.claims = saying(0, 0, 0);
    // A quarter of what is free, beyond its cushion, goes to the guest in need, until the host is low, and the liar is asked.
    assert_eq!(
        frames(&planned(HostState::Soft, mib(60), &[needy, liar])),
        [mib(302 - 25) - mib(60 - 23) / 4, 0]
    );
    let targets = planned(HostState::Low, mib(15), &[needy, liar]);
    assert_eq!(frames(&targets), [mib(300), mib(50)]);
}

#[test]
fn no_more_guests_than_there_can_be() {
    let views = std::vec![full(wishes(mib(16))); 70];
    let host = HostView {
        state: HostState::Low,
        free: 0,
        total: mib(1000),
        thresholds: THRESHOLDS,
    };
    let mut out = ArrayVec::new();
    plan(&host, &views, &mut out);
    assert_eq!(out.len(), MAX_GUESTS);
    plan(&host, &[], &mut out);
    assert!(out.is_empty());
}
