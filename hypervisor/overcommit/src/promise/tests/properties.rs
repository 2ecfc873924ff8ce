//! What holds for all guests, whatever they do. [`super::world`] checks each plan: never below the reservation, never
//! beyond what was promised, never below the operator's target, no step too large.

use super::world::{Guest, Manner, THRESHOLDS, World, check};
use super::{mib, wishes};
use crate::promise::{
    Asked, Claims, GuestView, Health, HostState, HostView, MAX_GUESTS, OutOfMemory, Reason, Terms, Wishes,
    cushion, plan, survival,
};
use arrayvec::ArrayVec;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::{
    Just, ProptestConfig, Strategy, any, prop_assert, prop_assert_eq, prop_assume, prop_oneof, proptest,
};

fn any_terms() -> impl Strategy<Value = Terms> {
    let percents = (0..=99_u8, 0..=100_u8, 0..=100_u8);
    let amounts = (1..mib(300), any::<u64>(), any::<u64>(), any::<bool>());
    (amounts, 1..1000_u32, any::<u8>(), percents).prop_map(|(amounts, shares, priority, percents)| {
        let (promised, limit, reservation, has_limit) = amounts;
        let limit = has_limit.then_some(1 + limit % promised);
        let reservation = reservation % (limit.unwrap_or(promised) + 1);
        let (idle_tax_percent, cache_soft_percent, cache_strict_percent) = percents;
        super::terms(Wishes {
            promised,
            reservation,
            limit,
            shares,
            priority,
            idle_tax_percent,
            cache_soft_percent,
            cache_strict_percent,
        })
    })
}

fn any_claims() -> impl Strategy<Value = Claims> {
    let claim = || option::of(prop_oneof![any::<u64>(), 0..mib(300)]);
    let numbers = (claim(), claim(), claim(), claim(), 0..mib(300));
    numbers.prop_map(|(total, free, available, disk_caches, ballooned)| Claims {
        total,
        free,
        available,
        disk_caches,
        ballooned,
    })
}

fn any_state() -> impl Strategy<Value = HostState> {
    prop_oneof![
        Just(HostState::High),
        Just(HostState::Soft),
        Just(HostState::Hard),
        Just(HostState::Low)
    ]
}

fn any_view() -> impl Strategy<Value = GuestView> {
    let health = prop_oneof![4 => Just(Health::Moving), 1 => Just(Health::Stuck), 1 => Just(Health::Absent)];
    let reason = prop_oneof![
        Just(Reason::Rest),
        Just(Reason::Limit),
        Just(Reason::CacheStrict),
        Just(Reason::CacheSoft),
        Just(Reason::Shortage),
        Just(Reason::Operator),
        Just(Reason::Return)
    ];
    let number = || prop_oneof![4 => 0..mib(300), 1 => any::<u64>()];
    let numbers = (number(), number(), 0..mib(300), number(), option::of(number()));
    let out_of_memory = prop_oneof![Just(OutOfMemory::Deflates), Just(OutOfMemory::Kills)];
    let manner = (health, out_of_memory);
    (any_terms(), any_claims(), manner, reason, numbers).prop_map(
        |(terms, claims, (health, out_of_memory), reason, numbers)| {
            let (untouched, held, ballooned, frames, left) = numbers;
            GuestView {
                terms,
                held,
                untouched,
                ballooned: ballooned.min(terms.promised()),
                health,
                told: Asked { frames, reason },
                out_of_memory,
                left,
                claims,
            }
        },
    )
}

/// A guest for a world, whose computation fits into what it is left with.
fn any_guest() -> impl Strategy<Value = Guest> {
    let manner = prop_oneof![
        4 => Just(Manner::Obeys(mib(64))),
        2 => Just(Manner::Obeys(mib(1))),
        2 => Just(Manner::Silent(mib(16))),
        1 => Just(Manner::Lies(mib(16))),
        1 => Just(Manner::Stuck),
        1 => Just(Manner::Absent)
    ];
    let percent = || prop_oneof![2 => Just(100_u8), 1 => 20..=100_u8];
    let amounts = (64..256_u64, 0..=100_u64, 0..=100_u64, 0..=300_u64);
    let terms = (1..1000_u32, percent(), percent(), percent());
    (amounts, terms, manner, any::<bool>()).prop_map(|(amounts, terms, manner, reports)| {
        let (promised, reservation, demand, cache) = amounts;
        let (shares, limit, cache_soft_percent, cache_strict_percent) = terms;
        let limit = mib(promised) * u64::from(limit) / 100;
        let wishes = Wishes {
            limit: Some(limit),
            reservation: limit * reservation / 100,
            shares,
            cache_soft_percent,
            cache_strict_percent,
            ..wishes(mib(promised))
        };
        let mut guest = Guest::new(wishes, manner);
        guest.reports = reports;
        guest.cache_wish = mib(cache);
        // A guest of which nothing is known gets no less than what keeps it alive: it must live on that.
        let most = match manner {
            Manner::Obeys(_) => limit.saturating_sub(cushion(mib(promised))),
            _ => survival(mib(promised)).min(limit),
        };
        guest.demand = most * demand / 100;
        guest
    })
}

