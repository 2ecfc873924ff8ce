//! `how=report`: blocks of 2 MiB become free and are reported, while others, and they themselves as soon as they are
//! given back, are used again: by the next instruction, by the handler of the device's interrupt, and by a timer's.
//! What is written stays; what is not reported keeps its content; what is reported is zeros or as it was.
//!
//! Parameters: `rounds` (60), `blocks` (24), `hasty` (1: blocks are used before the device has given them back; then each
//! word of theirs is new, old, or zero). Measures: `reported-blocks`, `taken` (pages that were zeros afterwards), `reused`,
//! `in-interrupts` (of those).

use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};

use pleat_guest::contents::{Content, seed_of};
use pleat_guest::memory::WORDS;
use pleat_guest::random::{Random, mix};
use pleat_guest::virtio::Piece;
use pleat_guest::virtio::balloon::{ALL, Balloon, POISON};
use pleat_guest::window::Window;
use pleat_guest::{apic, check, cpu, hypercall, trap};

use crate::arena::LARGE_BYTES;
use crate::{Start, VECTOR};

const BLOCKS_MAX: usize = 64;
const PAGES: usize = 512;
const TIMER_VECTOR: u8 = 0x70;
const TIMER_TICKS: u64 = 60_000;
/// Blocks of a report: what Linux's driver sends at once.
const CHAIN: usize = 32;

const USED: u8 = 0;
const FREE: u8 = 1;
const REPORTING: u8 = 2;
/// In a page's version: nobody cares for it; it holds that version, or zeros.
const DROPPED: u32 = 1 << 31;

static STATES: [AtomicU8; BLOCKS_MAX] = [const { AtomicU8::new(USED) }; BLOCKS_MAX];
static VERSIONS: [AtomicU32; BLOCKS_MAX * PAGES] = [const { AtomicU32::new(0) }; BLOCKS_MAX * PAGES];
static BASE: AtomicU64 = AtomicU64::new(0);
static BLOCKS: AtomicU64 = AtomicU64::new(0);
static CLOCK: AtomicU64 = AtomicU64::new(1);
static REUSED: AtomicU64 = AtomicU64::new(0);
static IN_INTERRUPTS: AtomicU64 = AtomicU64::new(0);
static IS_HASTY: AtomicBool = AtomicBool::new(false);

const fn pages_of(block: usize) -> core::ops::Range<usize> {
    block * PAGES..(block + 1) * PAGES
}

fn memory(page: usize) -> Window {
    Window::Memory(BASE.load(Relaxed) + page as u64 * 4096)
}

fn content(page: usize, version: u32) -> Content {
    match version & !DROPPED {
        0 => Content::Zero,
        version => Content::seeded(seed_of(&[page as u64, u64::from(version)])),
    }
}

/// Writes a page, as whoever allocates it does, and sees before that it was left to nobody else.
fn use_page(page: usize) {
    let version = u32::try_from(CLOCK.fetch_add(1, Relaxed)).unwrap_or(1) & !DROPPED;
    expect(page, "when it is used again");
    VERSIONS[page].store(version, Relaxed);
    let now = content(page, version);
    for word in 0..WORDS {
        memory(page).store_u64(word as u64 * 8, now.word(word));
    }
    REUSED.fetch_add(1, Relaxed);
}

/// A page holds its version; one that was dropped, that or zeros. Whether it is zeros.
fn expect(page: usize, when: &str) -> bool {
    let version = VERSIONS[page].load(Relaxed);
    let was = content(page, version);
    let is_zero = version & DROPPED != 0 && memory(page).load_u64(0) == 0;
    let now = if is_zero { Content::Zero } else { was };
    for word in 0..WORDS {
        let found = memory(page).load_u64(word as u64 * 8);
        check!(
            found == now.word(word),
            "{when}: page {page}, version {version:#x}, word {word} is {found:#x}, not {:#x}",
            now.word(word)
        );
    }
    is_zero
}

/// In an interrupt: a free block is allocated, and some of its pages are used at once.
fn allocate_in_interrupt() {
    let clock = cpu::tsc();
    let blocks = BLOCKS.load(Relaxed).max(1);
    let block = usize::try_from(mix(clock) % blocks).unwrap_or(0);
    if STATES[block]
        .compare_exchange(FREE, USED, Relaxed, Relaxed)
        .is_ok()
    {
        for page in 0..2 {
            let page = usize::try_from(mix(clock + page)).unwrap_or(0) % PAGES;
            use_page(block * PAGES + page);
            IN_INTERRUPTS.fetch_add(1, Relaxed);
        }
    }
}

/// The one report that is under way is done: its blocks are free, and one of them is used at once.
fn on_report(_: u8) {
    if IS_HASTY.load(Relaxed) {
        return;
    }
    for state in &STATES {
        let _ = state.compare_exchange(REPORTING, FREE, Relaxed, Relaxed);
    }
    allocate_in_interrupt();
}

fn on_timer(_: u8) {
    allocate_in_interrupt();
    cpu::write_msr(apic::TSC_DEADLINE, cpu::tsc() + TIMER_TICKS);
}

struct Reporter {
    balloon: Balloon,
    random: Random,
    blocks: usize,
    reported: u64,
    taken: u64,
}

