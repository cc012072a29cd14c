//! Whose program a node runs, and where it is.

use std::path::PathBuf;

/// Whose program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Make {
    /// The one built from this workspace.
    Ours,
    /// The one that the system has installed.
    Original,
}

impl Make {
    /// Path of a program, `conntrackd` or `conntrack`.
    pub fn program(self, name: &str) -> PathBuf {
        match self {
            Self::Ours => built(name),
            Self::Original => PathBuf::from("/usr/sbin").join(name),
        }
    }
}

/// Directory of our programs: `SHARDTRACK_BIN_DIR`, or where the running test was built.
fn built(name: &str) -> PathBuf {
    if let Some(directory) = std::env::var_os("SHARDTRACK_BIN_DIR") {
        return PathBuf::from(directory).join(name);
    }
    let exe = std::env::current_exe().expect("a running program has a path");
    let mut directory = exe.parent().expect("a file is in a directory");
    if directory.ends_with("deps") {
        directory = directory.parent().expect("deps is in the profile's directory");
    }
    directory.join(name)
}
