//! What each kind of exit costs, in ticks of the TSC, seen from inside: the median of many single
//! operations between two reads of the TSC, less what two reads alone take. One round before warms up.
//!
//! Parameters: `samples` (201). The rows are named as the statistics format wants them.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use pleat_guest::memory::{self, Pages};
use pleat_guest::parameters::Parameters;
use pleat_guest::trap::{self, FAST_VECTOR};
use pleat_guest::{apic, check, cpu, hypercall, println};

pleat_guest::main!(run);

const SAMPLES_MAX: usize = 1001;
const TSC_ADJUST: u32 = 0x3b;
const KERNEL_GS_BASE: u32 = 0xc000_0102;
/// Handled in the hypervisor by a simple device: PCI's address latch.
const PCI_ADDRESS: u16 = 0xcf8;
const DEMAND_ZERO_PAGES: usize = 512;

struct Bench {
    samples: usize,
    /// Ticks of an empty measurement.
    empty: u64,
}

impl Bench {
    fn median(&self, mut operation: impl FnMut()) -> u64 {
        let mut samples = [0; SAMPLES_MAX];
        let samples = &mut samples[..self.samples];
        for sample in samples.iter_mut() {
            let start = cpu::tsc();
            operation();
            *sample = cpu::tsc() - start;
        }
        samples.sort_unstable();
        samples[samples.len() / 2]
    }

    fn row(&self, name: &str, mut operation: impl FnMut()) {
        self.median(&mut operation);
        let ticks = self.median(operation);
        report(name, ticks.saturating_sub(self.empty));
    }
}

fn report(name: &str, ticks: u64) {
    hypercall::measure(name, ticks);
    println!("{name}: {ticks}");
}

fn simple_exits(bench: &Bench) {
    bench.row("cpuid", || _ = cpu::cpuid(0, 0));
    if hypercall::is_on_pleat() {
        bench.row("vmcall", || _ = hypercall::null());
        bench.row("invd", cpu::invd);
    }
    bench.row("wbinvd", cpu::wbinvd);
    bench.row("port-in", || _ = cpu::port_in_u32(PCI_ADDRESS));
    bench.row("port-out", || cpu::port_out_u32(PCI_ADDRESS, 0));
}

fn msrs(bench: &Bench) {
    if trap::catch_fault(|| cpu::read_msr(TSC_ADJUST)).is_ok() {
        let adjust = cpu::read_msr(TSC_ADJUST);
        bench.row("rdmsr-tsc-adjust", || _ = cpu::read_msr(TSC_ADJUST));
        bench.row("wrmsr-tsc-adjust", || cpu::write_msr(TSC_ADJUST, adjust));
    } else {
        println!("there is no TSC_ADJUST: two rows are missing");
    }
    let base = cpu::read_msr(KERNEL_GS_BASE);
    bench.row("kernel-gs-base", || cpu::write_msr(KERNEL_GS_BASE, base));
}

fn registers(bench: &Bench) {
    bench.row("mov-cr8", || cpu::write_cr8(0));
    bench.row("mov-dr", || cpu::write_dr0(0));
    let cr0 = cpu::read_cr0();
    // Off and on again: two writes.
    bench.row("cr0-wp-toggle", || {
        cpu::write_cr0(cr0 & !cpu::CR0_WP);
        cpu::write_cr0(cr0);
    });
}

/// Until the handler, which acknowledges and counts, has returned.
fn wait_for_one_more(before: u64) {
    while trap::fast_count() == before {
        core::hint::spin_loop();
    }
}

fn interrupts(bench: &Bench) {
    if !apic::is_usable() {
        println!("there is no x2APIC with TSC deadline: two rows are missing");
        return;
    }
    cpu::write_msr(apic::LVT_TIMER, apic::DEADLINE | u64::from(FAST_VECTOR));
    cpu::enable_interrupts();
    // Due as soon as it is armed: what remains is the way through the hypervisor.
    bench.row("tsc-deadline", || {
        let before = trap::fast_count();
        cpu::write_msr(apic::TSC_DEADLINE, cpu::tsc());
        wait_for_one_more(before);
    });
    cpu::disable_interrupts();
    bench.row("self-ipi", || {
        let before = trap::fast_count();
        cpu::write_msr(apic::SELF_IPI, u64::from(FAST_VECTOR));
        cpu::enable_interrupts();
        wait_for_one_more(before);
        cpu::disable_interrupts();
    });
}

/// The first write to a page that nobody has touched; each page is good for one sample.
fn demand_zero(bench: &Bench, pages: &mut Pages) {
    let mut samples = [0; DEMAND_ZERO_PAGES];
    // The first pages pay for page tables of the host, too: the median does not show them.
    check!(
        pages.len() > DEMAND_ZERO_PAGES,
        "{} free pages are too few",
        pages.len()
    );
    for (sample, index) in samples.iter_mut().zip(1..) {
        let page = pages.page(index);
        let start = cpu::tsc();
        page.store(0, 1);
        *sample = cpu::tsc() - start;
    }
    samples.sort_unstable();
    report(
        "demand-zero",
        samples[DEMAND_ZERO_PAGES / 2].saturating_sub(bench.empty),
    );
}

fn run(parameters: Parameters<'_>) {
    hypercall::event("up");
    let mut bench = Bench {
        samples: parameters.count("samples", 201).clamp(1, SAMPLES_MAX),
        empty: 0,
    };
    bench.empty = bench.median(|| ());
    report("empty", bench.empty);
    simple_exits(&bench);
    msrs(&bench);
    registers(&bench);
    interrupts(&bench);
    demand_zero(&bench, &mut memory::take_all());
    hypercall::event("work-ok");
}
