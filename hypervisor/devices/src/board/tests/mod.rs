//! The board as a whole: wiring, time, and what Linux does to find and use its devices.

use pleat_types::PortSize::Byte;
use pleat_types::Tsc;

use super::{Board, BoardConfig, Pending, PortEffect, TscRatio};
use crate::virtio::DeviceSet;
use crate::{GuestFault, MsrEffect};

mod ports;
mod virtio;

const TSC_HZ: u64 = 1_000_000_000;
const DEADLINE: u32 = 0x6e0;
const TSC: u32 = 0x10;
const TSC_ADJUST: u32 = 0x3b;
const EOI: u32 = 0x80b;
const LVT_TIMER: u32 = 0x832;

fn board() -> Board {
    Board::new(&BoardConfig {
        tsc_hz: TSC_HZ,
        epoch: 1_709_251_198,
        start: Tsc(1000),
        devices: DeviceSet::NONE,
    })
}

fn out(board: &mut Board, port: u16, value: u32) {
    assert_eq!(
        board.port_write(port, Byte, value, Tsc(1000)),
        PortEffect::None,
        "{port:#x}"
    );
}

/// Serves what is pending and returns its vector.
fn take(board: &mut Board, tpr: u8) -> Option<u8> {
    match board.pending_interrupt(tpr) {
        Pending::Vector(vector) => {
            board.acknowledge(vector);
            Some(vector)
        }
        Pending::None | Pending::MaskedByTpr(_) => None,
    }
}

/// Vectors 0x30 and up, as Linux has it; `mask` for the master.
fn init_pic(board: &mut Board, mask: u32) {
    for (port, value) in [(0x20, 0x11), (0x21, 0x30), (0x21, 4), (0x21, 1), (0x21, mask)] {
        out(board, port, value);
    }
    for (port, value) in [(0xa0, 0x11), (0xa1, 0x38), (0xa1, 2), (0xa1, 1), (0xa1, 0xff)] {
        out(board, port, value);
    }
}

#[test]
fn tsc_deadline_arm_fire_and_eoi() {
    let mut board = board();
    assert_eq!(
        board.write_msr(LVT_TIMER, 0x4_00ec, Tsc(1000)),
        Ok(MsrEffect::Timer)
    );
    for round in 1..4u64 {
        let due = Tsc(round * 10_000);
        assert_eq!(
            board.write_msr(DEADLINE, due.0, Tsc(due.0 - 5000)),
            Ok(MsrEffect::Timer)
        );
        assert_eq!(board.read_msr(DEADLINE, Tsc(due.0 - 4000), 0), Ok(due.0));
        assert_eq!(board.next_deadline(), Some(due));
        board.advance(Tsc(due.0 - 1));
        assert_eq!(take(&mut board, 0), None);
        board.advance(due);
        assert_eq!((board.next_deadline(), take(&mut board, 0)), (None, Some(0xec)));
        assert_eq!(board.read_msr(DEADLINE, due, 0), Ok(0));
        assert_eq!(board.write_msr(EOI, 0, due), Ok(MsrEffect::Timer));
        assert_eq!(take(&mut board, 0), None);
    }
    // A deadline in the past fires at once.
    assert_eq!(board.write_msr(DEADLINE, 1, Tsc(50_000)), Ok(MsrEffect::Timer));
    assert_eq!((board.next_deadline(), take(&mut board, 0)), (None, Some(0xec)));
}

#[test]
fn a_deadline_that_never_comes_is_none() {
    let mut board = board();
    assert_eq!(
        board.write_msr(LVT_TIMER, 0x4_00ec, Tsc(1000)),
        Ok(MsrEffect::Timer)
    );
    assert_eq!(
        board.write_msr(DEADLINE, u64::MAX, Tsc(1000)),
        Ok(MsrEffect::Timer)
    );
    assert_eq!(board.next_deadline(), None);
    assert_eq!(board.read_msr(DEADLINE, Tsc(1000), 0), Ok(u64::MAX));
}

