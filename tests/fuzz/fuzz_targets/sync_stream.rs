//! A peer's stream; the first octet says how it is cut.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| proto_sync::fuzzing::stream(bytes));
