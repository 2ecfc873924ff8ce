//! What the guest does, and when: it writes pages, and then sleeps until merging has settled.
//!
//! It wakes by the timer of its local APIC, as an idle kernel does. Every so many naps the statistics are
//! asked for at the console; when two of them in a row show the same work done, the next phase begins.

use crate::course::Phase;
use crate::frames::Frames;
use crate::snapshot::{Record, Snapshot, Stream};
use crate::workload::{PAGE, Workload, distinct_bytes};
use pleat_types::{Gfn, Hfn};
use std::collections::{HashSet, VecDeque};

/// The first page that the guest uses for the workload; below are its kernel and what it was told at boot.
pub const FIRST_PAGE: u64 = 1024;
/// How long a nap is, in ticks.
pub const NAP: u64 = 50_000_000;
/// Naps from one look at the statistics to the next: 16 epochs of the default length.
const NAPS_TO_LOOK: u64 = 64;
/// Looks of which a phase that wrote something needs at least so many.
const LEAST_LOOKS: u64 = 2;
/// Looks after which merging should have settled.
const MOST_LOOKS: u64 = 1000;

/// Registers of the local APIC and what goes there (SDM tables 11-1 and 11-6).
const EOI: u32 = 0x80b;
const SPURIOUS: u32 = 0x80f;
const LVT_TIMER: u32 = 0x832;
const SOFTWARE_ENABLED: u64 = 0x1ff;
const TSC_DEADLINE_MODE: u64 = 1 << 18;
const VECTOR: u64 = 0xec;

/// What the guest does next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Writes this page of the workload.
    Write(usize),
    /// WRMSR.
    WriteMsr(u32, u64),
    /// Arms the timer for the end of the nap.
    Arm,
    /// HLT.
    Halt,
}

/// A phase that is over.
#[derive(Clone, Copy, Debug)]
pub struct Settled {
    pub phase: Phase,
    pub before: Snapshot,
    pub after: Snapshot,
    pub saved: usize,
    pub savable: usize,
}

#[derive(Clone, Debug)]
pub struct Program {
    pub workload: Workload,
    pub steps: VecDeque<Step>,
    /// What is typed at the console.
    pub typed: VecDeque<u8>,
    pub settled: Vec<Settled>,
    phases: VecDeque<Phase>,
    under_way: Option<(Phase, Snapshot)>,
    /// A page that the guest writes at the end of every nap.
    busy_page: Option<usize>,
    stream: Stream,
    /// The last record, and whether it has been looked at.
    arrived: Option<Snapshot>,
    last: Snapshot,
    naps: u64,
    looks: u64,
}

impl Program {
    pub fn new(workload: Workload, phases: &[Phase], busy_page: Option<usize>) -> Self {
        let boot = [
            Step::WriteMsr(SPURIOUS, SOFTWARE_ENABLED),
            Step::WriteMsr(LVT_TIMER, TSC_DEADLINE_MODE | VECTOR),
        ];
        Self {
            workload,
            steps: boot.into(),
            typed: VecDeque::new(),
            settled: Vec::new(),
            phases: phases.iter().copied().collect(),
            under_way: None,
            busy_page,
            stream: Stream::default(),
            arrived: None,
            last: Snapshot::default(),
            naps: 0,
            looks: 0,
        }
    }

    /// The next thing to do. Only that: it is taken out when it is done.
    pub fn next(&mut self, frames: &Frames, eptp: u64) -> Step {
        if self.steps.is_empty() {
            self.go_on(frames, eptp);
        }
        self.steps.front().copied().unwrap_or(Step::Halt)
    }

    /// Takes what Pleat sends.
    pub fn read_stream(&mut self, bytes: &[u8]) {
        let arrived = &mut self.arrived;
        self.stream.take(bytes, |record| match record {
            Record::Statistics(snapshot) => *arrived = Some(snapshot),
            Record::GuestEnded(why) => panic!("the guest ended: {why}"),
        });
    }

    /// After a nap, or at the start.
    fn go_on(&mut self, frames: &Frames, eptp: u64) {
        self.steps.push_back(Step::WriteMsr(EOI, 0));
        self.naps += 1;
        match self.naps % NAPS_TO_LOOK {
            0 => self.look(frames, eptp),
            at if at == NAPS_TO_LOOK - 1 => self.typed.extend(b"stats\r"),
            _ => {}
        }
        if self.under_way.is_some() {
            self.steps.extend(self.busy_page.map(Step::Write));
        }
        self.steps.extend([Step::Arm, Step::Halt]);
    }

    fn look(&mut self, frames: &Frames, eptp: u64) {
        let now = self.arrived.take().expect("the statistics that were asked for");
        let has_rested = now.work == self.last.work;
        self.last = now;
        self.looks += 1;
        let Some((phase, before)) = self.under_way else {
            self.begin();
            return;
        };
        let least = if phase == Phase::Nothing { 1 } else { LEAST_LOOKS };
        if has_rested && self.looks >= least {
            let saved = self.check(frames, eptp, phase);
            self.settled.push(Settled {
                phase,
                before,
                after: now,
                saved,
                savable: self.workload.pages.len() - self.workload.distinct(),
            });
            self.begin();
        }
        assert!(self.looks < MOST_LOOKS, "merging never settles: {now:?}");
    }

    /// Begins the next phase.
    fn begin(&mut self) {
        let Some(phase) = self.phases.pop_front() else {
            self.under_way = None;
            self.typed.extend(b"quit\r");
            return;
        };
        let places = match phase {
            Phase::Fill => (0..self.workload.pages.len()).collect(),
            Phase::Nothing => Vec::new(),
            Phase::Rewrite(per_mille) => self.workload.rewrite(per_mille),
        };
        self.steps.extend(places.into_iter().map(Step::Write));
        self.under_way = Some((phase, self.last));
        self.looks = 0;
    }

    /// Compares every byte of the guest's memory with what it wrote; the pages that have no frame of their
    /// own.
    fn check(&self, frames: &Frames, eptp: u64, phase: Phase) -> usize {
        let mut used: HashSet<Hfn> = HashSet::new();
        let mut expected = [0; PAGE];
        let pages = || (0..self.workload.pages.len()).map(|page| (page, gfn(page)));
        for (page, gfn) in pages() {
            let place = frames.find(eptp, gfn).expect("a page that was written");
            self.workload.fill(page, &mut expected);
            assert_eq!(frames.frame(place.frame), &expected, "wrong bytes in page {page}");
            if place.is_writable || expected != [0; PAGE] {
                used.insert(place.frame);
            }
        }
        if phase == Phase::Fill {
            let bytes = pages().filter_map(|(_, gfn)| Some(frames.frame(frames.find(eptp, gfn)?.frame)));
            assert_eq!(
                distinct_bytes(bytes),
                self.workload.distinct(),
                "contents that were to differ"
            );
        }
        self.workload.pages.len() - used.len()
    }
}

/// The guest page of a page of the workload.
pub fn gfn(page: usize) -> Gfn {
    Gfn::new(FIRST_PAGE + page as u64)
}
