//! Durations, byte counts and shares as a person writes them, both ways.

use std::time::Duration;

const NANOS_PER: [(&str, u128); 6] = [
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60 * 1_000_000_000),
    ("h", 3_600 * 1_000_000_000),
    ("d", 86_400 * 1_000_000_000),
];

/// `250ms`, `2s`, `1.5s`, `1m`, `1h`, `1d`, and sums such as `1m30s`. A bare `0` is zero; any
/// other number needs its unit.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no duration; write 250ms, 2s, 1m, 1h or 1m30s");
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return Err(format!("{text:?} has no unit; write {text}s or {text}ms"));
    }
    let mut nanos: u128 = 0;
    let mut rest = text;
    // Units must fall from part to part: `1s1m` is more likely a mistake than a sum.
    let mut unit_before = u128::MAX;
    while !rest.is_empty() {
        let number_len = rest.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
        let (number, after) = rest.split_at(number_len);
        let unit_len = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, after) = after.split_at(unit_len);
        let (_, unit) = NANOS_PER.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        if *unit >= unit_before {
            return Err(wrong());
        }
        unit_before = *unit;
        nanos = nanos.checked_add(decimal(number, *unit).ok_or_else(wrong)?).ok_or_else(wrong)?;
        rest = after;
    }
    if unit_before == u128::MAX {
        return Err(wrong());
    }
    u64::try_from(nanos).map(Duration::from_nanos).map_err(|_| wrong())
}

/// `1.5` times `unit`, without floating point.
fn decimal(number: &str, unit: u128) -> Option<u128> {
    /// Digits on each side of the point: beyond any duration that makes sense, and far from the
    /// bounds of `u128`.
    const DIGITS_MAX: usize = 12;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |s: &str| !s.is_empty() && s.len() <= DIGITS_MAX;
    if !digits(whole) || !digits(fraction) {
        return None;
    }
    let whole = whole.parse::<u128>().ok()?.checked_mul(unit)?;
    let scale = 10_u128.pow(fraction.len() as u32);
    whole.checked_add(fraction.parse::<u128>().ok()?.checked_mul(unit)? / scale)
}

/// As [`parse_duration`] reads it: `1m30s`.
pub(crate) fn show_duration(duration: Duration) -> String {
    if duration.is_zero() {
        return "0s".into();
    }
    let mut nanos = duration.as_nanos();
    let mut text = String::new();
    for (name, unit) in NANOS_PER.iter().rev() {
        let count = nanos / unit;
        if count > 0 {
            text += &format!("{count}{name}");
            nanos %= unit;
        }
    }
    text
}

const BYTES_PER: [(&str, u64); 9] = [
    ("", 1),
    ("b", 1),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
];

/// `4096`, `32KiB`, `1MB`, `10 GiB`: powers of 1,024 with the `i`, of 1,000 without.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no number of bytes; write 4096, 32KiB or 1MB");
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    if matches!(&*unit, "k" | "m" | "g") {
        let big = unit.to_ascii_uppercase();
        return Err(format!("{text:?} is ambiguous; write {number}{big}iB or {number}{big}B"));
    }
    let (_, unit) = BYTES_PER.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
    number.parse::<u64>().ok().and_then(|n| n.checked_mul(*unit)).ok_or_else(wrong)
}

/// As [`parse_bytes`] reads it: `32KiB`.
pub(crate) fn show_bytes(bytes: u64) -> String {
    for (name, shift) in [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)] {
        if bytes >= 1 << shift && bytes.is_multiple_of(1 << shift) {
            return format!("{}{name}", bytes >> shift);
        }
    }
    bytes.to_string()
}

/// `20%` or `0.2`, as 0.2; between 0 and 1.
pub(crate) fn parse_share(text: &str) -> Option<f64> {
    let share = match text.strip_suffix('%') {
        Some(percent) => plain_number(percent.trim_end())? / 100.0,
        None => plain_number(text)?,
    };
    (0.0..=1.0).contains(&share).then_some(share)
}

/// A number in decimal notation: no exponent, sign, `inf` or `nan`.
pub(crate) fn plain_number(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.') && text.len() <= 20;
    text.parse().ok().filter(|_| plain)
}

/// With commas between thousands: `100,000`.
pub(crate) fn show_integer(number: u64) -> String {
    let digits = number.to_string();
    if digits.len() <= 4 {
        return digits;
    }
    let mut text = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, millis) in [
            ("250ms", Some(250)),
            ("2s", Some(2_000)),
            ("1.5s", Some(1_500)),
            ("1m", Some(60_000)),
            ("1m30s", Some(90_000)),
            ("1h", Some(3_600_000)),
            ("1d", Some(86_400_000)),
            ("0", Some(0)),
            ("0s", Some(0)),
            ("", None),
            ("5", None),
            ("s", None),
            ("-1s", None),
            ("1s1m", None),
            ("1s 1ms", None),
            ("1.2.3s", None),
            ("1w", None),
            ("1S", None),
            ("999999999999d", None),
            ("99999999999999999999999999s", None),
        ] {
            let parsed = parse_duration(text);
            assert_eq!(parsed.clone().ok(), millis.map(Duration::from_millis), "{text}");
            if let Ok(duration) = parsed {
                assert_eq!(parse_duration(&show_duration(duration)), Ok(duration));
            }
        }
    }

    #[test]
    fn bytes() {
        for (text, expected) in [
            ("4096", Some(4096)),
            ("32KiB", Some(32 << 10)),
            ("1MB", Some(1_000_000)),
            ("1 GiB", Some(1 << 30)),
            ("1gib", Some(1 << 30)),
            ("10k", None),
            ("", None),
            ("KiB", None),
            ("1.5MB", None),
            ("99999999999999999999", None),
            ("99999999999TiB", None),
        ] {
            assert_eq!(parse_bytes(text).ok(), expected, "{text}");
        }
        assert_eq!(show_bytes(32 << 10), "32KiB");
        assert_eq!(show_bytes(1000), "1000");
    }

    #[test]
    fn shares() {
        for (text, expected) in [
            ("20%", Some(0.2)),
            ("0.2", Some(0.2)),
            ("100%", Some(1.0)),
            ("101%", None),
            ("20", None),
            ("NaN", None),
            ("1e-1", None),
            ("", None),
            ("%", None),
        ] {
            assert_eq!(parse_share(text), expected, "{text}");
        }
    }

    #[test]
    fn integers() {
        assert_eq!(show_integer(1000), "1000");
        assert_eq!(show_integer(65535), "65,535");
        assert_eq!(show_integer(1_000_000), "1,000,000");
    }
}
