//! Directed cases.

use std::vec;
use std::vec::Vec;

use super::{BUNDLE, FRAMES, machine, owner, records};
use crate::ledger::{
    Bug, Counts, Error, FrameRecord, FrameState, Ledger, MAX_ORDER, Purpose, Region, metadata_frames,
};
use pleat_types::{Gfn, GuestId, Hfn, OwnedFrame, PageSize};

#[test]
fn classes_add_up_from_the_start() {
    let mut records = records();
    let mut ledger = machine(&mut records);
    let zero = ledger.allocate_zero().unwrap();
    ledger.allocate_metadata().unwrap();
    let counts = *ledger.counts();
    let expected = Counts {
        total: FRAMES - 1,
        free: FRAMES - 1 - 8 - 9 - 520 - 1,
        image: 8,
        metadata: 9,
        bundle: 520,
        zero: 1,
        ..Counts::default()
    };
    assert_eq!((counts, counts.sum()), (expected, counts.total));
    assert_eq!(ledger.state(zero), FrameState::Zero);
    let states = [0, 2, 10, BUNDLE.0, 600, FRAMES].map(|frame| ledger.state(Hfn::new(frame)));
    assert_eq!(
        states,
        [
            FrameState::Reserved,
            FrameState::Image,
            FrameState::Metadata,
            FrameState::Bundle,
            FrameState::Free,
            FrameState::Reserved
        ]
    );
    ledger.audit().unwrap();
}

#[test]
fn remnants_come_before_whole_blocks_low_before_high_and_a_run_repeats() {
    let run = || {
        let mut records = records();
        let mut ledger = machine(&mut records);
        let whole = ledger.free_blocks(MAX_ORDER);
        let small = (0..20).map(|n| ledger.allocate(owner(1, n), Purpose::Demand).unwrap());
        let small: Vec<_> = small.map(|frame| frame.first().get()).collect();
        assert_eq!(ledger.free_blocks(MAX_ORDER), whole);
        let large = ledger.allocate_large(owner(1, 512), Purpose::Demand).unwrap();
        assert_eq!(large.first().get(), 512);
        small
    };
    let first = run();
    assert_eq!(first[..7], [1, 18, 19, 20, 21, 22, 23]);
    assert_eq!(run(), first);
}

#[test]
fn everything_given_back_merges_to_the_largest_blocks() {
    let mut records = records();
    let mut ledger = machine(&mut records);
    let blocks = |ledger: &Ledger<'_>| {
        (0..=MAX_ORDER)
            .map(|order| ledger.free_blocks(order))
            .collect::<Vec<_>>()
    };
    let before = blocks(&ledger);
    let mut held = Vec::new();
    while let Ok(frame) = ledger.allocate(owner(3, 7), Purpose::Demand) {
        held.push(frame);
    }
    assert_eq!(
        (ledger.counts().free, ledger.counts().guests),
        (0, held.len() as u64)
    );
    assert_eq!(ledger.charged_to(GuestId(3)), held.len() as u64);
    // Every second one first, so that nothing can merge until the rest comes.
    let (even, odd): (Vec<_>, Vec<_>) = held.into_iter().partition(|frame| frame.first().get() % 2 == 0);
    for frame in even.into_iter().chain(odd) {
        ledger.release(frame).unwrap();
    }
    ledger.audit().unwrap();
    assert_eq!(blocks(&ledger), before);
    assert_eq!(ledger.charged_to(GuestId(3)), 0);
}

#[test]
fn the_reserve_is_for_relief_only() {
    let mut records = records();
    let mut ledger = machine(&mut records);
    ledger.set_reserve(2);
    let mut count = 0;
    while ledger.allocate(owner(1, count), Purpose::Demand).is_ok() {
        count += 1;
    }
    assert_eq!((ledger.counts().free, ledger.available()), (2, 0));
    assert_eq!(
        ledger.allocate_table(GuestId(1), Purpose::Demand),
        Err(Error::HostShort)
    );
    assert_eq!(ledger.allocate_vcpu(GuestId(1)), Err(Error::HostShort));
    assert!(ledger.allocate_table(GuestId(1), Purpose::Relief).is_ok());
    assert!(ledger.allocate(owner(1, 0), Purpose::Relief).is_ok());
    assert_eq!(
        ledger.allocate(owner(1, 0), Purpose::Relief),
        Err(Error::HostShort)
    );
    ledger.audit().unwrap();
}

