/// Formats moments as RFC 3339 in UTC with milliseconds. Only the milliseconds are written anew
/// within a second.
#[derive(Debug)]
pub(super) struct Timestamp {
    second: u64,
    text: [u8; LENGTH],
}

const LENGTH: usize = "1970-01-01T00:00:00.000Z".len();
const SECONDS_PER_DAY: u64 = 86_400;
/// The last moment with a year of four digits, 9999-12-31T23:59:59Z.
const LAST_SECOND: u64 = 253_402_300_799;

impl Default for Timestamp {
    fn default() -> Self {
        Self { second: 0, text: *b"1970-01-01T00:00:00.000Z" }
    }
}

impl Timestamp {
    /// `millis` since 1970.
    pub(super) fn at(&mut self, millis: u64) -> &str {
        let second = (millis / 1000).min(LAST_SECOND);
        if second != self.second {
            self.second = second;
            self.set_second(second);
        }
        digits(&mut self.text[20..23], millis % 1000);
        // Only ASCII is ever written to it.
        std::str::from_utf8(&self.text).unwrap_or_default()
    }

    fn set_second(&mut self, second: u64) {
        let (year, month, day) = civil(second / SECONDS_PER_DAY);
        let of_day = second % SECONDS_PER_DAY;
        digits(&mut self.text[0..4], year);
        digits(&mut self.text[5..7], month);
        digits(&mut self.text[8..10], day);
        digits(&mut self.text[11..13], of_day / 3600);
        digits(&mut self.text[14..16], of_day / 60 % 60);
        digits(&mut self.text[17..19], of_day % 60);
    }
}

fn digits(into: &mut [u8], mut number: u64) {
    for digit in into.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// Year, month and day of a day counted from 1970-01-01, in the Gregorian calendar
/// (`civil_from_days` of Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", 2021).
fn civil(day: u64) -> (u64, u64, u64) {
    let shifted = day + 719_468; // days since 0000-03-01
    let era = shifted / 146_097; // of 400 years
    let of_era = shifted % 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, of_year - (153 * from_march + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments() {
        let mut timestamp = Timestamp::default();
        for (millis, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (7, "1970-01-01T00:00:00.007Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199_250, "2024-02-29T23:59:59.250Z"),
            (1_709_251_200_000, "2024-03-01T00:00:00.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (1_735_689_599_001, "2024-12-31T23:59:59.001Z"),
            (LAST_SECOND * 1000, "9999-12-31T23:59:59.000Z"),
            (12, "1970-01-01T00:00:00.012Z"),
        ] {
            assert_eq!(timestamp.at(millis), expected);
        }
        assert!(timestamp.at(u64::MAX).starts_with("9999-12-31T23:59:59."));
    }
}
