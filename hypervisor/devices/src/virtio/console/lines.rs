//! What is to be told on the pressure port: the newest line, behind the rest of one that the guest has begun to get.

use arrayvec::ArrayVec;

/// The longest line, with its end; the protocol's have half of that.
pub(super) const LINE_BYTES_MAX: usize = 128;

/// A line. What does not fit is cut off, but for its end.
fn line(text: &[u8]) -> ArrayVec<u8, LINE_BYTES_MAX> {
    let body = text.strip_suffix(b"\n").unwrap_or(text);
    let mut line: ArrayVec<u8, LINE_BYTES_MAX> = body.iter().copied().take(LINE_BYTES_MAX - 1).collect();
    line.push(b'\n');
    line
}

/// The lines of a port.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Lines {
    /// What was said last; empty before the first time.
    newest: ArrayVec<u8, LINE_BYTES_MAX>,
    has_news: bool,
    /// The rest of a line that did not fit into one buffer.
    rest: ArrayVec<u8, LINE_BYTES_MAX>,
    delivered: u64,
}

impl Lines {
    /// A newer line takes the place of an older one of which the guest has got nothing.
    pub(super) fn tell(&mut self, text: &[u8]) {
        self.newest = line(text);
        self.has_news = true;
    }

    /// Somebody reads from now on: the newest line is news to them.
    pub(super) fn open(&mut self) {
        self.has_news = !self.newest.is_empty();
    }

    /// Nobody reads any more.
    pub(super) fn close(&mut self) {
        self.rest.clear();
    }

    /// Bytes to deliver next: to the end of a line, or none.
    pub(super) fn next(&self) -> &[u8] {
        match (self.rest.is_empty(), self.has_news) {
            (false, _) => &self.rest,
            (true, true) => &self.newest,
            (true, false) => &[],
        }
    }

    /// So many of them, at least one, are delivered.
    pub(super) fn advance(&mut self, bytes: usize) {
        if self.rest.is_empty() {
            self.rest.clone_from(&self.newest);
            self.has_news = false;
        }
        self.rest.drain(..bytes.min(self.rest.len()));
        self.delivered = self.delivered.saturating_add(u64::from(self.rest.is_empty()));
    }

    /// Lines delivered to their end.
    pub(super) const fn delivered(&self) -> u64 {
        self.delivered
    }
}
