//! What a guest says of its memory (virtio 1.2, 5.5.6.3).
//!
//! The queue runs the other way round: the driver leaves a buffer with the device at once. When the device wants
//! statistics it gives the buffer back, and the driver answers with a filled one, which stays until the next time.

use super::super::device::Trouble;
use super::super::hands::Hands;
use super::super::queue::Chain;

const TAG_BYTES: usize = 2;
const ENTRY_BYTES: usize = 10;
/// Entries looked at in one buffer; the standard has 10 tags and Linux up to 16.
const ENTRIES_MAX: usize = 64;

/// Statistics of a guest, as its driver claims them. What it does not say is `None`.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct BalloonStatistics {
    /// Bytes that the guest has read back from its own swap space.
    pub swap_in: Option<u64>,
    /// Bytes that it has written there.
    pub swap_out: Option<u64>,
    /// Page faults that needed its disk.
    pub major_faults: Option<u64>,
    /// Linux counts all page faults here.
    pub minor_faults: Option<u64>,
    /// Bytes not used for anything.
    pub free: Option<u64>,
    /// Bytes of memory that it knows.
    pub total: Option<u64>,
    /// Bytes that new programs could have without swapping.
    pub available: Option<u64>,
    /// Bytes of its page cache.
    pub disk_caches: Option<u64>,
    /// Huge pages that it has allocated (`hugetlb`).
    pub htlb_allocations: Option<u64>,
    /// Such allocations that have failed.
    pub htlb_failures: Option<u64>,
    /// Counts the statistics that have come from this guest, from 1.
    pub serial: u64,
}

impl BalloonStatistics {
    /// Where the value with this tag belongs; tags that nobody knows are ignored (5.5.6.3.2).
    fn field(&mut self, tag: u16) -> Option<&mut Option<u64>> {
        Some(match tag {
            0 => &mut self.swap_in,
            1 => &mut self.swap_out,
            2 => &mut self.major_faults,
            3 => &mut self.minor_faults,
            4 => &mut self.free,
            5 => &mut self.total,
            6 => &mut self.available,
            7 => &mut self.disk_caches,
            8 => &mut self.htlb_allocations,
            9 => &mut self.htlb_failures,
            _ => return None,
        })
    }

    /// Entries in any order; of those with the same tag the last one counts, and what is left at the end is nothing.
    fn parse(raw: &[u8]) -> Self {
        let mut statistics = Self::default();
        for entry in raw.as_chunks::<ENTRY_BYTES>().0 {
            let (tag, value) = entry.split_at(TAG_BYTES);
            let (Ok(tag), Ok(value)) = (tag.try_into(), value.try_into()) else {
                continue;
            };
            if let Some(field) = statistics.field(u16::from_le_bytes(tag)) {
                *field = Some(u64::from_le_bytes(value));
            }
        }
        statistics
    }
}

/// Where the conversation about statistics is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Talk {
    /// Nothing was asked, or all was answered.
    Quiet,
    /// The buffer is to be given back to the driver.
    Asked,
    /// It has been, and the driver has not answered.
    Sent,
}

/// Asks for statistics, one request at a time.
#[derive(Clone, Debug)]
pub(super) struct Inquiry {
    talk: Talk,
    /// The queue is to be served although nobody has notified it.
    has_wish: bool,
    /// The buffer that is there has been read.
    is_read: bool,
    latest: Option<BalloonStatistics>,
    serial: u64,
    requests: u64,
    answers: u64,
}

impl Inquiry {
    pub(super) const fn new() -> Self {
        Self {
            talk: Talk::Quiet,
            has_wish: false,
            is_read: false,
            latest: None,
            serial: 0,
            requests: 0,
            answers: 0,
        }
    }

    /// Forgets the driver, but not how much was counted.
    pub(super) const fn reset(&mut self) {
        self.talk = Talk::Quiet;
        self.has_wish = false;
        self.is_read = false;
        self.latest = None;
    }

    pub(super) const fn latest(&self) -> Option<&BalloonStatistics> {
        self.latest.as_ref()
    }

    pub(super) const fn totals(&self) -> (u64, u64) {
        (self.requests, self.answers)
    }

    pub(super) fn ask(&mut self) {
        if self.talk == Talk::Quiet {
            self.talk = Talk::Asked;
        }
        self.has_wish = self.talk == Talk::Asked;
    }

    pub(super) const fn take_wish(&mut self) -> bool {
        core::mem::replace(&mut self.has_wish, false)
    }

    pub(super) fn is_asked(&self) -> bool {
        self.talk == Talk::Asked
    }

    /// The driver has its buffer back.
    pub(super) const fn sent(&mut self) {
        self.talk = Talk::Sent;
        self.is_read = false;
        self.requests += 1;
    }

    /// Reads the buffer that is there, once.
    pub(super) fn look<H: Hands>(&mut self, chain: &Chain, hands: &mut H) -> Result<(), Trouble> {
        if self.is_read {
            return Ok(());
        }
        let mut raw = [0; ENTRIES_MAX * ENTRY_BYTES];
        let bytes = chain.copy_out(hands, 0, &mut raw)?;
        self.is_read = true;
        self.serial += 1;
        self.latest = Some(BalloonStatistics {
            serial: self.serial,
            ..BalloonStatistics::parse(&raw[..bytes])
        });
        if self.talk == Talk::Sent {
            self.talk = Talk::Quiet;
            self.answers += 1;
        }
        Ok(())
    }
}
