//! The host's own disk in a guests file, and what is wrong with one.

use super::tests::{assert_mistake, parse, with};
use super::{DiskBus, HostDiskSpec, Scenario};

/// A file with these lines about the machine, from line 2 on.
fn machine(lines: &str) -> String {
    format!("[machine]\n{lines}\n{}", with("weight = 1"))
}

fn disk(lines: &str) -> Option<HostDiskSpec> {
    parse(&machine(lines)).expect("a good file").machine.disk
}

#[test]
fn there_is_a_disk_only_where_one_is_asked_for() {
    assert_eq!(disk(""), None);
    let expected = HostDiskSpec {
        mebibytes: 1024,
        bus: DiskBus::Ata,
        bad_block: None,
        pace: None,
    };
    assert_eq!(disk("disk = \"1G\""), Some(expected));
    let pio = disk("disk = \"1M\"\ndisk_kind = \"ata-pio\"").expect("a disk");
    assert_eq!((pio.mebibytes, pio.bus), (1, DiskBus::AtaPio));
    let virtio = disk("kind = \"qemu-tcg\"\ndisk = \"200G\"\ndisk_kind = \"virtio\"\ndisk_bad_block = 7");
    let virtio = virtio.expect("a disk");
    assert_eq!((virtio.bus, virtio.bad_block), (DiskBus::Virtio, Some(7)));
}

#[test]
fn sizes_are_whole_mebibytes_that_the_emulator_takes() {
    for size in ["512K", "1025K", "64G"] {
        let text = machine(&format!("disk = \"{size}\""));
        assert_mistake(&text, 2, &[size, "\"1M\" to \"63G\""]);
    }
    let large = machine("kind = \"qemu\"\ndisk = \"1025G\"");
    assert_mistake(&large, 3, &["\"1M\" to \"1024G\""]);
    assert_mistake(&machine("disk = \"many\""), 2, &["is no size"]);
}

#[test]
fn what_bochs_has_not_needs_qemu() {
    let virtio = machine("disk = \"1G\"\ndisk_kind = \"virtio\"");
    assert_mistake(&virtio, 3, &["only QEMU", "kind = \"qemu\""]);
    let bad = machine("disk = \"1G\"\ndisk_bad_block = 1");
    assert_mistake(&bad, 3, &["only QEMU"]);
    let beyond = machine("kind = \"qemu-tcg\"\ndisk = \"1M\"\ndisk_bad_block = 256");
    assert_mistake(&beyond, 4, &["no such block", "0 to 255"]);
    assert_mistake(&machine("disk = \"1G\"\ndisk_pace = 9"), 3, &["only QEMU"]);
    let still = machine("kind = \"qemu\"\ndisk = \"1M\"\ndisk_pace = 0");
    assert_mistake(&still, 4, &["requests in a second", "1 to 1000000"]);
}

#[test]
fn settings_of_a_disk_need_one() {
    for line in [
        "disk_kind = \"ata\"",
        "disk_check = true",
        "disk_bad_block = 1",
        "disk_pace = 1",
    ] {
        let name = line.split(' ').next().unwrap_or_default();
        assert_mistake(&machine(line), 2, &[name, "needs a disk"]);
    }
    assert_eq!(disk("disk_check = false"), None);
    let kind = machine("disk = \"1G\"\ndisk_kind = \"scsi\"");
    assert_mistake(&kind, 3, &["scsi", "\"ata\", \"ata-pio\", \"virtio\""]);
    let iso = machine("boot = \"iso\"\ndisk = \"1G\"");
    assert_mistake(&iso, 3, &["ISO", "boot = \"rom\""]);
}

#[test]
fn only_the_check_of_a_disk_runs_without_guests() {
    let scenario: Scenario = parse("[machine]\ndisk = \"1G\"\ndisk_check = true\n").expect("a good file");
    assert!(scenario.guests.is_empty() && scenario.machine.checks_disk);
    assert_mistake("[machine]\ndisk = \"1G\"\n", 0, &["there is no guest"]);
}
