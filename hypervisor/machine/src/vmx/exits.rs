//! From the VMCS's exit fields to a typed [`Exit`].

use pleat_types::{Access, CrAccess, EptViolation, Exit, Gpa, Gpr, PortAccess, PortSize, Vcpu};

use super::event;
use super::vcpu::{VirtualProcessor, make_current};
use super::vmcs::{CurrentVmcs, Natural, field};

/// Bit of the exit reason: the VM entry itself failed.
const ENTRY_FAILURE: u32 = 1 << 31;

/// The basic exit reason (SDM vol. 3, appendix C).
pub fn basic_reason(vcpu: &VirtualProcessor) -> u16 {
    let reason = make_current(vcpu).read(field::EXIT_REASON);
    u16::try_from(reason & 0xffff).unwrap_or_default()
}

/// Decodes the exit that just happened. Interrupts of the host are served here. Where an exit goes back to the
/// guest and can have broken off the delivery of an event (EPT violations, a full log, exceptions), that is queued
/// again.
pub fn decode(vcpu: &mut VirtualProcessor) -> Exit {
    let reason = make_current(vcpu).read(field::EXIT_REASON);
    let basic = u16::try_from(reason & 0xffff).unwrap_or_default();
    if reason & ENTRY_FAILURE != 0 {
        return Exit::EntryFailed(basic);
    }
    match basic {
        0 => reflect_exception(vcpu),
        1 => serve_interrupt(vcpu),
        2 => Exit::TripleFault,
        7 => Exit::InterruptWindow,
        10 => Exit::Cpuid,
        12 => Exit::Hlt,
        13 | 54 => Exit::CacheFlush,
        18 => Exit::Vmcall,
        28 => control_register(vcpu),
        30 => port(vcpu),
        31 => Exit::ReadMsr,
        32 => Exit::WriteMsr,
        40 => Exit::Pause,
        43 => Exit::TprBelowThreshold,
        48 => ept_violation(vcpu),
        49 => Exit::EptMisconfiguration(Gpa::new(make_current(vcpu).read(field::GUEST_PHYSICAL_ADDRESS))),
        52 => Exit::TimerExpired,
        55 => Exit::Xsetbv,
        62 => dirty_log_full(vcpu),
        // GETSEC, RDPMC, VMX instructions, MWAIT, MONITOR, INVEPT, INVVPID, INVPCID, VMFUNC.
        11 | 15 | 19..=27 | 36 | 39 | 50 | 53 | 58 | 59 => Exit::UndefinedInstruction,
        other => Exit::Other(other),
    }
}

/// #DB and #AC go back to the guest; #MC and NMI are the host's.
#[cold]
fn reflect_exception(vcpu: &mut VirtualProcessor) -> Exit {
    const NMI: u32 = 2;
    const DEBUG: u32 = 1;
    const MACHINE_CHECK: u32 = 18;
    let vmcs = make_current(vcpu);
    let (info, error_code) = (vmcs.read(field::EXIT_EVENT), vmcs.read(field::EXIT_ERROR_CODE));
    match info & 0xff {
        NMI => {
            crate::interrupts::on_nmi();
            return Exit::ExternalInterrupt;
        }
        MACHINE_CHECK => panic!("machine check"),
        DEBUG => update_debug_registers(vmcs),
        _ => {}
    }
    vcpu.satisfy_blocked_step();
    // An exception of a delivery that was broken off comes again with the delivery.
    if !requeue(vcpu) {
        vcpu.queue(info, error_code);
    }
    Exit::ReflectedException
}

/// What the processor does before it delivers #DB and not before it exits for one: DR6 takes the reasons, which
/// are in the qualification, and DR7.GD is cleared (SDM 28.2.1 and 18.2.4).
fn update_debug_registers(vmcs: CurrentVmcs<'_>) {
    const BREAKPOINTS: u64 = 0xf;
    const REASONS: u64 = 0x6000 | BREAKPOINTS;
    const GENERAL_DETECT: u64 = 1 << 13;
    let mut debug = crate::cpu::debug_registers();
    debug[4] = (debug[4] & !BREAKPOINTS) | (vmcs.read(field::QUALIFICATION).0 & REASONS);
    crate::cpu::set_debug_registers(debug);
    let control = vmcs.read(field::DR7).0;
    vmcs.write(field::DR7, Natural(control & !GENERAL_DETECT));
}

