//! What Linux finds on the bus.

use super::{ALL, BALLOON, Board, Driver, Dword, Gpa, PortEffect, board, config, output, set_config};
use crate::virtio::DeviceSet;
use crate::virtio::testing::input;

#[test]
fn each_kind_has_its_place_and_others_read_ones() {
    let mut full = board(ALL);
    let seen: [_; 5] = [1, 2, 3, 4, 5].map(|device| {
        let (id, class) = (config(&mut full, device, 0), config(&mut full, device, 8));
        let (subsystem, wire) = (config(&mut full, device, 0x2c), config(&mut full, device, 0x3c));
        (id, class, subsystem, wire)
    });
    let virtio = |id: u32, class: u32, line: u32| {
        (
            (0x1040 + id) << 16 | 0x1af4,
            class << 16 | 1,
            (0x40 + id) << 16 | 0x1af4,
            0x100 | line,
        )
    };
    assert_eq!(
        seen,
        [
            virtio(5, 0x00ff, 5),
            virtio(24, 0x00ff, 10),
            virtio(3, 0x0780, 11),
            virtio(2, 0x0100, 12),
            virtio(4, 0x00ff, 15),
        ]
    );
    let mut none = board(DeviceSet::NONE);
    for device in 1..32 {
        assert_eq!(config(&mut none, device, 0), u32::MAX);
        assert_eq!(config(&mut full, device, 0) == u32::MAX, device > 5);
    }
    // Other functions of the same devices.
    assert_eq!(config(&mut full, 1, 0x100), u32::MAX);
    assert_eq!(none.virtio_functions().count(), 0);
    let names: std::vec::Vec<_> = full
        .virtio_functions()
        .map(|view| (view.name, view.device))
        .collect();
    let expected = [
        ("balloon", 1),
        ("mem", 2),
        ("console", 3),
        ("block", 4),
        ("entropy", 5),
    ];
    assert_eq!(names, expected);
}

#[test]
fn registers_are_found_by_capabilities() {
    let mut board = board(ALL);
    for device in 1..=5u32 {
        let found = Driver::find(&mut board, device).unwrap();
        let base = u16::try_from(0x1000 + 0x200 * (device - 1)).unwrap();
        assert_eq!(
            (
                found.common,
                found.isr,
                found.config,
                found.notify,
                found.notify_step
            ),
            (base, base + 0x40, base + 0x80, base + 0x100, 4)
        );
        assert_eq!(found.table, Gpa::new(0xc000_0000 + 256 * u64::from(device - 1)));
        // Status: capabilities. Message control: eight entries.
        assert_eq!(config(&mut board, device, 4) >> 16, 0x10);
        assert_eq!(config(&mut board, device, found.msix) >> 16, 7);
    }
}

/// `pci_find_next_cap_ttl` and `virtio_pci_find_capability`: lengths of the structures, and a list that ends.
#[test]
fn capabilities_say_how_long_they_are() {
    let mut board = board(ALL);
    let mut next = config(&mut board, BALLOON, 0x34) & 0xff;
    let mut seen = std::vec::Vec::new();
    while next != 0 {
        assert!(seen.len() < 48 && next.is_multiple_of(4) && next >= 0x40);
        let head = config(&mut board, BALLOON, next);
        let structure = (
            config(&mut board, BALLOON, next + 8),
            config(&mut board, BALLOON, next + 12),
        );
        seen.push((head & 0xff, head >> 16, structure));
        next = head >> 8 & 0xff;
    }
    assert_eq!(
        seen,
        [
            (0x11, 7, (0x81, 0)),
            (9, 0x0110, (0, 56)),
            (9, 0x0310, (0x40, 1)),
            (9, 0x0410, (0x80, 0x80)),
            (9, 0x0214, (0x100, 0x100)),
            (9, 0x0514, (0, 0)),
        ]
    );
}

/// `__pci_read_base`, and `pci_assign_resource`.
#[test]
fn bars_are_sized_and_moved() {
    let mut board = board(ALL);
    for (at, before, sized) in [
        (0x10, 0x1001, 0xfe01),
        (0x14, 0xc000_0000, 0xffff_ff00),
        (0x18, 0, 0),
    ] {
        assert_eq!(config(&mut board, BALLOON, at), before);
        assert_eq!(set_config(&mut board, BALLOON, at, u32::MAX), PortEffect::None);
        assert_eq!(config(&mut board, BALLOON, at), sized);
        let _ = set_config(&mut board, BALLOON, at, before);
        assert_eq!(config(&mut board, BALLOON, at), before);
    }
    let features = |board: &mut Board, port| {
        let _ = output(board, port, Dword, 1);
        input(board, port + 4, Dword)
    };
    // Until command.IO is on nothing answers.
    assert_eq!(features(&mut board, 0x1000), u32::MAX);
    assert_eq!(board.unknown_ports(), 8);
    let _ = set_config(&mut board, BALLOON, 4, 1);
    assert_eq!(features(&mut board, 0x1000), 1);
    let _ = set_config(&mut board, BALLOON, 0x10, 0xc400);
    assert_eq!(features(&mut board, 0x1000), u32::MAX);
    assert_eq!(features(&mut board, 0xc400), 1);
    let _ = set_config(&mut board, BALLOON, 4, 0);
    assert_eq!(features(&mut board, 0xc400), u32::MAX);
}

#[test]
fn no_bar_hides_the_devices_of_the_isa_bus() {
    let mut board = board(ALL);
    let _ = set_config(&mut board, BALLOON, 4, 7);
    for base in [0u32, 0x200, 0x400, 0xc00, 0xe00] {
        let _ = set_config(&mut board, BALLOON, 0x10, base);
        let port = u16::try_from(base).unwrap();
        assert_eq!(input(&mut board, port | 0x14, Dword), u32::MAX, "{base:#x}");
    }
    let _ = set_config(&mut board, BALLOON, 0x10, 0x200);
    // The UART's line status, at 0x3fd.
    assert_eq!(input(&mut board, 0x3fd, super::Byte), 0x60);
    assert_eq!(input(&mut board, 0x21, super::Byte), 0xff);
}

#[test]
fn the_wires_of_devices_are_levels() {
    let mut full = board(ALL);
    let [low, high] = [0x4d0, 0x4d1].map(|port| input(&mut full, port, super::Byte));
    assert_eq!((low, high), (1 << 5, 1 << 2 | 1 << 3 | 1 << 4 | 1 << 7));
    let mut none = board(DeviceSet::NONE);
    assert_eq!(input(&mut none, 0x4d0, super::Byte), 0);
}
