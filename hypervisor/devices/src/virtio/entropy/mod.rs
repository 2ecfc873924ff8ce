//! The entropy device (virtio 1.2, 5.4): the guest gives buffers and gets bytes that nobody can guess.

#[cfg(test)]
mod tests;

use super::device::{Device, Step, Trouble};
use super::hands::Hands;
use super::queue::{Direction, Queue};

/// Bytes for one serve.
const BYTES_MAX: usize = 256;
/// Linux has one buffer of a cache line in the queue at a time (`virtio-rng.c`, `request_entropy`).
const QUEUE_SIZE: u16 = 8;

/// A source of entropy for the guest.
#[derive(Clone, Debug, Default)]
pub struct Entropy {
    given_bytes: u64,
}

impl Entropy {
    /// A device that has given nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { given_bytes: 0 }
    }

    /// How many bytes the guest has got.
    #[must_use]
    pub const fn given_bytes(&self) -> u64 {
        self.given_bytes
    }
}

impl Device for Entropy {
    const ID: u16 = 4;
    const QUEUE_SIZES: &'static [u16] = &[QUEUE_SIZE];

    fn offered(&self) -> u64 {
        0
    }

    fn negotiated(&mut self, _features: u64) {}

    fn reset(&mut self) {}

    fn config(&self, _at: usize) -> u8 {
        0
    }

    /// A buffer may be given back partly filled (5.4.6.2), so that no chain takes more than one call.
    fn serve<H: Hands>(&mut self, _index: usize, queue: &mut Queue, hands: &mut H) -> Result<Step, Trouble> {
        let mut left = BYTES_MAX;
        while left > 0 {
            let Some(chain) = queue.first(hands)? else {
                return Ok(Step::Done);
            };
            let room = chain.bytes(Direction::ToGuest).min(left as u64);
            if room == 0 {
                return Err(Trouble::Guest("a buffer for entropy without room"));
            }
            chain.make_writable(hands, 0, room)?;
            let mut bytes = [0; BYTES_MAX];
            let bytes = &mut bytes[..usize::try_from(room).unwrap_or(left)];
            hands.random(bytes);
            let written = chain.copy_in(hands, 0, bytes)?;
            queue.complete(hands, &chain, u32::try_from(written).unwrap_or(u32::MAX))?;
            self.given_bytes = self.given_bytes.saturating_add(written as u64);
            left -= written.min(left);
        }
        Ok(Step::More)
    }
}
