//! Single steps: none is lost and none comes twice, whatever else is due at the same moment.

use core::sync::atomic::{AtomicUsize, Ordering};

use pleat_guest::step::{self, Sequence};
use pleat_guest::trap::{self, DEBUG};
use pleat_guest::{apic, check, cpu};

const DR6_DEFAULT: u64 = 0xffff_0ff0;
const TIMER: u8 = 0x61;
/// Moments at which the timer is due, spread over a sequence.
const MOMENTS: u64 = 400;

static CAME: AtomicUsize = AtomicUsize::new(0);

pub(crate) fn check_all() {
    for sequence in [Sequence::Exits, Sequence::Shadows, Sequence::Int1] {
        trace(sequence);
    }
    if apic::is_usable() {
        trap::set_handler(TIMER, |_| _ = CAME.fetch_add(1, Ordering::Relaxed));
        with_interrupt_pending();
        with_timer();
    }
    int1();
}

fn trace(sequence: Sequence) {
    let result = step::trace(sequence);
    check!(result.is_ok(), "single steps through {sequence:?}: {result:x?}");
}

/// The interrupt is there before the sequence opens the window for it.
fn with_interrupt_pending() {
    for (round, sequence) in [Sequence::Shadows, Sequence::Int1].into_iter().enumerate() {
        cpu::write_msr(apic::SELF_IPI, u64::from(TIMER));
        trace(sequence);
        let came = CAME.load(Ordering::Relaxed);
        check!(
            came == round + 1,
            "single steps with an interrupt pending: {came} came, not {}",
            round + 1
        );
    }
}

/// The timer is due at any moment of the sequence.
fn with_timer() {
    CAME.store(0, Ordering::Relaxed);
    cpu::write_msr(apic::LVT_TIMER, apic::DEADLINE | u64::from(TIMER));
    let start = cpu::tsc();
    trace(Sequence::Shadows);
    let ticks = cpu::tsc() - start;
    let mut inside = 0;
    for moment in 0..MOMENTS {
        let expected = CAME.load(Ordering::Relaxed) + 1;
        cpu::write_msr(apic::TSC_DEADLINE, cpu::tsc() + 1 + ticks * moment / MOMENTS);
        trace(Sequence::Shadows);
        if CAME.load(Ordering::Relaxed) == expected {
            inside += 1;
        }
        while CAME.load(Ordering::Relaxed) < expected {
            cpu::blink_interrupts_around_cpuid();
        }
        let came = CAME.load(Ordering::Relaxed);
        check!(came == expected, "{came} timer interrupts came, not {expected}");
    }
    check!(
        inside > MOMENTS / 4,
        "only {inside} of {MOMENTS} timer interrupts came inside the sequence"
    );
}

fn int1() {
    for (what, (fault, expected)) in [
        ("STI; INT1", step::int1_behind_sti()),
        ("MOV SS; INT1 with TF", step::int1_behind_mov_ss()),
    ] {
        let place = fault.map(|fault| (fault.vector, fault.rip));
        check!(
            place == Some((DEBUG, expected)),
            "{what}: {fault:x?}, expected #DB at {expected:#x}"
        );
        cpu::disable_interrupts();
        cpu::write_dr6(DR6_DEFAULT);
    }
}
