//! Random operations and failures against a map from contents to bytes.

use std::vec;
use std::vec::Vec;

use proptest::collection;
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_oneof, proptest};
use proptest::sample::Index;

use super::world::{Fate, Page, World, half, noise, page};
use crate::swap::{Coming, DiskError, DiskState, NotHad, NotKept};
use pleat_types::{FRAME_SIZE, SlotReference};

#[derive(Clone, Debug)]
enum Op {
    /// So many pages: the n-th guest page of all, with the n-th content of its kind.
    Keep(u64, u64, usize),
    Share(Index),
    Release(Index),
    /// Its content is brought, and if it is there the page has it again.
    Return(Index),
    Want(Index),
    Ask(Index),
    Issue,
    Finish(Fate),
    Settle,
    WriteBack(usize),
    Compact,
    Bad(u32),
}

/// A page whose content the store has.
struct Held {
    reference: SlotReference,
    page: u64,
    content: Page,
}

struct Model {
    world: World,
    held: Vec<Held>,
    /// The disk has lied, or has failed: contents may be damaged, or lost.
    has_lied: bool,
    has_failed: bool,
}

fn content(n: u64) -> Page {
    match n % 5 {
        0 => [u8::try_from(n % 256).unwrap(); FRAME_SIZE],
        1 | 2 => half(n),
        _ => noise(n),
    }
}

impl Model {
    fn pick(&self, which: &Index) -> Option<usize> {
        (!self.held.is_empty()).then(|| which.index(self.held.len()))
    }

    fn keep(&mut self, gfn: u64, seed: u64) {
        let content = content(seed);
        match self.world.keep(&content, Some(page(1, gfn))) {
            Ok(reference) => self.held.push(Held {
                reference,
                page: gfn,
                content,
            }),
            Err(NotKept::Bug(bug)) => panic!("{bug:?}"),
            Err(NotKept::Later) => assert_eq!(self.world.store.disk_state(), DiskState::Open),
            Err(_) => {}
        }
    }

    /// What is delivered is right; what is not has a reason. Whether it was delivered.
    fn ask(&mut self, n: usize) -> bool {
        let slot = self.held[n].reference.slot();
        match self.world.content(slot) {
            Ok(content) => {
                assert!(content == self.held[n].content, "another content");
                return true;
            }
            Err(NotHad::Damaged) => assert!(self.has_lied),
            Err(NotHad::Lost) => assert!(self.has_failed),
            Err(NotHad::OnDisk(_)) => {}
            Err(NotHad::Bug(bug)) => panic!("{bug:?}"),
        }
        false
    }

    /// The disk does a little for one content.
    fn bring(&mut self, n: usize) {
        let slot = self.held[n].reference.slot();
        if self.world.want(slot) == Coming::Soon {
            self.finish(Fate::Done);
            self.world.issue();
            self.finish(Fate::Done);
        }
    }

    fn finish(&mut self, fate: Fate) {
        self.has_lied |= matches!(fate, Fate::LostWrite | Fate::Flipped(_));
        self.has_failed |= fate != Fate::Done || !self.world.disk.bad.is_empty();
        self.world.finish(fate);
    }

    fn perform(&mut self, op: Op) {
        match op {
            Op::Keep(gfn, seed, count) => (0..count as u64).for_each(|n| self.keep(gfn + n, seed + n)),
            Op::Issue => drop(self.world.issue()),
            Op::Finish(fate) => self.finish(fate),
            Op::Settle => {
                self.finish(Fate::Done);
                self.has_failed |= !self.world.disk.bad.is_empty();
                self.world.settle();
            }
            Op::WriteBack(count) => {
                (0..count).for_each(|_| {
                    self.world.write_back();
                });
            }
            Op::Compact => self.world.compact(),
            Op::Bad(block) => drop(self.world.disk.bad.insert(block)),
            Op::Share(which) | Op::Release(which) | Op::Return(which) | Op::Want(which) | Op::Ask(which)
                if self.pick(&which).is_none() => {}
            Op::Share(which) => self.share(which.index(self.held.len())),
            Op::Release(which) => {
                let held = self.held.swap_remove(which.index(self.held.len()));
                self.world.release(held.reference);
            }
            Op::Return(which) => {
                let n = which.index(self.held.len());
                self.bring(n);
                if self.ask(n) {
                    let held = self.held.swap_remove(n);
                    self.world.release_returned(held.reference, page(1, held.page));
                }
            }
            Op::Want(which) => {
                let slot = self.held[which.index(self.held.len())].reference.slot();
                self.world.want(slot);
            }
            Op::Ask(which) => drop(self.ask(which.index(self.held.len()))),
        }
    }

