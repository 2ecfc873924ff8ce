//! The merging engine beside Linux's KSM: the same generated memory goes through both in one run.
//!
//! ```text
//! cargo bench -p pleat-vmm --bench merge -- --mib 512 --json FILE
//! ```
//!
//! *Ours* is the whole hypervisor on a machine that is made of one mapping of this process ([`board`]): a guest
//! writes its memory through the real fault path, sleeps, and the scanner does what it does. Its time is what
//! the statistics record says of merging: sweeps, hashes, comparisons, the index, changes of tables and
//! their flushes, in processor time of the one thread. *KSM* is ksmd of this machine's kernel ([`ksm`]), at
//! full speed, in processor time of its kernel thread. Both find their pages in memory, not in a cache.
//!
//! A phase changes memory, and then it is to settle. Of ours all the work until then counts; of KSM, whose
//! passes go on for ever, the first phase counts until it has saved what can be saved, and the others one pass.
#![forbid(unsafe_code)]

mod board;
mod clock;
mod course;
mod frames;
mod ksm;
mod options;
mod ours;
mod processor;
mod program;
mod report;
mod settings;
mod snapshot;
mod workload;

use course::{ALL_PHASES, Course, Phase};
use frames::DirtyLog;
use ksm::Ksm;
use options::{Options, Peer};
use ours::Setup;
use report::{Repetition, Report};
use std::process::ExitCode;
use workload::{Likeness, Workload};

/// Pages of 4 KiB in a MiB.
const PAGES_PER_MIB: usize = 256;
/// The pages of one content, one of which cannot be merged.
const CROWD: usize = 32_768;

fn main() -> ExitCode {
    let done = Options::parse(std::env::args().skip(1)).and_then(|options| run(&options));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("merge: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), String> {
    let ksm = match options.peer {
        Peer::Wanted => Ksm::open(),
        Peer::LeftOut => Err("it was left out".into()),
    };
    if let Err(why) = &ksm {
        eprintln!("merge: without KSM: {why}");
    }
    let mut report = Report::new(options, ksm.as_ref().err().cloned());
    for number in 0..options.repetitions {
        let seed = options.seed + number as u64;
        eprintln!(
            "merge: repetition {} of {}, seed {seed}",
            number + 1,
            options.repetitions
        );
        report.add(repeat(options, seed, ksm.as_ref().ok())?);
    }
    // Its settings are put back before anything is said.
    drop(ksm);
    report.print();
    match &options.json {
        Some(file) => {
            std::fs::write(file, report.json()).map_err(|error| format!("{}: {error}", file.display()))
        }
        None => Ok(()),
    }
}

/// Everything once.
fn repeat(options: &Options, seed: u64, ksm: Option<&Ksm>) -> Result<Repetition, String> {
    let pages = options.mib * PAGES_PER_MIB;
    let mixed = |likeness| Workload::mixed(pages, seed, likeness);
    let peer = |likeness, phases| -> Result<Option<Course>, String> {
        let Some(ksm) = ksm else { return Ok(None) };
        let course = ksm.run(mixed(likeness), phases)?;
        show_progress("KSM", &course);
        Ok(Some(course))
    };
    let ours = |workload, phases, log, busy_page| {
        let course = ours::run(Setup {
            workload,
            phases,
            log,
            busy_page,
        });
        if let Ok(course) = &course {
            show_progress("ours", course);
        }
        course
    };
    let (all, fill) = (&ALL_PHASES[..], &[Phase::Fill][..]);
    let logged = || DirtyLog::Pages(Vec::new());
    // What is compared is measured one after the other: the load of the machine changes.
    let peer_alike = peer(Likeness::CommonPrefix, fill)?;
    let peer = peer(Likeness::None, all)?;
    Ok(Repetition {
        logged: ours(mixed(Likeness::None), all, logged(), None),
        logged_alike: ours(mixed(Likeness::CommonPrefix), fill, logged(), None),
        unlogged: ours(mixed(Likeness::None), all, DirtyLog::Absent, None),
        crowd: ours(Workload::crowd(CROWD, seed), fill, logged(), Some(CROWD / 2)),
        peer,
        peer_alike,
    })
}

/// Says what a course took.
fn show_progress(who: &str, course: &Course) {
    let passes: Vec<String> = course
        .passes
        .iter()
        .map(|pass| {
            format!(
                "{:.1} ns a page, {} of {} saved",
                pass.ns_per_page, pass.saved, pass.savable
            )
        })
        .collect();
    eprintln!("merge:   {who}: {}", passes.join("; "));
}
