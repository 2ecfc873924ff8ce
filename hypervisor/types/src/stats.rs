//! The statistics record: one object that says what a machine and its guests did.
//!
//! Names are frozen: they are added to, never renamed. Frames are 4 KiB. `xtask` adds `machine`.

use serde::{Serialize, Serializer};

/// Version of the record.
pub const SCHEMA: u32 = 1;

/// Named counters that serialise as a JSON object; zero counts are left out.
#[derive(Clone, Copy, Debug)]
pub struct Counters<'a> {
    /// One name for each count.
    pub names: &'a [&'static str],
    /// The counts.
    pub counts: &'a [u64],
}

impl Serialize for Counters<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(
            self.names
                .iter()
                .zip(self.counts)
                .filter(|(_, count)| **count != 0),
        )
    }
}

/// The host's part.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs)] // the frozen names
pub struct HostStats<'a> {
    pub state: &'a str,
    pub frames_total: u64,
    pub frames_free: u64,
    pub frames_image: u64,
    pub frames_metadata: u64,
    pub frames_tables: u64,
    pub frames_guests: u64,
    pub frames_compressed_pool: u64,
    /// Frames of the boot bundle that are still held.
    pub frames_bundle: u64,
    /// Frames that guests can have whatever the others do: the sum of the reservations, with what they cost.
    pub frames_reserved: u64,
    /// Frames for virtual processors (VMCS, extended state).
    pub frames_vcpus: u64,
    pub audit: &'a str,
}

/// Merging. What is there now comes first, then counts since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct MergeStats {
    /// Frames that several pages have in common.
    pub shared: u64,
    /// Pages that map one of these without needing a frame of their own: frames saved.
    pub sharing: u64,
    /// Pages that map the zero frame.
    pub zero: u64,
    /// Pages that were written again before they were calm, at the last look.
    pub volatile: u64,
    /// Pages whose content was hashed.
    pub hashed: u64,
    /// Pairs of pages that were compared byte by byte.
    pub compared: u64,
    /// Pages that were mapped to a shared frame or the zero frame and gave their own back.
    pub merged: u64,
    /// Shares that a write ended, by a copy or in place.
    pub broken: u64,
    /// Ticks that all of this took, faults aside.
    pub instructions: u64,
    /// Of `merged`, those that were all zeros.
    pub merged_zero: u64,
    /// Of `broken`, those whose last owner kept the frame.
    pub broken_in_place: u64,
    /// Compared pairs that differed though their hashes were equal.
    pub collisions: u64,
    /// Frames in the index.
    pub indexed: u64,
    /// Pages that found no room in the index.
    pub index_full: u64,
    /// Epochs of all guests.
    pub epochs: u64,
    /// Entries of page tables that were looked at.
    pub swept: u64,
    /// 2 MiB mappings whose pages were sampled.
    pub sampled: u64,
    /// 2 MiB mappings that were split because they held duplicates.
    pub split: u64,
    /// 2 MiB mappings that were put together again.
    pub collapsed: u64,
    /// Ticks in a second that may be spent now.
    pub pace: u64,
    /// Bytes of records for merging: the index and the lists of sharers.
    pub metadata_bytes: u64,
}

/// The swap store.
#[derive(Clone, Copy, Debug, Default, Serialize)]
#[allow(missing_docs)] // the frozen names
pub struct SwapStats {
    pub compressed: u64,
    pub disk: u64,
    pub stores: u64,
    pub loads: u64,
    pub disk_loads: u64,
    /// Blocks that were written to the disk.
    pub disk_stores: u64,
    pub checksum_errors: u64,
    /// Ticks of keeping contents: looking at them, packing, finding a place.
    pub store_ticks: u64,
    /// Ticks of work for the disk's requests, without waiting for it.
    pub disk_store_ticks: u64,
    pub disk_load_ticks: u64,
}

/// One guest's part.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs)] // the frozen names
pub struct GuestStats<'a> {
    pub name: &'a str,
    pub state: &'a str,
    pub reason: &'a str,
    pub domain: &'a str,
    pub frames_promised: u64,
    pub unique: u64,
    pub shared: u64,
    pub zero: u64,
    pub untouched: u64,
    pub compressed: u64,
    pub disk: u64,
    pub ballooned: u64,
    /// 2 MiB mappings (each backs 512 frames, which are not in `unique`).
    pub large: u64,
    /// 1 GiB mappings (each backs 262,144 frames, which are not in `unique`).
    pub huge: u64,
    /// How it follows its balloon's target: `settled`, `moving`, `stuck`, `no driver` or `no balloon`.
    pub balloon: &'a str,
    /// Frames that it is asked to have in its balloon.
    pub balloon_target: u64,
    /// Pages that it has put into its balloon, taken out of it, and reported as free, in all.
    pub inflated: u64,
    pub deflated: u64,
    pub reported: u64,
    /// Frames that were plugged beyond what it began with.
    pub plugged: u64,
    /// What it was told last: `none`, `some` or `full`.
    pub pressure: &'a str,
    /// What it is entitled to, in frames, and against others.
    pub reservation: u64,
    pub limit: u64,
    pub shares: u32,
    pub priority: u8,
    /// Frames of what it has written to its disk (they are in `unique` and `shared` too).
    pub overlay: u64,
    /// What it says of itself, in frames (and how often it had to read what it was to use); null while it says nothing.
    pub guest_free: Option<u64>,
    pub guest_available: Option<u64>,
    pub guest_cache: Option<u64>,
    pub guest_total: Option<u64>,
    pub guest_swap_in: Option<u64>,
    pub guest_swap_out: Option<u64>,
    pub guest_major_faults: Option<u64>,
    /// It has the swap token, and how often it has had it.
    pub has_token: bool,
    pub token_turns: u64,
    /// It is suspended for want of memory, and how often it was.
    pub is_suspended: bool,
    pub suspensions: u64,
    /// How often it was kept from running while the host was low.
    pub holds: u64,
    pub faults: Counters<'a>,
    pub exits: Counters<'a>,
    /// Of its pages, those that were written again before they were calm, at the last look.
    pub volatile: u64,
    /// Ticks this guest spent on the processor, its exits included.
    pub instructions: u64,
    /// Ticks from the guest's first entry to each of its events, in the order of `events`.
    pub event_ticks: &'a [u64],
    pub events: &'a [&'a str],
}

/// The whole record.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs)] // the frozen names
pub struct Record<'a> {
    pub schema: u32,
    pub instructions: u64,
    pub outcome: &'a str,
    pub failures: &'a [&'a str],
    pub host: HostStats<'a>,
    pub merge: MergeStats,
    pub swap: SwapStats,
    pub guests: &'a [GuestStats<'a>],
}
