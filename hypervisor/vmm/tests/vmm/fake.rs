//! A machine made of a vector: memory is real, page walks are real, processors follow a script.

use crate::fake_disk::FakeDisk;
use crate::fake_memory::{FakeMemory, noise_of};
use crate::fake_vcpu::FakeVcpu;
use crate::fake_walk::{Miss, Reference, Tlb};
use pleat_types::{
    Access, CpuidResult, DiskFailure, DiskInfo, DiskKind, DiskRequest, EptViolation, Event, Exit, FRAME_SIZE,
    FrameMemory, Gpa, Gpr, GuestId, Hfn, Hpa, Platform, PortAccess, PortSize, Provocation, Tsc, Vcpu,
};
use std::collections::BTreeMap;

/// Ticks for every entry, and for every step of a program.
const ENTRY_TICKS: u64 = 50;
const STEP_TICKS: u64 = 5;
pub const TSC_HZ: u64 = 1_000_000_000;

/// What a fake processor does next.
#[derive(Clone, Debug)]
pub enum Op {
    /// Stores a word; an EPT violation where the tables do not allow it.
    Store(u64, u64),
    /// Loads a word and compares it: the test fails if it differs.
    Expect(u64, u64),
    /// Stores this word all over a page.
    StorePage(u64, u64),
    /// Stores words all over a page that nobody can pack, others for each number.
    StoreNoise(u64, u64),
    /// Loads a page and compares each word with this one.
    ExpectPage(u64, u64),
    /// Executes something that exits, with these registers.
    Exits(Exit, Vec<(Gpr, u64)>),
    /// Compares a register: the test fails if it differs.
    ExpectGpr(Gpr, u64),
    /// Sets RFLAGS.IF.
    Interrupts(bool),
    /// Sets the privilege level.
    Privilege(u8),
    /// Sets the task priority.
    Priority(u8),
    /// Uses processor time.
    Spin(u64),
    /// Goes on at this step.
    Jump(usize),
    /// A device has written this there before: for the oracle, which knows only programs.
    Becomes(u64, Vec<u8>),
}

pub fn exits(exit: Exit) -> Op {
    Op::Exits(exit, vec![])
}

pub fn out(port: u16, value: u8) -> Op {
    let access = PortAccess {
        port,
        size: PortSize::Byte,
        is_read: false,
        is_string: false,
    };
    Op::Exits(Exit::Port(access), vec![(Gpr::Rax, u64::from(value))])
}

pub fn hypercall(number: u64, rbx: u64, rcx: u64, rdx: u64) -> Op {
    Op::Exits(
        Exit::Vmcall,
        vec![
            (Gpr::Rax, number),
            (Gpr::Rbx, rbx),
            (Gpr::Rcx, rcx),
            (Gpr::Rdx, rdx),
        ],
    )
}

/// Prints over the UART.
pub fn print(text: &str) -> Vec<Op> {
    text.bytes().map(|byte| out(0x3f8, byte)).collect()
}

/// The serial line of the console, with a queue of 16 KiB.
#[derive(Clone, Debug, Default)]
pub struct Line {
    /// Ticks that it takes to send a byte; 0 for a line that takes any number at once.
    pub ticks_per_byte: u64,
    pub dropped: usize,
    waiting: usize,
    last: u64,
}

impl Line {
    /// What fits into the queue, after sending what there was time for.
    fn room(&mut self, now: u64) -> usize {
        const QUEUE: usize = 16 << 10;
        let Some(sent) = (now - self.last).checked_div(self.ticks_per_byte) else {
            self.waiting = 0;
            return usize::MAX;
        };
        self.last += sent * self.ticks_per_byte;
        self.waiting = self.waiting.saturating_sub(sent as usize);
        QUEUE - self.waiting
    }
}

/// How far a guest has come with its program when it left the processor last.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    pub eptp: u64,
    pub steps: usize,
}

pub struct FakePlatform {
    pub memory: FakeMemory,
    pub now: u64,
    pub programs: Vec<Vec<Op>>,
    pub stream: Vec<u8>,
    pub console: Vec<u8>,
    /// What the console took or dropped, and the bytes that still wait in its queue.
    pub line: Line,
    /// Sleeps in a row that ended before they began.
    naps: u32,
    pub has_huge_ept: bool,
    pub has_dirty_log: bool,
    /// The disk of the host.
    pub disk: Option<FakeDisk>,
    pub tlb: Tlb,
    /// By guest.
    pub progress: BTreeMap<u16, Progress>,
    pub input: std::collections::VecDeque<u8>,
    /// Vectors that were delivered, by guest.
    pub delivered: Vec<(u16, Event)>,
    pub entries: Vec<(u16, u64, u64)>,
}

