//! From the first instruction to a board that `image` can use.
//!
//! There are two ways in: our own ROM, which hands over a [`BootInfo`], and a Multiboot 2 loader, whose
//! tags are turned into one. From there on the way is the same.

mod map;
mod multiboot;

#[cfg(not(test))]
use core::arch::global_asm;

use pleat_bundle::handover::BootInfo;
use pleat_bundle::symbols::Symbols;
use pleat_bundle::{Header, Section, SectionCheck, SectionKind};
use pleat_types::FRAME_SIZE;

use crate::cpu::rdtsc;
use crate::power::{Ending, power_off};
use crate::vmx::capability;
use crate::{bare::Bare, board::Board, crash, interrupts, paging, serial, traps};

pub use map::MemoryMap;

#[cfg(not(test))] // a test has an entry of its own
global_asm!(include_str!("start.s"), start = sym pleat_start);

/// What Pleat booted with.
pub struct Boot {
    /// What is where in memory.
    pub memory: MemoryMap,
    /// The time-stamp counter right after reset; 0 where the loader does not say.
    pub reset_tsc: u64,
    /// The time-stamp counter at Pleat's first line.
    pub entry_tsc: u64,
}

/// Where both ways in meet: `magic` is a Multiboot 2 loader's, or 0 from our ROM.
extern "C" fn pleat_start(info: u64, magic: u32) -> ! {
    let entry_tsc = rdtsc();
    traps::start();
    serial::CONSOLE.lock().start();
    crate::log_sink::start();
    let start = Start {
        info,
        magic,
        entry_tsc,
    };
    // SAFETY: the program defines it with this signature (see `entry!` and `bare_entry!`).
    unsafe { pleat_program(start) }
}

unsafe extern "Rust" {
    /// The program: it names its main function with [`crate::entry!`] or [`crate::bare_entry!`].
    fn pleat_program(start: Start) -> !;
}

/// What a program begins with: nothing is set up yet but exceptions and the log.
pub struct Start {
    info: u64,
    magic: u32,
    entry_tsc: u64,
}

impl Start {
    /// Sets everything up for guests. Ends the machine where the processor cannot have any.
    #[must_use]
    pub fn board(self) -> (Board, Boot) {
        let capabilities = match capability::check() {
            Ok(capabilities) => capabilities,
            Err(missing) => {
                crash::print(format_args!(
                    "PLEAT CANNOT RUN: this processor lacks: {missing}\n"
                ));
                power_off(Ending::Incapable)
            }
        };
        let boot = self.boot(interrupts::start);
        (Board::start(capabilities, &boot.memory), boot)
    }

    /// Sets up what any processor with 64 bits has: memory and, where they can be had, interrupts.
    #[must_use]
    pub fn bare(self) -> Bare {
        let can_sleep = capability::has_timer();
        let boot = self.boot(|| {
            if can_sleep {
                interrupts::start();
            }
        });
        Bare::start(&boot.memory, can_sleep)
    }

    /// Finds memory and bundle, and moves to tables of our own.
    fn boot(self, start_interrupts: impl FnOnce()) -> Boot {
        let info = if self.magic == 0 {
            from_rom(self.info)
        } else {
            multiboot::boot_info(self.info, self.magic)
        };
        let info = info.unwrap_or_else(|reason| refuse(reason));
        let reach = if capability::has_huge_pages() {
            paging::Reach::All
        } else {
            paging::Reach::FourGiB
        };
        let mut memory = MemoryMap::new(&info, reach.limit()).unwrap_or_else(|reason| refuse(reason));
        paging::start(memory.highest(), reach);
        start_interrupts();
        find_bundle(&info, &mut memory);
        Boot {
            memory,
            reset_tsc: info.reset_tsc,
            entry_tsc: self.entry_tsc,
        }
    }
}

/// A boot that cannot go on ends with one clear line.
fn refuse(reason: &str) -> ! {
    crash::print(format_args!("PLEAT CANNOT BOOT: {reason}\n"));
    power_off(Ending::Crashed)
}

fn from_rom(info: u64) -> Result<BootInfo, &'static str> {
    // SAFETY: the ROM passes the address of a record below 640 KiB, which its tables map.
    let bytes = unsafe { &*(info as *const [u8; BootInfo::BYTES]) };
    BootInfo::from_bytes(bytes).map_err(|_| "the boot information of the firmware is damaged")
}

/// Finds the bundle, and copies the symbols to where they can stay.
fn find_bundle(info: &BootInfo, memory: &mut MemoryMap) {
    let is_whole =
        info.bundle_base.is_multiple_of(FRAME_SIZE as u64) && info.bundle_bytes >= FRAME_SIZE as u64;
    if !is_whole || !memory.is_usable(info.bundle_base, info.bundle_bytes) {
        refuse("the boot bundle does not lie on a page of usable memory");
    }
    // SAFETY: the first page of the bundle, in usable and mapped memory.
    let page = unsafe { &*(info.bundle_base as *const [u8; FRAME_SIZE]) };
    let contents = Header::parse(page).unwrap_or_else(|_| refuse("the boot bundle's header is damaged"));
    if contents.total_bytes() > info.bundle_bytes {
        refuse("the boot bundle is cut short");
    }
    memory.set_bundle(info.bundle_base, contents.total_bytes());
    if let Some((_, section)) = contents.find(SectionKind::Symbols) {
        keep_symbols(info.bundle_base + section.offset, section, memory);
    }
}

/// Gives crash records their symbols. Damaged ones are left out: they are not worth a boot.
fn keep_symbols(base: u64, section: &Section, memory: &mut MemoryMap) {
    let (Ok(length), Ok(padded)) = (
        usize::try_from(section.bytes),
        usize::try_from(section.padded_bytes()),
    ) else {
        return;
    };
    // SAFETY: within the bundle by `Header::parse`, in usable memory, and no guest exists yet.
    let bytes = unsafe { core::slice::from_raw_parts(base as *const u8, padded) };
    let mut check = SectionCheck::new(section);
    check.update(bytes);
    if check.finish().is_err() {
        log::warn!("the symbols in the boot bundle do not have their checksum");
        return;
    }
    let kept = memory.claim_records(length, 0_u8);
    kept.copy_from_slice(&bytes[..length]);
    if let Some(symbols) = Symbols::parse(kept) {
        crash::set_symbols(symbols);
    }
}