    fn share(&mut self, n: usize) {
        let Held { page, content, .. } = self.held[n];
        let slot = self.held[n].reference.slot();
        let reference = self
            .world
            .store
            .add_reference(&mut self.world.memory, slot)
            .unwrap();
        self.held.push(Held {
            reference,
            page: page + 1000,
            content,
        });
    }

    fn check(&self) {
        self.world.audit();
        let store = &self.world.store;
        assert_eq!(store.slots().references, self.held.len() as u64);
        let blocks = store.blocks();
        assert_eq!(
            blocks.used + blocks.cached + blocks.free + blocks.bad,
            blocks.total
        );
        assert_eq!(blocks.cached, store.slots().clean);
        let on_disk = store.slots().disk;
        assert!(blocks.used >= on_disk && blocks.used <= on_disk + 64);
    }
}

fn fate() -> impl Strategy<Value = Fate> {
    let error = prop_oneof![
        Just(DiskError::BadSector),
        Just(DiskError::Transfer),
        Just(DiskError::TimedOut),
    ];
    prop_oneof![
        20 => Just(Fate::Done),
        2 => (0..32_usize).prop_map(Fate::Torn),
        1 => Just(Fate::LostWrite),
        1 => (0..FRAME_SIZE * 8).prop_map(Fate::Flipped),
        3 => error.prop_map(Fate::Failed),
        // Rarely: nothing is of interest afterwards.
        1 => (0..6).prop_map(|n| if n == 0 { Fate::Failed(DiskError::Gone) } else { Fate::Done }),
    ]
}

fn operation() -> impl Strategy<Value = Op> {
    let index = any::<Index>;
    prop_oneof![
        5 => (0..12_u64, 0..20_u64, 1..12_usize).prop_map(|(gfn, seed, count)| Op::Keep(gfn, seed, count)),
        1 => (0..12_u64, 0..20_u64, 30..50_usize).prop_map(|(gfn, seed, count)| Op::Keep(gfn, seed, count)),
        1 => index().prop_map(Op::Share),
        5 => index().prop_map(Op::Release),
        12 => index().prop_map(Op::Return),
        8 => index().prop_map(Op::Want),
        3 => index().prop_map(Op::Ask),
        8 => Just(Op::Issue),
        8 => fate().prop_map(Op::Finish),
        2 => Just(Op::Settle),
        2 => (1..10_usize).prop_map(Op::WriteBack),
        1 => Just(Op::Compact),
        1 => (0..90_u32).prop_map(Op::Bad),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn whatever_fails_what_is_delivered_is_right(
        pool in 0..6_u64,
        blocks in 1..160_u32,
        clean_frames in 0..3_usize,
        operations in collection::vec(operation(), 1..120),
    ) {
        let world = World::new(pool, blocks, clean_frames);
        let mut model = Model { world, held: Vec::new(), has_lied: false, has_failed: false };
        for op in operations {
            model.perform(op);
            model.check();
        }
        // In the end all that can be had is had, and nothing is left.
        model.has_failed |= !model.world.disk.bad.is_empty();
        model.world.settle();
        for n in 0..model.held.len() {
            let _ = model.world.fetch(model.held[n].reference.slot());
            model.ask(n);
        }
        for held in model.held.drain(..) {
            model.world.release(held.reference);
        }
        model.check();
    }
}
