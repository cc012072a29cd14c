//! Our fail-over script with a daemon that only writes down what it is asked: the order of the
//! steps, and what is left out.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use shardtrack_tests::cond::{wait_equal, wait_until};
use tempfile::TempDir;

const SCRIPT: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../bins/conntrackd/dist/primary-backup.sh");
const LIMIT: Duration = Duration::from_secs(20);
/// Beside it: `told` gets every request, `-c` fails while there is `refuse`, and `-t` takes as long
/// as there is `hold`.
const DAEMON: &str = r#"#!/bin/sh
here=${0%/*}
shift 2
printf '%s\n' "$*" >>"$here/told"
case $1 in
-c) [ ! -e "$here/refuse" ] ;;
-t) while [ -e "$here/hold" ]; do sleep 0.02; done ;;
esac
"#;

struct Stand(TempDir);

impl Stand {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let daemon = directory.path().join("conntrackd");
        fs::write(&daemon, DAEMON).expect("own directory");
        fs::set_permissions(&daemon, Permissions::from_mode(0o755)).expect("own file");
        Self(directory)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn mark(&self, name: &str) {
        fs::write(self.path(name), "").expect("own directory");
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// What the daemon was asked, besides whether it runs.
    fn asked(&self) -> Vec<String> {
        let told = self.read("told");
        told.lines().filter(|line| *line != "-s runtime").map(str::to_owned).collect()
    }

    fn begin(&self, goal: &str) -> Child {
        Command::new(Path::new(SCRIPT))
            .arg(goal)
            .env("CONNTRACKD", self.path("conntrackd"))
            .env("CONNTRACKD_STATE", self.path("state"))
            .spawn()
            .expect("the script can be started")
    }

    fn run(&self, goal: &str) -> Option<i32> {
        end(self.begin(goal))
    }

    /// Begins a transition and waits until it is known as the newest.
    fn begin_last(&self, goal: &str) -> Child {
        let child = self.begin(goal);
        let id = child.id().to_string();
        wait_equal(LIMIT, "the newest", &id, || self.read("state.newest").trim().to_owned());
        child
    }
}

fn end(mut child: Child) -> Option<i32> {
    child.wait().expect("a child can be waited for").code()
}

#[test]
fn a_commit_is_followed_by_empty_caches() {
    let stand = Stand::new();
    assert_eq!(stand.run("primary"), Some(0));
    assert_eq!(stand.asked(), ["-c", "-f", "-R", "-B"]);
}

#[test]
fn caches_are_kept_if_the_commit_fails() {
    let stand = Stand::new();
    stand.mark("refuse");
    assert_eq!(stand.run("primary"), Some(1));
    assert_eq!(stand.asked(), ["-c", "-c", "-R", "-B"]);
}

#[test]
fn of_transitions_that_wait_only_the_newest_is_made() {
    let stand = Stand::new();
    stand.mark("hold");
    let first = stand.begin("backup");
    wait_until(LIMIT, "the first is in the middle", || stand.asked() == ["-t"]);
    let overtaken = stand.begin_last("primary");
    let newest = stand.begin_last("fault");
    assert_eq!(stand.asked(), ["-t"], "they do not wait for each other");
    fs::remove_file(stand.path("hold")).expect("it was made");
    assert_eq!([first, overtaken, newest].map(end), [Some(0); 3]);
    assert_eq!(stand.asked(), ["-t", "-n", "-t"]);
}
