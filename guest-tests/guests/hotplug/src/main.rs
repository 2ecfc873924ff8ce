//! Memory that is plugged and unplugged: new memory is zeros, what is written stays, what is unplugged and plugged again
//! is zeros again, and the rest keeps its content. Requests that break the rules are refused.
//!
//! The host says how much there is to be: the guest reports `grow` and `shrink` when it is ready for it. Parameters:
//! `seed` (1), `rounds` (3, each once up and once down), `wait` (milliseconds for the host to ask, 10000), `touch` (1: at
//! the end memory that is not plugged is read, which must be the guest's end). Events: `up`, `grow-N` and `shrink-N`
//! for each round from 1 on, `touching`, `work-ok`. Measures: `plugged` (MiB at most), `checked-pages`.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

mod refusals;

use pleat_guest::contents::{Content, seed_of};
use pleat_guest::memory::{self, Page};
use pleat_guest::parameters::Parameters;
use pleat_guest::random::Random;
use pleat_guest::regions::Region;
use pleat_guest::table::Table;
use pleat_guest::virtio::Interrupts;
use pleat_guest::virtio::balloon::{self, ALL, Balloon, LIST_MAX, POISON, Way, frame_of};
use pleat_guest::virtio::mem::{self, ACK, Mem, PLUGGED, Request, UNPLUGGED};
use pleat_guest::{apic, check, cpu, hypercall, interrupts, println};

pleat_guest::main!(run);

const MEM_VECTOR: u8 = 0x60;
const BALLOON_VECTOR: u8 = 0x68;
/// Pages of the guest's first memory that are watched.
const BASE_PAGES: usize = 256;
const MEBIBYTE: u64 = 1 << 20;
const PAGE_BYTES: u64 = 4096;

pub(crate) struct Work {
    pub(crate) mem: Mem,
    balloon: Balloon,
    base: &'static mut [Page],
    /// For each block: 0, or the round since which it is plugged.
    blocks: Table,
    len: usize,
    seed: u64,
    random: Random,
    round: u64,
    checked: u64,
}

impl Work {
    fn block_bytes(&self) -> u64 {
        self.mem.block_bytes()
    }

    fn address(&self, block: usize) -> u64 {
        self.mem.first() + block as u64 * self.block_bytes()
    }

    fn pages(&self, block: usize) -> &'static mut [Page] {
        memory::claim(Region::new(self.address(block), self.block_bytes()))
    }

    fn is_plugged(&self, block: usize) -> bool {
        self.blocks.get(block) != 0
    }

    fn content(&self, block: usize, page: usize) -> Content {
        let since = self.blocks.get(block);
        Content::seeded(seed_of(&[self.seed, block as u64, page as u64, since]))
    }

    fn plugged_blocks(&self) -> usize {
        (0..self.len).filter(|block| self.is_plugged(*block)).count()
    }

    /// Blocks of the device's memory become memory; all of it is zeros, and then written.
    fn plug(&mut self, first: usize, count: usize) {
        let blocks = u16::try_from(count).unwrap_or(u16::MAX);
        let answer = self.mem.ask(Request::Plug, self.address(first), blocks);
        check!(
            answer.kind == ACK,
            "plugging {count} blocks from {first}: {answer:?}"
        );
        for block in first..first + count {
            self.blocks.set(block, self.round);
            for (number, page) in self.pages(block).iter_mut().enumerate() {
                // Some of it is never touched.
                if number % 16 != 0 {
                    page.expect(Content::Zero, "plugged");
                    page.write(self.content(block, number));
                }
            }
        }
    }

    fn unplug(&mut self, first: usize, count: usize) {
        let blocks = u16::try_from(count).unwrap_or(u16::MAX);
        let answer = self.mem.ask(Request::Unplug, self.address(first), blocks);
        check!(
            answer.kind == ACK,
            "unplugging {count} blocks from {first}: {answer:?}"
        );
        (first..first + count).for_each(|block| self.blocks.set(block, 0));
    }

    /// Some blocks in a row that are all plugged, or all not.
    fn find(&mut self, is_plugged: impl Fn(&Self, usize) -> bool, most: usize) -> Option<(usize, usize)> {
        let start = self.random.below(self.len);
        let mut all = (0..self.len).map(|step| (start + step) % self.len);
        let first = all.find(|block| is_plugged(self, *block))?;
        let run = (first..self.len).take_while(|block| is_plugged(self, *block));
        Some((first, run.take(most.max(1)).count()))
    }

    /// Plugs or unplugs until the host has what it wants.
    fn follow(&mut self) {
        loop {
            let wanted = usize::try_from(self.mem.requested_bytes() / self.block_bytes()).unwrap_or(0);
            let now = self.plugged_blocks();
            let most = 1 + self.random.below(6);
            let found = match now.cmp(&wanted) {
                core::cmp::Ordering::Equal => return,
                core::cmp::Ordering::Less => {
                    self.find(|work, block| !work.is_plugged(block), most.min(wanted - now))
                }
                core::cmp::Ordering::Greater => {
                    self.find(|work, block| work.is_plugged(block), most.min(now - wanted))
                }
            };
            let Some((first, count)) = found else {
                check!(
                    false,
                    "{now} blocks are plugged, {wanted} are wanted, and none is found"
                );
                return;
            };
            if now < wanted {
                self.plug(first, count);
            } else {
                self.give_half(first);
                self.unplug(first, count);
            }
            self.check_config();
        }
    }

    /// What is unplugged may be in the balloon.
    fn give_half(&mut self, block: usize) {
        let first = frame_of(self.address(block));
        let frames: [u32; LIST_MAX / 4] =
            core::array::from_fn(|index| first + u32::try_from(index).unwrap_or(0));
        self.balloon.move_pages(Way::Inflate, &frames);
    }

    fn check_config(&mut self) {
        let expected = self.plugged_blocks() as u64 * self.block_bytes();
        let found = self.mem.plugged_bytes();
        check!(
            found == expected,
            "{found:#x} bytes are plugged, not {expected:#x}"
        );
        let block = self.random.below(self.len);
        let state = if self.is_plugged(block) {
            PLUGGED
        } else {
            UNPLUGGED
        };
        let answer = self.mem.ask(Request::State, self.address(block), 1);
        check!(
            answer.kind == ACK && answer.state == state,
            "block {block} has state {state}, says the model, and {answer:?}, says the device"
        );
    }

    fn check_all(&mut self, when: &str) {
        for (number, page) in self.base.iter().enumerate() {
            page.expect(Content::seeded(seed_of(&[self.seed, number as u64])), when);
        }
        for block in 0..self.len {
            if !self.is_plugged(block) {
                continue;
            }
            for (number, page) in self.pages(block).iter().enumerate() {
                if number % 16 != 0 {
                    page.expect(self.content(block, number), when);
                    self.checked += 1;
                }
            }
        }
    }

    /// Waits until the host wants something else, and does it.
    fn answer(&mut self, event: &str, micros: u64) {
        let before = self.mem.requested_bytes();
        hypercall::event(event);
        let mem = &self.mem;
        check!(
            interrupts::sleep_while(micros, || mem.requested_bytes() != before),
            "{event}: the host asks for nothing"
        );
        self.follow();
        self.check_all(event);
        refusals::check_all(self);
        self.check_all(event);
    }
}

