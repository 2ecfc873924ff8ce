//! The table for people and the rows for programs.

use crate::course::{Course, Pass, median};
use crate::options::Options;
use serde_json::{Value, json};

/// Where the phases are in a course of all of them.
const FILL: usize = 0;
const NOTHING: usize = 1;
const REWRITE_1: usize = 2;
const REWRITE_10: usize = 3;

/// What was measured once. Of ours, the error says why there is nothing.
#[derive(Debug)]
pub struct Repetition {
    /// KSM, where it takes part.
    pub peer: Option<Course>,
    /// KSM with pages whose first bytes are the same.
    pub peer_alike: Option<Course>,
    /// Ours with a dirty log.
    pub logged: Result<Course, String>,
    /// Ours on a processor without one.
    pub unlogged: Result<Course, String>,
    /// Ours with pages whose first bytes are the same.
    pub logged_alike: Result<Course, String>,
    /// Ours with one page among equal ones that is written all the time.
    pub crowd: Result<Course, String>,
}

/// A figure of every repetition, or why there is none.
type Figure = Result<f64, String>;

/// Everything that was measured.
#[derive(Debug)]
pub struct Report {
    pages: usize,
    seed: u64,
    without_peer: Option<String>,
    repetitions: Vec<Repetition>,
}

impl Report {
    pub fn new(options: &Options, without_peer: Option<String>) -> Self {
        Self {
            pages: options.mib * crate::PAGES_PER_MIB,
            seed: options.seed,
            without_peer,
            repetitions: Vec::new(),
        }
    }

    pub fn add(&mut self, repetition: Repetition) {
        self.repetitions.push(repetition);
    }

    /// The median over the repetitions; one without a figure leaves none.
    fn over(&self, figure: impl Fn(&Repetition) -> Figure) -> Figure {
        let figures: Result<Vec<f64>, String> = self.repetitions.iter().map(figure).collect();
        Ok(median(figures?.into_iter()))
    }

    fn peer(&self, figure: impl Fn(&Course) -> f64) -> Figure {
        self.over(|repetition| self.peer_in(repetition).map(&figure))
    }

