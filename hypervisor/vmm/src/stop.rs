//! Why a guest ended, and what that makes of it.

use crate::loader::LoadError;
use core::fmt;
use pleat_types::{Access, CrAccess, Gpa, SwapSlot};

/// Why a guest ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stop {
    /// HLT with interrupts off.
    PoweredOff,
    /// The guest ended itself by hypercall with this result.
    Finished(u64),
    /// The guest reset its machine, and is configured to end then.
    Rebooted,
    /// A person or a script ended it.
    Killed,
    /// It could not be loaded.
    NotStarted(LoadError),
    /// A triple fault.
    TripleFault,
    /// The processor refused its state at entry; the basic exit reason.
    EntryFailed(u16),
    /// It touched guest-physical memory that it does not have.
    NoMemoryThere(Gpa, Access),
    /// It touched a device that is not there in memory.
    NoDeviceThere(Gpa, Access),
    /// INS or OUTS at this port.
    StringIo(u16),
    /// An access to a control register that nobody emulates.
    ControlRegister(CrAccess),
    /// An exit that nobody handles; its basic exit reason.
    UnknownExit(u16),
    /// No host frame became free for this many milliseconds.
    HostShort(u64),
    /// Another guest, which had less than its reservation, waited for this many milliseconds.
    Reserved(u64),
    /// It was suspended, and others still waited for this many milliseconds.
    Suspended(u64),
    /// No host frame is free, and no guest can go on and free one.
    HostStuck,
    /// The content of one of its pages was damaged in this slot of the swap store, or cannot be read from the disk.
    Lost(SwapSlot),
    /// A mistake of ours that concerns this guest only: where.
    Bug(&'static str, u64),
}

/// The basic exit reasons of an entry that failed on the guest's own state: invalid state, MSR loading, machine
/// check (SDM vol. 3, appendix C). Other numbers are VM-instruction errors.
const ENTRY_FAILURES: [u16; 3] = [33, 34, 41];

/// What a guest that ended is, in the statistics record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ended {
    /// By its own will.
    Halted,
    /// By ours.
    Stopped,
    /// By its own fault.
    Crashed,
}

impl Ended {
    /// The name in records.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Halted => "halted",
            Self::Stopped => "stopped",
            Self::Crashed => "crashed",
        }
    }
}

impl Stop {
    /// The entry failed with this basic exit reason or VM-instruction error. The latter speaks of controls and
    /// host state, which are ours.
    pub(crate) fn of_failed_entry(reason: u16) -> Self {
        if ENTRY_FAILURES.contains(&reason) {
            Self::EntryFailed(reason)
        } else {
            Self::Bug("VM entry refused, VM-instruction error", u64::from(reason))
        }
    }

    /// Not only the guest has failed, but the run: it said so itself, it was never there, or Pleat is wrong.
    pub(crate) const fn fails_the_run(&self) -> bool {
        match self {
            Self::Finished(code) => *code != 0,
            Self::NotStarted(_) | Self::Bug(..) => true,
            _ => false,
        }
    }

    /// What the guest is afterwards.
    pub(crate) const fn ended(&self) -> Ended {
        match self {
            Self::PoweredOff | Self::Finished(_) | Self::Rebooted => Ended::Halted,
            Self::Killed
            | Self::NoMemoryThere(..)
            | Self::NoDeviceThere(..)
            | Self::StringIo(_)
            | Self::ControlRegister(_)
            | Self::UnknownExit(_)
            | Self::HostShort(_)
            | Self::Reserved(_)
            | Self::Suspended(_)
            | Self::HostStuck
            | Self::Lost(_)
            | Self::Bug(..) => Ended::Stopped,
            Self::NotStarted(_) | Self::TripleFault | Self::EntryFailed(_) => Ended::Crashed,
        }
    }

    /// A report with registers helps to find out why.
    pub(crate) const fn wants_report(&self) -> bool {
        !matches!(
            self,
            Self::PoweredOff | Self::Finished(_) | Self::Rebooted | Self::Killed | Self::NotStarted(_)
        )
    }

    /// The guest did what it was to do: a run that waits for its events need not wait any longer, and
    /// does not fail for their absence.
    pub(crate) const fn excuses_missing_events(&self) -> bool {
        matches!(self, Self::Finished(0) | Self::Killed)
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PoweredOff => f.write_str("powered off"),
            Self::Finished(0) => f.write_str("finished"),
            Self::Finished(code) => write!(f, "finished with failure {code}"),
            Self::Rebooted => f.write_str("reset its machine"),
            Self::Killed => f.write_str("killed"),
            Self::NotStarted(error) => write!(f, "could not start: {error}"),
            Self::TripleFault => f.write_str("triple fault"),
            Self::EntryFailed(reason) => write!(f, "the processor refused to run it (exit reason {reason})"),
            Self::NoMemoryThere(gpa, access) => {
                write!(f, "{} at {gpa}, where it has no memory", verb(*access))
            }
            Self::NoDeviceThere(gpa, access) => {
                write!(
                    f,
                    "{} at {gpa}: devices in memory are not emulated",
                    verb(*access)
                )
            }
            Self::StringIo(port) => write!(f, "string I/O at port {port:#x}, which is not emulated"),
            Self::ControlRegister(access) => {
                write!(f, "control register access {access:?}, which is not emulated")
            }
            Self::UnknownExit(reason) => write!(f, "VM exit with reason {reason}, which is not emulated"),
            Self::HostShort(ms) => {
                let (seconds, tenths) = (ms / 1000, ms % 1000 / 100);
                write!(
                    f,
                    "host out of memory: waited {seconds}.{tenths} s for a free frame"
                )
            }
            Self::Reserved(ms) => {
                let (seconds, tenths) = (ms / 1000, ms % 1000 / 100);
                write!(
                    f,
                    "host out of memory: another guest waited {seconds}.{tenths} s for its reservation"
                )
            }
            Self::Suspended(ms) => {
                let (seconds, tenths) = (ms / 1000, ms % 1000 / 100);
                write!(
                    f,
                    "host out of memory: others waited {seconds}.{tenths} s though it was suspended"
                )
            }
            Self::HostStuck => f.write_str("host out of memory: no guest can go on and free a frame"),
            Self::Lost(slot) => write!(
                f,
                "a page of its own is lost: what slot {} of the swap store kept was damaged or cannot be read",
                slot.get()
            ),
            Self::Bug(place, detail) => write!(f, "a bug of Pleat: {place} ({detail:#x})"),
        }
    }
}

const fn verb(access: Access) -> &'static str {
    match access {
        Access::Read => "read",
        Access::Write => "wrote",
        Access::Fetch => "fetched an instruction",
    }
}
