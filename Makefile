# `make test` and `make demo` are all there is to do on a Debian machine with a Rust toolchain.

.PHONY: build test demo bench perf fuzz tools

build:
	cargo build --release --workspace --bins

# What CI runs.
test: tools
	@.ci/test

# Two firewalls, one state, and a failover that connections survive. Needs root.
demo: tools
	cargo build --release --quiet -p conntrackd -p conntrack -p shardtrack-tests --bins
	@cargo run --release --quiet -p shardtrack-tests --bin shardtrack-demo

bench:
	cargo bench --workspace

# Side by side with the original; takes minutes and wants an idle machine. Needs root.
perf: tools
	cargo build --release --quiet --workspace --bins
	@cargo run --release --quiet -p shardtrack-perf -- compare --record

# FUZZ_SECONDS per target.
fuzz:
	FUZZ_SECONDS=$${FUZZ_SECONDS:-60} cargo test --release -p shardtrack-tests --test fuzz -- --nocapture

# What Debian has and we run beside our own.
tools:
	@.ci/tools
