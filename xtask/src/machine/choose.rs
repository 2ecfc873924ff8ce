//! Which emulator: nested QEMU/KVM only where it can work.

use std::fs;

use anyhow::{Result, bail};

use crate::guests::MachineKind;

/// The emulator that is really used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Bochs.
    Bochs,
    /// QEMU with KVM.
    QemuKvm,
    /// QEMU without KVM.
    QemuTcg,
}

impl Kind {
    /// Its name in the statistics record.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bochs => "bochs",
            Self::QemuKvm => "qemu-kvm",
            Self::QemuTcg => "qemu-tcg",
        }
    }
}

/// Turns a wish into an emulator.
pub fn choose(wish: MachineKind) -> Result<Kind> {
    match (wish, nested_kvm()) {
        (MachineKind::Bochs, _) | (MachineKind::Auto, Err(_)) => Ok(Kind::Bochs),
        (MachineKind::QemuTcg, _) => Ok(Kind::QemuTcg),
        (MachineKind::Auto | MachineKind::Qemu, Ok(())) => Ok(Kind::QemuKvm),
        (MachineKind::Qemu, Err(why)) => {
            bail!("QEMU/KVM cannot run Pleat here: {why}. Use --machine bochs (or auto), which emulates VMX")
        }
    }
}

/// Whether KVM here can give a guest VMX. That /dev/kvm opens proves nothing: it does so on hosts
/// without VMX too, where QEMU then hangs.
fn nested_kvm() -> Result<(), String> {
    let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    if !has_flag(&processor, "vmx") {
        return Err("this processor shows no vmx flag in /proc/cpuinfo".to_owned());
    }
    let nested = fs::read_to_string("/sys/module/kvm_intel/parameters/nested").unwrap_or_default();
    if !matches!(nested.trim(), "Y" | "1") {
        return Err("nesting is off (/sys/module/kvm_intel/parameters/nested)".to_owned());
    }
    let open = fs::OpenOptions::new().read(true).write(true).open("/dev/kvm");
    open.map(drop)
        .map_err(|error| format!("/dev/kvm cannot be opened: {error}"))
}

fn has_flag(cpuinfo: &str, flag: &str) -> bool {
    let flags = cpuinfo
        .lines()
        .filter(|line| line.starts_with("flags"))
        .filter_map(|line| line.split_once(':'));
    flags
        .into_iter()
        .any(|(_, flags)| flags.split_whitespace().any(|word| word == flag))
}

#[cfg(test)]
mod tests {
    use super::has_flag;

    #[test]
    fn only_the_whole_flag_counts() {
        assert!(has_flag("flags\t\t: fpu vmx sse\n", "vmx"));
        assert!(!has_flag("flags\t\t: fpu sse\nvmx flags\t: vnmi\n", "vmx"));
        assert!(!has_flag("flags : fpu vmx_x\n", "vmx"));
    }
}
