//! Turns the raw file into a [`Scenario`]; every mistake becomes a message with file and line.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use pleat_bundle::config::{MAX_GUESTS, MAX_STEPS, MAX_UNTIL, OnReboot, Pages, Start};
use toml::Spanned;

use super::check_devices::devices;
use super::check_disk::host_disk;
use super::check_expect::expect;
use super::check_merge::{guest_merge, merge};
use super::check_reclaim::reclaim;
use super::check_script::script;
use super::check_terms::{host, terms};
use super::names::{PROCESSORS, check_name, choose};
use super::places::Places;
use super::{
    Boot, DeviceSpec, GuestSpec, Initramfs, Kernel, LINUX_COMMAND_LINE, MachineKind, MachineSpec, Scenario,
    raw, values,
};

/// One mistake: where, and what is wrong and allowed.
pub(super) type Mistake = (Option<Range<usize>>, String);
pub(super) type Checked<T> = Result<T, Mistake>;

/// Reads and checks a file. `root` is the workspace, for the names of test kernels.
pub fn read(file: &Path, shown: &str, root: &Path) -> Result<Scenario> {
    let text =
        std::fs::read_to_string(file).with_context(|| format!("cannot read the guests file {shown}"))?;
    parse(&text, file, root).map_err(|(span, message)| match span {
        Some(span) => anyhow!("{shown}:{}: {message}", line_of(&text, span.start)),
        None => anyhow!("{shown}: {message}"),
    })
}

/// Checks a file's text.
pub fn parse(text: &str, file: &Path, root: &Path) -> Checked<Scenario> {
    let raw: raw::File = toml::from_str(text).map_err(|error| (error.span(), error.message().to_owned()))?;
    let places = Places {
        directory: file.parent().unwrap_or(Path::new(".")),
        root,
    };
    check_counts(&raw)?;
    let guests: Vec<GuestSpec> = raw
        .guest
        .iter()
        .map(|raw| guest(raw.get_ref(), &places))
        .collect::<Checked<_>>()?;
    check_unique(&raw.guest)?;
    check_domains(&raw.guest)?;
    let machine = machine(&raw.machine)?;
    let names: Vec<&str> = guests.iter().map(|guest| guest.name.as_str()).collect();
    Ok(Scenario {
        name: super::name_of(file),
        file: file.to_owned(),
        about: raw.about,
        machine,
        for_ms: optional(&raw.run.for_time, values::micros)?.map(|micros| micros.div_ceil(1000)),
        until: raw.run.until.iter().map(event_name).collect::<Checked<_>>()?,
        script: script(&raw.script, &names, raw.run.until.len())?,
        merge: merge(&raw.merge)?,
        reclaim: reclaim(&raw.reclaim)?,
        host: host(&raw.host)?,
        expect: raw.expect.as_ref().map(|raw| expect(raw, &names)).transpose()?,
        guests,
    })
}

/// What a configuration record has room for.
fn check_counts(raw: &raw::File) -> Checked<()> {
    let surplus = |span: Option<Range<usize>>, message: String| match span {
        Some(span) => Err((Some(span), message)),
        None => Ok(()),
    };
    let checks_disk = raw
        .machine
        .disk_check
        .as_ref()
        .is_some_and(|check| *check.get_ref());
    if raw.guest.is_empty() && !checks_disk {
        let message = "there is no guest; describe at least one in a [[guest]] table";
        return Err((None, message.to_owned()));
    }
    surplus(
        raw.guest.get(MAX_GUESTS).map(Spanned::span),
        format!("a machine runs at most {MAX_GUESTS} guests"),
    )?;
    surplus(
        raw.run.until.get(MAX_UNTIL).map(Spanned::span),
        format!("a run waits for at most {MAX_UNTIL} events"),
    )?;
    surplus(
        raw.script.get(MAX_STEPS).map(Spanned::span),
        format!("a script has at most {MAX_STEPS} steps"),
    )
}

/// The line (from 1) of a byte offset.
fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes()
        .iter()
        .take(offset)
        .filter(|byte| **byte == b'\n')
        .count()
        + 1
}

pub(super) fn at<T, V>(value: &Spanned<V>, check: impl FnOnce(&V) -> Result<T, String>) -> Checked<T> {
    check(value.get_ref()).map_err(|message| (Some(value.span()), message))
}

