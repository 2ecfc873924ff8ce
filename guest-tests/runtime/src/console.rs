//! `print!` and `println!`: formatted text in pieces that a hypercall takes.

use core::fmt::{self, Write};

use crate::hypercall::{self, TEXT_MAX};

struct Buffer {
    bytes: [u8; TEXT_MAX],
    len: usize,
}

impl Buffer {
    fn flush(&mut self) {
        if let Ok(text) = core::str::from_utf8(&self.bytes[..self.len])
            && !text.is_empty()
        {
            hypercall::print(text);
        }
        self.len = 0;
    }
}

impl Write for Buffer {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for letter in text.chars() {
            if self.len + letter.len_utf8() > TEXT_MAX {
                self.flush();
            }
            letter.encode_utf8(&mut self.bytes[self.len..]);
            self.len += letter.len_utf8();
        }
        Ok(())
    }
}

/// Writes formatted text to the console; the macros' other half.
pub fn print(arguments: fmt::Arguments<'_>) {
    let mut buffer = Buffer {
        bytes: [0; TEXT_MAX],
        len: 0,
    };
    // A formatter of ours does not fail, and there is nowhere to report it.
    let _ = buffer.write_fmt(arguments);
    buffer.flush();
}

/// Writes formatted text to the console.
#[macro_export]
macro_rules! print {
    ($($argument:tt)*) => { $crate::console::print(core::format_args!($($argument)*)) };
}

/// Writes formatted text and a new line to the console.
#[macro_export]
macro_rules! println {
    () => { $crate::print!("\n") };
    ($format:literal $($argument:tt)*) => {
        $crate::console::print(core::format_args!("{}\n", core::format_args!($format $($argument)*)))
    };
}
