//! The memory balloon (virtio 1.2, 5.5): a guest gives pages back through its own driver.
//!
//! | queue | what the driver puts there | what becomes of it |
//! |---|---|---|
//! | inflate | page numbers, 32 bits each | the owner takes the pages: [`Hands::inflate`] |
//! | deflate | the same | the owner lets the guest have them again |
//! | statistics | one buffer of tags and values | kept until statistics are asked for, then given back to be filled |
//! | reporting | free pages themselves, as buffers to write | the owner takes what they hold: [`Hands::report`] |
//!
//! The last two exist as far as their features have been negotiated, and have the next free index: Linux finds its
//! queues in this way, although 5.5.2 numbers them. Free page hinting (3), which serves migration, is not offered.
//! Nor is `MUST_TELL_HOST` (0): a guest may take pages out of its balloon by touching them, which the owner sees.
//!
//! A chain can be longer than what one call may take: the place in it is kept, so that no page is taken twice. It can
//! name 64 Ki pages, 256 MiB, and no more: descriptors of 4 GiB could name so many that serving one chain would be work
//! for hours, of which a guest's owner could see no end.

mod progress;
mod statistics;
#[cfg(test)]
mod tests;

use arrayvec::ArrayVec;
use pleat_types::{FRAME_SIZE, Gfn};

use super::device::{Device, Step, Trouble};
use super::hands::Hands;
use super::queue::{Buffer, Chain, Direction, Queue};

pub use progress::{Observation, Pace, Progress};
pub use statistics::BalloonStatistics;
use statistics::Inquiry;

const FEATURE_STATISTICS: u64 = 1 << 1;
const FEATURE_DEFLATE_ON_OOM: u64 = 1 << 2;
const FEATURE_PAGE_POISON: u64 = 1 << 4;
const FEATURE_REPORTING: u64 = 1 << 5;

/// Pages that are moved in one step. Linux sends 256 at a time (`VIRTIO_BALLOON_ARRAY_PFNS_MAX`); a guest can choose
/// them so that each cuts up 2 MiB of its own.
const PAGES_MAX: usize = 64;
const PFN_BYTES: usize = 4;
/// Pages that one chain may name. Linux names 256 to be moved (`VIRTIO_BALLOON_ARRAY_PFNS_MAX`), and reports at most 32
/// buffers (`PAGE_REPORTING_CAPACITY`) of 4 MiB, the largest that its allocator has: 32 Ki.
const CHAIN_PAGES_MAX: u64 = 0x1_0000;
/// Pages taken from a report in one call: 2 MiB, what Linux reports as one buffer.
const REPORT_MAX: u64 = 512;

/// What a guest's balloon can do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BalloonSetup {
    /// The guest may take pages back before its out-of-memory killer would have to end a process.
    pub deflates_on_oom: bool,
    /// The guest may report pages that it has freed.
    pub has_reporting: bool,
}

/// What a queue is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Role {
    Inflate,
    Deflate,
    Statistics,
    Reporting,
}

/// A guest's balloon.
#[derive(Clone, Debug)]
pub struct Balloon {
    setup: BalloonSetup,
    /// As negotiated.
    features: u64,
    /// `num_pages`.
    target: u32,
    /// `actual`, as its driver wrote it.
    actual: [u8; 4],
    /// `poison_val`, likewise.
    poison: [u8; 4],
    /// How far it got in the first chain of each role: bytes of page numbers, or reported pages.
    places: [u64; Self::QUEUE_SIZES.len()],
    inquiry: Inquiry,
    inflated: u64,
    deflated: u64,
    reported: u64,
}

impl Balloon {
    /// An empty balloon with the target 0, before its driver comes.
    #[must_use]
    pub const fn new(setup: BalloonSetup) -> Self {
        Self {
            setup,
            features: 0,
            target: 0,
            actual: [0; 4],
            poison: [0; 4],
            places: [0; Self::QUEUE_SIZES.len()],
            inquiry: Inquiry::new(),
            inflated: 0,
            deflated: 0,
            reported: 0,
        }
    }

    /// How many pages the guest is to put into it.
    #[must_use]
    pub fn target(&self) -> u64 {
        u64::from(self.target)
    }

    /// Sets how many pages the guest is to put into it; says whether that has changed, and so its configuration.
    #[must_use]
    pub fn set_target(&mut self, frames: u64) -> bool {
        let before = self.target;
        self.target = u32::try_from(frames).unwrap_or(u32::MAX);
        self.target != before
    }

