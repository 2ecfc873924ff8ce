//! The console device (virtio 1.2, 5.3) with two ports: the guest's console, and messages about pressure.
//!
//! ```text
//!   queue 0 <- what people type            queue 2 <- control: add, console, name, open
//!   queue 1 -> what the guest prints       queue 3 -> control: ready, open, close
//!   queue 4 <- "pressure some ..."         queue 5 -> "collected ..."
//! ```
//!
//! **Setting up**, as Linux 6.1 does it (`drivers/char/virtio_console.c`): the driver says DEVICE_READY and is told
//! of both ports (PORT_ADD); for each it fills the receive queue and says PORT_READY, and is told what the port is
//! and that we have it open. It answers CONSOLE_PORT with PORT_OPEN; the other port it opens when a process does.
//! After a resume it says PORT_READY without DEVICE_READY before it (`virtcons_restore`), which is good as well.
//! Linux gets its control messages sent by waiting in a loop until the buffer is used, so that they come one by one.
//!
//! **Nothing grows.** A message to the driver that finds no buffer is a bit for its kind; typed bytes wait in a
//! backlog; of the pressure lines the newest waits. Linux throws away what a port gets that nobody has open
//! (`in_intr`), so both wait until the port is open.
//!
//! Without `MULTIPORT` only queues 0 and 1 are used, and the console is open from the beginning (5.3.5).

mod control;
mod lines;
#[cfg(test)]
mod tests;

use arrayvec::ArrayVec;

use super::device::{Device, Step, Trouble};
use super::hands::Hands;
use super::queue::{Chain, Direction, Queue};
use crate::ConsoleFull;
use control::{Answer, Answers, MESSAGE_BYTES, Said, encode};
use lines::Lines;

const PORTS: usize = 2;
/// The same, in the width of its field.
const MAX_NR_PORTS: u32 = 2;
/// The guest's console.
const CONSOLE: usize = 0;
/// The port for pressure.
const PRESSURE: usize = 1;

const CONSOLE_RECEIVE: usize = 0;
const CONSOLE_TRANSMIT: usize = 1;
const CONTROL_RECEIVE: usize = 2;
const CONTROL_TRANSMIT: usize = 3;
const PRESSURE_RECEIVE: usize = 4;
const PRESSURE_TRANSMIT: usize = 5;

const MULTIPORT: u64 = 1 << 1;
/// Where `max_nr_ports` is in the configuration space.
const MAX_PORTS: usize = 4;

/// Linux fills each receive queue with pages, which it then never gives back: small queues save the guest memory.
const RECEIVE_SIZE: u16 = 16;
const TRANSMIT_SIZE: u16 = 64;

/// Typed bytes that wait for the guest.
const BACKLOG_BYTES: usize = 256;
/// Bytes printed or heard at a time.
const PIECE_BYTES: usize = 256;
/// Bytes taken from the guest in one serve.
const TAKEN_MAX: usize = 4096;
/// Chains used in one serve, also if they are empty: each may have as many descriptors as the queue.
const CHAINS_MAX: u32 = 16;

/// Nobody in the guest has the port open. The line is kept and told when somebody opens it, unless there is a newer
/// one then.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PortClosed;

#[derive(Clone, Copy, Debug, Default)]
struct Port {
    answers: Answers,
    /// The driver knows of it.
    is_added: bool,
    /// Somebody in the guest has it open.
    is_open: bool,
    /// Bytes of the first chain to transmit that were taken.
    taken: u64,
}

impl Port {
    const NEW: Self = Self {
        answers: Answers::NONE,
        is_added: false,
        is_open: false,
        taken: 0,
    };
}

/// A console and a port for pressure.
#[derive(Clone, Debug, Default)]
pub struct Console {
    has_ports: bool,
    ports: [Port; PORTS],
    backlog: ArrayVec<u8, BACKLOG_BYTES>,
    lines: Lines,
    wishes: u32,
    printed_bytes: u64,
    heard_bytes: u64,
}

impl Console {
    /// A console that nobody has opened.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A byte typed on the guest's console. What the guest has not read survives a reset of the device: it is the
    /// first thing that a driver does.
    ///
    /// # Errors
    /// The guest does not read: the backlog is full and the byte was dropped.
    pub fn receive_console(&mut self, byte: u8) -> Result<(), ConsoleFull> {
        self.backlog.try_push(byte).map_err(|_| ConsoleFull)?;
        self.wish(CONSOLE_RECEIVE);
        Ok(())
    }

