//! Checks the virtio devices of a guest.

use std::path::PathBuf;

use pleat_bundle::config::{BalloonConfig, TypedAt};
use toml::Spanned;

use super::check::{Checked, at, optional};
use super::check_packages::with_packages;
use super::names::choose;
use super::places::Places;
use super::{DeviceSpec, DiskImage, DiskSpec, raw, values};

/// Where the hole for devices begins: no guest memory lies above it.
const DEVICE_HOLE: u64 = 3 << 30;
/// Linux takes memory in blocks of so many bytes; a virtio-mem region starts at a multiple of it.
const MEMORY_BLOCK: u64 = 128 << 20;
/// Memory is plugged and unplugged in blocks of so many bytes.
const PLUG_BLOCK: u64 = 2 << 20;
/// The size of a disk that is made, unless the file says otherwise: what is not in the image costs nothing.
const DISK_BYTES: u64 = 1 << 30;
/// Less than this and Debian does not fit.
const DEBIAN_LEAST: u64 = 320 << 20;
/// Less than this and hardly any program fits with its C library.
const PROGRAMS_LEAST: u64 = 32 << 20;
/// The largest disk.
const MOST_DISK: u64 = 64 << 30;

/// Checks what a guest says about its devices. It starts with `memory` bytes.
pub fn devices(raw: &raw::Guest, memory: u64, places: &Places<'_>) -> Checked<DeviceSpec> {
    let has_console = is_on(&raw.pressure)?.unwrap_or(true);
    let consoles = [("serial", TypedAt::Serial), ("virtio", TypedAt::Virtio)];
    let console = |word: &str| {
        match choose("console", word, &consoles)? {
        TypedAt::Virtio if !has_console => Err(
            "a virtio console needs the device that also carries messages about pressure: leave `pressure` out, \
             or write pressure = \"on\""
                .to_owned(),
        ),
        typed_at => Ok(typed_at),
    }
    };
    Ok(DeviceSpec {
        balloon: balloon(raw)?,
        max_memory_bytes: optional(&raw.max_memory, |text| max_memory(text, memory))?.unwrap_or(0),
        has_console,
        has_random: is_on(&raw.random)?.unwrap_or(true),
        disk: disk(raw, places)?,
        typed_at: optional(&raw.console, console)?.unwrap_or_default(),
    })
}

fn is_on(raw: &Option<Spanned<String>>) -> Checked<Option<bool>> {
    optional(raw, |word| {
        choose("setting", word, &[("on", true), ("off", false)])
    })
}

fn balloon(raw: &raw::Guest) -> Checked<Option<BalloonConfig>> {
    let usual = BalloonConfig::default();
    let balloon = BalloonConfig {
        deflates_on_oom: is_on(&raw.deflate_on_oom)?.unwrap_or(usual.deflates_on_oom),
        has_reporting: is_on(&raw.reporting)?.unwrap_or(usual.has_reporting),
        statistics_ms: optional(&raw.statistics, statistics)?.unwrap_or(usual.statistics_ms),
    };
    if is_on(&raw.balloon)?.unwrap_or(true) {
        return Ok(Some(balloon));
    }
    let wishes = [
        ("deflate_on_oom", &raw.deflate_on_oom),
        ("reporting", &raw.reporting),
        ("statistics", &raw.statistics),
    ];
    for (key, value) in wishes {
        if let Some(value) = value.as_ref().filter(|value| value.get_ref() != "off") {
            let message = format!(
                "`{key}` belongs to the balloon, and this guest has none; leave `{key}` out, or write balloon = \"on\""
            );
            return Err((Some(value.span()), message));
        }
    }
    Ok(None)
}

fn statistics(text: &str) -> Result<u32, String> {
    if text == "off" {
        return Ok(0);
    }
    let wrong = || {
        format!(
            "statistics cannot be asked for every `{text}`; allowed: \"off\", or from \"100ms\" to \"60m\" \
             (usual: \"2s\")"
        )
    };
    let millis = values::micros(text).map_err(|_| wrong())? / 1_000;
    let millis = u32::try_from(millis).map_err(|_| wrong())?;
    (100..=3_600_000)
        .contains(&millis)
        .then_some(millis)
        .ok_or_else(wrong)
}

