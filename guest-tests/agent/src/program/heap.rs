//! `pleat-heap`: an application with a garbage-collected heap that gives memory back when the host asks.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use lexopt::prelude::{Long, Short, ValueExt};

use pleat_agent::client::{self, Subscription, Woken};
use pleat_agent::heap::{AllocateError, CHUNK_BYTES, Heap, WORDS};
use pleat_agent::message::Level;
use pleat_agent::places;
use pleat_agent::workload::Workload;

const HELP: &str = "\
pleat-heap: fills a garbage-collected heap, checks what lives in it, and collects when the host is short of memory

Usage:
  pleat-heap [OPTIONS]

Options:
  --limit SIZE        what the heap may grow to before it collects by itself (usual: 64M)
  --rate SIZE         allocates so much in a second; 0: as fast as it can (usual: 8M)
  --roots N           structures that are alive at a time, of 8 KiB each on average (usual: 256)
  --seconds N         ends after so many seconds (usual: never)
  --seed N            what is allocated follows from it (usual: 1)
  --ignore-pressure   does not listen to the host, for comparison
  --events            says `pleat-event: heap-full` when it has reached its limit, `heap-collected` when it has
                      given memory back, and `heap-ok` or `heap-wrong` in the end; Pleat takes these as events
  --directory DIR     where the agent is (usual: /run/pleat)

Examples:
  pleat-agent run &
  pleat-heap --limit 48M --seconds 30
  pleat-heap --limit 48M --seconds 30 --ignore-pressure
";

/// From one look at the clock and at the host's messages to the next.
const BEAT: Duration = Duration::from_millis(50);
/// Between checks of all that lives, and of whether pressure is over.
const CHECK: Duration = Duration::from_secs(2);

struct Options {
    limit: usize,
    rate: usize,
    roots: usize,
    seconds: Option<u64>,
    seed: u64,
    listens: bool,
    has_events: bool,
    directory: PathBuf,
}

/// Does what the command line asks for.
pub fn main(parser: lexopt::Parser) -> Result<()> {
    match options(parser)? {
        None => {
            print!("{HELP}");
            Ok(())
        }
        Some(options) => Demo::new(options).run(),
    }
}

