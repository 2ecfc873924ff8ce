//! Whatever a driver sends, beside a model that sees it as a whole.

use std::vec::Vec;

use pleat_types::{Gfn, Gpa};
use proptest::collection::vec;
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_assert_eq, prop_oneof, proptest};

use super::super::super::Device;
use super::{DATA, REPORTING, Rig, STATISTICS, into, out, statistics};

/// Bytes cut into buffers, some of them empty.
fn cut_bytes() -> impl Strategy<Value = (Vec<u8>, Vec<usize>)> {
    (vec(any::<u8>(), 0..3000), vec(0usize..400, 0..40))
}

/// Puts the bytes into buffers of these lengths and one for the rest, each at the start of some page.
fn lay_out(rig: &mut Rig, index: usize, bytes: &[u8], cuts: &[usize]) {
    let mut rest = bytes;
    let mut buffers = Vec::new();
    let rest_length = [bytes.len()];
    for (n, &cut) in cuts.iter().chain(&rest_length).enumerate() {
        let (piece, behind) = rest.split_at(cut.min(rest.len()));
        let at = DATA + 0x1000 * n as u64;
        rig.hands.poke(Gpa::new(at), piece);
        buffers.push(out(at, u32::try_from(piece.len()).unwrap()));
        rest = behind;
    }
    rig.driver[index].add(&mut rig.hands, &buffers);
}

fn numbers(bytes: &[u8]) -> Vec<Gfn> {
    let numbers = bytes.as_chunks::<4>().0.iter();
    numbers
        .map(|raw| Gfn::new(u64::from(u32::from_le_bytes(*raw))))
        .collect()
}

/// Buffers of a report: near page boundaries, of all sizes, anywhere.
fn reported_buffer() -> impl Strategy<Value = (u64, u32)> {
    let at = prop_oneof![
        (0u64..1 << 20).prop_map(|page| page << 12),
        0u64..1 << 32,
        Just(u64::MAX - 5000),
        any::<u64>(),
    ];
    let bytes = prop_oneof![Just(0), 1u32..20_000, Just(2 << 20), 0u32..8 << 20,];
    (at, bytes)
}

/// What is whole of a buffer, page by page: slow and plain.
fn model_report(at: u64, bytes: u32) -> Vec<u64> {
    let (at, end) = (u128::from(at), u128::from(at) + u128::from(bytes));
    let first = at / 4096;
    let pages = (first..=first + u128::from(bytes) / 4096 + 1)
        // The last page of the address space is no page of anybody.
        .filter(|page| page * 4096 >= at && (page + 1) * 4096 <= end && (page + 1) * 4096 < 1 << 64);
    pages.map(|page| u64::try_from(page).unwrap()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn pages_are_moved_once_and_in_order(
        chains in vec((0usize..2, cut_bytes(), 0u32..4), 1..6),
    ) {
        let mut rig = Rig::new(0);
        let mut expected = [Vec::new(), Vec::new()];
        for (index, (bytes, cuts), shortages) in chains {
            lay_out(&mut rig, index, &bytes, &cuts);
            expected[index].extend(numbers(&bytes));
            rig.hands.short.make_writable = shortages;
            prop_assert_eq!(rig.kick(index), Ok(shortages));
            let used = rig.used(index);
            prop_assert_eq!(used.len(), 1);
            prop_assert_eq!(used[0].1, 0);
        }
        let [inflated, deflated] = expected;
        prop_assert_eq!(rig.balloon.inflated(), inflated.len() as u64);
        prop_assert_eq!(rig.balloon.deflated(), deflated.len() as u64);
        prop_assert_eq!(&rig.hands.inflated, &inflated);
        prop_assert_eq!(&rig.hands.deflated, &deflated);
    }

    #[test]
    fn reports_are_taken_once_and_whole(
        buffers in vec((reported_buffer(), any::<bool>()), 1..20),
        shortages in 0u32..4,
    ) {
        let mut rig = Rig::new(REPORTING);
        // Those to read have to come first.
        let mut sorted = buffers;
        sorted.sort_by_key(|(_, is_report)| *is_report);
        let chain: Vec<_> = sorted
            .iter()
            .map(|&((at, bytes), is_report)| if is_report { into(at, bytes) } else { out(at, bytes) })
            .collect();
        rig.driver[2].add(&mut rig.hands, &chain);
        rig.hands.short.make_writable = shortages;
        prop_assert_eq!(rig.kick(2), Ok(shortages));
        prop_assert_eq!(rig.used(2).len(), 1);
        let reports = sorted.iter().filter(|(_, is_report)| *is_report);
        let expected: Vec<u64> = reports.flat_map(|((at, bytes), _)| model_report(*at, *bytes)).collect();
        let ranges = rig.hands.reported.iter();
        let taken: Vec<u64> = ranges.flat_map(|(first, count)| first.get()..first.get() + count).collect();
        prop_assert_eq!(rig.balloon.reported(), taken.len() as u64);
        prop_assert_eq!(taken, expected);
    }

    #[test]
    fn statistics_are_the_last_entry_of_each_tag(
        entries in vec((0u16..14, any::<u64>()), 0..64),
        tail in vec(any::<u8>(), 0..10),
        cuts in vec(0usize..60, 0..20),
    ) {
        let mut rig = Rig::new(STATISTICS);
        let mut raw = statistics(&entries);
        raw.extend(tail);
        lay_out(&mut rig, 2, &raw, &cuts);
        prop_assert_eq!(rig.kick(2), Ok(0));
        let seen = *rig.balloon.statistics().unwrap();
        let of = |tag| entries.iter().rev().find(|entry| entry.0 == tag).map(|entry| entry.1);
        let fields = [
            seen.swap_in, seen.swap_out, seen.major_faults, seen.minor_faults, seen.free,
            seen.total, seen.available, seen.disk_caches, seen.htlb_allocations, seen.htlb_failures,
        ];
        for (tag, field) in (0u16..).zip(fields) {
            prop_assert_eq!(field, of(tag), "tag {}", tag);
        }
    }

    #[test]
    fn no_order_of_events_confuses_the_conversation(events in vec(0u8..5, 0..60)) {
        let mut rig = Rig::new(STATISTICS);
        // The model: buffers with the device, whether one is owed to the driver, and what was sent.
        let (mut waiting, mut is_asked, mut is_sent) = (0u32, false, false);
        let (mut requests, mut answers, mut is_read) = (0u64, 0u64, false);
        for event in events {
            match event {
                0 => { rig.balloon.ask_statistics(); is_asked |= !is_sent; }
                1 if waiting < 3 => { rig.answer(2, &[(4, 1)]); waiting += 1; }
                2 => { rig.balloon.take_wishes(); }
                3 => {
                    rig.hands.short.make_writable = 1;
                    rig.hands.short.make_writable_later = 1;
                }
                _ => {}
            }
            let _ = rig.kick(2).unwrap();
            for _ in 0..2 {
                if waiting > 0 && !is_read {
                    is_read = true;
                    answers += u64::from(is_sent);
                    is_sent = false;
                }
                if waiting > 0 && is_asked {
                    (is_asked, is_sent, is_read) = (false, true, false);
                    waiting -= 1;
                    requests += 1;
                }
            }
            prop_assert_eq!(rig.balloon.inquiries(), (requests, answers));
            let _ = rig.used(2);
        }
    }
}
