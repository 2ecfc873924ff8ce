//! What a guest is entitled to.
//!
//! The words are those of ESX (Waldspurger, "Memory Resource Management in VMware ESX Server", OSDI 2002): a guest
//! *believes* that it has what it was promised; it always *can* have its reservation, and never *has* more than its
//! limit. Between the two its shares decide, against the shares of others.

use super::amount::{Amount, percent_of};
use core::fmt;

/// The highest idle tax. At 100 percent a frame that is not used would cost without end, and nothing else
/// would count.
pub const IDLE_TAX_MAX_PERCENT: u8 = 99;

/// The most frames that a guest can be promised: 48 bits of guest-physical address, which is what 4-level EPT
/// translates (SDM vol. 3C, 30.3.2).
pub const PROMISED_MAX: u64 = 1 << 36;

/// What an operator wrote down for a guest, unchecked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wishes {
    /// The memory that the guest sees, in frames.
    pub promised: u64,
    /// What it can always have, in frames.
    pub reservation: u64,
    /// What it can have at most, in frames, which may be more than it was promised today, for a guest that can grow;
    /// `None`: all that it was promised, also when that grows.
    pub limit: Option<u64>,
    /// Its part of what is left beyond the reservations.
    pub shares: u32,
    /// Who is asked first among equals, and stopped first: the lowest.
    pub priority: u8,
    /// How much more a frame costs that is not used: 75 means that it counts four times.
    pub idle_tax_percent: u8,
    /// Page cache beyond so many percent of the limit goes first when memory is short.
    pub cache_soft_percent: u8,
    /// Page cache beyond so many percent of the limit is taken always.
    pub cache_strict_percent: u8,
}

/// What a guest is entitled to: reservation <= limit <= promised. In frames of 4 KiB.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Terms {
    wishes: Wishes,
}

/// Which of the terms.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// The promised memory.
    Promised,
    /// The reservation.
    Reservation,
    /// The limit.
    Limit,
    /// The shares.
    Shares,
    /// The idle tax.
    IdleTax,
    /// The soft limit of the page cache.
    CacheSoft,
    /// The strict limit of the page cache.
    CacheStrict,
}

impl Place {
    /// Its name, as in a configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Promised => "memory",
            Self::Reservation => "reservation",
            Self::Limit => "limit",
            Self::Shares => "shares",
            Self::IdleTax => "idle_tax",
            Self::CacheSoft => "cache_soft",
            Self::CacheStrict => "cache_strict",
        }
    }

    const fn unit(self) -> Unit {
        match self {
            Self::Promised | Self::Reservation | Self::Limit => Unit::Frames,
            Self::Shares => Unit::Number,
            Self::IdleTax | Self::CacheSoft | Self::CacheStrict => Unit::Percent,
        }
    }
}

#[derive(Clone, Copy)]
enum Unit {
    Frames,
    Number,
    Percent,
}

/// A number with its unit, to be shown.
struct Quantity(u64, Unit);

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            Unit::Frames => Amount(self.0).fmt(f),
            Unit::Number => self.0.fmt(f),
            Unit::Percent => write!(f, "{} %", self.0),
        }
    }
}

/// Terms that cannot be. It displays as `reservation of 128 MiB is not allowed: 0 MiB to 96 MiB (the limit)`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TermsError {
    /// Where.
    pub place: Place,
    /// What was wished for, in frames, percent, or a plain number.
    pub found: u64,
    /// The least that is allowed.
    pub least: u64,
    /// The most that is allowed.
    pub most: u64,
}

impl fmt::Display for TermsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = self.place.unit();
        let shown = |number| Quantity(number, unit);
        let (found, least, most) = (shown(self.found), shown(self.least), shown(self.most));
        write!(
            f,
            "{} of {found} is not allowed: {least} to {most}",
            self.place.name()
        )?;
        match self.place {
            Place::Reservation => f.write_str(" (the limit)"),
            _ => Ok(()),
        }
    }
}

impl core::error::Error for TermsError {}

impl Terms {
    /// Checks what was wished for. A soft limit of the cache beyond the strict one is allowed: it has no effect.
    ///
    /// # Errors
    /// The first of the terms that cannot be, and what is allowed there.
    pub fn new(wishes: Wishes) -> Result<Self, TermsError> {
        let within = |place, found, least, most| {
            let is_allowed = (least..=most).contains(&found);
            let refusal = TermsError {
                place,
                found,
                least,
                most,
            };
            is_allowed.then_some(()).ok_or(refusal)
        };
        let limit = wishes.limit.unwrap_or(wishes.promised);
        let most_reserved = limit.min(wishes.promised);
        let tax = u64::from(wishes.idle_tax_percent);
        within(Place::Promised, wishes.promised, 1, PROMISED_MAX)?;
        within(Place::Limit, limit, 1, PROMISED_MAX)?;
        within(Place::Reservation, wishes.reservation, 0, most_reserved)?;
        within(Place::Shares, u64::from(wishes.shares), 1, u64::from(u32::MAX))?;
        within(Place::IdleTax, tax, 0, u64::from(IDLE_TAX_MAX_PERCENT))?;
        within(Place::CacheSoft, u64::from(wishes.cache_soft_percent), 0, 100)?;
        within(Place::CacheStrict, u64::from(wishes.cache_strict_percent), 0, 100)?;
        Ok(Self { wishes })
    }

    /// The same terms for a guest that has grown or shrunk (virtio-mem). A limit of "all of it" goes along.
    ///
    /// # Errors
    /// It shrinks below its reservation.
    pub fn resized(&self, promised: u64) -> Result<Self, TermsError> {
        Self::new(Wishes {
            promised,
            ..self.wishes
        })
    }

    /// The memory that the guest sees.
    #[must_use]
    pub const fn promised(&self) -> u64 {
        self.wishes.promised
    }

    /// What it can always have.
    #[must_use]
    pub const fn reservation(&self) -> u64 {
        self.wishes.reservation
    }

    /// What it can have at most, today: never more than it was promised.
    #[must_use]
    pub const fn limit(&self) -> u64 {
        match self.wishes.limit {
            Some(limit) if limit < self.wishes.promised => limit,
            _ => self.wishes.promised,
        }
    }

    /// Its part of what is left beyond the reservations; at least 1.
    #[must_use]
    pub const fn shares(&self) -> u32 {
        self.wishes.shares
    }

    /// Who is asked first among equals, and stopped first: the lowest.
    #[must_use]
    pub const fn priority(&self) -> u8 {
        self.wishes.priority
    }

    /// The idle tax, 0 to [`IDLE_TAX_MAX_PERCENT`].
    #[must_use]
    pub const fn idle_tax_percent(&self) -> u8 {
        self.wishes.idle_tax_percent
    }

    /// Page cache beyond so many frames goes first when memory is short. Never more than
    /// [`Terms::cache_strict`].
    #[must_use]
    pub fn cache_soft(&self) -> u64 {
        let soft = percent_of(u64::from(self.wishes.cache_soft_percent), self.limit());
        soft.min(self.cache_strict())
    }

    /// Page cache beyond so many frames is taken always.
    #[must_use]
    pub fn cache_strict(&self) -> u64 {
        percent_of(u64::from(self.wishes.cache_strict_percent), self.limit())
    }

    /// Whether the strict limit of the cache can ever matter.
    #[must_use]
    pub const fn has_strict_cache(&self) -> bool {
        self.wishes.cache_strict_percent < 100
    }

    /// Whether the soft limit of the cache can ever matter.
    #[must_use]
    pub const fn has_soft_cache(&self) -> bool {
        self.wishes.cache_soft_percent < 100
    }
}
