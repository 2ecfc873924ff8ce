//! The memory that nobody uses: all of it is handed out once, as pages that a test may read and write.

use core::sync::atomic::{AtomicBool, Ordering};

use crate::contents::Content;
use crate::regions::{MAX_REGIONS, PAGE_BYTES, Region, RegionList};
use crate::{hypercall, start_info};

/// 64-bit words of a page.
pub const WORDS: usize = 512;
/// What the boot code maps.
const MAPPED_END: u64 = 1 << 32;
/// Below it, a real machine's firmware has its data.
const LOW_END: u64 = 1 << 20;

/// One page of memory. Every access is volatile: what was stored is loaded from memory again, never
/// remembered by the compiler.
#[repr(C, align(4096))]
pub struct Page([u64; WORDS]);

/// A word that is not what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// Its address.
    pub address: u64,
    /// What it should be.
    pub expected: u64,
    /// What it is.
    pub found: u64,
}

impl Page {
    /// Its physical address.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.0.as_ptr().addr() as u64
    }

    /// Reads a word.
    ///
    /// # Panics
    /// When `index` is not below [`WORDS`].
    #[must_use]
    #[inline]
    pub fn load(&self, index: usize) -> u64 {
        let word: *const u64 = &raw const self.0[index];
        // SAFETY: derived from a reference just now.
        unsafe { word.read_volatile() }
    }

    /// Writes a word.
    ///
    /// # Panics
    /// When `index` is not below [`WORDS`].
    #[inline]
    pub fn store(&mut self, index: usize, value: u64) {
        let word: *mut u64 = &raw mut self.0[index];
        // SAFETY: derived from an exclusive reference just now.
        unsafe { word.write_volatile(value) }
    }

    /// Writes the words of a range, each as `content` gives it.
    ///
    /// # Panics
    /// When the range passes [`WORDS`].
    pub fn fill(&mut self, range: core::ops::Range<usize>, content: impl Fn(usize) -> u64) {
        for index in range {
            self.store(index, content(index));
        }
    }

    /// Compares the words of a range with `content`.
    ///
    /// # Errors
    /// The first word that differs.
    ///
    /// # Panics
    /// When the range passes [`WORDS`].
    pub fn check(
        &self,
        range: core::ops::Range<usize>,
        content: impl Fn(usize) -> u64,
    ) -> Result<(), Mismatch> {
        for index in range {
            let (expected, found) = (content(index), self.load(index));
            if expected != found {
                return Err(Mismatch {
                    address: self.address() + index as u64 * 8,
                    expected,
                    found,
                });
            }
        }
        Ok(())
    }

    /// Writes a whole page.
    pub fn write(&mut self, content: Content) {
        self.fill(0..WORDS, |index| content.word(index));
    }

    /// Compares a whole page; a difference ends the guest as failed.
    pub fn expect(&self, content: Content, when: &str) {
        if let Err(wrong) = self.check(0..WORDS, |index| content.word(index)) {
            wrong.fail(when);
        }
    }
}

impl Mismatch {
    /// Ends the guest as failed.
    pub fn fail(&self, when: &str) -> ! {
        crate::println!(
            "FAILED: {when}: {:#x} holds {:#018x}, not {:#018x}",
            self.address,
            self.found,
            self.expected
        );
        hypercall::finish(1)
    }
}

/// All free memory, in order of address.
#[derive(Default)]
pub struct Pages {
    runs: [&'static mut [Page]; MAX_REGIONS],
}

impl Pages {
    /// How many pages there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.runs.iter().map(|run| run.len()).sum()
    }

    /// There is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All pages.
    pub fn iter(&self) -> impl Iterator<Item = &Page> {
        self.runs.iter().flat_map(|run| run.iter())
    }

    /// All pages, to be written.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Page> {
        self.runs.iter_mut().flat_map(|run| run.iter_mut())
    }

    /// The most pages in a row.
    pub fn longest_run(&mut self) -> &mut [Page] {
        let longest = (0..MAX_REGIONS).max_by_key(|&index| self.runs[index].len());
        self.runs[longest.unwrap_or(0)]
    }

    /// Takes so many pages in a row away, the first of which lies at a multiple of `alignment` bytes. They come from
    /// the longest run; what lies before them is lost.
    ///
    /// # Panics
    /// When there are not so many in a row.
    pub fn take(&mut self, count: usize, alignment: u64) -> &'static mut [Page] {
        let longest = (0..MAX_REGIONS).max_by_key(|&index| self.runs[index].len());
        let run = core::mem::take(&mut self.runs[longest.unwrap_or(0)]);
        let first = run
            .iter()
            .position(|page| page.address().is_multiple_of(alignment));
        let run = &mut run[first.unwrap_or(0)..];
        assert!(
            count <= run.len(),
            "{count} pages in a row are wanted, there are {}",
            run.len()
        );
        let (taken, rest) = run.split_at_mut(count);
        self.runs[longest.unwrap_or(0)] = rest;
        taken
    }

    /// One page by its number.
    ///
    /// # Panics
    /// When `index` is not below [`Pages::len`].
    pub fn page(&mut self, index: usize) -> &mut Page {
        let mut index = index;
        for run in &mut self.runs {
            if index < run.len() {
                return &mut run[index];
            }
            index -= run.len();
        }
        panic!("there is no such page")
    }
}

