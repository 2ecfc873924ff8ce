//! The end of the machine.

use pleat_bundle::handover;

use crate::cpu::{halt_forever, outb, outsb};

/// Why the machine ends; the number that QEMU's isa-debug-exit device gets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Ending {
    /// The run was a success.
    Ok = handover::EXIT_OK,
    /// The run failed.
    Failed = handover::EXIT_FAILED,
    /// Pleat crashed.
    Crashed = handover::EXIT_CRASH,
    /// This processor cannot run Pleat.
    Incapable = handover::EXIT_CANNOT_RUN,
}

/// Ends an emulated machine; a real one halts.
pub fn power_off(ending: Ending) -> ! {
    if let Some(mut console) = crate::serial::CONSOLE.try_lock() {
        drain(&mut console);
    }
    outb(handover::QEMU_EXIT_PORT, ending as u8);
    outsb(handover::BOCHS_POWER_OFF_PORT, &handover::BOCHS_POWER_OFF_BYTES);
    halt_forever()
}

/// Gives the last text for people time to leave the queue.
fn drain(console: &mut crate::serial::Console) {
    for _ in 0..1_000_000 {
        if !console.is_sending() {
            break;
        }
        console.on_interrupt();
    }
}
