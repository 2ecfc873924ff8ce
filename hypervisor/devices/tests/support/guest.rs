//! The guest, its board, and what holds whatever it does.

use std::collections::BTreeMap;
use std::vec;

use pleat_devices::virtio::{BalloonSetup, DeviceSet, Direction, MemSetup, Served};
use pleat_devices::{Board, BoardConfig};
use pleat_types::{Gfn, Gpa, Tsc};

use super::watched::Watched;
use super::{Driver, FakeHands, GuestQueue, NO_VECTOR, VERSION_1, set_config};

/// The guest's RAM: queues from `QUEUES` on, then room for buffers.
pub const RAM_BYTES: usize = 0x4_0000;
const QUEUES: u64 = 0x1000;
const QUEUE_ROOM: u64 = 0x2000;
pub const BUFFERS: u64 = 0x2_0000;
const SECTORS: u64 = 256;
/// The most that one call of `serve` may do, in calls to its owner and pages. The disk is what comes nearest: 32
/// requests with 128 descriptors each.
const WORK_MAX: u64 = 10_000;

/// How far a guest came: what a test of many guests adds up, to know that they did something.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Reached {
    /// Chains that were given back.
    pub used: u64,
    /// Devices that a guest brought to `DEVICE_NEEDS_RESET`.
    pub broken: u64,
    pub stalled: u64,
    pub interrupts: u64,
    /// The most that one call of `serve` did.
    pub work: u64,
    pub inflated: u64,
    pub reported: u64,
    pub plugged: u64,
    pub printed: u64,
    pub heard: u64,
    pub randoms: u64,
    /// Calls that moved bytes from or to the disk.
    pub requests: u64,
    /// Sectors that were discarded or zeroed.
    pub cleared: u64,
}

/// A guest with its board.
pub struct Guest {
    pub board: Board,
    pub hands: FakeHands,
    pub mem: Option<MemSetup>,
    pub drivers: [Option<Driver>; 6],
    /// By device and index.
    pub queues: BTreeMap<(usize, u16), GuestQueue>,
    pub reached: Reached,
}

/// A guest does what these bytes say; then its devices must be as usable as ever.
pub fn drive(data: &[u8]) -> Reached {
    let mut bytes = Bytes { rest: data };
    let mut guest = Guest::new(bytes.byte());
    while !bytes.rest.is_empty() {
        guest.perform(&mut bytes);
    }
    guest.check_recovery();
    guest.count();
    guest.reached
}

/// What the guest still has to say; zeros behind its end.
pub struct Bytes<'a> {
    pub rest: &'a [u8],
}

impl Bytes<'_> {
    pub fn byte(&mut self) -> u8 {
        let (first, rest) = self.rest.split_first().unwrap_or((&0, &[]));
        self.rest = rest;
        *first
    }

    pub fn half(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    pub fn word(&mut self) -> u32 {
        u32::from(self.half()) | u32::from(self.half()) << 16
    }

    /// One of so many, at most 256.
    pub fn choose(&mut self, choices: usize) -> usize {
        usize::from(self.byte()) % choices
    }
}

impl Guest {
    /// With the devices that these bits say.
    fn new(devices: u8) -> Self {
        let has = |bit: u8| devices >> bit & 1 == 0;
        let mem = has(1).then_some(MemSetup {
            first: Gfn::new(0x10_0000),
            frames: 0x1_0000,
        });
        let devices = DeviceSet {
            balloon: has(0).then_some(BalloonSetup {
                deflates_on_oom: has(5),
                has_reporting: has(6),
            }),
            mem,
            has_console: has(2),
            disk_sectors: has(3).then_some(SECTORS),
            has_random: has(4),
        };
        let mut board = Board::new(&BoardConfig {
            tsc_hz: 1_000_000_000,
            epoch: 0,
            start: Tsc(0),
            devices,
        });
        let mut hands = FakeHands::new(RAM_BYTES);
        hands.disk = vec![0; usize::try_from(512 * SECTORS).expect("a small disk")];
        hands.disk_room = has(7).then_some(SECTORS / 16);
        let drivers = [0, 1, 2, 3, 4, 5].map(|device| Driver::find(&mut board, device));
        Self {
            board,
            hands,
            mem,
            drivers,
            queues: BTreeMap::new(),
            reached: Reached::default(),
        }
    }

