//! `how=flood`: notifications without a reason and without an end, configuration read and written, statistics and pages
//! as fast as they are taken.
//!
//! Parameters: `for` (milliseconds, 300), `what` (`kicks`, `registers`, `statistics`, `pages`, or all of them).
//! Measures: `rounds`. Event: `survived`.

use pleat_guest::random::Random;
use pleat_guest::virtio::balloon::{ALL, Balloon, LIST_MAX, POISON, Way, tag};
use pleat_guest::{apic, check, cpu, hypercall};

use crate::Start;
use crate::arena::Arena;

const KINDS: [&str; 4] = ["kicks", "registers", "statistics", "pages"];

fn kicks(balloon: &mut Balloon, random: &mut Random) {
    for _ in 0..64 {
        let queue = u16::try_from(random.below(64)).unwrap_or(0);
        balloon.transport.notify().store_u16(u64::from(queue) * 4, queue);
    }
}

/// All that can be read or written without changing what was settled.
fn registers(balloon: &mut Balloon, random: &mut Random) {
    let (common, config) = (balloon.transport.common(), balloon.transport.config());
    for _ in 0..32 {
        let word = u32::try_from(random.below(1 << 32)).unwrap_or(0);
        common.store_u32(0, word);
        let _ = common.load_u32(4 * random.below(14) as u64);
        config.store_u32(4 * random.below(4) as u64, word);
        let _ = config.load_u8(random.below(128) as u64);
        let _ = balloon.transport.isr();
        let _ = balloon.transport.function().read_u32(0x10);
    }
}

fn statistics(balloon: &mut Balloon, random: &mut Random) {
    for _ in 0..16 {
        if let Some(queue) = balloon.statistics() {
            while queue.take().is_some() {}
        }
        let values = [
            (tag::FREE, random.next_u64()),
            (tag::TOTAL, u64::MAX),
            (0xffff, random.next_u64()),
            (tag::FREE, 4096),
        ];
        balloon.offer_statistics(&values[..1 + random.below(4)]);
    }
}

/// The same pages, in and out again.
fn pages(balloon: &mut Balloon, arena: &mut Arena, random: &mut Random) {
    let count = 1 + random.below(LIST_MAX.min(arena.len()));
    let first = random.below(arena.len() - count + 1);
    let frames: [u32; LIST_MAX] = core::array::from_fn(|index| arena.frame(first + index % count));
    for way in [Way::Inflate, Way::Deflate] {
        balloon.move_pages(way, &frames[..count]);
    }
    for index in first..first + count {
        arena.settle(index, "in a flood");
    }
}

pub(crate) fn run(mut start: Start) {
    let mut balloon = start.balloon(ALL & !POISON);
    let mut arena = start.arena();
    let mut random = Random::new(start.parameters.number("seed", 1));
    let what = start.parameters.text("what");
    check!(
        what.is_none_or(|what| KINDS.contains(&what)),
        "what: one of {KINDS:?}"
    );
    arena.fill_all();
    hypercall::event("up");
    let end = cpu::tsc() + apic::ticks(start.micros("for", 300));
    let mut rounds = 0;
    while cpu::tsc() < end {
        let kind = what.unwrap_or(KINDS[random.below(KINDS.len())]);
        match kind {
            "kicks" => kicks(&mut balloon, &mut random),
            "registers" => registers(&mut balloon, &mut random),
            "statistics" => statistics(&mut balloon, &mut random),
            _ => pages(&mut balloon, &mut arena, &mut random),
        }
        rounds += 1;
    }
    arena.expect_all("after a flood");
    check!(!balloon.transport.needs_reset(), "a flood breaks no rule");
    hypercall::measure("rounds", rounds);
    hypercall::event("survived");
}
