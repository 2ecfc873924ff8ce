//! Building our own programs: the hypervisor, the ROM and test kernels, in the release profile.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::context::Context as Session;
use crate::guests::{Kernel, Scenario};
use crate::{process, progress};

/// The program that checks the host's disk in the hypervisor's place, and its package.
pub const DISK_CHECK: &str = "pleat-disk-check";

/// The package of a test kernel.
pub fn package_of(test_kernel: &str) -> String {
    format!("guest-{test_kernel}")
}

/// Builds what the scenarios need.
pub fn build(session: &Session, scenarios: &[Scenario]) -> Result<()> {
    let guests = scenarios.iter().flat_map(|scenario| &scenario.guests);
    let kernels: BTreeSet<String> = guests
        .filter_map(|guest| match &guest.kernel {
            Kernel::Test(name) => Some(package_of(name)),
            _ => None,
        })
        .collect();
    let mut command = process::cargo();
    command
        .current_dir(&session.paths.root)
        .args(["build", "--release", "--locked"]);
    command.args(["--package", "pleat", "--package", "pleat-rom"]);
    if scenarios.iter().any(|scenario| scenario.machine.checks_disk) {
        command.args(["--package", DISK_CHECK]);
    }
    for kernel in &kernels {
        command.args(["--package", kernel]);
    }
    watch(&mut command, "building the hypervisor, the ROM and test kernels")
}

/// Runs a build; shows its last line meanwhile, and everything when it fails.
pub fn watch(command: &mut Command, what: &str) -> Result<()> {
    let bar = progress::spinner(what);
    let mut child = command
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start cargo")?;
    let mut said = String::new();
    let lines = child
        .stderr
        .take()
        .map(BufReader::new)
        .into_iter()
        .flat_map(BufRead::lines);
    for line in lines.map_while(Result::ok) {
        bar.set_message(line.trim().to_owned());
        said.push_str(&line);
        said.push('\n');
    }
    bar.finish_and_clear();
    if !child.wait().context("cannot wait for cargo")?.success() {
        bail!("building failed:\n{said}");
    }
    Ok(())
}
