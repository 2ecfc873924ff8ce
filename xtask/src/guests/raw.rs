//! The guests file as serde sees it. Values that can be wrong in themselves keep their position.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    #[serde(default)]
    pub about: String,
    #[serde(default)]
    pub machine: Machine,
    #[serde(default)]
    pub run: Run,
    #[serde(default)]
    pub merge: Merge,
    #[serde(default)]
    pub reclaim: Reclaim,
    #[serde(default)]
    pub host: Host,
    #[serde(default)]
    pub guest: Vec<Spanned<Guest>>,
    #[serde(default)]
    pub script: Vec<Spanned<Step>>,
    pub expect: Option<Expect>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    pub kind: Option<Spanned<String>>,
    pub boot: Option<Spanned<String>>,
    pub memory: Option<Spanned<String>>,
    pub processor: Option<Spanned<String>>,
    pub slice: Option<Spanned<String>>,
    pub wall_limit: Option<Spanned<String>>,
    pub disk: Option<Spanned<String>>,
    pub disk_kind: Option<Spanned<String>>,
    pub disk_bad_block: Option<Spanned<i64>>,
    pub disk_pace: Option<Spanned<i64>>,
    pub disk_check: Option<Spanned<bool>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    #[serde(rename = "for")]
    pub for_time: Option<Spanned<String>>,
    #[serde(default)]
    pub until: Vec<Spanned<String>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Merge {
    pub enabled: Option<bool>,
    pub pace: Option<Spanned<String>>,
    pub epoch: Option<Spanned<String>>,
    pub split_at: Option<Spanned<String>>,
    pub hash_bits: Option<Spanned<i64>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reclaim {
    pub enabled: Option<bool>,
    pub generation: Option<Spanned<String>>,
    pub cold: Option<Spanned<String>>,
    pub compressed: Option<Spanned<String>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    pub soft_below: Option<Spanned<String>>,
    pub hard_below: Option<Spanned<String>>,
    pub low_below: Option<Spanned<String>>,
    pub hysteresis: Option<Spanned<String>>,
    pub grace: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Guest {
    pub name: Spanned<String>,
    pub memory: Spanned<String>,
    pub kernel: Spanned<String>,
    pub initramfs: Option<Spanned<String>>,
    pub command_line: Option<Spanned<String>>,
    pub weight: Option<Spanned<i64>>,
    pub domain: Option<Spanned<String>>,
    pub pages: Option<Spanned<String>>,
    pub start: Option<Spanned<String>>,
    pub on_reboot: Option<Spanned<String>>,
    pub merge: Option<Spanned<String>>,
    // What it is entitled to.
    pub reservation: Option<Spanned<String>>,
    pub limit: Option<Spanned<String>>,
    pub shares: Option<Spanned<i64>>,
    pub priority: Option<Spanned<i64>>,
    pub idle_tax: Option<Spanned<String>>,
    pub cache_soft: Option<Spanned<String>>,
    pub cache_strict: Option<Spanned<String>>,
    // Its virtio devices.
    pub max_memory: Option<Spanned<String>>,
    pub console: Option<Spanned<String>>,
    pub balloon: Option<Spanned<String>>,
    pub deflate_on_oom: Option<Spanned<String>>,
    pub reporting: Option<Spanned<String>>,
    pub statistics: Option<Spanned<String>>,
    pub random: Option<Spanned<String>>,
    pub pressure: Option<Spanned<String>>,
    pub disk: Option<Spanned<String>>,
    pub disk_size: Option<Spanned<String>>,
    pub disk_written: Option<Spanned<String>>,
    #[serde(default)]
    pub packages: Vec<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    pub at: Option<Spanned<String>>,
    pub on: Option<Spanned<String>>,
    pub every: Option<Spanned<String>>,
    pub from: Option<Spanned<String>>,
    pub command: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    pub outcome: Option<Spanned<String>>,
    #[serde(default)]
    pub text: Vec<String>,
    #[serde(default)]
    pub regex: Vec<Spanned<String>>,
    #[serde(default)]
    pub forbid: Vec<Spanned<String>>,
    #[serde(default)]
    pub statistics: BTreeMap<Spanned<String>, Bound>,
    #[serde(default)]
    pub guest: BTreeMap<Spanned<String>, GuestExpect>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuestExpect {
    pub state: Option<Spanned<String>>,
    pub reason: Option<String>,
    #[serde(default)]
    pub events: Vec<Spanned<String>>,
    #[serde(default)]
    pub text: Vec<String>,
    #[serde(default)]
    pub regex: Vec<Spanned<String>>,
    #[serde(default)]
    pub measures: BTreeMap<String, Bound>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bound {
    pub min: Option<i64>,
    pub max: Option<i64>,
    pub equals: Option<toml::Value>,
}
