//! Interrupts as messages (PCI 3.0, 6.8.2). A table entry lies in guest RAM and is read when it is used: the guest's
//! accesses to it need no exit and no decoding of instructions. The bits in the pending array, for which no driver asks,
//! stay 0.
//!
//! A table whose page is away delays its messages and loses none: the guest may wait for nothing else.

use pleat_types::Gpa;

use super::hands::{Denied, Hands};
use super::registers::{Registers, VECTORS};
use super::transport::Served;
use crate::apic::LocalApic;

const ENTRY_BYTES: u64 = 16;
/// Where a message has to go to reach a local APIC (SDM 10.11.1).
const APIC_WINDOW: u64 = 0xfee;
const WINDOW_SHIFT: u32 = 20;
/// Vector control.
const MASKED: u32 = 1;
/// Delivery mode: 0 fixed, 1 lowest priority (SDM 10.11.2).
const MODE_SHIFT: u32 = 8;

/// What became of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Sent {
    Vector(u8),
    /// To no local APIC, or not as a vector, or from where the guest has no RAM.
    Lost,
    Masked,
    /// Nobody can say yet: its entry is away.
    Away,
}

/// Sends what is pending, as far as its vectors are not masked. A masked one is nothing to be done until the guest runs
/// and unmasks it; for one whose entry is away the step has stalled.
pub(crate) fn deliver<H: Hands>(
    registers: &mut Registers,
    table: Gpa,
    hands: &mut H,
    apic: &mut LocalApic,
) -> Served {
    let pending = registers.pending;
    let mut served = Served::Idle;
    for vector in (0..VECTORS).filter(|vector| pending >> vector & 1 != 0) {
        match message(table, vector, hands) {
            Sent::Masked => continue,
            Sent::Away => {
                served = Served::Stalled;
                continue;
            }
            Sent::Lost => {}
            Sent::Vector(vector) => {
                registers.interrupts += 1;
                apic.receive(vector);
            }
        }
        registers.pending &= !(1 << vector);
    }
    served
}

fn message<H: Hands>(table: Gpa, vector: u16, hands: &mut H) -> Sent {
    let mut raw = [0; 16];
    let Some(at) = table.checked_add(ENTRY_BYTES * u64::from(vector)) else {
        return Sent::Lost;
    };
    match hands.read(at, &mut raw) {
        Ok(()) => {}
        Err(Denied::NoRam) => return Sent::Lost,
        Err(Denied::HostShort) => return Sent::Away,
    }
    let [a0, a1, a2, a3, a4, a5, a6, a7, d0, d1, d2, d3, c0, c1, c2, c3] = raw;
    let address = u64::from_le_bytes([a0, a1, a2, a3, a4, a5, a6, a7]);
    let data = u32::from_le_bytes([d0, d1, d2, d3]);
    if u32::from_le_bytes([c0, c1, c2, c3]) & MASKED != 0 {
        return Sent::Masked;
    }
    // There is one processor, so whichever the message names is this one.
    if address >> WINDOW_SHIFT == APIC_WINDOW && (data >> MODE_SHIFT) & 7 <= 1 {
        Sent::Vector(d0)
    } else {
        Sent::Lost
    }
}
