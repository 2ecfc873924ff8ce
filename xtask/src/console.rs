//! The interactive console: keystrokes go to COM1 of the machine, through a socket.
//!
//! What the machine writes to COM1 is not shown: everything it says comes as records too, faster than a
//! serial line and told apart. Only the echo of a command being typed has no record; it is made here.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use crossterm::terminal;

use crate::stream::Kind;

/// Ctrl-A starts a command to us; another Ctrl-A sends one on.
const ESCAPE: u8 = 0x01;
/// Ctrl-] takes the keyboard back from a guest.
const DETACH: u8 = 0x1d;
/// What ends a run properly: away from any guest, an empty line, the command.
const QUIT: &[u8] = b"\x1d\x15quit\r";
/// How long an emulator may take to connect.
const CONNECT_TIME: Duration = Duration::from_secs(30);

/// A terminal in raw mode, connected to a machine.
#[derive(Debug)]
pub struct Console {
    listener: TcpListener,
    port: u16,
    is_left: Arc<AtomicBool>,
    typed: Option<Receiver<Vec<u8>>>,
    echo: Echo,
}

impl Console {
    /// Opens a port of this host for the emulator to connect to.
    pub fn open() -> Result<Self> {
        let listener =
            TcpListener::bind(("127.0.0.1", 0)).context("cannot open a local port for the console")?;
        let port = listener
            .local_addr()
            .context("the console's port has no number")?
            .port();
        Ok(Self {
            listener,
            port,
            is_left: Arc::default(),
            typed: None,
            echo: Echo::default(),
        })
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
        let incoming = stream
            .try_clone()
            .context("cannot share the console's connection")?;
        std::thread::spawn(move || drain(incoming));
        let is_left = Arc::clone(&self.is_left);
        let (sender, typed) = channel();
        self.typed = Some(typed);
        std::thread::spawn(move || type_at(stream, &is_left, &sender));
        Ok(())
    }

    /// What to show for keys that were pressed since the last call.
    pub fn echo(&mut self) -> String {
        let typed = self.typed.iter().flat_map(Receiver::try_iter).flatten();
        typed.map(|byte| self.echo.key(byte)).collect()
    }

    /// Learns from the stream who has the keyboard.
    pub fn hear(&mut self, kind: &Kind) {
        self.echo.hear(kind);
    }

    fn accept(&self) -> Result<TcpStream> {
        self.listener
            .set_nonblocking(true)
            .context("the console's port cannot be polled")?;
        let deadline = Instant::now() + CONNECT_TIME;
        while Instant::now() < deadline {
            if let Ok((stream, _)) = self.listener.accept() {
                stream
                    .set_nonblocking(false)
                    .context("the console's connection cannot block")?;
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
fn type_at(mut machine: TcpStream, is_left: &AtomicBool, echo: &Sender<Vec<u8>>) {
    let mut keys = Keys::default();
    let mut input = std::io::stdin().lock();
    let mut bytes = [0; 256];
    while let Ok(read) = input.read(&mut bytes) {
        let typed = keys.take(&bytes[..read]);
        if read == 0 || typed.leaves {
            // Pleat reports and powers off; if it does not, it is ended all the same.
            machine.write_all(QUIT).ok();
            is_left.store(true, Ordering::Relaxed);
            return;
        }
        if machine.write_all(&typed.bytes).is_err() || echo.send(typed.bytes).is_err() {
            return;
        }
    }
}

/// Shows what is typed as a command, the way Pleat's line editor takes it. A guest that has the keyboard
/// echoes for itself.
#[derive(Debug, Default)]
struct Echo {
    attached: Option<String>,
    length: usize,
}

impl Echo {
    fn hear(&mut self, kind: &Kind) {
        match kind {
            Kind::Console { text } => {
                if let Some(name) = text
                    .strip_prefix("[attached to `")
                    .and_then(|rest| rest.split('`').next())
                {
                    self.attached = Some(name.to_owned());
                }
            }
            Kind::State { guest, state, .. }
                if self.attached.as_ref() == Some(guest) && state != "running" =>
            {
                self.attached = None;
            }
            _ => {}
        }
    }

    fn key(&mut self, byte: u8) -> String {
        if self.attached.is_some() {
            if byte != DETACH {
                return String::new();
            }
            self.attached = None;
            return "\r\n[detached]\r\n".to_owned();
        }
        let rub = |count: usize| "\x08 \x08".repeat(count);
        match byte {
            b'\r' | b'\n' => {
                self.length = 0;
                "\r\n".to_owned()
            }
            0x08 | 0x7f => {
                let count = self.length.min(1);
                self.length -= count;
                rub(count)
            }
            0x03 | 0x15 => rub(std::mem::take(&mut self.length)),
            0x20..=0x7e => {
                self.length += 1;
                char::from(byte).to_string()
            }
            _ => String::new(),
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
    use super::{Echo, Keys};
    use crate::stream::Kind;

    #[test]
    fn commands_are_echoed_and_keys_for_a_guest_are_not() {
        let mut echo = Echo::default();
        let type_at =
            |echo: &mut Echo, keys: &[u8]| -> String { keys.iter().map(|key| echo.key(*key)).collect() };
        assert_eq!(
            type_at(&mut echo, b"ab\x7f\x7f\x7fc\x15d\r"),
            "ab\x08 \x08\x08 \x08c\x08 \x08d\r\n"
        );
        echo.hear(&Kind::Console {
            text: "[attached to `alder`; Ctrl-] detaches]".into(),
        });
        assert_eq!(type_at(&mut echo, b"ls\r"), "");
        assert_eq!(type_at(&mut echo, b"\x1dx"), "\r\n[detached]\r\nx");
        echo.hear(&Kind::Console {
            text: "[attached to `alder`; Ctrl-] detaches]".into(),
        });
        echo.hear(&Kind::State {
            guest: "alder".into(),
            state: "halted".into(),
            reason: String::new(),
        });
        assert_eq!(type_at(&mut echo, b"x"), "x");
    }

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
