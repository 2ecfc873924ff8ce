//! Control messages between the console device and its driver (virtio 1.2, 5.3.6.2).

use super::PORTS;

/// Port, event, value.
pub(super) const MESSAGE_BYTES: usize = 8;
/// The longest message of ours: a name follows it.
const ANSWER_BYTES_MAX: usize = MESSAGE_BYTES + PRESSURE_NAME.len();
/// The name of port 1: in a Linux guest `/dev/virtio-ports/org.pleat.pressure`. Without a NUL (5.3.6.2): Linux
/// takes what the used length says (`handle_control_message`).
const PRESSURE_NAME: &[u8] = b"org.pleat.pressure";

const DEVICE_READY: u16 = 0;
const PORT_ADD: u16 = 1;
const PORT_READY: u16 = 3;
const CONSOLE_PORT: u16 = 4;
const PORT_OPEN: u16 = 6;
const PORT_NAME: u16 = 7;

/// What the driver says, as far as it concerns us.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Said {
    /// It can take control messages.
    DeviceReady,
    /// It has set up this port.
    PortReady(usize),
    /// Somebody in the guest has opened this port.
    Opened(usize),
    /// And closed it.
    Closed(usize),
}

impl Said {
    /// What a message means; nothing, if it is none of these or about a port that is not there.
    pub(super) fn decode(message: [u8; MESSAGE_BYTES]) -> Option<Self> {
        let [i0, i1, i2, i3, e0, e1, v0, v1] = message;
        let event = u16::from_le_bytes([e0, e1]);
        let value = u16::from_le_bytes([v0, v1]);
        if event == DEVICE_READY {
            // The port number is unused. 0: the driver could not set the device up.
            return (value == 1).then_some(Self::DeviceReady);
        }
        let id = u32::from_le_bytes([i0, i1, i2, i3]);
        let port = usize::try_from(id).ok().filter(|port| *port < PORTS)?;
        match (event, value) {
            (PORT_READY, 1) => Some(Self::PortReady(port)),
            (PORT_OPEN, 0) => Some(Self::Closed(port)),
            (PORT_OPEN, _) => Some(Self::Opened(port)),
            _ => None,
        }
    }
}

/// What we say about a port, in this order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Answer {
    Add,
    Console,
    Name,
    Open,
}

impl Answer {
    const ALL: [Self; 4] = [Self::Add, Self::Console, Self::Name, Self::Open];

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// What is still to be said about a port: bits, as a guest can ask for each as often as it likes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Answers(u8);

impl Answers {
    pub(super) const NONE: Self = Self(0);

    pub(super) const fn insert(&mut self, answer: Answer) {
        self.0 |= answer.bit();
    }

    pub(super) const fn remove(&mut self, answer: Answer) {
        self.0 &= !answer.bit();
    }

    pub(super) fn first(self) -> Option<Answer> {
        Answer::ALL.into_iter().find(|answer| self.0 & answer.bit() != 0)
    }
}

/// A message of ours: its bytes, and how many they are.
pub(super) fn encode(port: usize, answer: Answer) -> ([u8; ANSWER_BYTES_MAX], usize) {
    let (event, name): (u16, &[u8]) = match answer {
        Answer::Add => (PORT_ADD, &[]),
        Answer::Console => (CONSOLE_PORT, &[]),
        Answer::Name => (PORT_NAME, PRESSURE_NAME),
        Answer::Open => (PORT_OPEN, &[]),
    };
    let mut message = [0; ANSWER_BYTES_MAX];
    // A port number below `PORTS`.
    message[..4].copy_from_slice(&u32::try_from(port).unwrap_or(u32::MAX).to_le_bytes());
    message[4..6].copy_from_slice(&event.to_le_bytes());
    // Linux takes a CONSOLE_PORT only with a value, and PORT_OPEN's says "open".
    message[6..8].copy_from_slice(&1_u16.to_le_bytes());
    let bytes = MESSAGE_BYTES + name.len();
    message[MESSAGE_BYTES..bytes].copy_from_slice(name);
    (message, bytes)
}
