//! One connection to the agent, from the agent's side.
//!
//! A wake-up is a write to an eventfd, which never waits and takes no memory however often it is done: a process
//! that does not read its wake-ups costs the agent nothing.

use std::io::{self, IoSlice, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use crate::lines::LineBuffer;
use crate::message::{Level, Pressure, Request};

/// A connection that has not said by then what it wants makes room for others.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// A connection.
#[derive(Debug)]
pub struct Subscriber {
    socket: UnixStream,
    lines: LineBuffer,
    since: Instant,
    wake: Option<Wake>,
}

#[derive(Debug)]
struct Wake {
    from: Level,
    event: OwnedFd,
}

/// What came of listening to a connection.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// It is still there, and has given back so many KiB.
    Here(u64),
    /// It is gone, or does not keep to the protocol.
    Gone,
}

impl Subscriber {
    /// Takes over a connection.
    ///
    /// # Errors
    /// Those of the system.
    pub fn new(socket: UnixStream) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket,
            lines: LineBuffer::default(),
            since: Instant::now(),
            wake: None,
        })
    }

    /// The socket, to be waited for.
    #[must_use]
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Until when it has to say what it wants.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.wake.is_none().then(|| self.since + PATIENCE)
    }

    /// Reads what has come, once: whoever never stops writing has to wait for its next turn too.
    pub fn hear(&mut self, current: &Pressure) -> Heard {
        let mut bytes = [0; 512];
        let count = match self.socket.read(&mut bytes) {
            Ok(0) => return Heard::Gone,
            Ok(count) => count,
            Err(error) if is_later(&error) => return Heard::Here(0),
            Err(_) => return Heard::Gone,
        };
        let mut requests = Vec::new();
        self.lines.feed(bytes.get(..count).unwrap_or_default(), |line| {
            requests.push(Request::parse(line));
        });
        let mut collected = 0_u64;
        for request in requests {
            match request {
                Some(Request::Collected(kib)) => collected = collected.saturating_add(kib),
                Some(Request::Subscribe(from)) if self.subscribe(from, current).is_ok() => {}
                _ => return Heard::Gone,
            }
        }
        Heard::Here(collected)
    }

    /// Sends the current line and the descriptor. Who subscribes again takes the place of its former subscription.
    fn subscribe(&mut self, from: Level, current: &Pressure) -> io::Result<()> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let answer = format!("{current}\n");
        let descriptors = [event.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
            return Err(io::Error::other("no room for a descriptor"));
        }
        let sent = sendmsg(
            &self.socket,
            &[IoSlice::new(answer.as_bytes())],
            &mut control,
            SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
        )?;
        if sent != answer.len() {
            return Err(io::Error::other("the subscriber does not read"));
        }
        self.wake = Some(Wake { from, event });
        if current.level >= from {
            self.wake();
        }
        Ok(())
    }

    /// Wakes the process when the level has risen to what it asked for, or is told again. A level that falls
    /// wakes nobody.
    pub fn tell(&self, before: Level, now: Level) {
        let is_meant = |wake: &Wake| now >= wake.from && now >= before;
        if self.wake.as_ref().is_some_and(is_meant) {
            self.wake();
        }
    }

    fn wake(&self) {
        let Some(Wake { event, .. }) = &self.wake else {
            return;
        };
        // The other side shares the descriptor's flags: should it have made writing wait, that is undone. What fails then
        // is a counter that is full, and it says all there is to say.
        let _ = fcntl_setfl(event, OFlags::NONBLOCK)
            .and_then(|()| rustix::io::write(event, &1_u64.to_ne_bytes()));
    }
}

/// Nothing is there yet.
pub(crate) fn is_later(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}
