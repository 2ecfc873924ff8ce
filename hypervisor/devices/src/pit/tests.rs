//! After the 8254 datasheet, and Linux's i8253 clock event and calibration code.

use super::*;

/// A TSC that runs 1,000 times as fast as the PIT.
const TSC_HZ: u64 = PIT_HZ * 1000;

fn at(clock: u64) -> GuestTime {
    GuestTime {
        ticks: clock * 1000,
        tsc_hz: TSC_HZ,
    }
}

fn program(pit: &mut Pit, control: u8, count: u16, clock: u64) {
    let port = 0x40 + u16::from(control >> 6);
    let [low, high] = count.to_le_bytes();
    pit.write(0x43, control, at(clock));
    pit.write(port, low, at(clock));
    pit.write(port, high, at(clock));
}

/// Latches and reads a 16-bit count.
fn count(pit: &mut Pit, channel: u8, clock: u64) -> u16 {
    pit.write(0x43, channel << 6, at(clock));
    let port = 0x40 + u16::from(channel);
    let low = pit.read(port, at(clock));
    // Time passes between the two bytes; the latch holds.
    u16::from_le_bytes([low, pit.read(port, at(clock + 7))])
}

fn pit() -> Pit {
    Pit::new(TSC_HZ, 1)
}

#[test]
fn mode_0_fires_once() {
    let mut pit = pit();
    program(&mut pit, 0x30, 1000, 50);
    assert_eq!(
        [50, 60, 1049].map(|clock| count(&mut pit, 0, clock)),
        [1000, 990, 1]
    );
    assert!(!pit.output(at(1049)) && pit.output(at(1050)));
    assert!(!pit.advance(at(1050)) && pit.advance(at(1051)));
    assert_eq!((pit.deadline(), pit.advance(at(9999))), (NEVER, false));
    // Past zero it goes on counting.
    assert_eq!(count(&mut pit, 0, 1051), 0xffff);
    // A control word lowers the output.
    assert!(pit.write(0x43, 0x30, at(2000)));
    assert!(!pit.output(at(2000)));
}

#[test]
fn mode_2_ticks_at_100_hz_without_drift() {
    let mut pit = pit();
    program(&mut pit, 0x34, 11_932, 0);
    let mut fired = 0;
    let mut ticks = 0;
    while ticks < TSC_HZ {
        ticks = pit.deadline();
        assert!(pit.advance(GuestTime {
            ticks,
            tsc_hz: TSC_HZ
        }));
        assert!(pit.deadline() > ticks);
        fired += 1;
    }
    assert_eq!(fired, 100);
    assert_eq!(
        [0, 1, 11_931, 11_932].map(|clock| count(&mut pit, 0, clock)),
        [11_932, 11_931, 1, 11_932]
    );
}

#[test]
fn missed_periods_are_one_interrupt() {
    let mut pit = pit();
    program(&mut pit, 0x34, 100, 0);
    assert!(pit.advance(at(1050)));
    assert_eq!(pit.deadline() / 1000, 1100);
}

#[test]
fn a_floor_bounds_the_rate() {
    let mut pit = Pit::new(TSC_HZ, 20_000);
    program(&mut pit, 0x34, 1, 0);
    assert!(pit.advance(at(10)));
    assert_eq!(pit.deadline(), 30_000);
}

#[test]
fn mode_3_is_a_square_wave() {
    let mut pit = pit();
    program(&mut pit, 0x36, 1001, 0);
    assert_eq!(
        [0, 500, 501, 1000, 1001].map(|clock| pit.output(at(clock))),
        [true, true, false, false, true]
    );
    assert_eq!(
        [1, 500, 501, 502].map(|clock| count(&mut pit, 0, clock)),
        [998, 0, 1000, 998]
    );
    assert!(pit.advance(at(1002)) && !pit.advance(at(1003)));
}

