//! Serial lines: COM1 for people, COM2 for programs where there is no debug port.
//!
//! Output to people never waits: it goes into a queue that the transmit interrupt empties, and what
//! does not fit is dropped and counted. Registers as in the PC16550D data sheet.

use heapless::Deque;
use spin::{Mutex, Once};

use crate::cpu::{inb, outb, outsb};

/// Interrupt line of COM1 at the interrupt controllers.
pub const COM1_IRQ: u8 = 4;

const QUEUE: usize = 16384;
const INPUT: usize = 256;
const FIFO: usize = 16;
/// Polls of a transmitter that never gets ready before a byte is given up: about a second.
const PATIENCE: u32 = 10_000_000;

const DATA: u16 = 0;
const INTERRUPTS: u16 = 1;
const FIFO_CONTROL: u16 = 2;
const LINE_CONTROL: u16 = 3;
const MODEM_CONTROL: u16 = 4;
const LINE_STATUS: u16 = 5;
const SCRATCH: u16 = 7;

const DATA_READY: u8 = 1 << 0;
const TRANSMITTER_EMPTY: u8 = 1 << 5;
const ON_RECEIVE: u8 = 1 << 0;
const ON_TRANSMIT: u8 = 1 << 1;

/// The people's line.
pub static CONSOLE: Mutex<Console> = Mutex::new(Console::new());

/// COM1 with its queues.
pub struct Console {
    port: Option<Port>,
    output: Deque<u8, QUEUE>,
    input: Deque<u8, INPUT>,
    dropped: u64,
}

impl Console {
    const fn new() -> Self {
        Self {
            port: None,
            output: Deque::new(),
            input: Deque::new(),
            dropped: 0,
        }
    }

    /// Finds and sets up the line.
    pub fn start(&mut self) {
        self.port = com1();
        if let Some(port) = self.port {
            port.write(INTERRUPTS, ON_RECEIVE);
        }
    }

    /// Queues text for people.
    pub fn write(&mut self, text: &[u8]) {
        let Some(port) = self.port else { return };
        for &byte in text {
            let is_full = (byte == b'\n' && self.output.push_back(b'\r').is_err())
                || self.output.push_back(byte).is_err();
            self.dropped += u64::from(is_full);
        }
        self.fill(port);
    }

    /// How many bytes can be queued without loss; a newline takes two places.
    pub fn room(&self) -> usize {
        match self.port {
            Some(_) => QUEUE - self.output.len(),
            None => usize::MAX,
        }
    }

    /// The next byte that a person typed.
    pub fn read(&mut self) -> Option<u8> {
        self.input.pop_front()
    }

    /// A person has typed something that nobody has read yet.
    pub fn has_input(&self) -> bool {
        !self.input.is_empty()
    }

    /// Bytes wait for the transmitter.
    pub fn is_sending(&self) -> bool {
        self.port.is_some() && !self.output.is_empty()
    }

    /// Serves the line's interrupt: takes what has arrived, sends what waits.
    pub fn on_interrupt(&mut self) {
        let Some(port) = self.port else { return };
        for _ in 0..FIFO {
            if port.read(LINE_STATUS) & DATA_READY == 0 {
                break;
            }
            let byte = port.read(DATA);
            self.dropped += u64::from(self.input.push_back(byte).is_err());
        }
        self.fill(port);
    }

    /// Fills the transmit FIFO once if it is empty; the transmit interrupt is on while bytes wait.
    fn fill(&mut self, port: Port) {
        if port.read(LINE_STATUS) & TRANSMITTER_EMPTY != 0 {
            for byte in core::iter::from_fn(|| self.output.pop_front()).take(FIFO) {
                port.write(DATA, byte);
            }
        }
        let transmit = if self.output.is_empty() { 0 } else { ON_TRANSMIT };
        port.write(INTERRUPTS, ON_RECEIVE | transmit);
    }
}

/// The way out for programs: port 0xE9 where a machine has it, else COM2.
#[derive(Clone, Copy)]
pub enum Stream {
    /// The debug port of Bochs and QEMU: takes bytes at no cost in time.
    DebugPort,
    /// A second serial line.
    Serial(Port),
    /// Nowhere.
    None,
}

impl Stream {
    const DEBUG_PORT: u16 = 0xe9;

    /// The best way out. It is looked for once: setting a line up again would drop what it is sending.
    pub fn get() -> Self {
        static STREAM: Once<Stream> = Once::new();
        *STREAM.call_once(Self::find)
    }

    /// Both emulators' debug ports read back their own number.
    fn find() -> Self {
        if inb(Self::DEBUG_PORT) == 0xe9 {
            return Self::DebugPort;
        }
        Port::find(0x2f8).map_or(Self::None, Self::Serial)
    }

    /// Writes all bytes, waiting where it must.
    pub fn write(self, bytes: &[u8]) {
        match self {
            Self::DebugPort => outsb(Self::DEBUG_PORT, bytes),
            Self::Serial(port) => bytes.iter().for_each(|&byte| port.send(byte)),
            Self::None => {}
        }
    }
}

/// The registers of one UART.
#[derive(Clone, Copy)]
pub struct Port(u16);

impl Port {
    /// Sets up the UART at `base` for 115,200 baud, 8N1, FIFOs on, if there is one.
    fn find(base: u16) -> Option<Self> {
        let port = Self(base);
        port.write(SCRATCH, 0x5a);
        if port.read(SCRATCH) != 0x5a {
            return None;
        }
        port.write(INTERRUPTS, 0);
        port.write(LINE_CONTROL, 0x80);
        port.write(DATA, 1);
        port.write(INTERRUPTS, 0);
        port.write(LINE_CONTROL, 0x03);
        port.write(FIFO_CONTROL, 0x07);
        port.write(MODEM_CONTROL, 0x0b); // DTR, RTS, and OUT2, which lets interrupts through
        Some(port)
    }

    /// Sends one byte, waiting for room; gives up on a line that never gets ready.
    pub fn send(self, byte: u8) {
        for _ in 0..PATIENCE {
            if self.read(LINE_STATUS) & TRANSMITTER_EMPTY != 0 {
                break;
            }
        }
        self.write(DATA, byte);
    }

    fn read(self, register: u16) -> u8 {
        inb(self.0 + register)
    }

    fn write(self, register: u16, value: u8) {
        outb(self.0 + register, value);
    }
}

/// COM1, if there is one: looked for once, like the stream.
fn com1() -> Option<Port> {
    static COM1: Once<Option<Port>> = Once::new();
    *COM1.call_once(|| Port::find(0x3f8))
}

/// Writes past all queues and locks, for a machine that is about to stop.
pub fn write_last_words(text: &[u8]) {
    Stream::get().write(text);
    if let Some(port) = com1() {
        text.iter().for_each(|&byte| port.send(byte));
    }
}
