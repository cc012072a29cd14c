//! Fuzzing without a special compiler: recorded inputs are changed at random and given to every
//! decoder of outside bytes, for `FUZZ_SECONDS` (2 unless set) per target. `FUZZ_SEED` repeats a
//! run. The same bodies are targets of cargo-fuzz in `tests/fuzz`.

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::path::Path;
    use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

    use conntrackd::conf::environment::Environment;
    use serde_json::Value;
    use shardtrack_tests::random::Random;

    fn vectors() -> &'static Path {
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/vectors"))
    }

    fn number(variable: &str) -> Option<u64> {
        std::env::var(variable).ok()?.parse().ok()
    }

    /// Gives changed inputs to `target` until the time is over.
    fn fuzz(name: &str, corpus: &[Vec<u8>], target: impl Fn(&[u8])) {
        assert!(corpus.len() > 20, "only {} inputs to change", corpus.len());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
        let seed = number("FUZZ_SEED").unwrap_or(now);
        let limit = Duration::from_secs(number("FUZZ_SECONDS").unwrap_or(2));
        let mut random = Random::new(seed);
        let begin = Instant::now();
        let mut runs = 0u64;
        for input in corpus {
            target(input);
        }
        while begin.elapsed() < limit {
            let mut input = corpus[random.below(corpus.len())].clone();
            if random.chance(200) {
                // Two inputs in one, cut anywhere.
                let other = &corpus[random.below(corpus.len())];
                input.truncate(random.below(input.len() + 1));
                input.extend_from_slice(&other[random.below(other.len() + 1)..]);
            }
            random.mutate(&mut input);
            if catch_unwind(AssertUnwindSafe(|| target(&input))).is_err() {
                let hex: String = input.iter().map(|byte| format!("{byte:02x}")).collect();
                panic!("{name}, FUZZ_SEED={seed}, run {runs}: input {hex}");
            }
            runs += 1;
        }
        println!("{name}: {runs} runs, seed {seed}");
        assert!(runs > 100, "{name}: only {runs} runs in {limit:?}");
    }

    fn unhex(text: &str) -> Vec<u8> {
        let digits: Vec<_> = text.chars().filter_map(|c| c.to_digit(16)).collect();
        digits.chunks_exact(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
    }

    fn kernel_messages() -> Vec<Vec<u8>> {
        let text = std::fs::read_to_string(vectors().join("ctnetlink/messages.jsonl")).unwrap();
        let hex = |line| Some(unhex(serde_json::from_str::<Value>(line).ok()?["hex"].as_str()?));
        text.lines().filter_map(hex).collect()
    }

    fn datagrams() -> Vec<Vec<u8>> {
        let text = std::fs::read_to_string(vectors().join("sync/vectors.json")).unwrap();
        let scenarios: Value = serde_json::from_str(&text).unwrap();
        let scenarios = scenarios.as_array().unwrap().iter();
        let datagrams = scenarios.filter_map(|s| s["datagrams"].as_array()).flatten();
        datagrams.filter_map(|datagram| Some(unhex(datagram["hex"].as_str()?))).collect()
    }

    #[test]
    fn kernel_message() {
        fuzz("kernel message", &kernel_messages(), proto_ctnl::fuzzing::datagram);
    }

    #[test]
    fn sync_datagram() {
        fuzz("sync datagram", &datagrams(), proto_sync::fuzzing::datagram);
    }

    #[test]
    fn sync_payload() {
        // What is behind the first message's header.
        let corpus: Vec<_> =
            datagrams().iter().filter_map(|d| Some(d.get(8..)?.to_vec())).collect();
        fuzz("sync payload", &corpus, proto_sync::fuzzing::payload);
    }

    #[test]
    fn sync_stream() {
        fuzz("sync stream", &datagrams(), proto_sync::fuzzing::stream);
    }

    /// A machine with one device and one protocol.
    struct Nowhere;

    impl Environment for Nowhere {
        fn has_interface(&self, name: &str) -> bool {
            name == "eth0"
        }

        fn protocol(&self, name: &str) -> Option<u8> {
            (name == "TCP").then_some(6)
        }
    }

    #[test]
    fn configuration() {
        let mut corpus = Vec::new();
        for kind in ["valid", "invalid"] {
            for file in vectors().join("conntrackd/config").join(kind).read_dir().unwrap() {
                corpus.push(std::fs::read(file.unwrap().path()).unwrap());
            }
        }
        fuzz("configuration", &corpus, |input| {
            let reading = conntrackd::conf::read(input, &Nowhere);
            assert!(reading.settings.is_some() || !reading.diagnostics.is_empty());
        });
    }
}
