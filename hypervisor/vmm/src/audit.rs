//! Are all frames accounted for? The ledger against itself, each guest's tables against their
//! counters, and both against each other.

use crate::guest::Guest;
use crate::host::Host;
use crate::run::Hypervisor;
use arrayvec::ArrayString;
use core::fmt::{self, Write};
use pleat_types::Platform;

/// What an audit found: the first thing that is wrong, or nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Audit {
    finding: Option<ArrayString<120>>,
}

impl Audit {
    /// Nothing is wrong.
    pub(crate) const fn is_clean(&self) -> bool {
        self.finding.is_none()
    }

    /// `clean`, or what is wrong.
    pub(crate) fn text(&self) -> &str {
        self.finding.as_ref().map_or("clean", |finding| finding.as_str())
    }

    pub(crate) fn find(&mut self, text: fmt::Arguments<'_>) {
        if self.finding.is_none() {
            let mut finding = ArrayString::new();
            // A text that is too long is cut.
            let _ = finding.write_fmt(text);
            self.finding = Some(finding);
        }
    }
}

/// How deep an audit looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Depth {
    /// Every record and every entry of every table.
    Records,
    /// The lists of sharers, too, element by element: takes several times as long.
    Lists,
}

/// Frames that guests hold, by class.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Holdings {
    pub(crate) owned: u64,
    pub(crate) tables: u64,
    pub(crate) vcpus: u64,
    /// Mappings of shared frames: how many, and a sum over them that shows whose they are ([`weigh`]).
    pub(crate) shares: u64,
    pub(crate) weight: u64,
    /// References to slots of the swap store: how many, and such a sum over them.
    pub(crate) slots: u64,
    pub(crate) slot_weight: u64,
}

impl<P: Platform> Hypervisor<P> {
    /// Looks at every frame and every entry of every table.
    pub(crate) fn audit(&mut self, depth: Depth) -> Audit {
        let mut audit = Audit::default();
        let mut all = Holdings::default();
        // One pass over all records, however many guests there are.
        let charges = self.host.frames.charges();
        for (slot, charged) in self.slots.iter().zip(charges) {
            let held = self.host.audit_guest(&slot.guest, charged, depth, &mut audit);
            all.owned += held.owned;
            all.tables += held.tables;
            all.vcpus += held.vcpus;
            all.shares += held.shares;
            all.weight = all.weight.wrapping_add(held.weight);
            all.slots += held.slots;
            all.slot_weight = all.slot_weight.wrapping_add(held.slot_weight);
        }
        self.host.audit_ledger(all, depth, &mut audit);
        audit
    }
}

/// A share's part in a sum over all mappings, or all records, of shared frames, by the frame's number: if the sums are
/// equal, each frame has as many mappings as its record says (but for an accident of one in 2^64), and no table of
/// counts was needed. The same for references to slots.
pub(crate) const fn weigh(number: u64) -> u64 {
    let value = (number ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (value ^ (value >> 29)).wrapping_mul(0x94d0_49bb_1331_11eb)
}

impl<P: Platform> Host<P> {
    fn audit_guest(&mut self, guest: &Guest, charged: u64, depth: Depth, audit: &mut Audit) -> Holdings {
        let name = guest.config.name;
        let counters = guest.memory.counters();
        let (mut weight, mut slot_weight) = (0, 0);
        match self.take_inventory(&guest.memory, depth) {
            Ok(None) => {}
            Ok(Some(found)) if found.counted != counters => {
                audit.find(format_args!(
                    "guest `{name}`: its counters differ from its tables"
                ));
            }
            Ok(Some(found)) if found.disputed > 0 => {
                audit.find(format_args!(
                    "guest `{name}`: {} frames are not on record as its own, or not as shared by it",
                    found.disputed
                ));
            }
            Ok(Some(found)) => (weight, slot_weight) = (found.weight, found.slot_weight),
            Err(error) => audit.find(format_args!("guest `{name}`: {error:?}")),
        }
        let held = Holdings {
            owned: counters.owned_frames() + guest.memory.unfinished_frames(),
            tables: counters.table_frames(),
            vcpus: guest.vcpu_frames.len() as u64,
            shares: counters.shared,
            weight,
            slots: counters.swapped,
            slot_weight,
        };
        let sum = held.owned + held.tables + held.vcpus;
        if charged != sum {
            audit.find(format_args!(
                "guest `{name}`: charged with {charged} frames, has {sum}"
            ));
        }
        held
    }

    fn audit_ledger(&mut self, held: Holdings, depth: Depth, audit: &mut Audit) {
        let counts = self.frames.counts();
        if let Err(corruption) = self.frames.audit(self.platform.memory(), depth) {
            audit.find(format_args!("ledger: {corruption}"));
        }
        if counts.sum() != counts.total {
            audit.find(format_args!("frames lost: {} of {}", counts.sum(), counts.total));
        }
        let (slots, slot_weight) = self.audit_swap(audit);
        let counts = self.frames.counts();
        let on_record = Holdings {
            owned: counts.guests,
            tables: counts.tables,
            vcpus: counts.vcpus,
            slots,
            slot_weight,
            ..self.frames.shared_on_record()
        };
        if on_record != held {
            audit.find(format_args!("the ledger and the guests disagree on who has what"));
        }
        if held.shares != self.frames.shares() {
            audit.find(format_args!(
                "{} mappings of shared frames, {} were counted",
                held.shares,
                self.frames.shares()
            ));
        }
        if let Err(mismatch) = self.frames.audit_index() {
            audit.find(format_args!("index: {mismatch:?}"));
        }
        if self.frames.refused() > 0 {
            audit.find(format_args!(
                "the ledger refused {} operations",
                self.frames.refused()
            ));
        }
    }
}
