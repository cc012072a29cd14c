//! The `conntrack` command.

fn main() {}
