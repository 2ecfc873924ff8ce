//! The command that shows a guest's virtio devices.

use super::views::Size;
use crate::devices::Disk;
use crate::run::Hypervisor;
use pleat_devices::virtio::FunctionView;
use pleat_types::{FRAME_SIZE, Platform};

/// No guest has more devices.
const FUNCTIONS_MAX: usize = 8;
const SECTORS_PER_FRAME: u64 = FRAME_SIZE as u64 / 512;

impl<P: Platform> Hypervisor<P> {
    pub(super) fn show_devices(&mut self, index: usize) {
        let Some(slot) = self.slots.get(index) else { return };
        let name = slot.guest.config.name;
        let functions: arrayvec::ArrayVec<FunctionView, FUNCTIONS_MAX> =
            slot.guest.board.virtio_functions().take(FUNCTIONS_MAX).collect();
        if functions.is_empty() {
            self.host
                .say(format_args!("guest `{name}` has no virtio devices"));
            return;
        }
        self.host.say(format_args!(
            "{:<10} {:<6} {:<12} {:>18} {:>6} {:<10} {:>13} {:>10}",
            "device", "place", "state", "features", "queues", "interrupt", "notifications", "interrupts"
        ));
        for function in &functions {
            let state = match (function.needs_reset, function.is_driven) {
                (Some(_), _) => "needs reset",
                (None, true) => "driven",
                (None, false) => "no driver",
            };
            self.host.say(format_args!(
                "{:<10} 00:{:02}.0 {:<11} {:>#18x} {:>6} {:<10} {:>13} {:>10}",
                function.name,
                function.device,
                state,
                function.features,
                function.queues,
                if function.uses_msix { "MSI-X" } else { "INTx" },
                function.notifications,
                function.interrupts
            ));
            if let Some(why) = function.needs_reset {
                self.host.say(format_args!("  the guest broke the rules: {why}"));
            }
        }
        self.show_work(index);
    }

    /// What the devices did.
    fn show_work(&mut self, index: usize) {
        let Some(slot) = self.slots.get(index) else { return };
        let board = &slot.guest.board;
        if let Some(balloon) = board.balloon() {
            let (asked, answered) = balloon.inquiries();
            self.host.say(format_args!(
                "  balloon: {} pages in, {} out, {} reported free; statistics asked {asked} times, answered {answered}",
                balloon.inflated(),
                balloon.deflated(),
                balloon.reported()
            ));
        }
        if let Some(mem) = board.mem() {
            self.host.say(format_args!(
                "  mem: {} plugged of {} at {}",
                Size(mem.plugged_bytes() / FRAME_SIZE as u64),
                Size(mem.region_bytes() / FRAME_SIZE as u64),
                mem.first().base()
            ));
        }
        if let Some(console) = board.console() {
            self.host.say(format_args!(
                "  console: {} bytes printed, {} typed bytes unread; pressure: {} lines told, {} bytes heard",
                console.printed_bytes(),
                console.unread_bytes(),
                console.told_lines(),
                console.heard_bytes()
            ));
        }
        if let Some(block) = board.block() {
            self.host.say(format_args!(
                "  block: {}, {} requests, {} refused",
                Size(block.sectors() / SECTORS_PER_FRAME),
                block.requests(),
                block.refused(),
            ));
            self.host.say(format_args!(
                "         {} read, {} written, {} discarded or zeroed",
                Size(block.sectors_read() / SECTORS_PER_FRAME),
                Size(block.sectors_written() / SECTORS_PER_FRAME),
                Size(block.sectors_cleared() / SECTORS_PER_FRAME),
            ));
            let disk = slot.guest.disk.as_ref();
            self.host.say(format_args!(
                "         {} of its own over the base image, of {} at most",
                Size(disk.map_or(0, Disk::overlaid)),
                Size(disk.map_or(0, Disk::most))
            ));
        }
        if let Some(entropy) = board.entropy() {
            self.host
                .say(format_args!("  entropy: {} bytes given", entropy.given_bytes()));
        }
    }
}