#[test]
fn a_boot_image_becomes_the_guests_own() {
    let mut records = records();
    let mut ledger = machine(&mut records);
    let large = ledger
        .give_bundle(Hfn::new(BUNDLE.0), PageSize::Large, owner(2, 512))
        .unwrap();
    let small = ledger
        .give_bundle(Hfn::new(BUNDLE.0 + 512), PageSize::Small, owner(2, 9))
        .unwrap();
    ledger.release_bundle(Hfn::new(BUNDLE.0 + 513)).unwrap();
    assert_eq!(
        ledger.state(Hfn::new(BUNDLE.0 + 5)),
        FrameState::Guest(owner(2, 517), PageSize::Large)
    );
    assert_eq!(
        ledger.state(small.first()),
        FrameState::Guest(owner(2, 9), PageSize::Small)
    );
    assert_eq!((ledger.counts().bundle, ledger.counts().guests), (6, 513));
    ledger.audit().unwrap();
    for again in [BUNDLE.0, BUNDLE.0 + 512, BUNDLE.0 + 513] {
        let refused = ledger.give_bundle(Hfn::new(again), PageSize::Small, owner(2, 1));
        assert_eq!(refused, Err(Bug::NotThat(Hfn::new(again))));
    }
    ledger.release(large).unwrap();
    ledger.release(small).unwrap();
    ledger.audit().unwrap();
}

#[test]
fn a_block_is_split_into_its_pages_and_joined_again() {
    let mut records = records();
    let mut ledger = machine(&mut records);
    let large = ledger.allocate_large(owner(2, 1024), Purpose::Demand).unwrap();
    let first = large.first();
    ledger.split(first, PageSize::Large).unwrap();
    let seventh = Hfn::new(first.get() + 7);
    assert_eq!(
        ledger.state(seventh),
        FrameState::Guest(owner(2, 1031), PageSize::Small)
    );
    ledger.audit().unwrap();
    assert_eq!(ledger.release(large), Err(Bug::NotThat(first)));
    ledger.join(first, PageSize::Large).unwrap();
    assert_eq!(
        ledger.state(seventh),
        FrameState::Guest(owner(2, 1031), PageSize::Large)
    );
    ledger.split(first, PageSize::Large).unwrap();
    ledger
        .release(OwnedFrame::claim(seventh, PageSize::Small))
        .unwrap();
    assert_eq!(ledger.join(first, PageSize::Large), Err(Bug::NotThat(seventh)));
    // The frame comes back for another page: it must not be joined with its neighbours.
    while ledger.state(seventh) == FrameState::Free {
        let _ = ledger.allocate(owner(2, 5), Purpose::Demand).unwrap();
    }
    assert_eq!(ledger.join(first, PageSize::Large), Err(Bug::NotThat(seventh)));
    ledger.audit().unwrap();
}

#[test]
fn a_block_comes_back_in_parts() {
    let mut records = records();
    let mut ledger = machine(&mut records);
    let before = (*ledger.counts(), ledger.free_blocks(MAX_ORDER));
    let first = ledger
        .allocate_large(owner(2, 1024), Purpose::Demand)
        .unwrap()
        .first();
    // The order in which a guest gives its pages away is its own.
    for (count, n) in (1..).zip((0..512).map(|n| (n * 37 + 300) % 512)) {
        let part = Hfn::new(first.get() + n);
        let small = || OwnedFrame::claim(part, PageSize::Small);
        ledger.release(small()).unwrap();
        assert_eq!(ledger.state(part), FrameState::Free);
        assert_eq!(ledger.counts().free, before.0.free - 512 + count);
        let next = (n + 37) % 512;
        let owned = FrameState::Guest(owner(2, 1024 + next), PageSize::Small);
        if count < 512 {
            assert_eq!(ledger.state(Hfn::new(first.get() + next)), owned);
        }
        assert_eq!(ledger.release(small()), Err(Bug::NotThat(part)), "twice");
        ledger.audit().unwrap();
    }
    assert_eq!((*ledger.counts(), ledger.free_blocks(MAX_ORDER)), before);
}

