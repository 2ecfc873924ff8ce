//! Control messages: what Linux 6.1 says and is told, and what nobody should say.

use super::{
    CHAINS_MAX, CONSOLE_RECEIVE, CONTROL_RECEIVE, CONTROL_TRANSMIT, Device, FromGuest, Gpa, INCOMING,
    MULTIPORT, Machine, OUTGOING, PORT_OPEN, PORT_READY, Step, ToGuest, Trouble, Vec, message, vec,
};

const DEVICE_READY: u16 = 0;
const PORT_ADD: u16 = 1;
const CONSOLE_PORT: u16 = 4;
const PORT_NAME: u16 = 7;

fn name() -> Vec<u8> {
    let mut bytes = message(1, PORT_NAME, 1);
    bytes.extend_from_slice(b"org.pleat.pressure");
    bytes
}

#[test]
fn linux_sets_up_both_ports() {
    let mut machine = Machine::new(MULTIPORT);
    machine.listen(CONTROL_RECEIVE, 4096, 16);
    machine.serve_one(CONTROL_RECEIVE);
    assert!(
        machine.received(CONTROL_RECEIVE).is_empty(),
        "nothing before it is ready"
    );
    machine.say(u32::MAX, DEVICE_READY, 1);
    machine.serve_all();
    let added = machine.received(CONTROL_RECEIVE);
    assert_eq!(added, [message(0, PORT_ADD, 1), message(1, PORT_ADD, 1)]);
    machine.say(0, DEVICE_READY, 1);
    machine.serve_all();
    assert!(
        machine.received(CONTROL_RECEIVE).is_empty(),
        "a port is added once"
    );
    machine.say(0, PORT_READY, 1);
    machine.serve_all();
    let console = machine.received(CONTROL_RECEIVE);
    assert_eq!(console, [message(0, CONSOLE_PORT, 1), message(0, PORT_OPEN, 1)]);
    machine.say(0, PORT_OPEN, 1);
    machine.say(1, PORT_READY, 1);
    machine.serve_all();
    assert_eq!(
        machine.received(CONTROL_RECEIVE),
        [name(), message(1, PORT_OPEN, 1)]
    );
    assert!(machine.console.has_console() && !machine.console.listens());
    machine.say(1, PORT_OPEN, 1);
    assert!(machine.console.listens());
    machine.say(1, PORT_OPEN, 0);
    assert!(!machine.console.listens() && machine.console.has_console());
    machine.serve_all();
    assert!(machine.received(CONTROL_RECEIVE).is_empty());
}

#[test]
fn messages_wait_for_buffers_in_their_order() {
    let mut machine = Machine::new(MULTIPORT);
    machine.say(0, DEVICE_READY, 1);
    machine.serve_all();
    machine.listen(CONTROL_RECEIVE, 8, 1);
    machine.serve_one(CONTROL_RECEIVE);
    assert_eq!(machine.received(CONTROL_RECEIVE), [message(0, PORT_ADD, 1)]);
    // The other one waits, and what is asked for again is not told again.
    machine.say(0, DEVICE_READY, 1);
    machine.say(0, PORT_READY, 1);
    machine.listen(CONTROL_RECEIVE, 64, 8);
    machine.serve_all();
    let told = machine.received(CONTROL_RECEIVE);
    let expected = [
        message(0, CONSOLE_PORT, 1),
        message(0, PORT_OPEN, 1),
        message(1, PORT_ADD, 1),
    ];
    assert_eq!(told, expected);
    machine.say(1, PORT_READY, 1);
    machine.serve_all();
    assert_eq!(
        machine.received(CONTROL_RECEIVE),
        [name(), message(1, PORT_OPEN, 1)]
    );
}

#[test]
fn who_resumes_says_only_that_its_ports_are_ready() {
    let mut machine = Machine::ready();
    machine.say(1, PORT_OPEN, 1);
    machine.console.reset();
    assert!(!machine.console.listens());
    machine.console.negotiated(MULTIPORT);
    machine.say(0, PORT_READY, 1);
    machine.say(0, PORT_OPEN, 1);
    machine.say(1, PORT_READY, 1);
    machine.say(1, PORT_OPEN, 1);
    machine.serve_all();
    let told = machine.received(CONTROL_RECEIVE);
    // Two buffers were left; the rest waits.
    assert_eq!(told, [message(0, CONSOLE_PORT, 1), message(0, PORT_OPEN, 1)]);
    machine.listen(CONTROL_RECEIVE, 4096, 4);
    machine.serve_one(CONTROL_RECEIVE);
    assert_eq!(
        machine.received(CONTROL_RECEIVE),
        [name(), message(1, PORT_OPEN, 1)]
    );
    assert!(machine.console.has_console() && machine.console.listens());
}

