//! `how=storm`: pages go in and out of the balloon at random, in chains of odd shapes, up to three at a time; every page
//! outside of the balloon holds what it has to.
//!
//! Parameters: `operations` (150). Measures: `inflated`, `deflated`, `kept` (pages that came back with their old
//! content), `checked-pages`, `interrupts`.

use pleat_guest::random::Random;
use pleat_guest::virtio::balloon::{ALL, Balloon, LIST_MAX, LISTS, POISON, Way, list_bytes};
use pleat_guest::virtio::{Interrupts, Piece};
use pleat_guest::{check, cpu, hypercall, interrupts, println};

use crate::Start;
use crate::arena::Arena;

const PIECES_MAX: usize = 12;
/// Pages that are compared after each operation.
const CHECKS: usize = 24;
/// An interrupt that has not come by then does not come any more.
const INTERRUPT_MICROS: u64 = 10_000_000;

struct Storm {
    balloon: Balloon,
    arena: Arena,
    random: Random,
    interrupts: Interrupts,
    moved: [u64; 2],
}

/// Cuts bytes into pieces: one, some whole page numbers each, or anything, so that numbers lie across pieces.
fn cut(random: &mut Random, at: u64, bytes: u32, pieces: &mut [Piece; PIECES_MAX]) -> usize {
    let unit = [bytes, 4, 1][random.below(3)].max(1);
    let (mut done, mut count) = (0, 0);
    while done < bytes {
        let left = bytes - done;
        let mean = (bytes as usize / 4).max(1);
        let random_bytes = u32::try_from(1 + random.below(mean * 2)).unwrap_or(1);
        let len = random_bytes.next_multiple_of(unit).min(left);
        let len = if count == PIECES_MAX - 1 { left } else { len };
        pieces[count] = Piece::read(at + u64::from(done), len);
        done += len;
        count += 1;
    }
    count
}

impl Storm {
    fn operation(&mut self) {
        // As many pages inside as outside, about.
        let is_inflating = self.random.below(self.arena.len()) >= self.arena.away;
        let way = if is_inflating { Way::Inflate } else { Way::Deflate };
        let mut lists = [[0; LIST_MAX]; LISTS];
        let mut lens = [0; LISTS];
        let chains = 1 + self.random.below(LISTS);
        for number in 0..chains {
            let most = [1, 20, 256, 257, LIST_MAX][self.random.below(5)];
            let wanted = 1 + self.random.below(most);
            let found = self
                .arena
                .pick(&mut self.random, way, &mut lists[number][..wanted]);
            lens[number] = found;
            self.arena.to_frames(&mut lists[number][..found]);
            self.offer(way, number, &lists[number][..found]);
        }
        self.kick_and_wait(way);
        for (list, len) in lists.iter_mut().zip(lens) {
            self.arena.to_indices(&mut list[..len]);
            self.moved[usize::from(way == Way::Deflate)] += len as u64;
            if way == Way::Deflate {
                self.take_back(&list[..len]);
            }
        }
        self.balloon
            .set_actual(u32::try_from(self.arena.away).unwrap_or(u32::MAX));
    }

    fn offer(&mut self, way: Way, number: usize, frames: &[u32]) {
        if frames.is_empty() {
            return;
        }
        // A list begins at any byte.
        let skew = self.random.below(64) as u64;
        let at = self.balloon.write_list(number, skew, frames);
        let mut pieces = [Piece::NONE; PIECES_MAX];
        let count = cut(&mut self.random, at, list_bytes(frames), &mut pieces);
        let head = self.balloon.queue(way).offer(&pieces[..count]);
        check!(head.is_some(), "no room for a chain of {count}");
    }

    /// Interrupts of the balloon so far.
    fn interrupts(&self) -> u32 {
        match self.interrupts {
            Interrupts::Polled => 0,
            Interrupts::Line => {
                let line = self.balloon.transport.function().interrupt_line();
                interrupts::counted(interrupts::LINES_VECTOR + (line & 15))
            }
            Interrupts::Messages(vector) => interrupts::counted(vector + 1) + interrupts::counted(vector + 2),
        }
    }

    /// Tells the device, and waits for all chains: half of the times for an interrupt, where there are any.
    fn kick_and_wait(&mut self, way: Way) {
        let is_patient = self.interrupts != Interrupts::Polled && self.random.below(2) == 0;
        if is_patient {
            // Those of earlier chains, which nobody has waited for.
            cpu::enable_interrupts();
            cpu::disable_interrupts();
        }
        let before = self.interrupts();
        self.balloon.queue(way).kick();
        if is_patient && self.balloon.queue(way).pending() != 0 {
            let has_come = interrupts::sleep_while(INTERRUPT_MICROS, || {
                let has_come = self.interrupts() != before;
                let queue = self.balloon.queue(way);
                while queue.take().is_some() {}
                has_come && queue.pending() == 0
            });
            check!(has_come, "no interrupt, or chains were lost");
        }
        while self.balloon.queue(way).pending() != 0 {
            self.balloon.queue(way).wait();
        }
    }

    /// What came back is zeros or as it was. Half of it is written again.
    fn take_back(&mut self, indices: &[u32]) {
        for index in indices {
            self.arena.settle(*index as usize, "out of the balloon");
            if self.random.below(2) == 0 {
                self.arena.fill(*index as usize);
            }
        }
    }

    fn empty(&mut self) {
        let mut list = [0; LIST_MAX];
        while self.arena.away != 0 {
            let found = self.arena.pick(&mut self.random, Way::Deflate, &mut list);
            if found == 0 {
                continue;
            }
            self.arena.to_frames(&mut list[..found]);
            self.balloon.move_pages(Way::Deflate, &list[..found]);
            self.arena.to_indices(&mut list[..found]);
            self.moved[1] += found as u64;
            self.take_back(&list[..found]);
        }
        self.balloon.set_actual(0);
    }
}

pub(crate) fn run(mut start: Start) {
    let mut storm = Storm {
        balloon: start.balloon(ALL & !POISON),
        arena: start.arena(),
        random: Random::new(start.parameters.number("seed", 1)),
        interrupts: start.interrupts,
        moved: [0; 2],
    };
    check!(
        storm.arena.len().is_power_of_two(),
        "the pages have to be a power of two"
    );
    if start.interrupts == Interrupts::Line {
        let transport = &storm.balloon.transport;
        interrupts::use_line(transport.function().interrupt_line(), transport.isr_window());
    }
    storm.arena.fill_all();
    hypercall::event("up");
    let operations = start.parameters.number("operations", 150);
    for operation in 0..operations {
        storm.operation();
        storm
            .arena
            .expect_some(&mut storm.random, CHECKS, "after an operation");
        if operation == operations / 2 {
            storm.arena.expect_all("half way");
            hypercall::event("half");
        }
    }
    storm.empty();
    storm.arena.expect_all("at the end");
    finish(&storm);
}

fn finish(storm: &Storm) {
    let [inflated, deflated] = storm.moved;
    println!(
        "{inflated} pages in, {deflated} out, {} as they were; {} compared",
        storm.arena.kept, storm.arena.checked
    );
    hypercall::measure("inflated", inflated);
    hypercall::measure("deflated", deflated);
    hypercall::measure("kept", storm.arena.kept);
    hypercall::measure("checked-pages", storm.arena.checked);
    hypercall::measure("interrupts", u64::from(storm.interrupts()));
}
