//! Checks the disk that the host has for itself.

use std::ops::RangeInclusive;

use toml::Spanned;

use super::check::{Checked, at, optional};
use super::names::choose;
use super::{Boot, DiskBus, HostDiskSpec, MachineKind, raw, values};

/// The largest disk, in GiB: the file takes room only where it is written.
const MOST: u64 = 1024;
/// The largest one in Bochs, which takes 262,143 cylinders of 256 KiB at most.
const MOST_IN_BOCHS: u64 = 63;

/// Checks what a `[machine]` table says of the host's disk.
pub fn host_disk(raw: &raw::Machine, kind: MachineKind, boot: Boot) -> Checked<Option<HostDiskSpec>> {
    let buses = [
        ("ata", DiskBus::Ata),
        ("ata-pio", DiskBus::AtaPio),
        ("virtio", DiskBus::Virtio),
    ];
    let bus = optional(&raw.disk_kind, |word| choose("kind of disk", word, &buses))?.unwrap_or(DiskBus::Ata);
    let most = if may_be_bochs(kind) { MOST_IN_BOCHS } else { MOST };
    let Some(mebibytes) = optional(&raw.disk, |text| size(text, most))? else {
        return needs_disk(raw).map(|()| None);
    };
    if bus == DiskBus::Virtio && may_be_bochs(kind) {
        let message =
            "only QEMU has virtio disks; say `kind = \"qemu\"` or `kind = \"qemu-tcg\"` too, or take \"ata\"";
        return Err((raw.disk_kind.as_ref().map(Spanned::span), message.to_owned()));
    }
    if boot == Boot::Iso {
        let message = "a machine that boots from an ISO image has no disk of its own; leave `disk` out, or boot = \"rom\"";
        return Err((raw.disk.as_ref().map(Spanned::span), message.to_owned()));
    }
    Ok(Some(HostDiskSpec {
        mebibytes,
        bus,
        bad_block: fault(&raw.disk_bad_block, kind, "block", 0..=mebibytes * 256 - 1)?,
        pace: fault(&raw.disk_pace, kind, "requests in a second", 1..=1_000_000)?,
    }))
}

/// A number for what goes wrong with a disk on purpose, which only QEMU can do.
fn fault(
    raw: &Option<Spanned<i64>>,
    kind: MachineKind,
    what: &str,
    allowed: RangeInclusive<u64>,
) -> Checked<Option<u64>> {
    let check = |number: &i64| {
        if may_be_bochs(kind) {
            return Err("only QEMU has such disks; say `kind = \"qemu-tcg\"` too".to_owned());
        }
        let number = u64::try_from(*number)
            .ok()
            .filter(|number| allowed.contains(number));
        let (first, last) = (allowed.start(), allowed.end());
        number.ok_or_else(|| format!("this disk has no such {what}; allowed: {first} to {last}"))
    };
    raw.as_ref().map(|number| at(number, check)).transpose()
}

/// What is said of a disk that is not there.
fn needs_disk(raw: &raw::Machine) -> Checked<()> {
    let check = raw.disk_check.as_ref().filter(|check| *check.get_ref());
    for (name, span) in [
        ("disk_kind", raw.disk_kind.as_ref().map(Spanned::span)),
        ("disk_bad_block", raw.disk_bad_block.as_ref().map(Spanned::span)),
        ("disk_pace", raw.disk_pace.as_ref().map(Spanned::span)),
        ("disk_check", check.map(Spanned::span)),
    ] {
        if span.is_some() {
            let message = format!("`{name}` needs a disk; add `disk = \"1G\"`, for example");
            return Err((span, message));
        }
    }
    Ok(())
}

const fn may_be_bochs(kind: MachineKind) -> bool {
    matches!(kind, MachineKind::Auto | MachineKind::Bochs)
}

/// Whole MiB, because that is a whole number of cylinders in Bochs.
fn size(text: &str, most: u64) -> Result<u64, String> {
    let bytes = values::bytes(text)?;
    if bytes % (1 << 20) != 0 || !(1..=most << 10).contains(&(bytes >> 20)) {
        return Err(format!(
            "the host's disk cannot have {text}; allowed: whole MiB from \"1M\" to \"{most}G\""
        ));
    }
    Ok(bytes >> 20)
}
