//! The machine that Pleat runs on here: this process.
//!
//! A tick is a nanosecond of processor time of this thread, so that what else runs on the machine does not
//! count ([`Clock`]); when Pleat sleeps, the clock jumps. A flush has nothing to drop, since every write of the guest
//! walks the tables anew; flushes are counted.

use crate::clock::{Clock, TSC_HZ};
use crate::frames::{DirtyLog, Frames, Reach};
use crate::processor::Processor;
use crate::program::{NAP, Program, Step, gfn};
use pleat_types::{
    Access, CpuidResult, DiskFailure, DiskInfo, DiskKind, DiskRequest, EptViolation, Exit, Gpr, GuestId, Hfn,
    Platform, Provocation, Tsc, Vcpu,
};

/// IA32_TSC_DEADLINE.
const TSC_DEADLINE: u32 = 0x6e0;
/// Pages that the guest writes between two looks at the clock.
const WRITES_A_LOOK: u32 = 32;
/// Sleeps without the guest running once, after which it never will.
const MOST_SLEEPS: u32 = 1_000_000;

/// What the processor was asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub violations: u64,
    pub full_logs: u64,
    pub flushes: u64,
}

#[derive(Debug)]
pub struct Board {
    pub frames: Frames,
    pub program: Program,
    pub counts: Counts,
    log: DirtyLog,
    /// The last exit was for a full log.
    is_log_full: bool,
    clock: Clock,
    sleeps: u32,
}

impl Board {
    pub fn new(frames: Frames, program: Program, log: DirtyLog) -> Self {
        Self {
            frames,
            program,
            counts: Counts::default(),
            log,
            is_log_full: false,
            clock: Clock::new(),
            sleeps: 0,
        }
    }

    /// One step of the guest; its exit, if it has one.
    fn step(&mut self, processor: &mut Processor) -> Option<Exit> {
        match self.program.next(&self.frames, processor.eptp) {
            Step::Write(page) => return self.write(processor, page),
            Step::Halt => return Some(Exit::Hlt),
            Step::WriteMsr(index, value) => write_msr(processor, index, value),
            Step::Arm => {
                let deadline = self.now().0.wrapping_add(processor.tsc_offset()) + NAP;
                write_msr(processor, TSC_DEADLINE, deadline);
            }
        }
        Some(Exit::WriteMsr)
    }

    fn write(&mut self, processor: &mut Processor, page: usize) -> Option<Exit> {
        let gpa = gfn(page).base();
        match self.frames.reach(processor.eptp, gpa, &mut processor.log) {
            Reach::Frame(frame) => {
                self.is_log_full = false;
                self.program.workload.fill(page, self.frames.frame_mut(frame));
                self.program.steps.pop_front();
                None
            }
            Reach::Violation => {
                self.counts.violations += 1;
                Some(Exit::EptViolation(EptViolation {
                    gpa,
                    access: Access::Write,
                }))
            }
            Reach::LogFull => {
                assert!(!self.is_log_full, "nobody empties the dirty log");
                self.is_log_full = true;
                self.counts.full_logs += 1;
                Some(Exit::DirtyLogFull)
            }
        }
    }
}

fn write_msr(processor: &mut Processor, index: u32, value: u64) {
    processor.set_gpr(Gpr::Rcx, u64::from(index));
    processor.set_gpr(Gpr::Rax, value & 0xffff_ffff);
    processor.set_gpr(Gpr::Rdx, value >> 32);
}

impl Platform for Board {
    type Vcpu = Processor;
    type Memory = Frames;
    const VCPU_FRAMES: usize = 3;

    fn new_vcpu(&mut self, _guest: GuestId, _frames: &[Hfn], eptp: u64) -> Processor {
        Processor::new(eptp, self.log.clone())
    }
    fn drop_vcpu(&mut self, _vcpu: Processor) {}

    fn enter(&mut self, processor: &mut Processor, until: Tsc) -> Exit {
        processor.injected = None;
        self.sleeps = 0;
        if std::mem::take(&mut processor.has_advanced) {
            self.program.steps.pop_front();
        }
        if processor.is_window_wanted {
            return Exit::InterruptWindow;
        }
        loop {
            if self.now() >= until {
                return Exit::TimerExpired;
            }
            for _ in 0..WRITES_A_LOOK {
                if let Some(exit) = self.step(processor) {
                    return exit;
                }
            }
        }
    }

    fn flush(&mut self, _eptp: u64) {
        self.counts.flushes += 1;
    }
    fn has_huge_ept(&self) -> bool {
        true
    }
    fn has_dirty_log(&self) -> bool {
        matches!(self.log, DirtyLog::Pages(_))
    }
    fn entropy(&mut self) -> u64 {
        0x5ec2e7
    }
    fn idle(&mut self, until: Tsc) {
        assert_ne!(until, Tsc::NEVER, "an endless sleep");
        self.sleeps += 1;
        assert!(self.sleeps < MOST_SLEEPS, "the guest never wakes");
        self.clock.sleep_until(until.0);
    }
    fn now(&self) -> Tsc {
        Tsc(self.clock.now())
    }
    fn tsc_hz(&self) -> u64 {
        TSC_HZ
    }
    fn boot_epoch(&self) -> u64 {
        1_700_000_000
    }
    fn host_cpuid(&self, leaf: u32, _subleaf: u32) -> CpuidResult {
        let highest = match leaf {
            0 => 0x16,
            0x8000_0000 => 0x8000_0008,
            _ => 0,
        };
        CpuidResult {
            eax: highest,
            ..CpuidResult::default()
        }
    }
    fn memory(&mut self) -> &mut Frames {
        &mut self.frames
    }
    fn disk_open(&mut self, _kind: Option<DiskKind>, _patience: Tsc) -> Option<DiskInfo> {
        None
    }
    fn disk_info(&self) -> Option<DiskInfo> {
        None
    }
    fn disk_start(&mut self, _request: &DiskRequest<'_>) -> Result<(), DiskFailure> {
        Err(DiskFailure::NoDisk)
    }
    fn disk_poll(&mut self) -> Option<Result<(), DiskFailure>> {
        None
    }
    fn console_input(&mut self) -> Option<u8> {
        self.program.typed.pop_front()
    }
    fn console_write(&mut self, _text: &[u8]) {}
    fn console_room(&self) -> usize {
        usize::MAX
    }
    fn stream_write(&mut self, bytes: &[u8]) {
        self.program.read_stream(bytes);
    }
    fn provoke(&mut self, how: Provocation) -> ! {
        panic!("provoked: {how:?}");
    }
}
