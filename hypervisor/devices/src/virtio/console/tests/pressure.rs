//! Lines about pressure: the newest counts, and none is torn.

use super::{
    CONTROL_RECEIVE, Device, MULTIPORT, Machine, PORT_OPEN, PRESSURE_RECEIVE, PRESSURE_TRANSMIT, PortClosed,
    Step, Vec, text,
};

const NONE: &str = "pressure none free=100 wanted=0\n";
const SOME: &str = "pressure some free=50 wanted=1024\n";
const FULL: &str = "pressure full free=3 wanted=20480\n";

fn open() -> Machine {
    let mut machine = Machine::ready();
    machine.say(1, PORT_OPEN, 1);
    machine.serve_all();
    machine
}

#[test]
fn a_line_is_one_buffer() {
    let mut machine = open();
    machine.listen(PRESSURE_RECEIVE, 4096, 4);
    for line in [NONE, SOME] {
        machine.tell(line).unwrap();
        machine.serve_all();
    }
    let told = machine.received(PRESSURE_RECEIVE);
    assert_eq!(told, [NONE.as_bytes().to_vec(), SOME.as_bytes().to_vec()]);
    assert_eq!(machine.console.told_lines(), 2);
    machine.serve_one(PRESSURE_RECEIVE);
    assert!(machine.received(PRESSURE_RECEIVE).is_empty(), "told once");
}

#[test]
fn only_the_newest_line_waits() {
    let mut machine = open();
    for line in [NONE, SOME, FULL] {
        machine.tell(line).unwrap();
        machine.serve_all();
    }
    machine.listen(PRESSURE_RECEIVE, 4096, 4);
    machine.serve_one(PRESSURE_RECEIVE);
    assert_eq!(machine.received(PRESSURE_RECEIVE), [FULL.as_bytes().to_vec()]);
}

#[test]
fn who_opens_the_port_is_told_where_things_stand() {
    let mut machine = Machine::ready();
    machine.listen(PRESSURE_RECEIVE, 4096, 4);
    machine.say(1, PORT_OPEN, 1);
    machine.serve_all();
    assert!(
        machine.received(PRESSURE_RECEIVE).is_empty(),
        "nothing was ever said"
    );
    machine.say(1, PORT_OPEN, 0);
    assert_eq!(machine.tell(SOME), Err(PortClosed));
    machine.serve_all();
    machine.serve_one(PRESSURE_RECEIVE);
    assert!(
        machine.received(PRESSURE_RECEIVE).is_empty(),
        "nobody would read it"
    );
    for _ in 0..2 {
        machine.say(1, PORT_OPEN, 1);
        machine.serve_all();
        assert_eq!(machine.received(PRESSURE_RECEIVE), [SOME.as_bytes().to_vec()]);
        machine.say(1, PORT_OPEN, 0);
    }
}

#[test]
fn a_long_line_is_split_and_finished_before_the_next() {
    let mut machine = open();
    machine.listen(PRESSURE_RECEIVE, 10, 2);
    machine.tell(SOME).unwrap();
    machine.serve_all();
    assert_eq!(machine.console.told_lines(), 0);
    machine.tell(NONE).unwrap();
    machine.tell(FULL).unwrap();
    machine.serve_all();
    machine.listen(PRESSURE_RECEIVE, 10, 8);
    machine.serve_one(PRESSURE_RECEIVE);
    let told = machine.received(PRESSURE_RECEIVE);
    assert_eq!(text(&told), [SOME, FULL].concat());
    let sizes: Vec<usize> = told.iter().map(Vec::len).collect();
    assert_eq!(sizes, [10, 10, 10, 4, 10, 10, 10, 4]);
    assert_eq!(machine.console.told_lines(), 2);
}

#[test]
fn who_closes_in_the_middle_gets_a_whole_line_next_time() {
    let mut machine = open();
    machine.listen(PRESSURE_RECEIVE, 10, 1);
    machine.tell(SOME).unwrap();
    machine.serve_all();
    machine.say(1, PORT_OPEN, 0);
    machine.say(1, PORT_OPEN, 1);
    machine.listen(PRESSURE_RECEIVE, 64, 2);
    machine.serve_all();
    let told = machine.received(PRESSURE_RECEIVE);
    assert_eq!(text(&told[1..]), SOME);
    assert_eq!(machine.console.told_lines(), 1);
}

#[test]
fn a_reset_closes_the_port_but_keeps_the_line() {
    let mut machine = open();
    machine.listen(PRESSURE_RECEIVE, 10, 1);
    machine.tell(FULL).unwrap();
    machine.serve_all();
    machine.console.reset();
    assert!(!machine.console.listens());
    machine.console.negotiated(MULTIPORT);
    machine.listen(PRESSURE_RECEIVE, 64, 1);
    machine.serve_one(PRESSURE_RECEIVE);
    assert_eq!(machine.received(PRESSURE_RECEIVE).len(), 1);
    machine.say(1, PORT_OPEN, 1);
    machine.serve_all();
    assert_eq!(text(&machine.received(PRESSURE_RECEIVE)), FULL);
}

#[test]
fn a_line_is_cut_to_its_room_and_always_ends() {
    let long = [b'x'; 300];
    for (said, told) in [
        (&b"short"[..], &b"short\n"[..]),
        (b"", b"\n"),
        (b"\n", b"\n"),
        (&long[..], &[&long[..127], &b"\n"[..]].concat()),
        (&long[..127], &[&long[..127], &b"\n"[..]].concat()),
    ] {
        let mut machine = open();
        machine.listen(PRESSURE_RECEIVE, 4096, 2);
        machine.console.tell_pressure(said).unwrap();
        machine.serve_all();
        assert_eq!(machine.received(PRESSURE_RECEIVE), [told.to_vec()]);
    }
}

#[test]
fn a_flood_of_openings_tells_one_line_a_buffer_at_most() {
    let mut machine = open();
    machine.tell(FULL).unwrap();
    machine.listen(PRESSURE_RECEIVE, 4096, 3);
    for _ in 0..100 {
        machine.say(1, PORT_OPEN, 1);
        machine.serve_all();
        machine.say(1, PORT_OPEN, 0);
    }
    assert_eq!(machine.received(PRESSURE_RECEIVE).len(), 3);
    assert_eq!(machine.console.take_wishes() & !(1 << CONTROL_RECEIVE), 0);
}

#[test]
fn what_the_guest_says_is_heard_also_when_it_has_closed_the_port() {
    let mut machine = open();
    machine.send(PRESSURE_TRANSMIT, b"hello agent 1\n");
    machine.serve_one(PRESSURE_TRANSMIT);
    machine.send(PRESSURE_TRANSMIT, b"collected 512\n");
    machine.say(1, PORT_OPEN, 0);
    assert_eq!(machine.serve(PRESSURE_TRANSMIT), Ok(Step::Done));
    assert_eq!(machine.hands.inner.heard, b"hello agent 1\ncollected 512\n");
    assert_eq!(machine.console.heard_bytes(), 28);
}

#[test]
fn short_memory_at_any_call_only_delays_a_line() {
    for calls in 0..30 {
        let mut machine = open();
        machine.listen(PRESSURE_RECEIVE, 20, 4);
        machine.hands.refuse_after(calls);
        machine.tell(SOME).unwrap();
        machine.serve_all();
        machine.tell(NONE).unwrap();
        machine.serve_all();
        assert_eq!(machine.hands.refusals, u64::from(calls < 24), "{calls}");
        assert_eq!(text(&machine.received(PRESSURE_RECEIVE)), [SOME, NONE].concat());
        assert_eq!(machine.console.told_lines(), 2);
    }
}
