//! The hypercall interface that our own test kernels use.
//!
//! `VMCALL` with the number in RAX and arguments in RBX, RCX, RDX; the result comes back in RAX. Only
//! code at privilege level 0 may call, others get #UD; an unknown number returns [`UNKNOWN`].
//! String arguments are guest-physical: address in RBX, length in RCX (at most [`TEXT_MAX`] bytes).

/// Returns 0. For measuring.
pub const NULL: u64 = 0x506c_0000;
/// Reports an event by name (RBX address, RCX length), as in the statistics record.
pub const EVENT: u64 = 0x506c_0001;
/// Writes text (RBX address, RCX length) to the guest's console.
pub const PRINT: u64 = 0x506c_0002;
/// Reports a measured figure: name (RBX address, RCX length), value in RDX.
pub const MEASURE: u64 = 0x506c_0003;
/// Ends this guest: RBX = 0 for success, else a failure whose text was printed before.
pub const FINISH: u64 = 0x506c_0004;
/// Returns the TSC frequency in Hz.
pub const TSC_HZ: u64 = 0x506c_0005;
/// Gives the rest of the time slice away.
pub const YIELD: u64 = 0x506c_0006;

/// Result for an unknown number.
pub const UNKNOWN: u64 = u64::MAX;
/// Result for arguments that make no sense.
pub const INVALID: u64 = u64::MAX - 1;
/// The longest string argument, in bytes.
pub const TEXT_MAX: usize = 256;

/// A Linux guest has no hypercalls; a line on its console that starts with this reports an event.
pub const CONSOLE_EVENT_PREFIX: &str = "pleat-event: ";
