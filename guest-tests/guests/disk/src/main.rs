//! A disk: what was written is read again, in requests of any shape; what was zeroed is zeros; what was not written, or
//! discarded, is the base image; what cannot be is refused. Others on the same image see nothing of it.
//!
//! The image is `scenarios/numbers.img`: its 8-byte words are the lines `0000000`, `0000001`, and so on.
//! Parameters: `seed` (1: each guest has its own), `operations` (400), `interrupts` (`messages`, `line`, `polled`), `skew`
//! (bytes into their pages at which the rings begin, 0), `room` (pages that the guest may have written; usual: as many as
//! it likes, and fails if it cannot), `then` (`finish`, or `reboot`: the disk is as at first after
//! that, or the guest fails). Events: `up`, `half`, `full`, `work-ok`; `written` before a reboot. Measures: `sectors-written`,
//! `sectors-cleared`, `sectors-compared`, `interrupts`.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

mod model;

use pleat_guest::memory::{self, Page};
use pleat_guest::parameters::Parameters;
use pleat_guest::random::Random;
use pleat_guest::virtio::block::{self, Answer, Block, ERROR, Kind, OK, RANGE_BYTES, SECTOR, UNSUPPORTED};
use pleat_guest::virtio::{Interrupts, Piece};
use pleat_guest::window::Window;
use pleat_guest::{apic, check, cpu, hypercall, interrupts, println};

use model::{Model, PAGE_SECTORS};

pleat_guest::main!(run);

const VECTOR: u8 = 0x60;
/// Sectors of a request, at most: more than the device does at once.
const SECTORS_MAX: usize = 300;
const BUFFER_PAGES: usize = SECTORS_MAX / 8 + 3;
const RESET_CONTROL: u16 = 0xcf9;
const INTERRUPT_MICROS: u64 = 10_000_000;

struct Work {
    disk: Block,
    model: Model,
    buffer: &'static mut [Page],
    random: Random,
    interrupts: Interrupts,
    written: u64,
    cleared: u64,
    compared: u64,
}

impl Work {
    /// Cuts a buffer into pieces: one, whole sectors, or anything.
    fn pieces(&mut self, at: u64, bytes: u64, kind: Kind, pieces: &mut [Piece; block::PIECES_MAX]) -> usize {
        let unit = [bytes, SECTOR, 1][self.random.below(3)];
        let (mut done, mut count) = (0, 0);
        while done < bytes {
            let left = bytes - done;
            let mean = usize::try_from(bytes / 6).unwrap_or(0).max(1);
            let wanted = 1 + self.random.below(mean * 2) as u64;
            let is_last = count == pieces.len() - 1;
            let len = if is_last {
                left
            } else {
                wanted.next_multiple_of(unit).min(left)
            };
            let len_u32 = u32::try_from(len).unwrap_or(0);
            pieces[count] = if kind == Kind::READ {
                Piece::write(at + done, len_u32)
            } else {
                Piece::read(at + done, len_u32)
            };
            done += len;
            count += 1;
        }
        count
    }

    /// A request over sectors, with the buffer beginning at any byte; the buffer's address.
    fn request(&mut self, kind: Kind, first: u64, count: usize) -> (u64, Answer) {
        let at = self.buffer[0].address() + self.random.below(4096) as u64;
        if kind == Kind::WRITE {
            self.model.fill(Window::Memory(at), first, count);
        }
        (at, self.send(kind, first, at, count as u64 * SECTOR))
    }

    /// A request with these bytes of data, cut somehow.
    fn send(&mut self, kind: Kind, first: u64, at: u64, bytes: u64) -> Answer {
        let mut pieces = [Piece::NONE; block::PIECES_MAX];
        let len = self.pieces(at, bytes, kind, &mut pieces);
        if self.interrupts != Interrupts::Polled {
            return self.sleep_through(kind, first, &pieces[..len]);
        }
        self.disk.request(kind, first, &pieces[..len])
    }

    /// Interrupts of the disk so far.
    fn interrupts(&self) -> u32 {
        match self.interrupts {
            Interrupts::Polled => 0,
            Interrupts::Line => {
                let line = self.disk.transport.function().interrupt_line();
                interrupts::counted(interrupts::LINES_VECTOR + (line & 15))
            }
            Interrupts::Messages(vector) => interrupts::counted(vector + 1),
        }
    }

