//! Random guests, as far as all kinds of them are alike: what they do to their memory, how they end, and what has to
//! hold of a run.

use crate::fake::Op;
use crate::merging::{finish, page, sleep};
use crate::merging_breaks::{assert_audits_clean, reboot};
use crate::oracle::Oracle;
use crate::scenario::Report;
use pleat_bundle::config::{GuestConfig, OnReboot, Pages, ReclaimConfig};
use pleat_vmm::Outcome;
use proptest::prelude::{Just, Strategy, any, prop_oneof};

/// The first page that can lie in a mapping of 2 MiB.
pub const LARGE_FIRST: u64 = 0xb0;

/// What a guest does next to its memory.
#[derive(Clone, Debug)]
pub enum Act {
    /// Fills pages with one word.
    Fill { first: u64, count: u64, word: u64 },
    /// Fills pages with words of their own.
    Count { first: u64, count: u64, word: u64 },
    /// Stores a word at any byte of a page; it may end in the next one.
    Store { page: u64, offset: u64, word: u64 },
    /// Compares some words of a page.
    Check { page: u64 },
    /// Uses time.
    Spin { turns: usize },
}

/// What becomes of a guest in the end.
#[derive(Clone, Copy, Debug)]
pub enum End {
    Sleeps,
    Finishes,
    Restarts,
}

/// A guest and all that it does.
#[derive(Clone, Debug)]
pub struct Life<A> {
    pub config: GuestConfig<'static>,
    pub acts: Vec<A>,
    pub end: End,
}

/// Few pages, so that contents meet.
pub fn any_page() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 0u64..12, 2 => LARGE_FIRST..LARGE_FIRST + 12, 1 => 0u64..600]
}

/// Few contents, and now and then all of a large mapping.
pub fn act() -> impl Strategy<Value = Act> {
    let count = || prop_oneof![4 => 1u64..6, 1 => 1u64..100];
    let word = || prop_oneof![1 => Just(0u64), 4 => 1u64..4, 1 => any::<u64>()];
    prop_oneof![
        4 => (any_page(), count(), word()).prop_map(|(first, count, word)| Act::Fill { first, count, word }),
        2 => (any_page(), count(), 0u64..8).prop_map(|(first, count, word)| Act::Count { first, count, word }),
        1 => (Just(LARGE_FIRST), 400u64..513, 0u64..8)
            .prop_map(|(first, count, word)| Act::Count { first, count, word }),
        6 => (any_page(), prop_oneof![Just(0u64), 0u64..4096, 4085u64..4096], word())
            .prop_map(|(page, offset, word)| Act::Store { page, offset, word }),
        4 => any_page().prop_map(|page| Act::Check { page }),
        4 => (1usize..30).prop_map(|turns| Act::Spin { turns }),
    ]
}

/// One of two domains, one of two sizes of pages, one of three ends.
pub fn kind() -> impl Strategy<Value = (&'static str, Pages, End)> {
    let domain = prop_oneof![2 => Just("one"), 1 => Just("two")];
    let pages = prop_oneof![Just(Pages::Small), Just(Pages::Large)];
    let end = prop_oneof![4 => Just(End::Sleeps), 1 => Just(End::Finishes), 2 => Just(End::Restarts)];
    (domain, pages, end)
}

/// The pages of a guest that its acts go round in. The last one stays out: no word may end behind it.
pub fn pages_of(config: &GuestConfig<'_>) -> u64 {
    (config.memory_bytes >> 12) - (page(0) >> 12) - 1
}

impl Act {
    /// What the guest does for it, among so many pages.
    pub fn steps(&self, pages: u64, oracle: &Oracle) -> Vec<Op> {
        match *self {
            Self::Fill { first, count, word } => (first..first + count)
                .map(|n| Op::StorePage(page(n % pages), word))
                .collect(),
            Self::Count { first, count, word } => (first..first + count)
                .map(|n| Op::StorePage(page(n % pages), word + n % 64))
                .collect(),
            Self::Store {
                page: n,
                offset,
                word,
            } => vec![Op::Store(page(n % pages) + offset, word)],
            Self::Check { page: n } => check(oracle, n % pages).collect(),
            Self::Spin { turns } => vec![Op::Spin(10_000); turns],
        }
    }
}

/// Three words of a page and one over its end.
fn check(oracle: &Oracle, n: u64) -> impl Iterator<Item = Op> {
    let places = [0, 2040, 4088, 4091].map(|offset| page(n) + offset);
    places.map(|gpa| Op::Expect(gpa, oracle.word(gpa))).into_iter()
}

impl<A> Life<A> {
    /// A guest that can end like this.
    pub fn new(mut config: GuestConfig<'static>, acts: Vec<A>, end: End) -> Self {
        if matches!(end, End::Restarts) {
            config.on_reboot = OnReboot::Restart;
        }
        Self { config, acts, end }
    }

    /// Comparisons of the first pages, and the end.
    pub fn last_steps(&self, oracle: &Oracle) -> Vec<Op> {
        let mut steps: Vec<Op> = (0..24).flat_map(|n| check(oracle, n)).collect();
        steps.extend(match self.end {
            End::Sleeps => sleep(),
            End::Finishes => vec![finish()],
            End::Restarts => vec![reboot()],
        });
        steps
    }
}

/// How many cases are tried.
pub fn cases() -> u32 {
    let cases = std::env::var("PROPTEST_CASES").ok();
    cases.and_then(|cases| cases.parse().ok()).unwrap_or(12)
}

/// What holds of every run. Nothing fails but guests that find no memory: for such reasons.
pub fn check_run(report: &Report, excuses: &[&str]) {
    assert_audits_clean(&report.answers());
    let failures = report.stats()["failures"].as_array().expect("a list");
    let is_excused = |failure: &serde_json::Value| {
        let text = failure.as_str().unwrap_or("");
        excuses.iter().any(|excuse| text.contains(excuse))
    };
    assert!(failures.iter().all(is_excused), "{failures:?}");
    assert!(report.outcome == Outcome::Ok || !failures.is_empty());
    report.check_memory();
}

/// Off, on as usual, and so that pages come and go all the time.
pub fn reclaim() -> impl Strategy<Value = ReclaimConfig> {
    let cold = prop_oneof![1 => Just(None), 3 => (1u8..4).prop_map(Some)];
    let busy = (prop_oneof![Just(30u32), Just(200), Just(1000)], cold, 0u8..76).prop_map(
        |(generation_us, cold_generations, compressed_percent)| ReclaimConfig {
            is_on: true,
            generation_us,
            cold_generations,
            compressed_percent,
        },
    );
    prop_oneof![1 => Just(ReclaimConfig::OFF), 1 => Just(ReclaimConfig::default()), 5 => busy]
}