#[test]
fn mistakes_of_the_caller_are_bugs_and_change_nothing() {
    let mut records = records();
    let mut ledger = machine(&mut records);
    let small = |frame| OwnedFrame::claim(Hfn::new(frame), PageSize::Small);
    let frame = ledger.allocate(owner(1, 1), Purpose::Demand).unwrap().first();
    let table = ledger.allocate_table(GuestId(1), Purpose::Demand).unwrap();
    let large = ledger
        .allocate_large(owner(1, 512), Purpose::Demand)
        .unwrap()
        .first();
    ledger.release(small(frame.get())).unwrap();
    let before = *ledger.counts();
    let far = Hfn::new(u64::MAX);
    let not = |frame| Err(Bug::NotThat(frame));
    assert_eq!(ledger.release(small(frame.get())), not(frame), "twice");
    assert_eq!(ledger.release(small(table.get())), not(table), "a table");
    assert_eq!(ledger.release_table(frame), not(frame), "free");
    assert_eq!(ledger.release_vcpu(table), not(table), "a table");
    let whole = OwnedFrame::claim(large, PageSize::Huge);
    assert!(ledger.release(whole).is_err(), "a block that is smaller");
    assert_eq!(ledger.release(small(2)), not(Hfn::new(2)), "the image");
    assert_eq!(ledger.release(small(0)), not(Hfn::new(0)), "not memory");
    assert_eq!(ledger.release_table(far), Err(Bug::NotManaged(far)));
    let odd = OwnedFrame::claim(Hfn::new(5), PageSize::Large);
    assert_eq!(ledger.release(odd), Err(Bug::BadBlock(Hfn::new(5))));
    let huge = |first| OwnedFrame::claim(Hfn::new(first), PageSize::Huge);
    assert_eq!(ledger.release(huge(512)), Err(Bug::BadBlock(Hfn::new(512))));
    assert_eq!(ledger.release(huge(0)), not(Hfn::new(0)), "no block");
    let no_block = Err(Bug::BadBlock(frame));
    assert_eq!(
        ledger.split(frame, PageSize::Small),
        no_block,
        "nothing is smaller"
    );
    assert_eq!(ledger.split(frame, PageSize::Large), no_block, "not aligned");
    assert_eq!(ledger.split(Hfn::new(0), PageSize::Large), not(Hfn::new(0)));
    assert_eq!(ledger.join(large, PageSize::Large), not(large));
    assert_eq!(ledger.join(large, PageSize::Huge), Err(Bug::BadBlock(large)));
    let far = owner(1, u64::from(u32::MAX) - 5);
    assert_eq!(
        ledger.allocate_large(far, Purpose::Demand),
        Err(Error::Bug(Bug::BadOwner(owner(1, far.gfn.get() + 511))))
    );
    assert_eq!(
        ledger.allocate_huge(far, Purpose::Demand),
        Err(Error::Bug(Bug::BadOwner(owner(1, far.gfn.get() + (1 << 18) - 1))))
    );
    let twice = ledger.add_region(Hfn::new(600), 5, Region::Usable);
    assert_eq!(twice, not(Hfn::new(600)), "free already");
    let held = ledger.add_region(Hfn::new(large.get() - 1), 2, Region::Image);
    assert_eq!(held, not(large), "in use");
    assert!(ledger.add_region(Hfn::new(FRAMES - 1), 2, Region::Image).is_err());
    assert_eq!(*ledger.counts(), before);
    ledger.audit().unwrap();
}

#[test]
fn records_come_from_plain_memory() {
    let mut bytes = vec![0xff_u8; 64 * 12 + 4];
    let start = bytes.as_ptr().align_offset(4);
    let records = FrameRecord::slice_from(&mut bytes[start..start + 64 * 12]).unwrap();
    let mut ledger = Ledger::new(records).unwrap();
    ledger.add_region(Hfn::new(0), 64, Region::Usable).unwrap();
    ledger.audit().unwrap();
    assert!(FrameRecord::slice_from(&mut [0; 17]).is_none());
}

#[test]
fn records_take_less_than_half_a_percent() {
    for frames in [1, 341, 342, 1024, 81_920, 1 << 28] {
        let bytes = metadata_frames(frames) * 4096;
        let needed = frames * size_of::<FrameRecord>() as u64;
        assert!(bytes >= needed && bytes - needed < 4096, "{frames}");
        assert!(needed * 200 <= frames * 4096, "{frames}");
    }
}

#[test]
fn a_page_number_that_fits_comes_back_whole() {
    let mut records = records();
    let mut ledger = machine(&mut records);
    let owner = owner(1023, u64::from(u32::MAX));
    let frame = ledger.allocate(owner, Purpose::Demand).unwrap();
    assert_eq!(
        ledger.state(frame.first()),
        FrameState::Guest(owner, PageSize::Small)
    );
    let beyond = crate::ledger::Owner {
        gfn: Gfn::new(1 << 32),
        ..owner
    };
    assert_eq!(
        ledger.allocate(beyond, Purpose::Demand),
        Err(Error::Bug(Bug::BadOwner(beyond)))
    );
    let stranger = crate::ledger::Owner {
        guest: GuestId(1024),
        ..owner
    };
    assert_eq!(
        ledger.allocate(stranger, Purpose::Demand),
        Err(Error::Bug(Bug::BadOwner(stranger)))
    );
    let no_guest = Err(Error::Bug(Bug::BadGuest(GuestId(1024))));
    assert_eq!(ledger.allocate_table(GuestId(1024), Purpose::Demand), no_guest);
    assert_eq!(ledger.allocate_vcpu(GuestId(1024)), no_guest);
}