impl FakePlatform {
    pub fn new(bytes: usize, programs: Vec<Vec<Op>>) -> Self {
        Self {
            memory: FakeMemory::new(bytes),
            now: 1000,
            programs,
            stream: vec![],
            console: vec![],
            line: Line::default(),
            naps: 0,
            has_huge_ept: true,
            has_dirty_log: false,
            disk: None,
            tlb: Tlb::default(),
            progress: BTreeMap::new(),
            input: [].into(),
            delivered: vec![],
            entries: vec![],
        }
    }

    /// Lets the clock catch up with what changes of memory took.
    fn catch_up(&mut self) {
        self.now += self.memory.take_spent();
    }

    /// Where the bytes of one page and of the next lie that an access needs.
    fn translate(
        &mut self,
        vcpu: &mut FakeVcpu,
        gpa: u64,
        bytes: usize,
        access: Access,
    ) -> Result<[u64; 2], Exit> {
        let next = (gpa | 0xfff) + 1;
        let is_crossing = next < gpa + bytes as u64;
        let mut at = [gpa, if is_crossing { next } else { gpa }];
        for gpa in &mut at {
            let reference = Reference {
                eptp: vcpu.eptp,
                // Each step uses another linear address than the one before.
                alias: vcpu.at % 2,
                gpa: *gpa,
                access,
            };
            let found = self.tlb.translate(&mut self.memory, reference, vcpu.log.as_mut());
            *gpa = found.map_err(|miss| match miss {
                Miss::Violation => violation(*gpa, access),
                Miss::LogFull => Exit::DirtyLogFull,
            })?;
        }
        Ok(at)
    }

    fn store(&mut self, vcpu: &mut FakeVcpu, gpa: u64, bytes: &[u8]) -> Result<(), Exit> {
        let [at, next] = self.translate(vcpu, gpa, bytes.len(), Access::Write)?;
        let (here, behind) = bytes.split_at(in_page(gpa, bytes));
        self.memory.write(Hpa::new(at), here);
        self.memory.write(Hpa::new(next), behind);
        vcpu.at += 1;
        Ok(())
    }

    fn expect(&mut self, vcpu: &mut FakeVcpu, gpa: u64, bytes: &[u8]) -> Result<(), Exit> {
        let [at, next] = self.translate(vcpu, gpa, bytes.len(), Access::Read)?;
        let mut found = vec![0; bytes.len()];
        let (here, behind) = found.split_at_mut(in_page(gpa, bytes));
        self.memory.read(Hpa::new(at), here);
        self.memory.read(Hpa::new(next), behind);
        if found != bytes {
            let wrong = (0..bytes.len()).find(|index| found[*index] != bytes[*index]);
            let wrong = wrong.expect("they differ");
            panic!(
                "{} step {}: {:#x} at {gpa:#x} + {wrong}, not {:#x}",
                vcpu.guest, vcpu.at, found[wrong], bytes[wrong]
            );
        }
        vcpu.at += 1;
        Ok(())
    }

    fn step(&mut self, vcpu: &mut FakeVcpu) -> Option<Exit> {
        self.now += STEP_TICKS;
        let op = vcpu.program.get(vcpu.at).cloned().unwrap_or(exits(Exit::Hlt));
        match op {
            Op::Store(gpa, value) => return self.store(vcpu, gpa, &value.to_le_bytes()).err(),
            Op::Expect(gpa, value) => return self.expect(vcpu, gpa, &value.to_le_bytes()).err(),
            Op::StorePage(gpa, value) => return self.store(vcpu, gpa, &page_of(value)).err(),
            Op::StoreNoise(gpa, number) => return self.store(vcpu, gpa, &noise_of(number)).err(),
            Op::ExpectPage(gpa, value) => return self.expect(vcpu, gpa, &page_of(value)).err(),
            Op::Exits(exit, registers) => {
                registers
                    .iter()
                    .for_each(|(register, value)| vcpu.set_gpr(*register, *value));
                return Some(exit);
            }
            Op::ExpectGpr(register, value) => assert_eq!(vcpu.gpr(register), value, "{register:?}"),
            Op::Interrupts(on) => vcpu.has_interrupts = on,
            Op::Privilege(level) => vcpu.privilege = level,
            Op::Priority(tpr) => vcpu.tpr = tpr,
            Op::Spin(ticks) => self.now += ticks,
            Op::Becomes(..) => {}
            Op::Jump(to) => {
                vcpu.at = to;
                return None;
            }
        }
        vcpu.at += 1;
        None
    }
}

/// A page full of this word.
pub fn page_of(word: u64) -> [u8; FRAME_SIZE] {
    let mut page = [0; FRAME_SIZE];
    page.as_chunks_mut::<8>().0.fill(word.to_le_bytes());
    page
}

/// How many of these bytes lie in the first page.
fn in_page(gpa: u64, bytes: &[u8]) -> usize {
    bytes.len().min(FRAME_SIZE - gpa as usize % FRAME_SIZE)
}

fn violation(gpa: u64, access: Access) -> Exit {
    Exit::EptViolation(EptViolation {
        gpa: Gpa::new(gpa),
        access,
    })
}

