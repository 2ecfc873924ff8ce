//! `how=lie`: pages that are in the balloon are used as if they were not; page numbers without memory; the same
//! page again and again; pages that are not in the balloon are taken out of it; the rings themselves are put into it.
//! Whoever does so may lose what is in those pages, and nothing else.
//!
//! `how=suicide`: all of memory is put into the balloon, the kernel too.

use pleat_guest::contents::Content;
use pleat_guest::memory::{self, WORDS};
use pleat_guest::random::Random;
use pleat_guest::virtio::balloon::{ALL, Balloon, LIST_MAX, POISON, Way, frame_of, list_bytes};
use pleat_guest::virtio::{Interrupts, Piece};
use pleat_guest::window::Window;
use pleat_guest::{apic, check, cpu, hypercall, interrupts, println};

use crate::arena::Arena;
use crate::{Start, VECTOR};

const FEATURES: u64 = ALL & !POISON;
const PATIENCE_TICKS: u64 = 20_000_000;
const PAUSE_MICROS: u64 = 20_000;

/// Pages of the arena go one way.
fn shift(balloon: &mut Balloon, arena: &Arena, way: Way, indices: core::ops::Range<usize>) {
    let mut list = [0; LIST_MAX];
    let count = indices.len();
    for (entry, index) in list.iter_mut().zip(indices) {
        *entry = arena.frame(index);
    }
    balloon.move_pages(way, &list[..count]);
}

/// A word written into a page of the balloon stays; around it are zeros or what was there.
fn write_one_word(arena: &mut Arena, index: usize) {
    const WORD: usize = 77;
    const VALUE: u64 = 0x0123_4567_89ab_cdef;
    let was = arena.content(index);
    let page = arena.page(index);
    page.store(WORD, VALUE);
    let is_kept = was != Content::Zero && page.load(0) == was.word(0);
    let now = if is_kept { was } else { Content::Zero };
    let expected = |word| if word == WORD { VALUE } else { now.word(word) };
    if let Err(wrong) = page.check(0..WORDS, expected) {
        wrong.fail("a word written into a page of the balloon");
    }
}

fn use_what_was_given(balloon: &mut Balloon, arena: &mut Arena, random: &mut Random) {
    const FIRST: usize = 100;
    const COUNT: usize = 512;
    shift(balloon, arena, Way::Inflate, FIRST..FIRST + COUNT);
    for index in FIRST..FIRST + COUNT {
        match random.below(4) {
            0 => arena.settle(index, "read in the balloon"),
            1 => {
                write_one_word(arena, index);
                arena.fill(index);
            }
            2 => arena.fill(index),
            _ => arena.give(index),
        }
    }
    arena.expect_all("after using what was given");
    // Again, those that were used and those that were not.
    shift(balloon, arena, Way::Inflate, FIRST..FIRST + COUNT);
    shift(balloon, arena, Way::Deflate, FIRST + COUNT / 2..FIRST + COUNT);
    for index in FIRST..FIRST + COUNT {
        arena.settle(index, "given twice");
        arena.fill(index);
    }
    apic::sleep_micros(PAUSE_MICROS);
    arena.expect_all("some time after that");
}

fn the_same_thrice(balloon: &mut Balloon, arena: &mut Arena) {
    let frames: [u32; 300] = core::array::from_fn(|index| arena.frame(700 + index / 3));
    for way in [Way::Inflate, Way::Inflate, Way::Deflate, Way::Deflate] {
        balloon.move_pages(way, &frames);
    }
    balloon.move_pages(Way::Inflate, &frames);
    for index in 700..800 {
        arena.settle(index, "given thrice");
    }
    arena.expect_all("after giving pages thrice");
}

fn numbers_without_memory(balloon: &mut Balloon, arena: &mut Arena) {
    let end = frame_of(memory::ram_end());
    let around: [u32; 64] = core::array::from_fn(|index| end + u32::try_from(index).unwrap_or(0));
    let anything = [
        u32::MAX,
        u32::MAX - 1,
        1 << 31,
        1 << 20,
        (1 << 20) - 1,
        0xfee00,
        0xc0001,
        0xbffff,
        0,
    ];
    for way in [Way::Inflate, Way::Deflate, Way::Inflate] {
        balloon.move_pages(way, &around);
        balloon.move_pages(way, &anything);
    }
    let is_well = !balloon.transport.needs_reset();
    check!(is_well, "pages without memory are no reason for a reset");
    arena.expect_all("after page numbers without memory");
}

