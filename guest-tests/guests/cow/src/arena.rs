//! The test's memory together with its oracle: every write goes to both.

use pleat_guest::check;
use pleat_guest::contents::{Content, seed_of};
use pleat_guest::memory::{Page, WORDS};
use pleat_guest::store;
use pleat_guest::timing::Writes;

use crate::model::{Base, Model, Source};
use crate::writers::modify_itself;

/// Pages of the test's memory.
pub(crate) const PAGES: usize = 400;
pub(crate) const PAGE: usize = 4096;
/// The last two pages hold code, which is the same in both.
pub(crate) const CODE: usize = (PAGES - 2) * PAGE;
/// What the code returns before it is changed.
pub(crate) const OPERAND: u32 = 0x1111_1111;
/// Behind them lie pages from which strings are copied.
const SCRATCH_PAGES: usize = 3;

pub(crate) struct Arena<'a> {
    pages: &'a mut [Page],
    scratch: &'a mut [Page],
    model: Model,
    /// First writes that must break a merge, by how they went.
    pub(crate) writes: Writes,
    /// The next page that no writer has used.
    next: usize,
    seed: u64,
    number: u64,
}

impl<'a> Arena<'a> {
    pub(crate) fn new(pages: &'a mut [Page], base: Base, own: u64) -> Self {
        let needed = PAGES + SCRATCH_PAGES;
        check!(
            pages.len() >= needed,
            "{needed} pages in a row are needed, there are {}",
            pages.len()
        );
        let (pages, scratch) = pages[..needed].split_at_mut(PAGES);
        Self {
            pages,
            scratch,
            model: Model::new(base, seed_of(&[own])),
            writes: Writes::default(),
            next: 0,
            seed: seed_of(&[own, 1]),
            number: 0,
        }
    }

    /// Takes so many pages in a row that no writer has used; the place of the first one's first byte.
    pub(crate) fn take(&mut self, pages: usize) -> usize {
        let first = self.next;
        self.next += pages;
        check!(
            self.next * PAGE <= CODE,
            "{PAGES} pages are too few for all writers"
        );
        first * PAGE
    }

    /// From now on the page holds what no other one does.
    pub(crate) fn make_private(&mut self, place: usize) {
        let page = place / PAGE;
        self.model.set_private(page);
        self.pages[page].write(self.model.content(page));
    }

    pub(crate) fn address(&self, place: usize) -> u64 {
        self.pages[0].address() + place as u64
    }

    /// A source of bytes that no write has used yet.
    pub(crate) fn fresh(&mut self) -> Source {
        self.number += 1;
        Source::Seed(seed_of(&[self.seed, self.number]))
    }

    /// The bytes of a source at a place.
    pub(crate) fn bytes<const N: usize>(source: Source, place: usize) -> [u8; N] {
        core::array::from_fn(|index| source.byte(index, place + index))
    }

    pub(crate) fn content(&self, place: usize) -> Content {
        self.model.content(place / PAGE)
    }

    /// Memory outside of the test, filled with these bytes; its address.
    pub(crate) fn scratch(&mut self, byte: impl Fn(usize) -> u8) -> u64 {
        for (number, page) in self.scratch.iter_mut().enumerate() {
            page.fill(0..WORDS, |word| {
                let first = number * PAGE + word * 8;
                u64::from_le_bytes(core::array::from_fn(|index| byte(first + index)))
            });
        }
        self.scratch[0].address()
    }

    /// What is there by the oracle, at most 16 bytes.
    pub(crate) fn value(&self, place: usize, len: usize) -> u128 {
        self.model.value(place, len)
    }

    pub(crate) fn note(&mut self, place: usize, len: usize, source: Source) {
        self.model.note(place, len, source);
    }

    /// A write to pages that are merged, `len` bytes of `source`: done, timed and noted.
    pub(crate) fn write(&mut self, place: usize, len: usize, source: Source, write: impl FnOnce(u64)) {
        let address = self.address(place);
        self.writes.time(|| write(address));
        self.note(place, len, source);
    }

    /// Gives every page its first content.
    pub(crate) fn fill(&mut self) {
        self.model.forget_writes();
        for (number, page) in self.pages.iter_mut().enumerate() {
            page.write(self.model.content(number));
        }
        self.put_code();
    }

    fn put_code(&mut self) {
        let code = modify_itself(OPERAND);
        for place in [CODE, CODE + PAGE] {
            store::bytes(self.address(place), &code);
            self.note(place, code.len(), Source::Bytes(code));
        }
    }

    pub(crate) fn check_all(&self, when: &str) {
        for (number, page) in self.pages.iter().enumerate() {
            self.model.check_page(page, number, when);
        }
    }

    /// Writes the first contents back where they were overwritten, and nowhere else.
    pub(crate) fn restore(&mut self) {
        let Self { pages, model, .. } = self;
        model.for_each_written_word(|page, word| pages[page].store(word, model.content(page).word(word)));
        model.forget_writes();
        self.put_code();
        self.next = 0;
    }
}
