//! What a guest's output may do to the terminal of whoever watches.
//!
//! A guest is not trusted, and neither are its escape sequences: a question (where is the cursor, what
//! terminal is this) would be answered by the terminal with bytes that look typed. Colours, cursor
//! movement within the screen and erasing pass; everything else is left out.

/// The longest sequence that is kept until it is complete.
const MAX_SEQUENCE: usize = 32;
const ESCAPE: char = '\x1b';
/// Final bytes of control sequences that pass: cursor movement, erasing, colours.
const HARMLESS: &str = "ABCDGHJKPm@";
/// What begins the parameters of a private sequence (ECMA-48, 5.4.1): a terminal's own modes, such as pasting in
/// brackets, which a shell turns on and off around each line.
const PRIVATE: [char; 4] = ['<', '=', '>', '?'];

/// Cleans the output of one guest; sequences may be cut between chunks.
#[derive(Debug, Default)]
pub struct Cleaner {
    sequence: String,
}

impl Cleaner {
    /// The part of a chunk that may be shown.
    pub fn clean(&mut self, text: &str) -> String {
        let mut shown = String::with_capacity(text.len());
        for character in text.chars() {
            if self.sequence.is_empty() && character != ESCAPE {
                let is_plain = !character.is_control() || matches!(character, '\n' | '\r' | '\t' | '\x08');
                shown.extend(is_plain.then_some(character));
                continue;
            }
            self.sequence.push(character);
            match state(&self.sequence) {
                State::Open if self.sequence.len() < MAX_SEQUENCE => {}
                State::Harmless => shown.push_str(&std::mem::take(&mut self.sequence)),
                State::Open | State::Unwanted => self.sequence.clear(),
            }
        }
        shown
    }
}

enum State {
    Open,
    Harmless,
    Unwanted,
}

/// What a sequence that begins with ESC is so far (ECMA-48, 5.4).
fn state(sequence: &str) -> State {
    let mut characters = sequence.chars().skip(1);
    match characters.next() {
        None => return State::Open,
        Some('[') => {}
        Some(_) => return State::Unwanted,
    }
    let is_private = sequence.contains(PRIVATE);
    match characters.last() {
        // Parameter and intermediate bytes: the end is still to come.
        None | Some(' '..='?') => State::Open,
        Some(last) if HARMLESS.contains(last) && !is_private => State::Harmless,
        Some(_) => State::Unwanted,
    }
}

#[cfg(test)]
mod tests {
    use super::Cleaner;

    #[test]
    fn questions_to_the_terminal_are_left_out_and_colours_pass() {
        let mut cleaner = Cleaner::default();
        assert_eq!(
            cleaner.clean("a\x1b[6nb\x1b[1;31mc\x1b[0m\x1b[c\x1bZ\x07d\n"),
            "ab\x1b[1;31mc\x1b[0md\n"
        );
        assert_eq!(cleaner.clean("x\x1b"), "x");
        assert_eq!(cleaner.clean("[6"), "");
        assert_eq!(cleaner.clean("ny\x1b[J"), "y\x1b[J");
    }

    #[test]
    fn the_modes_of_a_terminal_are_left_out_whole() {
        let mut cleaner = Cleaner::default();
        assert_eq!(cleaner.clean("\x1b[?2004h# \x1b[?2004l\r\n"), "# \r\n");
        assert_eq!(cleaner.clean("a\x1b[>0cb\x1b[?25lc\x1b[?1Jd\x1b[4 qe"), "abcde");
    }

    #[test]
    fn a_sequence_that_never_ends_is_bounded() {
        let mut cleaner = Cleaner::default();
        let text = format!("\x1b[{}", "1".repeat(100));
        assert!(cleaner.clean(&text).len() < 100);
        assert!(cleaner.clean("\x1b[mz").ends_with('z'));
    }
}
