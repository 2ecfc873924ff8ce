//! A machine made of a vector: memory is real, page walks are real, processors follow a script.

use pleat_types::{
    Access, CpuidResult, EptViolation, Event, Exit, FRAME_SIZE, FrameMemory, Gpa, Gpr, GuestId, Hfn, Hpa,
    Injection, Platform, PortAccess, PortSize, Provocation, Registers, Tsc, Vcpu,
};

/// Ticks for every entry, and for every step of a program.
const ENTRY_TICKS: u64 = 50;
const STEP_TICKS: u64 = 5;
/// Ticks that it takes to zero a frame.
const ZERO_TICKS: u64 = 10;
pub const TSC_HZ: u64 = 1_000_000_000;

/// What a fake processor does next.
#[derive(Clone, Debug)]
pub enum Op {
    /// Stores a word; an EPT violation where the tables do not allow it.
    Store(u64, u64),
    /// Loads a word and compares it: the test fails if it differs.
    Expect(u64, u64),
    /// Executes something that exits, with these registers.
    Exits(Exit, Vec<(Gpr, u64)>),
    /// Compares a register: the test fails if it differs.
    ExpectGpr(Gpr, u64),
    /// Sets RFLAGS.IF.
    Interrupts(bool),
    /// Sets the privilege level.
    Privilege(u8),
    /// Uses processor time.
    Spin(u64),
    /// Goes on at this step.
    Jump(usize),
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

#[derive(Debug)]
pub struct FakeVcpu {
    pub guest: GuestId,
    eptp: u64,
    program: Vec<Op>,
    at: usize,
    gprs: [u64; 16],
    rip: u64,
    has_interrupts: bool,
    privilege: u8,
    tsc_offset: u64,
    window: bool,
    injected: Option<Event>,
}

impl Vcpu for FakeVcpu {
    fn gpr(&self, register: Gpr) -> u64 {
        self.gprs[register as usize]
    }
    fn set_gpr(&mut self, register: Gpr, value: u64) {
        self.gprs[register as usize] = value;
    }
    fn rip(&self) -> u64 {
        self.rip
    }
    fn set_rip(&mut self, rip: u64) {
        self.rip = rip;
    }
    fn advance(&mut self) {
        self.at += 1;
        self.rip += 2;
    }
    fn rflags(&self) -> u64 {
        2 | u64::from(self.has_interrupts) << 9
    }
    fn privilege(&self) -> u8 {
        self.privilege
    }
    fn cr0(&self) -> u64 {
        0x11
    }
    fn cr4(&self) -> u64 {
        0
    }
    fn write_cr0(&mut self, _value: u64) -> Result<(), Event> {
        self.at += 1;
        Ok(())
    }
    fn write_cr4(&mut self, _value: u64) -> Result<(), Event> {
        self.at += 1;
        Ok(())
    }
    fn write_xcr0(&mut self, _value: u64) -> Result<(), Event> {
        Ok(())
    }
    fn tsc_offset(&self) -> u64 {
        self.tsc_offset
    }
    fn set_tsc_offset(&mut self, offset: u64) {
        self.tsc_offset = offset;
    }
    fn tpr(&self) -> u8 {
        0
    }
    fn set_tpr(&mut self, _tpr: u8) {}
    fn set_tpr_threshold(&mut self, _vector: Option<u8>) {}
    fn can_take_interrupt(&self) -> bool {
        self.has_interrupts && self.injected.is_none()
    }
    fn inject(&mut self, event: Event) -> Injection {
        if self.injected.is_some() {
            return Injection::Busy;
        }
        self.injected = Some(event);
        Injection::Queued
    }
    fn set_interrupt_window(&mut self, wanted: bool) {
        self.window = wanted;
    }
    fn registers(&self) -> Registers {
        Registers {
            gprs: self.gprs,
            rip: self.rip,
            ..Registers::default()
        }
    }
}

/// What a frame holds; only what was written takes memory, so that a machine can have several GiB.
#[derive(Clone)]
enum Content {
    /// Bytes of somebody else, which no guest may see.
    Old,
    Zero,
    Written(Box<[u8; FRAME_SIZE]>),
}

impl Content {
    fn bytes(&self) -> &[u8; FRAME_SIZE] {
        match self {
            Self::Old => &[0xA5; FRAME_SIZE],
            Self::Zero => &[0; FRAME_SIZE],
            Self::Written(bytes) => bytes,
        }
    }
}

pub struct FakeMemory {
    frames: Vec<Content>,
    /// Ticks that zeroing took and that the clock has not been told of.
    zeroing: u64,
}

impl FakeMemory {
    fn new(bytes: usize) -> Self {
        Self {
            frames: vec![Content::Old; bytes / FRAME_SIZE],
            zeroing: 0,
        }
    }

    fn index(frame: Hfn) -> usize {
        usize::try_from(frame.get()).expect("small")
    }

    fn frame(&self, frame: Hfn) -> &[u8; FRAME_SIZE] {
        self.frames[Self::index(frame)].bytes()
    }

    fn frame_mut(&mut self, frame: Hfn) -> &mut [u8; FRAME_SIZE] {
        let content = &mut self.frames[Self::index(frame)];
        if !matches!(content, Content::Written(_)) {
            *content = Content::Written(Box::new(*content.bytes()));
        }
        match content {
            Content::Written(bytes) => bytes,
            Content::Old | Content::Zero => unreachable!("it was written just now"),
        }
    }

    pub fn word(&self, at: u64) -> u64 {
        let mut word = [0; 8];
        self.read(Hpa::new(at), &mut word);
        u64::from_le_bytes(word)
    }

