//! The MC146818 clock and its CMOS memory, ports 0x70 and 0x71.
//!
//! It shows the board's time and cannot be set: writes to the time registers are ignored, as the wall clock
//! belongs to the host. Alarms and periodic interrupts are stored but never come. The update-in-progress bit
//! is always 0, so nobody waits for it (Linux spins for a second on a port that reads 0xff).

use crate::GuestTime;

const REGISTER_B_24H: u8 = 2;
const REGISTER_B_BINARY: u8 = 4;
const SECONDS_PER_DAY: u64 = 86_400;

/// A date of the Gregorian calendar with its time of day.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Moment {
    second: u8,
    minute: u8,
    hour: u8,
    /// 1 is Sunday.
    weekday: u8,
    day: u8,
    month: u8,
    year: u64,
}

const fn small(value: u64) -> u8 {
    (value & 0xff) as u8
}

impl Moment {
    /// From seconds since 1970, by counting in eras of 400 years that begin on 1 March, which puts the leap
    /// day at the end of a year (Neri and Schneider, "Euclidean affine functions", 2023, explain why).
    const fn from_epoch(epoch: u64) -> Self {
        let (days, of_day) = (epoch / SECONDS_PER_DAY, epoch % SECONDS_PER_DAY);
        let since_0000_03_01 = days + 719_468;
        let (era, of_era) = (since_0000_03_01 / 146_097, since_0000_03_01 % 146_097);
        let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * of_year + 2) / 153;
        let month = if march_month < 10 {
            march_month + 3
        } else {
            march_month - 9
        };
        Self {
            second: small(of_day % 60),
            minute: small(of_day / 60 % 60),
            hour: small(of_day / 3600),
            weekday: small((days + 4) % 7 + 1),
            day: small(of_year - (153 * march_month + 2) / 5 + 1),
            month: small(month),
            year: era * 400 + year_of_era + if month <= 2 { 1 } else { 0 },
        }
    }
}

/// The clock.
#[derive(Clone, Debug)]
pub(crate) struct Rtc {
    index: u8,
    memory: [u8; 128],
    epoch: u64,
}

impl Rtc {
    pub(crate) const fn new(epoch: u64) -> Self {
        let mut memory = [0; 128];
        // 32,768 Hz base, 1,024 Hz rate; 24 hours, BCD; battery good.
        memory[0xa] = 0x26;
        memory[0xb] = REGISTER_B_24H;
        memory[0xd] = 0x80;
        Self {
            index: 0,
            memory,
            epoch,
        }
    }

    /// OUT to 0x70; bit 7 is the NMI mask of old and has no NMI to mask.
    pub(crate) const fn select(&mut self, value: u8) {
        self.index = value & 0x7f;
    }

    /// IN from 0x70: write-only on a PC, so what was last selected is as good as any.
    pub(crate) const fn selected(&self) -> u8 {
        self.index
    }

    /// IN from 0x71.
    pub(crate) fn read(&self, time: GuestTime) -> u8 {
        let moment = || Moment::from_epoch(self.epoch.saturating_add(time.seconds()));
        let value = match self.index {
            0 => moment().second,
            2 => moment().minute,
            4 => moment().hour,
            6 => moment().weekday,
            7 => moment().day,
            8 => moment().month,
            9 => small(moment().year % 100),
            0x32 => small(moment().year / 100 % 100),
            index => return self.memory[usize::from(index & 0x7f)],
        };
        if self.memory[0xb] & REGISTER_B_BINARY != 0 {
            value
        } else {
            ((value / 10) << 4) | (value % 10)
        }
    }

    /// OUT to 0x71.
    pub(crate) fn write(&mut self, value: u8) {
        let index = usize::from(self.index & 0x7f);
        match self.index {
            0xa => self.memory[index] = value & 0x7f,
            0xb => self.memory[index] = value | REGISTER_B_24H,
            // C is cleared by reading and holds nothing; D says that the time is valid.
            0xc | 0xd => {}
            _ => self.memory[index] = value,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads registers at `epoch`, one second of guest time after switching on.
    fn read(rtc: &mut Rtc, indices: &[u8]) -> std::vec::Vec<u8> {
        let time = GuestTime {
            ticks: 1_000_000,
            tsc_hz: 1_000_000,
        };
        indices
            .iter()
            .map(|index| {
                rtc.select(*index);
                rtc.read(time)
            })
            .collect()
    }

    const DATE: [u8; 8] = [0x32, 9, 8, 7, 6, 4, 2, 0];

    #[test]
    fn known_dates_read_back_in_bcd() {
        for (epoch, expected) in [
            (0, [0x19, 0x70, 0x01, 0x01, 5, 0, 0, 1]),
            // 2024-02-29 23:59:58, a Thursday; 2000-02-29; 2026-11-23 00:14:35, a Monday; 2100-02-28 12:00:00.
            (1_709_251_198, [0x20, 0x24, 0x02, 0x29, 5, 0x23, 0x59, 0x59]),
            (951_782_400, [0x20, 0, 0x02, 0x29, 3, 0, 0, 1]),
            (1_795_392_875, [0x20, 0x26, 0x11, 0x23, 2, 0, 0x14, 0x36]),
            (4_107_499_200, [0x21, 0, 0x02, 0x28, 1, 0x12, 0, 1]),
        ] {
            assert_eq!(read(&mut Rtc::new(epoch), &DATE), expected, "{epoch}");
        }
    }

    #[test]
    fn every_day_of_five_centuries_follows_the_last() {
        let mut last = Moment::from_epoch(0);
        for day in 1..182_000 {
            let next = Moment::from_epoch(day * SECONDS_PER_DAY);
            assert_eq!(next.weekday, last.weekday % 7 + 1);
            let is_same_month = (next.month, next.year) == (last.month, last.year);
            assert!(if is_same_month {
                next.day == last.day + 1
            } else {
                next.day == 1 && last.day >= 28
            });
            last = next;
        }
        assert_eq!((last.year, last.month, last.day), (2468, 4, 18));
    }

    #[test]
    fn the_status_registers_never_ask_to_wait() {
        let mut rtc = Rtc::new(0);
        for (index, value) in [(0xa, 0xff), (0xb, 0x00), (0xc, 0xff), (0xd, 0)] {
            rtc.select(index | 0x80);
            rtc.write(value);
        }
        assert_eq!(read(&mut rtc, &[0xa, 0xb, 0xc, 0xd]), [0x7f, 2, 0, 0x80]);
    }

    #[test]
    fn binary_mode_is_honoured_and_the_time_cannot_be_set() {
        let mut rtc = Rtc::new(1_709_251_198);
        rtc.select(0xb);
        rtc.write(REGISTER_B_BINARY);
        rtc.select(0);
        rtc.write(7);
        assert_eq!(read(&mut rtc, &[0, 9, 0x32]), [59, 24, 20]);
        rtc.select(0x40);
        rtc.write(0xa5);
        assert_eq!(read(&mut rtc, &[0x40]), [0xa5]);
    }
}
