//! A processor that follows a script.

use crate::fake::Op;
use pleat_types::{Event, Gfn, Gpr, GuestId, Injection, Registers, Vcpu};

#[derive(Debug)]
pub struct FakeVcpu {
    pub guest: GuestId,
    pub eptp: u64,
    pub program: Vec<Op>,
    pub at: usize,
    pub gprs: [u64; 16],
    rip: u64,
    pub has_interrupts: bool,
    pub privilege: u8,
    pub tpr: u8,
    tsc_offset: u64,
    pub window: bool,
    pub injected: Option<Event>,
    /// Pages that became dirty, where the processor logs them.
    pub log: Option<Vec<Gfn>>,
}

impl FakeVcpu {
    pub fn new(guest: GuestId, eptp: u64, program: Vec<Op>) -> Self {
        Self {
            guest,
            eptp,
            program,
            at: 0,
            gprs: [0; 16],
            rip: 0,
            has_interrupts: false,
            privilege: 0,
            tpr: 0,
            tsc_offset: 0,
            window: false,
            injected: None,
            log: None,
        }
    }
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
    fn write_cr4(&mut self, value: u64) -> Result<(), Event> {
        if value >> 32 != 0 {
            return Err(Event::GeneralProtection);
        }
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
        self.tpr
    }
    fn set_tpr(&mut self, tpr: u8) {
        self.tpr = tpr;
    }
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
    fn take_dirty_log(&mut self, report: impl FnMut(Gfn)) {
        if let Some(log) = &mut self.log {
            log.drain(..).for_each(report);
        }
    }
    fn registers(&self) -> Registers {
        Registers {
            gprs: self.gprs,
            rip: self.rip,
            ..Registers::default()
        }
    }
}
