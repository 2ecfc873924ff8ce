//! What the guest writes to either port: all of it, once, and so much at a time.

use super::{
    CHAINS_MAX, CONSOLE_RECEIVE, CONSOLE_TRANSMIT, FromGuest, Gpa, INCOMING, Machine, OUTGOING, PORT_OPEN,
    PRESSURE_TRANSMIT, RAM_BYTES, Step, TAKEN_MAX, ToGuest, Trouble, Vec, vec,
};
use crate::virtio::testing::RawDescriptor;

#[test]
fn output_comes_in_pieces_and_so_much_at_a_time() {
    for (queue, port) in [(CONSOLE_TRANSMIT, 0), (PRESSURE_TRANSMIT, 1)] {
        let mut machine = Machine::ready();
        let text: Vec<u8> = (0..0x3001usize).map(|n| (n % 251).to_le_bytes()[0]).collect();
        let long = machine.send(queue, &text);
        let heard =
            |machine: &Machine| [machine.hands.inner.printed.len(), machine.hands.inner.heard.len()][port];
        for part in 1..=3 {
            assert_eq!(machine.serve(queue), Ok(Step::More));
            assert_eq!(heard(&machine), part * TAKEN_MAX);
            assert_eq!(machine.guests[queue].used(&machine.hands.inner), vec![]);
        }
        assert_eq!(machine.serve(queue), Ok(Step::Done));
        assert_eq!(machine.guests[queue].used(&machine.hands.inner), [(long, 0)]);
        let hands = &machine.hands.inner;
        assert_eq!([&hands.printed, &hands.heard][port], &text);
        assert!([&hands.heard, &hands.printed][port].is_empty());
        assert!(machine.hands.pieces.iter().all(|piece| *piece <= 256));
        let totals = [machine.console.printed_bytes(), machine.console.heard_bytes()];
        assert_eq!((totals[port], totals[1 - port]), (0x3001, 0));
    }
}

#[test]
fn odd_output_is_taken_whole() {
    let mut machine = Machine::new(0);
    machine.hands.inner.poke(OUTGOING, b"abcdefgh");
    let at = |offset| OUTGOING.checked_add(offset).unwrap();
    let parts = [
        (at(6), 2, FromGuest),
        (Gpa::new(u64::MAX), 0, FromGuest),
        (at(0), 1, FromGuest),
        (at(3), 300, FromGuest),
        (Gpa::new(INCOMING), 64, ToGuest),
    ];
    machine.guests[CONSOLE_TRANSMIT].add(&mut machine.hands.inner, &parts);
    for empty in [(OUTGOING, 0, FromGuest), (Gpa::new(u64::MAX), u32::MAX, ToGuest)] {
        machine.guests[CONSOLE_TRANSMIT].add(&mut machine.hands.inner, &[empty]);
    }
    assert_eq!(machine.serve(CONSOLE_TRANSMIT), Ok(Step::Done));
    let used = machine.guests[CONSOLE_TRANSMIT].used(&machine.hands.inner);
    assert_eq!(used.iter().map(|used| used.1).collect::<Vec<_>>(), [0, 0, 0]);
    assert_eq!(machine.hands.inner.printed[..8], *b"ghadefgh");
    assert_eq!(machine.hands.inner.printed.len(), 303);
}

#[test]
fn output_from_where_no_ram_is_ends_there() {
    let mut machine = Machine::new(0);
    let whole = u32::MAX;
    machine.guests[CONSOLE_TRANSMIT].add(&mut machine.hands.inner, &[(Gpa::new(0), whole, FromGuest)]);
    let mut calls = 0;
    while machine.serve(CONSOLE_TRANSMIT) == Ok(Step::More) {
        calls += 1;
    }
    assert_eq!(calls, RAM_BYTES / TAKEN_MAX);
    assert_eq!(
        machine.serve(CONSOLE_TRANSMIT),
        Err(Trouble::Guest("an address without RAM"))
    );
    assert_eq!(machine.hands.inner.printed.len(), RAM_BYTES);
}

#[test]
fn a_flood_of_empty_output_is_taken_in_parts() {
    let mut machine = Machine::new(0);
    for _ in 0..64 {
        machine.guests[CONSOLE_TRANSMIT].add(&mut machine.hands.inner, &[(OUTGOING, 0, FromGuest)]);
    }
    for _ in 0..64 / CHAINS_MAX {
        assert_eq!(machine.serve(CONSOLE_TRANSMIT), Ok(Step::More));
        let used = machine.guests[CONSOLE_TRANSMIT].used(&machine.hands.inner);
        assert_eq!(used.len(), CHAINS_MAX as usize);
    }
    assert_eq!(machine.serve(CONSOLE_TRANSMIT), Ok(Step::Done));
}

#[test]
fn a_chain_that_shrinks_while_it_is_taken_is_done() {
    let mut machine = Machine::new(0);
    let head = machine.send(CONSOLE_TRANSMIT, &[7; 0x2000]);
    assert_eq!(machine.serve(CONSOLE_TRANSMIT), Ok(Step::More));
    let raw = RawDescriptor {
        at: OUTGOING.get(),
        bytes: 1,
        ..Default::default()
    };
    machine.guests[CONSOLE_TRANSMIT].set_descriptor(&mut machine.hands.inner, head, raw);
    assert_eq!(machine.serve(CONSOLE_TRANSMIT), Ok(Step::Done));
    assert_eq!(machine.hands.inner.printed.len(), TAKEN_MAX);
    machine.send(CONSOLE_TRANSMIT, b"next");
    assert_eq!(machine.serve(CONSOLE_TRANSMIT), Ok(Step::Done));
    assert_eq!(machine.hands.inner.printed[TAKEN_MAX..], *b"next");
}

#[test]
fn short_memory_at_any_call_neither_repeats_nor_loses_a_byte() {
    for calls in 0..50 {
        let mut machine = Machine::ready();
        machine.say(0, PORT_OPEN, 1);
        machine.listen(CONSOLE_RECEIVE, 3, 2);
        machine.type_in(b"abcde");
        machine.send(CONSOLE_TRANSMIT, &[b'x'; 5000]);
        machine.hands.refuse_after(calls);
        machine.serve_all();
        machine.serve_one(CONSOLE_TRANSMIT);
        assert_eq!(machine.hands.refusals, u64::from(calls < 41), "{calls}");
        assert_eq!(
            machine.received(CONSOLE_RECEIVE),
            [b"abc".to_vec(), b"de".to_vec()]
        );
        assert_eq!(machine.hands.inner.printed, [b'x'; 5000]);
        assert_eq!(machine.console.printed_bytes(), 5000);
        assert_eq!(
            machine.guests[CONSOLE_TRANSMIT].used(&machine.hands.inner).len(),
            1
        );
    }
}
