//! Secrets and configs that are texts, of a variable or of the Compose file itself, on their way into
//! a container.
//!
//! Ordinarily they are written into it before it starts, as Docker Compose does it. The engine
//! permits that neither where the root file system is read-only nor, of a temporary file system,
//! before it is there. Those containers get each text as a file of this machine that is mounted
//! read-only: in the project's folder, which only we may enter, and which lies in memory if it is
//! where it is by default. `down` removes it; files that no container mounts go before that.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use compose::engine::Body;
use compose::project::{Content, Given, Mount, MountKind, Service};
use compose::request;
use hyper::Request;
use serde_json::Value;

use super::Stack;
use super::balancer::make_folder;
use crate::failure::Failure;

/// Its name in the project's folder; in it is one folder for each version of a service.
const FOLDER: &str = "given";

/// Of the hash of a service's configuration, what the name of its folder has. The hash depends on the
/// texts, so files of one name have one content.
const HASH_DIGITS: usize = 16;

impl Stack {
    /// The service as it is to be created: with a mount for each text that cannot be written into
    /// its containers, whose file is made here.
    pub(super) fn with_mounts<'a>(
        &self,
        service: &'a Service,
        hash: &str,
    ) -> Result<Cow<'a, Service>, Failure> {
        let Some(why) = why_mounted(service) else { return Ok(Cow::Borrowed(service)) };
        if !Stack::is_here(&self.engine) {
            let message = format!(
                "the text of a secret or config cannot be given to {}, {why}, on an engine elsewhere; \
                 `file:` names a file of that machine instead",
                service.name
            );
            return Err(Failure::Job(message));
        }
        let folder = self.given_folder(service, hash);
        make_folder(&folder)?;
        let mut mounted = service.clone();
        for (index, (given, text)) in texts(service).enumerate() {
            let file = folder.join(index.to_string());
            put(&file, text, given)
                .map_err(|error| Failure::Job(format!("{}: {error}", given.target)))?;
            mounted.mounts.push(Mount {
                kind: MountKind::Bind,
                source: file.display().to_string(),
                target: given.target.clone(),
                read_only: true,
                options: Vec::new(),
                long: true,
                size: None,
            });
        }
        mounted.given.clear();
        Ok(Cow::Owned(mounted))
    }

    fn given_folder(&self, service: &Service, hash: &str) -> PathBuf {
        let hash = hash.get(..HASH_DIGITS).unwrap_or(hash);
        self.balancer.folder().join(FOLDER).join(format!("{}-{hash}", service.name))
    }

    /// Writes the texts into a container that can be written into.
    pub(super) async fn give(&self, service: &Service, id: &str) -> Result<(), Failure> {
        let failed = |error: &dyn std::fmt::Display| Failure::Job(error.to_string());
        let Some(archive) = request::files(service).map_err(|error| failed(&error))? else {
            return Ok(());
        };
        let request = Request::builder()
            .method("PUT")
            .uri(format!("/containers/{id}/archive?path=/"))
            .header("Content-Type", "application/x-tar")
            .body(Body::whole(archive))
            .map_err(|error| failed(&error))?;
        self.engine.send(request).await?;
        Ok(())
    }

    /// Removes the texts that no container mounts any more: of an earlier version, or of one that was
    /// taken back. What cannot be found out stays until `down`.
    pub(super) async fn forget_given(&self) {
        let folder = self.balancer.folder().join(FOLDER);
        let Ok(there) = fs::read_dir(&folder) else { return };
        let path = format!("/containers/json?all=true&filters={}", self.filters());
        let Ok(list) = self.engine.get(&path).await else { return };
        let mounted = sources(&list);
        for version in there.flatten().map(|entry| entry.path()) {
            if !mounted.iter().any(|source| source.starts_with(&version)) {
                let _ = fs::remove_dir_all(version);
            }
        }
    }
}

/// The mounts' files of this machine, in an answer to `GET /containers/json`.
fn sources(list: &Value) -> BTreeSet<PathBuf> {
    let containers = list.as_array().into_iter().flatten();
    let mounts = containers.filter_map(|container| container["Mounts"].as_array()).flatten();
    mounts.filter_map(|mount| mount["Source"].as_str()).map(PathBuf::from).collect()
}

