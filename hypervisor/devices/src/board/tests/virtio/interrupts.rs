//! The ways of an interrupt: by wire or as a message, for a queue or the configuration, at once or when it is let
//! through.

use super::{
    BALLOON, Machine, PortEffect, Served, VERSION_1, bring_up, config, found, init_pic, set_config, take,
};
use crate::{Board, MsrEffect};
use pleat_types::PortSize::Byte;
use pleat_types::Tsc;

/// The vector of the slave's line 15, as [`init_pic`] sets it up.
const IRQ_15: u8 = 0x3f;
const MSIX_MASK_ALL: u32 = 0x4000_0000;

/// All lines open.
fn open_pic(board: &mut Board) {
    init_pic(board, 0);
    super::super::out(board, 0xa1, 0);
}

/// EOI to both 8259s.
fn end(board: &mut Board) {
    super::super::out(board, 0xa0, 0x20);
    super::super::out(board, 0x20, 0x20);
}

fn end_message(board: &mut Board) {
    assert_eq!(board.write_msr(0x80b, 0, Tsc(1000)), Ok(MsrEffect::Timer));
}

#[test]
fn a_wire_is_high_until_isr_status_is_read() {
    let mut machine = Machine::new();
    open_pic(&mut machine.board);
    assert_eq!(machine.serve(), Served::Idle);
    assert_eq!(take(&mut machine.board, 0), None);
    for _ in 0..3 {
        machine.fetch();
        assert_eq!(
            config(&mut machine.board, 5, 4) >> 16,
            0x18,
            "PCI's interrupt status"
        );
        assert_eq!(take(&mut machine.board, 0), Some(IRQ_15));
        // A level: it comes again as long as nobody has looked.
        end(&mut machine.board);
        assert_eq!(take(&mut machine.board, 0), Some(IRQ_15));
        assert_eq!(machine.driver.take_isr(&mut machine.board), 1);
        end(&mut machine.board);
        assert_eq!(take(&mut machine.board, 0), None);
        assert_eq!(machine.driver.take_isr(&mut machine.board), 0);
        assert_eq!(config(&mut machine.board, 5, 4) >> 16, 0x10);
    }
    let view = machine.board.virtio_functions().last().unwrap();
    assert_eq!(
        (view.interrupts, view.notifications, view.uses_msix),
        (3, 3, false)
    );
}

#[test]
fn a_wire_tells_of_the_configuration() {
    let (mut board, _, driver) = found(BALLOON);
    open_pic(&mut board);
    let _ = bring_up(&mut board, driver, super::NO_VECTOR);
    board.set_balloon_target(7);
    assert_eq!(take(&mut board, 0), Some(0x35));
    assert_eq!(driver.take_isr(&mut board), 2);
    end(&mut board);
    board.set_balloon_target(7);
    assert_eq!((take(&mut board, 0), driver.take_isr(&mut board)), (None, 0));
}

#[test]
fn a_function_can_be_kept_from_its_wire() {
    let mut machine = Machine::new();
    open_pic(&mut machine.board);
    let _ = set_config(&mut machine.board, 5, 4, 0x407);
    machine.fetch();
    assert_eq!(take(&mut machine.board, 0), None);
    assert_eq!(config(&mut machine.board, 5, 4) >> 16, 0x18);
    let _ = set_config(&mut machine.board, 5, 4, 7);
    assert_eq!(take(&mut machine.board, 0), Some(IRQ_15));
}

#[test]
fn a_reset_takes_the_interrupt_back() {
    let mut machine = Machine::new();
    open_pic(&mut machine.board);
    machine.fetch();
    let _ = machine.driver.set_status(&mut machine.board, 0);
    assert_eq!(machine.driver.take_isr(&mut machine.board), 0);
    assert_eq!(take(&mut machine.board, 0), None);
}

#[test]
fn a_message_goes_to_the_local_apic_and_to_no_wire() {
    let mut machine = Machine::with_msix();
    open_pic(&mut machine.board);
    machine.driver.set_message(&mut machine.hands, 1, 0x51);
    for _ in 0..3 {
        machine.fetch();
        assert_eq!(take(&mut machine.board, 0), Some(0x51));
        end_message(&mut machine.board);
        assert_eq!(take(&mut machine.board, 0), None);
        assert!(!machine.board.has_device_work());
    }
    assert_eq!(machine.driver.take_isr(&mut machine.board), 0);
    let view = machine.board.virtio_functions().last().unwrap();
    assert_eq!((view.interrupts, view.uses_msix), (3, true));
}