#[test]
fn the_tsc_moves_under_the_deadline_and_nothing_else() {
    let mut board = board();
    assert_eq!(
        board.write_msr(LVT_TIMER, 0x4_00ec, Tsc(1000)),
        Ok(MsrEffect::Timer)
    );
    assert_eq!(board.write_msr(DEADLINE, 11_000, Tsc(1000)), Ok(MsrEffect::Timer));
    // Back by 500: the deadline is 10,500 ticks ahead.
    assert_eq!(
        board.write_msr(TSC, 500, Tsc(1000)),
        Ok(MsrEffect::TscMoved(0u64.wrapping_sub(500)))
    );
    assert_eq!(board.next_deadline(), Some(Tsc(11_000)));
    assert_eq!(
        board.read_msr(TSC_ADJUST, Tsc(500), 0),
        Ok(0u64.wrapping_sub(500))
    );
    board.advance(Tsc(10_999));
    assert_eq!(take(&mut board, 0), None);
    // To 7 below the wrap: it is long past.
    let top = u64::MAX - 6;
    assert_eq!(
        board.write_msr(TSC, top, Tsc(10_999)),
        Ok(MsrEffect::TscMoved(top - 10_999))
    );
    board.advance(Tsc(top));
    assert_eq!(take(&mut board, 0), Some(0xec));
    // Across the wrap the wall clock goes on.
    out(&mut board, 0x70, 0);
    let second_later = Tsc(top.wrapping_add(TSC_HZ));
    assert_eq!(board.port_read(0x71, Byte, second_later), 0x59);
    assert_eq!(
        board.write_msr(TSC_ADJUST, 0, second_later),
        Ok(MsrEffect::TscMoved(11_499u64.wrapping_sub(top)))
    );
    assert_eq!(board.write_msr(TSC_ADJUST, 0, second_later), Ok(MsrEffect::None));
}

#[test]
fn the_apic_timer_ticks_at_the_crystal_of_leaf_0x15() {
    let mut board = board();
    let ratio = TscRatio::new(TSC_HZ);
    let crystal = u64::from(ratio.crystal_hz);
    for (index, value) in [(0x83e, 0b1011), (LVT_TIMER, 0x2_00ec), (0x838, crystal / 100)] {
        assert_eq!(board.write_msr(index, value, Tsc(1000)), Ok(MsrEffect::Timer));
    }
    for tick in 1..=100 {
        let due = board.next_deadline().unwrap();
        assert_eq!(due, Tsc(1000 + tick * TSC_HZ / 100));
        board.advance(due);
        assert_eq!(take(&mut board, 0), Some(0xec));
        assert_eq!(board.write_msr(EOI, 0, due), Ok(MsrEffect::Timer));
    }
}

#[test]
fn the_msrs_that_linux_needs_exist_and_the_others_fault() {
    let mut board = board();
    let now = Tsc(5000);
    for (index, value) in [
        (0x1b, 0xfee0_0d00),
        (0x1a0, 0x1801),
        (0x8b, 1 << 32),
        (TSC, 5000),
        (TSC_ADJUST, 0),
    ] {
        assert_eq!(board.read_msr(index, now, 0), Ok(value), "{index:#x}");
    }
    assert_eq!(board.write_msr(0x1b, 0xfee0_0d00, now), Ok(MsrEffect::None));
    assert_eq!(board.write_msr(0x8b, 0, now), Ok(MsrEffect::None));
    assert_eq!(
        board.write_msr(0x1b, 0xfee0_0900, now),
        Err(GuestFault::GeneralProtection)
    );
    for index in [
        0,
        0x34,
        0x3a,
        0x4e,
        0xce,
        0xfe,
        0x140,
        0x200,
        0x2ff,
        0x64e,
        0x7ff,
        0x900,
        0xc001_1029,
    ] {
        assert_eq!(
            board.read_msr(index, now, 0),
            Err(GuestFault::GeneralProtection),
            "{index:#x}"
        );
        assert_eq!(
            board.write_msr(index, 0, now),
            Err(GuestFault::GeneralProtection),
            "{index:#x}"
        );
    }
}

