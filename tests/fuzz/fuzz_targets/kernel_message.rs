//! Messages of the kernel, and requests.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| proto_ctnl::fuzzing::datagram(bytes));
