//! All devices of one guest, and the dispatch of its port and MSR accesses.

use pleat_types::{PortSize, Tsc};

/// What a board is made from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BoardConfig {
    /// Ticks of the guest's TSC in a second.
    pub tsc_hz: u64,
    /// Wall clock at guest tick `start`: seconds since 1970, UTC.
    pub epoch: u64,
    /// The guest tick at which the board is switched on.
    pub start: Tsc,
}

/// What a port write asks of the board's owner.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum PortEffect {
    /// Nothing.
    None,
    /// The output buffer ends with a whole line, or is nearly full: drain it now ([`Board::output`]).
    OutputReady,
    /// The guest resets its machine (port 0xCF9, or 0xFE to port 0x64).
    Reboot,
}

/// What an MSR write asks of the board's owner.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum MsrEffect {
    /// Nothing.
    None,
    /// An interrupt may have become pending, or the next deadline may have changed.
    Timer,
    /// The guest's TSC jumps: add this to its TSC offset, modulo 2^64 (before the next call that takes a time).
    TscMoved(u64),
    /// The task priority is to be this (`Vcpu::set_tpr`).
    SetTpr(u8),
}

/// The guest did what its processor answers with an exception.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GuestFault {
    /// Inject #GP(0).
    GeneralProtection,
}

/// Whether an interrupt waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Pending {
    /// None.
    None,
    /// This vector is to be delivered as soon as the guest can take an interrupt. It ends HLT.
    Vector(u8),
    /// This vector waits until the task priority falls below its class (`Vcpu::set_tpr_threshold`). It
    /// does not end HLT.
    MaskedByTpr(u8),
}

/// The console's input backlog is full; the byte was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConsoleFull;

/// The devices of one guest. A reboot makes a new one.
#[derive(Clone, Debug)]
pub struct Board {
    config: BoardConfig,
}

impl Board {
    /// A board as firmware in virtual-wire mode leaves it.
    #[must_use]
    pub fn new(config: &BoardConfig) -> Self {
        Self { config: *config }
    }

    /// IN: the value in the low bits (all ones where nothing answers).
    pub fn port_read(&mut self, port: u16, size: PortSize, now: Tsc) -> u32 {
        let _ = (port, now);
        size.mask()
    }

    /// OUT.
    pub fn port_write(&mut self, port: u16, size: PortSize, value: u32, now: Tsc) -> PortEffect {
        let _ = (port, size, value, now);
        PortEffect::None
    }

    /// RDMSR of an MSR that is not the processor's own; `tpr` is the guest's task priority.
    pub fn read_msr(&mut self, index: u32, now: Tsc, tpr: u8) -> Result<u64, GuestFault> {
        let _ = (index, now, tpr);
        Err(GuestFault::GeneralProtection)
    }

    /// WRMSR of an MSR that is not the processor's own.
    pub fn write_msr(&mut self, index: u32, value: u64, now: Tsc) -> Result<MsrEffect, GuestFault> {
        let _ = (index, value, now);
        Err(GuestFault::GeneralProtection)
    }

    /// The guest tick at which [`Board::advance`] has something to do next. As guest ticks are modulo 2^64,
    /// convert by wrapping subtraction of the offset, and compare in host ticks.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Tsc> {
        None
    }

    /// Lets timers fire whose time has come. Cheap when nothing is due.
    pub fn advance(&mut self, now: Tsc) {
        let _ = now;
    }

    /// The interrupt to deliver next, given the guest's task priority.
    pub fn pending_interrupt(&self, tpr: u8) -> Pending {
        let _ = tpr;
        Pending::None
    }

    /// The vector that [`Board::pending_interrupt`] gave is now being delivered (the INTA cycle).
    pub fn acknowledge(&mut self, vector: u8) {
        let _ = vector;
    }

    /// A byte typed on the guest's console.
    ///
    /// # Errors
    /// The guest does not read: the backlog is full and the byte was dropped.
    pub fn receive(&mut self, byte: u8) -> Result<(), ConsoleFull> {
        let _ = byte;
        Err(ConsoleFull)
    }

    /// What the guest wrote to its console since [`Board::clear_output`]. Drain it at
    /// [`PortEffect::OutputReady`], at HLT and when a time slice ends; what does not fit is lost and counted.
    #[must_use]
    pub fn output(&self) -> &[u8] {
        &[]
    }

    /// Forgets the output that was drained.
    pub fn clear_output(&mut self) {}

    /// Console bytes that were lost because nobody drained the buffer.
    #[must_use]
    pub fn lost_output(&self) -> u64 {
        0
    }

    /// Port accesses that nothing answered.
    #[must_use]
    pub fn unknown_ports(&self) -> u64 {
        0
    }
}