/// The user types; the UART interrupts through the 8259 and LVT0 = ExtINT, beside the local APIC.
#[test]
fn a_key_press_reaches_the_guest_through_extint() {
    let mut board = board();
    init_pic(&mut board, 0xeb);
    for (offset, value) in [(2, 0x81), (4, 0x0b), (1, 0x05)] {
        out(&mut board, 0x3f8 + offset, value);
    }
    assert_eq!(board.write_msr(0x83f, 0xf0, Tsc(1000)), Ok(MsrEffect::Timer));
    assert_eq!(board.receive(b'l'), Ok(()));
    // ExtINT goes first and knows no priority.
    assert_eq!(board.pending_interrupt(0xff), Pending::Vector(0x34));
    assert_eq!(take(&mut board, 0xff), Some(0x34));
    assert_eq!(board.pending_interrupt(0xff), Pending::MaskedByTpr(0xf0));
    assert_eq!(board.port_read(0x3fa, Byte, Tsc(1000)), 0xcc);
    assert_eq!(board.port_read(0x3f8, Byte, Tsc(1000)), u32::from(b'l'));
    out(&mut board, 0x20, 0x64);
    assert_eq!(board.pending_interrupt(0xff), Pending::MaskedByTpr(0xf0));
    // With LVT0 masked the request waits at the door.
    assert_eq!(board.write_msr(0x835, 0x1_0700, Tsc(1000)), Ok(MsrEffect::Timer));
    assert_eq!(board.receive(b's'), Ok(()));
    assert_eq!(take(&mut board, 0xff), None);
    assert_eq!(board.write_msr(0x835, 0x700, Tsc(1000)), Ok(MsrEffect::Timer));
    assert_eq!(take(&mut board, 0xff), Some(0x34));
}

#[test]
fn a_vector_that_both_controllers_offer_is_taken_from_the_8259_first() {
    let mut board = board();
    init_pic(&mut board, 0xeb);
    for (offset, value) in [(4, 0x0b), (1, 0x01)] {
        out(&mut board, 0x3f8 + offset, value);
    }
    assert_eq!(board.write_msr(0x83f, 0x34, Tsc(1000)), Ok(MsrEffect::Timer));
    assert_eq!(board.receive(b'x'), Ok(()));
    assert_eq!(
        (take(&mut board, 0), take(&mut board, 0), take(&mut board, 0)),
        (Some(0x34), Some(0x34), None)
    );
    assert_eq!(board.read_msr(0x811, Tsc(1000), 0), Ok(1 << 0x14));
}

/// User output by interrupt: 16 bytes, wait for the interrupt, again.
#[test]
fn interrupt_driven_output_keeps_going() {
    let mut board = board();
    init_pic(&mut board, 0xeb);
    for (offset, value) in [(2, 0x81), (4, 0x0b), (1, 0x07)] {
        out(&mut board, 0x3f8 + offset, value);
    }
    for _ in 0..10 {
        assert_eq!(take(&mut board, 0), Some(0x34));
        assert_eq!(board.port_read(0x3fa, Byte, Tsc(1000)), 0xc2);
        for _ in 0..16 {
            out(&mut board, 0x3f8, u32::from(b'x'));
        }
        out(&mut board, 0x20, 0x64);
    }
    assert_eq!((board.output().len(), board.lost_output()), (160, 0));
    board.clear_output();
    assert_eq!(board.port_write(0x3f8, Byte, 10, Tsc(0)), PortEffect::OutputReady);
    assert_eq!(board.output(), b"\n");
}

#[test]
fn the_pit_ticks_through_irq_0_and_sleeps_when_nobody_listens() {
    let mut board = board();
    init_pic(&mut board, 0xfe);
    for (port, value) in [(0x43, 0x34), (0x40, 0x9c), (0x40, 0x2e)] {
        out(&mut board, port, value);
    }
    let mut now = Tsc(1000);
    // Setting mode 2 raised the output.
    assert_eq!(take(&mut board, 0), Some(0x30));
    for _ in 0..100 {
        now = board.next_deadline().unwrap();
        board.advance(now);
        out(&mut board, 0x20, 0x60);
        assert_eq!(take(&mut board, 0), Some(0x30));
    }
    // 100 periods of 11,932 clocks are 1.000015 s.
    assert_eq!((now.0 - 1000) / 1_000_000, 1000);
    let _ = board.port_write(0x21, Byte, 0xff, now);
    assert_eq!(board.next_deadline(), None);
}

