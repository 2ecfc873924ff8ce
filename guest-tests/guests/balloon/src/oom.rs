//! `how=oom`: a guest with an allocator, which gives what its host asks for, and then needs more than it has left. With
//! `DEFLATE_ON_OOM` it takes pages out of the balloon; without, it dies with a report.
//!
//! Parameters: `wait` (milliseconds for the host to ask, 5000), `need` (pages, of the balloon's pages too). Events:
//! `up`, `inflated`, `out-of-memory`, `grown`, `given-again`. Measures: `taken-back` (pages).

use pleat_guest::random::Random;
use pleat_guest::virtio::Interrupts;
use pleat_guest::virtio::balloon::{ALL, Balloon, DEFLATE_ON_OOM, LIST_MAX, POISON, Way};
use pleat_guest::{apic, check, hypercall, interrupts, println};

use crate::Start;
use crate::arena::Arena;

/// Pages that are taken back at once, as Linux does it.
const TAKEN_AT_ONCE: usize = 256;
const POLL_MICROS: u64 = 1000;

struct Allocator {
    balloon: Balloon,
    arena: Arena,
    random: Random,
    /// Pages up to here are in use, unless they are in the balloon; the others are free.
    used: usize,
    next: usize,
    taken_back: u64,
}

impl Allocator {
    /// A page to use, filled; or several, when they have to come out of the balloon.
    fn allocate(&mut self) {
        while self.next < self.arena.len() && self.arena.is_away(self.next) {
            self.next += 1;
        }
        if self.next == self.arena.len() {
            self.take_back();
            return;
        }
        self.arena.fill(self.next);
        self.next += 1;
        self.used += 1;
    }

    fn take_back(&mut self) {
        let may = self.balloon.transport.features() & DEFLATE_ON_OOM != 0;
        if !may || self.arena.away == 0 {
            println!(
                "out of memory: {} pages are used, {} in the balloon",
                self.used, self.arena.away
            );
            hypercall::event("out-of-memory");
            hypercall::finish(1);
        }
        let mut list = [0; TAKEN_AT_ONCE];
        let found = self.arena.pick(&mut self.random, Way::Deflate, &mut list);
        if found == 0 {
            return;
        }
        self.arena.to_frames(&mut list[..found]);
        self.balloon.move_pages(Way::Deflate, &list[..found]);
        self.arena.to_indices(&mut list[..found]);
        for index in &list[..found] {
            self.arena.settle(*index as usize, "taken back");
            self.arena.fill(*index as usize);
        }
        self.used += found;
        self.taken_back += found as u64;
        self.tell();
    }

    fn tell(&self) {
        self.balloon
            .set_actual(u32::try_from(self.arena.away).unwrap_or(u32::MAX));
    }

    /// Gives free pages, from the last one on, until the host has what it wants.
    fn meet_target(&mut self) {
        let target = self.balloon.target() as usize;
        let mut last = self.arena.len();
        while self.arena.away < target {
            let mut list = [0; LIST_MAX];
            let mut found = 0;
            while found < LIST_MAX && self.arena.away < target {
                check!(last > self.next, "the host asks for more than is free: {target}");
                last -= 1;
                if !self.arena.is_away(last) {
                    self.arena.give(last);
                    list[found] = self.arena.frame(last);
                    found += 1;
                }
            }
            self.balloon.move_pages(Way::Inflate, &list[..found]);
            self.tell();
        }
    }
}

pub(crate) fn run(mut start: Start) {
    let mut allocator = Allocator {
        balloon: start.balloon(ALL & !POISON),
        arena: start.arena(),
        random: Random::new(start.parameters.number("seed", 1)),
        used: 0,
        next: 0,
        taken_back: 0,
    };
    let need = start.parameters.count("need", allocator.arena.len());
    hypercall::event("up");
    let balloon = &allocator.balloon;
    let is_asked = match start.interrupts {
        Interrupts::Messages(_) => {
            interrupts::sleep_while(start.micros("wait", 5000), || balloon.target() != 0)
        }
        _ => (0..start.micros("wait", 5000) / POLL_MICROS).any(|_| {
            apic::sleep_micros(POLL_MICROS);
            balloon.target() != 0
        }),
    };
    check!(is_asked, "the host asks for nothing");
    allocator.meet_target();
    hypercall::event("inflated");
    while allocator.used < need {
        allocator.allocate();
    }
    allocator.arena.expect_all("with more than the host wanted");
    hypercall::measure("taken-back", allocator.taken_back);
    hypercall::event("grown");
    // It frees what it needed, and then the host can have it again.
    allocator.next = allocator.arena.len() - allocator.balloon.target() as usize;
    allocator.meet_target();
    allocator.arena.expect_all("when the balloon is full again");
    hypercall::event("given-again");
}
