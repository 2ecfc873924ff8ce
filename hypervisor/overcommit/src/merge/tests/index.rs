//! The index against a multimap.

use std::collections::{BTreeMap, BTreeSet};
use std::vec;
use std::vec::Vec;

use pleat_types::Hfn;
use proptest::collection;
use proptest::prelude::{ProptestConfig, Strategy, any, prop_oneof, proptest};

use crate::merge::{EQUAL_KEYS_MAX, Index, Inserted, Key, Keys, Mismatch, bytes_for};

/// Records that hold nothing else. Each 13th frame is not a guest's.
#[derive(Debug)]
struct Records(Vec<Option<Key>>);

impl Records {
    fn new(frames: u32) -> Self {
        Self(vec![None; frames as usize])
    }

    fn at(&mut self, frame: Hfn) -> Option<&mut Option<Key>> {
        self.0.get_mut(usize::try_from(frame.get()).unwrap())
    }
}

impl Keys for Records {
    fn frames(&self) -> u32 {
        u32::try_from(self.0.len()).unwrap()
    }

    fn key(&self, frame: Hfn) -> Option<Key> {
        *self.0.get(usize::try_from(frame.get()).ok()?)?
    }

    fn enter(&mut self, frame: Hfn, key: Key) -> Option<()> {
        assert_eq!(self.key(frame), None, "entered twice");
        if is_foreign(frame) {
            return None;
        }
        *self.at(frame)? = Some(key);
        Some(())
    }

    fn leave(&mut self, frame: Hfn) {
        assert!(self.key(frame).is_some(), "left twice");
        *self.at(frame).unwrap() = None;
    }
}

fn is_foreign(frame: Hfn) -> bool {
    frame.get() % 13 == 12
}

/// The frames of a machine that can be in the index.
fn ours(frames: u64) -> impl Iterator<Item = Hfn> + Clone {
    (0..frames).map(Hfn::new).filter(|frame| !is_foreign(*frame))
}

/// A key like those that hashing makes: any of 32 bits.
fn hashed(n: u64) -> Key {
    Key(u32::try_from(n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32).unwrap())
}

/// What should be in it.
#[derive(Debug, Default)]
struct Model {
    frames_of: BTreeMap<Key, BTreeSet<Hfn>>,
    key_of: BTreeMap<Hfn, Key>,
}

impl Model {
    fn remove(&mut self, frame: Hfn) {
        if let Some(key) = self.key_of.remove(&frame) {
            assert!(self.frames_of.get_mut(&key).unwrap().remove(&frame));
        }
    }

    fn insert(&mut self, frame: Hfn, key: Key) {
        self.remove(frame);
        self.key_of.insert(frame, key);
        self.frames_of.entry(key).or_default().insert(frame);
    }

    fn find(&self, key: Key) -> BTreeSet<Hfn> {
        self.frames_of.get(&key).cloned().unwrap_or_default()
    }
}

/// Both.
struct Pair {
    index: Index,
    records: Records,
    model: Model,
    bytes: usize,
}

impl Pair {
    fn new(frames: u32) -> Self {
        let index = Index::new(u64::from(frames)).unwrap();
        Self {
            bytes: index.bytes(),
            index,
            records: Records::new(frames),
            model: Model::default(),
        }
    }

    /// What fits, without tombstones.
    fn room(&self) -> usize {
        (self.bytes - 16) / 5 / 8 * 7
    }

    fn insert(&mut self, frame: Hfn, key: Key) {
        let before = self.model.key_of.get(&frame).copied();
        let inserted = self.index.insert(&mut self.records, frame, key);
        if before != Some(key) {
            self.model.remove(frame);
        }
        let used = self.model.key_of.len();
        let is_ours = frame.get() < u64::from(self.records.frames()) && !is_foreign(frame);
        let slack = (self.room() / 16).max(1);
        let equal = self.model.find(key).len();
        match inserted {
            Inserted::Indexed => {
                assert!(is_ours);
                assert!(before == Some(key) || equal < EQUAL_KEYS_MAX);
                self.model.insert(frame, key);
                assert!(self.model.key_of.len() <= self.room());
            }
            Inserted::Crowded => assert_eq!(equal, EQUAL_KEYS_MAX),
            Inserted::Full => assert!(used + slack > self.room(), "{used} of {}", self.room()),
            Inserted::Refused => assert!(!is_ours),
        }
    }

    fn remove(&mut self, frame: Hfn) {
        self.index.remove(&mut self.records, frame);
        self.model.remove(frame);
    }

