//! Whatever a driver asks for, beside a set of blocks.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::{ProptestConfig, Strategy, prop_assert, prop_assert_eq, prop_oneof, proptest};

use super::super::super::testing::Short;
use super::super::super::{Device, Trouble};
use super::super::BLOCK_BYTES;
use super::{ACK, Answered, BUSY, ERROR, INACCESSIBLE, NACK, PLUG, Rig, STATE, UNPLUG, UNPLUG_ALL, block_at};

const BLOCKS: u64 = 140;

#[derive(Clone, Copy, Debug)]
enum Event {
    /// A request (type, first block, an offset, blocks), while so many calls find no memory.
    Ask(u16, u64, u64, u16, Short),
    /// The host wants so many blocks.
    Request(u64),
    Reset,
}

fn event() -> impl Strategy<Value = Event> {
    let few = prop_oneof![10 => 0u16..20, 1 => 60u16..200];
    let offset = prop_oneof![20 => 0u64..1, 1 => 0u64..3 << 21];
    let short = (0u32..3, 0u32..9, 0u32..2, 0u32..3).prop_map(|(make_writable, later, plug, unplug)| Short {
        make_writable,
        make_writable_later: later,
        plug,
        unplug,
        write: u32::MAX,
        ..Short::default()
    });
    prop_oneof![
        20 => (0u16..5, 0..BLOCKS + 3, offset, few, short)
            .prop_map(|(kind, block, offset, blocks, short)| Event::Ask(kind, block, offset, blocks, short)),
        2 => (0..BLOCKS + 10).prop_map(Event::Request),
        1 => (0u8..1).prop_map(|_| Event::Reset),
    ]
}

/// What the standard says, without steps and shortages.
struct Model {
    plugged: BTreeSet<u64>,
    requested: u64,
}

impl Model {
    fn ask(&mut self, kind: u16, at: u64, blocks: u16, is_short: bool) -> Answered {
        if kind == UNPLUG_ALL {
            self.plugged.clear();
            return (ACK, 0);
        }
        let first = (at - block_at(0)) / BLOCK_BYTES;
        let range: BTreeSet<u64> = (first..first + u64::from(blocks)).collect();
        let is_range =
            at.is_multiple_of(BLOCK_BYTES) && blocks > 0 && range.iter().all(|block| *block < BLOCKS);
        let there = range.intersection(&self.plugged).count();
        match kind {
            _ if kind > STATE || !is_range => (ERROR, 0),
            PLUG if there > 0 => (ERROR, 0),
            PLUG if (self.plugged.len() + range.len()) as u64 > self.requested => (NACK, 0),
            PLUG if is_short => (BUSY, 0),
            PLUG => {
                self.plugged.extend(range);
                (ACK, 0)
            }
            UNPLUG if there < range.len() => (ERROR, 0),
            UNPLUG => {
                self.plugged.retain(|block| !range.contains(block));
                (ACK, 0)
            }
            _ if there == range.len() => (ACK, 0),
            _ if there == 0 => (ACK, 1),
            _ => (ACK, 2),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn the_device_does_what_the_standard_says(events in vec(event(), 1..40)) {
        let mut rig = Rig::new(BLOCKS);
        let mut model = Model { plugged: BTreeSet::new(), requested: BLOCKS };
        for event in events {
            match event {
                Event::Ask(kind, block, offset, blocks, short) => {
                    let at = block_at(block) + offset;
                    rig.hands.short = short;
                    let answer = rig.ask(kind, at, blocks);
                    prop_assert_eq!(answer, model.ask(kind, at, blocks, short.plug > 0));
                }
                Event::Request(blocks) => {
                    let before = rig.mem.requested_bytes();
                    let has_changed = rig.mem.set_requested(blocks * BLOCK_BYTES);
                    model.requested = blocks.min(BLOCKS);
                    prop_assert_eq!(has_changed, before != rig.mem.requested_bytes());
                    prop_assert_eq!(rig.field(48), model.requested * BLOCK_BYTES);
                }
                Event::Reset => {
                    rig.mem.reset();
                    rig.mem.negotiated(INACCESSIBLE);
                }
            }
            prop_assert_eq!(&rig.plugged(), &model.plugged);
            prop_assert_eq!(rig.hands.plugged.len(), 512 * model.plugged.len());
        }
    }

    /// Whatever bytes a request has, in whatever buffers: no panic, an end, and a count that is true.
    #[test]
    fn no_chain_breaks_it(
        raw in vec(0u8..4, 24),
        buffers in vec((prop_oneof![0u64..0x4000, 0..u64::MAX], prop_oneof![0u32..40, 0..u32::MAX], 0u8..2), 1..10),
    ) {
        let mut rig = Rig::new(3);
        let ram: std::vec::Vec<u8> = raw.iter().copied().cycle().take(0x3000).collect();
        rig.hands.poke(pleat_types::Gpa::new(0x1000), &ram);
        let mut chain: std::vec::Vec<_> = buffers
            .into_iter()
            .map(|(at, bytes, is_answer)| {
                let direction = if is_answer == 1 { super::Direction::ToGuest } else { super::Direction::FromGuest };
                (pleat_types::Gpa::new(at), bytes, direction)
            })
            .collect();
        chain.sort_by_key(|buffer| buffer.2 == super::Direction::ToGuest);
        rig.driver.add(&mut rig.hands, &chain);
        let result = rig.kick();
        prop_assert!(!matches!(result, Err(Trouble::HostShort)));
        rig.check();
    }
}
