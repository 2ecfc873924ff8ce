//! The console device against a driver that does what Linux's does, against hostile ones, and against a model.

mod control;
mod model;
mod output;
mod pressure;

use std::string::String;
use std::vec;
use std::vec::Vec;

use pleat_types::Gpa;

use super::{
    BACKLOG_BYTES, CHAINS_MAX, CONSOLE_RECEIVE, CONSOLE_TRANSMIT, CONTROL_RECEIVE, CONTROL_TRANSMIT, Console,
    Device, MULTIPORT, PRESSURE_RECEIVE, PRESSURE_TRANSMIT, PortClosed, Step, TAKEN_MAX, Trouble,
};
use crate::ConsoleFull;
use crate::virtio::Queue;
use crate::virtio::queue::Direction::{FromGuest, ToGuest};
use crate::virtio::testing::{Grudging, GuestQueue};

const QUEUES: usize = 6;
/// Where a test puts the control messages that it sends, and what else it sends.
const CONTROL: Gpa = Gpa::new(0x7000);
const OUTGOING: Gpa = Gpa::new(0x8000);
/// Buffers for what it receives, one page each.
const INCOMING: u64 = 0x1_0000;
const RAM_BYTES: usize = 0x4_0000;

const PORT_READY: u16 = 3;
const PORT_OPEN: u16 = 6;

struct Machine {
    hands: Grudging,
    guests: Vec<GuestQueue>,
    queues: Vec<Queue>,
    console: Console,
    /// Where each buffer that waits in a receive queue is: queue, head, address.
    buffers: Vec<(usize, u16, Gpa)>,
}

impl Machine {
    fn new(features: u64) -> Self {
        let base = |n: usize| Gpa::new(0x1000 + 0x1000 * n as u64);
        let size = |n: usize| Console::QUEUE_SIZES[n];
        let guests: Vec<_> = (0..QUEUES).map(|n| GuestQueue::new(base(n), size(n))).collect();
        let mut console = Console::new();
        console.negotiated(features);
        Self {
            hands: Grudging::new(RAM_BYTES),
            queues: guests.iter().map(GuestQueue::enabled).collect(),
            guests,
            console,
            buffers: Vec::new(),
        }
    }

    /// A driver that is ready, and to which nothing is left to say.
    fn ready() -> Self {
        let mut machine = Self::new(MULTIPORT);
        machine.say(9, 0, 1);
        machine.say(0, PORT_READY, 1);
        machine.say(1, PORT_READY, 1);
        machine.listen(CONTROL_RECEIVE, 4096, 6);
        machine.serve_all();
        assert_eq!(machine.received(CONTROL_RECEIVE).len(), 4);
        machine
    }

    /// Gives the device buffers of this size.
    fn listen(&mut self, queue: usize, bytes: u32, count: usize) {
        for _ in 0..count {
            let at = Gpa::new(INCOMING + 0x1000 * (self.buffers.len() as u64 % 32));
            let head = self.guests[queue].add(&mut self.hands.inner, &[(at, bytes, ToGuest)]);
            self.buffers.push((queue, head, at));
        }
    }

    /// What came into the buffers of a queue.
    fn received(&mut self, queue: usize) -> Vec<Vec<u8>> {
        let used = self.guests[queue].used(&self.hands.inner);
        let content = |(head, written): (u16, u32)| {
            let is_it = |buffer: &(usize, u16, Gpa)| buffer.0 == queue && buffer.1 == head;
            let place = self.buffers.iter().rposition(is_it).unwrap();
            let at = self.buffers[place].2;
            self.hands.inner.peek(at, written as usize).to_vec()
        };
        used.into_iter().map(content).collect()
    }

    fn send(&mut self, queue: usize, bytes: &[u8]) -> u16 {
        let at = if queue == CONTROL_TRANSMIT {
            CONTROL
        } else {
            OUTGOING
        };
        self.hands.inner.poke(at, bytes);
        let size = u32::try_from(bytes.len()).unwrap();
        self.guests[queue].add(&mut self.hands.inner, &[(at, size, FromGuest)])
    }

