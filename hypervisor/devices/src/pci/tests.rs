//! Configuration space as Linux goes through it.

use pleat_types::PortSize::{Byte, Dword, Word};

use super::PciBus;

fn config(bus: &mut PciBus, address: u32) -> u32 {
    bus.write(0xcf8, Dword, 0x8000_0000 | address);
    bus.read(0xcfc, Dword)
}

/// `pci_check_type1` and `pci_check_type2` of Linux's arch/x86/pci/direct.c.
#[test]
fn linux_finds_mechanism_1_and_not_2() {
    let mut bus = PciBus::new([None; 5]);
    bus.write(0xcfb, Byte, 1);
    assert_eq!(bus.read(0xcf8, Dword), 0);
    bus.write(0xcf8, Dword, 0x8000_0000);
    assert_eq!(bus.read(0xcf8, Dword), 0x8000_0000);
    for port in [0xcfb, 0xcf8, 0xcfa] {
        bus.write(port, Byte, 0);
    }
    assert_eq!((bus.read(0xcf8, Byte), bus.read(0xcfa, Byte)), (0xff, 0xff));
    assert_eq!(bus.read(0xcf8, Dword), 0x8000_0000);
}

#[test]
fn bus_0_has_a_host_bridge_and_nothing_else() {
    let mut bus = PciBus::new([None; 5]);
    for target in 0..0x1_0000u32 {
        let id = config(&mut bus, target << 8);
        assert_eq!(
            id,
            if target == 0 { 0x1237_8086 } else { u32::MAX },
            "{target:#x}"
        );
    }
    // pci_sanity_check reads the class as a word.
    bus.write(0xcf8, Dword, 0x8000_0008);
    assert_eq!(bus.read(0xcfe, Word), 0x0600);
    assert_eq!(config(&mut bus, 0xfc), 0);
}

#[test]
fn a_closed_latch_reads_ones() {
    let mut bus = PciBus::new([None; 5]);
    bus.write(0xcf8, Dword, 0);
    assert_eq!(bus.read(0xcfc, Dword), u32::MAX);
}

#[test]
fn every_width_and_place_shows_the_same_bytes() {
    let mut bus = PciBus::new([None; 5]);
    bus.write(0xcf8, Dword, 0x8000_0000);
    assert_eq!(
        [0xcfc, 0xcfd, 0xcfe, 0xcff].map(|port| bus.read(port, Byte)),
        [0x86, 0x80, 0x37, 0x12]
    );
    assert_eq!(
        [0xcfc, 0xcfd, 0xcfe].map(|port| bus.read(port, Word)),
        [0x8086, 0x3780, 0x1237]
    );
    assert_eq!(
        (bus.read(0xcff, Word), bus.read(0xcfe, Dword)),
        (0xff12, 0xffff_1237)
    );
}

#[test]
fn only_writable_bits_change_and_only_in_the_lanes_written() {
    let mut bus = PciBus::new([None; 5]);
    bus.write(0xcf8, Dword, 0x8000_0004);
    bus.write(0xcfc, Dword, u32::MAX);
    assert_eq!(bus.read(0xcfc, Dword), 7);
    bus.write(0xcfd, Byte, 0);
    assert_eq!(bus.read(0xcfc, Dword), 7);
    bus.write(0xcfc, Word, 2);
    assert_eq!(bus.read(0xcfc, Dword), 2);
    // The base address registers of the bridge do not exist: sizing finds none.
    bus.write(0xcf8, Dword, 0x8000_0010);
    bus.write(0xcfc, Dword, u32::MAX);
    assert_eq!(bus.read(0xcfc, Dword), 0);
}
