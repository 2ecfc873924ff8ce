//! The interactive console: keystrokes go to COM1 of the machine, through a socket.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use crossterm::terminal;

/// Ctrl-A starts a command to us; another Ctrl-A sends one on.
const ESCAPE: u8 = 0x01;
/// How long an emulator may take to connect.
const CONNECT_TIME: Duration = Duration::from_secs(30);

/// A terminal in raw mode, connected to a machine.
#[derive(Debug)]
pub struct Console {
    listener: TcpListener,
    port: u16,
    is_left: Arc<AtomicBool>,
}

impl Console {
    /// Opens a port of this host for the emulator to connect to.
    pub fn open() -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).context("cannot open a local port for the console")?;
        let port = listener.local_addr().context("the console's port has no number")?.port();
        Ok(Self { listener, port, is_left: Arc::new(AtomicBool::new(false)) })
    }

    /// The port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The keys for leaving were pressed.
    #[must_use]
    pub fn wants_out(&self) -> bool {
        self.is_left.load(Ordering::Relaxed)
    }

    /// Waits for the emulator and gives it the keyboard.
    pub fn connect(&mut self) -> Result<()> {
        let stream = self.accept()?;
        terminal::enable_raw_mode().context("the terminal has no raw mode")?;
        // What the machine writes to COM1 comes as records too; it must be taken off the wire all the same.
        let incoming = stream.try_clone().context("cannot share the console's connection")?;
        std::thread::spawn(move || drain(incoming));
        let is_left = Arc::clone(&self.is_left);
        std::thread::spawn(move || type_at(stream, &is_left));
        Ok(())
    }

    fn accept(&self) -> Result<TcpStream> {
        self.listener.set_nonblocking(true).context("the console's port cannot be polled")?;
        let deadline = Instant::now() + CONNECT_TIME;
        while Instant::now() < deadline {
            if let Ok((stream, _)) = self.listener.accept() {
                stream.set_nonblocking(false).context("the console's connection cannot block")?;
                stream.set_nodelay(true).ok();
                return Ok(stream);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("the emulator did not connect its serial port; its messages are in the run's directory")
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        terminal::disable_raw_mode().ok();
    }
}

fn drain(mut incoming: TcpStream) {
    let mut bytes = [0; 1024];
    while incoming.read(&mut bytes).is_ok_and(|read| read != 0) {}
}

/// Sends keys until the keys for leaving, the end of input, or the end of the machine.
fn type_at(mut machine: TcpStream, is_left: &AtomicBool) {
    let mut keys = Keys::default();
    let mut input = std::io::stdin().lock();
    let mut bytes = [0; 256];
    while let Ok(read) = input.read(&mut bytes) {
        let typed = keys.take(&bytes[..read]);
        if read == 0 || typed.leaves {
            is_left.store(true, Ordering::Relaxed);
            return;
        }
        if machine.write_all(&typed.bytes).is_err() {
            return;
        }
    }
}

/// Tells keys for us from keys for the machine.
#[derive(Debug, Default)]
struct Keys {
    is_escaped: bool,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Typed {
    bytes: Vec<u8>,
    leaves: bool,
}

impl Keys {
    fn take(&mut self, typed: &[u8]) -> Typed {
        let mut result = Typed::default();
        for byte in typed {
            match (self.is_escaped, *byte) {
                (false, ESCAPE) => {
                    self.is_escaped = true;
                    continue;
                }
                (true, b'x' | b'X') => result.leaves = true,
                (true, ESCAPE) | (false, _) => result.bytes.push(*byte),
                // An unknown command to us is dropped.
                (true, _) => {}
            }
            self.is_escaped = false;
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::Keys;

    #[test]
    fn ctrl_a_x_leaves_and_everything_else_is_sent() {
        let mut keys = Keys::default();
        assert_eq!(keys.take(b"ls\r\x1d\x03").bytes, b"ls\r\x1d\x03");
        assert_eq!(keys.take(b"a\x01").bytes, b"a");
        assert!(keys.take(b"x").leaves);
        assert_eq!(keys.take(b"\x01\x01x").bytes, b"\x01x");
        assert!(!keys.take(b"\x01y").leaves);
    }
}
