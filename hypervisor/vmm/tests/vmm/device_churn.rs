//! Random guests with virtio devices, honest to some and hostile to others, with merging, shortage, kills and restarts
//! in between: no byte is ever wrong, no used chain too many or too few, and no frame is lost.
//!
//! `PROPTEST_CASES` in the environment makes it longer.

use crate::equipped::equipped;
use crate::fake::Op;
use crate::lives::{self, any_page, cases, check_run, kind, pages_of, reclaim};
use crate::merging::{at, page};
use crate::merging_breaks::audits;
use crate::oracle::Oracle;
use crate::scenario::{Machine, Report};
use crate::virtio::{Driver, Kind, from_guest, output, to_guest};
use pleat_bundle::config::ReclaimConfig;
use pleat_types::PortSize;
use proptest::collection::vec;
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_oneof, proptest};
use std::collections::HashMap;

type Life = lives::Life<Act>;

const NAMES: [&str; 3] = ["a", "b", "c"];
const RUN_MS: u64 = 8;
/// Guests are honest to the balloon and the disk, and do anything to the others.
const ALL: [Kind; 5] = [Kind::Balloon, Kind::Mem, Kind::Console, Kind::Block, Kind::Random];
const SECTOR: usize = 512;
/// The only thing that may fail: a guest that finds no memory.
const EXCUSES: [&str; 2] = ["out of memory", "too little free memory"];

/// What a guest does next.
#[derive(Clone, Debug)]
enum Act {
    Memory(lives::Act),
    Inflate {
        pages: Vec<u64>,
    },
    Deflate {
        pages: Vec<u64>,
    },
    Report {
        first: u64,
        count: u64,
    },
    WriteDisk {
        sector: u64,
        page: u64,
        sectors: u64,
    },
    ReadDisk {
        sector: u64,
        page: u64,
    },
    /// Discards sectors, or zeroes them.
    ClearDisk {
        sector: u64,
        sectors: u64,
        is_zeroed: bool,
    },
    /// A register of a device that nobody is honest to.
    Poke {
        kind: Kind,
        offset: u16,
        value: u32,
    },
    /// A chain to such a device with a buffer where no RAM of these tests is.
    Stray {
        kind: Kind,
        place: u64,
        bytes: u32,
        is_written: bool,
    },
}

fn honest_act() -> impl Strategy<Value = Act> {
    let pages = || prop_oneof![3 => vec(any_page(), 1..12), 1 => vec(0u64..600, 100..256)];
    prop_oneof![
        3 => pages().prop_map(|pages| Act::Inflate { pages }),
        2 => pages().prop_map(|pages| Act::Deflate { pages }),
        2 => (any_page(), prop_oneof![3 => 1u64..8, 1 => 1u64..600])
            .prop_map(|(first, count)| Act::Report { first, count }),
        3 => (0u64..220, any_page(), prop_oneof![Just(8u64), 1u64..20])
            .prop_map(|(sector, page, sectors)| Act::WriteDisk { sector, page, sectors }),
        2 => (0u64..250, any_page()).prop_map(|(sector, page)| Act::ReadDisk { sector, page }),
        2 => (0u64..220, 1u64..36, any::<bool>())
            .prop_map(|(sector, sectors, is_zeroed)| Act::ClearDisk { sector, sectors, is_zeroed }),
    ]
}

fn hostile_act() -> impl Strategy<Value = Act> {
    let kind = || prop_oneof![Just(Kind::Mem), Just(Kind::Console), Just(Kind::Random)];
    let offset =
        prop_oneof![3 => 0u16..0x41, 1 => 0x80u16..0x100, 2 => (0u16..8).prop_map(|n| 0x100 + 4 * n)];
    let value = prop_oneof![0u32..16, any::<u32>()];
    let place = prop_oneof![
        Just(0xc000_0000u64),
        Just(0xfee0_0000),
        Just(4 << 30),
        Just(5 << 30),
        Just(u64::MAX - 7),
        Just(0x4_0000),
    ];
    prop_oneof![
        2 => (kind(), offset, value).prop_map(|(kind, offset, value)| Act::Poke { kind, offset, value }),
        1 => (kind(), place, prop_oneof![0u32..40, any::<u32>()], any::<bool>()).prop_map(
            |(kind, place, bytes, is_written)| Act::Stray { kind, place, bytes, is_written }
        ),
    ]
}

