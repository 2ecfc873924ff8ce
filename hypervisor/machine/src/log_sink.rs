//! Where `log` lines go: to the record stream as plain text, and to the people's console.

use core::fmt::{self, Write};

use crate::serial::{CONSOLE, Stream};
use log::{LevelFilter, Log, Metadata, Record};

struct Sink;

static SINK: Sink = Sink;

/// Starts logging from the information level up.
pub fn start() {
    if log::set_logger(&SINK).is_ok() {
        log::set_max_level(LevelFilter::Info);
    }
}

impl Log for Sink {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        // Writing to the lines cannot fail.
        let _ = writeln!(Lines(Stream::get()), "[{}] {}", record.level(), record.args());
    }

    fn flush(&self) {}
}

struct Lines(Stream);

impl Write for Lines {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write(text.as_bytes());
        if let Some(mut console) = CONSOLE.try_lock() {
            console.write(text.as_bytes());
        }
        Ok(())
    }
}