    /// As Linux does it, with these features out of those that are offered.
    pub fn bring_up(&mut self, device: usize, features: u64, uses_msix: bool) {
        let number = u32::try_from(device).expect("a device number");
        let _ = set_config(&mut self.board, number, 0x10, 0x1000 + 0x200 * number);
        let _ = set_config(&mut self.board, number, 0x14, 0xc000_0000 + 0x100 * number);
        self.drivers[device] = Driver::find(&mut self.board, number);
        let Some(driver) = self.drivers[device] else {
            return;
        };
        let offered = driver.offered(&mut self.board);
        if uses_msix {
            driver.enable_msix(&mut self.board, &mut self.hands);
        }
        if !driver.negotiate(&mut self.board, offered & (features | VERSION_1)) {
            // It moved another device over it.
            return;
        }
        for index in 0..6 {
            let place = u64::from(index) + [0, 0, 4, 5, 11, 12][device];
            let base = Gpa::new(QUEUES + QUEUE_ROOM * place);
            let vector = if uses_msix { index } else { NO_VECTOR };
            if uses_msix {
                let message = u8::try_from(0x40 + 8 * device + usize::from(index)).expect("a vector");
                driver.set_message(&mut self.hands, index, message);
            }
            if let Some(queue) = driver.set_up_queue(&mut self.board, index, base, vector) {
                let bytes = usize::try_from(queue.end().get() - base.get()).expect("a small queue");
                self.hands.poke(base, &vec![0; bytes]);
                self.queues.insert((device, index), queue);
            }
        }
        let _ = driver.start(&mut self.board);
    }

    /// One call of `serve`, and what has to hold of it.
    pub fn serve(&mut self) -> Served {
        self.hands.run_guest();
        self.hands.accesses.clear();
        let before = self.hands.work;
        let mut watched = Watched::new(&mut self.hands, &self.board, self.mem);
        let served = self.board.serve(&mut watched);
        let work = self.hands.work - before;
        assert!(work <= WORK_MAX, "one call did {work}");
        self.reached.work = self.reached.work.max(work);
        self.reached.stalled += u64::from(served == Served::Stalled);
        // Messages that are masked may wait when all else is done.
        assert!(served == Served::Idle || self.board.has_device_work());
        served
    }

    /// Whatever was done before: without the others about, each device can be reset and used.
    fn check_recovery(&mut self) {
        self.count_broken();
        self.hands.short = Default::default();
        for device in 1..6 {
            let _ = set_config(&mut self.board, device, 4, 0);
        }
        for device in 1..6usize {
            let number = u32::try_from(device).expect("a device number");
            let _ = set_config(&mut self.board, number, 0x40, 0);
            self.bring_up(device, 0, false);
            if let Some(driver) = self.drivers[device] {
                assert_eq!(driver.status(&mut self.board), 0xf);
                self.hands.ram.fill(0);
                assert_eq!(self.serve(), Served::Idle);
                self.check_entropy(device, driver);
            }
            let _ = set_config(&mut self.board, number, 4, 0);
        }
        let line_status = super::input(&mut self.board, 0x3fd, pleat_types::PortSize::Byte);
        assert_eq!(line_status & 0xfe, 0x60);
    }

    fn check_entropy(&mut self, device: usize, driver: Driver) {
        if device != 5 {
            return;
        }
        let queue = self.queues.get_mut(&(device, 0)).expect("set up just now");
        let head = queue.add(&mut self.hands, &[(Gpa::new(BUFFERS), 8, Direction::ToGuest)]);
        assert!(driver.notify(&mut self.board, 0).wants_service());
        assert_eq!(self.serve(), Served::Idle);
        let queue = self.queues.get_mut(&(device, 0)).expect("set up just now");
        assert_eq!(queue.used(&self.hands), [(head, 8)]);
        assert_eq!(driver.take_isr(&mut self.board), 1);
    }

    fn count_broken(&mut self) {
        let broken = |view: &pleat_devices::virtio::FunctionView| view.needs_reset.is_some();
        self.reached.broken += self.board.virtio_functions().filter(broken).count() as u64;
    }

    fn count(&mut self) {
        let Self {
            board,
            hands,
            reached,
            ..
        } = self;
        reached.interrupts += board.virtio_functions().map(|view| view.interrupts).sum::<u64>();
        reached.inflated += hands.inflated.len() as u64;
        reached.reported += hands.reported.len() as u64;
        reached.plugged += hands.plugs.len() as u64;
        reached.printed += hands.printed.len() as u64;
        reached.heard += hands.heard.len() as u64;
        reached.randoms += hands.randoms;
        reached.requests += board
            .block()
            .map_or(0, |block| block.sectors_read() + block.sectors_written());
        reached.cleared += board.block().map_or(0, |block| block.sectors_cleared());
    }
}
