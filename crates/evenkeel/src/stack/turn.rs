//! One verb at a time changes a project: who has the turn holds a lock of the kernel (flock) on the
//! project's folder, for as long as it works. Its end, by `kill -9` too, gives the turn back; so what
//! a journal tells of is, for whoever has the turn, the work of one that is dead.
//!
//! The folder itself is locked, not a file in it: `down` removes it with all that is in it, and who
//! comes next makes another one and locks that.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use super::autoscale::SCALE_MAX;
use super::balancer::{make_folder, write};
use super::{Balancer, Stack};
use crate::failure::Failure;

/// What the autoscaler calls its turns.
pub(super) const AUTOSCALE: &str = "autoscale";

/// The autoscaler takes its turns by itself, and each is over within [`SCALE_MAX`] and what it takes
/// to stop containers: so others wait for it.
const WAIT_MAX: Duration = SCALE_MAX.saturating_add(Duration::from_secs(180));

/// Who has the turn says so just after it has got it.
const NOTE_MAX: Duration = Duration::from_secs(1);

const POLL: Duration = Duration::from_millis(20);

/// The note's name in the folder.
const NOTE: &str = "turn";

/// Held by the verb, and by all that it does.
pub(crate) struct Turn {
    folder: PathBuf,
    /// Closing it gives the turn back.
    held: File,
}

/// Who has the turn, for those who do not get it. Nothing depends on it.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Note {
    process: u32,
    verb: String,
}

impl Note {
    fn deploys_another(&self, service: &str) -> bool {
        self.verb.strip_prefix("deploy ").is_some_and(|deployed| deployed != service)
    }
}

impl Turn {
    /// `None`: somebody else has it; `NotFound`: there is no such folder.
    fn take(folder: PathBuf) -> io::Result<Option<Self>> {
        loop {
            let held = File::open(&folder)?;
            match held.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(error),
            }
            let turn = Self { folder: folder.clone(), held };
            // It may have been removed by a `down` that had it open before us.
            if turn.counts() {
                return Ok(Some(turn));
            }
        }
    }

    /// Whether the folder is still the one that is locked.
    fn counts(&self) -> bool {
        let (Ok(held), Ok(there)) = (self.held.metadata(), fs::metadata(&self.folder)) else {
            return false;
        };
        (held.dev(), held.ino()) == (there.dev(), there.ino())
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // Not the note of who came after a `down`.
        if self.counts() {
            let _ = fs::remove_file(self.folder.join(NOTE));
        }
    }
}

impl Balancer {
    fn try_turn(&self, verb: &str) -> Result<Option<Turn>, Failure> {
        let folder = self.folder();
        let taken = loop {
            make_folder(folder)?;
            match Turn::take(folder.to_owned()) {
                // A `down` has removed the folder between the two.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                taken => break taken,
            }
        };
        let taken = taken.map_err(|error| {
            Failure::Job(format!("cannot lock the folder {}: {error}", folder.display()))
        })?;
        if taken.is_some() {
            let note = Note { process: std::process::id(), verb: verb.to_owned() };
            let note = serde_json::to_string(&note).unwrap_or_default();
            write(&folder.join(NOTE), &note)?;
        }
        Ok(taken)
    }

    fn note(&self) -> Option<Note> {
        let note: Note = serde_json::from_str(&self.read(NOTE)?).ok()?;
        // One that was killed has left its own.
        fs::exists(format!("/proc/{}", note.process)).unwrap_or(false).then_some(note)
    }
}