#[test]
fn mode_4_strobes_once() {
    let mut pit = pit();
    program(&mut pit, 0x38, 100, 0);
    assert_eq!(
        [99, 100, 101].map(|clock| pit.output(at(clock))),
        [true, false, true]
    );
    assert!(pit.advance(at(102)));
    assert_eq!(pit.deadline(), NEVER);
}

/// `pit_calibrate_tsc`: gate up, counter 2 in mode 0, wait for OUT on port 0x61.
#[test]
fn linux_calibration_sees_counter_2_end() {
    let mut pit = pit();
    pit.write(0x61, 0x01, at(0));
    program(&mut pit, 0xb0, 0xffff, 10);
    assert_eq!(pit.read(0x61, at(10 + 0xfffe)) & 0x21, 0x01);
    assert_eq!(pit.read(0x61, at(10 + 0xffff)) & 0x21, 0x21);
    assert_eq!(count(&mut pit, 2, 20), 0xfff5);
    assert!(!pit.write(0x43, 0x90, at(30)) && !pit.write(0x42, 1, at(30)));
}

#[test]
fn the_gate_holds_counter_2_and_triggers_it() {
    let mut pit = pit();
    program(&mut pit, 0xb0, 100, 0);
    assert_eq!(count(&mut pit, 2, 50), 100);
    pit.write(0x61, 1, at(60));
    assert_eq!(count(&mut pit, 2, 80), 80);
    pit.write(0x61, 0, at(90));
    assert_eq!(count(&mut pit, 2, 500), 70);
    pit.write(0x61, 1, at(500));
    assert!(pit.read(0x61, at(569)) & 0x20 == 0 && pit.read(0x61, at(570)) & 0x20 != 0);

    // Mode 1: a one-shot that the gate starts.
    pit.write(0x61, 0, at(600));
    program(&mut pit, 0xb2, 100, 600);
    assert_eq!(pit.read(0x61, at(800)) & 0x20, 0x20);
    pit.write(0x61, 1, at(1000));
    assert_eq!(
        [1000, 1099, 1100].map(|clock| pit.read(0x61, at(clock)) & 0x20),
        [0, 0, 0x20]
    );
}

#[test]
fn refresh_toggles() {
    let mut pit = pit();
    let values = [0, 18, 36, 54].map(|clock| pit.read(0x61, at(clock)) & 0x10);
    assert_eq!(values, [0, 0x10, 0, 0x10]);
}

#[test]
fn single_byte_access_and_bcd() {
    let mut pit = pit();
    pit.write(0x43, 0x14, at(0));
    assert!(pit.write(0x40, 200, at(0)));
    assert_eq!(pit.read(0x40, at(50)), 150);
    pit.write(0x43, 0x24, at(0));
    pit.write(0x40, 2, at(0));
    assert_eq!(pit.read(0x40, at(1)), 1);
    program(&mut pit, 0x31, 0x1234, 0);
    assert_eq!(
        [0, 34, 35].map(|clock| count(&mut pit, 0, clock)),
        [0x1234, 0x1200, 0x1199]
    );
    program(&mut pit, 0x31, 0, 0);
    assert_eq!([0, 1].map(|clock| count(&mut pit, 0, clock)), [0, 0x9999]);
}

#[test]
fn read_back_latches_status_and_count() {
    let mut pit = pit();
    pit.write(0x43, 0x34, at(0));
    pit.write(0x43, 0xe2, at(0));
    assert_eq!(pit.read(0x40, at(0)), 0xf4);
    pit.write(0x40, 0xe8, at(0));
    pit.write(0x40, 0x03, at(0));
    pit.write(0x43, 0xc2, at(10));
    let bytes = [0; 3].map(|_: u8| pit.read(0x40, at(500)));
    assert_eq!(bytes, [0xb4, 0xde, 0x03]);
    assert_eq!(pit.read(0x43, at(0)), 0xff);
    // A second latch command does not disturb the first.
    pit.write(0x43, 0, at(10));
    assert_eq!(count(&mut pit, 0, 500), 990);
}
