//! The bits, against the tables of the SDM.

use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};
use std::vec::Vec;

use crate::codec::{AGE_MAX, Absent, Backing, CALM_OWED_MAX, Entry, Leaf, Level, eptp};
use pleat_types::{Gfn, Hfn, PageSize, SwapSlot};

const fn leaf(frame: u64, size: PageSize, backing: Backing) -> Leaf {
    Leaf {
        frame: Hfn::new(frame),
        size,
        backing,
        accessed: false,
        dirty: false,
        calm_owed: 0,
        age: 0,
    }
}

#[test]
fn bits_are_those_of_the_manual() {
    assert_eq!(Entry::Absent(Absent::Hole).encode(), 0);
    assert_eq!(Entry::Table(Hfn::new(0x123)).encode(), 0x12_3007);
    let small = |backing| Entry::Leaf(leaf(0x123, PageSize::Small, backing)).encode();
    assert_eq!(small(Backing::Owned), 0x12_3037);
    assert_eq!(small(Backing::Shared), 0x0010_0000_0012_3035);
    assert_eq!(small(Backing::Frozen), 0x4000_0000_0012_3035);
    let owned = |frame, size| Entry::Leaf(leaf(frame, size, Backing::Owned)).encode();
    assert_eq!(owned(0x200, PageSize::Large), 0x20_00b7);
    assert_eq!(owned(0x4_0000, PageSize::Huge), 0x4000_00b7);
    let owing = Leaf {
        calm_owed: 9,
        ..leaf(0x123, PageSize::Small, Backing::Owned)
    };
    assert_eq!(Entry::Leaf(owing).encode(), 0x0120_0000_0012_3037);
    let old = Leaf {
        age: 0b10001,
        ..leaf(0x123, PageSize::Small, Backing::Shared)
    };
    assert_eq!(Entry::Leaf(old).encode(), 0x2210_0000_0012_3035);
    assert_eq!(Entry::Swapped(SwapSlot::new(0)).encode(), 0x000f_ffff_ffff_f020);
    assert_eq!(
        Entry::Swapped(SwapSlot::new(0x1234_5678)).encode(),
        0x000f_fedc_ba98_7020
    );
    assert_eq!(eptp(Hfn::new(0x55)), 0x5505e);
}

#[test]
fn what_the_processor_may_set_is_understood() {
    let Ok(Entry::Leaf(leaf)) = Entry::decode(0x12_3337, Level::One) else {
        panic!("no leaf")
    };
    assert!(leaf.accessed && leaf.dirty);
    assert_eq!(
        Entry::decode(0x12_3107, Level::Two),
        Ok(Entry::Table(Hfn::new(0x123)))
    );
}

#[test]
fn malformed_entries_are_refused() {
    let bad = [
        (0x12_3036, Level::One),             // writable and not readable
        (0x12_3034, Level::One),             // execute-only
        (0x12_3035, Level::One),             // read-only, and nobody says why
        (0x12_3007, Level::One),             // uncached
        (0x12_3077, Level::One),             // ignores the guest's PAT
        (0x12_30b7, Level::Two),             // a large frame that is not aligned
        (0x20_00b7, Level::Three),           // a huge one
        (0x0000_0087, Level::Four),          // the root maps nothing
        (0x12_300f, Level::Two),             // a reserved bit in a link
        (0x0010_0000_0012_3007, Level::Two), // a link that is shared
        (1 << 40, Level::One),               // a handle that nothing has written
        (4 << 3, Level::One),                // a slot beyond all that there can be
        (5 << 3, Level::One),                // a kind that does not exist
        (0x000f_ffff_ffff_f020, Level::Two), // a slot for more than a page
        (0x8000_0000_0012_3037, Level::One),
    ];
    for (raw, level) in bad {
        assert!(Entry::decode(raw, level).is_err(), "{raw:#x}");
    }
}

#[test]
fn levels_divide_an_address() {
    let gfn = Gfn::new((1 << 27) | (2 << 18) | (3 << 9) | 4);
    assert_eq!(Level::ALL.map(|level| level.index(gfn)), [4, 3, 2, 1]);
    assert_eq!(Level::Two.first(gfn).get(), (1 << 27) | (2 << 18) | (3 << 9));
}

const BACKINGS: [Backing; 3] = [Backing::Owned, Backing::Frozen, Backing::Shared];

/// Epochs owed and ages.
fn marks() -> impl Iterator<Item = (u8, u8)> {
    (0..=CALM_OWED_MAX).flat_map(|owed| (0..=AGE_MAX).map(move |age| (owed, age)))
}