fn max_memory(text: &str, memory: u64) -> Result<u64, String> {
    let bytes = values::bytes(text)?;
    let shown = values::shown_bytes;
    if bytes <= memory || !(bytes - memory).is_multiple_of(PLUG_BLOCK) {
        return Err(format!(
            "a guest of {} cannot grow to {text}; allowed: more than that, in steps of 2 MiB, for example \"{}\"",
            shown(memory),
            shown(memory + MEMORY_BLOCK)
        ));
    }
    let first = memory.next_multiple_of(MEMORY_BLOCK);
    let most = DEVICE_HOLE.saturating_sub(first);
    if bytes - memory > most {
        let least = first - memory;
        let why = match least {
            0 => String::new(),
            _ => format!(
                " (what is added starts at {}, a multiple of 128 MiB)",
                shown(first)
            ),
        };
        return Err(match most {
            0 => format!("a guest of {} has no room to grow below 3 GiB", shown(memory)),
            _ => format!(
                "a guest of {} cannot grow to {text}; allowed: up to \"{}\"{why}",
                shown(memory),
                shown(memory + most)
            ),
        });
    }
    Ok(bytes)
}

fn disk(raw: &raw::Guest, places: &Places<'_>) -> Checked<Option<DiskSpec>> {
    let image = optional(&raw.disk, |text| disk_image(text, places))?;
    let Some(image) = with_packages(raw, image)? else {
        return no_disk(raw);
    };
    let (least, usual) = match &image {
        DiskImage::Debian(_) => (DEBIAN_LEAST, DISK_BYTES),
        DiskImage::Programs(_) => (PROGRAMS_LEAST, DISK_BYTES),
        DiskImage::File(file) => raw.disk.as_ref().map_or(Ok((0, 0)), |disk| {
            at(disk, |_| {
                let bytes = image_bytes(file)?;
                Ok((bytes, bytes))
            })
        })?,
    };
    let bytes = optional(&raw.disk_size, |text| disk_size(text, least))?.unwrap_or(usual);
    let written_bytes = optional(&raw.disk_written, |text| disk_written(text, bytes))?;
    Ok(Some(DiskSpec {
        image,
        bytes,
        written_bytes,
    }))
}

/// What makes no sense without a disk.
fn no_disk(raw: &raw::Guest) -> Checked<Option<DiskSpec>> {
    for (name, setting) in [("disk_size", &raw.disk_size), ("disk_written", &raw.disk_written)] {
        if let Some(setting) = setting {
            let allowed = "allowed: disk = \"debian\" or the path of an image, or packages";
            return Err((Some(setting.span()), format!("`{name}` needs a disk; {allowed}")));
        }
    }
    Ok(None)
}

fn disk_image(text: &str, places: &Places<'_>) -> Result<DiskImage, String> {
    match text {
        "debian" => Ok(DiskImage::Debian(Vec::new())),
        path if path.contains('/') => places.file(path).map(DiskImage::File),
        _ => Err(format!(
            "`{text}` is no disk; allowed: \"debian\", or the path of an image (with a `/` in it)"
        )),
    }
}

/// The size of an image in whole pages: a disk is read page by page.
fn image_bytes(file: &PathBuf) -> Result<u64, String> {
    let bytes = std::fs::metadata(file)
        .map_err(|error| format!("cannot read {}: {error}", file.display()))?
        .len();
    if !(1..=MOST_DISK).contains(&bytes) {
        return Err(format!(
            "{} has {bytes} bytes; allowed for the image of a disk: 1 byte to 64 GiB",
            file.display()
        ));
    }
    Ok(bytes.next_multiple_of(4096))
}

fn disk_size(text: &str, least: u64) -> Result<u64, String> {
    let bytes = values::bytes(text)?;
    if !bytes.is_multiple_of(4096) || !(least..=MOST_DISK).contains(&bytes) {
        return Err(format!(
            "a disk cannot have {text}; allowed here: multiples of 4 KiB from \"{}\" to \"64G\"",
            values::shown_bytes(least)
        ));
    }
    Ok(bytes)
}

fn disk_written(text: &str, size: u64) -> Result<u64, String> {
    let bytes = values::bytes(text)?;
    if !bytes.is_multiple_of(4096) || bytes > size {
        return Err(format!(
            "a guest cannot have written {text}; allowed here: multiples of 4 KiB up to \"{}\", the size of its disk",
            values::shown_bytes(size)
        ));
    }
    Ok(bytes)
}
