//! Reads the recorded messages.

use std::path::{Path, PathBuf};

use serde_json::Value;

/// One recorded message.
pub(crate) struct Vector {
    /// Running number.
    pub(crate) id: u64,
    /// What was done.
    pub(crate) scenario: String,
    /// What the message is, in the recorder's words.
    pub(crate) kind: String,
    /// The message.
    pub(crate) bytes: Vec<u8>,
    /// Its independent decoding.
    pub(crate) decoded: Value,
}

impl Vector {
    /// What identifies the vector in a failure.
    pub(crate) fn label(&self) -> String {
        format!("message {} ({}, {})", self.id, self.scenario, self.kind)
    }

    /// The outermost attributes as recorded.
    pub(crate) fn attrs(&self) -> &[Value] {
        self.decoded["attrs"].as_array().map_or(&[], Vec::as_slice)
    }

    /// A number of the decoding.
    pub(crate) fn number(&self, key: &str) -> u64 {
        self.decoded[key].as_u64().unwrap_or_else(|| panic!("{}: no {key}", self.label()))
    }
}

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors/ctnetlink").join(name)
}

/// The lines of a file of JSON values.
pub(crate) fn lines(name: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(path(name)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Octets written as hexadecimal digits.
pub(crate) fn unhex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2);
    digits.map(|d| u8::from_str_radix(std::str::from_utf8(d).unwrap(), 16).unwrap()).collect()
}

/// All recorded messages.
pub(crate) fn vectors() -> Vec<Vector> {
    let vectors: Vec<_> = lines("messages.jsonl")
        .into_iter()
        .map(|line| Vector {
            id: line["id"].as_u64().unwrap(),
            scenario: line["scenario"].as_str().unwrap().to_owned(),
            kind: line["kind"].as_str().unwrap().to_owned(),
            bytes: unhex(line["hex"].as_str().unwrap()),
            decoded: line["decoded"].clone(),
        })
        .collect();
    assert!(vectors.len() >= 606, "{} messages", vectors.len());
    vectors
}
