//! Guests with virtio devices, and what is known of them at the moments that they name.

use crate::merging::number;
use crate::scenario::{DISK, Report, guest};
use crate::virtio::Kind;
use pleat_bundle::config::{BalloonConfig, DiskConfig, GuestConfig, Step, When};
use serde_json::Value;

/// The first page that no program of these tests uses otherwise: behind the kernel.
pub const FIRST: u64 = 0x150;

/// A guest of 4 MiB with these devices; its disk has 64 KiB.
pub fn equipped(name: &'static str, domain: &'static str, kinds: &[Kind]) -> GuestConfig<'static> {
    let mut config = guest(name);
    config.domain = domain;
    config.memory_bytes = 4 << 20;
    for kind in kinds {
        let devices = &mut config.devices;
        match kind {
            Kind::Balloon => {
                devices.balloon = Some(BalloonConfig {
                    deflates_on_oom: true,
                    has_reporting: true,
                    statistics_ms: 0,
                });
            }
            Kind::Mem => devices.max_memory_bytes = 12 << 20,
            Kind::Console => devices.has_console = true,
            Kind::Block => {
                devices.disk = Some(DiskConfig {
                    image: DISK,
                    bytes: 64 << 10,
                    written_bytes: None,
                });
            }
            Kind::Random => devices.has_random = true,
        }
    }
    config
}

/// A command when a guest reports an event.
pub fn when(guest: &'static str, event: &'static str, command: &'static str) -> Step<'static> {
    let when = When::Event { guest, event };
    Step { when, command }
}

/// Statistics whenever a guest reports one of these events.
pub fn stats_when(guest: &'static str, events: &[&'static str]) -> Vec<Step<'static>> {
    let step = |event: &&'static str| when(guest, event, "stats");
    events.iter().map(step).collect()
}

impl Report {
    /// What the n-th statistics say of a guest.
    pub fn guest_then(&self, n: usize, name: &str) -> &Value {
        let guests = self.of_kind("stats")[n]["record"]["guests"].as_array();
        let guests = guests.expect("a list");
        let found = guests.iter().find(|guest| guest["name"] == name);
        found.expect("there is such a guest")
    }

    /// A number of it.
    pub fn then(&self, n: usize, name: &str, what: &str) -> u64 {
        number(&self.guest_then(n, name)[what])
    }

    /// What the n-th statistics say of the host.
    pub fn host_then(&self, n: usize, what: &str) -> u64 {
        number(&self.of_kind("stats")[n]["record"]["host"][what])
    }

    /// Whether all guests have finished their programs, and nothing has failed.
    pub fn assert_all_finished(&self) {
        for guest in &self.guests {
            let guest = self.guest(guest.name);
            assert_eq!(guest["reason"], "finished", "{guest}");
        }
        assert_eq!(self.stats()["failures"], Value::Array(vec![]));
    }
}