/// The pages stay what they are.
fn take_out_what_is_not_in(balloon: &mut Balloon, arena: &mut Arena) {
    for first in (0..arena.len()).step_by(LIST_MAX) {
        let end = (first + LIST_MAX).min(arena.len());
        shift(balloon, arena, Way::Deflate, first..end);
    }
    arena.expect_all("after taking out what was not in");
}

/// The page with the vectors of the interrupts: without it none come, and with it they come again.
fn give_the_vectors(start: &Start, arena: &mut Arena) {
    let mut balloon = start.balloon(FEATURES);
    let Window::Memory(table) = balloon.transport.msix().table() else {
        return;
    };
    balloon.move_pages(Way::Inflate, &[frame_of(table)]);
    shift(&mut balloon, arena, Way::Deflate, 0..10);
    // All devices' vectors are in this page. This driver's are set again.
    balloon = start.balloon(FEATURES);
    if start.interrupts != Interrupts::Polled {
        let before = interrupts::counted(VECTOR + 2);
        shift(&mut balloon, arena, Way::Deflate, 0..10);
        let has_come = interrupts::sleep_while(1_000_000, || interrupts::counted(VECTOR + 2) != before);
        check!(has_come, "no interrupt after the vectors were set again");
    }
    arena.expect_all("after the vectors were given");
}

/// The rings and the list of the very chain that gives them: the device may lose its way, and a reset brings it back.
fn give_the_rings(start: &Start, arena: &mut Arena) {
    for round in 0..3 {
        let mut balloon = start.balloon(FEATURES);
        let layout = balloon.queue(Way::Inflate).layout();
        let list = balloon.list(0);
        let parts = [layout.descriptors, layout.available, layout.used, list];
        let mut frames = [0; LIST_MAX];
        for (index, frame) in frames.iter_mut().enumerate() {
            // The list is longer than what the device does at once: its second half is gone then.
            *frame = match index {
                0..4 => frame_of(parts[(index + round) % 4]),
                _ => arena.frame(index),
            };
        }
        for index in 4..LIST_MAX {
            arena.give(index);
        }
        let at = balloon.write_list(0, 0, &frames);
        let queue = balloon.queue(Way::Inflate);
        queue.offer(&[Piece::read(at, list_bytes(&frames))]);
        queue.kick();
        let until = cpu::tsc() + PATIENCE_TICKS;
        while !queue.has_used() && cpu::tsc() < until {}
        balloon.transport.reset();
        for index in 4..LIST_MAX {
            arena.settle(index, "given with the rings");
            arena.fill(index);
        }
        arena.expect_all("after the rings were given");
    }
}

pub(crate) fn run(mut start: Start) {
    let mut arena = start.arena();
    let mut random = Random::new(start.parameters.number("seed", 1));
    arena.fill_all();
    hypercall::event("up");
    let mut balloon = start.balloon(FEATURES);
    use_what_was_given(&mut balloon, &mut arena, &mut random);
    the_same_thrice(&mut balloon, &mut arena);
    numbers_without_memory(&mut balloon, &mut arena);
    take_out_what_is_not_in(&mut balloon, &mut arena);
    if hypercall::is_on_pleat() {
        give_the_vectors(&start, &mut arena);
    }
    give_the_rings(&start, &mut arena);
    balloon = start.balloon(FEATURES);
    use_what_was_given(&mut balloon, &mut arena, &mut random);
    println!(
        "{} pages compared, {} kept what they had",
        arena.checked, arena.kept
    );
    hypercall::measure("kept", arena.kept);
}

/// Ends in a fault: nothing of the kernel is left.
pub(crate) fn give_everything(start: Start) {
    let mut balloon = start.balloon(FEATURES);
    hypercall::event("up");
    let end = frame_of(memory::ram_end());
    for first in (0..end).step_by(LIST_MAX) {
        let frames: [u32; LIST_MAX] = core::array::from_fn(|index| first + u32::try_from(index).unwrap_or(0));
        balloon.move_pages(Way::Inflate, &frames);
    }
    check!(false, "alive without memory");
}
