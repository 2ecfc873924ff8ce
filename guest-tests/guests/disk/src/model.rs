//! What each sector of the disk holds: the base image, or a version that this guest has written.

use pleat_guest::check;
use pleat_guest::contents::seed_of;
use pleat_guest::memory::Pages;
use pleat_guest::random::mix;
use pleat_guest::table::Table;
use pleat_guest::virtio::block::SECTOR;
use pleat_guest::window::Window;

/// Sectors of a page: what the device keeps no less of.
pub(crate) const PAGE_SECTORS: usize = 8;
/// A version of zeros, as each eighth is.
const ZEROS: u64 = 8;

/// Words of a sector.
const WORDS: u64 = SECTOR / 8;
/// Words of the base image: `seq -f %07g 0 2367`, 37 sectors. Behind it the disk is zeros.
pub(crate) const IMAGE_WORDS: u64 = 2368;

pub(crate) struct Model {
    versions: Table,
    sectors: usize,
    seed: u64,
    next: u64,
}

/// A word of the base image: seven digits and a new line.
pub(crate) fn image_word(number: u64) -> u64 {
    if number >= IMAGE_WORDS {
        return 0;
    }
    let mut text = [b'\n'; 8];
    let mut rest = number;
    for digit in text[..7].iter_mut().rev() {
        *digit = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
    }
    u64::from_le_bytes(text)
}

impl Model {
    pub(crate) fn new(pages: &mut Pages, sectors: usize, seed: u64) -> Self {
        Self {
            versions: Table::new(pages.take(Table::pages(sectors), 4096)),
            sectors,
            seed,
            next: 1,
        }
    }

    pub(crate) fn sectors(&self) -> usize {
        self.sectors
    }

    fn word(&self, sector: u64, index: u64) -> u64 {
        let version = self.versions.get(usize::try_from(sector).unwrap_or(usize::MAX));
        match version {
            0 => image_word(sector * WORDS + index),
            // One in eight is zeros, so that a page of the disk can become one.
            version if version % 8 == 0 => 0,
            version => mix(seed_of(&[self.seed, sector, version]) ^ index),
        }
    }

    /// Sectors get contents that they never had.
    pub(crate) fn renew(&mut self, first: u64, count: usize) {
        let first = usize::try_from(first).unwrap_or(usize::MAX);
        for sector in first..first + count {
            self.versions.set(sector, self.next);
        }
        self.next += 1;
    }

    /// Sectors become zeros.
    pub(crate) fn zero(&mut self, first: u64, count: usize) {
        let first = usize::try_from(first).unwrap_or(usize::MAX);
        (first..first + count).for_each(|sector| self.versions.set(sector, ZEROS));
    }

    /// Sectors are discarded: whole pages of them are the image again. The device promises that to nobody, but it is
    /// what it does.
    pub(crate) fn discard(&mut self, first: u64, count: usize) {
        let first = usize::try_from(first).unwrap_or(usize::MAX);
        let end = (first + count) / PAGE_SECTORS * PAGE_SECTORS;
        (first.next_multiple_of(PAGE_SECTORS)..end).for_each(|sector| self.versions.set(sector, 0));
    }

    pub(crate) fn fill(&self, buffer: Window, first: u64, count: usize) {
        for place in 0..count as u64 * WORDS {
            let word = self.word(first + place / WORDS, place % WORDS);
            buffer.store_u64(place * 8, word);
        }
    }

    pub(crate) fn expect(&self, buffer: Window, first: u64, count: usize, when: &str) {
        for place in 0..count as u64 * WORDS {
            let (sector, index) = (first + place / WORDS, place % WORDS);
            let (found, expected) = (buffer.load_u64(place * 8), self.word(sector, index));
            check!(
                found == expected,
                "{when}: sector {sector}, word {index} is {found:#x}, not {expected:#x}"
            );
        }
    }
}