#[test]
fn a_message_tells_of_the_configuration() {
    let (mut board, mut hands, driver) = found(BALLOON);
    driver.enable_msix(&mut board, &mut hands);
    assert!(driver.negotiate(&mut board, VERSION_1));
    assert_eq!(driver.set_config_vector(&mut board, 2), 2);
    let _ = driver.start(&mut board);
    driver.set_message(&mut hands, 2, 0x61);
    board.set_balloon_target(9);
    assert!(board.has_device_work());
    assert_eq!(board.serve(&mut hands), Served::Idle);
    assert_eq!(take(&mut board, 0), Some(0x61));
    // 4.1.4.5.1: with or without MSI-X.
    assert_eq!(driver.take_isr(&mut board), 2);
}

#[test]
fn an_interrupt_for_the_configuration_is_counted_once() {
    for uses_msix in [false, true] {
        let (mut board, mut hands, driver) = found(BALLOON);
        if uses_msix {
            driver.enable_msix(&mut board, &mut hands);
        }
        assert!(driver.negotiate(&mut board, VERSION_1));
        assert_eq!(driver.set_config_vector(&mut board, 2), 2);
        let _ = driver.start(&mut board);
        driver.set_message(&mut hands, 2, 0x61);
        for count in 1..4 {
            board.set_balloon_target(count);
            let _ = board.serve(&mut hands);
            assert_eq!(driver.take_isr(&mut board), 2);
            let view = board.virtio_functions().next().unwrap();
            assert_eq!((view.name, view.interrupts), ("balloon", count), "{uses_msix}");
        }
    }
}

#[test]
fn a_masked_message_waits_in_the_table() {
    let mut machine = Machine::with_msix();
    machine.fetch();
    for _ in 0..2 {
        assert!(machine.board.has_device_work());
        assert_eq!(machine.serve(), Served::Idle);
        assert_eq!(take(&mut machine.board, 0), None);
    }
    machine.driver.set_message(&mut machine.hands, 1, 0x52);
    assert_eq!(machine.serve(), Served::Idle);
    assert_eq!(take(&mut machine.board, 0), Some(0x52));
    assert!(!machine.board.has_device_work());
}

#[test]
fn a_masked_function_waits_in_configuration_space() {
    let mut machine = Machine::with_msix();
    machine.driver.set_message(&mut machine.hands, 1, 0x53);
    let msix = machine.driver.msix;
    let control = config(&mut machine.board, 5, msix);
    let effect = set_config(&mut machine.board, 5, msix, control | MSIX_MASK_ALL);
    assert_eq!(effect, PortEffect::None);
    machine.fetch();
    // Nothing to do until the mask goes.
    assert!(!machine.board.has_device_work());
    assert_eq!(take(&mut machine.board, 0), None);
    let effect = set_config(&mut machine.board, 5, msix, control);
    assert!(effect.wants_service());
    assert_eq!(machine.serve(), Served::Idle);
    assert_eq!(take(&mut machine.board, 0), Some(0x53));
}

#[test]
fn messages_to_elsewhere_are_lost() {
    let wrong = [
        [0xfed0_0000, 0, 0x54, 0],
        [0xfee0_0000, 1, 0x54, 0],
        [0, 0, 0x54, 0],
        // SMI, NMI, INIT, ExtINT.
        [0xfee0_0000, 0, 0x254, 0],
        [0xfee0_0000, 0, 0x454, 0],
        [0xfee0_0000, 0, 0x554, 0],
        [0xfee0_0000, 0, 0x754, 0],
        // Vectors below 16 are an error in the APIC (SDM 10.5.2).
        [0xfee0_0000, 0, 15, 0],
    ];
    for words in wrong {
        let mut machine = Machine::with_msix();
        machine.driver.set_entry(&mut machine.hands, 1, words);
        machine.fetch();
        assert_eq!(take(&mut machine.board, 0), None, "{words:x?}");
        assert!(!machine.board.has_device_work());
    }
    // Lowest priority, with a hint, to a logical destination: there is one processor.
    let mut machine = Machine::with_msix();
    machine
        .driver
        .set_entry(&mut machine.hands, 1, [0xfee0_100c, 0, 0x154, 0]);
    machine.fetch();
    assert_eq!(take(&mut machine.board, 0), Some(0x54));
}

#[test]
fn a_table_without_ram_loses_messages() {
    let mut machine = Machine::with_msix();
    machine.driver.set_message(&mut machine.hands, 1, 0x55);
    let _ = set_config(&mut machine.board, 5, 0x14, 0xffff_ff00);
    machine.fetch();
    assert_eq!(take(&mut machine.board, 0), None);
    assert!(!machine.board.has_device_work());
}