fn start(parameters: Parameters<'_>) -> Work {
    let mut pages = memory::take_all();
    let (for_mem, for_balloon) = (pages.take(mem::PAGES, 4096), pages.take(balloon::PAGES, 4096));
    let [of_mem, of_balloon] = [MEM_VECTOR, BALLOON_VECTOR].map(|vector| {
        if apic::is_usable() {
            Interrupts::Messages(vector)
        } else {
            Interrupts::Polled
        }
    });
    let mem = Mem::start(of_mem, for_mem[0].address());
    check!(mem.is_some(), "this guest has no memory device");
    let mem = mem.unwrap_or_else(|| unreachable!());
    let len = usize::try_from(mem.region_bytes() / mem.block_bytes()).unwrap_or(0);
    for gibibyte in (mem.first() >> 30..=(mem.first() + mem.region_bytes() - 1) >> 30).filter(|it| *it >= 4) {
        memory::map_gibibyte(gibibyte, &mut pages.take(1, 4096)[0]);
    }
    println!("{len} blocks of {:#x} from {:#x}", mem.block_bytes(), mem.first());
    let seed = parameters.number("seed", 1);
    let base = pages.take(BASE_PAGES, 4096);
    for (number, page) in base.iter_mut().enumerate() {
        page.write(Content::seeded(seed_of(&[seed, number as u64])));
    }
    Work {
        mem,
        balloon: Balloon::must_start(ALL & !POISON, of_balloon, for_balloon[0].address(), 0),
        base,
        blocks: Table::new(pages.take(Table::pages(len), 4096)),
        len,
        seed,
        random: Random::new(seed),
        round: 0,
        checked: 0,
    }
}

/// The first block that is not plugged is read: the guest does not survive it.
fn touch(work: &mut Work) {
    let Some((block, _)) = work.find(|work, block| !work.is_plugged(block), 1) else {
        check!(false, "all blocks are plugged");
        return;
    };
    hypercall::event("touching");
    let found = cpu::peek_u64(work.address(block) + PAGE_BYTES);
    check!(false, "memory that is not plugged was read: {found:#x}");
}

fn run(parameters: Parameters<'static>) {
    let mut work = start(parameters);
    let wait = parameters.number("wait", 10_000).saturating_mul(1000);
    work.round = 1;
    work.follow();
    hypercall::event("up");
    refusals::check_all(&mut work);
    let mut most = 0;
    let rounds = [
        ("grow-1", "shrink-1"),
        ("grow-2", "shrink-2"),
        ("grow-3", "shrink-3"),
    ];
    for (grow, shrink) in rounds.into_iter().take(parameters.count("rounds", 3)) {
        work.round += 1;
        work.answer(grow, wait);
        most = most.max(work.mem.plugged_bytes());
        work.answer(shrink, wait);
    }
    if parameters.number("touch", 0) != 0 {
        touch(&mut work);
    }
    if work.mem.requested_bytes() == 0 {
        let answer = work.mem.ask(Request::UnplugAll, 0, 0);
        check!(answer.kind == ACK, "unplugging all: {answer:?}");
    }
    hypercall::measure("plugged", most / MEBIBYTE);
    hypercall::measure("checked-pages", work.checked);
    hypercall::event("work-ok");
}