/// Every leaf that may be, but for its frame: large ones own theirs, shared ones are clean and owe nothing.
fn leaves(level: Level) -> Vec<Leaf> {
    let Some(size) = level.page_size() else {
        return Vec::new();
    };
    let mut leaves = Vec::new();
    for backing in BACKINGS {
        for (accessed, dirty) in [(false, false), (false, true), (true, false), (true, true)] {
            for (calm_owed, age) in marks() {
                let is_shared = backing == Backing::Shared;
                let is_small = size == PageSize::Small;
                if (is_small || backing == Backing::Owned) && !(is_shared && (dirty || calm_owed > 0)) {
                    leaves.push(Leaf {
                        accessed,
                        dirty,
                        calm_owed,
                        age,
                        ..leaf(0, size, backing)
                    });
                }
            }
        }
    }
    leaves
}

/// All that may be written at a level, with every frame number 0.
fn entries(level: Level) -> Vec<Entry> {
    let absent = Absent::ALL.into_iter().map(Entry::Absent);
    let link = (level != Level::One).then_some(Entry::Table(Hfn::new(0)));
    let leaves = leaves(level).into_iter().map(Entry::Leaf);
    let swapped = (level == Level::One).then_some(Entry::Swapped(SwapSlot::new(0)));
    absent.chain(link).chain(swapped).chain(leaves).collect()
}

fn with_frame(entry: Entry, frame: u64) -> Entry {
    match entry {
        Entry::Absent(_) => entry,
        Entry::Swapped(_) => Entry::Swapped(SwapSlot::new((frame & 0xffff_ffff) as u32)),
        Entry::Table(_) => Entry::Table(Hfn::new(frame)),
        Entry::Leaf(leaf) => Entry::Leaf(Leaf {
            frame: Hfn::new(frame - frame % leaf.size.frames()),
            ..leaf
        }),
    }
}

/// Bits 63 to 52 that are tried: all that mean something, and one that does not.
fn high_bits() -> impl Iterator<Item = u64> {
    const MEANT: u64 = 0b0111_1111_1111;
    (0..=MEANT).chain([1 << 11, 1 << 11 | 1])
}

/// With every pattern of the low bits, those entries decode that are encoded (and links that a processor
/// has used), and no others.
#[test]
fn nothing_else_is_understood() {
    for level in Level::ALL {
        let mut known: Vec<u64> = entries(level).into_iter().map(Entry::encode).collect();
        if level != Level::One {
            known.push(0x107);
        }
        known.sort_unstable();
        for high in high_bits() {
            for low in 0..1 << 12 {
                let raw = low | high << 52;
                let is_known = known.binary_search(&raw).is_ok();
                assert_eq!(Entry::decode(raw, level).is_ok(), is_known, "{raw:#x} {level:?}");
            }
        }
    }
}

#[test]
fn who_shares_or_is_frozen_is_never_writable() {
    for leaf in leaves(Level::One) {
        let raw = Entry::Leaf(leaf).encode();
        for bit in [1 << 52, 1 << 62] {
            let writable = raw | 2 | bit;
            let error = crate::Bug::Malformed {
                raw: writable,
                level: Level::One,
            };
            assert_eq!(Entry::decode(writable, Level::One), Err(error));
        }
        assert_eq!(raw & 2 != 0, leaf.backing == Backing::Owned);
    }
}

proptest! {
    #[test]
    fn what_is_encoded_decodes_to_itself(frame in 0..1_u64 << 40) {
        for level in Level::ALL {
            for entry in entries(level) {
                let entry = with_frame(entry, frame);
                prop_assert_eq!(Entry::decode(entry.encode(), level), Ok(entry));
            }
        }
    }

    /// Decoding never invents anything: what it accepts encodes to the same bits.
    #[test]
    fn decoding_is_exact(raw in any::<u64>(), rank in 0..4_usize, is_tame in any::<bool>()) {
        let raw = if is_tame { raw & 0x000f_ffff_ffff_f3b7 } else { raw };
        if let Ok(entry) = Entry::decode(raw, Level::ALL[rank]) {
            let accessed = if matches!(entry, Entry::Table(_)) { raw & 0x100 } else { 0 };
            prop_assert_eq!(entry.encode() | accessed, raw);
        }
    }

    /// A large leaf lies at a multiple of its size.
    #[test]
    fn large_leaves_are_aligned(frame in 0..1_u64 << 40) {
        for (level, size) in [(Level::Two, PageSize::Large), (Level::Three, PageSize::Huge)] {
            let raw = (frame << 12) | 0xb7;
            prop_assert_eq!(Entry::decode(raw, level).is_ok(), frame % size.frames() == 0);
            let aligned = frame - frame % size.frames();
            prop_assert!(Entry::decode((aligned << 12) | 0xb7, level).is_ok());
        }
    }
}
