//! What is written into an ATA device's registers, and what is read from them, as pure decoding.
//!
//! Clauses are those of ATA/ATAPI-7 volume 1 (commands) and volume 2 (parallel transport).

use pleat_types::{DISK_RUN, DiskDirection, DiskFailure, FRAME_SIZE};

/// Bytes of a sector.
pub const SECTOR: usize = 512;
/// Sectors of a block.
pub const SECTORS: usize = FRAME_SIZE / SECTOR;
/// 16-bit words of the answer to IDENTIFY DEVICE.
pub const IDENTITY_WORDS: usize = 256;

/// IDENTIFY DEVICE (6.17).
pub const IDENTIFY: u8 = 0xec;

/// Status register (5.11): a command or a reset goes on, and no other bit means anything.
pub const BUSY: u8 = 1 << 7;
/// The device itself failed.
const DEVICE_FAULT: u8 = 1 << 5;
/// The device waits for the data register to be read or written.
pub const DATA_REQUEST: u8 = 1 << 3;
/// The error register says what is wrong.
const ERROR: u8 = 1 << 0;

/// Error register (5.7, and the error outputs of each command): damaged on the cable, by an Ultra DMA transfer.
const CRC: u8 = 1 << 7;
/// Data that cannot be corrected.
const UNCORRECTABLE: u8 = 1 << 6;
/// No such sector.
const NOT_FOUND: u8 = 1 << 4;
/// Command aborted.
const ABORTED: u8 = 1 << 2;

/// What a status without [`BUSY`] says about the last command; `error` is the error register.
pub fn outcome(status: u8, error: u8) -> Result<(), DiskFailure> {
    if status & (ERROR | DEVICE_FAULT) == 0 {
        return Ok(());
    }
    // By the bit that says most: devices set ABRT beside others.
    Err(match error {
        _ if status & ERROR == 0 => DiskFailure::BadSector,
        e if e & (UNCORRECTABLE | NOT_FOUND) != 0 => DiskFailure::BadSector,
        e if e & CRC != 0 => DiskFailure::Transfer,
        e if e & ABORTED != 0 => DiskFailure::Refused,
        _ => DiskFailure::BadSector,
    })
}

/// What a device says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    /// Sectors that can be addressed.
    pub sectors: u64,
    /// It knows the commands with addresses of 48 bits.
    pub has_lba48: bool,
    /// It knows READ DMA and WRITE DMA.
    pub has_dma: bool,
}

impl Identity {
    /// Reads the answer to IDENTIFY DEVICE (6.17); `None` for a device that is no disk with linear addresses and
    /// sectors of 512 bytes.
    pub fn parse(words: &[u16; IDENTITY_WORDS]) -> Option<Self> {
        let number = |words: &[u16]| words.iter().rev().fold(0, |n, word| n << 16 | u64::from(*word));
        let is_ata = words[0] & 1 << 15 == 0;
        let has_lba = words[49] & 1 << 9 != 0;
        // Words 83 and 106 mean something where their bits 15:14 are 01.
        let is_valid = |word: u16| word >> 14 == 0b01;
        let has_lba48 = is_valid(words[83]) && words[83] & 1 << 10 != 0;
        let has_large_sectors = is_valid(words[106]) && words[106] & 1 << 12 != 0;
        let sectors = if has_lba48 {
            number(&words[100..104])
        } else {
            number(&words[60..62])
        };
        let is_ours = is_ata && has_lba && !has_large_sectors && sectors != 0;
        is_ours.then_some(Self {
            sectors,
            has_lba48,
            has_dma: words[49] & 1 << 8 != 0,
        })
    }
}

/// How the bytes are moved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// By the processor.
    Pio,
    /// By a bus master.
    Dma,
}

/// A command with its address and count, in the order in which the registers are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Task {
    /// Sector count, LBA low, mid and high as they were before, for 48-bit commands (5.10: each of these registers
    /// keeps the last two values).
    pub previous: Option<[u8; 4]>,
    /// Sector count, LBA low, mid and high.
    pub current: [u8; 4],
    /// The device register.
    pub device: u8,
    /// The command.
    pub command: u8,
}

/// The device register: linear addresses, device 0; bits 7 and 5 are obsolete and were always one.
pub const MASTER: u8 = 0xe0;

