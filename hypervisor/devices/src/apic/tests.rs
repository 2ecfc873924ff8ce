//! Register by register, after SDM vol. 3, chapter 10.

use super::*;

const GP: GuestFault = GuestFault::GeneralProtection;

/// Two TSC ticks to one of the crystal.
fn apic() -> LocalApic {
    LocalApic::new(
        TscRatio {
            tsc_per_crystal: 2,
            crystal_hz: 25_000_000,
        },
        1,
    )
}

fn write(apic: &mut LocalApic, index: u32, value: u64) {
    assert!(apic.write(index, value, 0).is_ok(), "{index:#x} {value:#x}");
}

fn read(apic: &LocalApic, index: u32) -> u64 {
    apic.read(index, 0, 0).unwrap()
}

#[test]
fn registers_are_as_virtual_wire_firmware_leaves_them() {
    let apic = apic();
    let expected = [
        (0x802, 0),
        (0x803, 0x5_0014),
        (0x80d, 1),
        (0x80f, 0x1ff),
        (0x832, 0x1_0000),
        (0x835, 0x700),
        (0x836, 0x1_0000),
        (0x837, 0x1_0000),
    ];
    for (index, value) in expected {
        assert_eq!(read(&apic, index), value, "{index:#x}");
    }
    for index in 0x810..=0x828 {
        assert_eq!(read(&apic, index), 0, "{index:#x}");
    }
    assert!(apic.is_extint_open());
}

#[test]
fn registers_that_do_not_exist_or_are_one_way_fault() {
    let mut apic = apic();
    let unreadable = [
        0x800, 0x801, 0x804, 0x809, 0x80b, 0x80c, 0x80e, 0x829, 0x82f, 0x831, 0x83a, 0x83f, 0x840,
    ];
    for index in unreadable {
        assert_eq!(apic.read(index, 0, 0), Err(GP), "{index:#x}");
    }
    for index in [
        0x802, 0x803, 0x80a, 0x80d, 0x810, 0x81f, 0x827, 0x82f, 0x831, 0x839, 0x8ff,
    ] {
        assert_eq!(apic.write(index, 0, 0), Err(GP), "{index:#x}");
    }
}

#[test]
fn reserved_bits_fault_and_change_nothing() {
    let mut apic = apic();
    let cases = [
        (0x808, 0x100),
        (0x80b, 1),
        (0x80f, 0x1400),
        (0x828, 1),
        (0x830, 1 << 13),
        (0x830, 1 << 16),
        (0x830, 1 << 20),
        (0x832, 1 << 8),
        (0x832, 1 << 19),
        (0x833, 1 << 13),
        (0x835, 1 << 17),
        (0x837, 1 << 8),
        (0x838, 1 << 32),
        (0x83e, 0b0100),
        (0x83f, 0x100),
        (0x80f, 1 << 32),
    ];
    for (index, value) in cases {
        let before = apic.read(index, 0, 0);
        assert_eq!(apic.write(index, value, 0), Err(GP), "{index:#x} {value:#x}");
        assert_eq!(apic.read(index, 0, 0), before);
    }
}

#[test]
fn priority_decides_what_is_delivered_and_eoi_lets_the_next_through() {
    let mut apic = apic();
    for vector in [0x31, 0x45, 0x41] {
        write(&mut apic, 0x83f, vector);
    }
    assert_eq!(apic.pending(0), Pending::Vector(0x45));
    assert_eq!(apic.pending(0x40), Pending::MaskedByTpr(0x45));
    assert_eq!(apic.pending(0x3f), Pending::Vector(0x45));
    apic.acknowledge(0x45);
    assert_eq!((read(&apic, 0x812), read(&apic, 0x822)), (1 << 5, 1 << 1));
    assert_eq!(read(&apic, 0x80a), 0x40);
    assert_eq!(apic.read(0x80a, 0, 0x52), Ok(0x52));
    // The same class waits for the EOI.
    assert_eq!(apic.pending(0), Pending::None);
    write(&mut apic, 0x83f, 0x50);
    assert_eq!(apic.pending(0), Pending::Vector(0x50));
    apic.acknowledge(0x50);
    for (left, next) in [(0x40, Pending::None), (0, Pending::Vector(0x41))] {
        write(&mut apic, 0x80b, 0);
        assert_eq!((read(&apic, 0x80a), apic.pending(0)), (left, next));
    }
}

#[test]
fn an_eoi_without_service_does_nothing() {
    let mut apic = apic();
    write(&mut apic, 0x83f, 0x40);
    write(&mut apic, 0x80b, 0);
    assert_eq!(apic.pending(0), Pending::Vector(0x40));
}

