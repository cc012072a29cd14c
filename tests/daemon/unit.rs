//! The unit file and the example as they are shipped, under a real service manager: systemd is
//! process 1 of namespaces of its own, on a copy of the machine's files that forgets what is written.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use shardtrack_tests::cond::{wait_for, wait_until};
use shardtrack_tests::need_root;
use shardtrack_tests::peer::Make;
use shardtrack_tests::privilege::{is_inside, skip};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(30);
const MANAGER: &str = "/lib/systemd/systemd";
const UNIT: &str = "conntrackd.service";
/// Where a hierarchy of control groups without controllers of its own may be.
const GROUPS: [&str; 2] = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"];
/// Joins the control group `$3`, and is a machine with the files of `$1` beside those of this one.
/// What may not be done here is written to the file `refused`; nothing else is a reason to skip.
const ENTER: &str = r#"
echo $$ >"$3/cgroup.procs" || {
	echo "no process may join a control group" >"$1/refused"
	exit 1
}
exec unshare --mount --net --uts --ipc --cgroup --pid --fork --kill-child sh -c "$2" "$1"
"#;
/// Settings of the kernel that are not of the network are not to be written: they are the
/// machine's. The device and the addresses are those of the example.
const BOOT: &str = r#"
set -e
try_mount() {
	mount "$@" || { echo "mount $* is refused" >"$0/refused"; exit 1; }
}
try_mount --make-rprivate /
try_mount -t tmpfs none "$0/disk"
mkdir "$0/disk/upper" "$0/disk/work"
try_mount -t overlay -o "lowerdir=/,upperdir=$0/disk/upper,workdir=$0/disk/work" none "$0/root"
cp -r "$0/files/." "$0/root/"
cd "$0/root"
try_mount -t proc none proc
try_mount -t proc none "$0/proc"
try_mount --bind proc/sys proc/sys
try_mount -o remount,ro,bind proc/sys
try_mount --bind "$0/proc/sys/net" proc/sys/net
try_mount -t sysfs -o ro none sys
try_mount -t cgroup2 none sys/fs/cgroup
mkdir sys/fs/cgroup/try || { echo "no control groups in a namespace" >"$0/refused"; exit 1; }
rmdir sys/fs/cgroup/try
try_mount -t tmpfs none run
try_mount -t tmpfs none var/log
try_mount -t tmpfs none dev
mkdir run/lock dev/pts dev/shm
for device in null zero full random urandom tty; do
	touch dev/$device
	try_mount --bind /dev/$device dev/$device
done
ip link set lo up
ip link add eth2 type veth peer name peer2
ip addr add 192.168.100.1/24 dev eth2
ip link set eth2 up
ip link set peer2 up
hostname shardtrack
export container=shardtrack
unset NOTIFY_SOCKET
touch "$0/booting"
exec chroot . /lib/systemd/systemd --system --unit=conntrackd.service --log-target=console
"#;

/// The machine; it is gone with the value.
struct Machine {
    place: TempDir,
    group: PathBuf,
    namespaces: Child,
}

impl Machine {
    /// Boots it, or says what of that may not be done here.
    fn boot() -> Result<Self, String> {
        if !Path::new(MANAGER).exists() {
            return Err("no systemd is installed".into());
        }
        let groups = GROUPS.into_iter().find(|path| Path::new(path).join("cgroup.procs").exists());
        let group = groups.ok_or("no control groups of version 2")?;
        let group = Path::new(group).join(format!("shardtrack-{}", std::process::id()));
        fs::create_dir(&group).map_err(|error| format!("no control group can be made: {error}"))?;
        let place = tempfile::tempdir_in("/tmp").expect("/tmp is writable");
        for folder in ["disk", "root", "proc"] {
            fs::create_dir(place.path().join(folder)).expect("own directory");
        }
        copy_files(&place.path().join("files"));
        let console = fs::File::create(place.path().join("console")).expect("own directory");
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "sh", "-c", ENTER, "sh"]);
        command.arg(place.path()).arg(BOOT).arg(&group).stdin(Stdio::null());
        command.stdout(console.try_clone().expect("a file")).stderr(console);
        let namespaces = command.spawn().expect("setpriv can be started");
        let mut machine = Self { place, group, namespaces };
        let booting = machine.place.path().join("booting");
        let up = wait_for(LIMIT, || match machine.namespaces.try_wait() {
            // Before that it would be this machine's manager who answers.
            Ok(None) if !booting.exists() => None,
            Ok(None) => machine.call(&["is-system-running"]).is_some().then_some(true),
            _ => Some(false),
        });
        if up == Some(true) {
            return Ok(machine);
        }
        let console = machine.console();
        let refused = fs::read_to_string(machine.place.path().join("refused")).ok();
        let refused = refused.or_else(|| {
            console.lines().find(|line| line.starts_with("unshare: ")).map(str::to_owned)
        });
        match refused {
            Some(reason) => Err(reason.trim().to_owned()),
            None => panic!("systemd does not start:\n{console}"),
        }
    }

    fn console(&self) -> String {
        fs::read_to_string(self.place.path().join("console")).unwrap_or_default()
    }

    /// A command for what runs inside; nothing while that is not there.
    fn inside(&self, program: &str) -> Option<Command> {
        let children = format!("/proc/{0}/task/{0}/children", self.namespaces.id());
        let children = fs::read_to_string(children).ok()?;
        let first = children.split_whitespace().next()?;
        let mut command = Command::new("nsenter");
        command.args(["--target", first, "--all", "--root", "--wd", "--", program]);
        Some(command)
    }

    /// What `systemctl` answers; nothing if there is nobody to ask.
    fn call(&self, arguments: &[&str]) -> Option<String> {
        let output = self.inside("systemctl")?.args(arguments).output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.success() || !text.is_empty()).then_some(text)
    }

    /// Has something done that has to succeed.
    #[track_caller]
    fn does(&self, arguments: &[&str]) {
        let output = self.inside("systemctl").expect("it runs").args(arguments).output();
        let output = output.expect("nsenter can be started");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {errors}\n{}", self.console());
    }

    /// The properties of the unit.
    fn unit(&self) -> HashMap<String, String> {
        let text = self.call(&["show", UNIT]).unwrap_or_default();
        let pairs = text.lines().filter_map(|line| line.split_once('='));
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    #[track_caller]
    fn reaches(&self, what: &str, mut reached: impl FnMut(&HashMap<String, String>) -> bool) {
        let mut last = HashMap::new();
        let met = wait_for(LIMIT, || {
            last = self.unit();
            reached(&last).then_some(())
        });
        assert!(met.is_some(), "{what}: {last:?}\n{}", self.console());
    }

    /// Whether a file is there, seen from inside.
    fn has(&self, path: &str) -> bool {
        let test = self.inside("test").map(|mut command| command.args(["-e", path]).status());
        test.is_some_and(|status| status.is_ok_and(|status| status.success()))
    }

    /// Sends a signal to the daemon.
    fn signal(&self, name: &str) {
        self.does(&["kill", "--kill-who=main", "--signal", name, UNIT]);
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.namespaces.kill();
        let _ = self.namespaces.wait();
        // The kernel takes a moment for the processes in them.
        let _ = wait_for(LIMIT, || remove_groups(&self.group).then_some(()));
    }
}

