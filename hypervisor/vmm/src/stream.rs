//! The record stream: one JSON object a line, for programs.
//!
//! A record is written while it is made, through a small buffer, because text of a guest can be as
//! long as its console is fast, and this crate has no heap to collect it in.

use arrayvec::ArrayVec;
use core::fmt::{self, Write};
use pleat_types::Platform;
use serde::Serialize;

/// Bytes that are collected before they go to the platform in one call.
const BUFFER: usize = 240;
/// The longest part of the statistics record that is serialised at once.
const PART: usize = 6144;

/// One record that is being written. [`Record::end`] finishes the line.
#[must_use = "a record without its end leaves the line open"]
pub(crate) struct Record<'p, P: Platform> {
    platform: &'p mut P,
    buffer: ArrayVec<u8, BUFFER>,
}

impl<'p, P: Platform> Record<'p, P> {
    /// Starts a record of this kind with the present time.
    pub(crate) fn begin(platform: &'p mut P, kind: &str) -> Self {
        let now = platform.now().0;
        let mut record = Self {
            platform,
            buffer: ArrayVec::new(),
        };
        record.raw(b"{\"t\":");
        record.decimal(now);
        record.text("k", kind)
    }

    /// Adds a text field.
    pub(crate) fn text(self, key: &str, value: &str) -> Self {
        self.bytes(key, value.as_bytes())
    }

    /// Adds a text field whose bytes come from a guest: what is no UTF-8 is shown as U+FFFD.
    pub(crate) fn bytes(mut self, key: &str, value: &[u8]) -> Self {
        self.key(key);
        self.quoted(value);
        self
    }

    /// Adds a text field from formatted parts.
    pub(crate) fn format(mut self, key: &str, value: fmt::Arguments<'_>) -> Self {
        self.key(key);
        self.raw(b"\"");
        // Writing into the record cannot fail; a Display that does leaves its text cut short.
        let _ = Escaped(&mut self).write_fmt(value);
        self.raw(b"\"");
        self
    }

    /// Adds a number.
    pub(crate) fn number(mut self, key: &str, value: u64) -> Self {
        self.key(key);
        self.decimal(value);
        self
    }

    /// Adds a list of texts.
    pub(crate) fn list<'t>(mut self, key: &str, texts: impl Iterator<Item = &'t str>) -> Self {
        self.key(key);
        self.raw(b"[");
        for (index, text) in texts.enumerate() {
            if index > 0 {
                self.raw(b",");
            }
            self.quoted(text.as_bytes());
        }
        self.raw(b"]");
        self
    }

    /// Opens an object or a list under this key; [`Record::close`] closes it.
    pub(crate) fn open(mut self, key: &str, bracket: u8) -> Self {
        self.key(key);
        self.raw(&[bracket]);
        self
    }

    /// Closes what [`Record::open`] opened.
    pub(crate) fn close(mut self, bracket: u8) -> Self {
        self.raw(&[bracket]);
        self
    }

    /// Adds a value that serialises itself, under this key.
    pub(crate) fn value<T: Serialize>(mut self, key: &str, value: &T) -> Self {
        self.key(key);
        self.element(value, 0)
    }

    /// Adds the `index`-th element of an open list.
    pub(crate) fn element<T: Serialize>(mut self, value: &T, index: usize) -> Self {
        if index > 0 {
            self.raw(b",");
        }
        let mut part = [0; PART];
        match serde_json_core::to_slice(value, &mut part) {
            Ok(length) => self.raw(&part[..length]),
            Err(_) => self.raw(b"null"),
        }
        self
    }

    /// Ends the line and hands it over.
    pub(crate) fn end(mut self) {
        self.raw(b"}\n");
        self.flush();
    }

    /// Writes a comma where one is due, then the key.
    fn key(&mut self, key: &str) {
        if self.buffer.last() != Some(&b'{') {
            self.raw(b",");
        }
        self.quoted(key.as_bytes());
        self.raw(b":");
    }

    fn decimal(&mut self, value: u64) {
        // Digits need no escaping.
        let _ = write!(Escaped(self), "{value}");
    }

    fn quoted(&mut self, value: &[u8]) {
        self.raw(b"\"");
        for chunk in value.utf8_chunks() {
            self.escaped(chunk.valid());
            if !chunk.invalid().is_empty() {
                self.raw("\u{fffd}".as_bytes());
            }
        }
        self.raw(b"\"");
    }

    /// RFC 8259, section 7: quotation mark, reverse solidus and the control characters.
    fn escaped(&mut self, text: &str) {
        for &byte in text.as_bytes() {
            match byte {
                b'"' => self.raw(b"\\\""),
                b'\\' => self.raw(b"\\\\"),
                b'\n' => self.raw(b"\\n"),
                b'\r' => self.raw(b"\\r"),
                b'\t' => self.raw(b"\\t"),
                0..=0x1f | 0x7f => {
                    let digit = |value: u8| b"0123456789abcdef"[usize::from(value & 15)];
                    self.raw(&[b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte)]);
                }
                _ => self.raw(&[byte]),
            }
        }
    }

    fn raw(&mut self, bytes: &[u8]) {
        if bytes.len() > self.buffer.remaining_capacity() {
            self.flush();
        }
        if self.buffer.try_extend_from_slice(bytes).is_err() {
            self.platform.stream_write(bytes);
            // What `key` looks at: the last byte written.
            self.buffer.clear();
        }
    }

    fn flush(&mut self) {
        self.platform.stream_write(&self.buffer);
        self.buffer.clear();
    }
}

/// Formats into a record, escaping on the way.
struct Escaped<'r, 'p, P: Platform>(&'r mut Record<'p, P>);

impl<P: Platform> Write for Escaped<'_, '_, P> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.escaped(text);
        Ok(())
    }
}
