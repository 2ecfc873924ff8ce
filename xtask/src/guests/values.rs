//! Values with units: sizes and times, as people write them.

/// Bytes of a size such as `128M`, `64K`, `1G` or `512MiB`; units are powers of 1,024.
pub fn bytes(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is no size; write a number with K, M or G, for example \"128M\"");
    let (number, unit) = split(text).ok_or_else(wrong)?;
    let shift = match unit.trim_end_matches("iB").trim_end_matches('B') {
        "" if unit.is_empty() => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number
        .checked_mul(1 << shift)
        .filter(|bytes| *bytes != 0)
        .ok_or_else(wrong)
}

/// Microseconds of a time such as `1.5s`, `20ms`, `500us` or `3m`.
pub fn micros(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is no time; write a number with us, ms, s or m, for example \"1.5s\"");
    let (number, unit) = split(text).ok_or_else(wrong)?;
    let scale = match unit {
        "us" => 1,
        "ms" => 1_000,
        "s" => 1_000_000,
        "m" => 60_000_000,
        _ => return Err(wrong()),
    };
    decimal(number, scale).ok_or_else(wrong)
}

/// A count such as `20M`, `1.5k` or `3G`; units are powers of 1,000.
pub fn count(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is no count; write a number with k, M or G, for example \"20M\"");
    let (number, unit) = split(text).ok_or_else(wrong)?;
    let scale = match unit {
        "" => 1,
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        _ => return Err(wrong()),
    };
    decimal(number, scale).ok_or_else(wrong)
}

/// A whole number of percent such as `75%`.
pub fn percent(text: &str) -> Option<u8> {
    text.strip_suffix('%')?.trim().parse().ok()
}

/// A size as [`bytes`] reads it, in the largest unit that has no fraction.
pub fn shown_bytes(bytes: u64) -> String {
    [(30, "G"), (20, "M"), (10, "K")]
        .into_iter()
        .find(|(shift, _)| bytes != 0 && bytes.is_multiple_of(1 << shift))
        .map_or_else(
            || bytes.to_string(),
            |(shift, unit)| format!("{}{unit}", bytes >> shift),
        )
}

/// A decimal number times a power-of-ten-like scale, without rounding through floating point.
fn decimal(number: &str, scale: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let mut total = whole.parse::<u64>().ok()?.checked_mul(scale)?;
    let mut unit = scale;
    for digit in fraction.chars() {
        unit /= 10;
        total = total.checked_add(u64::from(digit.to_digit(10)?) * unit)?;
    }
    Some(total)
}

fn split(text: &str) -> Option<(&str, &str)> {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (!number.is_empty()).then_some((number, unit.trim()))
}

#[cfg(test)]
mod tests {
    use super::{bytes, count, micros, percent, shown_bytes};

    #[test]
    fn sizes_are_shown_as_they_are_read() {
        for text in ["1G", "3M", "1025K", "4097", "1536M"] {
            assert_eq!(shown_bytes(bytes(text).unwrap()), text);
        }
        assert_eq!(shown_bytes(0), "0");
    }

    #[test]
    fn percent_are_whole_and_have_their_sign() {
        assert_eq!((percent("75%"), percent("0 %")), (Some(75), Some(0)));
        for wrong in ["75", "%", "-1%", "1.5%", "256%", "x%"] {
            assert_eq!(percent(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn sizes_have_binary_units() {
        assert_eq!(bytes("128M"), Ok(128 << 20));
        assert_eq!(bytes("64 KiB"), Ok(64 << 10));
        assert_eq!(bytes("4096"), Ok(4096));
        for wrong in ["", "M", "1.5G", "128m", "12X", "0M", "99999999999999G"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_have_decimal_fractions() {
        assert_eq!(micros("1.5s"), Ok(1_500_000));
        assert_eq!(micros("20ms"), Ok(20_000));
        assert_eq!(micros("3m"), Ok(180_000_000));
        for wrong in ["", "s", "1.5", "1.5h", "-1s", "1.x s"] {
            assert!(micros(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn counts_have_decimal_units_and_fractions() {
        assert_eq!(count("20M"), Ok(20_000_000));
        assert_eq!(count("1.5k"), Ok(1_500));
        assert_eq!(count("7"), Ok(7));
        for wrong in ["", "k", "20m", "1K", "1MiB", "99999999999999G"] {
            assert!(count(wrong).is_err(), "{wrong}");
        }
    }
}