fn life(name: &'static str) -> impl Strategy<Value = Life> {
    let act = prop_oneof![5 => lives::act().prop_map(Act::Memory), 5 => honest_act(), 1 => hostile_act()];
    (kind(), vec(act, 5..50)).prop_map(move |((domain, pages, end), acts)| {
        let mut config = equipped(name, domain, &ALL);
        config.pages = pages;
        config.devices.disk.as_mut().expect("it has one").bytes = 128 << 10;
        Life::new(config, acts, end)
    })
}

/// A guest's program in the making, and all that it has to find.
struct World {
    driver: Driver,
    oracle: Oracle,
    seen: usize,
    /// By sector, if it was written.
    disk: HashMap<u64, Vec<u8>>,
    pages: u64,
}

impl World {
    /// Lets the oracle see what was done since it looked.
    fn look(&mut self) {
        let new = self.driver.ops[self.seen..].iter();
        new.for_each(|step| self.oracle.step(step));
        self.seen = self.driver.ops.len();
    }

    fn bytes(&self, at: u64, bytes: usize) -> Vec<u8> {
        let words = (at..).step_by(8).take(bytes / 8);
        words.flat_map(|at| self.oracle.word(at).to_le_bytes()).collect()
    }

    fn gfns(&self, pages: &[u64]) -> Vec<u64> {
        pages.iter().map(|n| page(n % self.pages) >> 12).collect()
    }

    fn write_disk(&mut self, sector: u64, n: u64, sectors: u64) {
        let from = page(n % (self.pages - 3));
        for k in 0..sectors {
            let content = self.bytes(from + k * SECTOR as u64, SECTOR);
            self.disk.insert(sector + k, content);
        }
        self.driver.write_disk(sector, from, sectors);
    }

    fn read_disk(&mut self, sector: u64, n: u64) {
        let image = |sector| vec![if sector < 128 { 3 } else { 0 }; SECTOR];
        let content = self.disk.get(&sector).cloned();
        let content = content.unwrap_or_else(|| image(sector));
        self.driver.read_disk(sector, page(n % self.pages) + 24, content);
    }

    /// Whole pages that are discarded are the image again; what is zeroed is zeros.
    fn clear_disk(&mut self, sector: u64, sectors: u64, is_zeroed: bool) {
        if is_zeroed {
            self.driver.zero_disk(sector, sectors);
            let zeros = (sector..sector + sectors).map(|sector| (sector, vec![0; SECTOR]));
            self.disk.extend(zeros);
        } else {
            self.driver.discard_disk(sector, sectors);
            let whole = sector.next_multiple_of(8)..(sector + sectors) / 8 * 8;
            self.disk.retain(|sector, _| !whole.contains(sector));
        }
    }

    /// A value that brings no queue into the memory that is compared.
    fn poke(&mut self, kind: Kind, offset: u16, value: u32) {
        let is_address = (0x20..0x38).contains(&offset);
        let value = u64::from(if is_address { value | 0x8000_0000 } else { value });
        let size = match offset {
            0x00..0x10 | 0x20..0x38 => PortSize::Dword,
            0x14 | 0x15 | 0x40 => PortSize::Byte,
            _ => PortSize::Word,
        };
        self.driver.then([output(kind.port() + offset, size, value)]);
    }