pub(super) fn optional<T>(
    value: &Option<Spanned<String>>,
    check: impl FnOnce(&str) -> Result<T, String>,
) -> Checked<Option<T>> {
    value
        .as_ref()
        .map(|value| at(value, |text| check(text)))
        .transpose()
}

pub(super) fn event_name(name: &Spanned<String>) -> Checked<String> {
    at(name, |name| check_name("an event", name).map(|()| name.clone()))
}

fn machine(raw: &raw::Machine) -> Checked<MachineSpec> {
    const KINDS: [(&str, MachineKind); 5] = [
        ("auto", MachineKind::Auto),
        ("bochs", MachineKind::Bochs),
        ("qemu", MachineKind::Qemu),
        ("qemu-kvm", MachineKind::Qemu),
        ("qemu-tcg", MachineKind::QemuTcg),
    ];
    let kind = optional(&raw.kind, |word| choose("machine", word, &KINDS))?;
    let boot = optional(&raw.boot, |word| {
        choose("way to boot", word, &[("rom", Boot::Rom), ("iso", Boot::Iso)])
    })?;
    let memory = optional(&raw.memory, machine_memory)?;
    let models = PROCESSORS.map(|model| (model, model));
    let processor = optional(&raw.processor, |word| choose("processor model", word, &models))?;
    let kind = kind.unwrap_or(MachineKind::Auto);
    let boot = boot.unwrap_or(Boot::Rom);
    Ok(MachineSpec {
        kind,
        boot,
        memory_mib: memory.unwrap_or(320),
        processor: processor.unwrap_or("corei7_skylake_x").to_owned(),
        slice_us: optional(&raw.slice, slice)?.unwrap_or(2_000),
        wall_seconds: optional(&raw.wall_limit, values::micros)?
            .map_or(300, |micros| micros.div_ceil(1_000_000)),
        disk: host_disk(raw, kind, boot)?,
        checks_disk: raw.disk_check.as_ref().is_some_and(|check| *check.get_ref()),
    })
}

fn machine_memory(text: &str) -> Result<u64, String> {
    let bytes = values::bytes(text)?;
    // Bochs is given whole MiB and takes 2 GiB at most; our bundle starts at 16 MiB.
    if bytes % (1 << 20) != 0 || !(32..=2048).contains(&(bytes >> 20)) {
        return Err(format!(
            "a machine cannot have {text}; allowed: whole MiB from \"32M\" to \"2048M\""
        ));
    }
    Ok(bytes >> 20)
}

fn slice(text: &str) -> Result<u32, String> {
    let micros = values::micros(text)?;
    u32::try_from(micros)
        .ok()
        .filter(|micros| (100..=1_000_000).contains(micros))
        .ok_or_else(|| format!("a time slice cannot be {text}; allowed: from \"100us\" to \"1s\""))
}

fn check_unique(guests: &[Spanned<raw::Guest>]) -> Checked<()> {
    let mut seen = BTreeMap::new();
    for guest in guests {
        let name = &guest.get_ref().name;
        if seen.insert(name.get_ref().as_str(), ()).is_some() {
            let message = format!(
                "there are two guests named `{}`; every guest needs a name of its own",
                name.get_ref()
            );
            return Err((Some(name.span()), message));
        }
    }
    Ok(())
}

/// A guest without a domain is one by its own name, and alone in it: nobody else may take that word.
fn check_domains(guests: &[Spanned<raw::Guest>]) -> Checked<()> {
    let alone = |word: &str| {
        let mut guests = guests.iter().map(Spanned::get_ref);
        guests.any(|guest| guest.domain.is_none() && guest.name.get_ref() == word)
    };
    let mut taken = guests.iter().filter_map(|guest| guest.get_ref().domain.as_ref());
    let Some(domain) = taken.find(|domain| alone(domain.get_ref())) else {
        return Ok(());
    };
    let word = domain.get_ref();
    let message = format!(
        "the domain `{word}` would take in guest `{word}`, which has none and is to be alone; give that guest \
         `domain = \"{word}\"` too, or take another word"
    );
    Err((Some(domain.span()), message))
}

