//! The local APIC in x2APIC mode (SDM vol. 3, chapter 10).
//!
//! One processor, no I/O APIC, so every interrupt it accepts is edge-triggered (TMR stays 0): from its timer, its
//! LVT error entry, self-IPIs, and the messages of PCI devices. The 8259s reach the processor through LVT0 in
//! ExtINT mode, beside IRR and ISR. xAPIC mode (MMIO) is not offered.
//!
//! The task priority is not kept here: MOV to CR8 does not exit, so it lives with the virtual processor.

mod timer;
mod vectors;

pub(crate) use timer::NEVER;
use timer::{Mode, Timer};
use vectors::VectorSet;

use crate::clock::TscRatio;
use crate::{GuestFault, MsrEffect, Pending};

const VERSION: u32 = 0x5_0014;
const LVT_MASKED: u32 = 1 << 16;
const MODE_FIELD: u32 = 7 << 8;
const MODE_EXTINT: u32 = 7 << 8;
/// LVT bit 12 (delivery status) is read-only: writes of it are ignored, not refused.
const LVT_READ_ONLY: u32 = 1 << 12;
const SVR_ENABLE: u32 = 1 << 8;
/// SVR: vector, enable, focus checking. EOI-broadcast suppression is not in our version register.
const SVR_BITS: u64 = 0x3ff;
const ESR_SEND_ILLEGAL: u32 = 1 << 5;
const ESR_RECEIVE_ILLEGAL: u32 = 1 << 6;
/// ICR bits that exist (SDM figure 10-28). Bit 12 was the delivery status of xAPIC mode: tolerated.
const ICR_BITS: u64 = 0xffff_ffff_000c_dfff;

/// Index into the LVT entries: MSR 0x832 and following.
const TIMER: usize = 0;
const LINT0: usize = 3;
const ERROR: usize = 5;
/// What each entry has: timer (mode 18:17), thermal, performance counters, LINT0, LINT1, error.
const LVT_BITS: [u32; 6] = [0x7_10ff, 0x1_17ff, 0x1_17ff, 0x1_f7ff, 0x1_f7ff, 0x1_10ff];

/// The local APIC of the one processor, ID 0.
#[derive(Clone, Debug)]
pub(crate) struct LocalApic {
    irr: VectorSet,
    isr: VectorSet,
    svr: u32,
    lvt: [u32; 6],
    esr: u32,
    esr_new: u32,
    icr: u64,
    timer: Timer,
}

impl LocalApic {
    /// As firmware leaves it in virtual-wire mode (MP specification 3.6.2.2): enabled, LVT0 = ExtINT, open.
    pub(crate) fn new(ratio: TscRatio, timer_floor: u64) -> Self {
        let mut lvt = [LVT_MASKED; 6];
        lvt[LINT0] = MODE_EXTINT;
        Self {
            irr: VectorSet::default(),
            isr: VectorSet::default(),
            svr: SVR_ENABLE | 0xff,
            lvt,
            esr: 0,
            esr_new: 0,
            icr: 0,
            timer: Timer::new(ratio.tsc_per_crystal, timer_floor),
        }
    }

    /// Whether the 8259s' interrupt output reaches the processor.
    pub(crate) const fn is_extint_open(&self) -> bool {
        self.lvt[LINT0] & (LVT_MASKED | MODE_FIELD) == MODE_EXTINT
    }

    const fn is_enabled(&self) -> bool {
        self.svr & SVR_ENABLE != 0
    }

    /// When the timer has an interrupt to give.
    pub(crate) const fn deadline(&self) -> u64 {
        if self.lvt[TIMER] & LVT_MASKED == 0 {
            self.timer.deadline()
        } else {
            NEVER
        }
    }

    /// When the timer has an interrupt to give that is delivered at once, given this task priority.
    pub(crate) fn waking_deadline(&self, tpr: u8) -> u64 {
        let vector = (self.lvt[TIMER] & 0xff) as u8;
        let is_free = vector >> 4 > tpr.max(self.isr.highest().unwrap_or(0)) >> 4;
        if is_free && self.is_enabled() {
            self.deadline()
        } else {
            NEVER
        }
    }