impl Stack {
    /// The turn, for as long as what is answered is kept: what this process has already is shared.
    /// An error that names the other one if it is somebody else's; the autoscaler's is waited for.
    pub(crate) async fn claim(&self, verb: &str) -> Result<Rc<Turn>, Failure> {
        let begun = Instant::now();
        let mut said = false;
        loop {
            if let Some(turn) = self.turn.borrow().upgrade() {
                return Ok(turn);
            }
            if let Some(turn) = self.balancer.try_turn(verb)? {
                let turn = Rc::new(turn);
                *self.turn.borrow_mut() = Rc::downgrade(&turn);
                return Ok(turn);
            }
            let note = self.balancer.note();
            let scales = note.as_ref().is_some_and(|note| note.verb == AUTOSCALE);
            let waits = match &note {
                None => begun.elapsed() < NOTE_MAX,
                Some(_) => scales && verb != AUTOSCALE && begun.elapsed() < WAIT_MAX,
            };
            if !waits {
                return Err(Failure::Job(self.refusal(note)));
            }
            if scales && !said {
                eprintln!("waiting for `evenkeel autoscale`, which changes the project just now");
                said = true;
            }
            sleep(POLL).await;
        }
    }

    /// The autoscaler's turn; or none, while who has it deploys another service than this one, and
    /// has nothing of this one's to take back first.
    pub(super) async fn turn_or_other_deploy(
        &self,
        service: &str,
    ) -> Result<Option<Rc<Turn>>, Failure> {
        match self.claim(AUTOSCALE).await {
            Ok(turn) => Ok(Some(turn)),
            Err(failure) => {
                let note = self.balancer.note();
                let other = note.is_some_and(|note| note.deploys_another(service));
                if other && !self.is_half_deployed(service) { Ok(None) } else { Err(failure) }
            }
        }
    }

    fn refusal(&self, note: Option<Note>) -> String {
        let name = &self.project.name;
        match note {
            Some(Note { process, verb }) => format!(
                "`evenkeel {verb}` of project {name} is under way (process {process}); \
                 nothing was changed, try again when it has ended"
            ),
            None => format!("another verb changes project {name}; try again when it has ended"),
        }
    }

    /// Before anything is written that only the holder of the turn may write.
    pub(super) fn still_has_the_turn(&self) -> Result<(), Failure> {
        match self.turn.borrow().upgrade().filter(|turn| turn.counts()) {
            Some(_) => Ok(()),
            None => {
                let folder = self.balancer.folder().display();
                let message = format!("somebody has removed {folder} while a verb worked in it");
                Err(Failure::Job(message))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let name = format!("evenkeel-turn-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir(&folder).unwrap();
        folder
    }

    #[test]
    fn one_has_the_turn_until_it_ends() {
        let folder = folder("one");
        let first = Turn::take(folder.clone()).unwrap().unwrap();
        assert!(Turn::take(folder.clone()).unwrap().is_none());
        fs::write(folder.join(NOTE), "{}").unwrap();
        drop(first);
        assert!(!folder.join(NOTE).exists());
        assert!(Turn::take(folder.clone()).unwrap().is_some());
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn only_a_deploy_says_what_it_does_not_touch() {
        for (verb, touches) in [
            ("deploy api", false),
            ("deploy web", true),
            ("up", true),
            ("scale api=3", true),
            ("stop", true),
            ("down", true),
        ] {
            let note = Note { process: 1, verb: verb.into() };
            assert_eq!(!note.deploys_another("web"), touches, "{verb}");
        }
    }

    #[test]
    fn a_folder_that_was_removed_and_made_again_is_another_one() {
        let folder = folder("again");
        let down = Turn::take(folder.clone()).unwrap().unwrap();
        fs::remove_dir_all(&folder).unwrap();
        assert!(!down.counts());
        assert!(Turn::take(folder.clone()).is_err(), "who calls makes it again");
        fs::create_dir(&folder).unwrap();
        let next = Turn::take(folder.clone()).unwrap().unwrap();
        fs::write(folder.join(NOTE), "of the next").unwrap();
        drop(down);
        assert!(next.counts() && folder.join(NOTE).exists());
        assert!(Turn::take(folder.clone()).unwrap().is_none());
        fs::remove_dir_all(folder).unwrap();
    }
}
