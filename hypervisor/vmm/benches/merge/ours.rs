//! Our side: the hypervisor as it is, on a machine that is this process, with one guest.

use crate::board::Board;
use crate::clock::TSC_HZ;
use crate::course::{Course, Pass, Phase};
use crate::frames::{DirtyLog, Frames};
use crate::program::{FIRST_PAGE, Program, Settled};
use crate::workload::{PAGE, Workload};
use pleat_bundle::SectionKind;
use pleat_bundle::config::{
    DeviceConfig, GuestConfig, Merge, MergeConfig, OnReboot, Pages, RunConfig, Start, Terms, encode,
};
use pleat_bundle::write::BundleWriter;
use pleat_overcommit::ledger::{FrameRecord, Region};
use pleat_types::{FrameMemory, Hpa, Tsc};
use pleat_vmm::{BootContext, BootRegion, Hypervisor, Storage};

/// Where the bundle lies: behind the first MiB, which machines use for other things.
const BUNDLE: Hpa = Hpa::new(1 << 20);
/// Where the guest's kernel is loaded.
const KERNEL_AT: u64 = 0x10_0000;
/// Pages of the guest's kernel: nothing executes it.
const KERNEL_PAGES: usize = 1;
/// Frames beyond the guest's: the first MiB, the bundle, tables, and enough free ones for the host to be
/// under no pressure.
const SPARE_FRAMES: usize = 4096;
const SPARE_PART: usize = 10;

/// What the run of one workload needs.
#[derive(Clone, Debug)]
pub struct Setup<'a> {
    pub workload: Workload,
    pub phases: &'a [Phase],
    pub log: DirtyLog,
    /// A page that is written so often that it is never calm.
    pub busy_page: Option<usize>,
}

/// Takes a workload through the phases.
pub fn run(setup: Setup<'_>) -> Result<Course, String> {
    let pages = setup.workload.pages.len();
    let guest_frames = pages + usize::try_from(FIRST_PAGE).map_err(|_| "a guest too large")?;
    let frames = guest_frames + guest_frames / SPARE_PART + SPARE_FRAMES;
    let program = Program::new(setup.workload, setup.phases, setup.busy_page);
    let memory = Frames::new(frames).map_err(|error| format!("{frames} frames: {error}"))?;
    let mut board = Board::new(memory, program, setup.log);
    let bundle = bundle(guest_frames as u64 * PAGE as u64)?;
    board.frames.write(BUNDLE, &bundle);
    let boot = BootContext {
        regions: &[BootRegion {
            first: BUNDLE.hfn(),
            frames: frames as u64 - BUNDLE.hfn().get(),
            class: Region::Usable,
        }],
        // Pleat keeps both for ever, as on a machine of its own.
        records: vec![FrameRecord::RESERVED; frames].leak(),
        bundle: BUNDLE,
        bundle_bytes: bundle.len() as u64,
        reset: Tsc(0),
    };
    let storage = Box::leak(Box::new(Storage::EMPTY));
    let mut hypervisor = Hypervisor::new(board, boot, storage).map_err(|error| error.to_string())?;
    let _ = hypervisor.run();
    let board = hypervisor.platform();
    let course = course(board, pages);
    // The rest of it stays, but the memory is large.
    board.frames = Frames::new(1).map_err(|error| error.to_string())?;
    course
}

/// The boot bundle with the smallest kernel that there can be, and the run's configuration.
fn bundle(memory_bytes: u64) -> Result<Vec<u8>, String> {
    let guest = GuestConfig {
        name: "guest",
        memory_bytes,
        kernel: 0,
        initramfs: None,
        command_line: "",
        weight: 100,
        domain: "guest",
        pages: Pages::Small,
        start: Start::Now,
        on_reboot: OnReboot::Stop,
        merge: Merge::On,
        terms: Terms::default(),
        devices: DeviceConfig::NONE,
    };
    let config = RunConfig {
        tsc_hz: Some(TSC_HZ),
        // Until it is told to quit.
        is_interactive: true,
        slice_us: 1000,
        seed: Some(1),
        merge: MergeConfig {
            // All of the processor, if it wants it.
            pace: Some(TSC_HZ),
            ..MergeConfig::default()
        },
        guests: [guest].into_iter().collect(),
        ..RunConfig::default()
    };
    let config = encode(&config).map_err(|error| error.to_string())?;
    let mut writer = BundleWriter::new();
    for (kind, name, bytes) in [
        (SectionKind::Kernel, "kernel", kernel()),
        (SectionKind::Config, "config", config),
        (SectionKind::Hypervisor, "hypervisor", vec![9; PAGE]),
    ] {
        writer.add(kind, name, bytes).map_err(|error| error.to_string())?;
    }
    Ok(writer.finish())
}