/// A handler that writes without reading IIR gets its interrupt all the same.
#[test]
fn each_byte_written_is_an_edge() {
    let mut board = board();
    init_pic(&mut board, 0xeb);
    for (offset, value) in [(2, 0x81), (4, 0x0b), (1, 0x02)] {
        out(&mut board, 0x3f8 + offset, value);
    }
    for _ in 0..3 {
        assert_eq!(take(&mut board, 0), Some(0x34));
        out(&mut board, 0x20, 0x64);
        assert_eq!(take(&mut board, 0), None);
        out(&mut board, 0x3f8, u32::from(b'x'));
    }
}

#[test]
fn the_8259s_know_what_the_pit_did_when_they_are_looked_at() {
    let mut board = board();
    init_pic(&mut board, 0xff);
    for (port, value) in [(0x43, 0x30), (0x40, 0x64), (0x40, 0)] {
        out(&mut board, port, value);
    }
    // 100 clocks are 83.8 microseconds. Nobody called advance.
    assert_eq!(board.port_read(0x20, Byte, Tsc(80_000)), 0);
    assert_eq!(board.port_read(0x20, Byte, Tsc(90_000)), 1);
    for (port, value) in [(0x40, 0x64), (0x40, 0)] {
        assert_eq!(
            board.port_write(port, Byte, value, Tsc(100_000)),
            PortEffect::None
        );
    }
    assert_eq!(board.port_write(0x21, Byte, 0xfe, Tsc(190_000)), PortEffect::None);
    assert_eq!(take(&mut board, 0), Some(0x30));
}

#[test]
fn the_pit_wakes_nobody_through_a_masked_lvt0() {
    let mut board = board();
    init_pic(&mut board, 0xfe);
    for (port, value) in [(0x43, 0x30), (0x40, 0x64), (0x40, 0)] {
        out(&mut board, port, value);
    }
    assert!(board.next_deadline().is_some());
    assert_eq!(board.write_msr(0x835, 0x1_0700, Tsc(1000)), Ok(MsrEffect::Timer));
    assert_eq!(board.next_deadline(), None);
}

#[test]
fn the_deadline_msr_does_nothing_in_another_mode() {
    let mut board = board();
    assert_eq!(board.write_msr(LVT_TIMER, 0xec, Tsc(1000)), Ok(MsrEffect::Timer));
    assert_eq!(board.write_msr(DEADLINE, 5000, Tsc(1000)), Ok(MsrEffect::Timer));
    assert_eq!(
        (board.read_msr(DEADLINE, Tsc(1000), 0), board.next_deadline()),
        (Ok(0), None)
    );
}

#[test]
fn only_timers_that_get_through_wake() {
    let mut board = board();
    assert_eq!(board.next_wake_up(0), None);
    let _ = board.write_msr(LVT_TIMER, 0x4_00ec, Tsc(1000)).unwrap();
    let _ = board.write_msr(DEADLINE, 9000, Tsc(1000)).unwrap();
    assert_eq!(board.next_wake_up(0xd0), Some(Tsc(9000)));
    assert_eq!(board.next_wake_up(0xe0), None, "its priority class is masked");
    board.advance(Tsc(9000));
    assert_eq!(take(&mut board, 0), Some(0xec));
    let _ = board.write_msr(DEADLINE, 12_000, Tsc(9000)).unwrap();
    assert_eq!(board.next_deadline(), Some(Tsc(12_000)));
    assert_eq!(board.next_wake_up(0), None, "the last one is in service");
    // The PIT through the 8259 knows no task priority.
    init_pic(&mut board, 0xfe);
    for (port, value) in [(0x43, 0x34), (0x40, 0xff), (0x40, 0xff)] {
        out(&mut board, port, value);
    }
    let due = board.next_wake_up(0xf0).unwrap();
    assert!(due > Tsc(12_000));
    board.advance(due);
    assert_eq!(take(&mut board, 0xf0), Some(0x30));
    assert_eq!(board.next_wake_up(0), None, "both are in service");
    let _ = board.write_msr(EOI, 0, due).unwrap();
    let _ = board.write_msr(DEADLINE, due.0 + 5000, due).unwrap();
    assert_eq!(board.next_wake_up(0), Some(Tsc(due.0 + 5000)));
    out(&mut board, 0x20, 0x20);
    assert!(board.next_wake_up(0xf0).unwrap() > due);
}
