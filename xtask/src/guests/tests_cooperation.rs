//! What a guests file says about terms, devices and the host's thresholds.

use pleat_bundle::config::{BalloonConfig, HostConfig, Terms, TypedAt};

use super::tests::{assert_mistake, parse, with};
use super::{DiskImage, DiskSpec, GuestSpec, Initramfs};

const MIB: u64 = 1 << 20;

/// The guest of a good file with these lines; the first is its line 5.
fn guest(lines: &str) -> GuestSpec {
    parse(&with(lines)).unwrap().guests.remove(0)
}

#[test]
fn guests_have_devices_and_no_terms_unless_the_file_says_otherwise() {
    let usual = guest("weight = 1");
    assert_eq!(usual.terms, Terms::default());
    let devices = usual.devices;
    assert_eq!(devices.balloon, Some(BalloonConfig::default()));
    assert!(devices.has_console && devices.has_random && devices.disk.is_none());
    assert_eq!((devices.max_memory_bytes, devices.typed_at), (0, TypedAt::Serial));
    let balloon = BalloonConfig::default();
    assert!(balloon.deflates_on_oom && balloon.has_reporting);
}

#[test]
fn terms_are_read() {
    let all = "reservation = \"16M\"\nlimit = \"48M\"\nshares = 300\npriority = 0\nidle_tax = \"0%\"\n\
               cache_soft = \"20%\"\ncache_strict = \"60%\"";
    let expected = Terms {
        reservation_bytes: 16 * MIB,
        limit_bytes: Some(48 * MIB),
        shares: 300,
        priority: 0,
        idle_tax_percent: 0,
        cache_soft_percent: 20,
        cache_strict_percent: 60,
    };
    assert_eq!(guest(all).terms, expected);
    assert_eq!(guest("reservation = \"0\"").terms.reservation_bytes, 0);
    assert_eq!(guest("reservation = \"64M\"").terms.reservation_bytes, 64 * MIB);
    let strict = guest("cache_strict = \"60%\"").terms;
    assert_eq!((strict.cache_soft_percent, strict.cache_strict_percent), (60, 60));
    let grown = guest("limit = \"96M\"\nmax_memory = \"128M\"").terms;
    assert_eq!(grown.limit_bytes, Some(96 * MIB));
}

#[test]
fn mistakes_about_terms_say_what_is_allowed() {
    let mistake = |lines: &str, line, parts: &[&str]| assert_mistake(&with(lines), line, parts);
    mistake("limit = \"96M\"", 5, &["96M", "memory", "up to \"64M\""]);
    mistake(
        "limit = \"256M\"\nmax_memory = \"128M\"",
        5,
        &["max_memory", "up to \"128M\""],
    );
    mistake("limit = \"4097\"", 5, &["multiples of 4 KiB"]);
    mistake("limit = \"0\"", 5, &["`0` is no size"]);
    mistake(
        "reservation = \"65M\"",
        5,
        &["reservation <= limit <= memory", "\"64M\""],
    );
    mistake(
        "limit = \"32M\"\nreservation = \"33M\"",
        6,
        &["reservation <= limit", "\"32M\""],
    );
    mistake("shares = 0", 5, &["1 to 10000"]);
    mistake("shares = 10001", 5, &["1 to 10000"]);
    mistake("priority = 256", 5, &["0 (stopped first) to 255"]);
    mistake("priority = -1", 5, &["0 (stopped first) to 255"]);
    mistake("idle_tax = \"100%\"", 5, &["100%", "\"0%\" to \"99%\""]);
    mistake("idle_tax = 75", 5, &["expected", "string"]);
    mistake("cache_soft = \"0%\"", 5, &["\"1%\" to \"100%\""]);
    mistake("cache_strict = \"101%\"", 5, &["\"1%\" to \"100%\""]);
    mistake(
        "cache_strict = \"50%\"\ncache_soft = \"51%\"",
        6,
        &["51%", "cache_soft <= cache_strict", "\"50%\""],
    );
}