/// What a guest holds at least when it has given all that it can be asked for outside of the low state.
fn least(guest: &Guest) -> u64 {
    let promised = guest.terms.promised();
    let wanted = (guest.demand + guest.cache_wish).min(promised);
    let kept = match guest.manner {
        Manner::Obeys(_) => guest.demand + cushion(promised),
        Manner::Silent(_) => survival(promised).min(guest.terms.limit()),
        Manner::Lies(_) | Manner::Stuck | Manner::Absent => promised,
    };
    wanted.min(kept.max(guest.terms.reservation()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn no_input_breaks_the_bounds(
        views in vec(any_view(), 0..12),
        state in any_state(),
        free in prop_oneof![0..mib(100), any::<u64>()],
    ) {
        let host = HostView { state, free, total: mib(1000), thresholds: THRESHOLDS };
        let (mut out, mut again) = (ArrayVec::<_, MAX_GUESTS>::new(), ArrayVec::new());
        plan(&host, &views, &mut out);
        check(state, &views, &out);
        plan(&host, &views, &mut again);
        prop_assert_eq!(&out, &again, "deterministic");
        for (view, target) in views.iter().zip(&out) {
            // A balloon that cannot be counted on is not asked for more because the host is short.
            let is_raised = target.frames > view.told.frames.max(target.firm);
            prop_assert!(!is_raised || view.health == Health::Moving);
            // With enough memory nobody is asked, but for others in need.
            let is_asked = target.reason == Reason::CacheSoft && is_raised;
            prop_assert!(!is_asked || state != HostState::High);
        }
    }

    #[test]
    fn a_claim_costs_no_other_guest_more_than_what_it_says_itself_that_it_can_spare(
        mut views in vec(any_view(), 2..8),
        claims in any_claims(),
        state in any_state(),
        free in 0..mib(100),
    ) {
        // Whatever the first one claims, outside of the low state the others are left with their cushions.
        prop_assume!(state != HostState::Low);
        views[0].claims = claims;
        let host = HostView { state, free, total: mib(1000), thresholds: THRESHOLDS };
        let mut out = ArrayVec::<_, MAX_GUESTS>::new();
        plan(&host, &views, &mut out);
        for (view, target) in views.iter().zip(&out).skip(1) {
            let Some(available) = view.claims.available else { continue };
            let exhausted = view.claims.ballooned.saturating_add(available);
            let exhausted = exhausted.max(view.ballooned.saturating_add(view.untouched));
            let spared = exhausted.saturating_sub(cushion(view.terms.promised()));
            let most = spared.max(target.firm);
            prop_assert!(target.frames <= most);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn it_gets_to_the_high_state_when_that_is_possible_and_stays(
        guests in vec(any_guest(), 1..9),
        spare_mib in 2..200_u64,
    ) {
        // Just as much memory as it takes for the high state, and a little.
        let sum: u64 = guests.iter().map(least).sum();
        let total_mib = (sum * 100 / 93).div_ceil(256) + spare_mib;
        let mut world = World::new(total_mib, guests);
        world.run(1000);
        prop_assert_eq!(world.state, HostState::High, "{:#?}", world);
        let (told, held) = (world.told(), world.held());
        for _ in 0..100 {
            world.period();
            prop_assert_eq!(world.told(), told.clone());
            prop_assert_eq!(world.held(), held.clone());
            prop_assert_eq!(world.state, HostState::High);
        }
        prop_assert!(world.guests.iter().all(|guest| guest.used == guest.demand), "{:#?}", world);
    }

    #[test]
    fn demands_that_change_keep_the_bounds_and_the_sum(
        guests in vec(any_guest(), 1..7),
        total_mib in 64..1000_u64,
        changes in vec((0..7_usize, 0..=100_u64, 0..200_u64, 0..40_u64), 1..12),
    ) {
        // Possible or not: every period checks the plan, and that no more is held than there is.
        let mut world = World::new(total_mib, guests);
        for (at, demand, operator, periods) in changes {
            let count = world.guests.len();
            let guest = &mut world.guests[at % count];
            guest.demand = guest.terms.promised() * demand / 100;
            let promised = guest.terms.promised();
            guest.left = operator.checked_sub(100).map(|wanted| promised.saturating_sub(mib(wanted)));
            world.run(periods);
            let held: u64 = world.held().iter().sum();
            prop_assert_eq!(held + world.free(), world.total);
        }
        let line = world.line();
        prop_assert!(world.state != HostState::High || world.free() * 100 >= world.total * 6 || world.free() < line);
    }
}
