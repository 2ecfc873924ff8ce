//! The peer: ksmd of this machine's kernel, on the same generated memory.
//!
//! Its time is the processor time of its kernel thread, as the scheduler accounts it. It works on an
//! anonymous mapping of this process that was advised MERGEABLE.

use crate::course::{Course, Pass, Phase};
use crate::settings::{Settings, number};
use crate::workload::{PAGE, Workload};
use memmap2::{Advice, MmapMut};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

/// How often ksmd's counters are looked at.
const POLL: Duration = Duration::from_millis(1);
/// Passes without one more page saved after which it has settled.
const PASSES_WITHOUT_GAIN: u64 = 3;
/// A part of what can be saved that counts as all: the last pages of a pass are not waited for.
const NEARLY_ALL: f64 = 0.999;
/// Passes over memory in which nothing was written that are averaged.
const QUIET_PASSES: u64 = 2;
/// Sizes of its records where the kernel does not say (Linux 6.x, x86-64).
const RMAP_ITEM_BYTES: u64 = 64;
const STABLE_NODE_BYTES: u64 = 64;

/// KSM, ready to be measured.
#[derive(Debug)]
pub struct Ksm {
    settings: Settings,
    schedstat: PathBuf,
}

impl Ksm {
    /// The error says why it cannot be measured here.
    pub fn open() -> Result<Self, String> {
        let schedstat = find_ksmd().ok_or("there is no thread ksmd")?;
        let settings = Settings::take()?;
        settings.use_full_speed()?;
        let ksm = Self { settings, schedstat };
        ksm.cpu_ns()?;
        Ok(ksm)
    }

    /// Takes a workload through the phases.
    pub fn run(&self, mut workload: Workload, phases: &[Phase]) -> Result<Course, String> {
        let bytes = workload.pages.len() * PAGE;
        let mut memory = MmapMut::map_anon(bytes).map_err(|error| format!("{bytes} bytes: {error}"))?;
        let advise = |advice| {
            memory
                .advise(advice)
                .map_err(|error| format!("{advice:?}: {error}"))
        };
        advise(Advice::NoHugePage)?;
        advise(Advice::Mergeable)?;
        self.settings.clear()?;
        let mut course = Course::default();
        for phase in phases {
            let ns = self.phase(*phase, &mut memory, &mut workload)?;
            course.passes.push(Pass {
                ns_per_page: ns / workload.pages.len() as f64,
                saved: usize::try_from(saved()).unwrap_or(usize::MAX),
                savable: savable(&workload),
            });
            if *phase == Phase::Fill {
                course.metadata_bytes_each = metadata_bytes() as f64 / workload.pages.len() as f64;
            }
        }
        drop(memory);
        self.settings.clear()?;
        Ok(course)
    }

    /// What happens to the memory in this phase, and the processor time that merging takes then.
    fn phase(&self, phase: Phase, memory: &mut MmapMut, workload: &mut Workload) -> Result<f64, String> {
        match phase {
            Phase::Fill => {
                write_pages(memory, workload, 0..workload.pages.len());
                self.settle(savable(workload))
            }
            Phase::Nothing => {
                // First the pass that is under way.
                self.pass(1)?;
                self.pass(QUIET_PASSES)
            }
            Phase::Rewrite(per_mille) => {
                let places = workload.rewrite(per_mille);
                write_pages(memory, workload, places.into_iter());
                self.pass(1)
            }
        }
    }

    /// Scans until nothing more is to be had, or nothing more comes; the processor time until then.
    fn settle(&self, savable: usize) -> Result<f64, String> {
        let start = self.cpu_ns()?;
        self.settings.scan()?;
        let enough = savable as f64 * NEARLY_ALL;
        let (mut best, mut best_ns, mut best_scan) = (0, start, number("full_scans"));
        loop {
            std::thread::sleep(POLL);
            let (now, scan) = (saved(), number("full_scans"));
            if now > best {
                (best, best_ns, best_scan) = (now, self.cpu_ns()?, scan);
            }
            if best as f64 >= enough || scan > best_scan + PASSES_WITHOUT_GAIN {
                self.settings.stop()?;
                return Ok((best_ns - start) as f64);
            }
        }
    }

    /// The processor time of a pass, averaged over so many; it stops at the end of the last one.
    fn pass(&self, count: u64) -> Result<f64, String> {
        let (start, first) = (self.cpu_ns()?, number("full_scans"));
        self.settings.scan()?;
        while number("full_scans") < first + count {
            std::thread::sleep(POLL);
        }
        self.settings.stop()?;
        // Small memories are looked at more than once between two polls.
        let passes = number("full_scans") - first;
        Ok((self.cpu_ns()? - start) as f64 / passes as f64)
    }

    fn cpu_ns(&self) -> Result<u64, String> {
        let text = fs::read_to_string(&self.schedstat)
            .map_err(|error| format!("the processor time of ksmd: {error}"))?;
        let first = text.split_whitespace().next().unwrap_or_default();
        first
            .parse()
            .map_err(|_| "the processor time of ksmd cannot be read".into())
    }
}

fn write_pages(memory: &mut MmapMut, workload: &Workload, places: impl Iterator<Item = usize>) {
    let pages = memory.as_chunks_mut().0;
    places.for_each(|place| workload.fill(place, &mut pages[place]));
}

/// Pages that need no frame when all equal ones are one and zero ones none.
fn savable(workload: &Workload) -> usize {
    workload.pages.len() - workload.distinct()
}

fn saved() -> u64 {
    number("pages_sharing") + number("ksm_zero_pages")
}

/// What its records of this process's pages take: one for each page it has looked at, one for each frame
/// that it shares.
fn metadata_bytes() -> u64 {
    let statistics = fs::read_to_string("/proc/self/ksm_stat").unwrap_or_default();
    let items = statistics
        .lines()
        .find_map(|line| line.strip_prefix("ksm_rmap_items "));
    let items: u64 = items.and_then(|count| count.trim().parse().ok()).unwrap_or(0);
    items * object_bytes("ksm_rmap_item", RMAP_ITEM_BYTES)
        + number("pages_shared") * object_bytes("ksm_stable_node", STABLE_NODE_BYTES)
}

/// What the kernel's allocator takes for one object of this kind.
fn object_bytes(cache: &str, otherwise: u64) -> u64 {
    let text = fs::read_to_string(format!("/sys/kernel/slab/{cache}/slab_size"));
    text.ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(otherwise)
}

fn find_ksmd() -> Option<PathBuf> {
    let processes = fs::read_dir("/proc").ok()?.flatten().map(|entry| entry.path());
    let is_ksmd =
        |process: &PathBuf| fs::read_to_string(process.join("comm")).is_ok_and(|name| name.trim() == "ksmd");
    processes
        .into_iter()
        .find(is_ksmd)
        .map(|process| process.join("schedstat"))
}
