//! What each VM exit leads to: one table, one handler for each kind.

use crate::cpu::{Cpu, Resume};
use crate::devices::Work;
use crate::memory::Fault;
use crate::stop::Stop;
use pleat_devices::cpuid::ControlState;
use pleat_devices::{GuestFault, MsrEffect, Notified, PortEffect};
use pleat_types::{CrAccess, EptViolation, Event, Exit, Gpr, Platform, PortAccess, Vcpu};

/// RFLAGS.IF.
const INTERRUPTS_ON: u64 = 1 << 9;
/// The CPUID leaf that shows CR4.OSXSAVE.
const FEATURES_LEAF: u32 = 1;

impl<P: Platform> Cpu<'_, P> {
    /// The exit table.
    pub(crate) fn handle(&mut self, exit: Exit) -> Resume {
        match exit {
            Exit::Cpuid => self.cpuid(),
            Exit::Vmcall => self.hypercall(),
            Exit::Port(access) => self.port(access),
            Exit::ReadMsr => self.read_msr(),
            Exit::WriteMsr => self.write_msr(),
            Exit::EptViolation(violation) => self.ept_violation(&violation),
            Exit::TimerExpired => self.timer(),
            Exit::InterruptWindow => self.interrupt_window(),
            Exit::TprBelowThreshold => self.tpr_below_threshold(),
            Exit::Hlt => self.halt(),
            Exit::CacheFlush => Resume::Next, // nothing behind us is not coherent
            Exit::DirtyLogFull => self.dirty_log_full(),
            Exit::ReflectedException => Resume::Retry,
            Exit::ExternalInterrupt => Resume::Leave,
            Exit::Pause => Resume::Yield,
            Exit::ControlRegister(access) => self.control_register(access),
            Exit::Xsetbv => self.xsetbv(),
            Exit::UndefinedInstruction => Resume::Inject(Event::InvalidOpcode),
            Exit::TripleFault => Resume::Stop(Stop::TripleFault),
            Exit::EptMisconfiguration(gpa) => Resume::Stop(Stop::Bug("EPT misconfiguration", gpa.get())),
            Exit::EntryFailed(reason) => Resume::Stop(Stop::of_failed_entry(reason)),
            Exit::Other(reason) => Resume::Stop(Stop::UnknownExit(reason)),
        }
    }

    fn cpuid(&mut self) -> Resume {
        let leaf = low_half(self.vcpu.gpr(Gpr::Rax));
        let subleaf = low_half(self.vcpu.gpr(Gpr::Rcx));
        let cr4 = if leaf == FEATURES_LEAF { self.vcpu.cr4() } else { 0 };
        let state = ControlState {
            cr4,
            xcr0: self.guest.xcr0,
        };
        let result = self.host.cpuid.query(leaf, subleaf, state);
        self.vcpu.set_gpr(Gpr::Rax, u64::from(result.eax));
        self.vcpu.set_gpr(Gpr::Rbx, u64::from(result.ebx));
        self.vcpu.set_gpr(Gpr::Rcx, u64::from(result.ecx));
        self.vcpu.set_gpr(Gpr::Rdx, u64::from(result.edx));
        Resume::Next
    }

    fn port(&mut self, access: PortAccess) -> Resume {
        if access.is_string {
            return Resume::Stop(Stop::StringIo(access.port));
        }
        let now = self.guest.guest_time(self.host.platform.now());
        let rax = self.vcpu.gpr(Gpr::Rax);
        // Reading a UART's or a PIC's register may take an interrupt back, writing one may raise it.
        self.guest.has_news = true;
        if access.is_read {
            let value = self.guest.board.port_read(access.port, access.size, now);
            self.vcpu.set_gpr(Gpr::Rax, merge_port_value(rax, value, access));
            return Resume::Next;
        }
        let value = low_half(rax) & access.size.mask();
        match self.guest.board.port_write(access.port, access.size, value, now) {
            PortEffect::None => Resume::Next,
            PortEffect::OutputReady => {
                self.host.drain_output(self.guest);
                Resume::Next
            }
            PortEffect::Kick => self.serve_devices(None),
            PortEffect::Notified(queue) => self.serve_devices(Some(queue)),
            PortEffect::Reboot => Resume::Reboot,
        }
    }

    /// The devices work in the guest's own time. The OUT that notifies a queue is done when nothing is left of that; what
    /// other queues have left, they do later. Apart, so that the stack and registers that devices need are no part of
    /// other exits.
    #[inline(never)]
    fn serve_devices(&mut self, notified: Option<Notified>) -> Resume {
        let work = self.host.serve_once(self.guest);
        let is_done = !notified.is_some_and(|queue| self.guest.board.is_waiting(queue));
        match work {
            Work::Bug(place) => Resume::Stop(Stop::Bug(place, 0)),
            Work::Lost(slot) => Resume::Stop(Stop::Lost(slot)),
            _ if is_done => Resume::Next,
            Work::Done | Work::More => Resume::Retry,
            Work::HostShort(purpose) => Resume::Park(purpose),
            Work::Away => Resume::Fetch,
        }
    }

    fn read_msr(&mut self) -> Resume {
        let index = low_half(self.vcpu.gpr(Gpr::Rcx));
        let now = self.guest.guest_time(self.host.platform.now());
        match self.guest.board.read_msr(index, now, self.vcpu.tpr()) {
            Ok(value) => {
                self.vcpu.set_gpr(Gpr::Rax, value & 0xffff_ffff);
                self.vcpu.set_gpr(Gpr::Rdx, value >> 32);
                Resume::Next
            }
            Err(GuestFault::GeneralProtection) => Resume::Inject(Event::GeneralProtection),
        }
    }

    fn write_msr(&mut self) -> Resume {
        let index = low_half(self.vcpu.gpr(Gpr::Rcx));
        let value = self.edx_eax();
        let now = self.guest.guest_time(self.host.platform.now());
        match self.guest.board.write_msr(index, value, now) {
            Ok(MsrEffect::None) => return Resume::Next,
            Ok(MsrEffect::Timer) => {}
            Ok(MsrEffect::SetTpr(tpr)) => self.vcpu.set_tpr(tpr),
            Ok(MsrEffect::TscMoved(by)) => {
                self.guest.tsc_offset = self.guest.tsc_offset.wrapping_add(by);
                self.vcpu.set_tsc_offset(self.guest.tsc_offset);
            }
            Err(GuestFault::GeneralProtection) => return Resume::Inject(Event::GeneralProtection),
        }
        self.guest.has_news = true;
        Resume::Next
    }

    fn ept_violation(&mut self, violation: &EptViolation) -> Resume {
        let EptViolation { gpa, access } = *violation;
        match self.host.guest_fault(&mut self.guest.memory, gpa, access) {
            // Unfinished: it faults again where it is, unless its time is over.
            Fault::Backed | Fault::Unfinished => Resume::Retry,
            Fault::HostShort(purpose) => Resume::Park(purpose),
            Fault::Away => Resume::Fetch,
            Fault::Lost(slot) => Resume::Stop(Stop::Lost(slot)),
            Fault::Device => Resume::Stop(Stop::NoDeviceThere(gpa, access)),
            Fault::Hole => Resume::Stop(Stop::NoMemoryThere(gpa, access)),
            Fault::Bug(place) => Resume::Stop(Stop::Bug(place, gpa.get())),
        }
    }

    /// The write that found the log full happens after it was emptied (SDM 29.3.6).
    fn dirty_log_full(&mut self) -> Resume {
        self.guest.note_dirty_log(self.vcpu);
        Resume::Retry
    }

    /// The timer of the guest's devices, or the end of its slice: the caller's next entry tells.
    fn timer(&mut self) -> Resume {
        let now = self.host.platform.now();
        let time = self.guest.guest_time(now);
        self.guest.board.advance(time);
        self.guest.has_news = true;
        if now >= self.host.slice_end {
            Resume::Leave
        } else {
            Resume::Retry
        }
    }

    fn interrupt_window(&mut self) -> Resume {
        self.guest.has_news = true;
        Resume::Retry
    }

    fn tpr_below_threshold(&mut self) -> Resume {
        self.guest.has_news = true;
        Resume::Retry
    }

    fn halt(&mut self) -> Resume {
        self.host.flush_output(self.guest);
        if self.vcpu.rflags() & INTERRUPTS_ON == 0 {
            Resume::Stop(Stop::PoweredOff)
        } else {
            Resume::Halt
        }
    }

    fn control_register(&mut self, access: CrAccess) -> Resume {
        let done = match access {
            CrAccess::WriteCr0(value) => self.vcpu.write_cr0(value),
            CrAccess::WriteCr4(value) => self.vcpu.write_cr4(value),
            CrAccess::Other => return Resume::Stop(Stop::ControlRegister(access)),
        };
        // The machine has let it pass: the instruction is executed again, now without an exit.
        done.map_or_else(Resume::Inject, |()| Resume::Retry)
    }

    fn xsetbv(&mut self) -> Resume {
        let value = self.edx_eax();
        // The processor refuses it to user space before it exits; not every emulation does.
        if self.vcpu.privilege() != 0 {
            return Resume::Inject(Event::GeneralProtection);
        }
        let is_xcr0 = low_half(self.vcpu.gpr(Gpr::Rcx)) == 0;
        if !is_xcr0 || value & !self.host.cpuid.allowed_xcr0() != 0 {
            return Resume::Inject(Event::GeneralProtection);
        }
        if let Err(event) = self.vcpu.write_xcr0(value) {
            return Resume::Inject(event);
        }
        self.guest.xcr0 = value;
        Resume::Next
    }

    fn edx_eax(&self) -> u64 {
        let low = self.vcpu.gpr(Gpr::Rax) & 0xffff_ffff;
        let high = self.vcpu.gpr(Gpr::Rdx) & 0xffff_ffff;
        high << 32 | low
    }
}

/// The low 32 bits of a register.
#[allow(clippy::cast_possible_truncation)] // that is what it is for
pub(crate) const fn low_half(value: u64) -> u32 {
    value as u32
}

/// RAX after IN: a doubleword clears the upper half, narrower values leave the rest alone (SDM vol. 1, 3.4.1.1).
fn merge_port_value(rax: u64, value: u32, access: PortAccess) -> u64 {
    let mask = access.size.mask();
    if mask == u32::MAX {
        u64::from(value)
    } else {
        (rax & !u64::from(mask)) | u64::from(value & mask)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pleat_types::PortSize;

    #[test]
    fn narrow_port_reads_keep_the_rest_of_rax() {
        let access = |size| PortAccess {
            port: 0,
            size,
            is_read: true,
            is_string: false,
        };
        let rax = 0x1122_3344_5566_7788;
        assert_eq!(
            merge_port_value(rax, 0xffff_ffaa, access(PortSize::Byte)),
            0x1122_3344_5566_77aa
        );
        assert_eq!(
            merge_port_value(rax, 0xffff_aabb, access(PortSize::Word)),
            0x1122_3344_5566_aabb
        );
        assert_eq!(merge_port_value(rax, 0x99, access(PortSize::Dword)), 0x99);
    }
}
