//! The devices that write.

use pleat_guest::memory::Pages;
use pleat_guest::random::Random;
use pleat_guest::virtio::balloon::{self, ALL, Balloon, POISON, Way, frame_of};
use pleat_guest::virtio::block::{self, Block, Kind as Request, OK, SECTOR};
use pleat_guest::virtio::console::{self, Console};
use pleat_guest::virtio::entropy::{self, Entropy};
use pleat_guest::virtio::{Interrupts, Piece};
use pleat_guest::window::Window;
use pleat_guest::{check, hypercall, interrupts};

use crate::field::{Field, Kind};

const VECTOR: u8 = 0x60;
/// Words of `scenarios/numbers.img`.
const IMAGE_WORDS: u64 = 2368;
/// Sectors of a request, at most; all of them are in the image.
const SECTORS_MAX: usize = 20;
const PIECES: usize = 5;
const TYPING_MICROS: u64 = 30_000_000;
const RANDOM_BYTES: usize = 300;

pub(crate) struct Sources {
    disk: Block,
    entropy: Entropy,
    balloon: Balloon,
    console_place: u64,
    pub(crate) disk_bytes: u64,
    pub(crate) entropy_bytes: u64,
    pub(crate) console_bytes: u64,
}

/// A byte of the image: each word is seven digits and a new line.
fn image_byte(at: u64) -> u8 {
    let (word, digit) = (at / 8, at % 8);
    let power = [1_000_000, 100_000, 10_000, 1000, 100, 10, 1].get(usize::try_from(digit).unwrap_or(7));
    match power {
        Some(power) if word < IMAGE_WORDS => b'0' + u8::try_from(word / power % 10).unwrap_or(0),
        None if word < IMAGE_WORDS => b'\n',
        _ => 0,
    }
}

/// Cuts a buffer at random into pieces for the device to write.
fn cut(random: &mut Random, at: u64, bytes: u64) -> [Piece; PIECES] {
    let mut pieces = [Piece::NONE; PIECES];
    let (mut done, spare) = (0, PIECES as u64);
    for (index, piece) in pieces.iter_mut().enumerate() {
        // At least one byte is left for each that follows.
        let most = bytes - done - (spare - 1 - index as u64);
        let wanted = 1 + random.below(usize::try_from(most).unwrap_or(1)) as u64;
        let len = if index == PIECES - 1 { bytes - done } else { wanted };
        *piece = Piece::write(at + done, u32::try_from(len).unwrap_or(0));
        done += len;
    }
    pieces
}

impl Sources {
    pub(crate) fn new(pages: &mut Pages) -> Self {
        let mut place = |pages_needed| pages.take(pages_needed, 4096)[0].address();
        let disk = Block::start(Interrupts::Polled, place(block::PAGES), 0);
        let entropy = Entropy::start(Interrupts::Polled, place(entropy::PAGES));
        let (Some(disk), Some(entropy)) = (disk, entropy) else {
            panic!("this guest lacks a disk or a source of random numbers")
        };
        Self {
            disk,
            entropy,
            balloon: Balloon::must_start(ALL & !POISON, Interrupts::Polled, place(balloon::PAGES), 0),
            console_place: place(console::PAGES),
            disk_bytes: 0,
            entropy_bytes: 0,
            console_bytes: 0,
        }
    }

    /// Sectors of the image, to any place.
    pub(crate) fn disk_writes(&mut self, field: &mut Field, random: &mut Random) {
        let count = 1 + random.below(SECTORS_MAX);
        let first = random.below(36 - SECTORS_MAX) as u64;
        let bytes = count as u64 * SECTOR;
        let place = Field::place(random, count * 512);
        let pieces = cut(random, field.address(place), bytes);
        let answer = self.disk.request(Request::READ, first, &pieces);
        check!(answer.status == OK, "status {} of a read", answer.status);
        field.note(place, bytes, |offset| image_byte(first * SECTOR + offset));
        self.disk_bytes += bytes;
    }

    /// Random numbers, to any place: not always the same, and no more of them than the device says.
    pub(crate) fn entropy_writes(&mut self, field: &mut Field, random: &mut Random) {
        let wanted = PIECES + random.below(RANDOM_BYTES);
        let place = Field::place(random, wanted);
        let pieces = cut(random, field.address(place), wanted as u64);
        let used = u64::from(self.entropy.fill(&pieces).bytes);
        check!(
            used != 0 && used <= wanted as u64,
            "{used} random bytes, {wanted} were asked for"
        );
        field.learn(place, used);
        if used >= 32 {
            let at = Window::Memory(field.address(place));
            let first = at.load_u8(0);
            check!(
                (1..used).any(|offset| at.load_u8(offset) != first),
                "{used} random bytes are all {first:#x}"
            );
        }
        self.entropy_bytes += used;
    }

    /// The pages of a kind go into the balloon, or are reported as free.
    pub(crate) fn let_go(&mut self, field: &mut Field, kind: Kind) {
        for address in field.of_kind(kind) {
            if kind == Kind::Ballooned {
                self.balloon.move_pages(Way::Inflate, &[frame_of(address)]);
            } else {
                self.balloon.report(&[Piece::write(address, 4096)]);
            }
        }
        field.note_let_go(kind);
    }

    /// What the host types, byte by byte, into a buffer that begins at the last byte of a page.
    pub(crate) fn console_writes(&mut self, field: &mut Field, typed: usize) {
        let console = Console::start(Interrupts::Messages(VECTOR), self.console_place);
        let Some(mut console) = console else {
            panic!("this guest has no virtio console")
        };
        let is_open = interrupts::sleep_while(TYPING_MICROS, || console.open_ports() != 0);
        check!(is_open, "the console has announced no port");
        hypercall::event("listening");
        let mut heard = 0;
        let mut page = 1;
        while heard < typed {
            // Each buffer lies over a border, in another page.
            let place = page * 4096 * 5 - 1;
            let address = field.address(place);
            let queue = console.receiver(0);
            queue.offer(&[Piece::write(address, 1), Piece::write(address + 1, 62)]);
            queue.kick();
            let is_typed = interrupts::sleep_while(TYPING_MICROS, || queue.has_used());
            check!(is_typed, "after {heard} bytes nothing more was typed");
            let bytes = u64::from(queue.wait().bytes);
            check!(bytes != 0 && bytes <= 63, "{bytes} bytes came from the console");
            field.learn(place, bytes);
            for offset in 0..bytes {
                let byte = Window::Memory(address).load_u8(offset);
                check!(
                    byte.is_ascii_digit() || byte.is_ascii_whitespace(),
                    "byte {byte:#x} was not typed"
                );
            }
            heard += usize::try_from(bytes).unwrap_or(0);
            self.console_bytes += bytes;
            page += 1;
        }
        console.send(0, b"all that was typed has come\n");
    }
}
