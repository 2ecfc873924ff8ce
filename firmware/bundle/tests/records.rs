//! The handover record, the symbols section and the configuration record.

use std::collections::BTreeMap;

use arrayvec::ArrayVec;
use pleat_bundle::config::{
    ConfigError, DeviceConfig, DiskConfig, GuestConfig, HostConfig, HostDisk, MAX_GUESTS, Merge, MergeConfig,
    OnReboot, Pages, ReclaimConfig, RunConfig, Start, Step, Terms, When, decode, encode,
};
use pleat_bundle::handover::{
    BOOT_INFO_MAGIC, BUNDLE_BASE, BootInfo, HandoverError, MAX_REGIONS, MemoryRegion, REGION_RAM,
};
use pleat_bundle::symbols::{Symbol, Symbols, SymbolsWriter};
use proptest::prelude::*;

fn info() -> BootInfo {
    let mut regions = [MemoryRegion::default(); MAX_REGIONS];
    regions[0] = MemoryRegion {
        base: 0,
        bytes: 0x9_F000,
        kind: REGION_RAM,
    };
    regions[1] = MemoryRegion {
        base: 0x10_0000,
        bytes: 0x400_0000,
        kind: REGION_RAM,
    };
    BootInfo {
        magic: BOOT_INFO_MAGIC,
        bundle_base: BUNDLE_BASE,
        bundle_bytes: 8192,
        reset_tsc: 3,
        regions_len: 2,
        regions,
    }
}

#[test]
fn the_boot_record_is_read_as_it_lies_in_memory() {
    assert_eq!(size_of::<BootInfo>(), BootInfo::BYTES);
    let bytes = info().to_bytes();
    assert_eq!(&bytes[..8], b"PLEATBI1");
    assert_eq!(std::mem::offset_of!(BootInfo, regions), 40);
    assert_eq!(bytes[40 + 24..40 + 32], 0x10_0000_u64.to_le_bytes());
    assert_eq!(BootInfo::from_bytes(&bytes), Ok(info()));
    assert_eq!(info().regions().len(), 2);
}

#[test]
fn a_boot_record_that_lies_is_refused() {
    let error = |change: fn(&mut BootInfo)| {
        let mut info = info();
        change(&mut info);
        BootInfo::from_bytes(&info.to_bytes()).err()
    };
    assert_eq!(error(|info| info.magic += 1), Some(HandoverError::Magic));
    assert_eq!(
        error(|info| info.regions_len = 33),
        Some(HandoverError::RegionCount)
    );
    assert_eq!(error(|info| info.bundle_bytes = !0), Some(HandoverError::Bundle));
    assert_eq!(
        error(|info| info.regions[0].bytes = 0x10_0001),
        Some(HandoverError::Region(1))
    );
    assert_eq!(
        error(|info| info.regions[1].bytes = !0),
        Some(HandoverError::Region(1))
    );
}

#[test]
fn symbols_end_where_their_size_says() {
    let mut writer = SymbolsWriter::new();
    writer.add(0x20_0010, 0x10, "main");
    writer.add(0x20_0000, 0, "entry");
    writer.add(0x20_0040, 8, "last");
    writer.add(0x20_0040, 0, "a label at the same place");
    writer.add(1 << 32, 8, "not ours");
    let section = writer.finish();
    let symbols = Symbols::parse(&section).expect("a valid section");
    let found = |address| {
        symbols
            .lookup(address)
            .map(|Symbol { name, offset }| (name, offset))
    };
    assert_eq!(found(0x1F_FFFF), None);
    assert_eq!(found(0x20_000F), Some(("entry", 0xF)));
    assert_eq!(found(0x20_0010), Some(("main", 0)));
    assert_eq!(found(0x20_001F), Some(("main", 0xF)));
    assert_eq!(found(0x20_0020), None);
    assert_eq!(found(0x20_0047), Some(("last", 7)));
    assert_eq!(found(0x20_0048), None);
    assert_eq!(found(1 << 32), None);
    assert!(Symbols::parse(&section[..12]).is_none());
}

