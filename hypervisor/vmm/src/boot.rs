//! From what the machine found at boot to a hypervisor that can run.

use crate::console::Editor;
use crate::cooperation;
use crate::devices::Random;
use crate::frames::{BootRegion, FramePool};
use crate::guest::{Guest, Life};
use crate::host::Host;
use crate::images::Images;
use crate::merge::Merger;
use crate::reclaim::Reclaimer;
use crate::run::Hypervisor;
use crate::scheduler::Scheduler;
use crate::script::Script;
use crate::swap::Swap;
use arrayvec::ArrayVec;
use core::fmt;
use pleat_bundle::config::{HostConfig, HostDisk, MAX_GUESTS, MergeConfig, ReclaimConfig, RunConfig};
use pleat_bundle::{BundleError, Header, PAGE_SIZE, SectionKind};
use pleat_devices::cpuid::CpuidPolicy;
use pleat_overcommit::ledger::{FrameRecord, Region};
use pleat_overcommit::merge::Pace;
use pleat_overcommit::promise::{HostState, Thresholds};
use pleat_types::{DiskKind, FRAME_SIZE, FrameMemory, Hpa, Platform, Tsc, Vcpu};

/// The largest configuration record.
const CONFIG_MAX: usize = 40 << 10;
/// The usual time slice, in microseconds.
const DEFAULT_SLICE_US: u32 = 1000;
/// How far ahead a guest that wakes may be, in microseconds.
const WAKE_CREDIT_US: u64 = 500;
/// How many seconds a request to the host's disk may take: longer than any that succeeds.
const DISK_PATIENCE_S: u64 = 5;

/// What the machine found at boot.
pub struct BootContext<'b> {
    /// Host memory by class; usable memory may contain the others. Where the bundle lies is said by
    /// `bundle`: a [`Region::Bundle`] here is ignored.
    pub regions: &'b [BootRegion],
    /// One record for every frame from 0 to the last usable one; lies in a [`Region::Metadata`] region.
    pub records: &'static mut [FrameRecord],
    /// Where the boot bundle lies: on a page.
    pub bundle: Hpa,
    /// Its size in bytes.
    pub bundle_bytes: u64,
    /// The time-stamp counter as early after reset as it was read.
    pub reset: Tsc,
}

/// Why the hypervisor cannot start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StartError {
    /// The memory regions contradict each other, or nothing is free.
    Memory,
    /// The boot bundle is unusable.
    Bundle(BundleError),
    /// The bundle has no configuration record.
    NoConfig,
    /// The configuration record is larger than this many bytes.
    ConfigTooLarge(usize),
    /// The configuration record cannot be read.
    Config,
    /// The configuration has no guests.
    NoGuests,
    /// The configuration gives the host a disk, and there is none of that kind.
    NoDisk,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("the memory regions contradict each other, or no memory is free"),
            Self::Bundle(error) => write!(f, "the boot bundle is unusable: {error:?}"),
            Self::NoConfig => f.write_str("the boot bundle has no configuration record"),
            Self::ConfigTooLarge(most) => write!(f, "the configuration record is larger than {most} bytes"),
            Self::Config => f.write_str("the configuration record cannot be read"),
            Self::NoGuests => f.write_str("the configuration has no guests"),
            Self::NoDisk => f.write_str("the host was given a disk, and none of that kind was found"),
        }
    }
}

/// A guest and its virtual processor, which exit handlers borrow side by side.
pub(crate) struct Slot<V> {
    pub(crate) vcpu: Option<V>,
    pub(crate) guest: Guest,
}

impl<V: Vcpu> Slot<V> {
    /// When a timer wakes the guest, if it waits for an interrupt and nobody has paused it. A timer that
    /// cannot wake it does not count: it must not cost others a part of their slices.
    pub(crate) fn wake_up(&self) -> Tsc {
        match &self.vcpu {
            Some(vcpu) if self.guest.life == Life::Waiting && !self.guest.is_kept() => {
                self.guest.wake_up(vcpu.tpr())
            }
            _ => Tsc::NEVER,
        }
    }
}

