//! The sampler: what is sampled, what counts as a duplicate, how good the estimate is.

use pleat_types::{Gfn, GuestId};
use std::vec::Vec;

use crate::merge::{Estimate, Key, Look, SAMPLE_WORDS, Sample, Sampler, should_split};
use crate::promise::HostState;

type Words = [u64; SAMPLE_WORDS.len()];

const GUEST: GuestId = GuestId(2);

fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// The words of the n-th of contents that have nothing to do with each other.
fn words(content: u64) -> Words {
    core::array::from_fn(|word| mix(content * 8 + word as u64))
}

fn key(content: u64) -> Key {
    Key(u32::try_from(mix(content) >> 32).unwrap())
}

/// Looks at a mapping with these contents; zero is the zero page.
fn look(sampler: &mut Sampler, guest: GuestId, first: u64, contents: &[u64]) -> Estimate {
    let mut look = sampler.look(guest, Gfn::new(first));
    for (n, content) in (0..).zip(contents) {
        match content {
            0 if Look::wants(n, &Words::default()) => look.note(Sample::Zero),
            0 => (),
            content if Look::wants(n, &words(*content)) => look.note(Sample::Content(key(*content))),
            _ => (),
        }
    }
    look.estimate()
}

/// Contents that nobody else has.
fn unique(mapping: u64) -> impl Iterator<Item = u64> {
    (0..512).map(move |n| 1_000_000 + mapping * 512 + n)
}

#[test]
fn one_in_32_is_sampled() {
    let of_contents = (1..=32_000).filter(|content| Look::wants(0, &words(*content)));
    let count = of_contents.count();
    assert!((900..1100).contains(&count), "{count} of 32,000");
    let of_zeros = (0..512).filter(|n| Look::wants(*n, &Words::default()));
    assert_eq!(of_zeros.count(), 16);
}

#[test]
fn pages_that_differ_in_little_are_sampled_as_often() {
    for (word, shift) in (0..SAMPLE_WORDS.len()).flat_map(|word| [0, 20, 52].map(|shift| (word, shift))) {
        let mut page = words(5);
        let is_sampled = |n: &u64| {
            page[word] = n << shift;
            Look::wants(0, &page)
        };
        let count = (0..3200).filter(is_sampled).count();
        assert!(
            (60..140).contains(&count),
            "{count} of 3,200 with word {word} at bit {shift}"
        );
    }
}

#[test]
fn filler_is_sampled_as_often() {
    // Pages that are one word over and over.
    let count = (1..=3200).filter(|n| Look::wants(0, &[*n; SAMPLE_WORDS.len()]));
    let count = count.count();
    assert!((60..140).contains(&count), "{count} of 3,200");
}

#[test]
fn content_chooses_and_place_does_not() {
    for content in 1..2000 {
        let words = words(content);
        let first = Look::wants(0, &words);
        assert!((1..512).all(|n| Look::wants(n, &words) == first));
    }
}

#[test]
fn a_page_is_no_duplicate_of_itself() {
    let mut sampler = Sampler::new();
    let contents: Vec<u64> = unique(0).collect();
    for _ in 0..5 {
        let estimate = look(&mut sampler, GUEST, 0, &contents);
        assert!(estimate.sampled > 0);
        assert_eq!(estimate.duplicates, 0);
    }
}

#[test]
fn a_page_of_another_mapping_or_guest_is_a_duplicate() {
    let contents: Vec<u64> = unique(0).collect();
    for (guest, first) in [(GUEST, 512), (GuestId(3), 0)] {
        let mut sampler = Sampler::new();
        assert_eq!(look(&mut sampler, GUEST, 0, &contents).percent(), 0);
        assert_eq!(look(&mut sampler, guest, first, &contents).percent(), 100);
        // And now that it was seen there, for the first one too.
        assert_eq!(look(&mut sampler, GUEST, 0, &contents).percent(), 100);
    }
}