    /// The guest is to know this about pressure; only the last line counts.
    ///
    /// # Errors
    /// Nobody in the guest has the port open; the line is kept for who does.
    pub fn tell_pressure(&mut self, line: &[u8]) -> Result<(), PortClosed> {
        self.lines.tell(line);
        if !self.listens() {
            return Err(PortClosed);
        }
        self.wish(PRESSURE_RECEIVE);
        Ok(())
    }

    /// Whether the guest can get what is typed.
    #[must_use]
    pub const fn has_console(&self) -> bool {
        !self.has_ports || self.ports[CONSOLE].is_open
    }

    /// Whether somebody in the guest has the port for pressure open.
    #[must_use]
    pub const fn listens(&self) -> bool {
        self.ports[PRESSURE].is_open
    }

    /// Typed bytes that the guest has not read.
    #[must_use]
    pub fn unread_bytes(&self) -> usize {
        self.backlog.len()
    }

    /// Bytes that the guest wrote to its console.
    #[must_use]
    pub const fn printed_bytes(&self) -> u64 {
        self.printed_bytes
    }

    /// Bytes that the guest wrote to the port for pressure.
    #[must_use]
    pub const fn heard_bytes(&self) -> u64 {
        self.heard_bytes
    }

    /// Lines about pressure that the guest has got.
    #[must_use]
    pub const fn told_lines(&self) -> u64 {
        self.lines.delivered()
    }

    const fn wish(&mut self, queue: usize) {
        self.wishes |= 1 << queue;
    }

    fn take_in<H: Hands>(&mut self, hands: &mut H, queue: &mut Queue) -> Result<Step, Trouble> {
        for _ in 0..CHAINS_MAX {
            if self.backlog.is_empty() || !self.has_console() {
                return Ok(Step::Done);
            }
            let Some(chain) = queue.first(hands)? else {
                return Ok(Step::Done);
            };
            let bytes = deliver(hands, queue, &chain, &self.backlog)?;
            self.backlog.drain(..bytes);
        }
        Ok(Step::More)
    }

    fn tell<H: Hands>(&mut self, hands: &mut H, queue: &mut Queue) -> Result<Step, Trouble> {
        for _ in 0..CHAINS_MAX {
            if self.lines.next().is_empty() || !self.listens() {
                return Ok(Step::Done);
            }
            let Some(chain) = queue.first(hands)? else {
                return Ok(Step::Done);
            };
            let bytes = deliver(hands, queue, &chain, self.lines.next())?;
            self.lines.advance(bytes);
        }
        Ok(Step::More)
    }

    /// Takes what the guest writes to a port; how far it got in a chain is kept, so that nothing is taken twice.
    fn transmit<H: Hands>(&mut self, hands: &mut H, queue: &mut Queue, port: usize) -> Result<Step, Trouble> {
        let mut budget = TAKEN_MAX;
        for _ in 0..CHAINS_MAX {
            let Some(chain) = queue.first(hands)? else {
                return Ok(Step::Done);
            };
            let bytes = chain.bytes(Direction::FromGuest);
            while self.ports[port].taken < bytes && budget > 0 {
                let mut piece = [0; PIECE_BYTES];
                let piece = &mut piece[..budget.min(PIECE_BYTES)];
                let taken = chain.copy_out(hands, self.ports[port].taken, piece)?;
                self.pass_on(hands, port, &piece[..taken]);
                self.ports[port].taken += taken as u64;
                budget -= taken;
            }
            if self.ports[port].taken < bytes {
                return Ok(Step::More);
            }
            queue.complete(hands, &chain, 0)?;
            self.ports[port].taken = 0;
        }
        Ok(Step::More)
    }

    /// Also from a port that the guest says is closed: what was written before that may be seen after it.
    fn pass_on<H: Hands>(&mut self, hands: &mut H, port: usize, bytes: &[u8]) {
        let total = if port == CONSOLE {
            hands.print(bytes);
            &mut self.printed_bytes
        } else {
            hands.hear(bytes);
            &mut self.heard_bytes
        };
        *total = total.saturating_add(bytes.len() as u64);
    }

    fn take_control<H: Hands>(&mut self, hands: &mut H, queue: &mut Queue) -> Result<Step, Trouble> {
        for _ in 0..CHAINS_MAX {
            let Some(chain) = queue.first(hands)? else {
                return Ok(Step::Done);
            };
            let mut message = [0; MESSAGE_BYTES];
            let bytes = chain.copy_out(hands, 0, &mut message)?;
            // First used, then obeyed: used once, obeyed once.
            queue.complete(hands, &chain, 0)?;
            if bytes == MESSAGE_BYTES
                && let Some(said) = Said::decode(message)
            {
                self.obey(said);
            }
        }
        Ok(Step::More)
    }

