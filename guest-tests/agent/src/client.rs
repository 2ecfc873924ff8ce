//! A subscription, from the side of the process that wants to be woken.

use std::fs;
use std::io::{IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use crate::message::{Level, Pressure};
use crate::places;

/// How long the agent may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// A subscription. It ends when this is dropped, or with the agent.
#[derive(Debug)]
pub struct Subscription {
    socket: UnixStream,
    event: OwnedFd,
}

/// What ended a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// The level has risen, or was told again.
    Pressure,
    /// Nothing happened for the time that was given.
    Nothing,
    /// The agent has ended.
    AgentGone,
}

/// What the agent answers when it is asked: the host's line that it heard last.
///
/// # Errors
/// Where no agent answers.
pub fn ask(directory: &Path) -> Result<Pressure> {
    Subscription::open(directory, Level::Full).map(|(_, now)| now)
}

/// What the agent's file says. An agent that was killed leaves it behind, and it is written after processes have been
/// woken: [`ask`] tells what holds.
///
/// # Errors
/// Where no agent is at work.
pub fn current(directory: &Path) -> Result<Pressure> {
    let path = places::level(directory);
    let text = fs::read_to_string(&path).with_context(|| {
        format!(
            "no agent is at work: cannot read {}; start one with `pleat-agent run &`",
            path.display()
        )
    })?;
    Pressure::parse(text.trim_end()).with_context(|| format!("{} holds no level", path.display()))
}

impl Subscription {
    /// Asks the agent for wake-ups from a level on. Returns what it is now, too.
    ///
    /// # Errors
    /// Where no agent answers, or it has no place.
    pub fn open(directory: &Path, from: Level) -> Result<(Self, Pressure)> {
        let path = places::socket(directory);
        let mut socket = UnixStream::connect(&path).with_context(|| {
            format!(
                "no agent answers at {}; start one with `pleat-agent run &`",
                path.display()
            )
        })?;
        socket.set_read_timeout(Some(PATIENCE))?;
        writeln!(socket, "subscribe {}", from.word()).context("cannot subscribe")?;
        let (line, event) = receive(&socket).context("the agent did not answer")?;
        let Some(event) = event else {
            bail!("the agent gave no descriptor; it said: {}", line.trim_end());
        };
        let pressure = Pressure::parse(line.trim_end()).context("the agent's answer is not understood")?;
        Ok((Self { socket, event }, pressure))
    }

    /// The descriptor, for those who wait for others too: readable after each wake-up, until eight bytes are read.
    #[must_use]
    pub fn event(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }

    /// Waits for a wake-up; several that have come meanwhile are one.
    ///
    /// # Errors
    /// Those of the system.
    pub fn wait(&self, at_most: Option<Duration>) -> Result<Woken> {
        let timeout = at_most.map(Timespec::try_from).transpose()?;
        let mut descriptors = [
            PollFd::new(&self.event, PollFlags::IN),
            PollFd::new(&self.socket, PollFlags::IN),
        ];
        match poll(&mut descriptors, timeout.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Woken::Nothing),
            Err(error) => return Err(error).context("cannot wait"),
        }
        let [event, socket] = descriptors.map(|descriptor| descriptor.revents());
        if !event.is_empty() {
            let mut count = [0; 8];
            rustix::io::read(&self.event, &mut count).context("cannot read a wake-up")?;
            return Ok(Woken::Pressure);
        }
        // After its answer the agent says nothing: this is its end.
        Ok(if socket.is_empty() {
            Woken::Nothing
        } else {
            Woken::AgentGone
        })
    }

    /// Tells the host, through the agent, how much was given back.
    ///
    /// # Errors
    /// Where the agent has ended.
    pub fn report_collected(&self, kib: u64) -> Result<()> {
        (&self.socket)
            .write_all(format!("collected {kib}\n").as_bytes())
            .context("cannot tell the agent")
    }
}

/// The agent's answer: a line, and a descriptor with its first byte.
fn receive(socket: &UnixStream) -> Result<(String, Option<OwnedFd>)> {
    let mut bytes = [0; 256];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut bytes)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let descriptors = control.drain().flat_map(|part| match part {
        RecvAncillaryMessage::ScmRights(descriptors) => descriptors.collect::<Vec<_>>(),
        _ => Vec::new(),
    });
    let event = descriptors.last();
    let line = bytes.get(..message.bytes).unwrap_or_default();
    Ok((String::from_utf8_lossy(line).into_owned(), event))
}
