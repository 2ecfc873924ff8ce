//! Who is suspended, and when it goes on.

use super::super::{Rank, Resumption, Suspended, may_resume, whom_to_suspend};
use super::THRESHOLDS;

fn rank(guest: usize, priority: u8) -> Rank {
    Rank {
        guest,
        priority,
        weight: 100,
        waits: false,
        has_more: true,
        can_give: true,
    }
}

fn whom(ranks: &[Rank]) -> Option<usize> {
    whom_to_suspend(ranks.iter().copied())
}

#[test]
fn the_lowest_priority_then_the_lowest_weight_then_the_last() {
    let waiter = Rank {
        waits: true,
        ..rank(0, 200)
    };
    assert_eq!(whom(&[waiter, rank(1, 100), rank(2, 50)]), Some(2));
    assert_eq!(whom(&[waiter, rank(1, 100), rank(2, 100)]), Some(2));
    let light = Rank {
        weight: 50,
        ..rank(1, 100)
    };
    assert_eq!(whom(&[waiter, light, rank(2, 100)]), Some(1));
    let reserved = Rank {
        has_more: false,
        ..rank(2, 50)
    };
    assert_eq!(whom(&[waiter, rank(1, 100), reserved]), Some(1));
}

#[test]
fn nobody_is_suspended_in_vain() {
    assert_eq!(whom(&[rank(0, 100), rank(1, 50)]), None, "nobody waits");
    let waiter = |guest, priority| Rank {
        waits: true,
        ..rank(guest, priority)
    };
    assert_eq!(
        whom(&[rank(0, 100), waiter(1, 50)]),
        None,
        "it would be for itself"
    );
    assert_eq!(whom(&[waiter(0, 100), waiter(1, 50)]), Some(1));
    let refused = Rank {
        can_give: false,
        ..rank(1, 50)
    };
    assert_eq!(
        whom(&[waiter(0, 100), refused, rank(2, 80)]),
        None,
        "not another one in its place"
    );
    assert_eq!(whom(&[]), None);
}

#[test]
fn it_goes_on_when_there_is_room_or_nobody_else_or_after_long() {
    let short = Suspended {
        for_ms: 5_000,
        held: 1_000,
        is_waited_for: false,
        is_alone: false,
        free: 1_199,
        total: 10_000,
        thresholds: THRESHOLDS,
    };
    let enough = Suspended { free: 1_200, ..short };
    assert_eq!(may_resume(&short), None);
    assert_eq!(may_resume(&enough), Some(Resumption::MemoryBack));
    assert_eq!(
        may_resume(&Suspended {
            is_waited_for: true,
            ..enough
        }),
        None
    );
    assert_eq!(
        may_resume(&Suspended {
            for_ms: 999,
            ..enough
        }),
        None
    );
    let alone = Suspended {
        is_alone: true,
        ..short
    };
    assert_eq!(may_resume(&alone), Some(Resumption::Alone));
    let long = Suspended {
        for_ms: 60_000,
        is_waited_for: true,
        ..short
    };
    assert_eq!(may_resume(&long), Some(Resumption::LongEnough));
}