    fn obey(&mut self, said: Said) {
        match said {
            // A port that is there must not be added again (5.3.6.2.1).
            Said::DeviceReady => {
                for port in self.ports.iter_mut().filter(|port| !port.is_added) {
                    port.answers.insert(Answer::Add);
                }
            }
            Said::PortReady(port) => {
                let kind = if port == CONSOLE {
                    Answer::Console
                } else {
                    Answer::Name
                };
                let port = &mut self.ports[port];
                port.is_added = true;
                port.answers.remove(Answer::Add);
                port.answers.insert(kind);
                port.answers.insert(Answer::Open);
            }
            Said::Opened(port) => {
                self.ports[port].is_open = true;
                if port == PRESSURE {
                    self.lines.open();
                }
                self.wish(if port == CONSOLE {
                    CONSOLE_RECEIVE
                } else {
                    PRESSURE_RECEIVE
                });
            }
            Said::Closed(port) => {
                self.ports[port].is_open = false;
                if port == PRESSURE {
                    self.lines.close();
                }
            }
        }
        self.wish(CONTROL_RECEIVE);
    }

    fn give_control<H: Hands>(&mut self, hands: &mut H, queue: &mut Queue) -> Result<Step, Trouble> {
        for _ in 0..CHAINS_MAX {
            let pending = |(place, port): (usize, &Port)| port.answers.first().map(|answer| (place, answer));
            let Some((place, answer)) = self.ports.iter().enumerate().find_map(pending) else {
                return Ok(Step::Done);
            };
            let Some(chain) = queue.first(hands)? else {
                return Ok(Step::Done);
            };
            let (message, bytes) = encode(place, answer);
            if chain.bytes(Direction::ToGuest) < bytes as u64 {
                return Err(Trouble::Guest("a buffer too small for a control message"));
            }
            deliver(hands, queue, &chain, &message[..bytes])?;
            let port = &mut self.ports[place];
            port.answers.remove(answer);
            port.is_added |= answer == Answer::Add;
        }
        Ok(Step::More)
    }
}

/// Puts bytes into a chain, uses it, and returns how many had room there.
fn deliver<H: Hands>(
    hands: &mut H,
    queue: &mut Queue,
    chain: &Chain,
    bytes: &[u8],
) -> Result<usize, Trouble> {
    if chain.bytes(Direction::ToGuest) == 0 {
        return Err(Trouble::Guest("a receive buffer without room"));
    }
    chain.make_writable(hands, 0, bytes.len() as u64)?;
    let written = chain.copy_in(hands, 0, bytes)?;
    queue.complete(hands, chain, u32::try_from(written).unwrap_or(u32::MAX))?;
    Ok(written)
}

impl Device for Console {
    const ID: u16 = 3;
    const QUEUE_SIZES: &'static [u16] = &[
        RECEIVE_SIZE,
        TRANSMIT_SIZE,
        RECEIVE_SIZE,
        TRANSMIT_SIZE,
        RECEIVE_SIZE,
        TRANSMIT_SIZE,
    ];

    fn offered(&self) -> u64 {
        MULTIPORT
    }

    fn negotiated(&mut self, features: u64) {
        self.has_ports = features & MULTIPORT != 0;
    }

    fn reset(&mut self) {
        self.has_ports = false;
        self.ports = [Port::NEW; PORTS];
        self.lines.close();
        self.wishes = 0;
    }

    fn config(&self, at: usize) -> u8 {
        // `struct virtio_console_config` (5.3.4): size, number of ports.
        let mut space = [0; MAX_PORTS + 4];
        space[MAX_PORTS..].copy_from_slice(&MAX_NR_PORTS.to_le_bytes());
        space.get(at).copied().unwrap_or(0)
    }

    fn serve<H: Hands>(&mut self, index: usize, queue: &mut Queue, hands: &mut H) -> Result<Step, Trouble> {
        match index {
            CONSOLE_RECEIVE => self.take_in(hands, queue),
            CONSOLE_TRANSMIT => self.transmit(hands, queue, CONSOLE),
            CONTROL_RECEIVE if self.has_ports => self.give_control(hands, queue),
            CONTROL_TRANSMIT if self.has_ports => self.take_control(hands, queue),
            PRESSURE_RECEIVE if self.has_ports => self.tell(hands, queue),
            PRESSURE_TRANSMIT if self.has_ports => self.transmit(hands, queue, PRESSURE),
            _ => Ok(Step::Done),
        }
    }

    fn take_wishes(&mut self) -> u32 {
        core::mem::take(&mut self.wishes)
    }
}
