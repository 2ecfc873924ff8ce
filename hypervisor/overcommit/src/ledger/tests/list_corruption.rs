//! Bits that flip in the records of shared frames and slab frames, or in the lists themselves.

use std::vec::Vec;

use proptest::prelude::{ProptestConfig, any, prop_assert, proptest};
use proptest::sample::Index;
use zerocopy::IntoBytes;

use super::memory::Memory;
use super::{FRAMES, machine, owner, records};
use crate::ledger::record::State;
use crate::ledger::{Bug, Error, FrameRecord, Ledger, Owner, Purpose};
use pleat_types::{Hfn, Share};

/// Shared frames whose lists are of many lengths, one of them of several frames.
const LISTS: u16 = 40;

/// How many pages share the n-th frame.
const fn sharers(n: u16) -> u64 {
    match n {
        0 => 2500,
        _ => (n as u64 * n as u64) / 4 + 2,
    }
}

/// One page more joins a frame.
fn join(ledger: &mut Ledger<'_>, memory: &mut Memory, frame: Hfn, page: Owner) -> Result<(), Error> {
    let donor = ledger.allocate(page, Purpose::Demand)?;
    let share = ledger.add_share(frame)?;
    assert_eq!(share.frame(), frame);
    if let Some(donor) = ledger.note_sharers(memory, frame, &[page], Some(donor), |_, page| {
        page.gfn.get() % 2 == 0
    })? {
        ledger.release(donor)?;
    }
    Ok(())
}

fn busy<'m>(records: &'m mut [FrameRecord], memory: &mut Memory) -> (Ledger<'m>, Vec<Hfn>) {
    let mut ledger = machine(records);
    let mut frames = Vec::new();
    for list in 0..LISTS {
        let page = |n| owner(list, n);
        let frame = ledger.allocate(page(0), Purpose::Demand).unwrap();
        let hfn = frame.first();
        ledger.share(frame).unwrap();
        let donor = ledger.allocate(page(1), Purpose::Demand).unwrap();
        let back = ledger.note_sharers(memory, hfn, &[page(0)], Some(donor), |_, _| true);
        if let Some(donor) = back.unwrap() {
            ledger.release(donor).unwrap();
        }
        (1..sharers(list)).for_each(|n| join(&mut ledger, memory, hfn, page(n)).unwrap());
        frames.push(hfn);
    }
    // Holes, so that there are free chunks in all places.
    for hfn in frames.iter().skip(1).step_by(3) {
        while ledger.sharers(*hfn) > 0 {
            ledger.release_share(memory, Share::claim(*hfn)).unwrap();
        }
    }
    frames.retain(|hfn| ledger.sharers(*hfn) > 0);
    ledger.audit().unwrap();
    ledger.audit_lists(memory).unwrap();
    (ledger, frames)
}

/// The frames in this state.
fn all(ledger: &Ledger<'_>, state: State) -> Vec<usize> {
    let frames = ledger.records.iter().enumerate();
    let matching = frames.filter(|(_, record)| record.is(state));
    matching.map(|(frame, _)| frame).collect()
}

/// What merging and breaking do, whatever is in the lists: errors may come of it, but no panic.
fn use_all(ledger: &mut Ledger<'_>, memory: &mut Memory, frames: &[Hfn]) -> Result<(), Bug> {
    let mut result = Ok(());
    let mut note = |outcome: Result<(), Bug>| result = result.and(outcome);
    for hfn in frames {
        note(ledger.for_each_sharer(memory, *hfn, |_| {}));
        for n in 0..5 {
            let joined = join(ledger, memory, *hfn, owner(50, n));
            note(joined.map_err(|error| match error {
                Error::Bug(bug) => bug,
                other => panic!("{other}"),
            }));
        }
    }
    for hfn in frames {
        while ledger.sharers(*hfn) > 0 {
            let released = ledger.release_share(memory, Share::claim(*hfn));
            let is_stuck = released.is_err();
            note(released.map(|_| ()));
            if is_stuck {
                break;
            }
        }
    }
    result
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn a_flipped_bit_in_a_record_is_found(is_list in any::<bool>(), which in any::<Index>(), bit in 0..96_usize) {
        let (mut records, mut memory) = (records(), Memory::new(FRAMES));
        let (ledger, _) = busy(&mut records, &mut memory);
        let state = if is_list { State::SharerList } else { State::Shared };
        let frames = all(&ledger, state);
        let record = &mut ledger.records[frames[which.index(frames.len())]];
        // The key and the mark of the index are for the index to check. What comes after the last free
        // chunk means nothing, as long as it is none.
        let is_for_others = !is_list && ((32..64).contains(&bit) || bit == 64 + 4);
        let is_end = is_list && (64 + 15..64 + 25).contains(&bit);
        record.as_mut_bytes()[bit / 8] ^= 1 << (bit % 8);
        let class = record.list_class();
        let is_none = class.is_none_or(|class| !class.is_slot(record.first_free()));
        let is_full = class.is_some_and(|class| record.used() == class.chunks());
        let is_harmless = is_for_others || is_end && is_none && is_full;
        let is_found = ledger.audit().is_err() || ledger.audit_lists(&memory).is_err();
        prop_assert!(is_found || is_harmless, "bit {} of {:?}", bit, state);
    }

    #[test]
    fn a_flipped_bit_in_a_list_is_found_or_harmless(which in any::<Index>(), bit in 0..4096 * 8_usize) {
        let (mut records, mut memory) = (records(), Memory::new(FRAMES));
        let (mut ledger, frames) = busy(&mut records, &mut memory);
        let slabs = all(&ledger, State::SharerList);
        memory.flip(Hfn::new(slabs[which.index(slabs.len())] as u64), bit);
        let is_found = ledger.audit_lists(&memory).is_err();
        prop_assert!(ledger.audit().is_ok(), "the records are as they were");
        let used = use_all(&mut ledger, &mut memory, &frames);
        if !is_found {
            prop_assert!(used.is_ok());
            prop_assert!(ledger.audit().is_ok() && ledger.audit_lists(&memory).is_ok());
            prop_assert!(ledger.counts().lists == 0 && ledger.counts().shared == 0);
        }
    }
}