    /// How many pages are in it according to its driver.
    #[must_use]
    pub const fn actual_claimed(&self) -> u64 {
        u32::from_le_bytes(self.actual) as u64
    }

    /// Page numbers that the guest has ever sent to be put into it, whatever they were.
    #[must_use]
    pub const fn inflated(&self) -> u64 {
        self.inflated
    }

    /// Page numbers that the guest has ever sent to be taken out of it, whatever they were.
    #[must_use]
    pub const fn deflated(&self) -> u64 {
        self.deflated
    }

    /// Free pages that the guest has ever reported and that were passed to the owner.
    #[must_use]
    pub const fn reported(&self) -> u64 {
        self.reported
    }

    /// What the guest fills free pages with, if its driver says so.
    #[must_use]
    pub fn poison(&self) -> Option<u32> {
        (self.features & FEATURE_PAGE_POISON != 0).then(|| u32::from_le_bytes(self.poison))
    }

    /// The statistics that came last from the driver that is there now.
    #[must_use]
    pub const fn statistics(&self) -> Option<&BalloonStatistics> {
        self.inquiry.latest()
    }

    /// How often the guest was asked for statistics, and how often it answered.
    #[must_use]
    pub const fn inquiries(&self) -> (u64, u64) {
        self.inquiry.totals()
    }

    /// Asks the guest for statistics, if its driver has the queue for it; a request that is still open is enough.
    pub fn ask_statistics(&mut self) {
        if self.features & FEATURE_STATISTICS != 0 {
            self.inquiry.ask();
        }
    }

    /// What the queue with this index is for.
    fn role(&self, index: usize) -> Option<Role> {
        let has = |feature| self.features & feature != 0;
        let statistics = has(FEATURE_STATISTICS).then_some(Role::Statistics);
        let reporting = has(FEATURE_REPORTING).then_some(Role::Reporting);
        let mut roles = [Role::Inflate, Role::Deflate]
            .into_iter()
            .chain(statistics)
            .chain(reporting);
        roles.nth(index)
    }

    fn place(&mut self, role: Role) -> &mut u64 {
        let [inflate, deflate, statistics, reporting] = &mut self.places;
        match role {
            Role::Inflate => inflate,
            Role::Deflate => deflate,
            Role::Statistics => statistics,
            Role::Reporting => reporting,
        }
    }

    /// The next pages of a chain of page numbers, which go into or out of the balloon. A number that is not whole at
    /// the chain's end is none.
    fn move_pages<H: Hands>(&mut self, role: Role, chain: &Chain, hands: &mut H) -> Result<Step, Trouble> {
        check_pages(chain.bytes(Direction::FromGuest) / PFN_BYTES as u64)?;
        let place = *self.place(role);
        let mut raw = [0; PAGES_MAX * PFN_BYTES];
        let bytes = chain.copy_out(hands, place, &mut raw)?;
        let (numbers, _) = raw[..bytes].as_chunks::<PFN_BYTES>();
        let pages: ArrayVec<Gfn, PAGES_MAX> = numbers
            .iter()
            .map(|number| Gfn::new(u64::from(u32::from_le_bytes(*number))))
            .collect();
        let count = pages.len() as u64;
        match role {
            // Only the end of the chain is left to be done.
            _ if pages.is_empty() => {}
            Role::Inflate => {
                hands.inflate(&pages);
                self.inflated += count;
            }
            _ => {
                hands.deflate(&pages);
                self.deflated += count;
            }
        }
        let place = place.saturating_add(count * PFN_BYTES as u64);
        *self.place(role) = place;
        let left = chain.bytes(Direction::FromGuest).saturating_sub(place);
        Ok(if left < PFN_BYTES as u64 {
            Step::Done
        } else {
            Step::More
        })
    }

    /// The next pages of a report. With a poison value the guest expects to find that value in them again (5.5.6.6.2);
    /// then they stay as they are, unless the value is what fresh pages hold anyway.
    fn take_report<H: Hands>(&mut self, chain: &Chain, hands: &mut H) -> Result<Step, Trouble> {
        check_pages(chain.bytes(Direction::ToGuest) / FRAME_SIZE as u64)?;
        if self.poison().is_some_and(|value| value != 0) {
            return Ok(Step::Done);
        }
        let place = *self.place(Role::Reporting);
        let Some((first, count)) = report_at(chain, place) else {
            return Ok(Step::Done);
        };
        let count = count.min(REPORT_MAX);
        hands.report(first, count);
        self.reported += count;
        let place = place.saturating_add(count);
        *self.place(Role::Reporting) = place;
        if report_at(chain, place).is_none() {
            return Ok(Step::Done);
        }
        Ok(Step::More)
    }