    fn peer_in<'a>(&self, repetition: &'a Repetition) -> Result<&'a Course, String> {
        let why = || format!("no KSM: {}", self.without_peer.clone().unwrap_or_default());
        repetition.peer.as_ref().ok_or_else(why)
    }

    fn peer_alike_in<'a>(&self, repetition: &'a Repetition) -> Result<&'a Course, String> {
        let why = || format!("no KSM: {}", self.without_peer.clone().unwrap_or_default());
        repetition.peer_alike.as_ref().ok_or_else(why)
    }

    /// How many times longer KSM takes for a phase.
    fn ratio(&self, phase: usize) -> Figure {
        self.over(
            |repetition| Ok(ns(self.peer_in(repetition)?, phase) / ns(ours(&repetition.logged)?, phase)),
        )
    }

    /// The rows, with their frozen names.
    fn rows(&self) -> Vec<Value> {
        let both = |figure: fn(&Course) -> f64| {
            let logged = self.over(|one| ours(&one.logged).map(figure));
            (logged, self.peer(figure))
        };
        let against_ksm = |phase| (self.ratio(phase), self.peer(|_| 1.0));
        let slowdown = (
            self.over(|one| Ok(ns(ours(&one.logged_alike)?, FILL) / ns(ours(&one.logged)?, FILL))),
            self.over(|one| Ok(ns(self.peer_alike_in(one)?, FILL) / ns(self.peer_in(one)?, FILL))),
        );
        let ideal = both(|course| course.passes[FILL].fraction());
        let unchanged = both(|course| ns(course, NOTHING));
        let metadata = both(|course| course.metadata_bytes_each);
        let (lower, higher) = ("lower", "higher");
        vec![
            row("speed-against-ksm", "ratio", against_ksm(FILL), 6.0, higher),
            row("ideal-fraction", "fraction", ideal, 0.97, higher),
            row("unchanged-pass", "ns per page", unchanged, 1.0, lower),
            row(
                "rewritten-1-percent",
                "ratio",
                against_ksm(REWRITE_1),
                100.0,
                higher,
            ),
            row("common-prefix-slowdown", "ratio", slowdown, 1.1, lower),
            row("metadata-bytes-per-frame", "bytes", metadata, 20.0, lower),
        ]
    }

    /// The record of the whole run.
    pub fn json(&self) -> String {
        let record = json!({ "schema": 1, "bench": "merge", "rows": self.rows() });
        format!("{record:#}\n")
    }

    /// The table.
    pub fn print(&self) {
        let last_seed = self.seed + self.repetitions.len() as u64 - 1;
        println!(
            "{} pages a side: 25 % zero, 40 % in groups of four, 35 % unique; seeds {} to {last_seed}; medians.",
            self.pages, self.seed
        );
        println!("Processor time of merging in ns for each page of the memory.\n");
        println!(
            "{:24}{:>12}{:>14}{:>12}{:>14}",
            "", "ours", "ours, no log", "KSM", "KSM / ours"
        );
        for (name, phase) in [
            ("to the ideal", FILL),
            ("nothing written", NOTHING),
            ("1 % rewritten", REWRITE_1),
            ("10 % rewritten", REWRITE_10),
        ] {
            self.print_line(name, 2, |course| ns(course, phase), self.ratio(phase));
        }
        let speed = |course: &Course| 1e9 / ns(course, FILL);
        self.print_line("pages per CPU second", 0, speed, Err(String::new()));
        for (name, phase) in [
            ("saved of the ideal", FILL),
            ("  after 1 %", REWRITE_1),
            ("  after 10 %", REWRITE_10),
        ] {
            let fraction = |course: &Course| course.passes[phase].fraction();
            self.print_line(name, 4, fraction, Err(String::new()));
        }
        let bytes = |course: &Course| course.metadata_bytes_each;
        self.print_line("metadata, bytes each", 1, bytes, Err(String::new()));
        self.print_others();
    }

    fn print_line(&self, name: &str, digits: usize, figure: impl Fn(&Course) -> f64, ratio: Figure) {
        let logged = self.over(|one| ours(&one.logged).map(&figure));
        let unlogged = self.over(|one| ours(&one.unlogged).map(&figure));
        let cells = [(logged, 12), (unlogged, 14), (self.peer(&figure), 12)];
        let cells = cells.map(|(figure, width)| cell(&figure, digits, width));
        println!("{name:24}{}{}", cells.concat(), cell(&ratio, 1, 14));
    }

    /// What is not in the columns.
    fn print_others(&self) {
        let alike = self.over(|one| ours(&one.logged_alike).map(|course| ns(course, FILL)));
        let peer_alike = self.over(|one| self.peer_alike_in(one).map(|course| ns(course, FILL)));
        println!(
            "{:24}{}{:14}{}",
            "4,032 bytes in common",
            cell(&alike, 2, 12),
            "",
            cell(&peer_alike, 2, 12)
        );
        if let Some(Ok(crowd)) = self.repetitions.last().map(|one| &one.crowd) {
            let Pass { saved, savable, .. } = crowd.passes[FILL];
            println!(
                "\n{} equal pages, one of them written all the time: ours saves {saved} of {savable}. With one \
                 of them pinned, which safe code cannot do here, KSM saves 0 (Linux 6.18).",
                crate::CROWD
            );
        }
        println!(
            "\nThe metadata of ours are for each frame of the host, those of KSM for each page it has looked at."
        );
        let last = self.repetitions.last();
        for (name, course) in last.into_iter().flat_map(|one| {
            [
                ("with a dirty log", &one.logged),
                ("without", &one.unlogged),
                ("with a common prefix", &one.logged_alike),
                ("with a busy page", &one.crowd),
            ]
        }) {
            match course {
                Ok(course) => course.notes.iter().for_each(|note| println!("  {name}: {note}")),
                Err(why) => println!("  {name}: not measured: {why}"),
            }
        }
    }
}

fn ns(course: &Course, phase: usize) -> f64 {
    course.passes[phase].ns_per_page
}

fn ours(course: &Result<Course, String>) -> Result<&Course, String> {
    course.as_ref().map_err(Clone::clone)
}

fn cell(figure: &Figure, digits: usize, width: usize) -> String {
    match figure {
        Ok(figure) if figure.is_finite() => format!("{figure:>width$.digits$}"),
        Ok(_) | Err(_) => format!("{:>width$}", "-"),
    }
}

fn row(name: &str, unit: &str, (ours, peer): (Figure, Figure), goal: f64, better: &str) -> Value {
    let finite = |value: f64| value.is_finite().then_some(value).ok_or("it divides by nothing");
    let ours = ours.and_then(|value| finite(value).map_err(str::to_owned));
    let mut row = json!({
        "name": name,
        "unit": unit,
        "ours": ours.as_ref().ok(),
        "peer": peer.ok(),
        "goal": goal,
        "better": better,
    });
    if let Err(why) = ours {
        row["why"] = json!(why);
    }
    row
}