    fn act(&mut self, act: &Act) {
        self.look();
        match act {
            Act::Memory(act) => {
                let steps = act.steps(self.pages, &self.oracle);
                self.driver.then(steps);
            }
            Act::Inflate { pages } => {
                let pages = self.gfns(pages);
                self.driver.inflate(&pages);
            }
            Act::Deflate { pages } => {
                let pages = self.gfns(pages);
                self.driver.deflate(&pages);
            }
            Act::Report { first, count } => {
                let first = first % self.pages;
                let count = (*count).min(self.pages - first);
                self.driver.report(&[(page(first) >> 12, count)]);
            }
            Act::WriteDisk {
                sector,
                page,
                sectors,
            } => self.write_disk(*sector, *page, *sectors),
            Act::ReadDisk { sector, page } => self.read_disk(*sector, *page),
            Act::ClearDisk {
                sector,
                sectors,
                is_zeroed,
            } => self.clear_disk(*sector, *sectors, *is_zeroed),
            Act::Poke { kind, offset, value } => self.poke(*kind, *offset, *value),
            Act::Stray {
                kind,
                place,
                bytes,
                is_written,
            } => {
                let buffer = if *is_written { to_guest } else { from_guest };
                self.driver
                    .chain(*kind, 0, &[buffer(*place, *bytes)])
                    .notify(*kind, 0);
            }
        }
    }
}

/// The program of a life. What it expects is known beforehand: nobody else writes to its memory but its devices.
fn program(life: &Life) -> Vec<Op> {
    let mut world = World {
        driver: Driver::of(&ALL),
        oracle: Oracle::default(),
        seen: 0,
        disk: HashMap::new(),
        pages: pages_of(&life.config),
    };
    life.acts.iter().for_each(|act| world.act(act));
    world.look();
    let last = life.last_steps(&world.oracle);
    world.driver.finish(last)
}

fn command() -> impl Strategy<Value = (u64, &'static str)> {
    let what = prop_oneof![
        Just("kill a"),
        Just("pause b"),
        Just("resume b"),
        Just("merge off"),
        Just("merge on"),
        Just("balloon a 2"),
        Just("balloon a 4"),
        Just("mem b 12"),
        Just("mem b 6"),
        Just("pressure c full"),
        Just("pressure c auto"),
        Just("devices b"),
        Just("type c hello"),
        Just("stats"),
    ];
    (0..RUN_MS * 1000, what)
}

#[derive(Clone, Debug)]
struct Host {
    memory_mib: usize,
    has_dirty_log: bool,
    slice_us: u32,
    epoch_us: u32,
    reclaim: ReclaimConfig,
    commands: Vec<(u64, &'static str)>,
}

fn host() -> impl Strategy<Value = Host> {
    let memory = prop_oneof![5usize..8, 8usize..20];
    let slice = prop_oneof![Just(2u32), Just(20), Just(100)];
    (
        memory,
        any::<bool>(),
        slice,
        prop_oneof![Just(20u32), Just(200)],
        (reclaim(), vec(command(), 0..8)),
    )
        .prop_map(
            |(memory_mib, has_dirty_log, slice_us, epoch_us, (reclaim, commands))| Host {
                reclaim,
                memory_mib,
                has_dirty_log,
                slice_us,
                epoch_us,
                commands,
            },
        )
}

fn run(lives: &[Life], host: &Host) -> Report {
    let guests = lives.iter().map(|life| (life.config.clone(), program(life)));
    let mut machine = Machine::new(guests.collect());
    machine.memory_bytes = host.memory_mib << 20;
    machine.has_dirty_log = host.has_dirty_log;
    machine.disk = Some(vec![3; 64 << 10]);
    machine.config.merge.epoch_us = host.epoch_us;
    machine.config.reclaim = host.reclaim;
    machine.config.slice_us = host.slice_us;
    machine.config.for_ms = Some(RUN_MS);
    let commands = host.commands.iter().map(|(micros, command)| at(*micros, command));
    machine.config.script = commands.chain([audits(700)]).collect();
    machine.run()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn every_byte_is_right_whatever_guests_do_to_their_devices(
        lives in (life(NAMES[0]), life(NAMES[1]), life(NAMES[2])),
        count in 1usize..4,
        host in host(),
    ) {
        let (a, b, c) = lives;
        let report = run(&[a, b, c][..count], &host);
        check_run(&report, &EXCUSES);
    }
}