    /// Walks extended page tables as the processor does; the entry must allow `needed`.
    fn translate(&self, eptp: u64, gpa: u64, needed: u64) -> Option<u64> {
        let mut table = eptp & !0xfff;
        for level in (0..4).rev() {
            let shift = 12 + 9 * level;
            let entry = self.word(table + (gpa >> shift & 511) * 8);
            if entry & needed != needed {
                return None;
            }
            let frame = entry & 0x000f_ffff_ffff_f000;
            if level == 0 || entry & 1 << 7 != 0 {
                let offset = gpa & ((1 << shift) - 1);
                return Some((frame & !((1 << shift) - 1)) + offset);
            }
            table = frame;
        }
        None
    }
}

impl FrameMemory for FakeMemory {
    fn read_frame(&self, frame: Hfn, out: &mut [u8; FRAME_SIZE]) {
        *out = *self.frame(frame);
    }
    fn zero_frame(&mut self, frame: Hfn) {
        self.frames[Self::index(frame)] = Content::Zero;
        self.zeroing += ZERO_TICKS;
    }
    fn copy_frame(&mut self, from: Hfn, to: Hfn) {
        self.frames[Self::index(to)] = self.frames[Self::index(from)].clone();
    }
    fn read(&self, from: Hpa, out: &mut [u8]) {
        let mut at = from;
        let mut rest = out;
        while !rest.is_empty() {
            let offset = at.frame_offset();
            let (piece, behind) = rest.split_at_mut(rest.len().min(FRAME_SIZE - offset));
            piece.copy_from_slice(&self.frame(at.hfn())[offset..][..piece.len()]);
            at = at.checked_add(piece.len() as u64).expect("small");
            rest = behind;
        }
    }
    fn write(&mut self, to: Hpa, bytes: &[u8]) {
        let mut at = to;
        let mut rest = bytes;
        while !rest.is_empty() {
            let offset = at.frame_offset();
            let (piece, behind) = rest.split_at(rest.len().min(FRAME_SIZE - offset));
            self.frame_mut(at.hfn())[offset..][..piece.len()].copy_from_slice(piece);
            at = at.checked_add(piece.len() as u64).expect("small");
            rest = behind;
        }
    }
    fn load_entry(&self, table: Hfn, index: usize) -> u64 {
        self.word(table.base().get() + index as u64 * 8)
    }
    fn store_entry(&mut self, table: Hfn, index: usize, value: u64) {
        self.write(
            Hpa::new(table.base().get() + index as u64 * 8),
            &value.to_le_bytes(),
        );
    }
}

pub struct FakePlatform {
    pub memory: FakeMemory,
    pub now: u64,
    pub programs: Vec<Vec<Op>>,
    pub stream: Vec<u8>,
    pub console: Vec<u8>,
    pub has_huge_ept: bool,
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
            has_huge_ept: true,
            input: [].into(),
            delivered: vec![],
            entries: vec![],
        }
    }

    /// Lets the clock catch up with what zeroing took.
    fn catch_up(&mut self) {
        self.now += std::mem::take(&mut self.memory.zeroing);
    }

    fn step(&mut self, vcpu: &mut FakeVcpu) -> Option<Exit> {
        self.now += STEP_TICKS;
        let op = vcpu.program.get(vcpu.at).cloned().unwrap_or(exits(Exit::Hlt));
        match op {
            Op::Store(gpa, value) => {
                let Some(at) = self.memory.translate(vcpu.eptp, gpa, 3) else {
                    return Some(violation(gpa, Access::Write));
                };
                self.memory.write(Hpa::new(at), &value.to_le_bytes());
            }
            Op::Expect(gpa, value) => {
                let Some(at) = self.memory.translate(vcpu.eptp, gpa, 1) else {
                    return Some(violation(gpa, Access::Read));
                };
                assert_eq!(self.memory.word(at), value, "{} at {gpa:#x}", vcpu.guest);
            }
            Op::Exits(exit, registers) => {
                registers
                    .iter()
                    .for_each(|(register, value)| vcpu.set_gpr(*register, *value));
                return Some(exit);
            }
            Op::ExpectGpr(register, value) => assert_eq!(vcpu.gpr(register), value, "{register:?}"),
            Op::Interrupts(on) => vcpu.has_interrupts = on,
            Op::Privilege(level) => vcpu.privilege = level,
            Op::Spin(ticks) => self.now += ticks,
            Op::Jump(to) => {
                vcpu.at = to;
                return None;
            }
        }
        vcpu.at += 1;
        None
    }
}

fn violation(gpa: u64, access: Access) -> Exit {
    Exit::EptViolation(EptViolation {
        gpa: Gpa::new(gpa),
        gva: None,
        access,
        during_delivery: false,
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
        FakeVcpu {
            guest,
            eptp,
            program: self
                .programs
                .get(usize::from(guest.0))
                .cloned()
                .unwrap_or_default(),
            at: 0,
            gprs: [0; 16],
            rip: 0,
            has_interrupts: false,
            privilege: 0,
            tsc_offset: 0,
            window: false,
            injected: None,
        }
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
        exit
    }
    fn flush(&mut self, _eptp: u64) {}
    fn has_huge_ept(&self) -> bool {
        self.has_huge_ept
    }
    fn idle(&mut self, until: Tsc) {
        assert_ne!(until, Tsc::NEVER, "an endless sleep");
        self.catch_up();
        self.now = self.now.max(until.0);
    }
    fn now(&self) -> Tsc {
        Tsc(self.now + self.memory.zeroing)
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
    fn console_input(&mut self) -> Option<u8> {
        self.input.pop_front()
    }
    fn console_write(&mut self, text: &[u8]) {
        self.console.extend_from_slice(text);
    }
    fn stream_write(&mut self, bytes: &[u8]) {
        self.stream.extend_from_slice(bytes);
    }
}