fn texts(service: &Service) -> impl Iterator<Item = (&Given, &str)> {
    service.given.iter().filter_map(|given| match &given.content {
        Content::Text { text, .. } => Some((given, &**text)),
        Content::File(_) => None,
    })
}

/// Why its texts cannot be written into its containers; `None`: they can, or there are none.
fn why_mounted(service: &Service) -> Option<String> {
    let hides = |given: &Given| {
        let temporary = service.mounts.iter().filter(|mount| mount.kind == MountKind::Tmpfs);
        temporary.map(|mount| &mount.target).find(|at| Path::new(&given.target).starts_with(at))
    };
    texts(service).next()?;
    if service.host.get("ReadonlyRootfs").and_then(Value::as_bool) == Some(true) {
        return Some("which is `read_only`".into());
    }
    let target = texts(service).find_map(|(given, _)| hides(given))?;
    Some(format!("whose {target} is a tmpfs"))
}

/// A file that is as it should be is left alone: containers that run have mounted it.
fn put(file: &Path, text: &str, given: &Given) -> io::Result<()> {
    if is_there(file, text, given) {
        return Ok(());
    }
    let next = file.with_extension("next");
    let _ = fs::remove_file(&next);
    let mut to = fs::File::options().create_new(true).write(true).mode(0o600).open(&next)?;
    to.write_all(text.as_bytes())?;
    if let Err(error) = chown(&next, Some(given.uid), Some(given.gid))
        // Whoever the container's processes are, they can read it.
        && given.mode & 0o004 == 0
    {
        let Given { uid, gid, mode, .. } = given;
        let message = format!(
            "only root can give it to user {uid} and group {gid}, and others may not read it \
             (mode {mode:04o}): {error}"
        );
        return Err(io::Error::new(error.kind(), message));
    }
    // After the owner, whose change takes bits away.
    to.set_permissions(fs::Permissions::from_mode(given.mode))?;
    fs::rename(&next, file)
}

fn is_there(file: &Path, text: &str, given: &Given) -> bool {
    let Ok(mut open) = fs::File::open(file) else { return false };
    let Ok(metadata) = open.metadata() else { return false };
    let mut found = Vec::new();
    metadata.mode() & 0o7777 == given.mode
        && metadata.len() == text.len() as u64
        && open.read_to_end(&mut found).is_ok()
        && found == text.as_bytes()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;

    fn given(target: &str, mode: u32) -> Given {
        let content = Content::Text { text: Arc::from("text"), digest: String::new() };
        let metadata = fs::metadata("/proc/self").unwrap();
        let (uid, gid) = (metadata.uid(), metadata.gid());
        Given { target: target.into(), content, uid, gid, mode }
    }

    #[test]
    fn texts_are_mounted_where_they_cannot_be_written() {
        let tmpfs = |target: &str| Mount {
            kind: MountKind::Tmpfs,
            source: String::new(),
            target: target.into(),
            read_only: false,
            options: Vec::new(),
            long: true,
            size: None,
        };
        let service = |read_only: bool, mounts: Vec<Mount>, given: Vec<Given>| {
            let host = serde_json::Map::from_iter([("ReadonlyRootfs".into(), json!(read_only))]);
            Service { host, mounts, given, ..Service::default() }
        };
        let secret = || vec![given("/run/secrets/a", 0o444)];
        for (service, expected) in [
            (service(false, vec![], secret()), None),
            (service(true, vec![], vec![]), None),
            (service(true, vec![], secret()), Some("which is `read_only`")),
            (service(false, vec![tmpfs("/run")], secret()), Some("whose /run is a tmpfs")),
            (service(false, vec![tmpfs("/ru")], secret()), None),
        ] {
            assert_eq!(why_mounted(&service).as_deref(), expected);
        }
    }

    #[test]
    fn a_file_that_is_as_it_should_be_is_left_alone() {
        let folder = std::env::temp_dir().join(format!("evenkeel-given-{}", std::process::id()));
        make_folder(&folder).unwrap();
        let file = folder.join("0");
        put(&file, "one", &given("/a", 0o400)).unwrap();
        let first = fs::metadata(&file).unwrap();
        assert_eq!((first.mode() & 0o7777, first.len()), (0o400, 3));
        put(&file, "one", &given("/a", 0o400)).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().ino(), first.ino());
        put(&file, "two", &given("/a", 0o444)).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "two");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        fs::remove_dir_all(folder).unwrap();
    }
}
