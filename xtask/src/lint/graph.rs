//! Dependencies point down only.

use serde_json::Value;

/// Which of our crates a crate may name. A crate that is missing here may name none.
const ALLOWED: [(&str, &[&str]); 12] = [
    ("pleat-bundle", &[]),
    ("pleat-devices", &["pleat-types"]),
    (
        "pleat-disk-check",
        &["pleat-bundle", "pleat-machine", "pleat-types"],
    ),
    ("pleat-freestanding", &[]),
    ("pleat-guest", &["pleat-freestanding", "pleat-types"]),
    (
        "pleat-machine",
        &["pleat-bundle", "pleat-freestanding", "pleat-types"],
    ),
    ("pleat-overcommit", &["pleat-types"]),
    ("pleat-rom", &["pleat-bundle", "pleat-freestanding"]),
    ("pleat-stage2", &["pleat-types"]),
    (
        "pleat-vmm",
        &[
            "pleat-bundle",
            "pleat-devices",
            "pleat-overcommit",
            "pleat-stage2",
            "pleat-types",
        ],
    ),
    // The binary wires everything and provides the storage of what it wires.
    (
        "pleat",
        &[
            "pleat-bundle",
            "pleat-machine",
            "pleat-overcommit",
            "pleat-types",
            "pleat-vmm",
        ],
    ),
    ("xtask", &["pleat-bundle", "pleat-types"]),
];

/// Test kernels: `guest-<name>`.
const GUEST_PREFIX: &str = "guest-";
const GUESTS_MAY: &[&str] = &["pleat-guest", "pleat-types"];

/// Every dependency between our crates that the design does not have.
pub fn check(metadata: &Value) -> Vec<String> {
    let packages = metadata["packages"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let names: Vec<&str> = packages
        .iter()
        .filter_map(|package| package["name"].as_str())
        .collect();
    let mut mistakes = Vec::new();
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        let dependencies = package["dependencies"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        let ours = dependencies
            .iter()
            .filter_map(|dependency| dependency["name"].as_str());
        // A crate may be its own development dependency, to test with another feature.
        for dependency in ours.filter(|dependency| names.contains(dependency) && *dependency != name) {
            if !allowed(name).contains(&dependency) {
                mistakes.push(format!(
                    "{name} depends on {dependency}; it may only use: {} (DESIGN: dependencies point down)",
                    allowed(name).join(", ")
                ));
            }
        }
    }
    mistakes
}

fn allowed(name: &str) -> &'static [&'static str] {
    if name.starts_with(GUEST_PREFIX) {
        return GUESTS_MAY;
    }
    ALLOWED
        .iter()
        .find(|(crate_name, _)| *crate_name == name)
        .map_or(&[], |(_, allowed)| allowed)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::check;

    fn metadata(from: &str, to: &str) -> Value {
        json!({ "packages": [
            { "name": from, "dependencies": [ { "name": to }, { "name": "log" } ] },
            { "name": to, "dependencies": [] },
        ] })
    }

    #[test]
    fn only_downward_dependencies_pass() {
        for (from, to) in [
            ("pleat-vmm", "pleat-devices"),
            ("pleat", "pleat-machine"),
            ("guest-hello", "pleat-guest"),
        ] {
            assert_eq!(check(&metadata(from, to)), Vec::<String>::new());
        }
        for (from, to) in [
            ("pleat-vmm", "pleat-machine"),
            ("pleat-machine", "pleat-vmm"),
            ("pleat-overcommit", "pleat-stage2"),
            ("pleat-types", "pleat-stage2"),
            ("guest-hello", "pleat-devices"),
            ("pleat-new", "pleat-types"),
        ] {
            assert_eq!(check(&metadata(from, to)).len(), 1, "{from} -> {to}");
        }
    }
}
