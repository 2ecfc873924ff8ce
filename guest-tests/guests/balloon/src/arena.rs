//! The memory that is worked on, and what each page of it has to hold.

use pleat_guest::contents::{Content, seed_of};
use pleat_guest::memory::{Page, Pages, WORDS};
use pleat_guest::random::Random;
use pleat_guest::table::Table;
use pleat_guest::virtio::balloon::{Way, frame_of};
use pleat_guest::{check, println};

/// So that blocks of it can be reported.
pub(crate) const LARGE_BYTES: u64 = 2 << 20;
/// In the table: it is in the balloon.
const AWAY: u64 = 1;

/// Pages with versions. Version 0 is all zeros; the others' words follow from seed, page and version.
pub(crate) struct Arena {
    pages: &'static mut [Page],
    table: Table,
    seed: u64,
    versions: u64,
    /// Pages in the balloon.
    pub(crate) away: usize,
    /// Pages that came out of the balloon with what they went in with.
    pub(crate) kept: u64,
    /// Pages that were compared, every word.
    pub(crate) checked: u64,
}

impl Arena {
    pub(crate) fn new(pages: &mut Pages, len: usize, seed: u64) -> Self {
        let table = Table::new(pages.take(Table::pages(len), 4096));
        Self {
            pages: pages.take(len, LARGE_BYTES),
            table,
            seed,
            versions: 0,
            away: 0,
            kept: 0,
            checked: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.pages.len()
    }

    pub(crate) fn address(&self, index: usize) -> u64 {
        self.pages[index].address()
    }

    pub(crate) fn frame(&self, index: usize) -> u32 {
        frame_of(self.address(index))
    }

    pub(crate) fn page(&mut self, index: usize) -> &mut Page {
        &mut self.pages[index]
    }

    pub(crate) fn content(&self, index: usize) -> Content {
        match self.table.get(index) >> 1 {
            0 => Content::Zero,
            version => Content::seeded(seed_of(&[self.seed, index as u64, version])),
        }
    }

    pub(crate) fn is_away(&self, index: usize) -> bool {
        self.table.get(index) & AWAY != 0
    }

    /// Gives a page a content that no page had before.
    pub(crate) fn fill(&mut self, index: usize) {
        self.versions += 1;
        self.note(index, self.versions);
        let content = self.content(index);
        self.pages[index].write(content);
    }

    pub(crate) fn fill_all(&mut self) {
        (0..self.len()).for_each(|index| self.fill(index));
    }

    /// The page is no more in the balloon, if it was, and holds this version.
    fn note(&mut self, index: usize, version: u64) {
        self.away -= usize::from(self.is_away(index));
        self.table.set(index, version << 1);
    }

    /// The page is all zeros, as far as the oracle knows.
    pub(crate) fn note_zero(&mut self, index: usize) {
        self.note(index, 0);
    }

    /// The page goes into the balloon.
    pub(crate) fn give(&mut self, index: usize) {
        self.away += usize::from(!self.is_away(index));
        self.table.set(index, self.table.get(index) | AWAY);
    }

    /// A page whose memory the host may have taken: it is all zeros, or all that it was. What it is is what it
    /// has to be from now on.
    pub(crate) fn settle(&mut self, index: usize, when: &str) {
        let was = self.content(index);
        let is_kept = was != Content::Zero && self.pages[index].load(0) == was.word(0);
        let version = self.table.get(index) >> 1;
        self.note(index, if is_kept { version } else { 0 });
        self.kept += u64::from(is_kept);
        self.expect(index, when);
    }

    /// Compares a page, unless it is in the balloon.
    pub(crate) fn expect(&mut self, index: usize, when: &str) {
        if self.is_away(index) {
            return;
        }
        let content = self.content(index);
        if let Err(wrong) = self.pages[index].check(0..WORDS, |word| content.word(word)) {
            println!("page {index} of {}", self.len());
            wrong.fail(when);
        }
        self.checked += 1;
    }

    pub(crate) fn expect_all(&mut self, when: &str) {
        (0..self.len()).for_each(|index| self.expect(index, when));
    }

    pub(crate) fn expect_some(&mut self, random: &mut Random, count: usize, when: &str) {
        for _ in 0..count {
            self.expect(random.below(self.len()), when);
        }
    }

    /// Picks pages that can go this way, some in a row, some far apart, up or down; how many were found. They are
    /// noted as gone that way.
    pub(crate) fn pick(&mut self, random: &mut Random, way: Way, picked: &mut [u32]) -> usize {
        // An odd stride meets every page of a power of two.
        let strides = [1, 1, 1, 7, 515, self.len() - 1];
        let stride = strides[random.below(strides.len())];
        let mut index = random.below(self.len());
        let mut found = 0;
        for _ in 0..picked.len() * 4 {
            index = (index + stride) % self.len();
            if self.is_away(index) != (way == Way::Deflate) {
                continue;
            }
            match way {
                Way::Inflate => self.give(index),
                Way::Deflate => {
                    let version = self.table.get(index) >> 1;
                    self.note(index, version);
                }
            }
            picked[found] = u32::try_from(index).unwrap_or(0);
            found += 1;
            if found == picked.len() {
                break;
            }
        }
        found
    }

    /// The page numbers of picked pages, in their place.
    pub(crate) fn to_frames(&self, picked: &mut [u32]) {
        for entry in picked {
            *entry = self.frame(*entry as usize);
        }
    }

    /// The picked pages of page numbers, in their place.
    pub(crate) fn to_indices(&self, frames: &mut [u32]) {
        let first = self.frame(0);
        for entry in frames {
            check!(*entry >= first, "a page number below the memory");
            *entry -= first;
        }
    }
}
