//! Who may start: reservations that fit into the machine together.

use crate::guest::Guest;
use crate::host::Host;
use crate::loader::LoadError;
use crate::run::Hypervisor;
use pleat_bundle::config::Terms as Configured;
use pleat_overcommit::ledger::Counts;
use pleat_overcommit::promise::{Book, Terms, TermsError, Thresholds, Wishes, overhead};
use pleat_types::{FRAME_SIZE, Platform};

/// Frames beside Pleat's own and the images that stay, less a floor that keeps the host out of the low state.
pub(crate) fn book(counts: &Counts, thresholds: &Thresholds, images: u64) -> Book {
    let own = counts.image + counts.metadata + counts.lists + counts.zero + images;
    let floor = counts.total * u64::from(thresholds.low_below_percent) / 100;
    Book::new(counts.total.saturating_sub(own), floor)
}

/// The configuration's terms for so many frames of memory, checked.
fn terms(configured: &Configured, promised: u64) -> Result<Terms, TermsError> {
    let frames = |bytes: u64| bytes / FRAME_SIZE as u64;
    Terms::new(Wishes {
        promised,
        reservation: frames(configured.reservation_bytes),
        limit: configured.limit_bytes.map(frames),
        shares: configured.shares,
        priority: configured.priority,
        idle_tax_percent: configured.idle_tax_percent,
        cache_soft_percent: configured.cache_soft_percent,
        cache_strict_percent: configured.cache_strict_percent,
    })
}

impl<P: Platform> Hypervisor<P> {
    /// Sets a guest's reservation aside, if it has not been; a guest that starts again has kept it.
    pub(crate) fn admit(&mut self, index: usize) -> Result<(), LoadError> {
        let Some(slot) = self.slots.get_mut(index) else {
            return Ok(());
        };
        let guest = &mut slot.guest;
        if guest.cooperation.terms.is_some() {
            return Ok(());
        }
        let terms = terms(&guest.config.terms, guest.space.ram.frames()).map_err(LoadError::Terms)?;
        // What is not reserved takes its tables from what there is.
        let cost = overhead(terms.reservation(), P::VCPU_FRAMES as u64);
        let admitted = self.book.enter(guest.id, &terms, cost);
        self.host.report_admission(guest, &terms, admitted.is_ok());
        admitted.map_err(LoadError::Refused)?;
        guest.cooperation.terms = Some(terms);
        guest.memory.reserve(terms.reservation());
        Ok(())
    }

    /// What was set aside for a guest is there for others.
    pub(crate) fn dismiss(&mut self, index: usize) {
        if let Some(slot) = self.slots.get_mut(index)
            && slot.guest.cooperation.terms.take().is_some()
        {
            self.book.leave(slot.guest.id);
            slot.guest.memory.reserve(0);
        }
    }
}

impl<P: Platform> Host<P> {
    fn report_admission(&mut self, guest: &Guest, terms: &Terms, is_admitted: bool) {
        let record = self.record("promise").text("guest", guest.config.name);
        record
            .text("outcome", if is_admitted { "admitted" } else { "refused" })
            .number("promised", terms.promised())
            .number("reservation", terms.reservation())
            .number("limit", terms.limit())
            .end();
    }
}
