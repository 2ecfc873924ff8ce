//! Single steps: sequences that run with the trap flag, and where the traps came.

use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use crate::cpu;
use crate::trap::{self, Fault};

core::arch::global_asm!(include_str!("step.s"));

unsafe extern "C" {
    fn pleat_step_exits();
    fn pleat_step_shadows();
    fn pleat_step_int1();
    fn pleat_int1_behind_sti();
    fn pleat_int1_behind_mov_ss();
    fn pleat_int1();
    fn pleat_user_xsetbv();
    static pleat_step_exits_places: u64;
    static pleat_step_shadows_places: u64;
    static pleat_step_int1_places: u64;
    static pleat_int1_behind_sti_done: u8;
    static pleat_int1_behind_mov_ss_done: u8;
    static pleat_user_xsetbv_here: u8;
}

/// More traps than any sequence has.
const TRAPS_MAX: usize = 64;
const DR6_DEFAULT: u64 = 0xffff_0ff0;
/// DR6.BS.
pub const SINGLE_STEP: u64 = 1 << 14;

static IS_TRACING: AtomicBool = AtomicBool::new(false);
static TRAPS: AtomicUsize = AtomicUsize::new(0);
static PLACES: [AtomicU64; TRAPS_MAX] = [const { AtomicU64::new(0) }; TRAPS_MAX];
static REASONS: [AtomicU64; TRAPS_MAX] = [const { AtomicU64::new(0) }; TRAPS_MAX];

/// A sequence of step.s.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sequence {
    /// Instructions that the host executes.
    Exits,
    /// Exits in the shadows of MOV SS and STI. Interrupts are on for a part of it.
    Shadows,
    /// INT1 behind STI. Interrupts are on for a part of it.
    Int1,
}

/// A trap that is not what it should be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WrongStep {
    /// Which one, from 0.
    pub number: usize,
    /// Where it was due; 0 when none was.
    pub expected: u64,
    /// Where it came; 0 when it did not.
    pub found: u64,
    /// DR6 in the handler.
    pub dr6: u64,
}

/// Notes a debug exception and lets the code run on, where a sequence is being traced.
pub(crate) fn note(rip: u64) -> bool {
    if !IS_TRACING.load(Ordering::Relaxed) {
        return false;
    }
    let number = TRAPS.fetch_add(1, Ordering::Relaxed);
    if let (Some(place), Some(reason)) = (PLACES.get(number), REASONS.get(number)) {
        place.store(rip, Ordering::Relaxed);
        reason.store(cpu::read_dr6(), Ordering::Relaxed);
    }
    cpu::write_dr6(DR6_DEFAULT);
    true
}

/// Runs a sequence with the trap flag.
///
/// # Errors
/// The first trap that is lost, comes twice, at the wrong place, or without DR6.BS (INT1 apart).
pub fn trace(sequence: Sequence) -> Result<(), WrongStep> {
    let (routine, places): (unsafe extern "C" fn(), *const u64) = match sequence {
        Sequence::Exits => (pleat_step_exits, &raw const pleat_step_exits_places),
        Sequence::Shadows => (pleat_step_shadows, &raw const pleat_step_shadows_places),
        Sequence::Int1 => (pleat_step_int1, &raw const pleat_step_int1_places),
    };
    TRAPS.store(0, Ordering::Relaxed);
    cpu::write_dr6(DR6_DEFAULT);
    IS_TRACING.store(true, Ordering::Relaxed);
    // SAFETY: the sequences keep what the C ABI keeps, and the handler lets them run on.
    unsafe { routine() };
    IS_TRACING.store(false, Ordering::Relaxed);
    compare(places, sequence != Sequence::Int1)
}

fn compare(places: *const u64, has_reasons: bool) -> Result<(), WrongStep> {
    let traps = TRAPS.load(Ordering::Relaxed);
    for number in 0..TRAPS_MAX {
        // SAFETY: the list of a sequence ends with 0, where this ends too.
        let expected = unsafe { places.add(number).read() };
        let found = if number < traps {
            PLACES[number].load(Ordering::Relaxed)
        } else {
            0
        };
        let dr6 = REASONS[number].load(Ordering::Relaxed);
        let is_step = dr6 & 0xf00f == SINGLE_STEP;
        if found != expected || expected != 0 && has_reasons && !is_step {
            return Err(WrongStep {
                number,
                expected,
                found,
                dr6,
            });
        }
        if expected == 0 {
            break;
        }
    }
    Ok(())
}

/// INT1 in the shadow of STI, without the trap flag: the exception, and where it has to be reported.
#[must_use]
pub fn int1_behind_sti() -> (Option<Fault>, u64) {
    // SAFETY: it ends in a debug exception, or returns.
    let fault = trap::catch_fault(|| unsafe { pleat_int1_behind_sti() }).err();
    (fault, (&raw const pleat_int1_behind_sti_done).addr() as u64)
}

/// INT1 in the shadow of MOV SS, with the trap flag: the exception, and where it has to be reported.
#[must_use]
pub fn int1_behind_mov_ss() -> (Option<Fault>, u64) {
    // SAFETY: it ends in a debug exception, or returns.
    let fault = trap::catch_fault(|| unsafe { pleat_int1_behind_mov_ss() }).err();
    (fault, (&raw const pleat_int1_behind_mov_ss_done).addr() as u64)
}

/// XSETBV at privilege level 3: the exception, and where it has to be reported.
#[must_use]
pub fn user_xsetbv() -> (Option<Fault>, u64) {
    // SAFETY: it ends in an exception in every case, which the guarded call survives.
    let fault = trap::catch_fault(|| unsafe { pleat_user_xsetbv() }).err();
    (fault, (&raw const pleat_user_xsetbv_here).addr() as u64)
}

/// Debug exceptions whose frames meet a data breakpoint, so that each leads to the next (CVE-2015-8104).
/// Returns how many came, where the processor reports breakpoints only between instructions.
pub fn debug_loop() -> usize {
    const WATCH_8_BYTES: u64 = 0x400 | 2 | 0b1011 << 16;
    TRAPS.store(0, Ordering::Relaxed);
    IS_TRACING.store(true, Ordering::Relaxed);
    cpu::write_dr0(trap::exception_stack_top() - 8);
    cpu::write_dr7(WATCH_8_BYTES);
    // SAFETY: a debug exception, which the handler lets run on.
    unsafe { pleat_int1() };
    cpu::write_dr7(0x400);
    IS_TRACING.store(false, Ordering::Relaxed);
    TRAPS.load(Ordering::Relaxed)
}
