//! The memory that devices write to, and its oracle: a copy of each byte.

use core::fmt;

use pleat_guest::contents::{Content, seed_of};
use pleat_guest::memory::{Page, Pages, WORDS};
use pleat_guest::random::Random;
use pleat_guest::store;
use pleat_guest::timing::Writes;
use pleat_guest::window::Window;

pub(crate) const PAGE_BYTES: u64 = 4096;
/// Pages of each kind.
const EACH: usize = 48;
const KINDS: usize = 6;
pub(crate) const PAGES: usize = EACH * KINDS;

/// What a page is before a device writes to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Equal to a page of the other guest, and to others here.
    Shared,
    /// Read, and never written: all zeros.
    Zero,
    /// Never touched.
    Untouched,
    /// A content that nobody else has.
    Own,
    /// In the balloon.
    Ballooned,
    /// Reported as free.
    Reported,
}

const ORDER: [Kind; KINDS] = [
    Kind::Shared,
    Kind::Zero,
    Kind::Untouched,
    Kind::Own,
    Kind::Ballooned,
    Kind::Reported,
];

pub(crate) struct Field {
    pages: &'static mut [Page],
    /// What each page has to hold.
    copy: &'static mut [Page],
    seed: u64,
    own: u64,
    /// First writes of the processor to pages that had to be merged.
    pub(crate) writes: Writes,
    written: u64,
}

impl fmt::Debug for Field {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            to,
            "{PAGES} pages, {} times written by devices; {:?}",
            self.written, self.writes
        )
    }
}

impl Field {
    pub(crate) fn new(pages: &mut Pages, seed: u64, own: u64) -> Self {
        Self {
            copy: pages.take(PAGES, PAGE_BYTES),
            pages: pages.take(PAGES, PAGE_BYTES),
            seed,
            own: seed_of(&[own]),
            writes: Writes::default(),
            written: 0,
        }
    }

    /// Pages of different kinds lie side by side, so that what a device writes crosses from one to the other.
    fn kind(page: usize) -> Kind {
        ORDER[page % KINDS]
    }

    fn content(&self, page: usize) -> Content {
        match Self::kind(page) {
            // Four contents, which the other guest has too.
            Kind::Shared => Content::common(self.seed, (page / KINDS % 4) as u64),
            Kind::Zero | Kind::Untouched => Content::Zero,
            Kind::Own => Content::near(self.own, page),
            Kind::Ballooned | Kind::Reported => Content::near(self.seed, page),
        }
    }

    /// Gives each page its first content. Zeros are not written: after the first time such pages were let go of.
    pub(crate) fn fill(&mut self) {
        for page in 0..PAGES {
            let content = self.content(page);
            self.copy[page].write(content);
            match Self::kind(page) {
                Kind::Untouched => {}
                Kind::Zero => self.pages[page].expect(Content::Zero, "before anything is written"),
                _ => self.pages[page].write(content),
            }
        }
    }

    /// What was written where there were zeros is taken away again.
    pub(crate) fn forget(&mut self) {
        for (page, is) in self.pages.iter_mut().enumerate() {
            if matches!(Self::kind(page), Kind::Zero | Kind::Untouched) {
                is.write(Content::Zero);
            }
        }
    }

    pub(crate) fn check_all(&self, when: &str) {
        for (page, copy) in self.pages.iter().zip(&*self.copy) {
            if let Err(wrong) = page.check(0..WORDS, |word| copy.load(word)) {
                wrong.fail(when);
            }
        }
    }

    /// The processor writes one word of each page that is merged; the word it holds already.
    pub(crate) fn touch_merged(&mut self) {
        let Self { pages, writes, .. } = self;
        for (_, page) in pages
            .iter_mut()
            .enumerate()
            .filter(|(page, _)| Self::kind(*page) == Kind::Shared)
        {
            let (at, word) = (page.address(), page.load(0));
            writes.time(|| store::past_caches(at, word));
        }
    }

    /// Some bytes somewhere: the place of the first one.
    pub(crate) fn place(random: &mut Random, bytes: usize) -> u64 {
        let room = PAGES * usize::try_from(PAGE_BYTES).unwrap_or(0) - bytes;
        random.below(room + 1) as u64
    }

    pub(crate) fn address(&self, place: u64) -> u64 {
        self.pages[0].address() + place
    }

    fn copy(&self) -> Window {
        Window::Memory(self.copy[0].address())
    }

    /// A device has written these bytes.
    pub(crate) fn note(&mut self, place: u64, bytes: u64, byte: impl Fn(u64) -> u8) {
        for offset in 0..bytes {
            self.copy().store_u8(place + offset, byte(offset));
        }
        self.written += 1;
    }

    /// A device has written bytes that nobody knows: they are what they are.
    pub(crate) fn learn(&mut self, place: u64, bytes: u64) {
        let from = Window::Memory(self.address(place));
        self.note(place, bytes, |offset| from.load_u8(offset));
    }

    /// The pages of a kind, by address.
    pub(crate) fn of_kind(&self, kind: Kind) -> impl Iterator<Item = u64> {
        let first = self.address(0);
        (0..PAGES)
            .filter(move |page| Self::kind(*page) == kind)
            .map(move |page| first + page as u64 * PAGE_BYTES)
    }

    /// The host has taken the pages of a kind. It is not looked whether it has, lest they are there again: the check
    /// after the devices' writes sees that what they did not write is zeros.
    pub(crate) fn note_let_go(&mut self, kind: Kind) {
        for page in (0..PAGES).filter(|page| Self::kind(*page) == kind) {
            self.copy[page].write(Content::Zero);
        }
    }
}