// A guest with its processor's registers; the tables of all guests are static.
const _: () = assert!(size_of::<Guest>() <= 12 << 10);

/// The large tables of the hypervisor: too large for a stack, so whoever starts it has them in a static.
pub struct Storage<P: Platform> {
    config_bytes: [u8; CONFIG_MAX],
    config: RunConfig<'static>,
    slots: ArrayVec<Slot<P::Vcpu>, MAX_GUESTS>,
    merger: Merger,
    reclaimer: Reclaimer,
    swap: Swap,
}

impl<P: Platform> Storage<P> {
    /// Empty tables.
    pub const EMPTY: Self = Self {
        config_bytes: [0; CONFIG_MAX],
        config: RunConfig {
            tsc_hz: None,
            for_ms: None,
            until: ArrayVec::new_const(),
            is_interactive: false,
            slice_us: 0,
            seed: None,
            merge: MergeConfig::ZERO,
            reclaim: ReclaimConfig::ZERO,
            host: HostConfig::ZERO,
            disk: HostDisk::Absent,
            guests: ArrayVec::new_const(),
            script: ArrayVec::new_const(),
        },
        slots: ArrayVec::new_const(),
        merger: Merger::RESTING,
        reclaimer: Reclaimer::RESTING,
        swap: Swap::EMPTY,
    };
}

impl<P: Platform> Hypervisor<P> {
    /// Takes over the memory, and reads the bundle's header and the configuration. Guests are loaded
    /// when the run begins.
    ///
    /// Apart from its caller, so that the stack that a configuration takes on its way is free again when guests run.
    ///
    /// # Errors
    /// Says what is wrong with what the machine found.
    #[inline(never)]
    pub fn new(
        mut platform: P,
        boot: BootContext<'_>,
        storage: &'static mut Storage<P>,
    ) -> Result<Self, StartError> {
        let Storage {
            config_bytes,
            config,
            slots,
            merger,
            reclaimer,
            swap,
        } = storage;
        let header = read_header(&mut platform, boot.bundle)?;
        *config = read_config(&mut platform, boot.bundle, &header, config_bytes)?;
        let (bundle, reset) = (boot.bundle, boot.reset);
        let config: &'static RunConfig<'static> = config;
        let frames = take_memory(boot, &header)?;
        platform.memory().zero_frame(frames.zero());
        let mut host = new_host(platform, frames, swap, config);
        open_disk(&mut host)?;
        begin_merging(merger, &mut host, config);
        begin_reclaim(reclaimer, &mut host, config);
        let mut images = Images::new(bundle, &header);
        images.plan(config);
        let book = cooperation::book(host.frames.counts(), &host.thresholds, images.kept_frames());
        let slice_us = Some(config.slice_us)
            .filter(|micros| *micros > 0)
            .unwrap_or(DEFAULT_SLICE_US);
        let slice = host.micros(u64::from(slice_us));
        let scheduler = Scheduler::new(host.micros(WAKE_CREDIT_US));
        let script = Script::new(&config.script);
        let editor = Editor::new();
        Ok(Self {
            host,
            config,
            slots,
            images,
            scheduler,
            script,
            editor,
            slice,
            reset,
            release_next: 0,
            has_quit: false,
            book,
            consider_at: Tsc(0),
            considered_at: Tsc(0),
            considered: HostState::High,
            merger,
            reclaimer,
        })
    }
}

fn new_host<P: Platform>(
    mut platform: P,
    frames: FramePool,
    swap: &'static mut Swap,
    config: &'static RunConfig<'static>,
) -> Host<P> {
    let tsc_hz = config
        .tsc_hz
        .filter(|hz| *hz > 0)
        .unwrap_or_else(|| platform.tsc_hz());
    let seed = config.seed;
    let random = Random::new(core::array::from_fn(|word| match seed {
        Some(seed) => seed.wrapping_add(word as u64),
        None => platform.entropy(),
    }));
    let cpuid = CpuidPolicy::new(|leaf, subleaf| platform.host_cpuid(leaf, subleaf), tsc_hz);
    Host {
        platform,
        config,
        frames,
        swap,
        cpuid,
        tsc_hz,
        slice_end: Tsc(0),
        wants_attention: false,
        attached: None,
        shows_output: config.is_interactive,
        thresholds: Thresholds {
            soft_below_percent: config.host.soft_below_percent,
            hard_below_percent: config.host.hard_below_percent,
            low_below_percent: config.host.low_below_percent,
            hysteresis_percent: config.host.hysteresis_percent,
        },
        state: HostState::High,
        random,
        failures: ArrayVec::new(),
        failures_unlisted: 0,
        first_entry: None,
    }
}

