//! Which page holds what, and what a host may make of it.

use pleat_guest::contents::{Content, seed_of};
use pleat_guest::parameters::Parameters;

/// Why a page holds what it holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// As the first page of `Within`; it is rewritten all the time.
    Volatile,
    /// All zeros.
    Zero,
    /// As some other pages of this guest.
    Within,
    /// As one page of every guest with this seed.
    Common,
    /// As no other page, but nearly so.
    Unique,
}

/// What of this guest is to be merged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Merged {
    All,
    /// All but what only other guests have.
    Inside,
    Nothing,
}

/// The ideal: counts of pages, and what they hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    volatile: usize,
    zero: usize,
    within: usize,
    copies: usize,
    common: usize,
    unique: usize,
    seed: u64,
    own: u64,
    merged: Merged,
    stride: usize,
}

impl Plan {
    pub(crate) fn new(parameters: Parameters<'_>) -> Self {
        let merged = match parameters.text("merged").unwrap_or("all") {
            "all" => Merged::All,
            "inside" => Merged::Inside,
            "nothing" => Merged::Nothing,
            other => panic!("merged={other}: expected all, inside or nothing"),
        };
        let mut plan = Self {
            volatile: parameters.count("volatile", 0),
            zero: parameters.count("zero", 0),
            within: parameters.count("within", 0),
            copies: parameters.count("copies", 4).max(1),
            common: parameters.count("common", 0),
            unique: parameters.count("unique", 0),
            seed: parameters.number("seed", 1),
            own: parameters.number("own", 1),
            merged,
            stride: 1,
        };
        let calm = plan.len() - plan.volatile;
        // A stride without a common factor with the length visits every number once.
        plan.stride = (calm / 3 + 1..)
            .find(|stride| are_coprime(*stride, calm))
            .unwrap_or(1);
        plan
    }

    /// How many pages have a part in it.
    pub(crate) const fn len(&self) -> usize {
        self.volatile + self.zero + self.within + self.common + self.unique
    }

    /// How many are rewritten all the time: the first ones.
    pub(crate) const fn volatile(&self) -> usize {
        self.volatile
    }

    /// The seed that only this guest has.
    pub(crate) const fn own(&self) -> u64 {
        self.own
    }

    /// Kind and number in its kind of a page. The kinds take turns, so that they are mixed.
    pub(crate) fn kind(&self, index: usize) -> (Kind, usize) {
        if index < self.volatile {
            return (Kind::Volatile, index);
        }
        let calm = self.len() - self.volatile;
        let mut number = ((index - self.volatile) * self.stride) % calm;
        for (kind, count) in [
            (Kind::Zero, self.zero),
            (Kind::Within, self.within),
            (Kind::Common, self.common),
        ] {
            if number < count {
                return (kind, number);
            }
            number -= count;
        }
        (Kind::Unique, number)
    }

    pub(crate) fn content(&self, index: usize) -> Content {
        let (kind, number) = self.kind(index);
        match kind {
            Kind::Volatile => Content::seeded(seed_of(&[self.own, 1, 0])),
            Kind::Zero => Content::Zero,
            Kind::Within => Content::seeded(seed_of(&[self.own, 1, (number / self.copies) as u64])),
            Kind::Common => Content::common(self.seed, number as u64),
            Kind::Unique => Content::near(seed_of(&[self.own, 3]), number),
        }
    }

    /// Whether a page must be merged, or must not be; `None` where both are right.
    pub(crate) fn must_be_merged(&self, index: usize) -> Option<bool> {
        let is_any = self.merged != Merged::Nothing;
        match self.kind(index).0 {
            Kind::Volatile => None,
            Kind::Zero => Some(is_any),
            Kind::Within => Some(is_any && self.copies > 1),
            Kind::Common => Some(self.merged == Merged::All),
            Kind::Unique => Some(false),
        }
    }
}

const fn are_coprime(a: usize, b: usize) -> bool {
    let (mut a, mut b) = (a, b);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a == 1
}
