//! The program as a user calls it, without a daemon: recorded command lines, and every recorded
//! file that stops a start.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors/conntrackd")
}

fn call(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_conntrackd"))
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .expect("the program runs")
}

/// Text without the time and the process id at the head of its lines.
fn masked(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let line = |line: &str| match (line.starts_with('['), line.find(") [")) {
        (true, Some(end)) => line[end + 2..].to_owned(),
        _ => line.to_owned(),
    };
    text.split('\n').map(line).collect::<Vec<_>>().join("\n")
}

/// Whether a text is the usage, the version or anything else; these two are in our own words.
fn kind(text: &str) -> &'static str {
    match text.lines().nth(1) {
        Some(line) if line.starts_with("Usage: ") => "usage",
        _ if text.contains(". Licensed under ") => "version",
        _ if text.is_empty() => "nothing",
        _ => "other",
    }
}

#[test]
fn recorded_command_lines_end_as_recorded() {
    let folder = tempfile::tempdir().expect("a folder");
    let control = folder.path().join("ctl");
    let configuration = format!(
        "General {{\n UNIX {{\n Path {}\n }}\n}}\nSync {{\n Mode NOTRACK {{ }}\n UDP {{\n \
         IPv4_address 127.0.0.1\n IPv4_Destination_Address 127.0.0.1\n Port 3780\n Interface lo\n \
         }}\n}}\n",
        control.display()
    );
    fs::write(folder.path().join("conf.conf"), configuration).expect("a configuration");
    let cases = fs::read_to_string(vectors().join("cli/cases.json")).expect("cases");
    let cases: Value = serde_json::from_str(&cases).expect("JSON");
    let mut compared = 0;
    for case in cases.as_array().expect("a list") {
        if case["daemon_running"] == true {
            continue;
        }
        let newer = &case["observed_1.4.9"];
        let expected = if newer.is_object() { newer } else { &case["observed_1.4.7"] };
        let arguments: Vec<_> =
            case["args"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
        let output = call(folder.path(), &arguments);
        assert_eq!(output.status.code().map(i64::from), expected["exit"].as_i64(), "{arguments:?}");
        let stderr = expected["stderr"].as_str().expect("text");
        assert_eq!(masked(&output.stderr), stderr, "{arguments:?}");
        let stdout = expected["stdout"].as_str().expect("text");
        let ours = String::from_utf8_lossy(&output.stdout);
        assert_eq!(kind(&ours), kind(stdout), "{arguments:?}");
        compared += 1;
    }
    assert!(compared > 40, "only {compared} command lines");
}

/// The recorded files name fixed places and a device of the machine that they were recorded on;
/// each is started in places of its own, on the device that every machine has.
fn moved(file: &[u8], folder: &Path) -> Vec<u8> {
    let mut text = file.to_vec();
    let place = |name: &str| format!("{}/{name}-", folder.display());
    let table = [
        ("/var/lock/", place("lock")),
        ("/var/run/", place("run")),
        ("/var/log/", place("log")),
        ("sync0", "lo".to_owned()),
    ];
    for (from, to) in table {
        let mut out = Vec::new();
        let mut rest = &text[..];
        while let Some(at) = rest.windows(from.len()).position(|part| part == from.as_bytes()) {
            out.extend_from_slice(&rest[..at]);
            out.extend_from_slice(to.as_bytes());
            rest = &rest[at + from.len()..];
        }
        out.extend_from_slice(rest);
        text = out;
    }
    text
}

#[test]
fn recorded_files_that_stop_a_start_stop_ours_with_the_recorded_lines() {
    let expected = fs::read_to_string(vectors().join("config/expected.json")).expect("a file");
    let expected: Value = serde_json::from_str(&expected).expect("JSON");
    let deviations = fs::read_to_string(vectors().join("deviations.json")).expect("the list");
    let deviations: Vec<Value> = serde_json::from_str(&deviations).expect("JSON");
    let accepted = |name: &str| {
        deviations.iter().any(|entry| entry["case"] == name && entry["accepts"] == true)
    };
    let mut compared = 0;
    for (name, case) in expected["cases"].as_object().expect("cases") {
        let class = case["class"].as_str().expect("a class");
        // What makes the original crash is no fault of the file.
        if !name.starts_with("invalid/") || class == "crash" || accepted(name) {
            continue;
        }
        let file = fs::read(vectors().join("config").join(name)).expect("a file");
        let newer = &case["differs_in_1.4.9"];
        let case = if newer["parse_stderr"].is_array() { newer } else { case };
        let lines = match class {
            "start" if case["accepts"] == true => &case["daemon"]["stderr"],
            _ => &case["parse_stderr"],
        };
        let device = |line: &&str| !line.ends_with("0 is an invalid interface");
        let lines = lines.as_array().expect("lines").iter().filter_map(Value::as_str);
        let lines: Vec<_> = lines.filter(device).collect();
        let folder = tempfile::tempdir().expect("a folder");
        let file = if class == "start" { moved(&file, folder.path()) } else { file };
        fs::write(folder.path().join("conf"), file).expect("a copy");
        let output = call(folder.path(), &["-C", "conf"]);
        assert_eq!(output.status.code(), Some(1), "{name}");
        let stderr = masked(&output.stderr);
        // What is to be done about a syntax error is a second line of ours.
        let mut stderr: Vec<_> = stderr.lines().filter(device).collect();
        if let Some(at) = stderr.iter().position(|line| line.ends_with("': syntax error")) {
            stderr.truncate(at + 1);
        }
        assert_eq!(stderr, lines, "{name}");
        let left = fs::read_dir(folder.path()).expect("a folder").count();
        assert_eq!(left, 1, "{name} leaves something behind");
        compared += 1;
    }
    assert!(compared >= 112, "only {compared} files");
}

#[test]
fn a_directory_is_no_configuration() {
    let folder = tempfile::tempdir().expect("a folder");
    assert_eq!(call(folder.path(), &["-C", "/", "-s"]).status.code(), Some(2));
    // Of a check this would mean warnings.
    assert_eq!(call(folder.path(), &["-C", "/", "--check"]).status.code(), Some(1));
}

#[test]
fn what_has_no_end_is_no_configuration() {
    let folder = tempfile::tempdir().expect("a folder");
    let pipe = folder.path().join("pipe");
    let made = Command::new("mkfifo").arg(&pipe).status().expect("mkfifo is there");
    assert!(made.success());
    let comments = |octets: usize| {
        let mut text = vec![b'#'; octets - 1];
        text.push(b'\n');
        text
    };
    fs::write(folder.path().join("large"), comments((16 << 20) + 1)).expect("a file");
    for (file, reason) in [
        ("pipe", "it is no regular file"),
        ("/dev/zero", "it is no regular file"),
        ("large", "it is larger than 16777216 octets"),
    ] {
        for arguments in [&["-C", file, "--check"][..], &["-C", file], &["-C", file, "-s"]] {
            let output = call(folder.path(), arguments);
            assert_eq!(output.status.code(), Some(1), "{arguments:?}");
            let told = format!("[ERROR] can't open config file `{file}': {reason}\n");
            assert_eq!(masked(&output.stderr), told, "{arguments:?}");
        }
    }
    fs::write(folder.path().join("full"), comments(16 << 20)).expect("a file");
    let told = masked(&call(folder.path(), &["-C", "full", "-s"]).stderr);
    assert!(told.contains("can't connect"), "it was read: {told}");
}
