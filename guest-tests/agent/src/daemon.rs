//! The agent: one thread, one wait for everything.
//!
//! The host's line is remembered, written to the file `level`, and told to all subscribers. Nothing that a subscriber or
//! the host does makes the agent wait for anybody: every descriptor is non-blocking, and every queue has an end.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::lines::LineBuffer;
use crate::message::{Level, Pressure};
use crate::subscriber::{Heard, Subscriber, is_later};
use crate::{log, places};

/// The most connections at a time.
pub const MAX_SUBSCRIBERS: usize = 64;
/// From one look for a port that is not there to the next; and after a newcomer could not be taken (no descriptor is
/// left), until it is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// Bytes that may wait for the host. What comes when it is full is forgotten: figures, no promises.
const MAX_OUTGOING: usize = 1024;

/// The agent.
pub struct Daemon<P> {
    open_port: P,
    port: Option<Port>,
    retry_at: Instant,
    listener: UnixListener,
    accept_at: Option<Instant>,
    subscribers: Vec<Subscriber>,
    current: Pressure,
    directory: PathBuf,
}

/// The open port.
struct Port {
    file: File,
    lines: LineBuffer,
    outgoing: Vec<u8>,
}

/// Which descriptors have something to say.
struct Ready {
    port: PollFlags,
    listener: bool,
    subscribers: Vec<bool>,
}

impl<P: FnMut() -> io::Result<File>> Daemon<P> {
    /// Makes the directory and the socket. `open_port` is called again and again until it gives a port.
    ///
    /// # Errors
    /// Where files cannot be made, or another agent is at work.
    pub fn new(directory: &Path, open_port: P) -> Result<Self> {
        let path = places::socket(directory);
        let mut builder = DirBuilder::new();
        let made = builder.recursive(true).mode(0o750).create(directory);
        made.with_context(|| format!("cannot make {}", directory.display()))?;
        if std::os::unix::net::UnixStream::connect(&path).is_ok() {
            anyhow::bail!("another agent answers at {}", path.display());
        }
        // What is there is the socket of an agent that has ended.
        let _ = fs::remove_file(&path);
        let listen = || -> io::Result<UnixListener> {
            let listener = UnixListener::bind(&path)?;
            // Root and its group: a wake-up tells how much the host has, which is not for everybody.
            fs::set_permissions(&path, Permissions::from_mode(0o660))?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        };
        let daemon = Self {
            open_port,
            port: None,
            retry_at: Instant::now(),
            accept_at: None,
            listener: listen().with_context(|| format!("cannot listen at {}", path.display()))?,
            subscribers: Vec::new(),
            current: Pressure::default(),
            directory: directory.to_owned(),
        };
        daemon.write_level().context("the agent's first level")?;
        Ok(daemon)
    }

    /// Works for ever.
    ///
    /// # Errors
    /// Those of the system that concern no single subscriber.
    pub fn run(&mut self) -> Result<()> {
        loop {
            self.turn(None)?;
        }
    }

    /// Waits until something happens, at most for a time, and does what it asks for.
    ///
    /// # Errors
    /// Those of the system that concern no single subscriber.
    pub fn turn(&mut self, at_most: Option<Duration>) -> Result<()> {
        self.look_for_port();
        let ready = self.wait(at_most)?;
        self.serve_port(ready.port);
        let mut is_ready = ready.subscribers.into_iter();
        let mut collected = 0_u64;
        let (now, current) = (Instant::now(), self.current);
        self.subscribers.retain_mut(|subscriber| {
            if is_ready.next() == Some(true) {
                match subscriber.hear(&current) {
                    Heard::Here(kib) => collected = collected.saturating_add(kib),
                    Heard::Gone => return false,
                }
            }
            subscriber.deadline().is_none_or(|deadline| now < deadline)
        });
        if collected > 0 {
            self.say(&format!("collected {collected}\n"));
        }
        if ready.listener {
            self.accept();
        }
        Ok(())
    }

    /// The line that was heard last.
    #[must_use]
    pub fn current(&self) -> Pressure {
        self.current
    }

