//! What a guest prints: collected into chunks for the stream, and into lines for events.
//!
//! A record for each character would cost more than the character, so bytes are collected until a
//! newline comes, the chunk is full, or the guest gives the processor away.

use arrayvec::{ArrayString, ArrayVec};
use pleat_bundle::config::MAX_NAME;
use pleat_types::hypercall::CONSOLE_EVENT_PREFIX;

/// Bytes in a chunk.
pub(crate) const CHUNK: usize = 256;
/// The longest line that can report an event.
const LINE: usize = CONSOLE_EVENT_PREFIX.len() + MAX_NAME + 2;

/// The name of an event.
pub(crate) type EventName = ArrayString<MAX_NAME>;

/// What a byte of output brought about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub(crate) enum Printed {
    /// Nothing yet.
    Collected,
    /// The chunk should go out now.
    ChunkDue,
    /// The chunk should go out now, and its last line reported this event.
    Event(EventName),
}

/// The output of one guest that has not gone out yet.
#[derive(Clone, Debug, Default)]
pub(crate) struct Output {
    chunk: ArrayVec<u8, CHUNK>,
    line: ArrayVec<u8, LINE>,
    is_line_too_long: bool,
}

impl Output {
    /// Takes one byte.
    pub(crate) fn print(&mut self, byte: u8) -> Printed {
        // The chunk has room: a full one is due, and the caller sends it before the next byte.
        let _ = self.chunk.try_push(byte);
        if byte == b'\n' {
            return self.end_line();
        }
        self.is_line_too_long |= self.line.try_push(byte).is_err();
        if self.chunk.is_full() {
            Printed::ChunkDue
        } else {
            Printed::Collected
        }
    }

    /// What has been collected; the caller sends it, then calls [`Output::clear_chunk`].
    pub(crate) fn chunk(&self) -> &[u8] {
        &self.chunk
    }

    /// Forgets the chunk after it was sent.
    pub(crate) fn clear_chunk(&mut self) {
        self.chunk.clear();
    }

    fn end_line(&mut self) -> Printed {
        let event = if self.is_line_too_long {
            None
        } else {
            event_of(&self.line)
        };
        self.line.clear();
        self.is_line_too_long = false;
        event.map_or(Printed::ChunkDue, Printed::Event)
    }
}

/// The event that this line reports.
fn event_of(line: &[u8]) -> Option<EventName> {
    let name = core::str::from_utf8(line).ok()?.trim_end_matches('\r');
    event_name(name.strip_prefix(CONSOLE_EVENT_PREFIX)?)
}

/// The name of an event, if it is one: letters, digits, and what keeps records readable.
pub(crate) fn event_name(text: &str) -> Option<EventName> {
    let text = text.trim();
    let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
    if text.is_empty() || !text.bytes().all(is_plain) {
        return None;
    }
    EventName::from(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last_of(output: &mut Output, text: &[u8]) -> Printed {
        let mut last = Printed::Collected;
        for &byte in text {
            last = output.print(byte);
            if last != Printed::Collected {
                output.clear_chunk();
            }
        }
        last
    }

    #[test]
    fn a_line_with_the_prefix_is_an_event() {
        let mut output = Output::default();
        let expected = Printed::Event(EventName::from("work-ok").expect("short"));
        assert_eq!(last_of(&mut output, b"pleat-event: work-ok\r\n"), expected);
        assert_eq!(
            last_of(&mut output, b"[0.1] pleat-event: up\n"),
            Printed::ChunkDue
        );
        assert_eq!(last_of(&mut output, b"pleat-event: \n"), Printed::ChunkDue);
        assert_eq!(last_of(&mut output, b"pleat-event: a \"b\"\n"), Printed::ChunkDue);
    }

    #[test]
    fn a_line_that_never_ends_is_bounded() {
        let mut output = Output::default();
        for _ in 0..10_000 {
            if output.print(b'x') == Printed::ChunkDue {
                assert_eq!(output.chunk().len(), CHUNK);
                output.clear_chunk();
            }
        }
        assert_eq!(last_of(&mut output, b"\n"), Printed::ChunkDue);
        assert_eq!(
            last_of(&mut output, b"pleat-event: up\n"),
            Printed::Event(EventName::from("up").expect("short"))
        );
    }
}
