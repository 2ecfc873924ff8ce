//! A virtual processor that has registers, a dirty log, and nothing to execute: what the guest does is up
//! to its [program](crate::program).

use crate::frames::DirtyLog;
use pleat_types::{Event, Gfn, Gpr, Injection, Registers, Vcpu};

#[derive(Debug)]
pub struct Processor {
    pub eptp: u64,
    pub log: DirtyLog,
    /// The instruction that exited is done.
    pub has_advanced: bool,
    /// The guest wants to know when it can take an interrupt: it always can.
    pub is_window_wanted: bool,
    pub injected: Option<Event>,
    gprs: [u64; 16],
    tsc_offset: u64,
    tpr: u8,
}

impl Processor {
    pub const fn new(eptp: u64, log: DirtyLog) -> Self {
        Self {
            eptp,
            log,
            has_advanced: false,
            is_window_wanted: false,
            injected: None,
            gprs: [0; 16],
            tsc_offset: 0,
            tpr: 0,
        }
    }
}

impl Vcpu for Processor {
    fn gpr(&self, register: Gpr) -> u64 {
        self.gprs[register as usize]
    }
    fn set_gpr(&mut self, register: Gpr, value: u64) {
        self.gprs[register as usize] = value;
    }
    fn rip(&self) -> u64 {
        0
    }
    fn set_rip(&mut self, _rip: u64) {}
    fn advance(&mut self) {
        self.has_advanced = true;
    }
    fn rflags(&self) -> u64 {
        // Interrupts are always on.
        1 << 9 | 2
    }
    fn privilege(&self) -> u8 {
        0
    }
    fn cr0(&self) -> u64 {
        0x11
    }
    fn cr4(&self) -> u64 {
        0
    }
    fn write_cr0(&mut self, _value: u64) -> Result<(), Event> {
        Ok(())
    }
    fn write_cr4(&mut self, _value: u64) -> Result<(), Event> {
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
        self.injected.is_none()
    }
    fn inject(&mut self, event: Event) -> Injection {
        if self.injected.is_some() {
            return Injection::Busy;
        }
        self.injected = Some(event);
        Injection::Queued
    }
    fn set_interrupt_window(&mut self, wanted: bool) {
        self.is_window_wanted = wanted;
    }
    fn take_dirty_log(&mut self, report: impl FnMut(Gfn)) {
        if let DirtyLog::Pages(pages) = &mut self.log {
            pages.drain(..).for_each(report);
        }
    }
    fn registers(&self) -> Registers {
        Registers {
            gprs: self.gprs,
            ..Registers::default()
        }
    }
}