    fn serve_statistics<H: Hands>(&mut self, queue: &mut Queue, hands: &mut H) -> Result<Step, Trouble> {
        let Some(chain) = queue.first(hands)? else {
            return Ok(Step::Done);
        };
        self.inquiry.look(&chain, hands)?;
        if self.inquiry.is_asked() {
            queue.complete(hands, &chain, 0)?;
            self.inquiry.sent();
            // The driver may have left another buffer there, against the rules; it is as good as a later one.
            return Ok(Step::More);
        }
        Ok(Step::Done)
    }
}

/// Whether a chain may name so many pages.
fn check_pages(pages: u64) -> Result<(), Trouble> {
    if pages > CHAIN_PAGES_MAX {
        return Err(Trouble::Guest("more pages in one chain than a balloon takes"));
    }
    Ok(())
}

/// The whole pages of a buffer.
fn whole_pages(buffer: &Buffer) -> (Gfn, u64) {
    let page = FRAME_SIZE as u64;
    let first = buffer.at.get().div_ceil(page);
    // A buffer that leaves the address space has no pages there.
    let end = buffer.at.get().saturating_add(u64::from(buffer.bytes)) / page;
    (Gfn::new(first), end.saturating_sub(first))
}

/// The pages of a report behind so many of its pages, as far as one buffer goes.
fn report_at(chain: &Chain, skip: u64) -> Option<(Gfn, u64)> {
    let mut skip = skip;
    let reported = chain
        .buffers
        .iter()
        .filter(|buffer| buffer.direction == Direction::ToGuest);
    for buffer in reported {
        let (first, count) = whole_pages(buffer);
        if skip < count {
            return Some((first.checked_add(skip)?, count - skip));
        }
        skip -= count;
    }
    None
}

impl Device for Balloon {
    const ID: u16 = 5;
    // Linux refuses to report with less than 32 (`PAGE_REPORTING_CAPACITY`), and which index that queue has depends.
    const QUEUE_SIZES: &'static [u16] = &[128, 128, 128, 128];

    fn offered(&self) -> u64 {
        let mut features = FEATURE_STATISTICS | FEATURE_PAGE_POISON;
        if self.setup.deflates_on_oom {
            features |= FEATURE_DEFLATE_ON_OOM;
        }
        if self.setup.has_reporting {
            features |= FEATURE_REPORTING;
        }
        features
    }

    fn queues(&self) -> usize {
        Self::QUEUE_SIZES.len() - usize::from(!self.setup.has_reporting)
    }

    fn negotiated(&mut self, features: u64) {
        self.features = features & self.offered();
    }

    fn reset(&mut self) {
        self.features = 0;
        self.actual = [0; 4];
        self.poison = [0; 4];
        self.places = [0; Self::QUEUE_SIZES.len()];
        self.inquiry.reset();
    }

    fn config(&self, at: usize) -> u8 {
        let no_hinting = [0; 4];
        let fields = [self.target.to_le_bytes(), self.actual, no_hinting, self.poison];
        fields.as_flattened().get(at).copied().unwrap_or(0)
    }

    fn write_config(&mut self, at: usize, byte: u8) {
        let field = match at {
            4..8 => self.actual.get_mut(at - 4),
            12..16 => self.poison.get_mut(at - 12),
            _ => None,
        };
        if let Some(field) = field {
            *field = byte;
        }
    }

    fn serve<H: Hands>(&mut self, index: usize, queue: &mut Queue, hands: &mut H) -> Result<Step, Trouble> {
        let Some(role) = self.role(index) else {
            return Ok(Step::Done);
        };
        if role == Role::Statistics {
            return self.serve_statistics(queue, hands);
        }
        let Some(chain) = queue.first(hands)? else {
            return Ok(Step::Done);
        };
        let step = match role {
            Role::Reporting => self.take_report(&chain, hands)?,
            _ => self.move_pages(role, &chain, hands)?,
        };
        if step == Step::Done {
            // Nothing was written. If this fails for want of memory, the place says that only this is left.
            queue.complete(hands, &chain, 0)?;
            *self.place(role) = 0;
        }
        // Another chain may wait.
        Ok(Step::More)
    }

    fn take_wishes(&mut self) -> u32 {
        if !self.inquiry.take_wish() {
            return 0;
        }
        let index = (0..Self::QUEUE_SIZES.len()).find(|index| self.role(*index) == Some(Role::Statistics));
        index.map_or(0, |index| 1 << index)
    }
}
