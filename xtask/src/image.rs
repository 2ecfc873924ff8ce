//! `cargo xtask image`: an ISO image that GRUB boots.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args;

use crate::build::{self, Boot, BootOptions};
use crate::context::Context;
use crate::tools::Tool;
use crate::{files, guests, process, progress};

const EXAMPLES: &str = "Examples:
  cargo xtask image                               target/pleat/images/linux-three.iso
  cargo xtask image my-guests.toml -o my.iso      an image with guests of your own
Boot it from a CD or a USB stick on a machine with Intel VMX and EPT.";

/// Arguments of `image`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The guests file; without one, guest-tests/scenarios/linux-three.toml
    file: Option<PathBuf>,
    /// The image to write
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Nobody will type at it: it ends when its guests have done their work
    #[arg(long)]
    headless: bool,
}

/// Makes an image of a guests file.
pub fn run(context: &Context, arguments: &Arguments) -> Result<ExitCode> {
    let usual = || context.paths.scenarios().join("linux-three.toml");
    let file = arguments.file.clone().unwrap_or_else(usual);
    let scenario = guests::read(&file, &context.paths.shown(&file), &context.paths.root)?;
    build::programs(context, std::slice::from_ref(&scenario))?;
    let directory = context.paths.images().join(&scenario.name);
    // The rate of a real machine's counter is for Pleat to find out.
    let options = BootOptions {
        tsc_hz: None,
        is_interactive: !arguments.headless,
        // It would be the first disk of whatever machine this boots on.
        has_disk: false,
    };
    let boot = build::pack(context, &scenario, options, &directory)?;
    let output = match &arguments.output {
        Some(output) => std::path::absolute(output).context("the output's path")?,
        None => context.paths.images().join(format!("{}.iso", scenario.name)),
    };
    let made = make(context, &boot, &output)?;
    println!("{}", context.paths.shown(&made));
    Ok(ExitCode::SUCCESS)
}

/// Makes an image that boots a hypervisor with its bundle.
pub fn make(context: &Context, boot: &Boot, output: &Path) -> Result<PathBuf> {
    let grub = context.tools.get(Tool::Grub)?;
    let root = output.with_extension("root");
    if root.exists() {
        std::fs::remove_dir_all(&root).with_context(|| format!("cannot empty {}", root.display()))?;
    }
    let configuration = "set timeout=0\nserial --unit=0 --speed=115200\nterminal_output console\n\
                         menuentry \"Pleat\" {\n  multiboot2 /boot/pleat\n  module2 /boot/bundle\n  boot\n}\n";
    files::write_new(&root.join("boot/grub/grub.cfg"), configuration.as_bytes())?;
    for (from, to) in [(&boot.hypervisor, "boot/pleat"), (&boot.bundle, "boot/bundle")] {
        let content = std::fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        files::write_new(&root.join(to), &content)?;
    }
    let bar = progress::spinner("making the ISO image");
    let mut command = grub.command();
    command.arg("-d").arg(grub.file("/usr/lib/grub/i386-pc"));
    command.arg("-o").arg(output).arg(&root);
    let outcome = process::run(&mut command);
    bar.finish_and_clear();
    outcome.context("grub-mkrescue")?;
    std::fs::remove_dir_all(&root).with_context(|| format!("cannot remove {}", root.display()))?;
    Ok(output.to_owned())
}
