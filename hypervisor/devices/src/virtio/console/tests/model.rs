//! Any sequence of what guest and host may do: nothing is lost, torn or told twice, and nothing fails.

use std::format;

use proptest::prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};

use super::{
    BACKLOG_BYTES, CONSOLE_RECEIVE, CONSOLE_TRANSMIT, CONTROL_RECEIVE, CONTROL_TRANSMIT, Device, FromGuest,
    MULTIPORT, Machine, OUTGOING, PORT_OPEN, PRESSURE_RECEIVE, PRESSURE_TRANSMIT, QUEUES, Step, ToGuest,
    Trouble, Vec, text,
};

#[derive(Clone, Debug)]
enum Happening {
    Tell,
    Open(u32),
    Close(u32),
    Listen(usize, u32),
    Type(u8),
    Write(usize, u16),
    Serve,
}

fn happening() -> impl Strategy<Value = Happening> {
    let receive = prop_oneof![Just(CONSOLE_RECEIVE), Just(PRESSURE_RECEIVE)];
    let transmit = prop_oneof![Just(CONSOLE_TRANSMIT), Just(PRESSURE_TRANSMIT)];
    prop_oneof![
        Just(Happening::Tell),
        (0..2u32).prop_map(Happening::Open),
        (0..2u32).prop_map(Happening::Close),
        (receive, prop_oneof![1..40u32, Just(4096u32)])
            .prop_map(|(queue, bytes)| Happening::Listen(queue, bytes)),
        any::<u8>().prop_map(Happening::Type),
        (transmit, 0..9000u16).prop_map(|(queue, bytes)| Happening::Write(queue, bytes)),
        Just(Happening::Serve),
    ]
}

/// What should have come of it.
#[derive(Default)]
struct Model {
    typed: Vec<u8>,
    got: Vec<u8>,
    /// Pieces on the pressure port since it was opened last.
    lines: Vec<Vec<u8>>,
    told: u32,
    written: [Vec<u8>; 2],
}

impl Model {
    fn do_it(&mut self, machine: &mut Machine, happening: &Happening) {
        match *happening {
            Happening::Tell => {
                self.told += 1;
                let line = format!("pressure some number={}\n", self.told);
                assert_eq!(machine.tell(&line).is_ok(), machine.console.listens());
            }
            Happening::Open(port) => machine.say_again(port, 1),
            Happening::Close(port) => {
                self.collect(machine);
                machine.say_again(port, 0);
                if port == 1 {
                    self.lines.clear();
                }
            }
            Happening::Listen(queue, bytes) => {
                self.collect(machine);
                if machine.waiting(queue) < 16 {
                    machine.listen(queue, bytes, 1);
                }
                machine.serve_one(queue);
            }
            Happening::Type(byte) => {
                if machine.console.receive_console(byte).is_ok() {
                    self.typed.push(byte);
                } else {
                    assert_eq!(machine.console.unread_bytes(), BACKLOG_BYTES);
                }
            }
            Happening::Write(queue, bytes) => {
                let bytes: Vec<u8> = (0..bytes).map(|n| (n % 253).to_le_bytes()[0]).collect();
                machine.send(queue, &bytes);
                machine.serve_one(queue);
                self.written[queue / PRESSURE_TRANSMIT].extend_from_slice(&bytes);
                assert_eq!(machine.guests[queue].used(&machine.hands.inner).len(), 1);
            }
            Happening::Serve => machine.serve_all(),
        }
        self.collect(machine);
    }

    /// Whole lines in their order, but for the last one, which may still come.
    fn check_lines(&self) {
        let mut last = 0;
        for line in text(&self.lines).split_inclusive('\n') {
            let number = line
                .strip_prefix("pressure some number=")
                .and_then(|rest| rest.strip_suffix('\n'));
            match number.map(|number| number.parse::<u32>().unwrap()) {
                Some(number) => {
                    assert!(last <= number && number <= self.told, "in order");
                    last = number;
                }
                None => assert!(!line.ends_with('\n'), "torn: {line}"),
            }
        }
    }