    /// As [`Block::request`], asleep meanwhile. The header comes in two pieces.
    fn sleep_through(&mut self, kind: Kind, first: u64, data: &[Piece]) -> Answer {
        let (header, status) = self.disk.frame(kind, first);
        let cut = 1 + u32::try_from(self.random.below(15)).unwrap_or(0);
        let mut pieces = [Piece::NONE; block::PIECES_MAX + 3];
        pieces[0] = Piece::read(header.at, cut);
        pieces[1] = Piece::read(header.at + u64::from(cut), header.bytes - cut);
        pieces[2..data.len() + 2].copy_from_slice(data);
        pieces[data.len() + 2] = status;
        let head = self.disk.queue.offer(&pieces[..data.len() + 3]);
        check!(head.is_some(), "no room for a request");
        let before = self.interrupts();
        self.disk.queue.kick();
        let has_come = interrupts::sleep_while(INTERRUPT_MICROS, || {
            self.interrupts() != before && self.disk.queue.has_used()
        });
        check!(has_come, "no interrupt, or a request without an end");
        let bytes = self.disk.queue.wait().bytes;
        Answer {
            status: self.disk.status(),
            bytes,
        }
    }

    fn read(&mut self, first: u64, count: usize, when: &str) {
        let (at, answer) = self.request(Kind::READ, first, count);
        check!(answer.status == OK, "{when}: status {} of a read", answer.status);
        let bytes = count as u64 * SECTOR + 1;
        check!(
            u64::from(answer.bytes) == bytes,
            "{when}: {} bytes read, not {bytes}",
            answer.bytes
        );
        self.model.expect(Window::Memory(at), first, count, when);
        self.compared += count as u64;
    }

    fn write(&mut self, first: u64, count: usize) {
        self.model.renew(first, count);
        let (_, answer) = self.request(Kind::WRITE, first, count);
        check!(answer.status == OK, "status {} of a write", answer.status);
        check!(answer.bytes == 1, "a write has written {} bytes", answer.bytes);
        self.written += count as u64;
    }

    /// Clears up to three ranges by one request.
    fn clear(&mut self, kind: Kind) {
        let at = self.buffer[0].address() + self.random.below(4096) as u64;
        let ranges = 1 + self.random.below(3) as u64;
        for n in 0..ranges {
            let (first, count) = self.range();
            let place = Window::Memory(at + n * RANGE_BYTES);
            Block::put_range(place, first, u32::try_from(count).unwrap_or(0), 0);
            if kind == Kind::DISCARD {
                self.model.discard(first, count);
            } else {
                self.model.zero(first, count);
            }
            self.cleared += count as u64;
        }
        let answer = self.send(kind, 0, at, ranges * RANGE_BYTES);
        check!(answer.status == OK, "status {} of {kind:?}", answer.status);
        check!(answer.bytes == 1, "{kind:?} has written {} bytes", answer.bytes);
    }

    fn range(&mut self) -> (u64, usize) {
        let most = [1, 8, 20, SECTORS_MAX][self.random.below(4)];
        let count = 1 + self.random.below(most);
        let sectors = self.model.sectors();
        (self.random.below(sectors - count + 1) as u64, count)
    }

    fn operation(&mut self) {
        let (first, count) = self.range();
        match self.random.below(10) {
            0..3 => self.write(first, count),
            8 => self.clear(Kind::DISCARD),
            9 => self.clear(Kind::WRITE_ZEROES),
            3 => {
                let answer = self.disk.request(Kind::FLUSH, 0, &[]);
                check!(answer.status == OK, "status {} of a flush", answer.status);
            }
            _ => self.read(first, count, "in passing"),
        }
    }

    fn read_all(&mut self, when: &str) {
        let sectors = self.model.sectors();
        for first in (0..sectors).step_by(SECTORS_MAX) {
            self.read(first as u64, SECTORS_MAX.min(sectors - first), when);
        }
    }

    /// Requests that cannot be: beyond the end, not whole sectors, of no known kind.
    fn impossible(&mut self) {
        let sectors = self.model.sectors() as u64;
        for kind in [Kind::READ, Kind::WRITE] {
            for first in [
                sectors - 3,
                sectors,
                sectors + 1,
                u64::MAX - 3,
                u64::MAX / 512,
                1 << 55,
            ] {
                let mut pieces = [Piece::NONE; block::PIECES_MAX];
                let len = self.pieces(self.buffer[0].address(), 4 * SECTOR, kind, &mut pieces);
                let answer = self.disk.request(kind, first, &pieces[..len]);
                check!(
                    answer.status == ERROR,
                    "sector {first} of {sectors}: status {}",
                    answer.status
                );
            }
        }
        self.impossible_ranges(sectors);
        for kind in [0x40, 0x1000, u32::MAX - 1] {
            let at = self.buffer[0].address();
            let answer = self.disk.request(Kind(kind), 0, &[Piece::write(at, 512)]);
            check!(
                answer.status == UNSUPPORTED,
                "request {kind}: status {}",
                answer.status
            );
        }
        let answer = self
            .disk
            .request(Kind::GET_ID, 0, &[Piece::write(self.buffer[0].address(), 20)]);
        check!(answer.status == OK, "status {} of the name", answer.status);
        self.read_all("after what cannot be");
    }

