//! What `-o json` prints is as the schema says.

use std::path::Path;

use serde_json::{Value, json};
use shardtrack_tests::need_root;

use crate::features::TABLE;
use crate::script::Bench;

/// An expectation of the flow that our own program makes.
const EXPECTATION: &str = "$CT -I expect -p udp -s 127.0.0.1 -d 127.0.0.1 --sport 4000 --dport 69 \
    --tuple-src 127.0.0.1 --tuple-dst 127.0.0.1 --tuple-port-src 5 --tuple-port-dst 6 \
    --mask-src 255.255.255.255 --mask-dst 255.255.255.255 --mask-port-src 0 --mask-port-dst 65535 -t 300";

/// Every command that can print JSON, with what happens beside it.
#[test]
fn all_commands() {
    need_root!();
    let bench = Bench::new();
    let schema = schema();
    let get = "-G -p tcp -s 192.0.2.1 -d 198.51.100.1 --sport 1000 --dport 80";
    let expected = "-G expect -p udp -s 127.0.0.1 -d 127.0.0.1 --sport 5 --dport 6 \
                    --reply-port-src 1 --reply-port-dst 2";
    let expected_gone = &expected.replace("-G", "-D");
    let made = "$CT -I -p udp -s 10.0.0.1 -d 10.0.0.2 --sport 1 --dport 2 -t 50";
    for (line, during, lines) in [
        ("-L", "", 8),
        ("-L -o id,ktimestamp,timestamp,labels", "", 8),
        ("-L -o extended", "", 8),
        ("-L --count-by source", "", 1),
        (get, "", 1),
        ("-D -p tcp", "", 3),
        ("-U -m 5", "", 8),
        ("-U -t 5", "", 8),
        ("-S", "", 1),
        ("-C", "", 1),
        ("-C expect", "", 1),
        ("-S expect", "", 1),
        ("-L expect", "", 1),
        (expected, "", 1),
        (expected_gone, "", 1),
        ("-E -o id,timestamp,ktimestamp,labels", made, 1),
        ("-E -e DESTROY", "$CT -D -p tcp", 3),
        ("-E --snapshot", made, 9),
        ("-E expect -o timestamp", "$CT -F expect", 1),
    ] {
        let master = format!(
            "{} -I -p udp -s 127.0.0.1 -d 127.0.0.1 --sport 4000 --dport 69 -t 100 --helper tftp",
            bench.program_path()
        );
        let mut setup: Vec<&str> = TABLE.to_vec();
        setup.extend([master.as_str(), EXPECTATION]);
        let argv: Vec<&str> = line.split_whitespace().chain(["-o", "json"]).collect();
        let mut case = json!({ "setup": setup, "argv": argv });
        if !during.is_empty() {
            case["during"] = json!([during]);
            case["signal"] = json!("INT");
        }
        let seen = bench.run(&case);
        assert_eq!(seen.exit, 0, "{line}: {seen:?}");
        let shown = seen.stdout.lines().count();
        assert!(shown >= lines, "{line}: {seen:?}");
        for object in seen.stdout.lines() {
            let object: Value = serde_json::from_str(object).unwrap();
            for (key, value) in object.as_object().unwrap() {
                let property = &schema["properties"][key];
                assert!(is_of(value, property), "{line}: {key} is {value}");
            }
        }
    }
}

/// The original says nothing of what it removes, and takes no form for it.
#[test]
fn a_removed_expectation_is_shown_if_that_is_asked_for() {
    need_root!();
    let bench = Bench::new();
    let master =
        "$CT -I -p udp -s 127.0.0.1 -d 127.0.0.1 --sport 4000 --dport 69 -t 100 --helper tftp";
    let setup = [master.replace("$CT", &bench.program_path()), EXPECTATION.to_owned()];
    let run = |port: &str, form: &str| {
        let line = format!(
            "-D expect -p udp -s 127.0.0.1 -d 127.0.0.1 --sport 5 --dport {port} \
             --reply-port-src 1 --reply-port-dst 2 {form}"
        );
        let argv: Vec<&str> = line.split_whitespace().collect();
        bench.run(&json!({ "setup": setup, "argv": argv, "after": ["$CT -C expect"] }))
    };
    let seen = run("6", "-o json,id");
    let object: Value = serde_json::from_str(&seen.stdout).unwrap();
    assert_eq!((seen.exit, &object["dport"], &object["helper"]), (0, &json!(6), &json!("tftp")));
    assert!(object["id"].is_u64() && seen.after.trim() == "0", "{seen:?}");
    let seen = run("6", "");
    assert_eq!((seen.exit, seen.stdout.as_str(), seen.after.trim()), (0, "", "0"));
    for form in ["-o xml", "-o id", "-o json,xml"] {
        let seen = run("6", form);
        assert_eq!((seen.stdout.as_str(), seen.after.trim()), ("", "1"), "{form}: {seen:?}");
        assert_ne!(seen.exit, 0, "{form}: {seen:?}");
    }
    let seen = run("7", "-o json");
    assert_eq!((seen.exit, seen.stdout.as_str(), seen.after.trim()), (1, "", "1"), "{seen:?}");
    assert!(seen.stderr.ends_with("Operation failed: No such file or directory\n"), "{seen:?}");
}

fn schema() -> Value {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../bins/conntrack/conntrack.schema.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn is_of(value: &Value, property: &Value) -> bool {
    if let Some(values) = property["enum"].as_array() {
        return values.contains(value);
    }
    let is = |kind: &Value| match kind.as_str() {
        Some("integer") => value.is_u64(),
        Some("string") => value.is_string(),
        Some("null") => value.is_null(),
        Some("array") => value.as_array().is_some_and(|a| a.iter().all(Value::is_string)),
        _ => false,
    };
    property["type"].as_array().map_or_else(|| is(&property["type"]), |kinds| kinds.iter().any(is))
}
