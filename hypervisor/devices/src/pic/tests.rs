//! After the 8259A datasheet, and what Linux's arch/x86/kernel/i8259.c does.

use super::*;

/// `init_8259A(0)`: vectors 0x30 to 0x3f, everything masked at the end.
fn linux() -> Pic {
    let mut pic = Pic::new(0);
    for (port, value) in [
        (0x21, 0xff),
        (0x20, 0x11),
        (0x21, 0x30),
        (0x21, 0x04),
        (0x21, 0x01),
        (0xa0, 0x11),
        (0xa1, 0x38),
        (0xa1, 0x02),
        (0xa1, 0x01),
        (0x21, 0xfb),
        (0xa1, 0xff),
    ] {
        pic.write(port, value);
    }
    pic
}

fn pulse(pic: &mut Pic, irq: u8) {
    pic.set_line(irq, false);
    pic.set_line(irq, true);
}

#[test]
fn probe_8259a_finds_a_controller() {
    let mut pic = Pic::new(0);
    pic.write(0xa1, 0xff);
    pic.write(0x21, 0xfb);
    assert_eq!(pic.read(0x21), 0xfb);
    assert_eq!((pic.read(0xa1), pic.offered()), (0xff, None));
}

#[test]
fn a_masked_request_is_kept_and_comes_when_unmasked() {
    let mut pic = linux();
    pic.set_line(4, true);
    assert_eq!(pic.offered(), None);
    pic.write(0x21, 0xeb);
    assert_eq!((pic.offered(), pic.read(0x20)), (Some(0x34), 0x10));
    pic.acknowledge();
    assert_eq!((pic.offered(), pic.read(0x20)), (None, 0));
    pic.write(0x20, 0x0b);
    assert_eq!(pic.read(0x20), 0x10);
    // Specific EOI, as mask_and_ack_8259A ends it. The line is still high: no new edge.
    pic.write(0x20, 0x64);
    assert_eq!((pic.offered(), pic.read(0x20)), (None, 0));
    pulse(&mut pic, 4);
    assert_eq!(pic.offered(), Some(0x34));
}

#[test]
fn a_request_that_goes_away_is_forgotten() {
    let mut pic = linux();
    pic.write(0x21, 0);
    pic.set_line(4, true);
    pic.set_line(4, false);
    assert_eq!(pic.offered(), None);
}

#[test]
fn lower_numbers_nest_into_higher_ones() {
    let mut pic = linux();
    pic.write(0x21, 0);
    pulse(&mut pic, 4);
    pic.acknowledge();
    pulse(&mut pic, 6);
    assert_eq!(pic.offered(), None);
    pulse(&mut pic, 0);
    assert_eq!(pic.offered(), Some(0x30));
    pic.acknowledge();
    pic.write(0x20, 0x20);
    assert_eq!(pic.offered(), None);
    pic.write(0x20, 0x20);
    assert_eq!(pic.offered(), Some(0x36));
}

#[test]
fn the_slave_comes_through_the_cascade() {
    let mut pic = linux();
    pic.write(0xa1, 0);
    pulse(&mut pic, 12);
    pulse(&mut pic, 8);
    assert_eq!(pic.offered(), Some(0x38));
    pic.acknowledge();
    assert_eq!(pic.offered(), None);
    // EOI to the slave, then to the cascade input.
    pic.write(0xa0, 0x60);
    pic.write(0x20, 0x62);
    assert_eq!(pic.offered(), Some(0x3c));
    pic.acknowledge();
    pic.write(0xa0, 0x20);
    pic.write(0x20, 0x20);
    assert_eq!(pic.offered(), None);
    // Nobody else drives the cascade line.
    pic.set_line(12, false);
    pic.write(0x21, 0xff);
    pulse(&mut pic, 12);
    assert_eq!(pic.offered(), None);
}

#[test]
fn a_level_stays_until_its_line_falls() {
    let mut pic = linux();
    pic.write(0x4d1, 0xff);
    pic.write(0x4d0, 0xff);
    assert_eq!((pic.read(0x4d0), pic.read(0x4d1)), (0xf8, 0xde));
    pic.write(0xa1, 0);
    pic.set_line(11, true);
    for _ in 0..3 {
        assert_eq!(pic.offered(), Some(0x3b));
        pic.acknowledge();
        pic.write(0xa0, 0x63);
        pic.write(0x20, 0x62);
    }
    pic.set_line(11, false);
    assert_eq!(pic.offered(), None);
}

