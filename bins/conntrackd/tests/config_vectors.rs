//! Every recorded configuration file is judged as the original judged it.

use std::fs;
use std::path::{Path, PathBuf};

use conntrackd::conf::environment::{Environment, Machine};
use conntrackd::conf::{self, Reading};
use engine::log::Level;
use serde_json::Value;

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors/conntrackd/config")
}

/// The machine that the files were recorded on.
struct Recorded;

impl Environment for Recorded {
    fn has_interface(&self, name: &str) -> bool {
        matches!(name, "sync0" | "sync1" | "sync0.7" | "lo")
    }

    fn protocol(&self, name: &str) -> Option<u8> {
        Machine.protocol(name)
    }
}

/// The lines as they come out on the original's standard error.
fn printed(reading: &Reading) -> Vec<String> {
    let mut all = String::new();
    for diagnostic in &reading.diagnostics {
        let level = if diagnostic.level == Level::Error { "[ERROR]" } else { "[warning]" };
        all += &format!("{level} {}\n", String::from_utf8_lossy(&diagnostic.text));
    }
    all.lines().map(str::to_owned).collect()
}

fn lines(case: &Value) -> Vec<String> {
    let lines = case["parse_stderr"].as_array().expect("a list of lines");
    lines.iter().map(|line| line.as_str().expect("a line").to_owned()).collect()
}

#[test]
fn files_are_accepted_and_refused_with_the_recorded_lines() {
    let text = fs::read_to_string(vectors().join("expected.json")).expect("the expectations");
    let expected: Value = serde_json::from_str(&text).expect("JSON");
    let cases = expected["cases"].as_object().expect("cases");
    let deviations = fs::read_to_string(vectors().join("../deviations.json")).expect("the list");
    let deviations: Value = serde_json::from_str(&deviations).expect("JSON");
    let accepted_here = |name: &str| {
        let deviations = deviations.as_array().expect("a list");
        deviations.iter().any(|entry| entry["case"] == name && entry["accepts"] == true)
    };
    let mut wrong = Vec::new();
    for (name, case) in cases {
        // Where the two releases differ, the newer one is followed.
        let newer = &case["differs_in_1.4.9"];
        let case = if newer["parse_stderr"].is_array() { newer } else { case };
        let file = fs::read(vectors().join(name)).expect("a file");
        let reading = conf::read(&file, &Recorded);
        let accepts = case["accepts"].as_bool().expect("a verdict");
        let (accepts, lines) =
            if accepted_here(name) { (true, Vec::new()) } else { (accepts, lines(case)) };
        if reading.settings.is_some() != accepts || printed(&reading) != lines {
            wrong.push(format!("{name}: {:?}, not {lines:?}", printed(&reading)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let files =
        ["valid", "invalid"].map(|kind| fs::read_dir(vectors().join(kind)).map(Iterator::count));
    let files: usize = files.into_iter().map(|count| count.expect("a folder")).sum();
    assert_eq!(files, cases.len());
}