    /// Connections at this time.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.subscribers.len()
    }

    fn look_for_port(&mut self) {
        if self.port.is_some() || Instant::now() < self.retry_at {
            return;
        }
        self.retry_at = Instant::now() + RETRY;
        if let Ok(file) = (self.open_port)() {
            let hello = format!("hello {} {}\n", env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
            self.port = Some(Port {
                file,
                lines: LineBuffer::default(),
                outgoing: hello.into_bytes(),
            });
        }
    }

    fn wait(&self, at_most: Option<Duration>) -> Result<Ready> {
        let mut newcomers = PollFlags::IN;
        newcomers.set(
            PollFlags::IN,
            self.accept_at.is_none_or(|at| at <= Instant::now()),
        );
        let mut descriptors = vec![PollFd::new(&self.listener, newcomers)];
        let sockets: Vec<_> = self.subscribers.iter().map(Subscriber::socket).collect();
        descriptors.extend(sockets.iter().map(|socket| PollFd::new(socket, PollFlags::IN)));
        if let Some(port) = &self.port {
            let mut flags = PollFlags::IN;
            flags.set(PollFlags::OUT, !port.outgoing.is_empty());
            descriptors.push(PollFd::from_borrowed_fd(port.file.as_fd(), flags));
        }
        let timeout = self.timeout(at_most).map(Timespec::try_from).transpose()?;
        match poll(&mut descriptors, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error).context("cannot wait"),
        }
        let mut said = descriptors.iter().map(PollFd::revents);
        let is_set = |flags: PollFlags| !flags.is_empty();
        Ok(Ready {
            listener: said.next().is_some_and(is_set),
            subscribers: said.by_ref().take(sockets.len()).map(is_set).collect(),
            port: said.next().unwrap_or(PollFlags::empty()),
        })
    }

    /// Until something has to be done without anybody asking; an agent with a port and without newcomers sleeps for ever.
    fn timeout(&self, at_most: Option<Duration>) -> Option<Duration> {
        let now = Instant::now();
        let left = |until: Instant| until.saturating_duration_since(now);
        let retry = self.port.is_none().then(|| left(self.retry_at));
        let deadlines = self.subscribers.iter().filter_map(Subscriber::deadline).map(left);
        let accept = self.accept_at.map(left).filter(|left| !left.is_zero());
        deadlines.chain(retry).chain(accept).chain(at_most).min()
    }

    fn serve_port(&mut self, flags: PollFlags) {
        let Some(port) = &mut self.port else {
            return;
        };
        if flags.is_empty() {
            return;
        }
        let mut heard = Vec::new();
        // A port that has hung up with nothing to read would be reported again and again.
        let is_over = flags.intersects(PollFlags::HUP | PollFlags::ERR) && !flags.contains(PollFlags::IN);
        let is_there = !is_over && port.read(&mut heard) && port.write();
        for pressure in heard {
            self.tell(pressure);
        }
        // Gone: the module was unloaded, the device unplugged, or the host has closed its side. What an absent host has
        // said holds no longer; it says it again when the port is opened.
        if !is_there {
            self.port = None;
            self.retry_at = Instant::now() + RETRY;
            self.tell(Pressure::default());
        }
    }

    fn tell(&mut self, now: Pressure) {
        let before = std::mem::replace(&mut self.current, now);
        // Wake-ups first: they take no memory, of which there may be none. Whoever asks the agent then hears the new line.
        for subscriber in &self.subscribers {
            subscriber.tell(before.level, now.level);
        }
        if before.level != Level::None || now.level != Level::None {
            log::say(&format!("pleat-agent: {now}"));
        }
        // Without the file there are still the wake-ups; the next line may find room.
        if let Err(error) = self.write_level() {
            log::say(&format!("pleat-agent: {error:#}"));
        }
    }

    /// Whoever reads the file sees one whole line, the old or the new one.
    fn write_level(&self) -> Result<()> {
        let path = places::level(&self.directory);
        let fresh = path.with_extension("new");
        let write = || -> io::Result<()> {
            let mut options = OpenOptions::new();
            let mut file = options
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o640)
                .open(&fresh)?;
            // As the socket: for root and its group, whatever the umask says.
            file.set_permissions(Permissions::from_mode(0o640))?;
            file.write_all(format!("{}\n", self.current).as_bytes())?;
            fs::rename(&fresh, &path)
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }

    fn say(&mut self, line: &str) {
        if let Some(port) = &mut self.port
            && port.outgoing.len() + line.len() <= MAX_OUTGOING
        {
            port.outgoing.extend_from_slice(line.as_bytes());
        }
    }

    /// Takes one newcomer. One that finds no place is told so.
    fn accept(&mut self) {
        self.accept_at = None;
        let mut socket = match self.listener.accept() {
            Ok((socket, _)) => socket,
            // Without a descriptor for it the newcomer stays in the queue, and would be reported again at once.
            Err(error) => {
                self.accept_at = (!is_later(&error)).then(|| Instant::now() + RETRY);
                return;
            }
        };
        if self.subscribers.len() >= MAX_SUBSCRIBERS {
            let _ = socket
                .set_nonblocking(true)
                .and_then(|()| socket.write(b"full\n"));
            return;
        }
        self.subscribers.extend(Subscriber::new(socket));
    }
}

impl<P> Drop for Daemon<P> {
    fn drop(&mut self) {
        // An agent that is killed leaves them behind: who wants to be sure asks at the socket.
        let _ = fs::remove_file(places::level(&self.directory));
        let _ = fs::remove_file(places::socket(&self.directory));
    }
}

impl Port {
    /// Reads what is there, up to a bound, and keeps the lines that are understood. Says whether the port is there.
    fn read(&mut self, heard: &mut Vec<Pressure>) -> bool {
        let mut bytes = [0; 1024];
        match self.file.read(&mut bytes) {
            Ok(0) => false,
            Ok(count) => {
                let lines = bytes.get(..count).unwrap_or_default();
                self.lines.feed(lines, |line| heard.extend(Pressure::parse(line)));
                true
            }
            Err(error) => is_later(&error),
        }
    }

    /// Writes what waits, as far as there is room. Says whether the port is there.
    fn write(&mut self) -> bool {
        if self.outgoing.is_empty() {
            return true;
        }
        match self.file.write(&self.outgoing) {
            Ok(count) => {
                self.outgoing.drain(..count.min(self.outgoing.len()));
                true
            }
            Err(error) => is_later(&error) || error.kind() == ErrorKind::OutOfMemory,
        }
    }
}
