//! From a key to the frames whose content had it.
//!
//! An entry is a frame number and nothing else: the key is in the frame's record, so that an entry is 4 bytes
//! and a byte of control. Where an entry lies in the table is computed from the 32-bit key alone, and so
//! nobody needs the page's bytes to find it again, to remove it or to build the table anew.
//!
//! All memory is taken at boot. hashbrown grows a table when an entry is inserted that it has no room for; so
//! nothing is inserted unless `capacity() > len()`. What removed entries leave behind (tombstones) lowers
//! `capacity()`: when they are a sixteenth of it and no room is left, the table is cleared and filled from the
//! records. That is one look at each record for every so many insertions.
//!
//! At most eight entries have the same key. More would never be compared with a page, because a page is
//! compared with eight at most; and a guest that makes many pages of one key (xxh3 is no cryptographic hash)
//! would make every operation on them slow.

use hashbrown::HashTable;
use pleat_types::Hfn;

use crate::ledger::{Key, Ledger};

/// The most entries with one key.
pub const EQUAL_KEYS_MAX: usize = 8;

/// The records of frames, as the index needs them.
pub trait Keys {
    /// How many frames there are, from 0 on.
    fn frames(&self) -> u32;
    /// The key of a frame that is in the index.
    fn key(&self, frame: Hfn) -> Option<Key>;
    /// Notes that a frame is in the index, with this key. `None` if the frame has no content that could be
    /// merged; then nothing has changed.
    fn enter(&mut self, frame: Hfn, key: Key) -> Option<()>;
    /// Notes that a frame is not in the index.
    fn leave(&mut self, frame: Hfn);
}

impl Keys for Ledger<'_> {
    fn frames(&self) -> u32 {
        Self::frames(self)
    }

    fn key(&self, frame: Hfn) -> Option<Key> {
        Self::key(self, frame)
    }

    fn enter(&mut self, frame: Hfn, key: Key) -> Option<()> {
        self.set_key(frame, key).ok()?;
        self.set_indexed(frame).ok()
    }

    fn leave(&mut self, frame: Hfn) {
        // Of a frame that has a key this cannot fail.
        let _ = self.clear_indexed(frame);
    }
}

/// What became of an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Inserted {
    /// The frame is in the index with this key.
    Indexed,
    /// [`EQUAL_KEYS_MAX`] others with this key are. The frame is not.
    Crowded,
    /// There is no room. The frame is not.
    Full,
    /// It is not a frame with content of a guest.
    Refused,
}

/// What an audit found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mismatch {
    /// The record says that the frame is in the index. It is not.
    Missing(Hfn),
    /// The index has more entries than records say.
    Stray {
        /// Entries.
        entries: usize,
        /// Records that say so.
        records: usize,
    },
}

/// The index.
#[derive(Debug)]
pub struct Index {
    table: HashTable<u32>,
    /// The capacity without tombstones.
    room: usize,
}

/// The buckets for so many frames: the power of two from 0.8 times of it on. Of these seven in eight can be
/// used, so there is room for at least 70 % of all frames; the rest is not theirs to use: shared frames are
/// one entry for many pages, and zero pages, tables and free frames are none.
const fn buckets_for(frames: u64) -> u64 {
    let least = frames.saturating_mul(4).div_ceil(5);
    if least < 16 { 16 } else { least.next_power_of_two() }
}

/// Bytes that the index of a machine with so many frames takes.
#[must_use]
pub const fn bytes_for(frames: u64) -> u64 {
    // hashbrown: the entries, a control byte for each, and one group of control bytes more.
    buckets_for(frames) * (size_of::<u32>() as u64 + 1) + 16
}

