//! What happens to each page in each round, computed from the seed alone.
//!
//! A round goes over all pages in order. To a page it does nothing, fills it, or does a burst of writes, of which some
//! reach into the next page. So the content of a page after a round follows from what happened to it and to the
//! page before it since it was filled last, and nothing needs to be remembered.

use pleat_guest::contents::{Content, seed_of};
use pleat_guest::random::{Random, mix};

/// Bytes and words of a page.
pub(crate) const PAGE: usize = 4096;
const WORDS: usize = PAGE / 8;
/// Pages that are busy or calm together.
const GROUP: usize = 32;
/// Rounds for which a group stays busy or calm.
const SPELL: u64 = 4;
/// Of so many spells, one is busy.
const BUSY_SPELLS: u64 = 3;
/// Pages of a 2 MiB region.
const REGION: usize = 512;
/// Rounds for which a region keeps its mood.
const MOOD_ROUNDS: u64 = 8;
/// At the latest after so many rounds a page is filled, so that looking back ends.
const FILL_ROUNDS: u64 = 64;
/// Contents that all guests of the seed fill pages with.
const COMMON_CONTENTS: u64 = 24;
/// Writes of a burst.
const BURST: usize = 24;

/// What happens to a page in a round.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Action {
    Nothing,
    Fill(Content),
    /// The seed of a burst.
    Burst(u64),
}

/// One write of a burst.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Write {
    /// Where it starts in the page; it may end in the next one.
    pub(crate) offset: usize,
    pub(crate) len: usize,
    pub(crate) how: How,
    /// The bytes, again and again.
    pub(crate) value: [u8; 32],
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum How {
    /// One MOV, MOVDQU or VMOVDQU.
    Store,
    /// REP MOVSB.
    Bytes,
    /// REP STOSQ.
    Words,
    /// LOCK XADD, aligned.
    Add,
    /// As `Store`, but zeros.
    Zeros,
}

/// What happens to a region of 2 MiB as a whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mood {
    /// Groups of pages are busy or calm.
    Mixed,
    /// Filled, with many duplicates, and left alone: a large mapping is worth splitting.
    Calm,
    /// All pages are unique and written all the time: small ones are worth one large mapping.
    Hot,
}

/// The rules of a guest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// What all guests have in common.
    pub(crate) seed: u64,
    pub(crate) own: u64,
    pub(crate) pages: usize,
    /// The largest store that the processor has.
    pub(crate) store_max: usize,
}

impl Rules {
    pub(crate) fn action(&self, page: usize, round: u64) -> Action {
        let dice = mix(self.own ^ (page as u64) << 32 ^ round);
        let is_first = round.is_multiple_of(MOOD_ROUNDS);
        match (self.mood(page, round), dice % 16) {
            (Mood::Calm, _) if is_first => Action::Fill(self.fill(dice)),
            (Mood::Calm, _) => Action::Nothing,
            (Mood::Hot, _) if is_first => Action::Fill(unique(dice)),
            (Mood::Hot, 0) => Action::Fill(unique(dice)),
            (Mood::Hot, 1..6) => Action::Burst(dice),
            (Mood::Hot, _) => Action::Nothing,
            (Mood::Mixed, _) => self.mixed(page, round, dice),
        }
    }

    fn mixed(&self, page: usize, round: u64, dice: u64) -> Action {
        if (round + page as u64).is_multiple_of(FILL_ROUNDS) {
            return Action::Fill(self.fill(dice));
        }
        let spell = (page / GROUP) as u64 ^ (round / SPELL) << 20;
        if !mix(self.own.rotate_left(9) ^ spell).is_multiple_of(BUSY_SPELLS) {
            return Action::Nothing;
        }
        match dice % 16 {
            0..5 => Action::Fill(self.fill(dice)),
            5..11 => Action::Burst(dice),
            _ => Action::Nothing,
        }
    }

    fn mood(&self, page: usize, round: u64) -> Mood {
        let spell = (page / REGION) as u64 ^ (round / MOOD_ROUNDS) << 20;
        match mix(self.own.rotate_left(21) ^ spell) % 5 {
            0 => Mood::Hot,
            1 => Mood::Calm,
            _ => Mood::Mixed,
        }
    }

    fn fill(&self, dice: u64) -> Content {
        match dice >> 8 & 7 {
            0..2 => Content::Zero,
            2..6 => Content::common(self.seed, (dice >> 16) % COMMON_CONTENTS),
            _ => unique(dice),
        }
    }

    /// The writes of a burst in a page. In the last page none reaches beyond.
    pub(crate) fn burst(&self, seed: u64, page: usize) -> impl Iterator<Item = Write> {
        let mut random = Random::new(seed);
        let room = if page + 1 == self.pages { PAGE } else { 2 * PAGE };
        let store_max = self.store_max;
        (0..BURST).map(move |_| {
            let dice = random.next_u64();
            let (how, len, align) = match dice & 15 {
                0 => (How::Bytes, 1 + (dice >> 8 & 63) as usize, 1),
                1 => (How::Words, 8 + (dice >> 8 & 511) as usize * 8, 8),
                2..4 => (How::Add, 8, 8),
                4..6 => (How::Zeros, store_len(dice >> 8, store_max), 1),
                _ => (How::Store, store_len(dice >> 8, store_max), 1),
            };
            let offset = offset(dice >> 20, len) / align * align;
            Write {
                offset: offset.min(room - len),
                len,
                how,
                value: value(how, dice),
            }
        })
    }
}

fn unique(dice: u64) -> Content {
    Content::seeded(seed_of(&[dice]))
}

fn value(how: How, dice: u64) -> [u8; 32] {
    let mut value = [0; 32];
    for (part, bytes) in (0..).zip(value.chunks_exact_mut(8)) {
        let word = match how {
            How::Zeros => 0,
            How::Words => dice,
            _ => dice.rotate_left(13 * part),
        };
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    value
}

fn store_len(dice: u64, max: usize) -> usize {
    (1 << (dice % 6)).min(max)
}

/// Every eighth one crosses into the next page, where it is long enough.
fn offset(dice: u64, len: usize) -> usize {
    let spread = (dice >> 3) as usize;
    if dice.is_multiple_of(8) {
        PAGE - 1 - spread % len
    } else {
        spread % (PAGE - len.min(PAGE - 1))
    }
}

impl Write {
    /// The first eight bytes.
    pub(crate) fn first_word(&self) -> u64 {
        le(&self.value[..8])
    }

    /// Does the same to a copy of a page: this page (`start` 0) or the next one (`start` 4,096).
    pub(crate) fn replay(&self, words: &mut [u64; WORDS], start: usize) {
        let first = self.offset.max(start);
        let end = (self.offset + self.len).min(start + PAGE);
        match self.how {
            How::Add if start == 0 => {
                let word = &mut words[self.offset / 8];
                *word = word.wrapping_add(self.first_word());
            }
            How::Add => {}
            How::Words => {
                for place in (first..end).step_by(8) {
                    words[(place - start) / 8] = self.first_word();
                }
            }
            How::Store | How::Bytes | How::Zeros => {
                for place in first..end {
                    let byte = u64::from(self.value[(place - self.offset) % 32]);
                    let (word, shift) = ((place - start) / 8, place % 8 * 8);
                    words[word] = words[word] & !(0xff << shift) | byte << shift;
                }
            }
        }
    }
}

fn le(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .rev()
        .fold(0, |value, byte| value << 8 | u64::from(*byte))
}
