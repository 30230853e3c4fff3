//! Dates of HTTP (RFC 9110 section 5.6.7).

/// Seconds since 1970 of an HTTP-date in any of the three forms that a recipient must take:
/// `Sun, 06 Nov 1994 08:49:37 GMT`, `Sunday, 06-Nov-94 08:49:37 GMT`, `Sun Nov  6 08:49:37 1994`.
/// The name of the day is not compared with the date. `None` before 1970 too.
pub fn parse_http_date(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    let mut parts = text.split([' ', '-']).filter(|part| !part.is_empty());
    let day_name = parts.next()?;
    let (day, month, year, time);
    if let Some(name) = day_name.strip_suffix(',') {
        (day, month, year, time) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        if parts.next()? != "GMT" || !is_day(name) {
            return None;
        }
    } else {
        (month, day, time, year) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        if !is_day(day_name) {
            return None;
        }
    }
    if parts.next().is_some() {
        return None;
    }
    let month = MONTHS.iter().position(|name| *name == month)? as u64 + 1;
    let year = match (year.len(), digits(year)?) {
        (4, year) => year,
        // Of the obsolete form; a proxy meets no dates before 1970, nor of 2070 soon.
        (2, year @ 70..) => 1900 + year,
        (2, year) => 2000 + year,
        _ => return None,
    };
    let day = digits(day).filter(|day| (1..=31).contains(day))?;
    let mut clock = time.split(':').map(|part| digits(part).filter(|_| part.len() == 2));
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    // 60: a leap second.
    if clock.next().is_some() || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    Some(days(year, month, day)? * 86_400 + hour * 3600 + minute * 60 + second)
}

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

fn is_day(name: &str) -> bool {
    const DAYS: [&str; 7] =
        ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
    DAYS.iter().any(|day| *day == name || day.get(..3) == Some(name))
}

fn digits(text: &str) -> Option<u64> {
    let plain = (1..=4).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| plain)
}

/// Days since 1970-01-01 (Hinnant, "chrono-compatible low-level date algorithms",
/// `days_from_civil`).
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    let year = year.checked_sub(u64::from(month <= 2))?;
    let (era, of_era) = (year / 400, year % 400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = of_era * 365 + of_era / 4 - of_era / 100 + of_year;
    (era * 146_097 + day_of_era).checked_sub(719_468)
}

#[cfg(test)]
mod tests {
    use super::parse_http_date;

    #[test]
    fn the_three_forms() {
        for (date, seconds) in [
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", Some(784_111_777)),
            ("Sun Nov  6 08:49:37 1994", Some(784_111_777)),
            ("Tue, 29 Feb 2000 12:34:56 GMT", Some(951_827_696)),
            ("Sun, 28 Feb 2100 23:59:59 GMT", Some(4_107_542_399)),
            ("Fri, 31 Dec 9999 23:59:60 GMT", Some(253_402_300_800)),
            ("Wed, 31 Dec 1969 23:59:59 GMT", None),
            ("Sun, 06 Nov 1994 08:49:37 CET", None),
            ("Sun, 06 Nov 1994 8:49:37 GMT", None),
            ("Sun, 06 Nov 1994 24:00:00 GMT", None),
            ("Sun, 06 Nov 1994 08:49:37 GMT GMT", None),
            ("Sun, 06 nov 1994 08:49:37 GMT", None),
            ("Sun, 00 Nov 1994 08:49:37 GMT", None),
            ("Son, 06 Nov 1994 08:49:37 GMT", None),
            ("Sun, 06 Nov 199 08:49:37 GMT", None),
            ("Sun, 06 Nov", None),
            ("120", None),
            ("", None),
        ] {
            assert_eq!(parse_http_date(date.as_bytes()), seconds, "{date}");
        }
        assert_eq!(parse_http_date(b"Sun, 06 N\xc3v 1994 08:49:37 GMT"), None);
    }

    #[test]
    fn no_bytes_panic() {
        let whole = b"Sunday, 06-Nov-94 08:49:37 GMT";
        for at in 0..whole.len() {
            let _ = parse_http_date(&whole[..at]);
            for byte in 0..=255 {
                let mut changed = *whole;
                changed[at] = byte;
                let _ = parse_http_date(&changed);
            }
        }
    }
}
