//! Virtio devices behind their PCI functions, as Linux's driver of the transport uses them.

use std::vec::Vec;

use pleat_types::PortSize::{Byte, Dword};
use pleat_types::{Gfn, Gpa, Tsc};

use super::{TSC_HZ, init_pic, take};
use crate::virtio::testing::{
    Driver, FakeHands, GuestQueue, NO_VECTOR, VERSION_1, config, output, set_config,
};
use crate::virtio::{BalloonSetup, DeviceSet, Direction, MemSetup, Served};
use crate::{Board, BoardConfig, PortEffect};

mod access;
mod interrupts;
mod probe;
mod registers;
mod rules;

const BALLOON: u32 = 1;
const ENTROPY: u32 = 5;
const ALL: DeviceSet = DeviceSet {
    balloon: Some(BalloonSetup {
        deflates_on_oom: true,
        has_reporting: true,
    }),
    mem: Some(MemSetup {
        first: Gfn::new(0x10_0000),
        frames: 0x1_0000,
    }),
    has_console: true,
    disk_sectors: Some(64),
    has_random: true,
};
/// Where queues are laid out, and buffers behind them.
const QUEUES: Gpa = Gpa::new(0x1000);
const BUFFER: Gpa = Gpa::new(0x8000);

fn board(devices: DeviceSet) -> Board {
    Board::new(&BoardConfig {
        tsc_hz: TSC_HZ,
        epoch: 0,
        start: Tsc(0),
        devices,
    })
}

/// A board with all devices, and a guest whose driver has found this one.
fn found(device: u32) -> (Board, FakeHands, Driver) {
    let mut board = board(ALL);
    let driver = Driver::find(&mut board, device).expect("the device is there");
    (board, FakeHands::new(0x1_0000), driver)
}

/// The entropy device in use.
struct Machine {
    board: Board,
    hands: FakeHands,
    driver: Driver,
    queue: GuestQueue,
}

impl Machine {
    /// With interrupts by wire.
    fn new() -> Self {
        let (mut board, hands, driver) = found(ENTROPY);
        let queue = bring_up(&mut board, driver, NO_VECTOR);
        Self {
            board,
            hands,
            driver,
            queue,
        }
    }

    /// With messages: entry 0 for the configuration and 1 for the queue, both masked.
    fn with_msix() -> Self {
        let (mut board, mut hands, driver) = found(ENTROPY);
        driver.enable_msix(&mut board, &mut hands);
        assert!(driver.negotiate(&mut board, VERSION_1));
        assert_eq!(driver.set_config_vector(&mut board, 0), 0);
        let queue = driver.set_up_queue(&mut board, 0, QUEUES, 1).expect("a queue");
        assert!(driver.start(&mut board).wants_service());
        assert_eq!(board.serve(&mut hands), Served::Idle);
        Self {
            board,
            hands,
            driver,
            queue,
        }
    }

    fn add(&mut self, bytes: u32) -> u16 {
        self.queue
            .add(&mut self.hands, &[(BUFFER, bytes, Direction::ToGuest)])
    }

    fn notify(&mut self) -> PortEffect {
        self.driver.notify(&mut self.board, 0)
    }

    fn serve(&mut self) -> Served {
        self.hands.run_guest();
        self.board.serve(&mut self.hands)
    }

    fn used(&mut self) -> Vec<(u16, u32)> {
        self.queue.used(&self.hands)
    }

    /// Asks for random bytes and gets them.
    fn fetch(&mut self) {
        let head = self.add(16);
        assert!(self.notify().wants_service());
        assert_eq!(self.serve(), Served::Idle);
        assert_eq!(self.used(), [(head, 16)]);
    }

    fn needs_reset(&self) -> Option<&'static str> {
        let mut views = self.board.virtio_functions();
        views
            .find(|view| view.device == 5)
            .expect("it is there")
            .needs_reset
    }
}

/// Negotiates nothing but the version, sets up queue 0 and starts.
fn bring_up(board: &mut Board, driver: Driver, vector: u16) -> GuestQueue {
    assert!(driver.negotiate(board, VERSION_1));
    let queue = driver.set_up_queue(board, 0, QUEUES, vector).expect("a queue");
    // What was made available before counts from now on.
    assert!(driver.start(board).wants_service());
    queue
}
