//! The live view: every guest in its own colour and behind its name, the host beside them.

use std::collections::BTreeMap;
use std::io::Write;

use crossterm::style::{Color, Stylize};

use super::escapes::Cleaner;
use super::{Kind, Record};
use crate::session::Listener;

/// How a terminal wants its lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lines {
    /// An ordinary terminal or a file.
    Plain,
    /// A terminal in raw mode: a new line needs a carriage return.
    Raw,
}

/// Shows records as they come.
#[derive(Debug)]
pub struct View<W> {
    out: W,
    lines: Lines,
    has_colour: bool,
    guests: Vec<String>,
    cleaners: BTreeMap<String, Cleaner>,
    /// Who wrote the line that is not finished yet.
    open: Option<String>,
}

/// Who has an unfinished line while somebody types. No guest can have this name.
const TYPIST: &str = "(you)";

const COLOURS: [Color; 6] = [
    Color::Cyan,
    Color::Green,
    Color::Yellow,
    Color::Magenta,
    Color::Blue,
    Color::DarkCyan,
];

impl<W: Write> View<W> {
    /// A view of these guests.
    pub fn new(out: W, guests: Vec<String>, lines: Lines) -> Self {
        let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stdout());
        let has_colour = is_terminal && std::env::var_os("NO_COLOR").is_none();
        Self {
            out,
            lines,
            has_colour,
            guests,
            cleaners: BTreeMap::new(),
            open: None,
        }
    }

    /// Shows one record.
    pub fn show(&mut self, record: &Record) {
        match &record.kind {
            Kind::Out { guest, text } => self.chunk(guest, text),
            Kind::Log { level, text } => self.line("pleat", &format!("{level}: {text}"), level_colour(level)),
            Kind::Raw(text) => self.line("", text, Color::Reset),
            Kind::Console { text } => self.line("", text, Color::White),
            Kind::Report { guest, text } => self.line("pleat", &format!("{guest}: {text}"), Color::Red),
            Kind::State { guest, state, reason } => self.state(guest, state, reason),
            Kind::Measure { guest, name, value } => {
                self.line("pleat", &format!("{guest}: {name} = {value}"), Color::Reset);
            }
            Kind::Cooperation(said) if said.is_news() => self.line("pleat", &said.line(), Color::DarkGrey),
            Kind::Reclaim(said) => self.line("pleat", &said.line(), Color::DarkGrey),
            Kind::End { outcome, failures } => {
                self.line("pleat", &format!("end: {outcome}"), Color::Reset);
                failures
                    .iter()
                    .for_each(|failure| self.line("pleat", failure, Color::Red));
            }
            // The guest's own line is shown already; the record goes to --json; hashes are for programs.
            Kind::Event { .. } | Kind::Stats { .. } | Kind::Pages { .. } | Kind::Cooperation(_) => {}
        }
        self.out.flush().ok();
    }

    /// Shows a line of our own.
    pub fn note(&mut self, text: &str) {
        self.line("xtask", text, Color::DarkGrey);
        self.out.flush().ok();
    }

    fn state(&mut self, guest: &str, state: &str, reason: &str) {
        let colour = if state == "crashed" {
            Color::Red
        } else {
            Color::Reset
        };
        let reason = if reason.is_empty() {
            String::new()
        } else {
            format!(" ({reason})")
        };
        self.line("pleat", &format!("{guest} is {state}{reason}"), colour);
    }

    fn line(&mut self, who: &str, text: &str, colour: Color) {
        self.close();
        let prefix = if who.is_empty() {
            String::new()
        } else {
            format!("{who}| ")
        };
        self.write(&format!("{prefix}{text}"), colour);
        self.end_line();
    }

    /// A chunk of a guest's output: continues its line if nobody wrote in between.
    fn chunk(&mut self, guest: &str, text: &str) {
        let colour = self.colour(guest);
        let text = self.cleaners.entry(guest.to_owned()).or_default().clean(text);
        for piece in text.split_inclusive('\n') {
            if self.open.as_deref() != Some(guest) {
                self.close();
                self.write(&format!("{guest}| "), colour);
                self.open = Some(guest.to_owned());
            }
            let content = piece.trim_end_matches(['\n', '\r']);
            self.out.write_all(content.as_bytes()).ok();
            if piece.ends_with('\n') {
                self.open = None;
                self.end_line();
            }
        }
    }

    fn close(&mut self) {
        if self.open.take().is_some() {
            self.end_line();
        }
    }

    fn end_line(&mut self) {
        let end = if self.lines == Lines::Raw { "\r\n" } else { "\n" };
        self.out.write_all(end.as_bytes()).ok();
    }

    fn write(&mut self, text: &str, colour: Color) {
        let written = if self.has_colour && colour != Color::Reset {
            write!(self.out, "{}", text.with(colour))
        } else {
            write!(self.out, "{text}")
        };
        written.ok();
    }

    fn colour(&self, guest: &str) -> Color {
        let index = self.guests.iter().position(|name| name == guest).unwrap_or(0);
        COLOURS[index % COLOURS.len()]
    }
}

fn level_colour(level: &str) -> Color {
    match level {
        "error" => Color::Red,
        "warn" => Color::Yellow,
        _ => Color::DarkGrey,
    }
}

impl<W: Write> Listener for View<W> {
    fn record(&mut self, record: &Record) {
        self.show(record);
    }

    fn echo(&mut self, text: &str) {
        if !text.is_empty() {
            if self.open.as_deref() != Some(TYPIST) {
                self.close();
            }
            self.out.write_all(text.as_bytes()).ok();
            self.out.flush().ok();
            self.open = (!text.ends_with('\n')).then(|| TYPIST.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Lines, View};
    use crate::stream::Record;

    fn shown(records: &[&str]) -> String {
        let mut view = View::new(Vec::new(), vec!["a".into(), "b".into()], Lines::Plain);
        view.has_colour = false;
        records.iter().for_each(|line| view.show(&Record::parse(line)));
        String::from_utf8(view.out).unwrap()
    }

    #[test]
    fn interleaved_chunks_stay_with_their_guest() {
        let text = shown(&[
            r#"{"k":"out","guest":"a","text":"one, "}"#,
            r#"{"k":"out","guest":"a","text":"two\nthree"}"#,
            r#"{"k":"out","guest":"b","text":"x\n"}"#,
            r#"{"k":"out","guest":"a","text":" four\n"}"#,
        ]);
        assert_eq!(text, "a| one, two\na| three\nb| x\na|  four\n");
    }

    #[test]
    fn what_guests_are_asked_for_is_shown_and_what_is_as_expected_is_not() {
        let text = shown(&[
            r#"{"k":"promise","guest":"a","outcome":"admitted","promised":1,"reservation":0}"#,
            r#"{"k":"pressure","guest":"a","level":"full","free":1,"wanted":2}"#,
            r#"{"k":"from-tomorrow","guest":"a"}"#,
        ]);
        let expected = "pleat| a: pressure full, host has 4 KiB free, 8 KiB wanted of it\n\
                        {\"k\":\"from-tomorrow\",\"guest\":\"a\"}\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn raw_text_and_the_host_are_shown() {
        let text = shown(&["rom: hello", r#"{"t":1,"k":"log","level":"info","text":"up"}"#]);
        assert_eq!(text, "rom: hello\npleat| info: up\n");
    }
}