static IS_TAKEN: AtomicBool = AtomicBool::new(false);

/// Hands out all memory that neither the kernel nor the loader's records occupy. On Pleat nothing of it has
/// been touched; elsewhere firmware has, so it is cleared. The second call gets nothing.
#[must_use]
pub fn take_all() -> Pages {
    let mut pages = Pages::default();
    if IS_TAKEN.swap(true, Ordering::Relaxed) {
        return pages;
    }
    for (run, region) in pages.runs.iter_mut().zip(free_regions().as_slice()) {
        let len = usize::try_from((region.end - region.start) / PAGE_BYTES).unwrap_or_default();
        let start = usize::try_from(region.start).unwrap_or_default();
        let start = core::ptr::with_exposed_provenance_mut::<Page>(start);
        // SAFETY: whole pages of RAM that are mapped, used by nobody else, and given out once.
        *run = unsafe { core::slice::from_raw_parts_mut(start, len) };
    }
    if !hypercall::is_on_pleat() {
        pages.iter_mut().for_each(|page| page.fill(0..WORDS, |_| 0));
    }
    pages
}

/// Memory that a device has given to the guest, or takes back again: as in [`crate::cpu`] nothing is checked, and a
/// kernel can break nothing but itself.
#[must_use]
pub fn claim(region: Region) -> &'static mut [Page] {
    let region = region.shrunk_to_pages();
    let len = usize::try_from((region.end - region.start) / PAGE_BYTES).unwrap_or_default();
    let start = usize::try_from(region.start).unwrap_or_default();
    let start = core::ptr::with_exposed_provenance_mut::<Page>(start);
    // SAFETY: no other part of this library hands out memory that the map does not have.
    unsafe { core::slice::from_raw_parts_mut(start, len) }
}

/// Maps another gibibyte, linear addresses equal physical ones, by a table in this page.
///
/// # Panics
/// When it is beyond the first 512.
pub fn map_gibibyte(number: u64, table: &'static mut Page) {
    const LARGE_BYTES: u64 = 2 << 20;
    const PRESENT_WRITABLE_LARGE: u64 = 0x83;
    unsafe extern "C" {
        static mut pleat_pdpt: [u64; WORDS];
    }
    assert!(number < WORDS as u64, "one table reaches to 512 GiB only");
    let first = number << 30 | PRESENT_WRITABLE_LARGE;
    table.fill(0..WORDS, |index| first + index as u64 * LARGE_BYTES);
    let entry = (&raw mut pleat_pdpt).cast::<u64>();
    let index = usize::try_from(number).unwrap_or_default();
    // SAFETY: one of the table's 512 entries; nothing was mapped there.
    unsafe { entry.add(index).write_volatile(table.address() | 3) };
}

/// The first byte after the last byte of RAM below 4 GiB.
#[must_use]
pub fn ram_end() -> u64 {
    start_info::ram()
        .as_slice()
        .iter()
        .map(|region| region.end.min(MAPPED_END))
        .max()
        .unwrap_or(0)
}

fn free_regions() -> RegionList {
    let mut free = RegionList::default();
    for region in start_info::ram().as_slice() {
        free.add(region.shrunk_to_pages());
    }
    free.subtract(Region {
        start: MAPPED_END,
        end: u64::MAX,
    });
    free.subtract(image());
    for used in start_info::loader_regions().as_slice() {
        free.subtract(used.grown_to_pages());
    }
    // Page 0 is RAM as any other, but a null reference is none to Rust.
    free.subtract(Region::new(0, PAGE_BYTES));
    if !hypercall::is_on_pleat() {
        free.subtract(Region::new(0, LOW_END));
    }
    free
}

fn image() -> Region {
    unsafe extern "C" {
        static pleat_image_start: u8;
        static pleat_image_end: u8;
    }
    let (start, end) = (&raw const pleat_image_start, &raw const pleat_image_end);
    Region {
        start: start.addr() as u64,
        end: end.addr() as u64,
    }
}
