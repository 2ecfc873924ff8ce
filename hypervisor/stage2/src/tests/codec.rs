//! The bits, against the tables of the SDM.

use proptest::prelude::{any, prop_assert_eq, proptest};

use crate::codec::{Absent, Entry, Leaf, Level, Permissions, eptp};
use pleat_types::{Gfn, Hfn, PageSize};

#[test]
fn bits_are_those_of_the_manual() {
    let leaf = |frame, size, permissions| {
        Entry::Leaf(Leaf {
            frame: Hfn::new(frame),
            size,
            permissions,
            accessed: false,
            dirty: false,
        })
    };
    let read_fetch = Permissions::READ | Permissions::EXECUTE;
    assert_eq!(Entry::Absent(Absent::Hole).encode(), 0);
    assert_eq!(Entry::Table(Hfn::new(0x123)).encode(), 0x12_3007);
    assert_eq!(
        leaf(0x123, PageSize::Small, Permissions::all()).encode(),
        0x12_3037
    );
    assert_eq!(leaf(0x123, PageSize::Small, read_fetch).encode(), 0x12_3035);
    assert_eq!(
        leaf(0x200, PageSize::Large, Permissions::all()).encode(),
        0x20_00b7
    );
    assert_eq!(
        leaf(0x4_0000, PageSize::Huge, Permissions::all()).encode(),
        0x4000_00b7
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
        (0x12_3036, Level::One),    // writable and not readable
        (0x12_3034, Level::One),    // execute-only
        (0x12_3007, Level::One),    // uncached
        (0x12_3077, Level::One),    // ignores the guest's PAT
        (0x12_30b7, Level::Two),    // a large frame that is not aligned
        (0x20_00b7, Level::Three),  // a huge one
        (0x0000_0087, Level::Four), // the root maps nothing
        (0x12_300f, Level::Two),    // a reserved bit in a link
        (1 << 40, Level::One),      // a handle that nothing has written
        (4 << 3, Level::One),       // a kind that does not exist yet
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

proptest! {
    /// Decoding never invents anything: what it accepts encodes to the same bits.
    #[test]
    fn decoding_is_exact(raw in any::<u64>(), rank in 0..4_usize, is_tame in any::<bool>()) {
        let raw = if is_tame { raw & 0x000f_ffff_ffff_f3ff } else { raw };
        if let Ok(entry) = Entry::decode(raw, Level::ALL[rank]) {
            let accessed = if matches!(entry, Entry::Table(_)) { raw & 0x100 } else { 0 };
            prop_assert_eq!(entry.encode() | accessed, raw);
        }
    }
}
