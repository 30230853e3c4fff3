//! Access logs of this program, read for being played again: line by line, so that a log may be
//! larger than memory; what is kept of each request is 16 bytes.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::net::IpAddr;
use std::path::Path;

use model::spec::scenario::{Arrival, Recording, Scenario, Traffic};
use serde::Deserialize;

use crate::failure::Failure;

/// 160 MB. A day of a hundred requests a second, or an hour and a half of two thousand.
const ARRIVALS_MAX: usize = 10_000_000;

/// A line holds at most a path of 8 KiB, which escapes may make six times as long, and a few
/// texts of 1 KiB.
const LINE_BYTES_MAX: u64 = 128 * 1024;

/// Reads the logs of all recordings. `directory`: from where their paths are seen.
pub(super) fn load(scenario: &mut Scenario, directory: &Path) -> Result<(), Failure> {
    for group in &mut scenario.clients {
        let Traffic::Recorded(recording) = &mut group.traffic else { continue };
        let path = directory.join(&recording.access_log);
        let name = path.display();
        let file = File::open(&path).map_err(|error| format!("cannot read {name}: {error}"))?;
        let (arrivals, users) =
            read(BufReader::new(file), recording.service.as_deref(), ARRIVALS_MAX)
                .map_err(|error| error.told_of(&name.to_string()))?;
        if arrivals.is_empty() {
            let service = recording.service.as_deref().unwrap_or("any service");
            return Err(Failure::Job(format!("{name} has no request to {service}")));
        }
        group.keys = users;
        *recording = Recording { arrivals: arrivals.into(), ..recording.clone() };
    }
    Ok(())
}

/// What is used of a line.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    time: Cow<'a, str>,
    client: IpAddr,
    duration_us: u64,
    #[serde(borrow, default)]
    service: Option<Cow<'a, str>>,
}

#[derive(Debug)]
enum ReadError {
    Io(io::Error),
    /// The number of the line, from 1, and why it is none.
    Line(u64, String),
    TooMany,
}

impl ReadError {
    fn told_of(self, file: &str) -> Failure {
        Failure::Job(match self {
            Self::Io(error) => format!("cannot read {file}: {error}"),
            Self::Line(number, why) => {
                format!("{file}:{number}: no line of an access log of evenkeel: {why}")
            }
            Self::TooMany => format!(
                "{file} has more than {ARRIVALS_MAX} requests; take one `service`, or a part of it"
            ),
        })
    }
}

/// The requests that went to `service` (or to any), in the order in which they came, and how many
/// clients there are.
fn read(
    mut log: impl BufRead,
    service: Option<&str>,
    arrivals_max: usize,
) -> Result<(Vec<Arrival>, u32), ReadError> {
    let mut arrivals: Vec<Arrival> = Vec::new();
    let mut users: BTreeMap<IpAddr, u32> = BTreeMap::new();
    let mut text = Vec::new();
    for number in 1.. {
        text.clear();
        let mut bounded = log.by_ref().take(LINE_BYTES_MAX);
        bounded.read_until(b'\n', &mut text).map_err(ReadError::Io)?;
        // The end; or a line that is still being written, or was cut off when the program ended.
        if text.last() != Some(&b'\n') && (text.len() as u64) < LINE_BYTES_MAX {
            break;
        }
        let wrong = |why: String| ReadError::Line(number, why);
        let line: Line<'_> =
            serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
        let Some(went_to) = line.service else { continue };
        if service.is_some_and(|service| service != went_to) {
            continue;
        }
        let end = micros(&line.time)
            .ok_or_else(|| wrong(format!("{:?} is no time of ours", line.time)))?;
        if arrivals.len() >= arrivals_max {
            return Err(ReadError::TooMany);
        }
        let count = users.len() as u32;
        arrivals.push(Arrival {
            // A line is written at the request's end.
            at_us: end.saturating_sub(line.duration_us),
            took_us: u32::try_from(line.duration_us).unwrap_or(u32::MAX),
            user: *users.entry(line.client).or_insert(count),
        });
    }
    spread(&mut arrivals);
    // Stable, so that the same log is the same recording.
    arrivals.sort_by_key(|arrival| arrival.at_us);
    let begin = arrivals.first().map_or(0, |first| first.at_us);
    arrivals.iter_mut().for_each(|arrival| arrival.at_us -= begin);
    Ok((arrivals, users.len() as u32))
}

/// What ended in the same millisecond (a log knows no finer) is made to end one after the other in
/// it, by the order of the lines. Else twenty quick requests of one client, each sent when the one
/// before was answered, would be in flight together.
fn spread(arrivals: &mut [Arrival]) {
    let end = |arrival: &Arrival| arrival.at_us + u64::from(arrival.took_us);
    arrivals.sort_by_key(end);
    for together in arrivals.chunk_by_mut(|one, next| end(one) == end(next)) {
        let count = together.len() as u64;
        for (index, arrival) in (0..).zip(together) {
            arrival.at_us += 1000 * index / count;
        }
    }
}

