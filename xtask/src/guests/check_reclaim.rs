//! Checks how memory is to be taken from guests that do not give it.

use pleat_bundle::config::ReclaimConfig;

use super::check::{Checked, optional};
use super::{raw, values};

/// The greatest age that a page can have, in generations: what its entry has room for.
const OLDEST: u64 = 31;

/// Checks a `[reclaim]` table; what it leaves out is as usual.
pub fn reclaim(raw: &raw::Reclaim) -> Checked<ReclaimConfig> {
    let usual = ReclaimConfig::default();
    let generation_us = optional(&raw.generation, generation)?.unwrap_or(usual.generation_us);
    let cold = optional(&raw.cold, |text| cold(text, generation_us))?;
    Ok(ReclaimConfig {
        is_on: raw.enabled.unwrap_or(usual.is_on),
        generation_us,
        cold_generations: cold.unwrap_or(usual.cold_generations),
        compressed_percent: optional(&raw.compressed, compressed)?.unwrap_or(usual.compressed_percent),
    })
}

fn generation(text: &str) -> Result<u32, String> {
    let micros = values::micros(text)?;
    u32::try_from(micros)
        .ok()
        .filter(|micros| (10_000..=600_000_000).contains(micros))
        .ok_or_else(|| format!("a generation cannot be {text}; allowed: from \"10ms\" to \"10m\""))
}

/// In generations, rounded up.
fn cold(text: &str, generation_us: u32) -> Result<Option<u8>, String> {
    if text == "off" {
        return Ok(None);
    }
    let generations = values::micros(text)?.div_ceil(u64::from(generation_us));
    u8::try_from(generations)
        .ok()
        .filter(|generations| (1..=OLDEST).contains(&u64::from(*generations)))
        .map(Some)
        .ok_or_else(|| {
            format!(
                "pages cannot be cold after {text}; allowed: \"off\", or from 1 to {OLDEST} generations, which are \
                 {generation_us} us each (setting `generation`)"
            )
        })
}

fn compressed(text: &str) -> Result<u8, String> {
    values::percent(text)
        .filter(|percent| *percent <= 75)
        .ok_or_else(|| {
            format!("compressed pages cannot have `{text}` of memory; allowed: from \"0%\" to \"75%\"")
        })
}
