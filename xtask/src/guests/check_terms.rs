//! Checks what guests are entitled to, and when the host counts as short of memory.

use std::ops::RangeInclusive;

use pleat_bundle::config::{HostConfig, Terms};
use toml::Spanned;

use super::check::{Checked, at, optional};
use super::{raw, values};

/// Checks a `[host]` table; what it leaves out is as usual.
pub fn host(raw: &raw::Host) -> Checked<HostConfig> {
    let usual = HostConfig::default();
    let bound = |value: &Option<Spanned<String>>, usual: u8| {
        let check = |text: &str| percent("a threshold of free memory", text, 1..=90);
        Ok(optional(value, check)?.unwrap_or(usual))
    };
    let host = HostConfig {
        soft_below_percent: bound(&raw.soft_below, usual.soft_below_percent)?,
        hard_below_percent: bound(&raw.hard_below, usual.hard_below_percent)?,
        low_below_percent: bound(&raw.low_below, usual.low_below_percent)?,
        hysteresis_percent: optional(&raw.hysteresis, |text| percent("the hysteresis", text, 0..=10))?
            .unwrap_or(usual.hysteresis_percent),
        grace_ms: optional(&raw.grace, grace)?.unwrap_or(usual.grace_ms),
    };
    let is_ordered =
        host.low_below_percent < host.hard_below_percent && host.hard_below_percent < host.soft_below_percent;
    if is_ordered {
        return Ok(host);
    }
    let given = [&raw.low_below, &raw.hard_below, &raw.soft_below];
    Err((
        given.into_iter().flatten().next().map(Spanned::span),
        format!(
            "the host would be low below {}%, hard below {}% and soft below {}%; allowed: low_below < hard_below < \
             soft_below (usual: 2%, 4%, 6%)",
            host.low_below_percent, host.hard_below_percent, host.soft_below_percent
        ),
    ))
}

/// Checks a guest's terms. It starts with `memory` bytes and can grow to `most` bytes.
pub fn terms(raw: &raw::Guest, memory: u64, most: u64) -> Checked<Terms> {
    let usual = Terms::default();
    let limit_bytes = optional(&raw.limit, |text| limit(text, memory, most))?;
    let cap = limit_bytes.map_or(memory, |limit| limit.min(memory));
    let reservation_bytes = optional(&raw.reservation, |text| reservation(text, cap))?;
    let (cache_soft_percent, cache_strict_percent) = caches(raw, usual)?;
    let number = |value: &Option<Spanned<i64>>, check: fn(i64) -> Result<u32, String>| {
        let checked = value.as_ref().map(|value| at(value, |number| check(*number)));
        checked.transpose()
    };
    Ok(Terms {
        reservation_bytes: reservation_bytes.unwrap_or(usual.reservation_bytes),
        limit_bytes,
        shares: number(&raw.shares, shares)?.unwrap_or(usual.shares),
        priority: raw
            .priority
            .as_ref()
            .map(|value| at(value, |number| priority(*number)))
            .transpose()?
            .unwrap_or(usual.priority),
        idle_tax_percent: optional(&raw.idle_tax, |text| percent("the idle tax", text, 0..=99))?
            .unwrap_or(usual.idle_tax_percent),
        cache_soft_percent,
        cache_strict_percent,
    })
}

fn limit(text: &str, memory: u64, most: u64) -> Result<u64, String> {
    let bytes = pages("a limit", text)?;
    if bytes > most {
        let what = if most > memory { "max_memory" } else { "memory" };
        return Err(format!(
            "the limit {text} is above the guest's {what}; allowed: up to \"{}\"",
            values::shown_bytes(most)
        ));
    }
    Ok(bytes)
}

fn reservation(text: &str, cap: u64) -> Result<u64, String> {
    // The only size that may be nothing: `bytes` takes no zero.
    if text == "0" {
        return Ok(0);
    }
    let bytes = pages("a reservation", text)?;
    if bytes > cap {
        return Err(format!(
            "the reservation {text} is above the guest's limit or memory; allowed: reservation <= limit <= memory, here up \
             to \"{}\"",
            values::shown_bytes(cap)
        ));
    }
    Ok(bytes)
}

fn pages(what: &str, text: &str) -> Result<u64, String> {
    let bytes = values::bytes(text)?;
    if bytes % 4096 != 0 {
        return Err(format!(
            "{what} cannot be {text}; memory comes in multiples of 4 KiB"
        ));
    }
    Ok(bytes)
}

fn shares(number: i64) -> Result<u32, String> {
    u32::try_from(number)
        .ok()
        .filter(|shares| (1..=10_000).contains(shares))
        .ok_or_else(|| format!("shares cannot be {number}; allowed: 1 to 10000 (usual: 100)"))
}

fn priority(number: i64) -> Result<u8, String> {
    u8::try_from(number)
        .map_err(|_| format!("a priority cannot be {number}; allowed: 0 (stopped first) to 255 (usual: 100)"))
}

/// The soft and the strict limit of page cache. Who gives only the strict one means it for both.
fn caches(raw: &raw::Guest, usual: Terms) -> Checked<(u8, u8)> {
    let limit = |text: &str| percent("a limit of page cache", text, 1..=100);
    let strict = optional(&raw.cache_strict, limit)?.unwrap_or(usual.cache_strict_percent);
    let at_most_strict = |text: &str| match limit(text)? {
        soft if soft <= strict => Ok(soft),
        _ => Err(format!(
            "the soft limit of page cache, {text}, is above the strict one; allowed: cache_soft <= cache_strict, here up \
             to \"{strict}%\""
        )),
    };
    let soft = optional(&raw.cache_soft, at_most_strict)?;
    Ok((soft.unwrap_or(usual.cache_soft_percent.min(strict)), strict))
}

fn grace(text: &str) -> Result<u32, String> {
    let micros = values::micros(text)?;
    u32::try_from(micros / 1_000)
        .ok()
        .filter(|_| micros <= 60_000_000)
        .ok_or_else(|| format!("the grace after a message cannot be {text}; allowed: from \"0s\" to \"60s\""))
}

fn percent(what: &str, text: &str, allowed: RangeInclusive<u8>) -> Result<u8, String> {
    let number = values::percent(text).filter(|percent| allowed.contains(percent));
    number.ok_or_else(|| {
        let (first, last) = (allowed.start(), allowed.end());
        format!("{what} cannot be `{text}`; allowed: from \"{first}%\" to \"{last}%\"")
    })
}