/// Removes a control group and those in it.
fn remove_groups(group: &Path) -> bool {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_groups(&entry.path());
        }
    }
    fs::remove_dir(group).is_ok() || !group.exists()
}

/// Our program, unit and example, and no unit of the machine: nothing of them is to be started.
fn copy_files(files: &Path) {
    let dist = Path::new(env!("CARGO_MANIFEST_DIR")).join("../bins/conntrackd/dist");
    let units = files.join("etc/systemd/system");
    for folder in ["usr/local/sbin", "etc/conntrackd", "etc/systemd/system/conntrackd.service.d"] {
        fs::create_dir_all(files.join(folder)).expect("own directory");
    }
    for (from, to) in [
        (Make::Ours.program("conntrackd"), files.join("usr/local/sbin/conntrackd")),
        (dist.join("conntrackd.conf"), files.join("etc/conntrackd/conntrackd.conf")),
        (dist.join(UNIT), units.join(UNIT)),
    ] {
        fs::copy(&from, &to).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
    }
    for target in ["sysinit", "basic", "shutdown", "network-online"] {
        let text = "[Unit]\nDescription=Nothing\nDefaultDependencies=no\n";
        fs::write(units.join(format!("{target}.target")), text).expect("own directory");
    }
    // Half a minute is too long to wait for here.
    let sooner = "[Service]\nWatchdogSec=2\n";
    fs::write(units.join("conntrackd.service.d/test.conf"), sooner).expect("own directory");
}

#[test]
fn the_unit_runs_under_a_real_service_manager() {
    need_root!();
    if is_inside() {
        skip("unit::the_unit_runs_under_a_real_service_manager", "no machine of its own");
        return;
    }
    let machine = match Machine::boot() {
        Ok(machine) => machine,
        Err(reason) => {
            skip("unit::the_unit_runs_under_a_real_service_manager", &reason);
            return;
        }
    };
    let is = |unit: &HashMap<String, String>, name: &str, value: &str| {
        unit.get(name).is_some_and(|is| is == value)
    };
    let active = |unit: &HashMap<String, String>| is(unit, "ActiveState", "active");
    // Of this type a unit is active when it has said so itself.
    machine.reaches("it says that it is ready", |unit| is(unit, "Type", "notify") && active(unit));
    machine.reaches("it tells how it is", |unit| {
        let told = "0 own flows, 0 of the peer; the peer was not heard yet; 0 changes to send, ";
        unit.get("StatusText").is_some_and(|text| text.starts_with(told))
    });
    // It keeps the watchdog quiet: each of these would have been too late.
    let fed = || machine.unit().remove("WatchdogTimestampMonotonic");
    for _ in 0..3 {
        let before = fed();
        wait_until(LIMIT, "the watchdog is fed", || fed() != before);
    }
    machine.reaches("nothing made it start again", |unit| is(unit, "NRestarts", "0"));

    // The log is opened again.
    assert!(machine.has("/var/log/conntrackd.log"));
    let mut rename = machine.inside("mv").expect("it runs");
    let renamed = rename.args(["/var/log/conntrackd.log", "/var/log/old"]).status();
    assert!(renamed.is_ok_and(|status| status.success()));
    machine.does(&["reload", UNIT]);
    wait_until(LIMIT, "a new log", || machine.has("/var/log/conntrackd.log"));
    machine.reaches("it goes on", active);

    // It hangs: the watchdog ends it, and it starts again over what it left behind.
    machine.signal("STOP");
    machine.reaches("it was started again", |unit| is(unit, "NRestarts", "1") && active(unit));
    machine.signal("KILL");
    machine.reaches("it was started again", |unit| is(unit, "NRestarts", "2") && active(unit));

    let pid = machine.unit().remove("MainPID");
    machine.does(&["restart", UNIT]);
    machine
        .reaches("it is another one", |unit| active(unit) && unit.get("MainPID") != pid.as_ref());
    machine.does(&["stop", UNIT]);
    machine.reaches("it ended in order", |unit| {
        is(unit, "ActiveState", "inactive") && is(unit, "Result", "success")
    });
    for left in ["/run/conntrackd.ctl", "/run/lock/conntrackd.lock"] {
        assert!(!machine.has(left), "{left}");
    }
}
