//! Frames by class.

use super::Ledger;
use super::record::State;

/// Frames by class; they add up to `total`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// All frames of memory that were added.
    pub total: u64,
    /// Free.
    pub free: u64,
    /// The hypervisor itself.
    pub image: u64,
    /// Records and other tables of Pleat's own.
    pub metadata: u64,
    /// The boot bundle, as far as it is still held.
    pub bundle: u64,
    /// Extended page tables.
    pub tables: u64,
    /// State of virtual processors.
    pub vcpus: u64,
    /// Owned by a page of a guest.
    pub guests: u64,
    /// The zero frame.
    pub zero: u64,
    /// Mapped by several equal pages.
    pub shared: u64,
    /// Lists of the pages that share a frame.
    pub lists: u64,
    /// The swap store's.
    pub swap: u64,
}

impl Counts {
    /// The sum of all classes; equal to `total` unless frames were lost.
    #[must_use]
    pub const fn sum(&self) -> u64 {
        self.free
            + self.image
            + self.metadata
            + self.bundle
            + self.tables
            + self.vcpus
            + self.guests
            + self.zero
            + self.shared
            + self.lists
            + self.swap
    }

    /// The counter of a class; memory that was never added has none.
    #[inline]
    pub(super) const fn class(&mut self, state: State) -> Option<&mut u64> {
        match state {
            State::Reserved | State::Tail => None,
            State::Free => Some(&mut self.free),
            State::Table => Some(&mut self.tables),
            State::Guest => Some(&mut self.guests),
            State::Vcpu => Some(&mut self.vcpus),
            State::Bundle => Some(&mut self.bundle),
            State::Image => Some(&mut self.image),
            State::Metadata => Some(&mut self.metadata),
            State::Zero => Some(&mut self.zero),
            State::Shared => Some(&mut self.shared),
            State::SharerList => Some(&mut self.lists),
            State::Swap => Some(&mut self.swap),
        }
    }
}

impl Ledger<'_> {
    #[inline]
    pub(super) fn count(&mut self, state: State, frames: u64) {
        if let Some(counter) = self.counts.class(state) {
            *counter += frames;
        }
    }

    /// Wrapping, so that a miscount is found by the audit and not by a panic.
    #[inline]
    pub(super) fn uncount(&mut self, state: State, frames: u64) {
        if let Some(counter) = self.counts.class(state) {
            *counter = counter.wrapping_sub(frames);
        }
    }

    /// Frames change their class.
    #[inline]
    pub(super) fn recount(&mut self, from: State, to: State, frames: u64) {
        self.uncount(from, frames);
        self.count(to, frames);
    }
}
