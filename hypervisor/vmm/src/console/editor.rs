//! The line editor of the console: echo, backspace, and the way out of an attached guest.

use arrayvec::ArrayString;

/// The longest command.
pub(crate) const LINE_MAX: usize = 120;
/// Ctrl-], which detaches from a guest (as in telnet).
const DETACH: u8 = 0x1d;
/// Ctrl-C and Ctrl-U empty the line.
const INTERRUPT: u8 = 0x03;
const KILL_LINE: u8 = 0x15;
/// Backspace, and DEL which most terminals send for it.
const BACKSPACE: u8 = 0x08;
const DELETE: u8 = 0x7f;

/// A command line.
pub(crate) type Line = ArrayString<LINE_MAX>;

/// Where typed bytes go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Focus {
    /// To the editor.
    Commands,
    /// To the UART of the guest with this index.
    Guest(usize),
}

/// What a typed byte means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub(crate) enum Typed {
    /// Nothing to do.
    Nothing,
    /// Show this in answer.
    Echo(&'static [u8]),
    /// Show this character in answer.
    EchoByte(u8),
    /// A command is complete.
    Command(Line),
    /// A byte for the attached guest.
    ToGuest(usize, u8),
    /// The person detached from the guest.
    Detached,
}

/// The state of the editor.
#[derive(Debug)]
pub(crate) struct Editor {
    line: Line,
    pub(crate) focus: Focus,
}

impl Editor {
    /// An empty line, commands in focus.
    pub(crate) const fn new() -> Self {
        Self {
            line: Line::new_const(),
            focus: Focus::Commands,
        }
    }

    /// Takes one typed byte.
    pub(crate) fn take(&mut self, byte: u8) -> Typed {
        match self.focus {
            Focus::Guest(_) if byte == DETACH => {
                self.focus = Focus::Commands;
                Typed::Detached
            }
            Focus::Guest(index) => Typed::ToGuest(index, byte),
            Focus::Commands => self.edit(byte),
        }
    }

    fn edit(&mut self, byte: u8) -> Typed {
        match byte {
            // A terminal sends CR; a pipe sends LF; after CR LF the second finds an empty line.
            b'\r' | b'\n' => {
                let line = self.line;
                self.line.clear();
                if line.trim().is_empty() {
                    Typed::Nothing
                } else {
                    Typed::Command(line)
                }
            }
            BACKSPACE | DELETE => match self.line.pop() {
                Some(_) => Typed::Echo(b"\x08 \x08"),
                None => Typed::Nothing,
            },
            INTERRUPT | KILL_LINE => {
                self.line.clear();
                Typed::Echo(b"\r\x1b[K> ")
            }
            0x20..=0x7e if self.line.try_push(char::from(byte)).is_ok() => Typed::EchoByte(byte),
            _ => Typed::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command_of(editor: &mut Editor, text: &[u8]) -> Option<Line> {
        text.iter().fold(None, |found, &byte| match editor.take(byte) {
            Typed::Command(line) => Some(line),
            _ => found,
        })
    }

    #[test]
    fn backspace_and_line_kill() {
        let mut editor = Editor::new();
        assert_eq!(
            command_of(&mut editor, b"ept x\x7fa\r\n").as_deref(),
            Some("ept a")
        );
        assert_eq!(
            command_of(&mut editor, b"nonsense\x15audit\n").as_deref(),
            Some("audit")
        );
        assert_eq!(editor.take(DELETE), Typed::Nothing);
    }

    #[test]
    fn a_line_cannot_grow_without_bound() {
        let mut editor = Editor::new();
        for _ in 0..1000 {
            let _ = editor.take(b'a');
        }
        assert_eq!(editor.take(b'a'), Typed::Nothing);
        assert_eq!(
            command_of(&mut editor, b"\r").map(|line| line.len()),
            Some(LINE_MAX)
        );
    }

    #[test]
    fn an_attached_guest_gets_all_bytes_but_the_detach_key() {
        let mut editor = Editor::new();
        editor.focus = Focus::Guest(2);
        assert_eq!(editor.take(b'\r'), Typed::ToGuest(2, b'\r'));
        assert_eq!(editor.take(DETACH), Typed::Detached);
        assert_eq!(editor.take(b'h'), Typed::EchoByte(b'h'));
    }
}