/// A guest that waits for this interrupt has nobody else to wake it.
#[test]
fn a_message_whose_entry_is_away_comes_when_it_is_back() {
    let mut machine = Machine::with_msix();
    machine.driver.set_message(&mut machine.hands, 1, 0x56);
    let head = machine.add(16);
    // Two fields of the ring, a descriptor, the ring again; then the table.
    (machine.hands.short.read_later, machine.hands.short.read) = (4, 3);
    let PortEffect::Notified(notified) = machine.notify() else {
        panic!("nothing to serve");
    };
    for _ in 0..3 {
        assert_eq!(machine.serve(), Served::Stalled);
        assert!(machine.board.has_device_work());
        // The queue is done: the driver's OUT need not wait.
        assert!(!machine.board.is_waiting(notified));
        assert_eq!(take(&mut machine.board, 0), None);
    }
    assert_eq!(machine.used(), [(head, 16)]);
    assert_eq!(machine.serve(), Served::Idle);
    assert_eq!(take(&mut machine.board, 0), Some(0x56));
    end_message(&mut machine.board);
    assert_eq!(take(&mut machine.board, 0), None);
    assert!(!machine.board.has_device_work());
    let view = machine.board.virtio_functions().last().unwrap();
    assert_eq!(view.interrupts, 1);
}

#[test]
fn a_masked_message_stalls_only_while_its_entry_is_away() {
    let mut machine = Machine::with_msix();
    machine.fetch();
    machine.hands.short.read = 1;
    assert_eq!(machine.serve(), Served::Stalled);
    for _ in 0..2 {
        machine.hands.accesses.clear();
        assert_eq!(machine.serve(), Served::Idle);
        assert_eq!(machine.hands.accesses.len(), 1, "a look at the entry");
        assert_eq!(take(&mut machine.board, 0), None);
    }
    machine.driver.set_message(&mut machine.hands, 1, 0x57);
    assert_eq!(machine.serve(), Served::Idle);
    assert_eq!(take(&mut machine.board, 0), Some(0x57));
}

/// Also from a device with which nothing else is done any more.
#[test]
fn a_message_about_a_broken_rule_waits_for_its_entry() {
    let mut machine = Machine::with_msix();
    machine.driver.set_message(&mut machine.hands, 0, 0x58);
    machine.queue.set_available_index(&mut machine.hands, u16::MAX);
    assert!(machine.notify().wants_service());
    // The ring; then the table.
    (machine.hands.short.read_later, machine.hands.short.read) = (1, 2);
    for _ in 0..2 {
        assert_eq!(machine.serve(), Served::Stalled);
        assert!(machine.needs_reset().is_some());
        assert_eq!(take(&mut machine.board, 0), None);
    }
    assert_eq!(machine.serve(), Served::Idle);
    assert_eq!(take(&mut machine.board, 0), Some(0x58));
}

#[test]
fn a_reset_drops_a_message_whose_entry_is_away() {
    let mut machine = Machine::with_msix();
    machine.driver.set_message(&mut machine.hands, 1, 0x59);
    machine.add(16);
    (machine.hands.short.read_later, machine.hands.short.read) = (4, 1);
    assert!(machine.notify().wants_service());
    assert_eq!(machine.serve(), Served::Stalled);
    let _ = machine.driver.set_status(&mut machine.board, 0);
    assert!(!machine.board.has_device_work());
    assert_eq!(machine.serve(), Served::Idle);
    assert_eq!(take(&mut machine.board, 0), None);
}

#[test]
fn turning_messages_off_drops_those_that_wait() {
    let mut machine = Machine::with_msix();
    machine.fetch();
    let msix = machine.driver.msix;
    let _ = set_config(&mut machine.board, 5, msix, 0);
    assert!(!machine.board.has_device_work());
    open_pic(&mut machine.board);
    machine.fetch();
    assert_eq!(take(&mut machine.board, 0), Some(IRQ_15));
    assert_eq!(machine.board.port_read(machine.driver.isr, Byte, Tsc(0)), 1);
}

#[test]
fn the_guest_asks_for_no_interrupts() {
    let mut machine = Machine::new();
    machine.queue.set_available_flags(&mut machine.hands, 1);
    machine.fetch();
    assert_eq!(machine.driver.take_isr(&mut machine.board), 0);
    machine.queue.set_available_flags(&mut machine.hands, 0);
    machine.fetch();
    assert_eq!(machine.driver.take_isr(&mut machine.board), 1);
}
