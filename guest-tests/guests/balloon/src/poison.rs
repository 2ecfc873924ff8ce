//! `how=poison`: free pages hold a pattern, and the guest expects it there when it uses them again. With one that
//! is not 0 the host must leave reported pages alone; with 0 it may take them.
//!
//! Measures: `poisoned` (pages that were compared), `zeros`.

use pleat_guest::memory::WORDS;
use pleat_guest::virtio::Piece;
use pleat_guest::virtio::balloon::{ALL, POISON, REPORTING, Way};
use pleat_guest::{check, hypercall};

use crate::Start;
use crate::arena::LARGE_BYTES;

const PATTERN: u32 = 0xaa55_1234;
const PAGES: usize = 512;

fn pieces(address: u64, blocks: usize) -> [Piece; 4] {
    core::array::from_fn(|index| {
        let block = index % blocks;
        let bytes = u32::try_from(LARGE_BYTES / 2).unwrap_or(0);
        Piece::write(address + block as u64 * LARGE_BYTES / 2, bytes)
    })
}

pub(crate) fn run(mut start: Start) {
    let mut arena = start.arena();
    check!(arena.len() >= 3 * PAGES, "three blocks are needed");
    arena.fill_all();
    hypercall::event("up");
    for pattern in [PATTERN, 0] {
        let mut balloon = start.balloon(ALL);
        let features = balloon.transport.features();
        check!(
            features & (POISON | REPORTING) == POISON | REPORTING,
            "no reporting with a pattern: {features:#x}"
        );
        balloon.set_poison(pattern);
        let word = u64::from(pattern) << 32 | u64::from(pattern);
        for index in 0..2 * PAGES {
            arena.page(index).fill(0..WORDS, |_| word);
        }
        balloon.report(&pieces(arena.address(0), 4));
        for index in 0..2 * PAGES {
            if let Err(wrong) = arena.page(index).check(0..WORDS, |_| word) {
                wrong.fail("a reported page with a pattern");
            }
        }
        (2 * PAGES..arena.len()).for_each(|index| arena.expect(index, "beside reported pages"));
        // What goes into the balloon is the host's, pattern or not.
        let frames: [u32; PAGES] = core::array::from_fn(|index| arena.frame(index));
        balloon.move_pages(Way::Inflate, &frames);
        balloon.move_pages(Way::Deflate, &frames);
        hypercall::measure("poisoned", 2 * PAGES as u64);
        for index in 0..2 * PAGES {
            arena.fill(index);
        }
        arena.expect_all("after a reset");
    }
}
