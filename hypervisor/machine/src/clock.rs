//! What time it is: the frequency of the TSC, and the wall clock at start-up.

use core::arch::x86_64::__cpuid_count;

use crate::cpu::{inb, outb, rdtsc};

/// Input frequency of the 8254 timer.
const PIT_HZ: u64 = 1_193_182;
/// Length of the calibration: 1/100 s.
const PIT_COUNT: u16 = 11_932;

/// Ticks of the TSC in a second: measured, else as CPUID says (an emulator's CPUID may be another machine's).
pub fn tsc_hz() -> u64 {
    calibrate_tsc()
        .or_else(tsc_hz_by_cpuid)
        .expect("neither the 8254 timer nor CPUID tells how fast the TSC is")
}

/// CPUID 15H: crystal frequency and ratio, where the processor tells both.
fn tsc_hz_by_cpuid() -> Option<u64> {
    let leaf = __cpuid_count(0x15, 0);
    let hz = u64::from(leaf.ecx) * u64::from(leaf.ebx) / u64::from(leaf.eax.max(1));
    Some(hz).filter(|hz| *hz != 0)
}

/// Measures the TSC against channel 2 of the 8254 in one-shot mode (its output is readable at port 0x61); `None`
/// where that timer does not count.
fn calibrate_tsc() -> Option<u64> {
    /// Polls that take longer than the count on any machine: each is a bus cycle of about a microsecond.
    const PATIENCE: u32 = 10_000_000;
    let control = inb(0x61) & !0x02;
    outb(0x61, control & !0x01); // gate closed, speaker off
    outb(0x43, 0xb0); // channel 2, both bytes, mode 0
    let [low, high] = PIT_COUNT.to_le_bytes();
    outb(0x42, low);
    outb(0x42, high);
    outb(0x61, control | 0x01); // gate open: it counts
    let start = rdtsc();
    let has_ended = (0..PATIENCE).any(|_| inb(0x61) & 0x20 != 0);
    let ticks = rdtsc() - start;
    outb(0x61, control & !0x01);
    has_ended.then_some(ticks * PIT_HZ / u64::from(PIT_COUNT))
}

/// The board's clock (MC146818), in seconds since 1970, UTC; 0 if there is none that answers.
pub fn read_wall_clock() -> u64 {
    // A second reading that equals the first was not torn by an update.
    let mut last = Reading::take();
    for _ in 0..100 {
        let next = Reading::take();
        if next == last {
            return next.map_or(0, |reading| reading.epoch());
        }
        last = next;
    }
    0
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Reading {
    year: u16,
    month: u8,
    day: u8,
    hour: u8,
    minute: u8,
    second: u8,
}

impl Reading {
    /// Reads the registers outside of an update; `None` where no clock answers.
    fn take() -> Option<Self> {
        const UPDATE_POLLS: u32 = 1_000_000;
        let is_ready = (0..UPDATE_POLLS).any(|_| register(0x0a) & 0x80 == 0);
        if !is_ready {
            return None;
        }
        let format = register(0x0b);
        let decode = |value: u8| {
            if format & 0x04 != 0 {
                value
            } else {
                (value >> 4) * 10 + (value & 0x0f)
            }
        };
        let raw_hour = register(4);
        let hour = match (format & 0x02 != 0, raw_hour & 0x80 != 0) {
            (true, _) => decode(raw_hour),
            (false, is_pm) => decode(raw_hour & 0x7f) % 12 + if is_pm { 12 } else { 0 },
        };
        let century = match decode(register(0x32)) {
            century @ 19..=21 => u16::from(century),
            _ => 20,
        };
        Some(Self {
            year: century * 100 + u16::from(decode(register(9))),
            month: decode(register(8)),
            day: decode(register(7)),
            hour,
            minute: decode(register(2)),
            second: decode(register(0)),
        })
    }

    /// Days by Howard Hinnant's civil-calendar method, then seconds.
    fn epoch(self) -> u64 {
        let (year, month, day) = (i64::from(self.year), i64::from(self.month), i64::from(self.day));
        let year = if month <= 2 { year - 1 } else { year };
        let day_of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
        let era = year.div_euclid(400);
        let year_of_era = year - era * 400;
        let days =
            era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468;
        let seconds = days * 86_400
            + i64::from(self.hour) * 3_600
            + i64::from(self.minute) * 60
            + i64::from(self.second);
        u64::try_from(seconds).unwrap_or(0)
    }
}

fn register(index: u8) -> u8 {
    outb(0x70, index);
    inb(0x71)
}

#[cfg(test)]
mod tests {
    use super::Reading;

    #[test]
    fn dates_become_seconds_since_1970() {
        let epoch = |year, month, day, hour, minute, second| {
            Reading {
                year,
                month,
                day,
                hour,
                minute,
                second,
            }
            .epoch()
        };
        assert_eq!(epoch(1970, 1, 1, 0, 0, 0), 0);
        assert_eq!(epoch(2000, 2, 29, 12, 0, 0), 951_825_600);
        assert_eq!(epoch(2000, 3, 1, 0, 0, 0), 951_868_800);
        assert_eq!(epoch(2026, 1, 1, 0, 1, 2), 1_767_225_662);
        assert_eq!(epoch(2100, 12, 31, 23, 59, 59), 4_133_980_799);
    }
}
