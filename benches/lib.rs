//! Micro-benchmarks; see the `benches` targets.