fn options(mut parser: lexopt::Parser) -> Result<Option<Options>> {
    let mut options = Options {
        limit: 64 << 20,
        rate: 8 << 20,
        roots: 256,
        seconds: None,
        seed: 1,
        listens: true,
        has_events: false,
        directory: PathBuf::from(places::DIRECTORY),
    };
    while let Some(argument) = parser.next()? {
        match argument {
            Long("limit") => options.limit = size(&parser.value()?.string()?)?,
            Long("rate") => options.rate = size(&parser.value()?.string()?)?,
            Long("roots") => options.roots = parser.value()?.parse::<usize>()?.max(1),
            Long("seconds") => options.seconds = Some(parser.value()?.parse()?),
            Long("seed") => options.seed = parser.value()?.parse()?,
            Long("ignore-pressure") => options.listens = false,
            Long("events") => options.has_events = true,
            Long("directory") => options.directory = parser.value()?.into(),
            Long("help") | Short('h') => return Ok(None),
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(Some(options))
}

fn size(text: &str) -> Result<usize> {
    let (digits, unit) = match text.as_bytes().last() {
        Some(b'K' | b'k') => (&text[..text.len() - 1], 1 << 10),
        Some(b'M' | b'm') => (&text[..text.len() - 1], 1 << 20),
        _ => (text, 1),
    };
    let number: usize = digits
        .parse()
        .with_context(|| format!("`{text}` is no size; write such as 512K or 48M"))?;
    number
        .checked_mul(unit)
        .with_context(|| format!("{text} is too much"))
}

struct Demo {
    options: Options,
    workload: Workload,
    subscription: Option<Subscription>,
    began: Instant,
    allocated: u64,
    is_bounded: bool,
    /// How often it has given back because it was told.
    shrinks: u64,
    was_full: bool,
}

impl Demo {
    fn new(options: Options) -> Self {
        Self {
            workload: Workload::new(options.limit, options.roots, options.seed),
            options,
            subscription: None,
            began: Instant::now(),
            allocated: 0,
            is_bounded: false,
            shrinks: 0,
            was_full: false,
        }
    }

    fn run(&mut self) -> Result<()> {
        let end = self
            .options
            .seconds
            .map(|seconds| self.began + Duration::from_secs(seconds));
        let mut check = Instant::now();
        while end.is_none_or(|end| Instant::now() < end) {
            if Instant::now() >= check {
                check = Instant::now() + CHECK;
                self.verify()?;
                self.subscribe();
                self.ease();
            }
            self.work()?;
            self.listen()?;
        }
        self.verify()?;
        self.report("the end");
        self.event("heap-ok");
        Ok(())
    }

    /// Allocates until the rate or the beat is used up.
    fn work(&mut self) -> Result<()> {
        let until = Instant::now() + BEAT;
        while Instant::now() < until && self.allocated < self.due() {
            match self.workload.step() {
                Ok(cells) => self.allocated += cells * CELL_BYTES,
                Err(AllocateError::Full) => self.widen()?,
                Err(AllocateError::Kernel(error)) => {
                    return Err(error).context("the kernel gives no memory");
                }
            }
        }
        // A collection that nobody asked for, at the usual limit.
        let is_full = self.heap().bytes() + CHUNK_BYTES > self.options.limit
            && self.heap().counters().collections > self.shrinks;
        if !self.was_full && is_full {
            self.was_full = true;
            self.event("heap-full");
        }
        Ok(())
    }

    /// Bytes that may have been allocated by now.
    fn due(&self) -> u64 {
        if self.options.rate == 0 {
            return u64::MAX;
        }
        let milliseconds = self.began.elapsed().as_millis();
        u64::try_from(milliseconds * self.options.rate as u128 / 1000).unwrap_or(u64::MAX)
    }

    /// A heap that is bounded because of pressure, and full of what lives, gets more: giving back is not to cost the
    /// application its work.
    fn widen(&mut self) -> Result<()> {
        let bytes = self.heap().bytes();
        if bytes >= self.options.limit {
            bail!(
                "the heap of {} KiB is full of what is in use; give it a higher --limit",
                bytes >> 10
            );
        }
        let more = (bytes + bytes / 2 + CHUNK_BYTES).min(self.options.limit);
        self.workload.heap_mut().set_limit(more);
        Ok(())
    }

    /// Waits for the host's word, at most a beat, or not at all when there is work to do.
    fn listen(&mut self) -> Result<()> {
        let pause = if self.options.rate == 0 {
            Duration::ZERO
        } else {
            BEAT
        };
        let Some(subscription) = &self.subscription else {
            std::thread::sleep(pause);
            return Ok(());
        };
        match subscription.wait(Some(pause))? {
            Woken::Nothing => {}
            Woken::AgentGone => self.subscription = None,
            Woken::Pressure => self.give_back()?,
        }
        Ok(())
    }

    /// What this is all about.
    fn give_back(&mut self) -> Result<()> {
        let before = self.heap().bytes();
        let released = self.workload.heap_mut().shrink();
        self.shrinks += 1;
        // Until pressure is over the heap lives in twice of what it needs.
        let bound = (self.heap().bytes() * 2).clamp(CHUNK_BYTES, self.options.limit);
        self.workload.heap_mut().set_limit(bound);
        self.is_bounded = true;
        let after = self.heap().bytes();
        println!("pleat-heap: {} -> {} KiB", before >> 10, after >> 10);
        self.verify()?;
        if released > 0 {
            if let Some(subscription) = &self.subscription {
                // Should the agent have ended, the next wait says so.
                let _ = subscription.report_collected(released as u64 >> 10);
            }
            self.event("heap-collected");
        }
        Ok(())
    }

    /// Back to the usual limit when there is no pressure any more, or nobody who could say so.
    fn ease(&mut self) {
        let is_over =
            || client::ask(&self.options.directory).map_or(true, |pressure| pressure.level == Level::None);
        if self.is_bounded && is_over() {
            self.is_bounded = false;
            self.workload.heap_mut().set_limit(self.options.limit);
        }
    }

    fn subscribe(&mut self) {
        if self.options.listens && self.subscription.is_none() {
            let subscription = Subscription::open(&self.options.directory, Level::Some);
            self.subscription = subscription.ok().map(|(subscription, _)| subscription);
        }
    }

    fn verify(&self) -> Result<()> {
        if let Err(wrong) = self.workload.verify() {
            self.event("heap-wrong");
            bail!("cell {} of structure {} is wrong", wrong.cell, wrong.root);
        }
        Ok(())
    }

    fn report(&self, when: &str) {
        let counters = self.heap().counters();
        println!(
            "pleat-heap: {when}: {} KiB allocated, heap of {} KiB, {} collections, {} KiB given back",
            self.allocated >> 10,
            self.heap().bytes() >> 10,
            counters.collections,
            counters.released_bytes >> 10
        );
    }

    fn event(&self, name: &str) {
        if self.options.has_events {
            println!("pleat-event: {name}");
        }
    }

    const fn heap(&self) -> &Heap {
        self.workload.heap()
    }
}

/// A state, three links, and the content.
const CELL_BYTES: u64 = (WORDS as u64 + 2) * 8;
