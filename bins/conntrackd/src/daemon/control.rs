//! The control socket's file.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
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
    /// Listens at `path`, in the place of a socket that a daemon left there. The mode of its file
    /// comes from the umask.
    ///
    /// # Errors
    /// `AlreadyExists` if anything but a socket stands there, which is left alone; otherwise what
    /// the system says.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        if is_occupied(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
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

/// Whether something stands at `path` that is no socket, so that no daemon has put it there.
pub(crate) fn is_occupied(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|file| !file.file_type().is_socket())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_socket_is_replaced_and_a_newer_one_is_left() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("ctl");
        drop(UnixListener::bind(&path).expect("a socket"));
        let older = Control::open(&path).expect("a socket");
        let newer = Control::open(&path).expect("a socket");
        drop(older);
        assert!(path.exists());
        drop(newer);
        assert!(!path.exists());
        assert!(Control::open(&folder.path().join("none/ctl")).is_err());
    }

    #[test]
    fn what_is_no_socket_is_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("passwd");
        fs::write(&file, "root").expect("a file");
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&file, &link).expect("a link");
        for path in [file.as_path(), &link, folder.path()] {
            let error = Control::open(path).expect_err("it is in the way");
            assert_eq!(error.kind(), io::ErrorKind::AlreadyExists, "{path:?}");
        }
        assert_eq!(fs::read_to_string(&link).expect("both are there"), "root");
    }
}
