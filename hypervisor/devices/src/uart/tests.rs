//! After the PC16550D datasheet, and what Linux's 8250 driver does to find out what it has.

use super::*;

const IER: u16 = 1;
const IIR: u16 = 2;
const LCR: u16 = 3;
const MCR: u16 = 4;
const LSR: u16 = 5;
const MSR: u16 = 6;
const SCR: u16 = 7;

fn write(uart: &mut Uart, offset: u16, value: u8) {
    assert_eq!(uart.write(offset, value), Written::Register);
}

fn open(ier: u8) -> Uart {
    let mut uart = Uart::new();
    write(&mut uart, IIR, 0x81);
    write(&mut uart, MCR, 0x0b);
    write(&mut uart, IER, ier);
    uart
}

/// `autoconfig` and `autoconfig_16550a` of drivers/tty/serial/8250/8250_port.c, step by step.
#[test]
fn linux_autoconfig_finds_a_16550a() {
    let mut uart = Uart::new();
    write(&mut uart, IER, 0);
    assert_eq!(uart.read(IER) & 0xf, 0);
    write(&mut uart, IER, 0xf);
    assert_eq!(uart.read(IER), 0xf);
    write(&mut uart, IER, 0);
    write(&mut uart, MCR, 0x10 | 0xa);
    assert_eq!(uart.read(MSR) & 0xf0, 0x90);
    write(&mut uart, MCR, 0);
    write(&mut uart, LCR, 0xbf);
    write(&mut uart, IIR, 0);
    write(&mut uart, LCR, 0);
    write(&mut uart, IIR, 1);
    assert_eq!(uart.read(IIR) >> 6, 3);
    // No 16650 (EFR), no 16750 (64-byte FIFO behind DLAB), no XScale (IER bit 6).
    write(&mut uart, LCR, 0x80);
    write(&mut uart, IIR, 0xe1);
    assert_eq!(uart.read(IIR) >> 5, 6);
    write(&mut uart, LCR, 0);
    write(&mut uart, IER, 0x40);
    assert_eq!(uart.read(IER) & 0x40, 0);
    assert_eq!((uart.read(LSR), uart.read(MSR) & 0xf0), (0x60, 0xb0));
}

/// `serial8250_do_startup` checks that enabling the transmit interrupt raises it, twice.
#[test]
fn enabling_the_transmit_interrupt_raises_it_each_time() {
    let mut uart = open(0);
    for _ in 0..2 {
        write(&mut uart, IER, 2);
        assert!(uart.has_interrupt());
        assert_eq!(uart.read(IIR), 0xc2);
        assert_eq!(uart.read(IIR), 0xc1);
        assert!(!uart.has_interrupt());
        write(&mut uart, IER, 0);
    }
}

#[test]
fn registers_keep_what_they_are_given() {
    let mut uart = Uart::new();
    write(&mut uart, LCR, 0x83);
    write(&mut uart, 0, 1);
    write(&mut uart, IER, 2);
    assert_eq!((uart.read(0), uart.read(IER)), (1, 2));
    write(&mut uart, LCR, 3);
    assert_eq!((uart.read(0), uart.read(IER), uart.read(LCR)), (0, 0, 3));
    write(&mut uart, SCR, 0xa5);
    write(&mut uart, MCR, 0xff);
    assert_eq!((uart.read(SCR), uart.read(MCR)), (0xa5, 0x1f));
    write(&mut uart, LSR, 0);
    write(&mut uart, MSR, 0);
    assert_eq!(uart.read(LSR), 0x60);
}

#[test]
fn output_asks_to_be_drained_at_line_ends_and_never_grows_past_its_buffer() {
    let mut uart = Uart::new();
    assert_eq!([b'o', b'k', b'\n'].map(|byte| uart.write(0, byte)), {
        [Written::Byte, Written::Byte, Written::Drain]
    });
    assert_eq!(uart.output(), b"ok\n");
    uart.clear_output();
    for sent in 1..=OUTPUT + 10 {
        let written = uart.write(0, b'x');
        assert_eq!(written == Written::Drain, sent >= OUTPUT_HIGH);
    }
    assert_eq!((uart.output().len(), uart.lost()), (OUTPUT, 10));
}

#[test]
fn a_written_byte_brings_the_next_transmit_interrupt() {
    let mut uart = open(2);
    uart.read(IIR);
    assert!(!uart.has_interrupt());
    assert_eq!(uart.write(0, b'x'), Written::Byte);
    assert!(uart.has_interrupt());
}

#[test]
fn input_arrives_in_order_with_trigger_and_time_out_causes() {
    let mut uart = open(3);
    for byte in 0..20 {
        assert!(uart.receive(byte));
        // Trigger level 8 (FCR 0x81); receiving goes before transmitting.
        assert_eq!(uart.read(IIR), if byte < 7 { 0xcc } else { 0xc4 });
    }
    for byte in 0..20 {
        assert_eq!((uart.read(LSR), uart.read(0)), (0x61, byte));
    }
    assert_eq!((uart.read(LSR), uart.read(0), uart.read(IIR)), (0x60, 0, 0xc2));
}

#[test]
fn the_backlog_is_bounded_and_wraps() {
    let mut uart = open(0);
    for round in 0..3u8 {
        let accepted = (0..=BACKLOG).filter(|_| uart.receive(round)).count();
        assert_eq!(accepted, if round == 0 { BACKLOG } else { 100 });
        for _ in 0..100 {
            uart.read(0);
        }
    }
    assert_eq!(uart.backlog_len, BACKLOG - 100);
}

#[test]
fn clearing_the_fifo_drops_what_a_fifo_holds() {
    let mut uart = open(1);
    for byte in 0..40 {
        assert!(uart.receive(byte));
    }
    write(&mut uart, IIR, 0x83);
    assert_eq!(uart.read(0), 16);
    write(&mut uart, IIR, 0x85);
    assert_eq!(uart.read(0), 17);
    write(&mut uart, IIR, 0);
    assert_eq!((uart.read(IIR), uart.read(0)), (4, 34));
    // Without the FIFO there is nothing to clear.
    write(&mut uart, IIR, 2);
    assert_eq!(uart.read(0), 35);
}

#[test]
fn loop_back_sends_to_itself_and_turns_the_interrupt_off() {
    let mut uart = open(3);
    write(&mut uart, MCR, 0x1b);
    write(&mut uart, 0, b'q');
    assert_eq!((uart.read(LSR), uart.read(0)), (0x61, b'q'));
    assert!(!uart.has_interrupt() && uart.output().is_empty());
    write(&mut uart, MCR, 0x0b);
    assert!(uart.has_interrupt());
    write(&mut uart, MCR, 0x03);
    assert!(!uart.has_interrupt());
}

#[test]
fn changed_modem_lines_interrupt_until_they_are_read() {
    let mut uart = Uart::new();
    write(&mut uart, MCR, 0x18);
    uart.read(MSR);
    write(&mut uart, MCR, 0x1c);
    assert_eq!(uart.read(MSR), 0xc0);
    write(&mut uart, MCR, 0x18);
    // Ring went away.
    assert_eq!(uart.read(MSR), 0x84);
    write(&mut uart, IER, 8);
    write(&mut uart, MCR, 0x08);
    assert_eq!((uart.has_interrupt(), uart.read(IIR)), (true, 0));
    assert_eq!(uart.read(MSR), 0xb3);
    assert!(!uart.has_interrupt());
}