#[test]
fn automatic_eoi_and_rotation() {
    let mut pic = linux();
    for (port, value) in [
        (0x20, 0x11),
        (0x21, 0x30),
        (0x21, 0x04),
        (0x21, 0x03),
        (0x20, 0x80),
    ] {
        pic.write(port, value);
    }
    pulse(&mut pic, 3);
    pulse(&mut pic, 5);
    pic.acknowledge();
    pulse(&mut pic, 3);
    // Input 3 went to the end of the queue.
    assert_eq!(pic.offered(), Some(0x35));
    pic.acknowledge();
    assert_eq!(pic.offered(), Some(0x33));
}

#[test]
fn priorities_can_be_set_and_rotated() {
    let mut pic = linux();
    pic.write(0x21, 0);
    pic.write(0x20, 0xc4);
    for irq in [0, 4, 5] {
        pulse(&mut pic, irq);
    }
    assert_eq!(pic.offered(), Some(0x35));
    pic.acknowledge();
    pic.write(0x20, 0xa0);
    assert_eq!(pic.offered(), Some(0x30));
    pic.acknowledge();
    pic.write(0x20, 0xe0);
    assert_eq!(pic.offered(), Some(0x34));
}

#[test]
fn special_mask_lets_lower_priorities_through() {
    let mut pic = linux();
    pic.write(0x21, 0);
    pulse(&mut pic, 1);
    pic.acknowledge();
    pulse(&mut pic, 7);
    assert_eq!(pic.offered(), None);
    pic.write(0x20, 0x68);
    pic.write(0x21, 0x02);
    assert_eq!(pic.offered(), Some(0x37));
}

#[test]
fn poll_acknowledges() {
    let mut pic = linux();
    pic.write(0x21, 0x40);
    pic.write(0x20, 0x0c);
    assert_eq!(pic.read(0x20), 0);
    pulse(&mut pic, 5);
    pic.write(0x20, 0x0c);
    assert_eq!((pic.read(0x20), pic.read(0x21)), (0x85, 0x40));
    pic.write(0x20, 0x0b);
    assert_eq!((pic.read(0x20), pic.offered()), (0x20, None));
}

#[test]
fn an_input_does_not_interrupt_its_own_handler() {
    let mut pic = linux();
    pic.write(0x21, 0);
    pulse(&mut pic, 4);
    pic.acknowledge();
    pulse(&mut pic, 4);
    assert_eq!(pic.offered(), None);
    pic.write(0x20, 0x20);
    assert_eq!(pic.offered(), Some(0x34));
}

#[test]
fn a_slave_with_automatic_eoi_gives_an_edge_for_each_interrupt() {
    let mut pic = linux();
    for (port, value) in [(0xa0, 0x11), (0xa1, 0x38), (0xa1, 0x02), (0xa1, 0x03)] {
        pic.write(port, value);
    }
    pulse(&mut pic, 8);
    pulse(&mut pic, 12);
    for vector in [0x38, 0x3c] {
        assert_eq!(pic.offered(), Some(vector));
        pic.acknowledge();
        assert_eq!(pic.offered(), None);
        pic.write(0x20, 0x62);
    }
    assert_eq!(pic.offered(), None);
}

#[test]
fn special_fully_nested_mode_lets_the_slave_nest() {
    for (icw4, nested) in [(0x01, None), (0x11, Some(0x38))] {
        let mut pic = linux();
        for (port, value) in [(0x20, 0x11), (0x21, 0x30), (0x21, 0x04), (0x21, icw4), (0xa1, 0)] {
            pic.write(port, value);
        }
        pulse(&mut pic, 12);
        assert_eq!(pic.offered(), Some(0x3c));
        pic.acknowledge();
        pulse(&mut pic, 8);
        assert_eq!(pic.offered(), nested);
    }
}

#[test]
fn levels_survive_initialisation_and_edges_do_not() {
    let mut pic = linux();
    pic.write(0x4d0, 0x20);
    pic.set_line(5, true);
    pic.set_line(6, true);
    for (port, value) in [(0x20, 0x11), (0x21, 0x30), (0x21, 0x04), (0x21, 0x01)] {
        pic.write(port, value);
    }
    assert_eq!(pic.read(0x20), 0x20);
    // A line that becomes level-triggered while it is high is a request.
    pic.write(0x4d0, 0x60);
    assert_eq!(pic.read(0x20), 0x60);
}
