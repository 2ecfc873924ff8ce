//! Common configuration: what a driver reads and writes, and in which order it counts.

use pleat_types::PortSize::Word;

use super::{
    BALLOON, Byte, Driver, Dword, ENTROPY, Gpa, NO_VECTOR, PortEffect, QUEUES, VERSION_1, board, bring_up,
    found, output,
};
use crate::Board;
use crate::virtio::testing::input;

fn view(board: &Board, device: u8) -> crate::virtio::FunctionView {
    let mut views = board.virtio_functions();
    views.find(|view| view.device == device).unwrap()
}

#[test]
fn features_are_accepted_if_offered_and_of_version_1() {
    let (mut board, _, driver) = found(BALLOON);
    let offered = driver.offered(&mut board);
    // Statistics, deflate on OOM, page poison, reporting.
    assert_eq!(offered, VERSION_1 | 1 << 1 | 1 << 2 | 1 << 4 | 1 << 5);
    for features in [
        0,
        offered & !VERSION_1,
        offered | 1,
        VERSION_1 | 1 << 29,
        VERSION_1 | 1 << 63,
    ] {
        assert!(!driver.negotiate(&mut board, features), "{features:#x}");
        assert_eq!(driver.start(&mut board), PortEffect::None);
        assert_eq!(driver.status(&mut board), 3);
    }
    for features in [VERSION_1, offered] {
        assert!(driver.negotiate(&mut board, features));
        assert_eq!(view(&board, 1).features, features);
    }
    // What was accepted stays.
    let _ = output(&mut board, driver.common + 8, Dword, 0);
    let _ = output(&mut board, driver.common + 0xc, Dword, 0);
    assert_eq!(
        input(&mut board, driver.common + 0xc, Dword),
        (offered & 0xffff_ffff) as u32
    );
    // There are 64 feature bits.
    let _ = output(&mut board, driver.common, Dword, 2);
    assert_eq!(input(&mut board, driver.common + 4, Dword), 0);
}

#[test]
fn status_bits_come_one_after_the_other_and_go_all_at_once() {
    let (mut board, _, driver) = found(ENTROPY);
    assert!(driver.negotiate(&mut board, VERSION_1));
    assert!(!view(&board, 5).is_driven);
    assert_eq!(driver.start(&mut board), PortEffect::None);
    assert_eq!(driver.status(&mut board), 0xf);
    assert!(view(&board, 5).is_driven);
    let _ = driver.set_status(&mut board, 1);
    assert_eq!(driver.status(&mut board), 0xf);
    let _ = driver.set_status(&mut board, 0x8f);
    assert_eq!(driver.status(&mut board), 0x8f);
    assert!(!view(&board, 5).is_driven);
    let _ = driver.set_status(&mut board, 0);
    assert_eq!((driver.status(&mut board), view(&board, 5).features), (0, 0));
    // A driver cannot set the device's own bit.
    let _ = driver.set_status(&mut board, 0x43);
    assert_eq!(driver.status(&mut board), 3);
}

#[test]
fn queues_are_there_after_the_features() {
    let (mut board, _, driver) = found(ENTROPY);
    let common = driver.common;
    assert_eq!(input(&mut board, common + 0x12, Word), 1);
    let _ = output(&mut board, common + 0x1c, Word, 1);
    assert_eq!(input(&mut board, common + 0x1c, Word), 0);
    assert!(driver.negotiate(&mut board, VERSION_1));
    assert!(driver.set_up_queue(&mut board, 1, QUEUES, NO_VECTOR).is_none());
    assert!(
        driver
            .set_up_queue(&mut board, u16::MAX, QUEUES, NO_VECTOR)
            .is_none()
    );
    assert!(driver.set_up_queue(&mut board, 0, QUEUES, NO_VECTOR).is_some());
}

#[test]
fn a_queue_can_be_smaller_but_not_larger_and_stays_when_enabled() {
    let (mut board, _, driver) = found(BALLOON);
    assert!(driver.negotiate(&mut board, VERSION_1));
    let size = |board: &mut Board, new| {
        let _ = output(board, driver.common + 0x18, Word, new);
        input(board, driver.common + 0x18, Word)
    };
    let largest = input(&mut board, driver.common + 0x18, Word);
    for (new, seen) in [
        (0, largest),
        (3, largest),
        (2 * largest, largest),
        (2, 2),
        (largest, largest),
        (1, 1),
    ] {
        assert_eq!(size(&mut board, new), seen, "{new}");
    }
    let _ = output(&mut board, driver.common + 0x24, Dword, 0x1234_5678);
    let _ = output(&mut board, driver.common + 0x1c, Word, 1);
    assert_eq!(size(&mut board, 2), 1);
    for at in [0x20, 0x24, 0x28, 0x2c, 0x30, 0x34] {
        let before = input(&mut board, driver.common + at, Dword);
        let _ = output(&mut board, driver.common + at, Dword, !before);
        assert_eq!(input(&mut board, driver.common + at, Dword), before);
    }
    assert_eq!(input(&mut board, driver.common + 0x24, Dword), 0x1234_5678);
    // Only a reset takes it back.
    let _ = output(&mut board, driver.common + 0x1c, Word, 0);
    assert_eq!(input(&mut board, driver.common + 0x1c, Word), 1);
    let _ = driver.set_status(&mut board, 0);
    assert_eq!(input(&mut board, driver.common + 0x1c, Word), 0);
    assert_eq!(input(&mut board, driver.common + 0x18, Word), largest);
}

