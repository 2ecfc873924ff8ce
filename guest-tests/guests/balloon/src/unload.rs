//! `how=unload`: the driver resets the device in the middle of its work and starts it again. What was under way is done
//! or not done, page by page; after the reset the device touches none of the old rings.
//!
//! Parameters: `rounds` (24). Measures: `taken` (pages that were gone after a reset), `left` (those that were not).

use pleat_guest::random::Random;
use pleat_guest::virtio::Piece;
use pleat_guest::virtio::balloon::{ALL, Balloon, LIST_MAX, LISTS, POISON, Way, list_bytes};
use pleat_guest::window::Window;
use pleat_guest::{apic, check, hypercall};

use crate::Start;
use crate::arena::Arena;

const FILLING: u64 = 0x6b6b_6b6b_6b6b_6b6b;
const PAUSE_MICROS: u64 = 3000;

/// Offers chains, tells the device of them or not, and resets it at once.
fn interrupt_work(balloon: &mut Balloon, arena: &mut Arena, random: &mut Random) {
    let way = if random.below(4) == 0 {
        Way::Deflate
    } else {
        Way::Inflate
    };
    for number in 0..LISTS {
        let mut list = [0; LIST_MAX];
        let wanted = 1 + random.below(LIST_MAX);
        let found = arena.pick(random, way, &mut list[..wanted]);
        arena.to_frames(&mut list[..found]);
        let at = balloon.write_list(number, 0, &list[..found]);
        if found != 0 {
            balloon
                .queue(way)
                .offer(&[Piece::read(at, list_bytes(&list[..found]))]);
        }
        // Whether it came out is not known: it counts as inside until it is looked at.
        arena.to_indices(&mut list[..found]);
        list[..found].iter().for_each(|index| arena.give(*index as usize));
    }
    if random.below(4) != 0 {
        balloon.queue(way).kick();
    }
    // A report and statistics under way as well.
    let frees = Piece::write(arena.address(0), 0x20_0000);
    (0..512).for_each(|index| arena.give(index));
    if let Some(queue) = balloon.reporting() {
        queue.offer(&[frees]);
        queue.kick();
    }
    balloon.offer_statistics(&[(4, 1 << 20)]);
    balloon.transport.reset();
}

/// Fills the rings, waits, and sees that nobody has written there.
fn nobody_uses_the_rings(start: &Start) {
    let place = start.driver[0].address();
    let words = start.driver.len() as u64 * 512;
    let memory = Window::Memory(place);
    for word in 0..words {
        memory.store_u64(word * 8, FILLING);
    }
    apic::sleep_micros(PAUSE_MICROS);
    for word in 0..words {
        let found = memory.load_u64(word * 8);
        check!(found == FILLING, "a device that was reset has written {found:#x}");
    }
}

pub(crate) fn run(mut start: Start) {
    let mut arena = start.arena();
    let mut random = Random::new(start.parameters.number("seed", 1));
    arena.fill_all();
    hypercall::event("up");
    let (mut taken, mut left) = (0, 0);
    for _ in 0..start.parameters.number("rounds", 24) {
        let mut balloon = start.balloon(ALL & !POISON);
        interrupt_work(&mut balloon, &mut arena, &mut random);
        nobody_uses_the_rings(&start);
        for index in 0..arena.len() {
            if arena.is_away(index) && random.below(2) == 0 {
                let kept = arena.kept;
                arena.settle(index, "after a reset");
                left += arena.kept - kept;
                taken += 1 - (arena.kept - kept);
                arena.fill(index);
            }
        }
        arena.expect_some(&mut random, 200, "after a reset");
    }
    for index in 0..arena.len() {
        if arena.is_away(index) {
            arena.settle(index, "after the last reset");
        }
    }
    arena.expect_all("at the end");
    hypercall::measure("taken", taken);
    hypercall::measure("left", left);
}