    /// Lets the timer fire when it is due.
    #[inline]
    pub(crate) fn advance(&mut self, now: u64) {
        if now >= self.timer.deadline() && self.timer.deadline() != NEVER {
            self.timer.expire(now);
            if self.lvt[TIMER] & LVT_MASKED == 0 {
                self.accept(self.lvt[TIMER] & 0xff);
            }
        }
    }

    /// The interrupt to deliver next (SDM 10.8.3.1).
    #[inline]
    pub(crate) fn pending(&self, tpr: u8) -> Pending {
        let Some(vector) = self.irr.highest() else {
            return Pending::None;
        };
        if !self.is_enabled() || vector >> 4 <= self.isr.highest().unwrap_or(0) >> 4 {
            Pending::None
        } else if vector >> 4 <= tpr >> 4 {
            Pending::MaskedByTpr(vector)
        } else {
            Pending::Vector(vector)
        }
    }

    /// The processor takes this vector: from IRR to ISR.
    pub(crate) const fn acknowledge(&mut self, vector: u8) {
        if self.irr.contains(vector) {
            self.irr.remove(vector);
            self.isr.insert(vector);
        }
    }

    /// WRMSR of the EOI register.
    #[inline]
    pub(crate) fn write_eoi(&mut self, value: u64) -> Result<MsrEffect, GuestFault> {
        check(value, 0)?;
        if let Some(vector) = self.isr.highest() {
            self.isr.remove(vector);
        }
        Ok(MsrEffect::Timer)
    }

    fn priority(&self, tpr: u8) -> u8 {
        let serviced = self.isr.highest().unwrap_or(0) & 0xf0;
        if tpr & 0xf0 >= serviced { tpr } else { serviced }
    }

    /// A message from a device: fixed or lowest priority, and so for the one processor.
    pub(crate) fn receive(&mut self, vector: u8) {
        self.accept(u32::from(vector));
    }

    /// An interrupt from the bus; vectors 0 to 15 are illegal (SDM 10.5.2).
    fn accept(&mut self, vector: u32) {
        match u8::try_from(vector) {
            Ok(vector @ 16..) if self.is_enabled() => self.irr.insert(vector),
            Ok(16..) => {}
            _ => self.report(ESR_RECEIVE_ILLEGAL),
        }
    }

    /// Notes an error; its interrupt comes when the error is new.
    fn report(&mut self, error: u32) {
        let is_new = self.esr_new & error == 0;
        self.esr_new |= error;
        let vector = self.lvt[ERROR] & 0xff;
        if is_new && self.lvt[ERROR] & LVT_MASKED == 0 {
            if vector >= 16 {
                self.accept(vector);
            } else {
                self.esr_new |= ESR_RECEIVE_ILLEGAL;
            }
        }
    }

    /// RDMSR of 0x800 to 0x8ff.
    pub(crate) fn read(&self, index: u32, now: u64, tpr: u8) -> Result<u64, GuestFault> {
        let value = match index {
            0x802 => 0,
            0x803 => VERSION,
            0x808 => u32::from(tpr),
            0x80a => u32::from(self.priority(tpr)),
            // Logical x2APIC ID: cluster 0, member 0 (SDM 10.12.10.2).
            0x80d => 1,
            0x80f => self.svr,
            0x810..=0x817 => self.isr.register(index - 0x810),
            // TMR: every interrupt here is an edge.
            0x818..=0x81f => 0,
            0x820..=0x827 => self.irr.register(index - 0x820),
            0x828 => self.esr,
            0x830 => return Ok(self.icr),
            0x832..=0x837 => self.lvt[(index - 0x832) as usize],
            0x838 => self.timer.initial(),
            0x839 => self.timer.current(now),
            0x83e => self.timer.divide(),
            _ => return Err(GuestFault::GeneralProtection),
        };
        Ok(u64::from(value))
    }

