//! `how=measure`: what a page costs on its way into the balloon and out of it, in ticks of the TSC from before the
//! notification until the chain is used: the whole exit. Medians over chains of 256 pages.
//!
//! Measures: `inflate-per-page` (pages that were written), `deflate-per-page`, `inflate-scattered-per-page` (pages that
//! lie far apart), `inflate-zero-per-page` (never touched), and `null-exit` to compare with.

use pleat_guest::timing::{empty, median, ticks_of};
use pleat_guest::virtio::Piece;
use pleat_guest::virtio::balloon::{ALL, Balloon, POISON, Way, list_bytes};
use pleat_guest::{hypercall, println};

use crate::Start;
use crate::arena::Arena;

/// Pages of a chain: what Linux's driver sends at once.
const CHAIN: usize = 256;
const SAMPLES_MAX: usize = 512;

struct Bench {
    balloon: Balloon,
    empty: u64,
}

impl Bench {
    /// Moves all pages of the arena; the page in place `n` of the row is `page(n)`.
    fn row(&mut self, name: &str, way: Way, arena: &Arena, page: impl Fn(usize) -> usize) {
        let mut ticks = [0; SAMPLES_MAX];
        let chains = (arena.len() / CHAIN).min(SAMPLES_MAX);
        for (chain, tick) in ticks[..chains].iter_mut().enumerate() {
            let frames: [u32; CHAIN] = core::array::from_fn(|index| arena.frame(page(chain * CHAIN + index)));
            let at = self.balloon.write_list(0, 0, &frames);
            let queue = self.balloon.queue(way);
            queue.offer(&[Piece::read(at, list_bytes(&frames))]);
            *tick = ticks_of(|| {
                queue.kick();
                while !queue.has_used() {}
            });
            queue.wait();
        }
        let sorted = &mut ticks[..chains];
        let half = median(sorted).saturating_sub(self.empty) / CHAIN as u64;
        let most = sorted.last().copied().unwrap_or(0) / CHAIN as u64;
        println!("{name}: {half} a page, at most {most} ({chains} chains)");
        hypercall::measure(name, half);
    }
}

pub(crate) fn run(mut start: Start) {
    let mut bench = Bench {
        balloon: start.balloon(ALL & !POISON),
        empty: empty(),
    };
    bench.balloon.queue(Way::Inflate).silence();
    bench.balloon.queue(Way::Deflate).silence();
    let mut arena = start.arena();
    let untouched = start.arena();
    hypercall::event("up");
    arena.fill_all();
    bench.row("inflate-per-page", Way::Inflate, &arena, |index| index);
    bench.row("deflate-per-page", Way::Deflate, &arena, |index| index);
    for index in 0..arena.len() {
        arena.note_zero(index);
        arena.expect(index, "out of the balloon");
    }
    arena.fill_all();
    let (len, far) = (arena.len(), 517);
    bench.row("inflate-scattered-per-page", Way::Inflate, &arena, |index| {
        index * far % len
    });
    bench.row("inflate-zero-per-page", Way::Inflate, &untouched, |index| index);
    if hypercall::is_on_pleat() {
        let mut exits = [0; 101];
        exits.fill_with(|| ticks_of(|| _ = hypercall::null()).saturating_sub(bench.empty));
        hypercall::measure("null-exit", median(&mut exits));
    }
}