fn sample_config() -> RunConfig<'static> {
    let guest = GuestConfig {
        name: "a",
        memory_bytes: 128 << 20,
        kernel: 1,
        initramfs: Some(2),
        command_line: "quiet",
        weight: 100,
        domain: "a",
        pages: Pages::Large,
        start: Start::Later,
        on_reboot: OnReboot::Restart,
        merge: Merge::Off,
        terms: Terms {
            reservation_bytes: 64 << 20,
            limit_bytes: Some(96 << 20),
            ..Terms::default()
        },
        devices: DeviceConfig {
            disk: Some(DiskConfig {
                image: 3,
                bytes: 1 << 30,
                written_bytes: Some(1 << 20),
            }),
            ..DeviceConfig::default()
        },
    };
    let step = Step {
        when: When::Event {
            guest: "a",
            event: "up",
        },
        command: "kill a",
    };
    let repeated = Step {
        when: When::Every {
            period_us: 50_000,
            from_us: 2_000_000,
        },
        command: "stats",
    };
    RunConfig {
        tsc_hz: Some(200_000_000),
        for_ms: None,
        until: ["up", "work-ok"].into_iter().collect(),
        is_interactive: false,
        slice_us: 5000,
        seed: Some(7),
        merge: MergeConfig {
            pace: Some(1_000_000),
            ..MergeConfig::default()
        },
        reclaim: ReclaimConfig {
            is_on: true,
            generation_us: 500_000,
            cold_generations: Some(9),
            compressed_percent: 33,
        },
        host: HostConfig {
            grace_ms: 500,
            ..HostConfig::default()
        },
        disk: HostDisk::AtaPio,
        guests: std::iter::once(guest).collect(),
        script: [step, repeated].into_iter().collect(),
    }
}

#[test]
fn the_configuration_is_read_as_it_was_written() {
    let config = sample_config();
    let mut section = encode(&config).expect("it encodes");
    assert_eq!(decode(&section), Ok(config));
    assert_eq!(decode(&section[..section.len() - 1]), Err(ConfigError::Malformed));
    section.push(0);
    assert_eq!(decode(&section), Err(ConfigError::TrailingBytes(1)));
}

#[test]
fn a_list_that_is_too_long_is_refused() {
    let mut config = sample_config();
    let guest = config.guests[0].clone();
    config.guests = std::iter::repeat_n(guest, MAX_GUESTS).collect::<ArrayVec<_, MAX_GUESTS>>();
    let mut section = encode(&config).expect("it encodes");
    assert_eq!(decode(&section).map(|config| config.guests.len()), Ok(MAX_GUESTS));
    // The list's length is the first byte of that value, in front of the first guest's name "a" (1, 'a').
    let at = section
        .windows(3)
        .position(|bytes| bytes == [64, 1, b'a'])
        .expect("the length of the list");
    section[at] = 65;
    assert_eq!(decode(&section), Err(ConfigError::Malformed));
}

proptest! {
    #[test]
    fn any_boot_record_is_refused_or_sums_fit(words in prop::collection::vec(any::<u64>(), 101), length in 0_u64..40) {
        let mut bytes = [0; BootInfo::BYTES];
        for (field, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(&words) {
            *field = word.to_le_bytes();
        }
        bytes[..8].copy_from_slice(b"PLEATBI1");
        bytes[32..40].copy_from_slice(&length.to_le_bytes());
        if let Ok(info) = BootInfo::from_bytes(&bytes) {
            prop_assert_eq!(info.regions().len() as u64, length);
            prop_assert!(info.bundle_base.checked_add(info.bundle_bytes).is_some());
            prop_assert!(info.regions().iter().all(|region| region.base.checked_add(region.bytes).is_some()));
        }
    }

    #[test]
    fn symbols_are_found_as_in_a_list(
        list in prop::collection::btree_map(0_u32..4000, (1_u32..200, "[a-z]{1,8}"), 0..40),
        address in 0_u64..5000,
    ) {
        let mut writer = SymbolsWriter::new();
        list.iter().for_each(|(at, (bytes, name))| writer.add(u64::from(*at), u64::from(*bytes), name));
        let section = writer.finish();
        let symbols = Symbols::parse(&section).expect("a valid section");
        prop_assert_eq!(symbols.lookup(address).map(|found| (found.name, found.offset)), nearest(&list, address));
    }

    #[test]
    fn any_bytes_are_no_reason_to_panic(mut bytes in prop::collection::vec(any::<u8>(), 4..300), address in any::<u32>()) {
        let _ = decode(&bytes);
        let count = bytes[0] % 32;
        bytes[..4].copy_from_slice(&[count, 0, 0, 0]);
        if let Some(symbols) = Symbols::parse(&bytes) {
            let _ = symbols.lookup(u64::from(address));
            let _ = symbols.lookup(0);
        }
    }
}

/// The symbol with the highest address that is not above, when the address lies in it.
fn nearest(list: &BTreeMap<u32, (u32, String)>, address: u64) -> Option<(&str, u64)> {
    let (at, (bytes, name)) = list.iter().rev().find(|(at, _)| u64::from(**at) <= address)?;
    let offset = address - u64::from(*at);
    (offset < u64::from(*bytes)).then_some((name.as_str(), offset))
}