/// What is usual depends on the kernel, and on whether there is a disk to start from.
fn usual_images(kernel: &Kernel, devices: &DeviceSpec) -> (Initramfs, &'static str) {
    match (kernel.is_debian(), &devices.disk) {
        (true, Some(disk)) if disk.image.is_system() => (Initramfs::Disk, LINUX_COMMAND_LINE),
        (true, _) => (Initramfs::Workload, LINUX_COMMAND_LINE),
        (false, _) => (Initramfs::None, ""),
    }
}

fn guest(raw: &raw::Guest, places: &Places<'_>) -> Checked<GuestSpec> {
    let kernel = at(&raw.kernel, |text| places.kernel(text))?;
    let pages = [
        ("small", Pages::Small),
        ("large", Pages::Large),
        ("huge", Pages::Huge),
    ];
    let starts = [("now", Start::Now), ("later", Start::Later)];
    let reboots = [("stop", OnReboot::Stop), ("restart", OnReboot::Restart)];
    let domain = optional(&raw.domain, |name| {
        check_name("a domain", name).map(|()| name.to_owned())
    })?;
    let name = at(&raw.name, |name| {
        check_name("a guest", name).map(|()| name.clone())
    })?;
    let memory_bytes = at(&raw.memory, |text| guest_memory(text))?;
    let devices = devices(raw, memory_bytes, places)?;
    let (usual_initramfs, usual_line) = usual_images(&kernel, &devices);
    let has_system = devices.disk.as_ref().is_some_and(|disk| disk.image.is_system());
    let initramfs = optional(&raw.initramfs, |text| places.initramfs(text, has_system))?;
    let weight = raw
        .weight
        .as_ref()
        .map(|value| at(value, |number| weight(*number)));
    let on_reboot = optional(&raw.on_reboot, |word| {
        choose("answer to a reboot", word, &reboots)
    })?;
    Ok(GuestSpec {
        memory_bytes,
        initramfs: initramfs.unwrap_or(usual_initramfs),
        command_line: optional(&raw.command_line, command_line)?.unwrap_or_else(|| usual_line.to_owned()),
        weight: weight.transpose()?.unwrap_or(100),
        // Without a word about it every guest is its own domain: sharing is the operator's decision.
        domain: domain.unwrap_or_else(|| name.clone()),
        pages: optional(&raw.pages, |word| choose("kind of pages", word, &pages))?.unwrap_or_default(),
        start: optional(&raw.start, |word| choose("start", word, &starts))?.unwrap_or_default(),
        on_reboot: on_reboot.unwrap_or_default(),
        merge: guest_merge(&raw.merge)?,
        terms: terms(raw, memory_bytes, devices.max_memory_bytes.max(memory_bytes))?,
        devices,
        kernel,
        name,
    })
}

fn guest_memory(text: &str) -> Result<u64, String> {
    let bytes = values::bytes(text)?;
    if bytes % 4096 != 0 {
        return Err(format!(
            "a guest cannot have {text}; memory comes in multiples of 4 KiB"
        ));
    }
    // Pleat gives no guest memory above the 32-bit device hole.
    if !((1 << 20)..=(3 << 30)).contains(&bytes) {
        return Err(format!(
            "a guest cannot have {text}; allowed: from \"1M\" to \"3G\""
        ));
    }
    Ok(bytes)
}

fn weight(number: i64) -> Result<u32, String> {
    u32::try_from(number)
        .ok()
        .filter(|weight| (1..=10_000).contains(weight))
        .ok_or_else(|| format!("a weight cannot be {number}; allowed: 1 to 10000 (usual: 100)"))
}

fn command_line(text: &str) -> Result<String, String> {
    // The boot protocol's limit for this kernel is 2,047 bytes and a terminating zero.
    if text.len() > 2047 || text.contains(['\n', '\0']) {
        return Err("a command line is one line of at most 2047 bytes".to_owned());
    }
    Ok(text.to_owned())
}

pub(super) fn known_guest(name: &str, guests: &[&str]) -> Result<(), String> {
    if guests.contains(&name) {
        return Ok(());
    }
    Err(format!(
        "there is no guest `{name}`; there are: {}",
        guests.join(", ")
    ))
}
