//! Page tables of this guest in merged pages. The processor itself writes accessed and dirty bits into them, and these
//! bits must appear in the one table that was used, not in those that were equal to it.

use pleat_guest::contents::{Content, seed_of};
use pleat_guest::memory::{Page, WORDS};
use pleat_guest::timing::Writes;
use pleat_guest::{check, cpu, store};

const PRESENT: u64 = 1;
const WRITABLE: u64 = 1 << 1;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
/// The linear range of these tables: the third entry of the top table.
const SPACE: u64 = 2 << 39;
const TOP_SLOT: u64 = 2;
/// Equal page tables.
const TABLES: usize = 8;
/// Pages that they map, again and again.
const DATA: usize = 4;
/// Entries of each table that are read and written through; `+` the table's number.
const READ_SLOT: usize = 3;
const WRITE_SLOT: usize = 100;

pub(crate) struct Tables<'a> {
    tables: &'a mut [Page],
    data: &'a mut [Page],
    content: Content,
    /// First accesses through a merged table, by how they went.
    pub(crate) walks: Writes,
}

impl<'a> Tables<'a> {
    /// Builds the tables and hangs them into the top table in use.
    pub(crate) fn new(pages: &'a mut [Page], own: u64) -> Self {
        let needed = 2 + TABLES + DATA;
        check!(pages.len() >= needed, "{needed} pages are needed for tables");
        let (upper, pages) = pages.split_at_mut(2);
        let (tables, pages) = pages.split_at_mut(TABLES);
        let data = &mut pages[..DATA];
        let content = Content::seeded(seed_of(&[own, 2]));
        for page in &mut *data {
            page.write(content);
        }
        let mut made = Self {
            tables,
            data,
            content,
            walks: Writes::default(),
        };
        made.reset();
        for (slot, table) in made.tables.iter().enumerate() {
            upper[1].store(slot, table.address() | PRESENT | WRITABLE);
        }
        upper[0].store(0, upper[1].address() | PRESENT | WRITABLE);
        let top = cpu::read_cr3() & !0xfff;
        let entry = upper[0].address() | PRESENT | WRITABLE;
        store::bytes(top + TOP_SLOT * 8, &entry.to_le_bytes());
        made
    }

    /// Makes all tables equal again, without any accessed or dirty bit.
    pub(crate) fn reset(&mut self) {
        let Self { tables, data, .. } = self;
        for table in tables.iter_mut() {
            for slot in 0..WORDS {
                table.store(slot, data[slot % DATA].address() | PRESENT | WRITABLE);
            }
        }
        cpu::write_cr3(cpu::read_cr3());
    }

    /// Reads and writes through one table after the other; after each, looks at all of them.
    pub(crate) fn use_all(&mut self, pass: u64) {
        self.check_tables(0, "page tables before they are used");
        for table in 0..TABLES {
            let address = |slot: usize| SPACE + (table as u64) * (2 << 20) + slot as u64 * 4096;
            let (read, write) = (READ_SLOT + table, WRITE_SLOT + table);
            let word = WORDS - 1;
            let mut found = 0;
            self.walks
                .time(|| found = cpu::peek_u64(address(read) + word as u64 * 8));
            let expected = self.content.word(word);
            check!(
                found == expected,
                "table {table} reads {found:#x}, not {expected:#x}"
            );
            let value = seed_of(&[pass, table as u64]);
            store::bytes(address(write) + table as u64 * 8, &value.to_le_bytes());
            let found = self.data[write % DATA].load(table);
            check!(found == value, "what was written by table {table} went elsewhere");
            self.check_tables(table + 1, "page tables in use");
        }
        self.check_data(pass);
    }

    /// The first `used` tables have accessed and dirty bits where they were used, the others have none.
    fn check_tables(&self, used: usize, when: &str) {
        for (number, table) in self.tables.iter().enumerate() {
            let expected = |slot: usize| {
                let entry = self.data[slot % DATA].address() | PRESENT | WRITABLE;
                match slot {
                    _ if number >= used => entry,
                    _ if slot == READ_SLOT + number => entry | ACCESSED,
                    _ if slot == WRITE_SLOT + number => entry | ACCESSED | DIRTY,
                    _ => entry,
                }
            };
            if let Err(wrong) = table.check(0..WORDS, expected) {
                wrong.fail(when);
            }
        }
    }

    fn check_data(&self, pass: u64) {
        for (number, page) in self.data.iter().enumerate() {
            let expected = |word: usize| match word {
                0..TABLES if (WRITE_SLOT + word) % DATA == number => seed_of(&[pass, word as u64]),
                _ => self.content.word(word),
            };
            if let Err(wrong) = page.check(0..WORDS, expected) {
                wrong.fail("what was written by way of merged tables");
            }
        }
    }
}
