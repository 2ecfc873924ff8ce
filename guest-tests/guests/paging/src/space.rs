//! A linear range with page tables of its own.

use pleat_guest::cpu;
use pleat_guest::memory::{Pages, WORDS};

/// Where the range starts: the second entry of the top table.
pub(crate) const SPACE: u64 = 1 << 39;
pub(crate) const PRESENT: u64 = 1;
pub(crate) const WRITABLE: u64 = 1 << 1;
pub(crate) const USER: u64 = 1 << 2;
pub(crate) const ACCESSED: u64 = 1 << 5;
pub(crate) const DIRTY: u64 = 1 << 6;
pub(crate) const GLOBAL: u64 = 1 << 8;
pub(crate) const NO_EXECUTE: u64 = 1 << 63;
const TOP_SLOT: usize = 1;

/// The tables, by their index in [`Pages`]: top, PDPT, page directory, page table.
pub(crate) struct Space {
    tables: [usize; 4],
    next: usize,
}

impl Space {
    /// A copy of the top table in use, loaded into CR3. Its entry for the range names the next table, which
    /// is left untouched.
    pub(crate) fn new(pages: &mut Pages) -> Self {
        let boot = cpu::read_cr3() & !0xfff;
        let mut space = Self {
            tables: [0; 4],
            next: 1,
        };
        let top = pages.page(0);
        for index in 0..WORDS {
            top.store(index, cpu::peek_u64(boot + index as u64 * 8));
        }
        let address = top.address();
        space.link(pages, 0, TOP_SLOT);
        cpu::write_cr3(address);
        space
    }

    /// Takes a page that nobody has touched as the table below level `level`, and links it there.
    fn link(&mut self, pages: &mut Pages, level: usize, slot: usize) {
        self.tables[level + 1] = self.next;
        self.next += 1;
        let below = pages.page(self.tables[level + 1]).address();
        pages
            .page(self.tables[level])
            .store(slot, below | PRESENT | WRITABLE | USER);
    }

    /// Goes one level deeper: 0 links a page directory, 1 a page table, and the tables are complete.
    pub(crate) fn add_table(&mut self, pages: &mut Pages, level: usize) {
        self.link(pages, level + 1, 0);
    }

    /// The address of a page that nobody has touched.
    pub(crate) fn take_frame(&mut self, pages: &mut Pages) -> u64 {
        self.next += 1;
        pages.page(self.next - 1).address()
    }

    /// Writes an entry of the page table.
    pub(crate) fn map(&self, pages: &mut Pages, slot: usize, entry: u64) {
        pages.page(self.tables[3]).store(slot, entry);
    }

    /// Reads an entry of the page table.
    pub(crate) fn entry(&self, pages: &mut Pages, slot: usize) -> u64 {
        pages.page(self.tables[3]).load(slot)
    }
}