impl Task {
    /// The command that moves `blocks` blocks, at most [`DISK_RUN`], from block `first` on. Addresses of 28 bits are
    /// used as far as they reach, because they take half as many writes to registers.
    pub fn transfer(direction: DiskDirection, way: Way, first: u64, blocks: usize) -> Self {
        assert!((1..=DISK_RUN).contains(&blocks), "a run has 1 to 32 blocks");
        let (sector, sectors) = (first * SECTORS as u64, blocks * SECTORS);
        let [count, count_high, ..] = sectors.to_le_bytes();
        let [a, b, c, d, e, f, ..] = sector.to_le_bytes();
        let is_short = sector + sectors as u64 <= 1 << 28;
        let command = match (is_short, way, direction) {
            (true, Way::Pio, DiskDirection::Read) => 0x20, // READ SECTOR(S), 6.34
            (true, Way::Pio, DiskDirection::Write) => 0x30, // WRITE SECTOR(S), 6.66
            (true, Way::Dma, DiskDirection::Read) => 0xc8, // READ DMA, 6.25
            (true, Way::Dma, DiskDirection::Write) => 0xca, // WRITE DMA, 6.57
            (false, Way::Pio, DiskDirection::Read) => 0x24, // the same with EXT
            (false, Way::Pio, DiskDirection::Write) => 0x34,
            (false, Way::Dma, DiskDirection::Read) => 0x25,
            (false, Way::Dma, DiskDirection::Write) => 0x35,
        };
        Self {
            previous: (!is_short).then_some([count_high, d, e, f]),
            current: [count, a, b, c],
            device: MASTER | if is_short { d & 0x0f } else { 0 },
            command,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(set: &[(usize, u16)]) -> [u16; IDENTITY_WORDS] {
        let mut words = [0; IDENTITY_WORDS];
        for (index, word) in set {
            words[*index] = *word;
        }
        words
    }

    const LBA_AND_DMA: u16 = 3 << 8;

    #[test]
    fn identities_are_read_with_28_and_48_bits() {
        let small = words(&[(49, LBA_AND_DMA), (60, 0x5678), (61, 0x0123)]);
        let expected = Identity {
            sectors: 0x0123_5678,
            has_lba48: false,
            has_dma: true,
        };
        assert_eq!(Identity::parse(&small), Some(expected));
        let large = words(&[
            (49, 1 << 9),
            (60, 0xffff),
            (61, 0x0fff),
            (83, 1 << 14 | 1 << 10),
            (100, 1),
            (102, 2),
        ]);
        let expected = Identity {
            sectors: 2 << 32 | 1,
            has_lba48: true,
            has_dma: false,
        };
        assert_eq!(Identity::parse(&large), Some(expected));
    }

    #[test]
    fn what_is_no_disk_of_ours_is_refused() {
        let good = [(49, LBA_AND_DMA), (60, 8)];
        assert!(Identity::parse(&words(&good)).is_some());
        for bad in [(0, 1 << 15), (49, 1 << 8), (60, 0), (106, 1 << 14 | 1 << 12)] {
            let mut set = good.to_vec();
            set.push(bad);
            assert_eq!(Identity::parse(&words(&set)), None, "{bad:?}");
        }
        // A word without its mark says nothing.
        let unmarked = words(&[(49, LBA_AND_DMA), (60, 8), (83, 1 << 10), (106, 1 << 12)]);
        assert!(!Identity::parse(&unmarked).expect("a disk").has_lba48);
    }

    #[test]
    fn short_addresses_have_28_bits_and_a_count_of_zero_means_256() {
        let task = Task::transfer(DiskDirection::Read, Way::Dma, 0x12_3456, 32);
        let expected = Task {
            previous: None,
            current: [0, 0xb0, 0xa2, 0x91],
            device: 0xe0,
            command: 0xc8,
        };
        assert_eq!(task, expected);
        let last = Task::transfer(DiskDirection::Write, Way::Pio, (1 << 25) - 1, 1);
        assert_eq!(
            (last.previous, last.current, last.device, last.command),
            (None, [8, 0xf8, 0xff, 0xff], 0xef, 0x30)
        );
    }

    #[test]
    fn long_addresses_begin_where_28_bits_end() {
        let first = Task::transfer(DiskDirection::Write, Way::Dma, (1 << 25) - 1, 2);
        assert_eq!(
            (first.previous, first.current, first.device, first.command),
            (Some([0, 0x0f, 0, 0]), [16, 0xf8, 0xff, 0xff], 0xe0, 0x35)
        );
        let whole = Task::transfer(DiskDirection::Read, Way::Pio, 0x12_3456_789a, 32);
        assert_eq!(
            (whole.previous, whole.current, whole.command),
            (Some([1, 0xa2, 0x91, 0]), [0, 0xd0, 0xc4, 0xb3], 0x24)
        );
    }

    #[test]
    fn errors_are_told_apart() {
        assert_eq!(outcome(0x50, 0xff), Ok(()));
        for (status, error, failure) in [
            (0x51, UNCORRECTABLE, DiskFailure::BadSector),
            (0x51, NOT_FOUND | ABORTED, DiskFailure::BadSector),
            (0x51, ABORTED, DiskFailure::Refused),
            (0x51, CRC | ABORTED, DiskFailure::Transfer),
            (0x51, 0, DiskFailure::BadSector),
            (0x70, ABORTED, DiskFailure::BadSector),
        ] {
            assert_eq!(outcome(status, error), Err(failure), "{status:#x} {error:#x}");
        }
    }
}