    /// A control message, sent as Linux does: it waits until the buffer is used.
    fn say(&mut self, id: u32, event: u16, value: u16) {
        let head = self.send(CONTROL_TRANSMIT, &message(id, event, value));
        assert_eq!(self.serve(CONTROL_TRANSMIT), Ok(Step::Done));
        assert_eq!(self.guests[CONTROL_TRANSMIT].used(&self.hands.inner), [(head, 0)]);
    }

    fn serve(&mut self, queue: usize) -> Result<Step, Trouble> {
        self.console
            .serve(queue, &mut self.queues[queue], &mut self.hands)
    }

    /// All that the device wishes, as its transport does it, the guest running in between.
    fn serve_all(&mut self) {
        for _ in 0..10_000 {
            let wishes = self.console.take_wishes();
            if wishes == 0 {
                return;
            }
            for queue in (0..QUEUES).filter(|queue| wishes & 1 << queue != 0) {
                self.serve_one(queue);
            }
        }
        panic!("wishes without end");
    }

    fn serve_one(&mut self, queue: usize) {
        for _ in 0..10_000 {
            match self.serve(queue) {
                Ok(Step::Done) => return,
                Ok(Step::More) | Err(Trouble::HostShort) => self.hands.inner.run_guest(),
                Err(Trouble::Guest(why)) => panic!("{why}"),
            }
        }
        panic!("never done");
    }

    fn tell(&mut self, line: &str) -> Result<(), PortClosed> {
        self.console.tell_pressure(line.as_bytes())
    }

    fn type_in(&mut self, text: &[u8]) {
        for byte in text {
            self.console.receive_console(*byte).unwrap();
        }
    }
}

fn message(id: u32, event: u16, value: u16) -> Vec<u8> {
    let mut bytes = id.to_le_bytes().to_vec();
    bytes.extend_from_slice(&event.to_le_bytes());
    bytes.extend_from_slice(&value.to_le_bytes());
    bytes
}

fn text(chunks: &[Vec<u8>]) -> String {
    String::from_utf8(chunks.concat()).unwrap()
}

#[test]
fn without_ports_it_is_a_plain_console() {
    let mut machine = Machine::new(0);
    machine.listen(CONSOLE_RECEIVE, 4096, 2);
    machine.type_in(b"ls\n");
    machine.serve_all();
    assert_eq!(machine.received(CONSOLE_RECEIVE), [b"ls\n".to_vec()]);
    machine.send(CONSOLE_TRANSMIT, b"hello");
    assert_eq!(machine.serve(CONSOLE_TRANSMIT), Ok(Step::Done));
    assert_eq!(machine.hands.inner.printed, b"hello");
    assert!(machine.console.has_console() && !machine.console.listens());
    // The other queues do not exist for it.
    assert_eq!(machine.tell("pressure some\n"), Err(PortClosed));
    for (queue, sent) in [
        (CONTROL_TRANSMIT, message(1, PORT_OPEN, 1)),
        (PRESSURE_TRANSMIT, vec![1; 9]),
    ] {
        machine.send(queue, &sent);
        machine.listen(queue - 1, 4096, 1);
    }
    machine.hands.inner.accesses.clear();
    for queue in CONTROL_RECEIVE..40 {
        let n = queue.min(QUEUES - 1);
        assert_eq!(
            machine
                .console
                .serve(queue, &mut machine.queues[n], &mut machine.hands),
            Ok(Step::Done)
        );
    }
    assert_eq!(machine.hands.inner.accesses, []);
    assert!(machine.hands.inner.heard.is_empty() && !machine.console.listens());
}

