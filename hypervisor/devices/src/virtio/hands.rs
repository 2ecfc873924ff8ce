//! What the devices of a guest need done outside of this crate.

use pleat_types::{Gfn, Gpa};

/// Why something could not be done to a guest's memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Denied {
    /// The guest has no RAM there: its own mistake.
    NoRam,
    /// No host frame is free for it, or what is there is away on a disk and is being brought back. Nothing has changed;
    /// the same may succeed later.
    HostShort,
}

/// Why the disk does not take bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unwritten {
    /// The guest has written as many pages of it as it may.
    Full,
    /// No host frame is free for it, or what is there is away. The same may succeed later.
    HostShort,
}

/// What a range of pages that can be plugged is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Plugged {
    /// All of it is RAM.
    All,
    /// None of it is.
    None,
    /// Some of it is.
    Some,
}

/// The owner of a guest, as its devices use it.
///
/// All calls are bounded by what they are given. Ranges and page numbers come from the guest: the owner checks them.
pub trait Hands {
    /// Copies guest memory out; the range may cross pages. After an error `out` may hold anything.
    ///
    /// # Errors
    /// Both; [`Denied::HostShort`] for a page that is away.
    fn read(&mut self, at: Gpa, out: &mut [u8]) -> Result<(), Denied>;

    /// Sees to it that these bytes can be written: until the guest runs again [`Hands::write`] succeeds there.
    ///
    /// # Errors
    /// Both.
    fn make_writable(&mut self, at: Gpa, bytes: u64) -> Result<(), Denied>;

    /// Copies bytes into guest memory; the range may cross pages.
    ///
    /// # Errors
    /// Both.
    fn write(&mut self, at: Gpa, bytes: &[u8]) -> Result<(), Denied>;

    /// The guest puts these pages, at most 256, into its balloon and does not use them until it takes them out. Pages
    /// that are no RAM are left alone.
    fn inflate(&mut self, pages: &[Gfn]);

    /// The guest takes these pages, at most 256, out of its balloon. Pages that are not in it are left alone.
    fn deflate(&mut self, pages: &[Gfn]);

    /// The guest has freed these pages, at most 512, and does not care for their content. They read as zeros when it
    /// uses them next, or as they were.
    fn report(&mut self, first: Gfn, count: u64);

    /// Makes RAM of these pages, which must not be RAM.
    ///
    /// # Errors
    /// [`Denied::NoRam`]: some of it is RAM already, or beyond what the guest may have. [`Denied::HostShort`].
    fn plug(&mut self, first: Gfn, count: u64) -> Result<(), Denied>;

    /// Takes these pages, at most 512, from the guest: they are no RAM any more.
    ///
    /// # Errors
    /// [`Denied::NoRam`]: not all of it is RAM. [`Denied::HostShort`].
    fn unplug(&mut self, first: Gfn, count: u64) -> Result<(), Denied>;

    /// What these pages are.
    fn plugged(&mut self, first: Gfn, count: u64) -> Plugged;

    /// Reads from the disk, `at` and the length being multiples of 512, within its size. After an error `out` may hold
    /// anything.
    ///
    /// # Errors
    /// [`Denied::HostShort`]: a page of it that the guest has written is away.
    fn read_disk(&mut self, at: u64, out: &mut [u8]) -> Result<(), Denied>;

    /// Writes to the disk, `at` and the length being multiples of 512, within its size.
    ///
    /// # Errors
    /// Both; a part may have been written.
    fn write_disk(&mut self, at: u64, bytes: &[u8]) -> Result<(), Unwritten>;

    /// The guest does not care any more for these bytes of the disk, at most 2 MiB, `at` and the length being multiples
    /// of 512, within its size. Whole pages of them may read as something else from now on, though never as what
    /// another guest has written.
    fn discard_disk(&mut self, at: u64, bytes: u64);

    /// So many bytes of the disk, in the same bounds, read as zeros from now on.
    ///
    /// # Errors
    /// Both; a part may have been done.
    fn zero_disk(&mut self, at: u64, bytes: u64) -> Result<(), Unwritten>;

    /// Fills this with bytes that nobody can guess.
    fn random(&mut self, out: &mut [u8]);

    /// The guest writes to its virtio console.
    fn print(&mut self, bytes: &[u8]);

    /// The guest writes to the port for messages about pressure.
    fn hear(&mut self, bytes: &[u8]);
}
