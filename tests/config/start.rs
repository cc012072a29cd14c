//! Every recorded file with which the original starts, and every example, starts here: in a
//! machine like the one of the recording, up to the end in order.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;
use shardtrack_tests::limits::alone;
use shardtrack_tests::need_root;
use shardtrack_tests::netns::Netns;
use shardtrack_tests::peer::Make;

use crate::life::{json, live, machine, vectors};

#[test]
fn recorded_files_start_with_the_recorded_warnings() {
    need_root!();
    let _alone = alone();
    let machines = [machine(), machine()];
    let expected = json(vectors().join("config/expected.json"));
    let deviations = json(vectors().join("deviations.json"));
    let mut known: BTreeMap<&str, &Value> = BTreeMap::new();
    for entry in deviations.as_array().expect("a list") {
        assert!(entry["why"].as_str().is_some_and(|why| !why.is_empty()), "{entry}");
        if let Some(case) = entry["case"].as_str() {
            known.insert(case, entry);
        }
    }
    let cases: Vec<_> = expected["cases"].as_object().expect("cases").iter().collect();
    let judge = |ns: &Netns, (name, case): &(&String, &Value)| {
        let deviation = known.get(name.as_str());
        let starts = deviation.map_or(&case["starts"], |entry| &entry["starts"]);
        if starts != &Value::Bool(true) || case["class"] == "start-needs-kernel-helper" {
            return None;
        }
        let life = live(ns, &vectors().join("config").join(name));
        let lines = deviation.map_or(&case["daemon"]["stderr"], |entry| &entry["stderr"]);
        let lines: Vec<_> =
            lines.as_array().expect("lines").iter().filter_map(Value::as_str).collect();
        let is_right = life.is_whole() && life.told() == lines;
        let wrong = format!("{name}: {:?} {:?}, not {lines:?}", life.status, life.err);
        Some(if is_right { String::new() } else { wrong })
    };
    // A life is mostly waiting; two at a time are no trouble, in places of their own.
    let [first, second] = &machines;
    let (one, two) = cases.split_at(cases.len() / 2);
    let results: Vec<String> = std::thread::scope(|scope| {
        let other =
            scope.spawn(|| two.iter().filter_map(|case| judge(second, case)).collect::<Vec<_>>());
        let mut results: Vec<_> = one.iter().filter_map(|case| judge(first, case)).collect();
        results.extend(other.join().expect("it has its say"));
        results
    });
    let lives = results.len();
    let wrong: Vec<_> = results.into_iter().filter(|wrong| !wrong.is_empty()).collect();
    assert!(wrong.is_empty(), "{}\n{} of {lives}", wrong.join("\n"), wrong.len());
    assert!(lives > 110, "only {lives}");
}

#[test]
fn files_with_helpers_are_refused_with_the_place_of_the_first() {
    need_root!();
    let ns = machine();
    let expected = json(vectors().join("config/expected.json"));
    let deviations = json(vectors().join("deviations.json"));
    let mut files = 0;
    for (name, case) in expected["cases"].as_object().expect("cases") {
        if case["class"] != "start-needs-kernel-helper" {
            continue;
        }
        let entries = deviations.as_array().expect("a list");
        let entry = entries.iter().find(|entry| entry["case"] == name.as_str());
        let lines = entry.and_then(|entry| entry["stderr"].as_array()).expect("an entry");
        let lines: Vec<_> = lines.iter().filter_map(Value::as_str).collect();
        let path = vectors().join("config").join(name);
        let life = live(&ns, &path);
        assert_eq!((life.status, life.told()), (Some(1), lines.clone()), "{name}");
        // The folders that the file names are this machine's here.
        let mut command = ns.command(Make::Ours.program("conntrackd"));
        let output = command.arg("-C").arg(&path).arg("--check").output().expect("it runs");
        let report = String::from_utf8_lossy(&output.stdout).into_owned();
        let text = lines[0].strip_prefix("[ERROR] ").expect("an error");
        let (_, line) = text.rsplit_once(' ').expect("words");
        let finding = format!("{}:{line}:2: error: {text}\n\tremove the section", path.display());
        assert!(report.contains(&finding), "{report} does not say {finding}");
        assert_eq!(output.status.code(), Some(1), "{name}");
        files += 1;
    }
    assert_eq!(files, 4);
}

#[test]
fn examples_start_and_are_clean() {
    need_root!();
    let ns = Netns::new("example");
    for device in ["eth2", "eth3"] {
        ns.add_device(device);
    }
    ns.ip("addr add 192.168.100.1/24 dev eth2");
    ns.ip("addr add 192.168.101.1/24 dev eth3");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../bins/conntrackd/dist");
    let mut count = 0;
    for file in fs::read_dir(&folder).expect("our own folder") {
        let path = file.expect("a file").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if !name.ends_with(".conf") || name == "keepalived.conf" {
            continue;
        }
        let life = live(&ns, &path);
        assert!(life.is_whole(), "{name}: {:?} {:?}", life.out, life.err);
        assert_eq!(life.told(), Vec::<&str>::new(), "{name}");
        let mut command = ns.command(Make::Ours.program("conntrackd"));
        let report = command.arg("-C").arg(&path).arg("--check").output().expect("it runs");
        let report = String::from_utf8_lossy(&report.stdout);
        let clean = report.ends_with(": errors: 0, warnings: 0\n");
        // The kernel's limit of flows is the machine's.
        assert!(clean || report.lines().count() == 3 && report.contains(" HashLimit "), "{report}");
        count += 1;
    }
    assert_eq!(count, 5);
}