#[test]
fn the_host_s_thresholds_are_read_and_checked() {
    let text = |settings: &str| with("weight = 1") + "[host]\n" + settings + "\n";
    let host = |settings: &str| parse(&text(settings)).unwrap().host;
    assert_eq!(host(""), HostConfig::default());
    let all = "soft_below = \"20%\"\nhard_below = \"10%\"\nlow_below = \"5%\"\nhysteresis = \"0%\"\ngrace = \"1.5s\"";
    let expected = HostConfig {
        soft_below_percent: 20,
        hard_below_percent: 10,
        low_below_percent: 5,
        hysteresis_percent: 0,
        grace_ms: 1500,
    };
    assert_eq!(host(all), expected);
    let mistake = |settings: &str, line, parts: &[&str]| assert_mistake(&text(settings), line, parts);
    mistake("soft_below = \"91%\"", 7, &["91%", "\"1%\" to \"90%\""]);
    mistake("low_below = \"0%\"", 7, &["\"1%\" to \"90%\""]);
    mistake("hysteresis = \"11%\"", 7, &["\"0%\" to \"10%\""]);
    mistake("grace = \"61s\"", 7, &["61s", "\"0s\" to \"60s\""]);
    mistake("grace = \"soon\"", 7, &["`soon` is no time"]);
    mistake(
        "\nsoft_below = \"4%\"",
        8,
        &[
            "hard below 4% and soft below 4%",
            "low_below < hard_below < soft_below",
        ],
    );
    mistake("low_below = \"5%\"", 7, &["low below 5%, hard below 4%"]);
    mistake("free_below = \"5%\"", 7, &["free_below", "hysteresis"]);
}

#[test]
fn devices_are_read() {
    let off = "balloon = \"off\"\nrandom = \"off\"\npressure = \"off\"\nstatistics = \"off\"";
    let none = guest(off).devices;
    assert!(none.balloon.is_none() && !none.has_console && !none.has_random);
    let some = "deflate_on_oom = \"off\"\nreporting = \"off\"\nstatistics = \"500ms\"\nconsole = \"virtio\"\n\
                max_memory = \"256M\"";
    let some = guest(some).devices;
    let balloon = BalloonConfig {
        deflates_on_oom: false,
        has_reporting: false,
        statistics_ms: 500,
    };
    assert_eq!(some.balloon, Some(balloon));
    assert_eq!(
        (some.max_memory_bytes, some.typed_at),
        (256 * MIB, TypedAt::Virtio)
    );
    assert_eq!(
        guest("statistics = \"off\"")
            .devices
            .balloon
            .unwrap()
            .statistics_ms,
        0
    );
}

#[test]
fn disks_are_read_and_linux_starts_from_them() {
    let debian = guest("kernel = \"debian-cloud\"\ndisk = \"debian\"");
    let disk = DiskSpec {
        image: DiskImage::Debian(Vec::new()),
        bytes: 1 << 30,
        written_bytes: None,
    };
    assert_eq!(
        (debian.devices.disk, debian.initramfs),
        (Some(disk), Initramfs::Disk)
    );
    let large = guest("disk = \"debian\"\ndisk_size = \"2G\"");
    assert_eq!(
        (large.devices.disk.unwrap().bytes, large.initramfs),
        (2 << 30, Initramfs::None)
    );
    let file = guest("disk = \"./hello.toml\"").devices.disk.unwrap();
    assert!(matches!(file.image, DiskImage::File(path) if path.ends_with("hello.toml")));
    assert!(file.bytes >= 4096 && file.bytes.is_multiple_of(4096));
    let padded = guest("disk = \"./hello.toml\"\ndisk_size = \"1M\"");
    assert_eq!(padded.devices.disk.unwrap().bytes, MIB);
    let bounded = guest("disk = \"./hello.toml\"\ndisk_size = \"1M\"\ndisk_written = \"64K\"");
    assert_eq!(bounded.devices.disk.unwrap().written_bytes, Some(64 << 10));
    let kept = guest("kernel = \"debian-cloud\"\ndisk = \"debian\"\ninitramfs = \"workload\"");
    assert_eq!(kept.initramfs, Initramfs::Workload);
}

