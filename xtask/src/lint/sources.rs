//! Rules about files: the lint table is opted into, `unsafe` stays where it may be, dependencies say
//! why they are there, and no file names a place on somebody's machine.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::context::Context;

/// Crates that may say `unsafe`: the machine, and freestanding programs on the bare machine.
const MAY_BE_UNSAFE: [&str; 4] = ["pleat-machine", "pleat-rom", "pleat-guest", "pleat-freestanding"];
/// The longest file of ours.
const MAX_LINES: usize = 400;

/// Everything that is wrong in our files.
pub fn check(context: &Context, metadata: &Value) -> Result<Vec<String>> {
    let mut mistakes = Vec::new();
    for package in metadata["packages"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default()
    {
        mistakes.extend(check_manifest(context, package)?);
        mistakes.extend(check_unsafe(context, package)?);
    }
    let homes = private_places(&context.paths.root);
    for file in files(&context.paths.root) {
        let Ok(text) = fs::read_to_string(&file) else {
            continue;
        };
        let shown = context.paths.shown(&file);
        let places = homes.iter().filter(|place| text.contains(place.as_str()));
        mistakes.extend(places.map(|place| format!("{shown} names a place on this machine: {place}")));
        let lines = text.lines().count();
        if file.extension().is_some_and(|ending| ending == "rs") && lines > MAX_LINES {
            mistakes.push(format!("{shown} has {lines} lines; at most {MAX_LINES}"));
        }
    }
    Ok(mistakes)
}

fn check_manifest(context: &Context, package: &Value) -> Result<Vec<String>> {
    let file = Path::new(package["manifest_path"].as_str().unwrap_or_default());
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let shown = context.paths.shown(file);
    let mut mistakes = Vec::new();
    if !opts_in(&text) {
        mistakes.push(format!(
            "{shown} does not opt into the lints: [lints] workspace = true"
        ));
    }
    mistakes.extend(
        uncommented(&text)
            .into_iter()
            .map(|name| format!("{shown}: `{name}` has no comment saying why")),
    );
    Ok(mistakes)
}

fn opts_in(manifest: &str) -> bool {
    let table: Option<toml::Table> = manifest.parse().ok();
    table.is_some_and(|table| {
        table.get("lints").and_then(|lints| lints.get("workspace")) == Some(&true.into())
    })
}

/// Dependencies that no comment speaks of: neither on a line above nor at the head of their group.
fn uncommented(manifest: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut is_dependencies = false;
    let mut has_comment = false;
    for line in manifest.lines().map(str::trim_end) {
        if line.starts_with('[') {
            is_dependencies = line.contains("dependencies");
        }
        has_comment = line.starts_with('#') || (has_comment && !line.is_empty() && !line.starts_with('['));
        let name = line.split_once('=').map(|(name, _)| name.trim());
        let is_entry = line.starts_with(|c: char| c.is_ascii_alphabetic());
        names.extend(
            name.filter(|_| is_dependencies && is_entry && !has_comment)
                .map(str::to_owned),
        );
    }
    names
}

/// Every target of a crate that may not be unsafe forbids it; a binary that only has to export its entry
/// may deny it instead and allow it at that one place.
fn check_unsafe(context: &Context, package: &Value) -> Result<Vec<String>> {
    let name = package["name"].as_str().unwrap_or_default();
    if MAY_BE_UNSAFE.contains(&name) {
        return Ok(Vec::new());
    }
    let mut mistakes = Vec::new();
    for target in package["targets"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default()
    {
        let kinds = target["kind"].to_string();
        if !kinds.contains("lib") && !kinds.contains("bin") {
            continue;
        }
        let file = Path::new(target["src_path"].as_str().unwrap_or_default());
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        if !contains_unsafe(&text, kinds.contains("bin")) {
            continue;
        }
        let shown = context.paths.shown(file);
        mistakes.push(format!(
            "{shown} must have #![forbid(unsafe_code)]; only these may not: {}",
            MAY_BE_UNSAFE.join(", ")
        ));
    }
    Ok(mistakes)
}

/// Whether a crate root leaves room for unsafe code.
fn contains_unsafe(root: &str, is_program: bool) -> bool {
    if root.contains("#![forbid(unsafe_code)]") {
        return false;
    }
    // `#[unsafe(no_mangle)]` counts as unsafe code for the compiler.
    let exports = root.matches("#[unsafe(").count();
    let blocks = root.matches("unsafe {").count()
        + root.matches("unsafe fn").count()
        + root.matches("unsafe impl").count();
    !(is_program && exports <= 1 && blocks == 0)
}

/// Paths that only exist on the machine of whoever runs this.
fn private_places(root: &Path) -> Vec<String> {
    let home = std::env::var("HOME").unwrap_or_default();
    let places = [root.display().to_string(), format!("{home}/")];
    places.into_iter().filter(|place| place.len() > 2).collect()
}

/// All files of the workspace but what is built, and what version control keeps for itself.
fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut found = Vec::new();
    for path in entries.map(|entry| entry.path()) {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if path.is_dir() && !path.is_symlink() && name != "target" && name != ".git" {
            found.extend(files(&path));
        } else if path.is_file() {
            found.push(path);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{contains_unsafe, opts_in, uncommented};

    #[test]
    fn manifests_opt_in_and_explain_their_dependencies() {
        assert!(opts_in("[package]\nname = \"x\"\n[lints]\nworkspace = true\n"));
        assert!(!opts_in("[package]\nname = \"x\"\n"));
        assert_eq!(
            uncommented(
                "[dependencies]\n# Why.\na = \"1\"\nb = \"2\"\n\nc = \"3\"\n[lints]\nworkspace = true\n"
            ),
            ["c"]
        );
    }

    #[test]
    fn unsafe_is_forbidden_but_for_one_export_of_a_program() {
        assert!(!contains_unsafe("#![forbid(unsafe_code)]", false));
        assert!(contains_unsafe("fn main() {}", false));
        assert!(!contains_unsafe("#[unsafe(no_mangle)]\nfn main() {}", true));
        assert!(contains_unsafe("fn main() { unsafe { x() } }", true));
        assert!(contains_unsafe(
            "#[unsafe(no_mangle)]\n#[unsafe(no_mangle)]",
            true
        ));
    }
}
