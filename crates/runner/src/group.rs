//! Process groups, as the kernel sees them.

use std::fs;
use std::io;

use rustix::process::{Pid, test_kill_process_group};

/// Does a process of the group run? Zombies do not count: a system whose init waits for orphans
/// late, or a container without an init, keeps them in the group long after they ended.
pub(crate) fn is_alive(group: Pid) -> bool {
    test_kill_process_group(group) != Err(rustix::io::Errno::SRCH)
        // Without /proc the answer that is safe is the kernel's.
        && has_living_member(group).unwrap_or(true)
}

/// Reads through /proc; asked only about groups that have lost their leader.
fn has_living_member(group: Pid) -> io::Result<bool> {
    let group = group.as_raw_nonzero().to_string();
    for entry in fs::read_dir("/proc")?.flatten() {
        let is_process = entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit);
        // One that ends meanwhile is no member any more.
        if is_process
            && let Ok(stat) = fs::read_to_string(entry.path().join("stat"))
            && is_living_member(&stat, &group)
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// `stat` is `PID (NAME) STATE PARENT GROUP ...`; the name may hold anything, also `)`.
fn is_living_member(stat: &str, group: &str) -> bool {
    let Some((_, fields)) = stat.rsplit_once(") ") else { return false };
    let mut fields = fields.split(' ');
    let state = fields.next();
    fields.nth(1) == Some(group) && !matches!(state, Some("Z" | "X"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    #[test]
    fn zombies_are_no_members() {
        let mut child = Command::new("sleep").arg("1000").process_group(0).spawn().unwrap();
        let group = Pid::from_child(&child);
        assert!(is_alive(group));
        child.kill().unwrap();
        // It stays a zombie until the wait below.
        while is_alive(group) {
            std::thread::yield_now();
        }
        assert_eq!(test_kill_process_group(group), Ok(()));
        child.wait().unwrap();
        assert!(!is_alive(group));
    }

    #[test]
    fn names_do_not_confuse() {
        for (stat, expected) in [
            ("7 (a) S 1 42 42 0", true),
            ("7 (a) Z 1 42 42 0", false),
            ("7 (a) S 42 7 42 0", false),
            ("7 (a) Z 1 42) S 1 42 0", true),
            ("7 (x", false),
        ] {
            assert_eq!(is_living_member(stat, "42"), expected, "{stat}");
        }
    }
}