/// Where an entry belongs: the low bits choose the bucket, the top seven are its control byte. The product
/// with an odd number keeps the low bits as good as the key's and carries all of them to the top.
const fn spread(key: Key) -> u64 {
    (key.0 as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn hfn(entry: u32) -> Hfn {
    Hfn::new(u64::from(entry))
}

impl Index {
    /// An empty index for a machine with so many frames; `None` if there is no memory for it, or the machine
    /// has more frames than an entry can name.
    #[must_use]
    pub fn new(frames: u64) -> Option<Self> {
        let frames = u32::try_from(frames).ok()?;
        let room = usize::try_from(buckets_for(u64::from(frames)) / 8 * 7).ok()?;
        let mut table = HashTable::new();
        table.try_reserve(room, |_| 0).ok()?;
        (table.capacity() == room).then_some(Self { table, room })
    }

    /// Frames in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Whether there is so much room that it is worth offering it again what found none: an eighth of all.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.table.len() + self.room / 8 < self.room
    }

    /// Bytes that it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.table.allocation_size()
    }

    /// The frames whose content had this key when they were inserted; not in any order.
    pub fn find<'a, K: Keys>(&'a self, keys: &'a K, key: Key) -> impl Iterator<Item = Hfn> + 'a {
        // The table proposes what has seven bits in common with the key's place.
        let candidates = self.table.iter_hash(spread(key)).map(|entry| hfn(*entry));
        candidates.filter(move |frame| keys.key(*frame) == Some(key))
    }

    /// Inserts a frame. One that was in the index with another key is there with this one now, or not at all.
    pub fn insert<K: Keys>(&mut self, keys: &mut K, frame: Hfn, key: Key) -> Inserted {
        let Some(entry) = u32::try_from(frame.get())
            .ok()
            .filter(|entry| *entry < keys.frames())
        else {
            return Inserted::Refused;
        };
        match keys.key(frame) {
            Some(old) if old == key => return Inserted::Indexed,
            Some(_) => self.remove(keys, frame),
            None => (),
        }
        if self.find(keys, key).take(EQUAL_KEYS_MAX).count() == EQUAL_KEYS_MAX {
            return Inserted::Crowded;
        }
        if !self.make_room(keys) {
            return Inserted::Full;
        }
        if keys.enter(frame, key).is_none() {
            return Inserted::Refused;
        }
        self.place(entry, key);
        Inserted::Indexed
    }

    /// Takes a frame out, if it is in the index. Before its frame gets another use, that is.
    pub fn remove<K: Keys>(&mut self, keys: &mut K, frame: Hfn) {
        let Some(key) = keys.key(frame) else {
            return;
        };
        let is_it = |entry: &u32| hfn(*entry) == frame;
        if let Ok(entry) = self.table.find_entry(spread(key), is_it) {
            entry.remove();
        }
        keys.leave(frame);
    }

    /// Checks that just the frames are in it whose records say so.
    pub fn audit<K: Keys>(&self, keys: &K) -> Result<(), Mismatch> {
        let mut records = 0;
        for entry in 0..keys.frames() {
            let Some(key) = keys.key(hfn(entry)) else {
                continue;
            };
            records += 1;
            if self.table.find(spread(key), |other| *other == entry).is_none() {
                return Err(Mismatch::Missing(hfn(entry)));
            }
        }
        let entries = self.table.len();
        if entries == records {
            Ok(())
        } else {
            Err(Mismatch::Stray { entries, records })
        }
    }

    /// Whether there is room for one more, after cleaning up if that is worth it.
    fn make_room<K: Keys>(&mut self, keys: &K) -> bool {
        if self.table.capacity() > self.table.len() {
            return true;
        }
        let tombstones = self.room - self.table.capacity();
        if tombstones < (self.room / 16).max(1) {
            return false;
        }
        self.rebuild(keys);
        self.table.capacity() > self.table.len()
    }

    /// Fills the table anew from the records.
    fn rebuild<K: Keys>(&mut self, keys: &K) {
        if self.table.is_empty() {
            // hashbrown leaves the tombstones of an empty table alone when it clears it; making room it
            // cleans up in place while less than half is used.
            self.table.reserve(1, |_| 0);
        }
        self.table.clear();
        for entry in 0..keys.frames() {
            if let Some(key) = keys.key(hfn(entry)) {
                self.place(entry, key);
            }
        }
    }

    /// Only with room left: then hashbrown does not ask where other entries belong, and takes no memory.
    fn place(&mut self, entry: u32, key: Key) {
        if self.table.capacity() > self.table.len() {
            self.table.insert_unique(spread(key), entry, |_| 0);
        }
    }
}