#[test]
fn a_key_that_was_never_seen_is_no_duplicate() {
    // Whatever an entry of the filter holds before it is used.
    let mut sampler = Sampler::new();
    for first in (0..4096).map(|n| n * 512) {
        let mut fresh = Sampler::new();
        let mut look = fresh.look(GUEST, Gfn::new(first));
        look.note(Sample::Content(Key(0)));
        assert_eq!(look.estimate().duplicates, 0);
        // A key of the same class only.
        let mut look = sampler.look(GUEST, Gfn::new(first));
        look.note(Sample::Content(Key(u32::try_from(first / 512 * 2048).unwrap())));
        assert_eq!(look.estimate().duplicates, 0);
    }
}

#[test]
fn equal_pages_in_one_mapping_are_duplicates() {
    let sampled = (1..).find(|content| Look::wants(0, &words(*content))).unwrap();
    let mut sampler = Sampler::new();
    let estimate = look(&mut sampler, GUEST, 0, &[sampled; 512]);
    assert_eq!((estimate.sampled, estimate.duplicates), (512, 511));
}

#[test]
fn zero_pages_and_what_the_index_has_are_duplicates_at_once() {
    let mut sampler = Sampler::new();
    assert_eq!(look(&mut sampler, GUEST, 0, &[0; 512]).percent(), 100);
    let mut second = sampler.look(GUEST, Gfn::new(512));
    second.note(Sample::Indexed(Key(9)));
    assert_eq!(second.estimate().percent(), 100);
    let statistics = *sampler.statistics();
    assert_eq!((statistics.mappings, statistics.sampled), (2, 17));
    assert_eq!((statistics.duplicates, statistics.zero), (17, 16));
}

#[test]
fn nothing_sampled_is_nothing_estimated() {
    assert_eq!(Estimate::default().percent(), 0);
    assert!(!should_split(Estimate::default().percent(), 0, HostState::Low));
}

#[test]
fn it_works_on_after_its_looks_were_counted_through() {
    let contents: Vec<u64> = unique(0).collect();
    for before in 65_533..65_537 {
        let mut sampler = Sampler::new();
        for _ in 0..before {
            assert_eq!(sampler.look(GUEST, Gfn::new(1 << 20)).estimate().sampled, 0);
        }
        assert_eq!(look(&mut sampler, GUEST, 0, &contents).percent(), 0);
        assert_eq!(look(&mut sampler, GUEST, 0, &contents).percent(), 0);
        assert_eq!(look(&mut sampler, GUEST, 512, &contents).percent(), 100);
    }
}

#[test]
fn the_estimate_is_near_the_truth() {
    // 48 mappings; of each page in ten four are zero, or are in the same place of the next mapping too.
    for (zero_of_ten, shared_of_ten) in [(0, 0), (1, 0), (0, 4), (2, 2), (5, 5)] {
        let content = |mapping: u64, n: u64| match mix(mapping / 2 * 512 + n) % 10 {
            draw if draw < zero_of_ten => 0,
            draw if draw < zero_of_ten + shared_of_ten => 1 + mapping / 2 * 512 + n,
            _ => 1_000_000 + mapping * 512 + n,
        };
        let mut sampler = Sampler::new();
        let (mut sampled, mut duplicates) = (0, 0);
        for round in 0..2 {
            for mapping in 0..48 {
                let contents: Vec<u64> = (0..512).map(|n| content(mapping, n)).collect();
                let estimate = look(&mut sampler, GUEST, mapping * 512, &contents);
                // Only the second time all counterparts were seen.
                if round == 1 {
                    sampled += estimate.sampled;
                    duplicates += estimate.duplicates;
                }
            }
        }
        let percent = u64::from(duplicates * 100 / sampled);
        let truth = (zero_of_ten + shared_of_ten) * 10;
        assert!(percent.abs_diff(truth) <= 6, "{percent} instead of {truth}");
        assert!((48 * 12..48 * 20).contains(&sampled), "{sampled}");
    }
}

#[test]
fn the_less_memory_the_sooner_a_mapping_is_split() {
    let least = |pressure| (0..=100).find(|percent| should_split(*percent, 25, pressure));
    assert_eq!(least(HostState::High), Some(25));
    assert_eq!(least(HostState::Soft), Some(12));
    assert_eq!(least(HostState::Hard), Some(6));
    assert_eq!(least(HostState::Low), Some(6));
    assert!(
        !should_split(0, 0, HostState::Low),
        "without any there is nothing to gain"
    );
    assert!(should_split(100, 100, HostState::High));
}