    fn check(&self, key: Key) {
        let found: Vec<Hfn> = self.index.find(&self.records, key).collect();
        let set: BTreeSet<Hfn> = found.iter().copied().collect();
        assert_eq!(set.len(), found.len(), "found twice");
        assert_eq!(set, self.model.find(key));
    }

    fn check_all(&self) {
        self.index.audit(&self.records).unwrap();
        assert_eq!(self.index.len(), self.model.key_of.len());
        assert_eq!(self.index.is_empty(), self.model.key_of.is_empty());
        self.model.frames_of.keys().for_each(|key| self.check(*key));
        assert_eq!(
            self.index.bytes(),
            self.bytes,
            "it took memory, or gave some back"
        );
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Insert(u64, u64),
    Remove(u64),
    Find(u64),
    /// As many as fit, from this frame on.
    Fill(u64),
    /// All but each n-th.
    Thin(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => any::<(u64, u64)>().prop_map(|(frame, key)| Step::Insert(frame, key)),
        4 => any::<u64>().prop_map(Step::Remove),
        2 => any::<u64>().prop_map(Step::Find),
        1 => any::<u64>().prop_map(Step::Fill),
        1 => (1..20_u64).prop_map(Step::Thin),
    ]
}

fn apply(pair: &mut Pair, step: Step, contents: u64) {
    let frames = u64::from(pair.records.frames());
    // A few beyond the end too.
    let frame = |n: u64| Hfn::new(n % (frames + 3));
    let key = |n: u64| hashed(n % contents);
    match step {
        Step::Insert(n, content) => {
            pair.insert(frame(n), key(content));
            pair.check(key(content));
        }
        Step::Remove(n) => pair.remove(frame(n)),
        Step::Find(content) => pair.check(key(content)),
        Step::Fill(n) => (0..frames).for_each(|i| pair.insert(frame(n.wrapping_add(i)), key(n ^ i))),
        Step::Thin(n) => ours(frames)
            .filter(|frame| frame.get() % n != 0)
            .for_each(|frame| pair.remove(frame)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn it_is_a_multimap(
        frames in prop_oneof![1..40_u32, 200..700_u32],
        contents in prop_oneof![1..4_u64, 20..60_u64, 1_000_000..1_000_001_u64],
        steps in collection::vec(step(), 1..80),
    ) {
        let mut pair = Pair::new(frames);
        for step in steps {
            apply(&mut pair, step, contents);
        }
        pair.check_all();
    }
}

#[test]
fn it_takes_what_it_says() {
    for frames in [0, 1, 16, 20, 21, 1000, 32_768, 40_960, 40_961, 131_072] {
        let index = Index::new(frames).unwrap();
        assert_eq!(index.bytes() as u64, bytes_for(frames), "{frames} frames");
        if frames >= 20 {
            let buckets = (bytes_for(frames) - 16) / 5;
            assert!(buckets * 10 >= frames * 8 && buckets * 10 < frames * 16);
        }
    }
    assert!(Index::new(1 << 32).is_none(), "more than an entry can name");
}

#[test]
fn at_least_seven_of_ten_frames_fit() {
    for frames in [1280, 1281, 5000, 20_480] {
        let mut pair = Pair::new(frames);
        for frame in ours(u64::from(frames)) {
            pair.insert(frame, hashed(frame.get()));
        }
        assert!(pair.index.len() * 10 >= frames as usize * 7);
        pair.check_all();
    }
}

#[test]
fn what_was_removed_leaves_room_in_a_full_index() {
    let mut pair = Pair::new(1280);
    let room = pair.room();
    for round in 0..50 {
        let mut of_this_round = ours(1280).skip(round % 90).take(room);
        of_this_round.clone().for_each(|frame| {
            pair.insert(frame, hashed(frame.get() * 50 + round as u64));
        });
        // Up to a sixteenth of the room may be tombstones.
        assert!(pair.index.len() + room / 16 >= room, "round {round}");
        pair.check_all();
        // All of them: then nothing but tombstones may be left. Or all but one.
        if round % 2 == 0 {
            of_this_round.next();
        }
        of_this_round.for_each(|frame| pair.remove(frame));
        let rest: Vec<Hfn> = pair.model.key_of.keys().copied().collect();
        rest.iter().skip(1).for_each(|frame| pair.remove(*frame));
        if round % 2 == 1 {
            pair.remove(rest[0]);
        }
    }
}

#[test]
fn an_index_of_nothing_but_tombstones_is_empty() {
    // 32 buckets, entries in all of the first 28: removing one leaves a tombstone, because the search for
    // another may have passed it.
    let mut pair = Pair::new(40);
    let in_bucket = |bucket: u64| {
        let mut keys = (0..).map(|n: u32| (Key(n), u64::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15) % 32));
        keys.find(|(_, place)| *place == bucket).unwrap().0
    };
    for round in 0..3 {
        for (bucket, frame) in ours(40).take(28).enumerate() {
            pair.insert(frame, in_bucket(bucket as u64));
        }
        assert_eq!(pair.index.len(), 28, "round {round}");
        ours(40).for_each(|frame| pair.remove(frame));
        pair.check_all();
    }
}

#[test]
fn one_out_one_in_works_for_ever_in_a_nearly_full_index() {
    let mut pair = Pair::new(1280);
    let target = pair.room() - pair.room() / 16 - 1;
    let frames: Vec<Hfn> = ours(1280).collect();
    frames[..target]
        .iter()
        .for_each(|frame| pair.insert(*frame, hashed(frame.get())));
    for n in 0..20_000_usize {
        pair.remove(frames[n % frames.len()]);
        pair.insert(frames[(n + target) % frames.len()], hashed(n as u64));
        assert_eq!(pair.index.len(), target);
    }
    pair.check_all();
}

#[test]
fn of_one_key_eight_are_kept_and_others_have_room() {
    let mut pair = Pair::new(5000);
    ours(5000).take(100).for_each(|frame| pair.insert(frame, Key(0)));
    assert_eq!(pair.index.len(), EQUAL_KEYS_MAX);
    // One that leaves makes room for another.
    pair.remove(Hfn::new(3));
    let crowded = Hfn::new(60);
    assert_eq!(
        pair.index.insert(&mut pair.records, crowded, Key(0)),
        Inserted::Indexed
    );
    pair.model.insert(crowded, Key(0));
    assert_eq!(
        pair.index.insert(&mut pair.records, Hfn::new(61), Key(0)),
        Inserted::Crowded
    );
    assert_eq!(
        pair.index.insert(&mut pair.records, Hfn::new(61), Key(1)),
        Inserted::Indexed
    );
    pair.model.insert(Hfn::new(61), Key(1));
    pair.check_all();
}

#[test]
fn a_frame_moves_to_its_new_key() {
    let mut pair = Pair::new(100);
    for n in 0..1000 {
        pair.insert(Hfn::new(7), hashed(n));
        assert_eq!(pair.index.len(), 1);
        pair.check(hashed(n));
        pair.check(hashed(n.wrapping_sub(1)));
    }
    pair.check_all();
}

#[test]
fn keys_that_differ_do_not_meet_though_their_places_do() {
    // Equal low bits and equal top bits of the product: same bucket, same control byte.
    let mut pair = Pair::new(1280);
    let place = |key: u64| {
        let spread = key.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (spread & 0x3ff, spread >> 57)
    };
    let twins: Vec<Key> = (0..1 << 24)
        .filter(|key| place(*key) == place(77))
        .take(64)
        .map(|key| Key(u32::try_from(key).unwrap()))
        .collect();
    assert_eq!(twins.len(), 64);
    for (frame, key) in ours(1280).zip(&twins) {
        pair.insert(frame, *key);
    }
    assert_eq!(pair.index.len(), 64);
    pair.check_all();
}

#[test]
fn the_audit_sees_what_does_not_fit() {
    let mut pair = Pair::new(100);
    ours(100)
        .take(20)
        .for_each(|frame| pair.insert(frame, hashed(frame.get())));
    pair.index.audit(&pair.records).unwrap();
    // A record that lost its note, one that has it for nothing, one with another key.
    let note = pair.records.0[3].take();
    let (entries, records) = (20, 19);
    assert_eq!(
        pair.index.audit(&pair.records),
        Err(Mismatch::Stray { entries, records })
    );
    pair.records.0[3] = note;
    pair.records.0[50] = Some(Key(1));
    assert_eq!(
        pair.index.audit(&pair.records),
        Err(Mismatch::Missing(Hfn::new(50)))
    );
    pair.records.0[50] = None;
    pair.records.0[4] = Some(hashed(123_456));
    assert_eq!(
        pair.index.audit(&pair.records),
        Err(Mismatch::Missing(Hfn::new(4)))
    );
}
