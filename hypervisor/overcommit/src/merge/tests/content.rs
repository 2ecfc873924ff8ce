//! Zero pages, equal pages, keys, calm.

use std::collections::BTreeSet;
use std::vec;
use std::vec::Vec;

use pleat_types::FRAME_SIZE;

use crate::merge::calm::{self, Content};
use crate::merge::content::{are_equal, is_zero};
use crate::merge::{Key, Secret};

/// Room for a page at any offset up to 31 from a 32-byte boundary.
#[repr(C, align(32))]
struct Room([u8; FRAME_SIZE + 32]);

impl Room {
    const fn new() -> Self {
        Self([0; FRAME_SIZE + 32])
    }

    fn page(&mut self, offset: usize) -> &mut [u8; FRAME_SIZE] {
        (&mut self.0[offset..offset + FRAME_SIZE]).try_into().unwrap()
    }
}

#[test]
fn a_page_with_one_bit_set_anywhere_is_not_zero() {
    for offset in [0, 16, 1, 8] {
        let mut room = Room::new();
        let page = room.page(offset);
        assert!(is_zero(page));
        for byte in 0..FRAME_SIZE {
            page[byte] = 1 << (byte % 8);
            assert!(!is_zero(page), "byte {byte} of a page at offset {offset}");
            page[byte] = 0;
        }
        assert!(is_zero(page));
    }
}

#[test]
fn what_lies_around_a_page_does_not_count() {
    let mut room = Room([0xff; FRAME_SIZE + 32]);
    room.page(16).fill(0);
    assert!(is_zero(room.page(16)));
    assert!(!is_zero(room.page(15)));
    assert!(!is_zero(room.page(17)));
}

#[test]
fn pages_that_differ_in_one_bit_anywhere_are_not_equal() {
    for (first, second) in [(0, 0), (0, 16), (0, 3), (5, 0), (7, 9)] {
        let (mut a, mut b) = (Room::new(), Room::new());
        let (a, b) = (a.page(first), b.page(second));
        let content = |byte: usize| u8::try_from(byte * 31 % 251).unwrap();
        for byte in 0..FRAME_SIZE {
            (a[byte], b[byte]) = (content(byte), content(byte));
        }
        assert!(are_equal(a, b));
        for byte in 0..FRAME_SIZE {
            b[byte] ^= 1 << (byte % 8);
            assert!(!are_equal(a, b), "byte {byte} at offsets {first}, {second}");
            assert!(!are_equal(b, a), "byte {byte} at offsets {second}, {first}");
            b[byte] = content(byte);
        }
        assert!(are_equal(a, b));
    }
}

/// The n-th of pages that are all different.
fn page(n: u32) -> [u8; FRAME_SIZE] {
    let mut page = [0x5a; FRAME_SIZE];
    page[2000..2004].copy_from_slice(&n.to_le_bytes());
    page
}

#[test]
fn a_key_is_a_function_of_seed_domain_and_content() {
    let key = |seed, domain, n| Secret::derive(seed, domain).key(&page(n));
    assert_eq!(key(1, 0, 7), key(1, 0, 7));
    assert_ne!(key(1, 0, 7), key(1, 0, 8));
    assert_ne!(key(1, 0, 7), key(1, 1, 7));
    assert_ne!(key(1, 0, 7), key(2, 0, 7));
    // Neighbouring seeds and domains must not make up for each other.
    let grid = (0..16).flat_map(|seed| (0..16).map(move |domain| key(seed, domain, 7)));
    assert_eq!(grid.collect::<BTreeSet<Key>>().len(), 256);
}

#[test]
fn each_byte_of_a_page_counts_for_its_key() {
    let secret = Secret::derive(11, 0);
    let mut page = page(0);
    let mut keys = vec![secret.key(&page)];
    for byte in 0..FRAME_SIZE {
        page[byte] ^= 0x10;
        keys.push(secret.key(&page));
        page[byte] ^= 0x10;
    }
    // Of 4,097 numbers of 32 bits two are equal in one of 500 cases; not in this one.
    assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), keys.len());
}

#[test]
fn equal_pages_of_two_domains_meet_by_chance_only() {
    let (ours, theirs) = (Secret::derive(3, 0), Secret::derive(3, 1));
    let our_keys: BTreeSet<Key> = (0..4096).map(|n| ours.key(&page(n))).collect();
    let met = (0..4096).filter(|n| our_keys.contains(&theirs.key(&page(*n))));
    assert_eq!(met.count(), 0);
}

#[test]
fn fewer_bits_make_collisions() {
    let all = Secret::derive(3, 0);
    for bits in [0, 1, 4, 31, 32, 200] {
        let secret = Secret::derive(3, 0).with_hash_bits(bits);
        let keys: Vec<Key> = (0..512).map(|n| secret.key(&page(n))).collect();
        let different = keys.iter().collect::<BTreeSet<_>>().len();
        let mask = u32::try_from((1_u64 << u64::from(bits.min(32))) - 1).unwrap();
        let masked = (0..512).map(|n| Key(all.key(&page(n)).0 & mask));
        assert!(masked.eq(keys), "{bits} bits");
        assert_eq!(different, 512.min(1 << bits.min(20)), "{bits} bits");
    }
}

#[test]
fn a_page_that_keeps_changing_owes_more_and_more() {
    let mut changes = 0;
    let mut owed = vec![calm::owed(changes)];
    for _ in 0..6 {
        changes = calm::next_changes(changes, Content::Changed);
        owed.push(calm::owed(changes));
    }
    assert_eq!(owed, [1, 2, 4, 8, 15, 15, 15]);
    assert_eq!(calm::next_changes(changes, Content::New), changes);
    assert_eq!(calm::next_changes(changes, Content::Same), 0);
    assert_eq!(calm::next_changes(changes, Content::Merged), 0);
    // Whatever a record may hold.
    assert!((0..=u8::MAX).all(|changes| (1..=15).contains(&calm::owed(changes))));
    assert!((0..=u8::MAX).all(|changes| calm::next_changes(changes, Content::Changed) <= 4));
}
