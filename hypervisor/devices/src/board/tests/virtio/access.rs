//! Registers through configuration space, for who has not mapped them (virtio 1.2, 4.1.4.9), and what is no access.

use super::{
    BALLOON, Board, Byte, Dword, ENTROPY, Machine, PortEffect, Served, VERSION_1, config, found, set_config,
};
use crate::virtio::testing::{input, output};
use pleat_types::PortSize::{self, Word};

/// Where the capability is in the configuration space of each device.
fn capability(board: &mut Board, device: u32) -> u32 {
    let mut next = config(board, device, 0x34) & 0xff;
    while config(board, device, next) >> 24 != 5 {
        next = config(board, device, next) >> 8 & 0xff;
        assert_ne!(next, 0, "every device has it");
    }
    next
}

/// Says where the next accesses go.
fn aim(board: &mut Board, device: u32, (bar, at, bytes): (u32, u32, u32)) -> u32 {
    let place = capability(board, device);
    for (field, value) in [(4, bar), (8, at), (12, bytes)] {
        let _ = set_config(board, device, place + field, value);
        assert_eq!(config(board, device, place + field), value);
    }
    place + 16
}

fn read(board: &mut Board, device: u32, at: u32, size: PortSize) -> u32 {
    let data = aim(board, device, (0, at, u32::from(size.bytes())));
    config(board, device, data) & size.mask()
}

fn write(board: &mut Board, device: u32, at: u32, size: PortSize, value: u32) -> PortEffect {
    let data = aim(board, device, (0, at, u32::from(size.bytes())));
    set_config(board, device, data, value)
}

#[test]
fn what_is_read_is_what_the_ports_say() {
    for device in 1..=5 {
        let (mut board, _, driver) = found(device);
        for at in 0..0x200u16 {
            for size in [Byte, Word, Dword] {
                if at.is_multiple_of(size.bytes()) {
                    let by_port = input(&mut board, driver.common + at, size);
                    assert_eq!(read(&mut board, device, u32::from(at), size), by_port, "{at:#x}");
                }
            }
        }
        // Also where nothing answers to I/O.
        let _ = set_config(&mut board, device, 4, 0);
        assert_eq!(input(&mut board, driver.common + 0x12, Word), 0xffff);
        assert!(read(&mut board, device, 0x12, Word) < 8, "queues");
    }
}

#[test]
fn a_device_can_be_driven_without_its_ports() {
    let mut machine = Machine::new();
    let status = machine.driver.common + 0x14;
    let set_status = |board: &mut Board, value| write(board, ENTROPY, 0x14, Byte, value);
    let board = &mut machine.board;
    for value in [0, 1, 3] {
        assert_eq!(set_status(board, value), PortEffect::None);
    }
    let _ = write(board, ENTROPY, 8, Dword, 1);
    let _ = write(board, ENTROPY, 0xc, Dword, (VERSION_1 >> 32 & 0xffff_ffff) as u32);
    let _ = set_status(board, 0xb);
    assert_eq!(input(board, status, Byte), 0xb);
    let queue = super::GuestQueue::new(super::QUEUES, 8);
    machine.hands.poke(super::QUEUES, &[0; 0x400]);
    for (at, value) in [
        (0x20, queue.descriptors),
        (0x28, queue.available),
        (0x30, queue.used),
    ] {
        let _ = write(board, ENTROPY, at, Dword, (value & 0xffff_ffff) as u32);
        let _ = write(board, ENTROPY, at + 4, Dword, 0);
    }
    let _ = write(board, ENTROPY, 0x1c, Word, 1);
    let effect = set_status(board, 0xf);
    assert!(effect.wants_service());
    machine.queue = queue;
    assert_eq!(machine.serve(), Served::Idle);
    let head = machine.add(16);
    let effect = write(&mut machine.board, ENTROPY, 0x100, Word, 0);
    assert!(matches!(effect, PortEffect::Notified(_)), "{effect:?}");
    assert_eq!(machine.serve(), Served::Idle);
    assert_eq!(machine.used(), [(head, 16)]);
    // ISR status goes with the read.
    let isr = [0, 1].map(|_| read(&mut machine.board, ENTROPY, 0x40, Byte));
    assert_eq!(isr, [1, 0]);
}

#[test]
fn what_is_no_register_is_memory_and_reaches_nothing() {
    for aimed in [
        (0, 0x14, 0),
        (0, 0x14, 3),
        (0, 0x14, 8),
        (0, 0x14, u32::MAX),
        (0, 0x15, 2),
        (0, 0x16, 4),
        (0, 0x1ff, 4),
        (0, 0x200, 1),
        (0, 0x1_0014, 1),
        (0, u32::MAX, 1),
        (0, 0xffff_fffc, 4),
        (1, 0x14, 1),
        (2, 0x14, 1),
        (5, 0x14, 1),
        (255, 0, 4),
    ] {
        let mut machine = Machine::new();
        assert_eq!(machine.serve(), Served::Idle);
        let data = aim(&mut machine.board, ENTROPY, aimed);
        let before = machine.driver.status(&mut machine.board);
        for value in [0, u32::MAX, 0x80] {
            assert_eq!(
                set_config(&mut machine.board, ENTROPY, data, value),
                PortEffect::None
            );
            assert_eq!(config(&mut machine.board, ENTROPY, data), value, "{aimed:?}");
        }
        assert_eq!(machine.driver.status(&mut machine.board), before, "{aimed:?}");
        machine.fetch();
    }
}

#[test]
fn the_first_bytes_count_whichever_were_written() {
    let (mut board, _, driver) = found(BALLOON);
    let data = aim(&mut board, BALLOON, (0, 0x84, 4));
    let place = 0x8000_0000 | BALLOON << 11 | data;
    let _ = output(&mut board, 0xcf8, Dword, place);
    let _ = output(&mut board, 0xcfc, Dword, 0x0102_0304);
    assert_eq!(input(&mut board, driver.config + 4, Dword), 0x0102_0304);
    // Each write of a part is an access with all that is there then.
    let _ = output(&mut board, 0xcf8, Dword, place);
    let _ = output(&mut board, 0xcfe, Byte, 0x55);
    assert_eq!(input(&mut board, driver.config + 4, Dword), 0x0155_0304);
    // Of a byte, only the first.
    let _ = aim(&mut board, BALLOON, (0, 0x84, 1));
    let _ = output(&mut board, 0xcf8, Dword, place);
    let _ = output(&mut board, 0xcfc, Dword, 0xaabb_ccdd);
    assert_eq!(input(&mut board, driver.config + 4, Dword), 0x0155_03dd);
    // The latch alone is no access.
    let _ = output(&mut board, 0xcf8, Dword, place);
    assert_eq!(input(&mut board, 0xcf8, Dword), place);
}
