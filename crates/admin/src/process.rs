//! What the kernel says of this process, read from `/proc` (proc(5)). Each value is absent where
//! it cannot be read.

use std::fs;

/// Clock ticks a second in `/proc/*/stat`: `USER_HZ`, which is 100 on every Linux that we run on
/// (proc(5), sysconf(3) `_SC_CLK_TCK`).
const TICKS_PER_SECOND: f64 = 100.0;

#[derive(Debug, Default)]
pub(crate) struct Process {
    pub(crate) resident_bytes: Option<u64>,
    pub(crate) open_files: Option<u64>,
    pub(crate) open_files_max: Option<u64>,
    pub(crate) threads: Option<u64>,
    pub(crate) cpu_seconds: Option<f64>,
    /// Seconds since 1970.
    pub(crate) started: Option<f64>,
}

pub(crate) fn read() -> Process {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let machine = fs::read_to_string("/proc/stat").unwrap_or_default();
    Process {
        resident_bytes: number_after(&status, "VmRSS:").map(|kibibytes| kibibytes * 1024),
        open_files: open_files(),
        open_files_max: number_after(&limits, "Max open files"),
        threads: number_after(&status, "Threads:"),
        // utime and stime are the fields 14 and 15 of stat, starttime is 22.
        cpu_seconds: stat_field(&stat, 14)
            .zip(stat_field(&stat, 15))
            .map(|(user, system)| (user + system) as f64 / TICKS_PER_SECOND),
        started: number_after(&machine, "btime")
            .zip(stat_field(&stat, 22))
            .map(|(boot, ticks)| boot as f64 + ticks as f64 / TICKS_PER_SECOND),
    }
}

/// Linux from 6.2 tells the number as the directory's size; before, we count.
fn open_files() -> Option<u64> {
    match fs::metadata("/proc/self/fd").map(|directory| directory.len()) {
        Ok(0) | Err(_) => Some(fs::read_dir("/proc/self/fd").ok()?.count() as u64),
        Ok(count) => Some(count),
    }
}

/// The first number after `label` at the beginning of a line.
fn number_after(text: &str, label: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(label))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// Field `number` counted from 1, as proc(5) does. The second, the program's name in brackets, may
/// hold anything, so fields are counted from the last bracket.
fn stat_field(stat: &str, number: usize) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(number.checked_sub(3)?)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_behind_odd_program_names() {
        let stat = "42 (a) b) S 1 2 3 4 5 6 7 8 9 10 111 222 13 14 15 16 17 18 999 20";
        assert_eq!(stat_field(stat, 14), Some(111));
        assert_eq!(stat_field(stat, 15), Some(222));
        assert_eq!(stat_field(stat, 22), Some(999));
        assert_eq!(stat_field("", 14), None);
        assert_eq!(number_after("VmRSS:\t  12 kB\nThreads:\t3\n", "VmRSS:"), Some(12));
        assert_eq!(number_after("VmRSS:\n", "VmRSS:"), None);
    }

    #[test]
    fn this_process_can_be_read() {
        let process = read();
        assert!(process.resident_bytes.is_some_and(|bytes| bytes > 100_000), "{process:?}");
        assert!(process.open_files.is_some_and(|files| files >= 3), "{process:?}");
        assert!(process.threads.is_some_and(|threads| threads >= 1), "{process:?}");
        assert!(process.started.is_some_and(|seconds| seconds > 1e9), "{process:?}");
    }
}
