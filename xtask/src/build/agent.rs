//! What Linux guests get that take part in pressure: the agent, the demo application, and jobs that scenarios give them.

use std::fs;

use anyhow::{Context, Result};

use super::cargo;
use super::workload;
use crate::context::Context as Session;
use crate::guests::{GuestSpec, Initramfs};
use crate::process;

/// The package of the agent, and its program.
const PACKAGE: &str = "pleat-agent";
/// Named, so that what is built for guests alone stays apart, and flags do not reach what runs here.
const TARGET: &str = "x86_64-unknown-linux-gnu";
/// The Cargo profile of programs for guests.
const PROFILE: &str = "guest";
/// A RAM disk has no libraries, and a program at a fixed place needs nothing relocated.
const FLAGS: &str = "-C target-feature=+crt-static -C relocation-model=static";
/// Init's table for such a guest: the agent comes back, the job is done once.
const INITTAB: &str = "::sysinit:/bin/ln -s pleat-agent /bin/pleat-heap
::respawn:/bin/pleat-agent run
::once:/bin/start
";

/// Whether a guest's RAM disk has the agent.
pub fn is_wanted(guest: &GuestSpec) -> bool {
    guest.initramfs == Initramfs::Agent
}

/// Builds the program.
pub fn build(session: &Session) -> Result<()> {
    let mut command = process::cargo();
    command
        .current_dir(&session.paths.root)
        .args(["build", "--locked", "--package", PACKAGE])
        .args(["--profile", PROFILE, "--target", TARGET])
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env("RUSTFLAGS", FLAGS);
    cargo::watch(&mut command, "building the agent of Linux guests")
        .context("linking statically needs the C library's libc.a (Debian: libc6-dev)")
}

/// What the RAM disk has beside that of the workload.
pub fn files(session: &Session) -> Result<Vec<(String, Vec<u8>)>> {
    let program = session.paths.target.join(TARGET).join(PROFILE).join(PACKAGE);
    let program = fs::read(&program).with_context(|| format!("cannot read {}", program.display()))?;
    let mut files = vec![
        ("bin/pleat-agent".to_owned(), program),
        ("bin/workload".to_owned(), workload::script().into_bytes()),
        (
            "etc/inittab".to_owned(),
            [workload::INITTAB, INITTAB].concat().into_bytes(),
        ),
    ];
    let jobs = session.paths.root.join("guest-tests/agent/jobs");
    let entries = fs::read_dir(&jobs).with_context(|| format!("cannot read {}", jobs.display()))?;
    let mut jobs: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    // The same archive each time, whatever order the directory is in.
    jobs.sort();
    for job in jobs {
        let name = job.file_name().unwrap_or_default().to_string_lossy();
        let text = fs::read(&job).with_context(|| format!("cannot read {}", job.display()))?;
        files.push((format!("bin/{name}"), text));
    }
    Ok(files)
}
