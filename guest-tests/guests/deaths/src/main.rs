//! Dies, or misbehaves, in one of several ways; the other guests must not notice.
//!
//! Parameters: `how`, one of the names in `WAYS`; `after` (milliseconds of peaceful life before, 0);
//! `for` (milliseconds that the floods last, 20). Those that survive report `survived` and succeed.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

mod floods;

use pleat_guest::parameters::Parameters;
use pleat_guest::{apic, check, cpu, hypercall, memory, println, trap};

pleat_guest::main!(run);

type Way = fn(Parameters<'_>);

/// Physical addresses at which a small guest has nothing; mapped by its own page tables.
const HOLE: u64 = 0x8000_0000;
const LOCAL_APIC: u64 = 0xfee0_0000;
const APIC_VERSION: u64 = 0x30;
const RESET_CONTROL: u16 = 0xcf9;
const KEYBOARD_COMMAND: u16 = 0x64;
const UART: u16 = 0x3f8;
const CR4_RESERVED: u64 = 1 << 63;

const WAYS: [(&str, Way); 22] = [
    ("triple-fault", |_| {
        trap::drop_tables();
        cpu::ud2();
    }),
    ("no-tables-cr4", |_| {
        trap::drop_tables();
        cpu::write_cr4(cpu::read_cr4() | CR4_RESERVED);
    }),
    ("garbage-cr3", |_| cpu::write_cr3(HOLE)),
    ("jump-nothing", |_| cpu::jump(HOLE)),
    ("jump-garbage", |_| {
        let mut pages = memory::take_all();
        let page = pages.page(0);
        page.fill(0..memory::WORDS, |_| {
            u64::from_le_bytes([0x0f, 0x0b, 0x0f, 0x0b, 0x0f, 0x0b, 0x0f, 0x0b])
        });
        trap::drop_tables();
        cpu::jump(page.address());
    }),
    ("hole-read", |_| _ = cpu::peek(HOLE)),
    ("hole-write", |_| cpu::poke(HOLE, 1)),
    ("hole-stack", |_| cpu::push_at(HOLE + 4096)),
    ("lapic-mmio", |_| _ = cpu::peek(LOCAL_APIC + APIC_VERSION)),
    ("string-out", |_| {
        cpu::string_out(UART, b"text by a string instruction");
    }),
    ("string-in", |_| cpu::string_in(UART, &mut [0; 16])),
    ("halt-for-ever", |_| cpu::halt_for_ever()),
    ("reboot", |_| {
        cpu::port_out_u8(RESET_CONTROL, 2);
        cpu::port_out_u8(RESET_CONTROL, 6);
    }),
    ("reboot-keyboard", |_| cpu::port_out_u8(KEYBOARD_COMMAND, 0xfe)),
    ("finish-1", |_| {
        println!("this guest was asked to fail");
        hypercall::finish(1)
    }),
    ("panic", |_| panic!("this guest was asked to panic")),
    ("exception", |_| cpu::ud2()),
    ("spin-for-ever", |_| cpu::spin_for_ever()),
    ("flood-exits", floods::exits),
    ("flood-interrupts", floods::interrupts),
    ("flood-console", floods::console),
    ("flood-hypercalls", floods::hypercalls),
];

fn run(parameters: Parameters<'_>) {
    let how = parameters.text("how").unwrap_or("(nothing)");
    let Some((_, way)) = WAYS.iter().find(|(name, _)| *name == how) else {
        println!("FAILED: how={how} is none of:");
        for (name, _) in WAYS {
            println!("  {name}");
        }
        hypercall::finish(1)
    };
    hypercall::event("up");
    apic::sleep_micros(parameters.number("after", 0).saturating_mul(1000));
    hypercall::event("dying");
    way(parameters);
    check!(how.starts_with("flood"), "{how}: still alive");
    hypercall::event("survived");
}