/// An ELF file with a PVH note and a page of code.
fn kernel() -> Vec<u8> {
    const NOTE_AT: usize = 0x400;
    const PHYSICAL_ENTRY: [u8; 20] = [
        4, 0, 0, 0, 4, 0, 0, 0, 18, 0, 0, 0, b'X', b'e', b'n', 0, 0x10, 0, 0x10, 0,
    ];
    let mut file = vec![0; PAGE * (1 + KERNEL_PAGES)];
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"\x7fELF\x02\x01\x01");
    put(18, &62u16.to_le_bytes());
    put(24, &KERNEL_AT.to_le_bytes());
    put(32, &64u64.to_le_bytes());
    put(54, &56u16.to_le_bytes());
    put(56, &2u16.to_le_bytes());
    put(16, &2u16.to_le_bytes());
    let bytes = (KERNEL_PAGES * PAGE) as u64;
    let note = NOTE_AT as u64;
    let load = [PAGE as u64, KERNEL_AT, KERNEL_AT, bytes, bytes];
    for (at, kind, fields) in [(64, 1u32, load), (120, 4, [note, 0, 0, 20, 20])] {
        put(at, &kind.to_le_bytes());
        for (field, value) in fields.iter().enumerate() {
            put(at + 8 + field * 8, &value.to_le_bytes());
        }
    }
    put(NOTE_AT, &PHYSICAL_ENTRY);
    put(PAGE, &[0xf4; PAGE]);
    file
}

fn course(board: &Board, pages: usize) -> Result<Course, String> {
    let settled = &board.program.settled;
    let (Some(first), Some(last)) = (settled.first(), settled.last()) else {
        return Err("the run ended before its first phase".into());
    };
    if last.after.work == [0; 3] {
        return Err("the engine has hashed and merged nothing".into());
    }
    let records = last.after.frames_total * size_of::<FrameRecord>() as u64 + first.after.index_bytes;
    let notes = settled.iter().map(|phase| note(phase, pages));
    let counts = board.counts;
    let totals = format!(
        "in all {} EPT violations, {} full logs, {} flushes; {} frames of {} are tables, {} collisions",
        counts.violations,
        counts.full_logs,
        counts.flushes,
        last.after.frames_tables,
        last.after.frames_total,
        last.after.collisions
    );
    Ok(Course {
        passes: settled.iter().map(|phase| pass(phase, pages)).collect(),
        metadata_bytes_each: records as f64 / last.after.frames_total as f64,
        notes: notes.chain([totals]).collect(),
    })
}

fn pass(settled: &Settled, pages: usize) -> Pass {
    let ticks = (settled.after.ticks - settled.before.ticks) as f64;
    let epoch = f64::from(MergeConfig::default().epoch_us) * TSC_HZ as f64 / 1e6;
    let epochs = match settled.phase {
        // What one look costs that finds nothing, with as many of them as there was time for.
        Phase::Nothing => (settled.after.at - settled.before.at) as f64 / epoch,
        Phase::Fill | Phase::Rewrite(_) => 1.0,
    };
    Pass {
        ns_per_page: ticks / epochs / pages as f64,
        saved: settled.saved,
        savable: settled.savable,
    }
}

fn note(settled: &Settled, pages: usize) -> String {
    let [hashed, compared, merged] = settled.after.work_since(&settled.before);
    format!(
        "{:?} of {pages} pages: {hashed} hashed, {compared} compared, {merged} merged, {} entries swept, {} epochs",
        settled.phase,
        settled.after.swept - settled.before.swept,
        settled.after.epochs - settled.before.epochs,
    )
}
