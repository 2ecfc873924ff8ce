//! What becomes of guests that break the rules, of hosts without memory, and of those who share the board with them.

use super::{
    BALLOON, BUFFER, Gpa, Machine, PortEffect, QUEUES, Served, VERSION_1, bring_up, config, found, set_config,
};
use crate::virtio::testing::RawDescriptor;
use crate::virtio::{BalloonSetup, DeviceSet, Direction, PortClosed};
use crate::{ConsoleFull, board};

const LOOP: RawDescriptor = RawDescriptor {
    at: 0,
    bytes: 0,
    flags: 1,
    next: 0,
};

#[test]
fn a_broken_rule_stops_that_device_until_a_reset() {
    let mut machine = Machine::new();
    machine.fetch();
    let _ = machine.driver.take_isr(&mut machine.board);
    machine.queue.set_descriptor(&mut machine.hands, 0, LOOP);
    machine.queue.offer(&mut machine.hands, 0);
    assert!(machine.notify().wants_service());
    assert_eq!(machine.serve(), Served::Idle);
    let why = Some("a chain of descriptors without an end");
    assert_eq!(machine.needs_reset(), why);
    assert_eq!(machine.driver.status(&mut machine.board), 0x4f);
    assert_eq!(machine.driver.take_isr(&mut machine.board), 2);
    // Nothing more is done for it.
    machine.hands.accesses.clear();
    assert_eq!(machine.notify(), PortEffect::None);
    assert!(!machine.board.has_device_work());
    assert_eq!(machine.serve(), Served::Idle);
    assert_eq!(machine.hands.accesses, []);
    // A driver cannot take the bit away but by a reset.
    let _ = machine.driver.set_status(&mut machine.board, 0xf);
    assert_eq!(machine.driver.status(&mut machine.board), 0x4f);
    machine.queue = bring_up(&mut machine.board, machine.driver, super::NO_VECTOR);
    machine.hands.ram.fill(0);
    assert_eq!(machine.needs_reset(), None);
    assert_eq!(machine.serve(), Served::Idle);
    machine.fetch();
}

#[test]
fn other_devices_go_on() {
    let mut machine = Machine::new();
    let balloon = super::Driver::find(&mut machine.board, BALLOON).unwrap();
    assert!(balloon.negotiate(&mut machine.board, VERSION_1));
    let base = Gpa::new(0x4000);
    let queue = balloon
        .set_up_queue(&mut machine.board, 0, base, super::NO_VECTOR)
        .unwrap();
    assert!(balloon.start(&mut machine.board).wants_service());
    queue.set_available_index(&mut machine.hands, u16::MAX);
    machine.fetch();
    assert_eq!(balloon.status(&mut machine.board), 0x4f);
    assert_eq!(balloon.take_isr(&mut machine.board), 2);
    assert_eq!(machine.needs_reset(), None);
    machine.fetch();
}

#[test]
fn without_host_memory_the_work_waits() {
    let mut machine = Machine::new();
    assert_eq!(machine.serve(), Served::Idle);
    let head = machine.add(16);
    let _ = machine.notify();
    machine.hands.short.make_writable = 3;
    for _ in 0..3 {
        assert_eq!(machine.serve(), Served::Stalled);
        assert!(machine.board.has_device_work());
        assert_eq!(machine.used(), []);
        assert_eq!(machine.driver.take_isr(&mut machine.board), 0);
    }
    assert_eq!(machine.serve(), Served::Idle);
    assert_eq!(machine.used(), [(head, 16)]);
    assert_eq!(machine.driver.take_isr(&mut machine.board), 1);
}

#[test]
fn buffers_from_before_driver_ok_are_served_after_it() {
    let (mut board, mut hands, driver) = found(5);
    assert!(driver.negotiate(&mut board, VERSION_1));
    let mut queue = driver
        .set_up_queue(&mut board, 0, QUEUES, super::NO_VECTOR)
        .unwrap();
    let head = queue.add(&mut hands, &[(BUFFER, 8, Direction::ToGuest)]);
    assert_eq!(driver.notify(&mut board, 0), PortEffect::None);
    assert!(!board.has_device_work());
    assert_eq!(board.serve(&mut hands), Served::Idle);
    assert_eq!(hands.accesses, []);
    assert!(driver.start(&mut board).wants_service());
    assert_eq!(board.serve(&mut hands), Served::Idle);
    assert_eq!(queue.used(&hands), [(head, 8)]);
}

#[test]
fn a_device_that_is_no_bus_master_touches_no_memory() {
    let mut machine = Machine::new();
    assert_eq!(machine.serve(), Served::Idle);
    let _ = set_config(&mut machine.board, 5, 4, 3);
    machine.hands.accesses.clear();
    let head = machine.add(16);
    assert_eq!(machine.notify(), PortEffect::None);
    assert_eq!(machine.serve(), Served::Idle);
    assert_eq!(machine.hands.accesses, []);
    // Nor does another register of it change that.
    assert_eq!(set_config(&mut machine.board, 5, 0x3c, 9), PortEffect::None);
    assert!(!machine.board.has_device_work());
    // It has not forgotten.
    assert!(set_config(&mut machine.board, 5, 4, 7).wants_service());
    assert_eq!(machine.serve(), Served::Idle);
    assert_eq!(machine.used(), [(head, 16)]);
    assert_eq!(config(&mut machine.board, 5, 4) & 0xffff, 7);
}

#[test]
fn what_is_not_there_is_not_told() {
    let mut none = super::board(DeviceSet::NONE);
    none.set_balloon_target(5);
    none.ask_statistics();
    none.set_requested_memory(1 << 30);
    assert_eq!(none.receive_console(b'x'), Err(ConsoleFull));
    assert_eq!(none.tell_pressure(b"pressure none\n"), Err(PortClosed));
    assert!(!none.has_device_work());
    assert!(none.balloon().is_none() && none.mem().is_none() && none.console().is_none());
    assert!(none.block().is_none() && none.entropy().is_none());
    let one = DeviceSet {
        balloon: Some(BalloonSetup {
            deflates_on_oom: false,
            has_reporting: false,
        }),
        ..DeviceSet::NONE
    };
    let mut one = super::board(one);
    one.set_balloon_target(5);
    assert_eq!(one.balloon().map(|balloon| balloon.target()), Some(5));
}

/// It is static, once for each guest that there may be.
#[test]
fn a_board_stays_small() {
    assert!(size_of::<board::Board>() <= 3584, "{}", size_of::<board::Board>());
}
