//! What all guests share: the board, its frames, the record stream and the console's output.

use crate::devices::Random;
use crate::frames::FramePool;
use crate::guest::{EVENTS_MAX, Guest, Interest, Noted, Reported};
use crate::output::{CHUNK, EventName, Printed};
use crate::stream::Record;
use crate::swap::Swap;
use arrayvec::{ArrayString, ArrayVec};
use core::fmt::{self, Write};
use pleat_bundle::config::{RunConfig, When};
use pleat_devices::cpuid::CpuidPolicy;
use pleat_overcommit::promise::{HostState, Thresholds};
use pleat_types::{Platform, Tsc};

/// The most failures that a run lists; the last one counts the rest once there are more.
const FAILURES_MAX: usize = 12;
/// An event with this name says that a guest's work went wrong.
const WORK_FAILED: &str = "work-failed";
/// The longest line that goes to the console at once.
const CONSOLE_LINE: usize = 200;
/// Room at the console that output of guests leaves to answers of commands: half of the board's queue.
const CONSOLE_RESERVE: usize = 8 << 10;
/// Once output was left out, it goes on when there is so much room, so that gaps are few and long.
const CONSOLE_RESUME: usize = 12 << 10;

/// The text of a failure.
pub(crate) type Failure = ArrayString<120>;

/// The host's side of everything.
pub(crate) struct Host<P: Platform> {
    pub(crate) platform: P,
    pub(crate) config: &'static RunConfig<'static>,
    pub(crate) frames: FramePool,
    /// Contents of pages that have no frame.
    pub(crate) swap: &'static mut Swap,
    pub(crate) cpuid: CpuidPolicy,
    pub(crate) tsc_hz: u64,
    /// When the guest that runs has to make room.
    pub(crate) slice_end: Tsc,
    /// The run loop should look at what has happened before any guest goes on.
    pub(crate) wants_attention: bool,
    /// The guest whose output goes to the console as it is.
    pub(crate) attached: Option<usize>,
    /// Output of all guests goes to the console, line by line with their names.
    pub(crate) shows_output: bool,
    /// When memory is how scarce.
    pub(crate) thresholds: Thresholds,
    /// How scarce memory is.
    pub(crate) state: HostState,
    /// Random numbers for guests.
    pub(crate) random: Random,
    pub(crate) failures: ArrayVec<Failure, FAILURES_MAX>,
    /// Failures that the list's last entry stands for.
    pub(crate) failures_unlisted: u64,
    pub(crate) first_entry: Option<Tsc>,
}

