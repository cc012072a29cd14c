//! Attributes of a peer's message.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| proto_sync::fuzzing::payload(bytes));