    /// Ranges that cannot be cleared: beyond the end, of no known flags. Nor are others of the same request.
    fn impossible_ranges(&mut self, sectors: u64) {
        let at = self.buffer[0].address();
        Block::put_range(Window::Memory(at), 0, 8, 0);
        for kind in [Kind::DISCARD, Kind::WRITE_ZEROES] {
            for (first, count, flags, status) in [
                (sectors, 1, 0, ERROR),
                (sectors - 3, 4, 0, ERROR),
                (u64::MAX, 1, 0, ERROR),
                (1 << 55, u32::MAX, 0, ERROR),
                (0, 8, 2, UNSUPPORTED),
            ] {
                Block::put_range(Window::Memory(at + RANGE_BYTES), first, count, flags);
                let answer = self.send(kind, 0, at, 2 * RANGE_BYTES);
                check!(
                    answer.status == status,
                    "{kind:?} of {count} sectors from {first}, flags {flags}: status {}",
                    answer.status
                );
            }
            let answer = self.send(kind, 0, at, RANGE_BYTES - 1);
            check!(
                answer.status == ERROR,
                "a part of a range: status {}",
                answer.status
            );
        }
    }

    /// Nothing is written any more; then as many pages can be as the guest may have, and again when one is given up.
    fn fill(&mut self, room: u64) {
        let at = self.buffer[0].address();
        for (count, page) in [(self.model.sectors(), 0), (PAGE_SECTORS, 1)] {
            let first = page * PAGE_SECTORS as u64;
            Block::put_range(Window::Memory(at), first, u32::try_from(count).unwrap_or(0), 0);
            self.model.discard(first, count);
            let answer = self.send(Kind::DISCARD, 0, at, RANGE_BYTES);
            check!(answer.status == OK, "status {} of a discard", answer.status);
            let pages = if page == 0 { 0..room } else { room..room + 1 };
            for page in pages.clone() {
                self.write(page * PAGE_SECTORS as u64, PAGE_SECTORS);
            }
            let beyond = (pages.end + 1) * PAGE_SECTORS as u64;
            let answer = self.disk.request(Kind::WRITE, beyond, &[Piece::read(at, 512)]);
            check!(
                answer.status == ERROR,
                "status {} of a page too many",
                answer.status
            );
        }
        self.read_all("when the disk is full");
        hypercall::event("full");
    }
}

fn start(parameters: Parameters<'_>) -> Work {
    let mut pages = memory::take_all();
    let driver = pages.take(block::PAGES, 4096);
    let interrupts = match parameters.text("interrupts").unwrap_or("polled") {
        "messages" if apic::is_usable() => Interrupts::Messages(VECTOR),
        "line" => Interrupts::Line,
        _ => Interrupts::Polled,
    };
    let disk = Block::start(interrupts, driver[0].address(), parameters.number("skew", 0));
    check!(disk.is_some(), "this guest has no disk");
    let disk = disk.unwrap_or_else(|| unreachable!());
    if interrupts == Interrupts::Line {
        let transport = &disk.transport;
        interrupts::use_line(transport.function().interrupt_line(), transport.isr_window());
    }
    let sectors = usize::try_from(disk.sectors()).unwrap_or(0);
    check!(sectors >= SECTORS_MAX, "a disk of {sectors} sectors is too small");
    let seed = parameters.number("seed", 1);
    Work {
        disk,
        model: Model::new(&mut pages, sectors, seed),
        buffer: pages.take(BUFFER_PAGES, 4096),
        random: Random::new(seed),
        interrupts,
        written: 0,
        cleared: 0,
        compared: 0,
    }
}

fn run(parameters: Parameters<'static>) {
    let mut work = start(parameters);
    hypercall::event("up");
    work.read_all("before anything was written");
    let operations = parameters.number("operations", 400);
    for operation in 0..operations {
        work.operation();
        if operation == operations / 2 {
            work.read_all("half way");
            hypercall::event("half");
        }
    }
    work.impossible();
    work.read_all("at the end");
    if parameters.text("room").is_some() {
        work.fill(parameters.number("room", 0));
    }
    if parameters.text("then") == Some("reboot") {
        hypercall::event("written");
        cpu::port_out_u8(RESET_CONTROL, 6);
        check!(false, "the reset did not happen");
    }
    println!("{} sectors written, {} compared", work.written, work.compared);
    hypercall::measure("sectors-written", work.written);
    hypercall::measure("sectors-cleared", work.cleared);
    hypercall::measure("sectors-compared", work.compared);
    hypercall::measure("interrupts", u64::from(work.interrupts()));
    hypercall::event("work-ok");
}