/// Queues the event again whose delivery the exit broke off, if there is one (SDM 28.2.4).
fn requeue(vcpu: &mut VirtualProcessor) -> bool {
    let vmcs = make_current(vcpu);
    let vectoring = vmcs.read(field::VECTORING_EVENT);
    let is_broken_off = vectoring & event::VALID != 0;
    if is_broken_off {
        let error_code = vmcs.read(field::VECTORING_ERROR_CODE);
        vcpu.queue(vectoring, error_code);
    }
    is_broken_off
}

fn serve_interrupt(vcpu: &VirtualProcessor) -> Exit {
    let info = make_current(vcpu).read(field::EXIT_EVENT);
    if info & event::VALID != 0 {
        crate::interrupts::serve(info.to_le_bytes()[0]);
    }
    Exit::ExternalInterrupt
}

/// SDM table 28-3.
fn control_register(vcpu: &VirtualProcessor) -> Exit {
    let qualification = make_current(vcpu).read(field::QUALIFICATION).0;
    let is_move_to = qualification >> 4 & 3 == 0;
    let value = vcpu.gpr(gpr(qualification >> 8));
    Exit::ControlRegister(match (is_move_to, qualification & 0xf) {
        (true, 0) => CrAccess::WriteCr0(value),
        (true, 4) => CrAccess::WriteCr4(value),
        _ => CrAccess::Other,
    })
}

/// The register that four bits of a qualification name.
fn gpr(number: u64) -> Gpr {
    use Gpr::{R8, R9, R10, R11, R12, R13, R14, R15, Rax, Rbp, Rbx, Rcx, Rdi, Rdx, Rsi, Rsp};
    const BY_NUMBER: [Gpr; 16] = [
        Rax, Rcx, Rdx, Rbx, Rsp, Rbp, Rsi, Rdi, R8, R9, R10, R11, R12, R13, R14, R15,
    ];
    BY_NUMBER[usize::from(number.to_le_bytes()[0] & 0xf)]
}

/// SDM table 28-5.
fn port(vcpu: &VirtualProcessor) -> Exit {
    let qualification = make_current(vcpu).read(field::QUALIFICATION).0;
    Exit::Port(PortAccess {
        port: u16::try_from(qualification >> 16 & 0xffff).unwrap_or_default(),
        size: match qualification & 7 {
            0 => PortSize::Byte,
            1 => PortSize::Word,
            _ => PortSize::Dword,
        },
        is_read: qualification & 1 << 3 != 0,
        is_string: qualification & 1 << 4 != 0,
    })
}

/// Delivering an event writes to the guest's stack and sets flags in its tables, which can need an entry of the
/// log (SDM 28.2.4). That an IRET had unblocked NMIs need not be undone here or at EPT violations: guests have
/// no virtual NMIs (SDM table 28-7, bit 12).
fn dirty_log_full(vcpu: &mut VirtualProcessor) -> Exit {
    requeue(vcpu);
    Exit::DirtyLogFull
}

/// SDM table 28-7.
fn ept_violation(vcpu: &mut VirtualProcessor) -> Exit {
    let vmcs = make_current(vcpu);
    let qualification = vmcs.read(field::QUALIFICATION).0;
    let access = match qualification & 0b111 {
        bits if bits & 0b010 != 0 => Access::Write,
        bits if bits & 0b100 != 0 => Access::Fetch,
        _ => Access::Read,
    };
    let gpa = Gpa::new(vmcs.read(field::GUEST_PHYSICAL_ADDRESS));
    requeue(vcpu);
    Exit::EptViolation(EptViolation { gpa, access })
}