impl Reporter {
    /// All pages of some blocks are compared, and become free.
    fn free_some(&mut self) {
        for _ in 0..1 + self.random.below(self.blocks / 2) {
            let block = self.random.below(self.blocks);
            if STATES[block].load(Relaxed) != USED {
                continue;
            }
            for page in pages_of(block) {
                self.taken += u64::from(expect(page, "in use"));
                VERSIONS[page].fetch_or(DROPPED, Relaxed);
            }
            STATES[block].store(FREE, Relaxed);
        }
    }

    /// Reports free blocks, up to 32 in one chain. From the notification on interrupts may use what is free.
    fn report(&mut self) {
        let mut pieces = [Piece::NONE; CHAIN];
        let mut count = 0;
        for (block, state) in STATES.iter().enumerate().take(self.blocks) {
            // Some stay free and are not reported: a timer's interrupt may use them meanwhile.
            if count == CHAIN || self.random.below(3) == 0 {
                continue;
            }
            if state.compare_exchange(FREE, REPORTING, Relaxed, Relaxed).is_ok() {
                let at = BASE.load(Relaxed) + block as u64 * LARGE_BYTES;
                pieces[count] = Piece::write(at, u32::try_from(LARGE_BYTES).unwrap_or(0));
                count += 1;
            }
        }
        let Some(queue) = self.balloon.reporting().filter(|_| count != 0) else {
            return;
        };
        let head = queue.offer(&pieces[..count]);
        check!(head.is_some(), "no room for a report of {count} blocks");
        self.reported += count as u64;
        queue.kick();
        if IS_HASTY.load(Relaxed) {
            haste(&pieces[..count]);
        }
        queue.wait();
        for (block, state) in STATES.iter().enumerate().take(self.blocks) {
            // Those that no interrupt was faster with are used at once, and half of the others.
            let was_mine = state.compare_exchange(REPORTING, USED, Relaxed, Relaxed).is_ok();
            let is_wanted = self.random.below(2) == 0;
            if was_mine || is_wanted && state.compare_exchange(FREE, USED, Relaxed, Relaxed).is_ok() {
                let page = block * PAGES + self.random.below(PAGES);
                if was_mine && IS_HASTY.load(Relaxed) {
                    settle_hasty(block);
                }
                use_page(page);
            }
        }
    }
}

const HASTE: u64 = 0x4a57_e000_0000_0000;

/// Writes one word to each page of reported blocks, although they are the device's.
fn haste(pieces: &[Piece]) {
    for piece in pieces {
        for page in 0..PAGES as u64 {
            let at = piece.at + page * 4096;
            Window::Memory(at).store_u64(8 * (page % WORDS as u64), HASTE | page);
        }
    }
}

/// Each word of a block is what haste wrote, what was there, or zero; then the block is zeros.
fn settle_hasty(block: usize) {
    for page in pages_of(block) {
        let was = content(page, VERSIONS[page].load(Relaxed));
        for word in 0..WORDS {
            let found = memory(page).load_u64(word as u64 * 8);
            let number = (page % PAGES) as u64;
            let is_hasty = word as u64 == number % WORDS as u64 && found == HASTE | number;
            let is_known = is_hasty || found == 0 || found == was.word(word);
            check!(is_known, "page {page}, word {word} is {found:#x}");
            memory(page).store_u64(word as u64 * 8, 0);
        }
        VERSIONS[page].store(0, Relaxed);
    }
}

fn prepare(start: &mut Start) -> Reporter {
    let balloon = start.balloon(ALL & !POISON);
    let blocks = start.parameters.count("blocks", 24).clamp(2, BLOCKS_MAX);
    let pages = start.pages.take(blocks * PAGES, LARGE_BYTES);
    BASE.store(pages[0].address(), Relaxed);
    BLOCKS.store(blocks as u64, Relaxed);
    IS_HASTY.store(start.parameters.number("hasty", 0) != 0, Relaxed);
    if apic::is_usable() {
        trap::set_handler(TIMER_VECTOR, on_timer);
        trap::set_handler(VECTOR + 4, on_report);
        cpu::write_msr(apic::LVT_TIMER, apic::DEADLINE | u64::from(TIMER_VECTOR));
        cpu::write_msr(apic::TSC_DEADLINE, cpu::tsc() + TIMER_TICKS);
    }
    Reporter {
        balloon,
        random: Random::new(start.parameters.number("seed", 1)),
        blocks,
        reported: 0,
        taken: 0,
    }
}

pub(crate) fn run(mut start: Start) {
    let mut reporter = prepare(&mut start);
    check!(reporter.balloon.reporting().is_some(), "reporting is not offered");
    for page in 0..reporter.blocks * PAGES {
        use_page(page);
    }
    hypercall::event("up");
    for _ in 0..start.parameters.number("rounds", 60) {
        reporter.free_some();
        if apic::is_usable() {
            cpu::enable_interrupts();
        }
        reporter.report();
        cpu::disable_interrupts();
    }
    for page in 0..reporter.blocks * PAGES {
        expect(page, "at the end");
    }
    hypercall::measure("reported-blocks", reporter.reported);
    hypercall::measure("taken", reporter.taken);
    hypercall::measure("reused", REUSED.load(Relaxed));
    hypercall::measure("in-interrupts", IN_INTERRUPTS.load(Relaxed));
}