#[test]
fn every_width_reads_the_same_bytes_and_only_whole_registers_are_written() {
    let (mut board, _, driver) = found(BALLOON);
    let _ = bring_up(&mut board, driver, 3);
    let common = driver.common;
    for at in (0..56u16).step_by(4) {
        let whole = input(&mut board, common + at, Dword);
        let halves = [0, 2].map(|n| input(&mut board, common + at + n, Word));
        let bytes = [0, 1, 2, 3].map(|n| input(&mut board, common + at + n, Byte));
        assert_eq!(halves[1] << 16 | halves[0], whole);
        assert_eq!(bytes[3] << 24 | bytes[2] << 16 | bytes[1] << 8 | bytes[0], whole);
    }
    // Across two registers, and behind the last one.
    let crossing = input(&mut board, common + 0x1a, Dword);
    assert_eq!(crossing, 1 << 16 | 3);
    assert_eq!(input(&mut board, common + 56, Dword), 0);
    let before = input(&mut board, common + 0x14, Dword);
    for (at, size) in [
        (0x14, Word),
        (0x14, Dword),
        (0x15, Byte),
        (0x16, Byte),
        (0x10, Dword),
        (0x11, Word),
    ] {
        let _ = output(&mut board, common + at, size, 0);
        assert_eq!(input(&mut board, common + 0x14, Dword), before);
    }
}

#[test]
fn vectors_that_do_not_exist_are_refused() {
    let (mut board, _, driver) = found(BALLOON);
    assert!(driver.negotiate(&mut board, VERSION_1));
    for vector in [8, 9, 0x100, 0xfffe] {
        assert_eq!(driver.set_config_vector(&mut board, vector), u32::from(NO_VECTOR));
    }
    assert_eq!(driver.set_config_vector(&mut board, 7), 7);
    let _ = output(&mut board, driver.common + 0x1a, Word, 8);
    assert_eq!(
        input(&mut board, driver.common + 0x1a, Word),
        u32::from(NO_VECTOR)
    );
}

/// `vp_modern_get_queue_notify_off`: each queue at an address of its own.
#[test]
fn every_queue_is_notified_at_its_own_address() {
    let (mut board, _, driver) = found(BALLOON);
    assert!(driver.negotiate(&mut board, VERSION_1));
    for index in 0..2 {
        let base = Gpa::new(0x1000 + 0x2000 * u64::from(index));
        assert!(driver.set_up_queue(&mut board, index, base, NO_VECTOR).is_some());
        assert_eq!(input(&mut board, driver.common + 0x1e, Word), u32::from(index));
        // Not before DRIVER_OK.
        assert_eq!(driver.notify(&mut board, index), PortEffect::None);
    }
    let _ = driver.start(&mut board);
    for (index, is_there) in [(0, true), (1, true), (2, false), (63, false)] {
        let effect = output(&mut board, driver.notify + 4 * index, Word, u32::from(index));
        let PortEffect::Notified(queue) = effect else {
            assert!(!is_there && effect == PortEffect::None);
            continue;
        };
        assert!(is_there && board.is_waiting(queue));
    }
    let seen = view(&board, 1);
    assert_eq!((seen.notifications, seen.queues), (2, 2));
}

#[test]
fn the_generation_moves_with_the_configuration() {
    let mut board = board(super::ALL);
    let driver = Driver::find(&mut board, BALLOON).unwrap();
    let generation = |board: &mut Board| input(board, driver.common + 0x15, Byte);
    let before = generation(&mut board);
    board.set_balloon_target(0);
    assert_eq!(generation(&mut board), before);
    board.set_balloon_target(300);
    assert_ne!(generation(&mut board), before);
    assert_eq!(input(&mut board, driver.config, Dword), 300);
    assert_eq!(driver.take_isr(&mut board), 0, "nobody drives it yet");
    // The guest's own register, in the width that Linux uses and in parts.
    let _ = output(&mut board, driver.config + 4, Dword, 0x0102_0304);
    assert_eq!(board.balloon().unwrap().actual_claimed(), 0x0102_0304);
    let _ = output(&mut board, driver.config + 6, Byte, 0xff);
    assert_eq!(input(&mut board, driver.config + 4, Dword), 0x01ff_0304);
}
