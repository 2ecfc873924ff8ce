//! TSC-deadline mode.

use core::sync::atomic::{AtomicU64, Ordering};

use pleat_guest::parameters::Parameters;
use pleat_guest::random::Random;
use pleat_guest::{apic, check, cpu, hypercall, println, trap};

const VECTOR: u8 = 0x41;
const SAMPLES_MAX: usize = 1024;
static CAME_AT: AtomicU64 = AtomicU64::new(0);

fn note_time(_: u8) {
    CAME_AT.store(cpu::tsc(), Ordering::Relaxed);
}

pub(crate) fn check_all(parameters: Parameters<'_>) {
    trap::set_handler(VECTOR, note_time);
    cpu::write_msr(apic::LVT_TIMER, apic::DEADLINE | u64::from(VECTOR));
    lateness(parameters);
    past_deadline_comes_at_once();
    cancelled_deadline_stays_away();
    masked_timer_stays_away();
}

/// Sleeps until the deadline interrupt and returns how late it was.
fn one(ticks: u64) -> u64 {
    CAME_AT.store(0, Ordering::Relaxed);
    let deadline = cpu::tsc() + ticks;
    cpu::write_msr(apic::TSC_DEADLINE, deadline);
    let armed = cpu::read_msr(apic::TSC_DEADLINE);
    check!(
        armed == deadline || armed == 0,
        "the deadline {deadline:#x} reads as {armed:#x}"
    );
    while CAME_AT.load(Ordering::Relaxed) == 0 {
        cpu::sleep();
    }
    let came = CAME_AT.load(Ordering::Relaxed);
    check!(came >= deadline, "{} ticks early", deadline - came);
    if hypercall::is_on_pleat() {
        // SDM 11.5.4.1: the MSR is cleared. Bochs's own APIC does not.
        let left = cpu::read_msr(apic::TSC_DEADLINE);
        check!(left == 0, "the deadline reads {left:#x} after it has passed");
    }
    came - deadline
}

fn lateness(parameters: Parameters<'_>) {
    let rounds = parameters.count("rounds", 200).clamp(1, SAMPLES_MAX);
    let mut random = Random::new(parameters.number("seed", 1));
    let longest = usize::try_from(apic::ticks(2000)).unwrap_or(usize::MAX);
    let mut samples = [0; SAMPLES_MAX];
    for sample in &mut samples[..rounds] {
        *sample = one(random.below(longest) as u64);
    }
    let samples = &mut samples[..rounds];
    samples.sort_unstable();
    let (least, median, most) = (samples[0], samples[rounds / 2], samples[rounds - 1]);
    hypercall::measure("late-min", least);
    hypercall::measure("late-median", median);
    hypercall::measure("late-max", most);
    println!("{rounds} deadlines, late by {least} to {most} ticks, median {median}");
    let bound = apic::ticks(parameters.number("bound", 50));
    check!(
        median <= bound,
        "the median deadline is {median} ticks late, at most {bound} allowed"
    );
    let worst = apic::ticks(parameters.number("worst", 20_000));
    check!(
        most <= worst,
        "one deadline was {most} ticks late, at most {worst} allowed"
    );
}

/// How long it takes until an interrupt must have come.
fn wait_a_little() {
    cpu::enable_interrupts();
    let end = cpu::tsc() + apic::ticks(300);
    while cpu::tsc() < end {
        cpu::pause();
    }
    cpu::disable_interrupts();
}

fn came() -> bool {
    CAME_AT.swap(0, Ordering::Relaxed) != 0
}

fn past_deadline_comes_at_once() {
    CAME_AT.store(0, Ordering::Relaxed);
    cpu::write_msr(apic::TSC_DEADLINE, 1);
    wait_a_little();
    check!(came(), "a deadline in the past never came");
}

fn cancelled_deadline_stays_away() {
    cpu::write_msr(apic::TSC_DEADLINE, cpu::tsc() + apic::ticks(100));
    cpu::write_msr(apic::TSC_DEADLINE, 0);
    wait_a_little();
    check!(!came(), "a deadline came that had been cancelled");
}

fn masked_timer_stays_away() {
    cpu::write_msr(
        apic::LVT_TIMER,
        apic::DEADLINE | apic::LVT_MASKED | u64::from(VECTOR),
    );
    cpu::write_msr(apic::TSC_DEADLINE, cpu::tsc() + apic::ticks(50));
    wait_a_little();
    check!(!came(), "a deadline came through a masked LVT entry");
    cpu::write_msr(apic::TSC_DEADLINE, 0);
}
