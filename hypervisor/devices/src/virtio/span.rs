//! Bytes of a chain, wherever its buffers are split: a device must not care (virtio 1.2, 2.7.4).

use core::slice;

use pleat_types::Gpa;

use super::device::Trouble;
use super::hands::Hands;
use super::queue::{Buffer, Chain, Direction};

/// The ranges of guest memory that so many bytes of one direction of a chain lie in; buffers without bytes are
/// passed over. Each comes with its size.
struct Span<'a> {
    buffers: slice::Iter<'a, Buffer>,
    direction: Direction,
    /// Bytes before the span, of the buffers still to come.
    skip: u64,
    left: u64,
}

impl<'a> Span<'a> {
    fn new(chain: &'a Chain, direction: Direction, from: u64, bytes: u64) -> Self {
        Self {
            buffers: chain.buffers.iter(),
            direction,
            skip: from,
            left: bytes,
        }
    }
}

impl Iterator for Span<'_> {
    type Item = Result<(Gpa, u64), Trouble>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        let direction = self.direction;
        for buffer in self
            .buffers
            .by_ref()
            .filter(|buffer| buffer.direction == direction)
        {
            let Some(there) = u64::from(buffer.bytes).checked_sub(self.skip) else {
                self.skip -= u64::from(buffer.bytes);
                continue;
            };
            let bytes = there.min(self.left);
            let skip = core::mem::take(&mut self.skip);
            if bytes == 0 {
                continue;
            }
            self.left -= bytes;
            return Some(range(buffer.at, skip, bytes));
        }
        None
    }
}

fn range(at: Gpa, skip: u64, bytes: u64) -> Result<(Gpa, u64), Trouble> {
    let begin = at.checked_add(skip);
    let is_whole = begin.is_some_and(|begin| begin.checked_add(bytes).is_some());
    match begin {
        Some(begin) if is_whole => Ok((begin, bytes)),
        _ => Err(Trouble::Guest("a buffer that leaves the address space")),
    }
}

impl Chain {
    /// Copies bytes from byte `from` on of what the device reads, and returns how many there were. Those before a page
    /// that is away do not count: all of them are read again with it.
    ///
    /// # Errors
    /// The guest has no RAM there, or a page is away.
    pub(super) fn copy_out<H: Hands>(
        &self,
        hands: &mut H,
        from: u64,
        out: &mut [u8],
    ) -> Result<usize, Trouble> {
        let mut done = 0;
        for range in Span::new(self, Direction::FromGuest, from, out.len() as u64) {
            let (at, bytes) = range?;
            let Some(place) = usize::try_from(bytes)
                .ok()
                .and_then(|bytes| out.get_mut(done..done + bytes))
            else {
                break;
            };
            hands.read(at, place)?;
            done += place.len();
        }
        Ok(done)
    }

    /// Sees to it that so many bytes from byte `from` on of what the device writes can be written.
    ///
    /// # Errors
    /// The guest has no RAM there, or the host has no memory.
    pub(super) fn make_writable<H: Hands>(
        &self,
        hands: &mut H,
        from: u64,
        bytes: u64,
    ) -> Result<(), Trouble> {
        for range in Span::new(self, Direction::ToGuest, from, bytes) {
            let (at, bytes) = range?;
            hands.make_writable(at, bytes)?;
        }
        Ok(())
    }

    /// Copies bytes to byte `from` on of what the device writes, which was made writable, and returns how many had
    /// room there.
    ///
    /// # Errors
    /// The guest has no RAM there.
    pub(super) fn copy_in<H: Hands>(&self, hands: &mut H, from: u64, bytes: &[u8]) -> Result<usize, Trouble> {
        let mut done = 0;
        for range in Span::new(self, Direction::ToGuest, from, bytes.len() as u64) {
            let (at, size) = range?;
            let Some(piece) = usize::try_from(size)
                .ok()
                .and_then(|size| bytes.get(done..done + size))
            else {
                break;
            };
            hands.write(at, piece)?;
            done += piece.len();
        }
        Ok(done)
    }
}
