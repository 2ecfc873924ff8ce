//! Parameters from the command line: `key=value`, separated by spaces.

/// A command line.
#[derive(Clone, Copy, Debug)]
pub struct Parameters<'a>(&'a str);

impl<'a> Parameters<'a> {
    /// Wraps a command line.
    #[must_use]
    pub const fn new(line: &'a str) -> Self {
        Self(line)
    }

    /// The value of `key`, where it is given (the last one counts).
    #[must_use]
    pub fn text(&self, key: &str) -> Option<&'a str> {
        self.0
            .split_ascii_whitespace()
            .filter_map(|word| word.split_once('='))
            .rfind(|(name, _)| *name == key)
            .map(|(_, value)| value)
    }

    /// The number that `key` is given, else `default`; decimal, or hexadecimal after `0x`.
    ///
    /// # Panics
    /// When the value is no number: a scenario with a typing error must not pass.
    #[must_use]
    pub fn number(&self, key: &str, default: u64) -> u64 {
        let Some(text) = self.text(key) else {
            return default;
        };
        let parsed = match text.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16),
            None => text.parse(),
        };
        parsed.unwrap_or_else(|_| panic!("parameter {key}={text}: expected a number"))
    }

    /// As [`Parameters::number`], for counts and indices.
    ///
    /// # Panics
    /// As [`Parameters::number`].
    #[must_use]
    pub fn count(&self, key: &str, default: usize) -> usize {
        usize::try_from(self.number(key, default as u64)).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::Parameters;

    #[test]
    fn values_are_found_by_their_whole_key() {
        let line = Parameters::new("seed=0x1F  rounds=20 how=triple-fault rounds=21");
        assert_eq!(line.number("seed", 1), 31);
        assert_eq!(line.count("rounds", 1), 21);
        assert_eq!(line.text("how"), Some("triple-fault"));
        assert_eq!(line.text("ow"), None);
        assert_eq!(line.number("absent", 5), 5);
    }

    #[test]
    #[should_panic(expected = "rounds=many")]
    fn a_word_where_a_number_belongs_is_refused() {
        let _ = Parameters::new("rounds=many").number("rounds", 1);
    }
}
