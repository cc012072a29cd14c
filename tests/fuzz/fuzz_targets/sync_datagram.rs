//! Datagrams of a peer, given to every mode.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| proto_sync::fuzzing::datagram(bytes));
