//! Are all frames accounted for? The ledger against itself, each guest's tables against their
//! counters, and both against each other.

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

    fn find(&mut self, text: fmt::Arguments<'_>) {
        if self.finding.is_none() {
            let mut finding = ArrayString::new();
            // A text that is too long is cut.
            let _ = finding.write_fmt(text);
            self.finding = Some(finding);
        }
    }
}

impl<P: Platform> Hypervisor<P> {
    /// Looks at every frame and every entry of every table.
    pub(crate) fn audit(&mut self) -> Audit {
        let mut audit = Audit::default();
        let (mut owned, mut tables, mut vcpus) = (0, 0, 0);
        for slot in self.slots.iter() {
            let name = slot.guest.config.name;
            let counters = slot.guest.memory.counters();
            match self.host.recount(&slot.guest.memory) {
                Ok(None) => {}
                Ok(Some(counted)) if counted == counters => {}
                Ok(Some(_)) => audit.find(format_args!(
                    "guest `{name}`: its counters differ from its tables"
                )),
                Err(error) => audit.find(format_args!("guest `{name}`: {error:?}")),
            }
            let guest_vcpus = slot.guest.vcpu_frames.len() as u64;
            let held = counters.owned_frames() + counters.table_frames() + guest_vcpus;
            let charged = self.host.frames.charged_to(slot.guest.id);
            if charged != held {
                audit.find(format_args!(
                    "guest `{name}`: charged with {charged} frames, has {held}"
                ));
            }
            owned += counters.owned_frames();
            tables += counters.table_frames();
            vcpus += guest_vcpus;
        }
        let counts = *self.host.frames.counts();
        if let Err(corruption) = self.host.frames.audit() {
            audit.find(format_args!("ledger: {corruption}"));
        }
        if counts.sum() != counts.total {
            audit.find(format_args!("frames lost: {} of {}", counts.sum(), counts.total));
        }
        if (counts.guests, counts.tables, counts.vcpus) != (owned, tables, vcpus) {
            audit.find(format_args!("the ledger and the guests disagree on who has what"));
        }
        if self.host.frames.refused() > 0 {
            audit.find(format_args!(
                "the ledger refused {} operations",
                self.host.frames.refused()
            ));
        }
        audit
    }
}