#[test]
fn ipis_reach_us_when_they_are_for_us() {
    let cases = [
        (0x0000_0000_0000_0040, true),
        (0x0000_0001_0000_0040, false),
        (0xffff_ffff_0000_0040, true),
        (0x0000_0001_0000_0840, true),
        (0x0000_0002_0000_0840, false),
        (0x0001_0001_0000_0840, false),
        (0x0000_0000_0004_4040, true),
        (0x0000_0000_0008_0040, true),
        (0x0000_0000_000c_0040, false),
        // Lowest priority; then NMI, INIT and start-up, which are dropped.
        (0x0000_0000_0000_0140, true),
        (0x0000_0000_0000_0440, false),
        (0x0000_0000_0008_0540, false),
        (0x0000_0000_0008_0640, false),
    ];
    for (icr, arrives) in cases {
        let mut apic = apic();
        write(&mut apic, 0x830, icr);
        assert_eq!(apic.pending(0) == Pending::Vector(0x40), arrives, "{icr:#x}");
        assert_eq!(read(&apic, 0x830), icr);
    }
}

#[test]
fn illegal_vectors_are_reported_once_until_the_status_is_latched() {
    let mut apic = apic();
    write(&mut apic, 0x837, 0xfe);
    write(&mut apic, 0x83f, 5);
    assert_eq!((read(&apic, 0x828), apic.pending(0)), (0, Pending::Vector(0xfe)));
    apic.acknowledge(0xfe);
    write(&mut apic, 0x830, 0x4_000f);
    assert_eq!(read(&apic, 0x827), 0);
    write(&mut apic, 0x828, 0);
    assert_eq!(read(&apic, 0x828), u64::from(ESR_SEND_ILLEGAL));
    write(&mut apic, 0x828, 0);
    assert_eq!(read(&apic, 0x828), 0);
    // The error entry's own vector may be illegal.
    write(&mut apic, 0x837, 3);
    write(&mut apic, 0x83f, 0);
    write(&mut apic, 0x828, 0);
    assert_eq!(
        read(&apic, 0x828),
        u64::from(ESR_SEND_ILLEGAL | ESR_RECEIVE_ILLEGAL)
    );
}

#[test]
fn switching_off_masks_the_lvt_and_holds_what_is_pending() {
    let mut apic = apic();
    write(&mut apic, 0x832, 0x40);
    write(&mut apic, 0x83f, 0x50);
    write(&mut apic, 0x80f, 0xff);
    assert_eq!((read(&apic, 0x832), read(&apic, 0x835)), (0x1_0040, 0x1_0700));
    write(&mut apic, 0x832, 0x41);
    assert_eq!(read(&apic, 0x832), 0x1_0041);
    assert!(!apic.is_extint_open());
    assert_eq!(apic.pending(0), Pending::None);
    write(&mut apic, 0x83f, 0x60);
    write(&mut apic, 0x80f, 0x1ff);
    assert_eq!(apic.pending(0), Pending::Vector(0x50));
}

#[test]
fn the_timer_interrupts_through_its_entry_unless_that_is_masked() {
    let mut apic = apic();
    write(&mut apic, 0x83e, 0b1011);
    write(&mut apic, 0x832, 0x1_00ec);
    write(&mut apic, 0x838, 100);
    assert_eq!(apic.deadline(), NEVER);
    assert_eq!(apic.read(0x839, 100, 0), Ok(50));
    apic.advance(200);
    assert_eq!(
        (apic.pending(0), apic.read(0x839, 200, 0)),
        (Pending::None, Ok(0))
    );
    write(&mut apic, 0x832, 0xec);
    assert_eq!(apic.pending(0), Pending::None);
    write(&mut apic, 0x838, 100);
    assert_eq!(apic.deadline(), 200);
    apic.advance(199);
    assert_eq!(apic.pending(0), Pending::None);
    apic.advance(200);
    assert_eq!(apic.pending(0), Pending::Vector(0xec));
    assert_eq!(apic.deadline(), NEVER);
}

#[test]
fn a_lvt_entry_keeps_its_delivery_status_read_only() {
    let mut apic = apic();
    write(&mut apic, 0x835, 0x1_f7ff);
    assert_eq!(read(&apic, 0x835), 0x1_e7ff);
    assert_eq!(apic.write(0x808, 0x30, 0), Ok(MsrEffect::SetTpr(0x30)));
    assert_eq!(apic.read(0x808, 0, 0x30), Ok(0x30));
}
