//! Checks how equal pages are to be merged.

use pleat_bundle::config::{Merge, MergeConfig};
use toml::Spanned;

use super::check::{Checked, at, optional};
use super::names::choose;
use super::{raw, values};

/// Checks a `[merge]` table; what it leaves out is as usual.
pub fn merge(raw: &raw::Merge) -> Checked<MergeConfig> {
    let usual = MergeConfig::default();
    Ok(MergeConfig {
        is_on: raw.enabled.unwrap_or(usual.is_on),
        pace: optional(&raw.pace, pace)?.unwrap_or(usual.pace),
        epoch_us: optional(&raw.epoch, epoch)?.unwrap_or(usual.epoch_us),
        split_percent: optional(&raw.split_at, percent)?.unwrap_or(usual.split_percent),
        hash_bits: raw
            .hash_bits
            .as_ref()
            .map(|bits| at(bits, |number| hash_bits(*number)))
            .transpose()?
            .unwrap_or(usual.hash_bits),
    })
}

/// Checks a guest's `merge`.
pub fn guest_merge(raw: &Option<Spanned<String>>) -> Checked<Merge> {
    let choices = [("on", Merge::On), ("off", Merge::Off)];
    let merge = optional(raw, |word| choose("choice for merging", word, &choices))?;
    Ok(merge.unwrap_or_default())
}

fn pace(text: &str) -> Result<Option<u64>, String> {
    if text == "auto" {
        return Ok(None);
    }
    let allowed = || {
        format!(
            "the pace of merging cannot be `{text}`; allowed: \"auto\", or instructions in a second from \"1k\" to \
             \"100G\", for example \"20M\""
        )
    };
    let per_second = values::count(text).map_err(|_| allowed())?;
    if !(1_000..=100_000_000_000).contains(&per_second) {
        return Err(allowed());
    }
    Ok(Some(per_second))
}

fn epoch(text: &str) -> Result<u32, String> {
    let micros = values::micros(text)?;
    u32::try_from(micros)
        .ok()
        .filter(|micros| (1_000..=60_000_000).contains(micros))
        .ok_or_else(|| format!("an epoch cannot be {text}; allowed: from \"1ms\" to \"1m\""))
}

fn percent(text: &str) -> Result<u8, String> {
    values::percent(text)
        .filter(|percent| (1..=100).contains(percent))
        .ok_or_else(|| format!("large pages cannot be split at `{text}`; allowed: from \"1%\" to \"100%\""))
}

fn hash_bits(number: i64) -> Result<u8, String> {
    u8::try_from(number)
        .ok()
        .filter(|bits| *bits <= 32)
        .ok_or_else(|| format!("a hash cannot have {number} bits; allowed: 0 to 32 (usual: 32)"))
}