#[test]
fn mistakes_about_devices_say_what_is_allowed() {
    let mistake = |lines: &str, line, parts: &[&str]| assert_mistake(&with(lines), line, parts);
    for key in ["balloon", "random", "pressure", "reporting", "deflate_on_oom"] {
        mistake(&format!("{key} = \"yes\""), 5, &["`yes`", "\"on\", \"off\""]);
    }
    mistake("console = \"usb\"", 5, &["`usb`", "\"serial\", \"virtio\""]);
    mistake(
        "pressure = \"off\"\nconsole = \"virtio\"",
        6,
        &["pressure = \"on\""],
    );
    mistake(
        "balloon = \"off\"\nreporting = \"on\"",
        6,
        &["`reporting`", "balloon = \"on\""],
    );
    mistake("balloon = \"off\"\nstatistics = \"2s\"", 6, &["`statistics`"]);
    for wrong in ["99ms", "61m", "often"] {
        let line = format!("statistics = \"{wrong}\"");
        mistake(&line, 5, &[wrong, "\"100ms\" to \"60m\""]);
    }
    mistake("max_memory = \"64M\"", 5, &["64M", "steps of 2 MiB", "\"192M\""]);
    mistake("max_memory = \"65M\"", 5, &["steps of 2 MiB"]);
    mistake("max_memory = \"3G\"", 5, &["up to \"3008M\"", "starts at 128M"]);
    assert_eq!(
        guest("max_memory = \"3008M\"").devices.max_memory_bytes,
        3008 * MIB
    );
    mistake("memory = \"3G\"\nmax_memory = \"4G\"", 5, &["no room to grow"]);
}

#[test]
fn mistakes_about_disks_say_what_is_allowed() {
    let mistake = |lines: &str, line, parts: &[&str]| assert_mistake(&with(lines), line, parts);
    mistake("disk = \"ubuntu\"", 5, &["`ubuntu`", "\"debian\""]);
    mistake("disk = \"./none.img\"", 5, &["there is no file"]);
    mistake("disk_size = \"1G\"", 5, &["needs a disk"]);
    mistake("disk_written = \"1M\"", 5, &["needs a disk"]);
    for wrong in ["1M", "1000", "many"] {
        let lines = format!("disk = \"./hello.toml\"\ndisk_size = \"64K\"\ndisk_written = \"{wrong}\"");
        mistake(&lines, 7, &[wrong]);
    }
    mistake(
        "disk = \"./hello.toml\"\ndisk_size = \"1000\"",
        6,
        &["multiples of 4 KiB", "\"4K\" to \"64G\""],
    );
    mistake(
        "disk = \"debian\"\ndisk_size = \"100M\"",
        6,
        &["100M", "\"320M\""],
    );
    mistake("disk = \"debian\"\ndisk_size = \"65G\"", 6, &["\"64G\""]);
    mistake("initramfs = \"disk\"", 5, &["only if it has one"]);
}

#[test]
fn packages_make_a_disk_or_go_onto_debian() {
    let image = |lines: &str| {
        let guest = guest(&format!("kernel = \"debian-cloud\"\n{lines}"));
        (guest.devices.disk.unwrap().image, guest.initramfs)
    };
    let names = || ["memtester", "sqlite3"].map(str::to_owned).to_vec();
    let both = "packages = [\"sqlite3\", \"memtester\", \"sqlite3\"]";
    assert_eq!(image(both), (DiskImage::Programs(names()), Initramfs::Workload));
    let agent = format!("{both}\ninitramfs = \"agent\"");
    assert_eq!(image(&agent), (DiskImage::Programs(names()), Initramfs::Agent));
    let debian = format!("{both}\ndisk = \"debian\"");
    assert_eq!(image(&debian), (DiskImage::Debian(names()), Initramfs::Disk));
    assert!(guest("packages = []").devices.disk.is_none());
}

#[test]
fn mistakes_about_packages_say_what_is_allowed() {
    let mistake = |lines: &str, line, parts: &[&str]| assert_mistake(&with(lines), line, parts);
    for wrong in ["x", "Tcc", "--help", "tcc-", "tcc; true", "tcc=1", ""] {
        mistake(
            &format!("packages = [\"{wrong}\"]"),
            5,
            &[wrong, "no name of a Debian package"],
        );
    }
    mistake("packages = \"tcc\"", 5, &["expected a sequence"]);
    mistake(
        "disk = \"./hello.toml\"\npackages = [\"tcc\"]",
        6,
        &["leave `disk` out"],
    );
    mistake("packages = [\"tcc\"]\ndisk_size = \"1M\"", 6, &["\"32M\""]);
    mistake(
        "packages = [\"tcc\"]\ninitramfs = \"disk\"",
        6,
        &["with a system"],
    );
}
