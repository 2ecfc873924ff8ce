//! The MSRs that are a board's business: the local APIC's, and those that Linux needs to exist.

use pleat_types::Tsc;

use crate::Board;

/// What an MSR write asks of the board's owner.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum MsrEffect {
    /// Nothing.
    None,
    /// An interrupt may have become pending, or the next deadline may have changed.
    Timer,
    /// The guest's TSC jumps: add this to its TSC offset, modulo 2^64 (before the next call that takes a time).
    TscMoved(u64),
    /// The task priority is to be this (`Vcpu::set_tpr`).
    SetTpr(u8),
}

/// The guest did what its processor answers with an exception.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GuestFault {
    /// Inject #GP(0).
    GeneralProtection,
}

const IA32_TSC: u32 = 0x10;
const IA32_APIC_BASE: u32 = 0x1b;
const IA32_TSC_ADJUST: u32 = 0x3b;
const IA32_BIOS_SIGN_ID: u32 = 0x8b;
const IA32_MISC_ENABLE: u32 = 0x1a0;
const IA32_TSC_DEADLINE: u32 = 0x6e0;
const X2APIC_EOI: u32 = 0x80b;

/// At 0xfee00000, enabled, x2APIC mode, bootstrap processor.
const APIC_BASE: u64 = 0xfee0_0d00;
/// Fast strings on (Linux drops `rep stos` otherwise); no BTS, no PEBS.
const MISC_ENABLE: u64 = 0x1801;
/// A microcode revision, in the high half; guests do not get to load another.
const MICROCODE: u64 = 1 << 32;

impl Board {
    /// RDMSR of an MSR that is not the processor's own; `tpr` is the guest's task priority.
    ///
    /// # Errors
    /// There is no such MSR in this machine.
    pub fn read_msr(&mut self, index: u32, now: Tsc, tpr: u8) -> Result<u64, GuestFault> {
        self.advance(now);
        match index {
            IA32_TSC => Ok(now.0),
            IA32_APIC_BASE => Ok(APIC_BASE),
            IA32_TSC_ADJUST => Ok(self.tsc_adjust),
            IA32_BIOS_SIGN_ID => Ok(MICROCODE),
            IA32_MISC_ENABLE => Ok(MISC_ENABLE),
            IA32_TSC_DEADLINE => Ok(self.apic.tsc_deadline()),
            0x800..=0x8ff => self.apic.read(index, self.time(now).ticks, tpr),
            _ => Err(GuestFault::GeneralProtection),
        }
    }

    /// WRMSR of an MSR that is not the processor's own.
    ///
    /// # Errors
    /// There is no such MSR in this machine, or it does not take this value.
    pub fn write_msr(&mut self, index: u32, value: u64, now: Tsc) -> Result<MsrEffect, GuestFault> {
        // Each timer interrupt of a guest costs one of these; it does not depend on the time.
        if index == X2APIC_EOI {
            return self.apic.write_eoi(value);
        }
        self.advance(now);
        match index {
            IA32_TSC_DEADLINE => {
                self.apic.arm(value, now.0, self.time(now).ticks);
                // At once, if the time has come already.
                self.advance(now);
                Ok(MsrEffect::Timer)
            }
            0x800..=0x8ff => self.apic.write(index, value, self.time(now).ticks),
            IA32_TSC => Ok(self.move_tsc(value.wrapping_sub(now.0), now)),
            IA32_TSC_ADJUST => Ok(self.move_tsc(value.wrapping_sub(self.tsc_adjust), now)),
            // The one mode there is cannot be left.
            IA32_APIC_BASE if value == APIC_BASE => Ok(MsrEffect::None),
            // Writable on every processor; what we would keep of it, nobody reads.
            IA32_BIOS_SIGN_ID | IA32_MISC_ENABLE => Ok(MsrEffect::None),
            _ => Err(GuestFault::GeneralProtection),
        }
    }

    /// Moves the guest's TSC (SDM 18.17.3: TSC and TSC_ADJUST move together). The devices do not notice,
    /// except that an armed TSC deadline is now nearer or farther.
    fn move_tsc(&mut self, delta: u64, now: Tsc) -> MsrEffect {
        if delta == 0 {
            return MsrEffect::None;
        }
        let ticks = self.time(now).ticks;
        self.tsc_adjust = self.tsc_adjust.wrapping_add(delta);
        self.origin = self.origin.wrapping_add(delta);
        let deadline = self.apic.tsc_deadline();
        if deadline != 0 {
            self.apic.arm(deadline, now.0.wrapping_add(delta), ticks);
        }
        MsrEffect::TscMoved(delta)
    }
}