    fn collect(&mut self, machine: &mut Machine) {
        self.got.extend(machine.received(CONSOLE_RECEIVE).concat());
        self.lines.extend(machine.received(PRESSURE_RECEIVE));
    }
}

impl Machine {
    /// As `say`, when memory may be short.
    fn say_again(&mut self, port: u32, value: u16) {
        self.send(CONTROL_TRANSMIT, &super::message(port, PORT_OPEN, value));
        self.serve_one(CONTROL_TRANSMIT);
        assert_eq!(self.guests[CONTROL_TRANSMIT].used(&self.hands.inner).len(), 1);
    }

    fn waiting(&self, queue: usize) -> u16 {
        let guest = &self.guests[queue];
        guest.next_available.wrapping_sub(guest.next_used)
    }
}

proptest! {
    #[test]
    fn nothing_is_lost_torn_or_told_twice(
        happenings in proptest::collection::vec(happening(), 0..80),
        schedule in proptest::collection::vec(any::<bool>(), 0..600),
    ) {
        let mut machine = Machine::ready();
        machine.hands.schedule = schedule.into();
        let mut model = Model::default();
        for happening in &happenings {
            model.do_it(&mut machine, happening);
            model.check_lines();
            prop_assert!(model.typed.starts_with(&model.got));
        }
        // With room for all, all is there in the end.
        machine.say_again(0, 1);
        if !machine.console.listens() {
            machine.say_again(1, 1);
        }
        for queue in [CONSOLE_RECEIVE, PRESSURE_RECEIVE] {
            machine.serve_one(queue);
            model.collect(&mut machine);
            machine.listen(queue, 4096, usize::from(16 - machine.waiting(queue)));
            machine.serve_one(queue);
            model.collect(&mut machine);
        }
        prop_assert!(model.got == model.typed || machine.console.unread_bytes() > 0);
        prop_assert_eq!(model.got.len() + machine.console.unread_bytes(), model.typed.len());
        if model.told > 0 {
            let newest = format!("number={}\n", model.told);
            prop_assert!(text(&model.lines).ends_with(&newest));
        }
        prop_assert!(machine.hands.inner.printed == model.written[0]);
        prop_assert!(machine.hands.inner.heard == model.written[1]);
    }

    #[test]
    fn a_hostile_guest_gets_an_answer_to_everything(
        messages in proptest::collection::vec(
            (0..QUEUES, proptest::collection::vec(any::<u8>(), 0..12), any::<u32>(), any::<bool>()), 0..60),
        typed in 0..300usize,
    ) {
        let mut machine = Machine::new(MULTIPORT);
        for _ in 0..typed {
            let _ = machine.console.receive_console(b'k');
        }
        let _ = machine.tell("pressure full\n");
        for (queue, bytes, length, is_sent) in messages {
            machine.guests[queue].used(&machine.hands.inner);
            if machine.waiting(queue) >= 16 {
                continue;
            }
            if is_sent {
                machine.send(queue, &bytes);
            } else {
                let direction = if length & 1 == 0 { ToGuest } else { FromGuest };
                machine.guests[queue].add(&mut machine.hands.inner, &[(OUTGOING, length >> (length & 31), direction)]);
            }
            let wishes = machine.console.take_wishes() | 1 << queue;
            for queue in (0..QUEUES).filter(|queue| wishes & 1 << queue != 0) {
                let before = machine.hands.inner.work;
                match machine.serve(queue) {
                    Ok(Step::Done | Step::More) | Err(Trouble::Guest(_)) => (),
                    Err(Trouble::HostShort) => prop_assert!(false, "there was memory"),
                }
                prop_assert!(machine.hands.inner.work - before < 2000, "a call does a bounded piece");
            }
            prop_assert!(machine.received_count(CONTROL_RECEIVE) <= 16);
        }
    }
}

impl Machine {
    fn received_count(&mut self, queue: usize) -> usize {
        self.guests[queue].used(&self.hands.inner).len()
    }
}
