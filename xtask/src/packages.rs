//! Our packages by what their programs stand on.
//!
//! Cargo unifies the features of everything that one call builds. A freestanding program brings its own
//! panic handler and cannot be built in one call with packages whose dependencies use `std`.

use serde_json::Value;

/// The packages' names by group.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Packages {
    /// Programs for this machine: xtask.
    pub tools: Vec<String>,
    /// Libraries with tests for this machine.
    pub tested: Vec<String>,
    /// Packages with a freestanding program, or for such programs only.
    pub freestanding: Vec<String>,
}

impl Packages {
    /// Sorts the workspace's packages; a target that has no tests is freestanding.
    #[must_use]
    pub fn of(metadata: &Value) -> Self {
        let mut packages = Self::default();
        for package in metadata["packages"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default()
        {
            let name = package["name"].as_str().unwrap_or_default().to_owned();
            let targets = package["targets"]
                .as_array()
                .map(Vec::as_slice)
                .unwrap_or_default();
            let is = |target: &Value, kind: &str| target["kind"][0] == *kind;
            let has = |kind: &str, test: bool| {
                targets
                    .iter()
                    .any(|target| is(target, kind) && target["test"] == test)
            };
            if has("bin", true) {
                packages.tools.push(name);
                continue;
            }
            if has("lib", true) {
                packages.tested.push(name.clone());
            }
            if has("bin", false) || has("lib", false) {
                packages.freestanding.push(name);
            }
        }
        packages
    }
}

/// `--package` arguments.
pub fn package_arguments<'a>(names: impl IntoIterator<Item = &'a String>) -> Vec<String> {
    names
        .into_iter()
        .flat_map(|name| ["--package".to_owned(), name.clone()])
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Packages;

    #[test]
    fn packages_are_sorted_by_their_targets() {
        let target = |kind: &str, test: bool| json!({ "kind": [kind], "test": test });
        let metadata = json!({ "packages": [
            { "name": "xtask", "targets": [target("bin", true)] },
            { "name": "pure", "targets": [target("lib", true), target("test", true)] },
            { "name": "rom", "targets": [target("lib", true), target("bin", false), target("custom-build", false)] },
            { "name": "machine", "targets": [target("lib", false)] },
        ] });
        let packages = Packages::of(&metadata);
        assert_eq!(packages.tools, ["xtask"]);
        assert_eq!(packages.tested, ["pure", "rom"]);
        assert_eq!(packages.freestanding, ["rom", "machine"]);
    }
}
