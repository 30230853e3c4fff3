//! What survives a restart: the instances, written in batches behind the back of whoever changes
//! them.
//!
//! A heartbeat is not written. What was registered in the last moments before a crash may be
//! missing; its next heartbeat is answered with 404, and it registers again.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use registry::{Change, Instance};
use tokio::sync::Notify;
use tracing::warn;

/// `SERVICE/ID` to an instance in JSON.
const INSTANCES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("instances");
/// `version` to the version of the last batch.
const NUMBERS: TableDefinition<'_, &str, u64> = TableDefinition::new("numbers");
const VERSION: &str = "version";

/// Changes are gathered for so long, so that a thousand registrations are one write to the disk.
const GATHER: Duration = Duration::from_millis(100);
/// After a write that failed (a full disk, mostly).
const PAUSE: Duration = Duration::from_secs(5);

/// The file, and what is not yet in it.
pub(crate) struct Journal {
    database: Database,
    dirty: Mutex<Dirty>,
    changed: Notify,
}

#[derive(Default)]
struct Dirty {
    /// By key. As many as there are instances, and those that left since the last batch.
    changes: BTreeMap<String, Option<Arc<Instance>>>,
    version: u64,
}

/// What was kept.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    pub(crate) version: u64,
    pub(crate) instances: Vec<Instance>,
}

impl Journal {
    /// Opens or makes the file. An error is a sentence for people.
    pub(crate) fn open(path: &Path) -> Result<(Self, Kept), String> {
        let wrong = |error: redb::Error| {
            format!("the registry cannot be kept in {}: {error}", path.display())
        };
        make(path).map_err(|error| wrong(redb::Error::Io(error)))?;
        let database = Database::create(path).map_err(|error| wrong(error.into()))?;
        let kept = read(&database).map_err(wrong)?;
        let journal = Self { database, dirty: Mutex::default(), changed: Notify::new() };
        Ok((journal, kept))
    }

    pub(crate) fn note(&self, changes: &[Change], version: u64) {
        let mut dirty = self.dirty();
        for change in changes {
            dirty.changes.insert(key(&change.service, &change.id), change.instance.clone());
        }
        dirty.version = version;
        drop(dirty);
        self.changed.notify_one();
    }

    /// Writes until the future is dropped.
    pub(crate) async fn write_on(self: Arc<Self>) {
        loop {
            self.changed.notified().await;
            tokio::time::sleep(GATHER).await;
            let journal = Arc::clone(&self);
            let written = tokio::task::spawn_blocking(move || journal.write()).await;
            if !matches!(written, Ok(true)) {
                tokio::time::sleep(PAUSE).await;
                self.changed.notify_one();
            }
        }
    }

    /// Writes what is not yet written. Blocks.
    pub(crate) fn write(&self) -> bool {
        let batch = std::mem::take(&mut *self.dirty());
        if batch.changes.is_empty() {
            return true;
        }
        let written = write(&self.database, &batch);
        if let Err(error) = &written {
            warn!("registry: what changed cannot be written, and is tried again: {error}");
            let mut dirty = self.dirty();
            for (key, instance) in batch.changes {
                dirty.changes.entry(key).or_insert(instance);
            }
            dirty.version = dirty.version.max(batch.version);
        }
        written.is_ok()
    }

    fn dirty(&self) -> MutexGuard<'_, Dirty> {
        // Every section leaves a whole map behind.
        self.dirty.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.write();
    }
}

/// Where there is none, one that only its owner reads: what is said in `meta` is nobody else's
/// business.
fn make(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600).open(path)?;
    Ok(())
}

fn key(service: &str, id: &str) -> String {
    format!("{service}/{id}") // neither has a slash
}

fn read(database: &Database) -> Result<Kept, redb::Error> {
    let transaction = database.begin_write()?;
    {
        // Made where the file is new.
        transaction.open_table(INSTANCES)?;
        transaction.open_table(NUMBERS)?;
    }
    transaction.commit()?;
    let transaction = database.begin_read()?;
    let version = transaction.open_table(NUMBERS)?.get(VERSION)?.map_or(0, |value| value.value());
    let mut instances = Vec::new();
    for entry in transaction.open_table(INSTANCES)?.iter()? {
        let (key, value) = entry?;
        match serde_json::from_slice::<Instance>(value.value()) {
            Ok(instance) if instance.check().is_ok() => instances.push(instance),
            _ => warn!("registry: {} is left out: it is no instance", key.value()),
        }
    }
    Ok(Kept { version, instances })
}

fn write(database: &Database, batch: &Dirty) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut table = transaction.open_table(INSTANCES)?;
        for (key, instance) in &batch.changes {
            match instance {
                // Text, numbers, and maps with text as keys: this cannot fail.
                Some(instance) => {
                    let json = serde_json::to_vec(instance).unwrap_or_default();
                    table.insert(key.as_str(), json.as_slice())?;
                }
                None => {
                    table.remove(key.as_str())?;
                }
            }
        }
        transaction.open_table(NUMBERS)?.insert(VERSION, batch.version)?;
    }
    transaction.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use registry::Registration;

    use super::*;

    #[test]
    fn what_is_written_is_there_again() {
        let folder = std::env::temp_dir().join(format!("journal-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("registry.redb");
        let change = |id: &str, there: bool| {
            let made = Instance::new("web", Registration::on(80), id, [10, 0, 0, 1].into());
            let instance = there.then(|| Arc::new(made.unwrap()));
            Change { service: "web".into(), id: id.into(), instance, why: "" }
        };
        let (journal, kept) = Journal::open(&path).unwrap();
        assert_eq!((kept.version, kept.instances.len()), (0, 0));
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        journal.note(&[change("a", true), change("b", true), change("c", true)], 7);
        assert!(journal.write());
        journal.note(&[change("a", false), change("b", false), change("b", true)], 12);
        assert!(Journal::open(&path).is_err(), "two must not write one file");
        drop(journal);
        let (_, kept) = Journal::open(&path).unwrap();
        let ids: Vec<&str> = kept.instances.iter().map(|instance| &*instance.id).collect();
        assert_eq!((kept.version, ids), (12, vec!["b", "c"]));
        std::fs::write(folder.join("other"), "this is no database, but a text").unwrap();
        assert!(Journal::open(&folder.join("other")).is_err());
        assert!(Journal::open(&folder).is_err());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