#[test]
fn the_configuration_says_two_ports_and_no_size() {
    let console = Console::new();
    let space: Vec<u8> = (0..12).map(|at| console.config(at)).collect();
    assert_eq!(space, [0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(console.config(usize::MAX), 0);
    assert_eq!(console.offered(), 1 << 1);
    assert_eq!(Console::QUEUE_SIZES.len(), QUEUES);
}

#[test]
fn typed_bytes_wait_until_the_guest_has_opened_the_console() {
    let mut machine = Machine::ready();
    machine.listen(CONSOLE_RECEIVE, 4096, 2);
    machine.type_in(b"early");
    machine.serve_all();
    assert!(machine.received(CONSOLE_RECEIVE).is_empty() && !machine.console.has_console());
    machine.say(0, PORT_OPEN, 1);
    machine.serve_all();
    assert_eq!(machine.received(CONSOLE_RECEIVE), [b"early".to_vec()]);
    machine.say(0, PORT_OPEN, 0);
    machine.type_in(b"late");
    machine.serve_all();
    assert!(machine.received(CONSOLE_RECEIVE).is_empty());
    assert_eq!(machine.console.unread_bytes(), 4);
}

#[test]
fn the_backlog_is_bounded_and_survives_a_reset() {
    let mut machine = Machine::new(MULTIPORT);
    let typed: Vec<u8> = (0..BACKLOG_BYTES).map(|n| n.to_le_bytes()[0]).collect();
    machine.type_in(&typed);
    assert_eq!(machine.console.receive_console(1), Err(ConsoleFull));
    machine.console.reset();
    assert_eq!(machine.console.take_wishes(), 0);
    machine.console.negotiated(0);
    machine.listen(CONSOLE_RECEIVE, 100, 2);
    machine.serve_one(CONSOLE_RECEIVE);
    let first = machine.received(CONSOLE_RECEIVE);
    assert_eq!(first, [typed[..100].to_vec(), typed[100..200].to_vec()]);
    assert_eq!(machine.console.unread_bytes(), 56);
    machine.listen(CONSOLE_RECEIVE, 100, 1);
    machine.serve_one(CONSOLE_RECEIVE);
    assert_eq!(machine.received(CONSOLE_RECEIVE), [typed[200..].to_vec()]);
    assert_eq!(machine.console.receive_console(1), Ok(()));
}

#[test]
fn a_receive_buffer_in_parts_gets_what_fits() {
    let mut machine = Machine::new(0);
    let parts = [
        (OUTGOING, 9, FromGuest),
        (Gpa::new(0x1_0ffe), 3, ToGuest),
        (Gpa::new(u64::MAX), 0, ToGuest),
        (Gpa::new(0x1_2000), 2, ToGuest),
    ];
    let head = machine.guests[CONSOLE_RECEIVE].add(&mut machine.hands.inner, &parts);
    machine.type_in(b"abcdefg");
    machine.serve_all();
    assert_eq!(
        machine.guests[CONSOLE_RECEIVE].used(&machine.hands.inner),
        [(head, 5)]
    );
    assert_eq!(machine.hands.inner.peek(Gpa::new(0x1_0ffe), 4), b"abc\0");
    assert_eq!(machine.hands.inner.peek(Gpa::new(0x1_2000), 3), b"de\0");
    assert_eq!(machine.console.unread_bytes(), 2);
}

#[test]
fn receive_buffers_that_are_none_are_a_broken_driver() {
    let queues = [CONSOLE_RECEIVE, CONTROL_RECEIVE, PRESSURE_RECEIVE];
    for queue in queues {
        for buffer in [
            (Gpa::new(INCOMING), 0, ToGuest),
            (Gpa::new(INCOMING), 4096, FromGuest),
            (Gpa::new(RAM_BYTES as u64 - 1), 64, ToGuest),
            (Gpa::new(u64::MAX - 1), 64, ToGuest),
            (Gpa::new(u64::MAX), u32::MAX, ToGuest),
        ] {
            let mut machine = Machine::ready();
            machine.say(0, PORT_OPEN, 1);
            machine.say(1, PORT_OPEN, 1);
            machine.say(1, PORT_READY, 1);
            machine.type_in(b"xy");
            machine.tell("pressure none\n").unwrap();
            while machine.queues[queue].first(&mut machine.hands).unwrap().is_some() {
                machine.serve_one(queue);
                machine.say(1, PORT_READY, 1);
            }
            machine.guests[queue].add(&mut machine.hands.inner, &[buffer]);
            let answer = machine.serve(queue);
            assert!(
                matches!(answer, Err(Trouble::Guest(_))),
                "{queue} {buffer:?}: {answer:?}"
            );
        }
    }
}
