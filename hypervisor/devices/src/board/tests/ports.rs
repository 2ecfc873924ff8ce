//! Ports without a device, wide accesses, resets and the clock.

use pleat_types::PortSize::{Byte, Dword, Word};
use pleat_types::Tsc;

use super::{PortEffect, TSC_HZ, board, out};

#[test]
fn absent_ports_read_ones_and_are_counted() {
    let mut board = board();
    let now = Tsc(1000);
    for (port, size) in [(0x2f8, Byte), (0x1000, Word), (0xffff, Dword)] {
        assert_eq!(board.port_read(port, size, now), size.mask());
    }
    assert_eq!(board.unknown_ports(), 1 + 2 + 4);
    // No keyboard controller, and delays: known not to be there.
    for (port, value) in [(0x60, 0xff), (0x64, 0xfd), (0x80, 0xff), (0xed, 0xff)] {
        assert_eq!(board.port_read(port, Byte, now), value);
        out(&mut board, port, 0);
    }
    assert_eq!(board.unknown_ports(), 7);
    out(&mut board, 0x92, 1);
    assert_eq!(board.unknown_ports(), 8);
}

#[test]
fn wide_accesses_are_split_into_bytes() {
    let mut board = board();
    let now = Tsc(1000);
    // Scratch is the highest register; behind it nothing answers.
    assert_eq!(board.port_write(0x3fe, Dword, 0x0000_5a00, now), PortEffect::None);
    assert_eq!(board.port_read(0x3fe, Dword, now), 0xffff_5ab0);
    assert_eq!(board.port_write(0x70, Word, 0x4240, now), PortEffect::None);
    assert_eq!(board.port_read(0x70, Word, now), 0x4240);
    assert_eq!(
        board.port_write(0x3f8, Word, 0x000a, now),
        PortEffect::OutputReady
    );
}

#[test]
fn resets_are_edges_and_commands() {
    let mut board = board();
    let now = Tsc(1000);
    assert_eq!(board.port_write(0x64, Byte, 0xfe, now), PortEffect::Reboot);
    out(&mut board, 0x64, 0xd1);
    // BOOT_CF9_SAFE.
    assert_eq!(board.port_read(0xcf9, Byte, now), 0);
    out(&mut board, 0xcf9, 2);
    assert_eq!(board.port_write(0xcf9, Byte, 6, now), PortEffect::Reboot);
    out(&mut board, 0xcf9, 6);
    assert_eq!(board.port_read(0xcf9, Byte, now), 6);
    // A dword to the address latch is not a reset.
    assert_eq!(board.port_write(0xcf8, Dword, 0x8000_0600, now), PortEffect::None);
}

#[test]
fn the_clock_shows_the_epoch_plus_guest_time() {
    let mut board = board();
    let mut read = |index: u32, seconds: u64| {
        out(&mut board, 0x70, index);
        board.port_read(0x71, Byte, Tsc(1000 + seconds * TSC_HZ))
    };
    // 2024-02-29 23:59:58, and 3 seconds later.
    assert_eq!(
        [9, 8, 7, 4, 2, 0].map(|index| read(index, 0)),
        [0x24, 2, 0x29, 0x23, 0x59, 0x58]
    );
    assert_eq!(
        [9, 8, 7, 4, 2, 0].map(|index| read(index, 3)),
        [0x24, 3, 0x01, 0, 0, 0x01]
    );
}

#[test]
fn a_time_before_the_start_is_the_start() {
    let mut board = board();
    out(&mut board, 0x70, 0);
    assert_eq!(board.port_read(0x71, Byte, Tsc(0)), 0x58);
    board.advance(Tsc(0));
    assert_eq!(board.next_deadline(), None);
}