    /// WRMSR of 0x800 to 0x8ff. The timer has been advanced to `now`.
    pub(crate) fn write(&mut self, index: u32, value: u64, now: u64) -> Result<MsrEffect, GuestFault> {
        match index {
            0x808 => return Ok(MsrEffect::SetTpr(byte(check(value, 0xff)?))),
            0x80b => return self.write_eoi(value),
            0x80f => self.write_svr(check(value, SVR_BITS)?),
            0x828 => {
                check(value, 0)?;
                self.esr = core::mem::take(&mut self.esr_new);
            }
            0x830 => self.write_icr(value)?,
            0x832..=0x837 => self.write_lvt((index - 0x832) as usize, value)?,
            0x838 => self.timer.load(check(value, 0xffff_ffff)?, now),
            0x83e => self.timer.set_divide(check(value, 0b1011)?, now),
            0x83f => self.send_to_self(check(value, 0xff)?),
            _ => return Err(GuestFault::GeneralProtection),
        }
        Ok(MsrEffect::Timer)
    }

    /// RDMSR of IA32_TSC_DEADLINE.
    pub(crate) const fn tsc_deadline(&self) -> u64 {
        self.timer.tsc_deadline()
    }

    /// WRMSR of IA32_TSC_DEADLINE, and the way to re-arm after the guest moved its TSC.
    pub(crate) fn arm(&mut self, deadline: u64, tsc: u64, now: u64) {
        self.timer.arm(deadline, tsc, now);
    }

    /// Turning the APIC off masks every LVT entry (SDM 10.4.7.2).
    fn write_svr(&mut self, value: u32) {
        self.svr = value;
        if !self.is_enabled() {
            for lvt in &mut self.lvt {
                *lvt |= LVT_MASKED;
            }
        }
    }

    fn write_lvt(&mut self, index: usize, value: u64) -> Result<(), GuestFault> {
        let mut value = check(value, u64::from(LVT_BITS[index]))? & !LVT_READ_ONLY;
        if !self.is_enabled() {
            value |= LVT_MASKED;
        }
        if index == TIMER {
            self.timer.set_mode(Mode::of_lvt(value));
        }
        self.lvt[index] = value;
        Ok(())
    }

    /// An IPI. There is one processor, so what is not for this one is for nobody; NMI, SMI, INIT and
    /// start-up messages to oneself have no use here and are dropped.
    fn write_icr(&mut self, value: u64) -> Result<(), GuestFault> {
        if value & !ICR_BITS != 0 {
            return Err(GuestFault::GeneralProtection);
        }
        self.icr = value & !u64::from(LVT_READ_ONLY);
        let destination = value >> 32;
        let is_logical = value & (1 << 11) != 0;
        let is_for_us = match (value >> 18) & 3 {
            0 if is_logical => destination >> 16 == 0 && destination & 1 != 0 || destination == 0xffff_ffff,
            0 => destination == 0 || destination == 0xffff_ffff,
            1 | 2 => true,
            _ => false,
        };
        // Fixed or lowest priority.
        if (value >> 8) & 7 <= 1 {
            let vector = u32::from(byte_of(value));
            if vector < 16 {
                self.report(ESR_SEND_ILLEGAL);
            } else if is_for_us {
                self.accept(vector);
            }
        }
        Ok(())
    }

    fn send_to_self(&mut self, vector: u32) {
        if vector < 16 {
            self.report(ESR_SEND_ILLEGAL);
        } else {
            self.accept(vector);
        }
    }
}

/// The value, if it has no bit outside of `bits`: reserved bits give #GP (SDM 10.12.1.3).
#[inline]
fn check(value: u64, bits: u64) -> Result<u32, GuestFault> {
    if value & !bits != 0 {
        return Err(GuestFault::GeneralProtection);
    }
    u32::try_from(value).map_err(|_| GuestFault::GeneralProtection)
}

const fn byte_of(value: u64) -> u8 {
    (value & 0xff) as u8
}

fn byte(value: u32) -> u8 {
    byte_of(u64::from(value))
}

#[cfg(test)]
mod tests;