fn begin_reclaim<P: Platform>(reclaimer: &mut Reclaimer, host: &mut Host<P>, config: &RunConfig<'_>) {
    let config = &config.reclaim;
    reclaimer.begin(config, host.micros(u64::from(config.generation_us)));
    let mut key = [0; 32];
    host.random.fill(&mut key);
    let pool = host.frames.counts().total * u64::from(config.compressed_percent) / 100;
    host.swap.store.begin(key, pool);
    if config.is_on {
        // Once it was full it stays so by what leaves: it must not have to be filled when there is nothing left.
        let _ = host.swap.make_ready(&mut host.frames);
        host.use_disk();
    }
}

/// Takes the disk in use that the operator gave to the host. Without such a word none is touched.
fn open_disk<P: Platform>(host: &mut Host<P>) -> Result<(), StartError> {
    let kind = match host.config.disk {
        HostDisk::Absent => return Ok(()),
        HostDisk::Best => None,
        HostDisk::AtaPio => Some(DiskKind::AtaPio),
        HostDisk::Virtio => Some(DiskKind::Virtio),
    };
    let patience = Tsc(DISK_PATIENCE_S.saturating_mul(host.tsc_hz));
    let disk = host
        .platform
        .disk_open(kind, patience)
        .ok_or(StartError::NoDisk)?;
    log::info!("disk of the host: {}, {} blocks", disk.kind.name(), disk.blocks);
    Ok(())
}

fn begin_merging<P: Platform>(merger: &mut Merger, host: &mut Host<P>, config: &RunConfig<'_>) {
    let seed = config.seed.unwrap_or_else(|| host.platform.entropy());
    let epoch = host.micros(u64::from(config.merge.epoch_us));
    let pace = Pace::new(host.tsc_hz, config.merge.pace);
    merger.begin(config, seed, epoch, pace);
    if host.platform.has_dirty_log() {
        merger.use_dirty_log();
    }
}

fn read_header<P: Platform>(platform: &mut P, bundle: Hpa) -> Result<Header, StartError> {
    let mut page = [0; PAGE_SIZE];
    platform.memory().read_frame(bundle.hfn(), &mut page);
    Header::parse(&page).map_err(StartError::Bundle)
}

fn read_config<P: Platform>(
    platform: &mut P,
    bundle: Hpa,
    header: &Header,
    buffer: &'static mut [u8; CONFIG_MAX],
) -> Result<RunConfig<'static>, StartError> {
    let (_, section) = header.find(SectionKind::Config).ok_or(StartError::NoConfig)?;
    let length = usize::try_from(section.bytes)
        .ok()
        .filter(|length| *length <= CONFIG_MAX);
    let bytes = &mut buffer[..length.ok_or(StartError::ConfigTooLarge(CONFIG_MAX))?];
    let start = bundle.checked_add(section.offset).ok_or(StartError::NoConfig)?;
    platform.memory().read(start, bytes);
    let config = pleat_bundle::config::decode(bytes).map_err(|_| StartError::Config)?;
    if config.guests.is_empty() {
        Err(StartError::NoGuests)
    } else {
        Ok(config)
    }
}

/// The frame pool, with the bundle cut out of it.
fn take_memory(boot: BootContext<'_>, header: &Header) -> Result<FramePool, StartError> {
    let bytes = header.total_bytes().max(boot.bundle_bytes);
    let frames = bytes.div_ceil(FRAME_SIZE as u64);
    let bundle = BootRegion {
        first: boot.bundle.hfn(),
        frames,
        class: Region::Bundle,
    };
    FramePool::new(boot.records, boot.regions, bundle).ok_or(StartError::Memory)
}
