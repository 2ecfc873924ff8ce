//! What a guest's agent says on the port for messages about pressure: lines, each a claim.

use arrayvec::ArrayVec;

/// The longest line that is understood.
const LINE_MAX: usize = 80;
/// The longest name of an agent that is kept.
pub(crate) const AGENT_MAX: usize = 32;

/// What a line says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Word {
    /// An agent is there: its name and version.
    Hello(ArrayVec<u8, AGENT_MAX>),
    /// Applications have given back so many KiB because they were told.
    Collected(u64),
}

/// Bytes on their way to a line.
#[derive(Clone, Debug, Default)]
pub(crate) struct Words {
    line: ArrayVec<u8, LINE_MAX>,
    /// The line is too long to mean anything.
    is_cut: bool,
}

impl Words {
    /// Takes a byte; says what the line meant that it ends, if it meant something.
    pub(crate) fn take(&mut self, byte: u8) -> Option<Word> {
        if byte != b'\n' {
            self.is_cut |= self.line.try_push(byte).is_err();
            return None;
        }
        let word = if self.is_cut { None } else { parse(&self.line) };
        self.line.clear();
        self.is_cut = false;
        word
    }
}

fn parse(line: &[u8]) -> Option<Word> {
    let text = core::str::from_utf8(line).ok()?.trim_end();
    if let Some(name) = text.strip_prefix("hello ") {
        // Shown to people: nothing that a terminal would obey.
        let plain = name.bytes().filter(|byte| matches!(byte, b' '..=b'~'));
        return Some(Word::Hello(plain.take(AGENT_MAX).collect()));
    }
    let kib = text.strip_prefix("collected ")?;
    kib.parse().ok().map(Word::Collected)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    fn say(words: &mut Words, text: &str) -> Vec<Word> {
        text.bytes().filter_map(|byte| words.take(byte)).collect()
    }

    #[test]
    fn lines_are_understood_whatever_pieces_they_come_in() {
        let mut words = Words::default();
        assert!(say(&mut words, "hello agent").is_empty());
        let name = b"agent 1.0".iter().copied().collect();
        assert_eq!(
            say(&mut words, " 1.0\ncollected 512\r\n"),
            [Word::Hello(name), Word::Collected(512)]
        );
    }

    #[test]
    fn what_means_nothing_is_left_out_and_the_next_line_counts() {
        let mut words = Words::default();
        let long = "collected 1".repeat(20);
        for nonsense in [
            "",
            "collected",
            "collected -1",
            "collected 99999999999999999999",
            long.as_str(),
            "hell\u{1b}",
        ] {
            assert!(say(&mut words, nonsense).is_empty());
            assert!(say(&mut words, "\n").is_empty(), "{nonsense}");
        }
        assert_eq!(say(&mut words, "collected 7\n"), [Word::Collected(7)]);
        let escaped = say(&mut words, "hello \u{1b}[2Jx\n");
        assert_eq!(escaped, [Word::Hello(b"[2Jx".iter().copied().collect())]);
    }
}
