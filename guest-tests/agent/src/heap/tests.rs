//! The heap against a model that never collects anything.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::{Just, ProptestConfig, Strategy, any, proptest};
use proptest::{collection, prop_assert_eq, prop_oneof};

use super::{AllocateError, CHUNK_BYTES, CHUNK_CELLS, Handle, Heap, LINKS, WORDS};

const ROOTS: usize = 8;

/// What a program does with its heap.
#[derive(Clone, Debug)]
enum Action {
    /// A chain of so many new cells, held by a root.
    Chain {
        root: usize,
        cells: usize,
    },
    /// A link from the cell that so many first links lead to from a root, to the one that another root holds.
    Link {
        root: usize,
        steps: usize,
        link: usize,
        to: usize,
    },
    Copy {
        from: usize,
        to: usize,
    },
    Drop {
        root: usize,
    },
    Collect,
    Shrink,
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let root = || 0..ROOTS;
    let action = prop_oneof![
        4 => (root(), 1..900_usize).prop_map(|(root, cells)| Action::Chain { root, cells }),
        4 => (root(), 0..40_usize, 0..LINKS, root())
            .prop_map(|(root, steps, link, to)| Action::Link { root, steps, link, to }),
        1 => (root(), root()).prop_map(|(from, to)| Action::Copy { from, to }),
        2 => root().prop_map(|root| Action::Drop { root }),
        1 => Just(Action::Collect),
        1 => Just(Action::Shrink),
    ];
    collection::vec(action, 1..40)
}

/// Cells by the number in their first word; nothing ever ends.
#[derive(Default)]
struct Model {
    links: BTreeMap<u64, [Option<u64>; LINKS]>,
    roots: [Option<u64>; ROOTS],
    next: u64,
}

impl Model {
    fn new_cell(&mut self) -> u64 {
        self.next += 1;
        self.links.insert(self.next, [None; LINKS]);
        self.next
    }

    fn live(&self) -> usize {
        let mut seen = BTreeSet::new();
        let mut found: Vec<u64> = self.roots.iter().flatten().copied().collect();
        while let Some(cell) = found.pop() {
            if seen.insert(cell) {
                found.extend(self.links[&cell].iter().flatten());
            }
        }
        seen.len()
    }
}

fn words(number: u64) -> [u64; WORDS] {
    std::array::from_fn(|word| number.rotate_left(u32::try_from(word * 9).unwrap()))
}

struct Both {
    heap: Heap,
    model: Model,
}

impl Both {
    fn new(max_bytes: usize) -> Self {
        Self {
            heap: Heap::new(max_bytes, ROOTS),
            model: Model::default(),
        }
    }

    /// The new chain is reachable from its first cell on, or the heap would be right to collect it.
    fn chain(&mut self, root: usize, cells: usize) {
        let mut last: Option<(Handle, u64)> = None;
        for _ in 0..cells {
            let number = self.model.next + 1;
            let Ok(handle) = self.heap.allocate(words(number)) else {
                return;
            };
            self.model.new_cell();
            match last {
                Some((cell, above)) => {
                    self.heap.set_link(cell, 0, Some(handle));
                    self.model.links.get_mut(&above).unwrap()[0] = Some(number);
                }
                None => {
                    self.heap.set_root(root, Some(handle));
                    self.model.roots[root] = Some(number);
                }
            }
            last = Some((handle, number));
        }
    }

    fn link(&mut self, root: usize, steps: usize, link: usize, to: usize) {
        let (Some(mut cell), Some(mut number)) = (self.heap.root(root), self.model.roots[root]) else {
            return;
        };
        for _ in 0..steps {
            let (Some(next), Some(below)) = (self.heap.link(cell, 0), self.model.links[&number][0]) else {
                break;
            };
            (cell, number) = (next, below);
        }
        self.heap.set_link(cell, link, self.heap.root(to));
        self.model.links.get_mut(&number).unwrap()[link] = self.model.roots[to];
    }

    fn act(&mut self, action: &Action) {
        match *action {
            Action::Chain { root, cells } => self.chain(root, cells),
            Action::Link {
                root,
                steps,
                link,
                to,
            } => self.link(root, steps, link, to),
            Action::Copy { from, to } => {
                self.heap.set_root(to, self.heap.root(from));
                self.model.roots[to] = self.model.roots[from];
            }
            Action::Drop { root } => {
                self.heap.set_root(root, None);
                self.model.roots[root] = None;
            }
            Action::Collect => assert_eq!(self.heap.collect(), self.model.live()),
            Action::Shrink => {
                self.heap.shrink();
                let chunks = self.model.live().div_ceil(CHUNK_CELLS);
                assert_eq!(self.heap.bytes(), chunks * CHUNK_BYTES);
            }
        }
    }

    /// All that roots reach is the same in both.
    fn compare(&self) {
        let mut seen = BTreeSet::new();
        let mut found = Vec::new();
        for root in 0..ROOTS {
            found.push((self.heap.root(root), self.model.roots[root]));
        }
        while let Some(pair) = found.pop() {
            let (cell, number) = match pair {
                (None, None) => continue,
                (Some(cell), Some(number)) => (cell, number),
                other => panic!("one of the two has a link: {other:?}"),
            };
            assert_eq!(self.heap.words(cell), words(number));
            if seen.insert(number) {
                let links = self.model.links[&number].into_iter().enumerate();
                found.extend(links.map(|(link, to)| (self.heap.link(cell, link), to)));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_roots_reach_is_what_was_stored(actions in actions(), chunks in 1..4_usize) {
        let mut both = Both::new(chunks * CHUNK_BYTES);
        for action in &actions {
            both.act(action);
            both.compare();
            prop_assert_eq!(both.heap.bytes() <= chunks * CHUNK_BYTES, true);
        }
        both.heap.shrink();
        both.compare();
    }

    /// A heap is full only when everything in it is in use.
    #[test]
    fn a_full_heap_is_full_of_live_cells(dropped in any::<bool>()) {
        let mut both = Both::new(CHUNK_BYTES);
        both.chain(0, CHUNK_CELLS - 10);
        both.chain(1, 100);
        let full = both.heap.allocate(words(0));
        prop_assert_eq!(matches!(full, Err(AllocateError::Full)), true);
        prop_assert_eq!(both.heap.collect(), CHUNK_CELLS);
        if dropped {
            both.act(&Action::Drop { root: 1 });
            prop_assert_eq!(both.heap.allocate(words(0)).is_ok(), true);
        }
        both.compare();
    }
}

#[test]
fn a_heap_collects_at_its_limit_and_shrinks_to_what_is_live() {
    let mut both = Both::new(4 * CHUNK_BYTES);
    both.chain(0, 100);
    for _ in 0..100 {
        both.chain(1, CHUNK_CELLS / 4);
    }
    assert_eq!(both.heap.bytes(), 4 * CHUNK_BYTES);
    // 25 chunks' worth went through four.
    assert!((6..30).contains(&both.heap.counters().collections));
    both.act(&Action::Drop { root: 1 });
    assert_eq!(both.heap.shrink(), 3 * CHUNK_BYTES);
    both.compare();
    both.act(&Action::Drop { root: 0 });
    assert_eq!(both.heap.shrink(), CHUNK_BYTES);
    assert_eq!(both.heap.counters().released_bytes, (4 * CHUNK_BYTES) as u64);
    both.chain(2, 10);
    both.compare();
}