impl Platform for FakePlatform {
    type Vcpu = FakeVcpu;
    type Memory = FakeMemory;
    const VCPU_FRAMES: usize = 3;

    fn provoke(&mut self, how: Provocation) -> ! {
        panic!("provoked: {how:?}");
    }

    fn new_vcpu(&mut self, guest: GuestId, frames: &[Hfn], eptp: u64) -> FakeVcpu {
        assert_eq!(frames.len(), Self::VCPU_FRAMES);
        let program = self.programs.get(usize::from(guest.0));
        let mut vcpu = FakeVcpu::new(guest, eptp, program.cloned().unwrap_or_default());
        vcpu.log = self.has_dirty_log.then(Vec::new);
        self.progress.insert(guest.0, Progress { eptp, steps: 0 });
        vcpu
    }
    fn drop_vcpu(&mut self, _vcpu: FakeVcpu) {}

    fn enter(&mut self, vcpu: &mut FakeVcpu, until: Tsc) -> Exit {
        self.catch_up();
        let start = self.now;
        self.now += ENTRY_TICKS;
        if let Some(event) = vcpu.injected.take() {
            self.delivered.push((vcpu.guest.0, event));
            // A fault of the instruction that exited: the handler goes on behind it.
            if !matches!(event, Event::Interrupt(_)) {
                vcpu.at += 1;
            }
        }
        let exit = loop {
            if self.now >= until.0 {
                break Exit::TimerExpired;
            }
            if vcpu.window && vcpu.has_interrupts {
                break Exit::InterruptWindow;
            }
            if let Some(exit) = self.step(vcpu) {
                break exit;
            }
        };
        self.entries.push((vcpu.guest.0, start, self.now));
        let (eptp, steps) = (vcpu.eptp, vcpu.at);
        self.progress.insert(vcpu.guest.0, Progress { eptp, steps });
        exit
    }
    fn flush(&mut self, eptp: u64) {
        self.tlb.flush(eptp);
    }
    fn has_huge_ept(&self) -> bool {
        self.has_huge_ept
    }
    fn has_dirty_log(&self) -> bool {
        self.has_dirty_log
    }
    fn entropy(&mut self) -> u64 {
        0x5ec2e7
    }
    fn idle(&mut self, until: Tsc) {
        assert_ne!(until, Tsc::NEVER, "an endless sleep");
        self.catch_up();
        self.naps = if until.0 > self.now { 0 } else { self.naps + 1 };
        assert!(self.naps < 1000, "it sleeps and sleeps, and no time passes");
        self.now = self.now.max(until.0);
    }
    fn now(&self) -> Tsc {
        Tsc(self.now + self.memory.spent())
    }
    fn tsc_hz(&self) -> u64 {
        TSC_HZ
    }
    fn boot_epoch(&self) -> u64 {
        1_700_000_000
    }
    fn host_cpuid(&self, leaf: u32, _subleaf: u32) -> CpuidResult {
        match leaf {
            0 => CpuidResult {
                eax: 0x16,
                ebx: 0x756e_6547,
                ecx: 0x6c65_746e,
                edx: 0x4965_6e69,
            },
            1 => CpuidResult {
                eax: 0x5_0654,
                ebx: 0,
                ecx: 0x8120_2001,
                edx: 0x0783_fbff,
            },
            0x8000_0000 => CpuidResult {
                eax: 0x8000_0008,
                ..CpuidResult::default()
            },
            0x8000_0001 => CpuidResult {
                edx: 0x2c10_0800,
                ecx: 1,
                ..CpuidResult::default()
            },
            0x8000_0008 => CpuidResult {
                eax: 0x3028,
                ..CpuidResult::default()
            },
            _ => CpuidResult::default(),
        }
    }
    fn memory(&mut self) -> &mut FakeMemory {
        &mut self.memory
    }
    fn disk_open(&mut self, _kind: Option<DiskKind>, _patience: Tsc) -> Option<DiskInfo> {
        self.disk_info()
    }
    fn disk_info(&self) -> Option<DiskInfo> {
        self.disk.as_ref().map(FakeDisk::info)
    }
    fn disk_start(&mut self, request: &DiskRequest<'_>) -> Result<(), DiskFailure> {
        let disk = self.disk.as_mut().ok_or(DiskFailure::NoDisk)?;
        disk.start(self.now, request)
    }
    fn disk_poll(&mut self) -> Option<Result<(), DiskFailure>> {
        self.disk.as_mut()?.poll(self.now, &mut self.memory)
    }
    fn console_input(&mut self) -> Option<u8> {
        self.input.pop_front()
    }
    fn console_write(&mut self, text: &[u8]) {
        let taken = text.len().min(self.line.room(self.now));
        self.line.waiting += taken;
        self.line.dropped += text.len() - taken;
        self.console.extend_from_slice(&text[..taken]);
    }
    fn console_room(&self) -> usize {
        self.line.clone().room(self.now)
    }
    fn stream_write(&mut self, bytes: &[u8]) {
        self.stream.extend_from_slice(bytes);
    }
}
