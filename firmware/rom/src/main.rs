//! The boot ROM's Rust stage: it checks the bundle, loads the hypervisor and enters it.
//!
//! It runs below 640 KiB in 64-bit mode under an identity map of 4 GiB, on one processor, with
//! interrupts off and no IDT: a fault here resets the machine. `boot.s` is what came before.
#![no_std]
#![no_main]

mod hardware;

use core::fmt::Write;
use core::panic::PanicInfo;

use pleat_bundle::elf::Elf64;
use pleat_bundle::handover::{BUNDLE_BASE, BootInfo};
use pleat_bundle::{Bundle, Header, PAGE_SIZE, SectionKind};
use pleat_rom::{CmosMemory, Failure, Placement, boot_info, check_placement};

use pleat_freestanding as _;

use hardware::{Console, bundle_bytes, enter, load_segment, power_off, read_cmos};

core::arch::global_asm!(include_str!("boot.s"), options(att_syntax));

/// Called by `boot.s` with the time-stamp counter at reset.
// SAFETY: no other item of the program has this name.
#[unsafe(no_mangle)]
extern "C" fn firmware_main(reset_tsc: u64) -> ! {
    match boot(reset_tsc) {
        Ok((entry, info)) => enter(entry, &info),
        Err(failure) => fail(format_args!("{failure}")),
    }
}

/// Loads the hypervisor; returns its entry point and what it is to be told.
fn boot(reset_tsc: u64) -> Result<(u64, BootInfo), Failure> {
    let memory = CmosMemory::read(read_cmos);
    let ram_end = memory.low_end();
    let total_bytes = bundle_size(ram_end)?;
    let bundle = Bundle::parse(bundle_bytes(total_bytes))?;
    let (index, _) = bundle
        .header()
        .find(SectionKind::Hypervisor)
        .ok_or(Failure::NoHypervisor)?;
    let index = u16::try_from(index).map_err(|_| Failure::NoHypervisor)?;
    // Who uses another section checks it: the hypervisor.
    bundle.verify(index).map_err(Failure::Damaged)?;
    let file = bundle.section(index)?;
    let image = Elf64::parse(file, file.len() as u64)?;
    let bounds = Placement {
        ram_end,
        bundle_base: BUNDLE_BASE,
        bundle_end: BUNDLE_BASE + total_bytes,
    };
    if !check_placement(&image, &bounds) {
        return Err(Failure::Placement { ram_end });
    }
    for segment in image.loads() {
        load_segment(file, &segment);
    }
    Ok((image.entry(), boot_info(&memory, total_bytes, reset_tsc)))
}

/// The bundle's size, once it is sure that all of it is in RAM.
fn bundle_size(ram_end: u64) -> Result<u64, Failure> {
    if ram_end < BUNDLE_BASE + PAGE_SIZE as u64 {
        return Err(Failure::NoMemory { ram_end });
    }
    let page = bundle_bytes(PAGE_SIZE as u64)
        .first_chunk()
        .ok_or(Failure::NoMemory { ram_end })?;
    let total_bytes = Header::parse(page)?.total_bytes();
    let bundle_end = BUNDLE_BASE + total_bytes;
    if bundle_end > ram_end {
        return Err(Failure::BundleTooLarge { bundle_end, ram_end });
    }
    Ok(total_bytes)
}

fn fail(reason: core::fmt::Arguments<'_>) -> ! {
    // Writing to the console cannot fail.
    let _ = writeln!(Console::new(), "PLEAT FIRMWARE: {reason}");
    power_off()
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    fail(format_args!("a bug in the ROM: {info}"))
}
