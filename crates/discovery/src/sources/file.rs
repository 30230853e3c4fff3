//! Endpoints listed in a file, or in the files of a folder.
//!
//! The path is looked at, again and again: whether a file was written in place, replaced by a
//! rename, linked elsewhere or mounted anew (Kubernetes ConfigMaps), looking is right. inotify only
//! says when to look at once, and who is still writing. What cannot be read or understood stays as
//! it was last understood, file by file.

mod shelf;

use std::path::PathBuf;
use std::time::Duration;

use model::spec::DiscoverSpec;
use tokio::time::{sleep, timeout};

use super::{BoxFuture, Provider, Source, Teller, Unheard};
use crate::wake::Wake;
use shelf::Shelf;

/// Between two looks that must find the same before a file is read, so that a writer that is
/// half-way is left to finish; also the shortest time between any two looks.
const SETTLE: Duration = Duration::from_millis(50);

/// Between two looks when the kernel tells of changes: for what it does not tell of, such as files
/// behind links.
const LOOK: Duration = Duration::from_secs(1);

/// Between two looks when it does not: no inotify instances are left, or the file system has none.
const LOOK_BLIND: Duration = Duration::from_millis(250);

pub const PROVIDER: Provider = Provider {
    name: "file",
    summary: "endpoints listed in a file, or in the files of a folder",
    open: |spec| match spec {
        DiscoverSpec::File(file) => Some(Box::new(File { path: file.path.clone() })),
        _ => None,
    },
};

struct File {
    path: PathBuf,
}

impl Source for File {
    fn place(&self) -> String {
        self.path.display().to_string()
    }

    fn follow(self: Box<Self>, teller: Teller) -> BoxFuture {
        Box::pin(async move {
            let Err(Unheard) = follow(self.path, teller).await;
        })
    }
}

async fn follow(path: PathBuf, teller: Teller) -> Result<std::convert::Infallible, Unheard> {
    let mut wake = Wake::new(path.clone());
    let mut shelf = Shelf::new(path, teller.service.clone(), teller.read_list);
    loop {
        let writing = wake.writing();
        // Not on a thread of the runtime: a file system may hang.
        let look = tokio::task::spawn_blocking(move || {
            let look = shelf.look(&writing);
            (shelf, look)
        });
        // It panics never; if it did, there would be nothing left to tell of.
        let Ok((looked, look)) = look.await else { return Err(Unheard) };
        shelf = looked;
        if let Some(told) = look.told {
            teller.tell(told).await?;
        }
        sleep(SETTLE).await;
        if look.settled {
            let pause = if wake.watch() { LOOK } else { LOOK_BLIND };
            // The time being over is a reason to look like any other.
            let _ = timeout(pause, wake.changed()).await;
        }
    }
}
