//! Runs one case: a shell script in namespaces of its own.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use shardtrack_tests::peer::Make;
use shardtrack_tests::privilege;
use tempfile::TempDir;

/// What of the machine's `/etc` the programs need; the rest is hidden, label names above all.
const ETC: [&str; 8] = [
    "protocols",
    "services",
    "nsswitch.conf",
    "ld.so.cache",
    "passwd",
    "group",
    "alternatives",
    "localtime",
];

/// Seconds that a command may take.
const LIMIT: u32 = 20;

/// How a case ended.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Exit status; the negative number of the signal that ended it.
    pub(crate) exit: i64,
    /// Standard output.
    pub(crate) stdout: String,
    /// Standard error.
    pub(crate) stderr: String,
    /// What the command lines after it printed.
    pub(crate) after: String,
}

/// What all cases share: the program, readable by everybody.
pub(crate) struct Bench {
    directory: TempDir,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().expect("there is room for temporary files");
        open_to_all(directory.path());
        let program = directory.path().join("conntrack");
        fs::copy(Make::Ours.program("conntrack"), &program).expect("the program was built");
        Self { directory }
    }

    fn program(&self) -> PathBuf {
        self.directory.path().join("conntrack")
    }

    pub(crate) fn program_path(&self) -> String {
        self.program().to_string_lossy().into_owned()
    }

    /// In a user namespace there are no other users.
    pub(crate) fn can_run(&self, case: &Value) -> bool {
        case["uid"].is_null() || privilege::is_root()
    }

    pub(crate) fn run(&self, case: &Value) -> Seen {
        let scratch = tempfile::tempdir().expect("there is room for temporary files");
        let scratch = scratch.path();
        open_to_all(scratch);
        write_files(case, scratch);
        let script = script(case, scratch, &self.program());
        fs::write(scratch.join(".script"), script).expect("the scratch directory is ours");
        let output = Command::new("unshare")
            .args(["-nm", "--propagation", "private", "--", "/bin/sh"])
            .arg(scratch.join(".script"))
            .current_dir(scratch)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LC_ALL", "C")
            .env("TZ", "UTC")
            .env("D", scratch)
            .env("CT", Make::Original.program("conntrack"))
            .output()
            .expect("unshare is there");
        let name = &case["name"];
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "setting the scene of {name}: {said}");
        let text = |file: &str| {
            let octets = fs::read(scratch.join(file)).unwrap_or_default();
            let text = String::from_utf8_lossy(&octets).into_owned();
            text.replace(&*scratch.to_string_lossy(), "$D")
        };
        let code: i64 = text(".rc").trim().parse().expect("the script notes the status");
        Seen {
            exit: if code > 128 { 128 - code } else { code },
            stdout: text(".out"),
            stderr: text(".err"),
            after: text(".after"),
        }
    }
}

fn open_to_all(directory: &Path) {
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755))
        .expect("the directory is ours");
}

fn write_files(case: &Value, scratch: &Path) {
    let etc = scratch.join(".etc");
    fs::create_dir(&etc).expect("the scratch directory is ours");
    for (path, content) in case["files"].as_object().into_iter().flatten() {
        let path = match path.strip_prefix("/etc/") {
            Some(rest) => etc.join(rest),
            None => scratch.join(path.strip_prefix("$D/").expect("files are in scratch areas")),
        };
        fs::create_dir_all(path.parent().expect("a file is in a directory"))
            .expect("the scratch directory is ours");
        fs::write(path, content.as_str().unwrap_or_default())
            .expect("the scratch directory is ours");
    }
    fs::write(scratch.join(".in"), case["stdin"].as_str().unwrap_or_default())
        .expect("the scratch directory is ours");
}

fn script(case: &Value, scratch: &Path, program: &Path) -> String {
    let mut text = String::from("set -u\n");
    // Without label names the machine's own directory will do, and most cases have none.
    let own_etc = case["files"].as_object().is_some_and(|f| f.keys().any(|k| k.starts_with("/")));
    if own_etc || Path::new("/etc/xtables/connlabel.conf").exists() {
        let sources = ETC.map(|name| format!("/etc/{name}")).join(" ");
        let _ = writeln!(text, "cp -a {sources} .etc/ 2>/dev/null");
        text.push_str("mount --bind .etc /etc || exit 90\n");
    }
    text.push_str("echo 1 > /proc/sys/net/netfilter/nf_conntrack_events\n");
    for line in lines(case, "setup") {
        let _ = writeln!(text, "sh -c {} </dev/null || exit 91", quoted(line));
    }
    let mut command = match case["uid"].as_u64() {
        Some(uid) => format!("setpriv --reuid {uid} --regid {uid} --clear-groups -- "),
        None => String::new(),
    };
    command.push_str(&quoted(&program.to_string_lossy()));
    for word in lines(case, "argv") {
        command.push(' ');
        command.push_str(&quoted(&word.replace("$D", &scratch.to_string_lossy())));
    }
    if let Some(signal) = case["signal"].as_str() {
        follow(case, &command, signal, &mut text);
    } else if case["stdout_closed"] == true {
        // The reader is gone long before the first octet.
        let _ = writeln!(text, "{{ sleep 0.3; {command} <.in 2>.err; echo $? >.rc; }} | :");
    } else {
        let _ = writeln!(text, "timeout {LIMIT} {command} <.in >.out 2>.err; echo $? >.rc");
    }
    for line in lines(case, "after") {
        let _ = writeln!(text, "sh -c {} </dev/null >>.after 2>&1", quoted(line));
    }
    text.push_str("exit 0\n");
    text
}

/// Runs the command beside others until a signal.
fn follow(case: &Value, command: &str, signal: &str, text: &mut String) {
    let settle = case["settle"].as_f64().unwrap_or(0.25);
    let _ = writeln!(text, "{command} </dev/null >.out 2>.err &\npid=$!\nn=0");
    // Until it has joined a group of events, or has ended.
    text.push_str(
        "while [ $n -lt 200 ] && kill -0 $pid 2>/dev/null && \
         ! awk '$2 == 12 && $4 !~ /^0*$/ { f = 1 } END { exit !f }' /proc/net/netlink; \
         do sleep 0.02; n=$((n + 1)); done\nsleep 0.05\n",
    );
    for line in lines(case, "during") {
        let _ = writeln!(text, "sh -c {} </dev/null >/dev/null 2>&1 || exit 92", quoted(line));
    }
    // A machine with much to do lets it wait before it shows what happened.
    let shown = shown_before_the_end(case);
    let _ = writeln!(
        text,
        "n=0\nwhile [ $n -lt 250 ] && [ $(wc -l <.out) -lt {shown} ]; \
         do sleep 0.02; n=$((n + 1)); done"
    );
    let _ =
        writeln!(text, "sleep {settle}\nkill -{signal} $pid 2>/dev/null\nwait $pid\necho $? >.rc");
}

/// Lines that are expected on standard output before the command is told to end.
fn shown_before_the_end(case: &Value) -> usize {
    let want = if case["head"].is_object() { &case["head"] } else { case };
    let lines = want["stdout"].as_str().unwrap_or_default().lines();
    lines.filter(|line| *line != "</conntrack>").count()
}

fn lines<'a>(case: &'a Value, member: &str) -> impl Iterator<Item = &'a str> {
    case[member].as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// The word in single quotes.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}
