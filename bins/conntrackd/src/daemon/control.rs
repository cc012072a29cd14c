//! The control socket's file.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// The socket's file, which goes with the value unless another daemon replaced it.
#[derive(Debug)]
pub(super) struct Control {
    path: PathBuf,
    inode: (u64, u64),
    listener: Option<UnixListener>,
}

impl Control {
    /// Replaces what stands at `path` by a socket. The mode of its file comes from the umask.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        let file = fs::symlink_metadata(path)?;
        let inode = (file.dev(), file.ino());
        Ok(Self { path: path.to_owned(), inode, listener: Some(listener) })
    }

    /// The socket itself, once.
    pub(super) fn take_listener(&mut self) -> Option<UnixListener> {
        self.listener.take()
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|file| (file.dev(), file.ino()) == self.inode);
        if ours {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_socket_is_replaced_and_a_newer_one_is_left() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("ctl");
        fs::write(&path, "").expect("a file");
        let older = Control::open(&path).expect("a socket");
        let newer = Control::open(&path).expect("a socket");
        drop(older);
        assert!(path.exists());
        drop(newer);
        assert!(!path.exists());
        assert!(Control::open(&folder.path().join("none/ctl")).is_err());
    }
}
