//! Bytes as they come, cut into lines of bounded length.

/// The longest line that anybody needs, and some room for words that are to come.
pub const MAX_LINE: usize = 256;

/// Collects bytes until a line is whole.
#[derive(Debug, Default)]
pub struct LineBuffer {
    bytes: Vec<u8>,
    /// The rest of a line that was too long is on its way.
    is_skipping: bool,
}

impl LineBuffer {
    /// Takes bytes, and passes on each line that they end. Lines that are too long, or no text, are left out: they
    /// were written by nobody who knows the protocol.
    pub fn feed(&mut self, bytes: &[u8], mut each: impl FnMut(&str)) {
        for &byte in bytes {
            if byte == b'\n' {
                if !self.is_skipping
                    && let Ok(line) = std::str::from_utf8(&self.bytes)
                {
                    each(line.trim_end_matches('\r'));
                }
                self.bytes.clear();
                self.is_skipping = false;
            } else if self.bytes.len() == MAX_LINE {
                self.is_skipping = true;
            } else {
                self.bytes.push(byte);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};
    use proptest::{collection, prop_assert_eq};

    use super::{LineBuffer, MAX_LINE};

    fn lines(pieces: &[&[u8]]) -> Vec<String> {
        let mut buffer = LineBuffer::default();
        let mut lines = Vec::new();
        for piece in pieces {
            buffer.feed(piece, |line| lines.push(line.to_owned()));
        }
        lines
    }

    #[test]
    fn lines_come_whole_however_they_are_cut() {
        assert_eq!(lines(&[b"on", b"e\ntwo\r\nth", b"ree"]), ["one", "two"]);
        assert_eq!(lines(&[b"\n\n"]), ["", ""]);
    }

    #[test]
    fn a_line_without_end_costs_a_bounded_amount_and_then_itself() {
        let long = vec![b'x'; MAX_LINE + 1];
        assert_eq!(lines(&[&long, &long, b"\nnext\n"]), ["next"]);
        let fits = vec![b'x'; MAX_LINE];
        assert_eq!(lines(&[&fits, b"\n"])[0].len(), MAX_LINE);
        assert_eq!(lines(&[b"\xff\xfe\ngood\n"]), ["good"]);
    }

    proptest! {
        /// However a text is cut, the same lines come out.
        #[test]
        fn cuts_do_not_matter(bytes in collection::vec(any::<u8>(), 0..2000), cut in 1_usize..300) {
            let whole = lines(&[&bytes]);
            let pieces: Vec<&[u8]> = bytes.chunks(cut).collect();
            prop_assert_eq!(lines(&pieces), whole);
        }
    }
}
