//! The Unix socket: made so that nobody finds it with the wrong permissions, and taken over only
//! from a process that is no more.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// This user and group may ask.
const MODE: u32 = 0o660;

/// A socket in the file system, removed with it.
#[derive(Debug)]
pub(crate) struct SocketFile {
    pub(crate) listener: UnixListener,
    path: PathBuf,
    /// The file that we made; another one at this path is not ours to remove.
    inode: u64,
}

impl SocketFile {
    /// # Errors
    /// `AddrInUse`: somebody listens there. Whatever else keeps a socket from being made.
    pub(crate) fn bind(path: &Path) -> io::Result<Self> {
        match fs::symlink_metadata(path) {
            Ok(_) if UnixStream::connect(path).is_ok() => {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            // What a dead process left is replaced below; anything but a socket is not.
            Ok(found) if !is_socket(&found) => return Err(io::ErrorKind::AlreadyExists.into()),
            _ => {}
        }
        // Under another name first: at its own it has its permissions from the start.
        let mut beside = path.as_os_str().to_owned();
        beside.push(format!(".{}", std::process::id()));
        let beside = PathBuf::from(beside);
        let _ = fs::remove_file(&beside);
        let listener = UnixListener::bind(&beside)?;
        let finish = || {
            fs::set_permissions(&beside, fs::Permissions::from_mode(MODE))?;
            fs::rename(&beside, path)?;
            inode(path)
        };
        match finish() {
            Ok(inode) => Ok(Self { listener, path: path.to_owned(), inode }),
            Err(error) => {
                let _ = fs::remove_file(&beside);
                Err(error)
            }
        }
    }
}

fn is_socket(file: &fs::Metadata) -> bool {
    std::os::unix::fs::FileTypeExt::is_socket(&file.file_type())
}

fn inode(path: &Path) -> io::Result<u64> {
    Ok(std::os::unix::fs::MetadataExt::ino(&fs::symlink_metadata(path)?))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if inode(&self.path).is_ok_and(|inode| inode == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_taken_over_only_from_the_dead() {
        let folder = std::env::temp_dir().join(format!("evenkeel-agent-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("agent.sock");
        let first = SocketFile::bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
        assert_eq!(SocketFile::bind(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(first);
        assert!(!path.exists());
        // As a process leaves it that is killed.
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let again = SocketFile::bind(&path).unwrap();
        // Who made it anew in the meantime keeps it.
        fs::remove_file(&path).unwrap();
        let _theirs = UnixListener::bind(&path).unwrap();
        drop(again);
        assert!(path.exists());
        fs::write(folder.join("file"), "kept").unwrap();
        let error = SocketFile::bind(&folder.join("file")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        let error = SocketFile::bind(&folder.join("none/agent.sock")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        fs::remove_dir_all(&folder).unwrap();
    }
}