impl<P: Platform> Host<P> {
    /// Starts a record of this kind.
    pub(crate) fn record(&mut self, kind: &str) -> Record<'_, P> {
        Record::begin(&mut self.platform, kind)
    }

    /// Notes that the run has failed.
    pub(crate) fn fail(&mut self, text: fmt::Arguments<'_>) {
        let mut failure = Failure::new();
        if self.failures.len() + 1 < FAILURES_MAX {
            // A text that is too long is cut.
            let _ = failure.write_fmt(text);
        } else {
            // A guest can fail as often as it likes: what is beyond the list is only counted.
            self.failures_unlisted += 1;
            self.failures.truncate(FAILURES_MAX - 1);
            let _ = write!(failure, "{} more failures", self.failures_unlisted);
        }
        // There is room: one less than the most are listed.
        let _ = self.failures.try_push(failure);
    }

    /// A guest reports an event.
    pub(crate) fn report_event(&mut self, guest: &mut Guest, name: EventName) {
        let now = self.platform.now();
        let ticks = now.since(guest.first_entry.unwrap_or(now));
        let interest = self.interest_in(guest, &name);
        let noted = guest.note_event(Reported {
            name,
            ticks,
            interest,
        });
        if noted == Noted::Dropped && guest.events_dropped == 1 {
            let guest = guest.config.name;
            log::warn!("guest `{guest}`: no more than {EVENTS_MAX} events are kept");
        }
        let record = self.record("event").text("guest", guest.config.name);
        record.text("event", &name).number("ticks", ticks.0).end();
        if name.as_str() == WORK_FAILED && noted != Noted::Again {
            self.fail(format_args!(
                "guest `{}` reported {WORK_FAILED}",
                guest.config.name
            ));
        }
        guest.has_news = true;
        self.wants_attention = true;
    }

    fn interest_in(&self, guest: &Guest, name: &str) -> Interest {
        let is_step = |when: &When<'_>| {
            matches!(when, When::Event { guest: reporter, event }
                if *reporter == guest.config.name && *event == name)
        };
        let is_awaited =
            self.config.until.contains(&name) || self.config.script.iter().any(|step| is_step(&step.when));
        if is_awaited {
            Interest::Awaited
        } else {
            Interest::None
        }
    }

    /// A guest prints.
    pub(crate) fn print(&mut self, guest: &mut Guest, text: &[u8]) {
        for &byte in text {
            match guest.output.print(byte) {
                Printed::Collected => {}
                Printed::ChunkDue => self.send_chunk(guest),
                Printed::Event(name) => {
                    self.send_chunk(guest);
                    self.report_event(guest, name);
                }
            }
        }
    }

    /// Takes what the guest wrote to its UART.
    pub(crate) fn drain_output(&mut self, guest: &mut Guest) {
        let mut at = 0;
        // A copy in pieces: printing needs the whole guest.
        while let Some(rest) = guest.board.output().get(at..).filter(|rest| !rest.is_empty()) {
            let mut piece = [0; 64];
            let length = rest.len().min(piece.len());
            piece[..length].copy_from_slice(&rest[..length]);
            self.print(guest, &piece[..length]);
            at += length;
        }
        guest.board.clear_output();
    }

    /// Sends everything that the guest has printed so far.
    pub(crate) fn flush_output(&mut self, guest: &mut Guest) {
        self.drain_output(guest);
        if !guest.output.chunk().is_empty() {
            self.send_chunk(guest);
        }
    }

    fn send_chunk(&mut self, guest: &mut Guest) {
        let record = Record::begin(&mut self.platform, "out").text("guest", guest.config.name);
        record.bytes("text", guest.output.chunk()).end();
        if self.attached == Some(usize::from(guest.id.0)) {
            self.platform.console_write(guest.output.chunk());
        } else if self.shows_output && self.attached.is_none() {
            self.show_chunk(guest);
        }
        guest.output.clear_chunk();
    }

    /// Shows output of a guest that nobody is attached to, as far as it leaves room for answers of commands.
    fn show_chunk(&mut self, guest: &mut Guest) {
        self.show_gap(guest);
        if guest.unshown > 0 || self.platform.console_room() < CONSOLE_RESERVE {
            guest.unshown += guest.output.chunk().len() as u64;
            return;
        }
        for line in guest.output.chunk().split_inclusive(|byte| *byte == b'\n') {
            let text: ArrayVec<u8, CHUNK> = line.trim_ascii_end().iter().map(plain).collect();
            self.platform.console_write(b"\r");
            self.platform.console_write(guest.config.name.as_bytes());
            self.platform.console_write(b"| ");
            self.platform.console_write(&text);
            self.platform.console_write(b"\r\n");
        }
    }

    /// Says how much of a guest's output was left out, as soon as there is room for more.
    pub(crate) fn show_gap(&mut self, guest: &mut Guest) {
        if guest.unshown == 0 || self.attached.is_some() || self.platform.console_room() < CONSOLE_RESUME {
            return;
        }
        let mut line = ArrayString::<CONSOLE_LINE>::new();
        // A name and a number fit.
        let _ = write!(
            line,
            "\r[{}: {} bytes not shown]\r\n",
            guest.config.name, guest.unshown
        );
        self.platform.console_write(line.as_bytes());
        guest.unshown = 0;
    }

    /// One line of an answer: to the console, and as a record.
    pub(crate) fn say(&mut self, text: fmt::Arguments<'_>) {
        let mut line = ArrayString::<CONSOLE_LINE>::new();
        // A line that is too long is cut.
        let _ = line.write_fmt(text);
        self.record("console").text("text", &line).end();
        self.platform.console_write(line.as_bytes());
        self.platform.console_write(b"\r\n");
    }

    /// Ticks for this many microseconds.
    pub(crate) fn micros(&self, micros: u64) -> Tsc {
        let ticks = u128::from(micros) * u128::from(self.tsc_hz) / 1_000_000;
        Tsc(u64::try_from(ticks).unwrap_or(u64::MAX))
    }
}

/// A byte of a guest that nobody is attached to, for a terminal: none of its control sequences may get there.
/// Those can begin with a byte above 0x7f, too (ECMA-48, 5.3: the C1 set, as U+0080 to U+009F in UTF-8).
const fn plain(byte: &u8) -> u8 {
    match *byte {
        b'\t' | b' '..=b'~' => *byte,
        _ => b'.',
    }
}