#[test]
fn what_makes_no_sense_is_taken_and_changes_nothing() {
    let mut machine = Machine::ready();
    machine.listen(CONTROL_RECEIVE, 4096, 8);
    for (id, event, value) in [
        (0, DEVICE_READY, 0),
        (0, DEVICE_READY, 2),
        (2, PORT_READY, 1),
        (u32::MAX, PORT_READY, 1),
        (0x1_0000, PORT_OPEN, 1),
        (2, PORT_OPEN, 1),
        (0, PORT_READY, 0),
        (1, PORT_READY, 2),
        (0, PORT_ADD, 1),
        (0, 2, 1),
        (0, CONSOLE_PORT, 1),
        (0, 5, 1),
        (1, PORT_NAME, 1),
        (1, 8, 1),
        (1, u16::MAX, 1),
        // Both ports are there already.
        (0, DEVICE_READY, 1),
    ] {
        machine.say(id, event, value);
        machine.serve_all();
        assert!(
            machine.received(CONTROL_RECEIVE).is_empty(),
            "{id} {event} {value}"
        );
    }
    for short in 0..8 {
        machine.send(CONTROL_TRANSMIT, &message(1, PORT_OPEN, 1)[..short]);
    }
    machine.guests[CONTROL_TRANSMIT].add(&mut machine.hands.inner, &[(OUTGOING, 8, ToGuest)]);
    machine.serve_one(CONTROL_TRANSMIT);
    assert!(!machine.console.listens() && !machine.console.has_console());
    assert_eq!(
        machine.guests[CONTROL_TRANSMIT].used(&machine.hands.inner).len(),
        9
    );
}

#[test]
fn a_message_may_be_long_or_in_parts() {
    let mut machine = Machine::ready();
    let mut long = message(1, PORT_OPEN, 1);
    long.extend_from_slice(&[0xff; 3000]);
    machine.send(CONTROL_TRANSMIT, &long);
    assert_eq!(machine.serve(CONTROL_TRANSMIT), Ok(Step::Done));
    assert!(machine.console.listens());
    machine.hands.inner.poke(OUTGOING, &message(0, PORT_OPEN, 1));
    let at = |offset| OUTGOING.checked_add(offset).unwrap();
    let parts = [
        (at(0), 5, FromGuest),
        (at(0), 0, FromGuest),
        (at(5), 3, FromGuest),
    ];
    machine.guests[CONTROL_TRANSMIT].add(&mut machine.hands.inner, &parts);
    assert_eq!(machine.serve(CONTROL_TRANSMIT), Ok(Step::Done));
    assert!(machine.console.has_console());
}

#[test]
fn a_flood_of_messages_leaves_one_answer_of_each_kind() {
    let mut machine = Machine::new(MULTIPORT);
    for _ in 0..1000 {
        machine.say(0, DEVICE_READY, 1);
        machine.say(0, PORT_READY, 1);
        machine.say(1, PORT_READY, 1);
        machine.say(1, PORT_OPEN, 1);
        machine.say(1, PORT_OPEN, 0);
        machine.say(0, PORT_OPEN, 1);
    }
    machine.listen(CONTROL_RECEIVE, 4096, 16);
    machine.listen(CONSOLE_RECEIVE, 4096, 16);
    machine.serve_all();
    let told = machine.received(CONTROL_RECEIVE);
    let expected = [
        message(0, CONSOLE_PORT, 1),
        message(0, PORT_OPEN, 1),
        name(),
        message(1, PORT_OPEN, 1),
    ];
    assert_eq!(told, expected);
    assert!(machine.received(CONSOLE_RECEIVE).is_empty());
}

#[test]
fn many_messages_are_taken_in_parts() {
    let mut machine = Machine::ready();
    for _ in 0..64 {
        machine.send(CONTROL_TRANSMIT, &message(1, PORT_OPEN, 1));
    }
    assert_eq!(machine.serve(CONTROL_TRANSMIT), Ok(Step::More));
    let used = machine.guests[CONTROL_TRANSMIT].used(&machine.hands.inner);
    assert_eq!(used.len(), CHAINS_MAX as usize);
}

#[test]
fn a_buffer_too_small_for_a_message_is_a_broken_driver() {
    let mut machine = Machine::new(MULTIPORT);
    machine.say(0, DEVICE_READY, 1);
    machine.guests[CONTROL_RECEIVE].add(&mut machine.hands.inner, &[(Gpa::new(INCOMING), 7, ToGuest)]);
    let small = Err(Trouble::Guest("a buffer too small for a control message"));
    assert_eq!(machine.serve(CONTROL_RECEIVE), small);
    let mut machine = Machine::new(MULTIPORT);
    machine.say(1, PORT_READY, 1);
    machine.guests[CONTROL_RECEIVE].add(&mut machine.hands.inner, &[(Gpa::new(INCOMING), 25, ToGuest)]);
    assert_eq!(machine.serve(CONTROL_RECEIVE), small);
    assert_eq!(machine.guests[CONTROL_RECEIVE].used(&machine.hands.inner), vec![]);
}

#[test]
fn short_memory_at_any_call_only_delays_a_message() {
    for calls in 0..30 {
        let mut machine = Machine::new(MULTIPORT);
        machine.hands.refuse_after(calls);
        machine.send(CONTROL_TRANSMIT, &message(0, DEVICE_READY, 1));
        machine.serve_one(CONTROL_TRANSMIT);
        machine.listen(CONTROL_RECEIVE, 4096, 3);
        machine.serve_all();
        assert_eq!(machine.hands.refusals, u64::from(calls < 19), "{calls}");
        let added = machine.received(CONTROL_RECEIVE);
        assert_eq!(added, [message(0, PORT_ADD, 1), message(1, PORT_ADD, 1)]);
    }
}
