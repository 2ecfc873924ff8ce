//! The rows of `bench exits`, with Linux KVM's figures and our goals.
//!
//! KVM was measured inside the same Bochs with the same processor model: a Debian 6.1 host, mitigations
//! off, EPT and PML on, its best case of many. The way to init is that of kvmtool.

/// One figure.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Its frozen name.
    pub name: &'static str,
    /// What Linux KVM needs.
    pub peer: Option<u64>,
    /// What we want to need at most.
    pub goal: Option<u64>,
}

/// First entry of a Linux guest to its init.
pub const GUEST_TO_INIT: &str = "guest-to-init";
/// Reset of the machine to Pleat's first line.
pub const RESET_TO_FIRST_LINE: &str = "reset-to-first-line";

const fn row(name: &'static str, peer: u64, goal: u64) -> Row {
    Row {
        name,
        peer: Some(peer),
        goal: Some(goal),
    }
}

/// All rows, in the order in which they are shown.
pub const EXITS: [Row; 16] = [
    row("cpuid", 1_193, 400),
    row("vmcall", 1_029, 350),
    row("invd", 874, 400),
    row("wbinvd", 879, 400),
    row("port-in", 1_288, 500),
    row("port-out", 1_292, 500),
    row("rdmsr-tsc-adjust", 1_107, 450),
    row("wrmsr-tsc-adjust", 1_661, 450),
    row("tsc-deadline", 5_601, 2_000),
    row("self-ipi", 5_356, 2_500),
    row("mov-cr8", 7, 10),
    row("mov-dr", 7, 10),
    row("cr0-wp-toggle", 3_948, 100),
    Row {
        name: "demand-zero",
        peer: None,
        goal: None,
    },
    row(GUEST_TO_INIT, 523_000_000, 480_000_000),
    Row {
        name: RESET_TO_FIRST_LINE,
        peer: None,
        goal: None,
    },
];