/// Since 1970, of a time as the access log writes it: `2026-11-21T14:30:00.250Z`.
fn micros(time: &str) -> Option<u64> {
    const FORM: &[u8] = b"dddd-dd-ddTdd:dd:dd.dddZ";
    let fits = |(byte, form): (u8, &u8)| match form {
        b'd' => byte.is_ascii_digit(),
        form => byte == *form,
    };
    if time.len() != FORM.len() || !time.bytes().zip(FORM).all(fits) {
        return None;
    }
    let number = |from: usize, to: usize| time[from..to].parse::<u64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let seconds = (days(year, month, day) * 24 + hour) * 3600 + minute * 60 + second;
    Some((seconds * 1000 + number(20, 23)?) * 1000)
}

/// Since 1970-01-01 (`days_from_civil` of Howard Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms", 2021), for years from 1970 on.
fn days(year: u64, month: u64, day: u64) -> u64 {
    // Years begin in March, so that a leap day is the last of its year.
    let year = year - u64::from(month <= 2);
    let (era, of_era) = (year / 400, year % 400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(time: &str, client: &str, duration_us: u64, service: &str) -> String {
        format!(
            "{{\"time\":\"{time}\",\"listener\":\"web\",\"protocol\":\"http\",\
             \"client\":\"{client}\",\"method\":\"GET\",\"path\":\"/a\\\"b\",\"status\":200,\
             \"duration_us\":{duration_us},\"bytes_in\":1{service},\"attempts\":1}}\n"
        )
    }

    const WEB: &str = ",\"service\":\"web\"";

    #[test]
    fn times_are_counted_from_1970() {
        for (time, expected) in [
            ("1970-01-01T00:00:00.000Z", Some(0)),
            ("2000-02-29T23:59:59.999Z", Some(951_868_799_999_000)),
            ("2026-11-21T14:30:00.250Z", Some(1_795_271_400_250_000)),
            ("1969-12-31T23:59:59.000Z", None),
            ("2026-13-01T00:00:00.000Z", None),
            ("2026-11-21T14:30:00Z", None),
            ("2026-11-21 14:30:00.250Z", None),
            ("2026-11-21T14:30:00.2\u{e9}Z", None),
        ] {
            assert_eq!(micros(time), expected, "{time}");
        }
    }

    #[test]
    fn requests_come_in_the_order_of_their_beginning() {
        let log = [
            // The first that was written began last.
            line("2026-11-21T14:30:01.000Z", "192.0.2.1", 1000, WEB),
            line("2026-11-21T14:30:01.200Z", "2001:db8::1", 700_000, WEB),
            line("2026-11-21T14:30:01.300Z", "192.0.2.1", 0, ",\"service\":\"w\\u0065b\""),
            line("2026-11-21T14:30:01.300Z", "192.0.2.2", 0, ",\"service\":\"other\""),
            // Answered without a service.
            line("2026-11-21T14:30:01.300Z", "192.0.2.3", 0, ""),
        ]
        .concat();
        let arrival = |at_us, took_us, user| Arrival { at_us, took_us, user };
        let web = vec![arrival(0, 700_000, 1), arrival(499_000, 1000, 0), arrival(800_000, 0, 0)];
        let (arrivals, users) = read(log.as_bytes(), Some("web"), 3).unwrap();
        assert_eq!((arrivals, users), (web, 2));
        let (arrivals, users) = read(log.as_bytes(), None, 4).unwrap();
        assert_eq!((arrivals.len(), users), (4, 3));
        assert!(matches!(read(log.as_bytes(), None, 3), Err(ReadError::TooMany)));
        // A last line that is cut off is left out, wherever that is.
        for cut in 1..log.len() {
            let lines = log[..log.len() - cut].matches('\n').count();
            let (arrivals, _) = read(&log.as_bytes()[..log.len() - cut], None, 4).unwrap();
            assert_eq!(arrivals.len(), lines.min(4), "{cut}");
        }
    }

    #[test]
    fn what_ended_in_one_millisecond_was_not_all_at_once() {
        // One client, which asks again as soon as it has its answer: six times in a millisecond,
        // and once more, for long.
        let log = line("2026-11-21T14:30:01.000Z", "192.0.2.1", 150, WEB).repeat(6)
            + &line("2026-11-21T14:30:01.250Z", "192.0.2.1", 249_000, WEB);
        let (arrivals, _) = read(log.as_bytes(), None, 9).unwrap();
        let begun: Vec<u64> = arrivals.iter().map(|arrival| arrival.at_us).collect();
        assert_eq!(begun, [0, 166, 333, 500, 666, 833, 1150]);
    }

    #[test]
    fn a_bad_line_is_told_by_its_number() {
        let good = line("2026-11-21T14:30:01.000Z", "192.0.2.1", 1000, WEB);
        for (bad, why) in [
            ("GET / HTTP/1.1\n".to_owned(), "expected value"),
            ("\n".to_owned(), "EOF"),
            (good.replace("\"duration_us\":1000,", ""), "missing field `duration_us`"),
            (good.replace("192.0.2.1", "example"), "invalid IP address"),
            (good.replace("14:30", "25:30"), "is no time of ours"),
            (format!("{}\n", "x".repeat(1 << 20)), "expected value"),
        ] {
            let log = [good.as_str(), &good, &bad, &good].concat();
            let error = read(log.as_bytes(), None, 10).unwrap_err().told_of("a.log").to_string();
            assert!(error.starts_with("a.log:3: no line of an access log"), "{error}");
            assert!(error.contains(why), "{error}");
        }
    }
}
