//! The `conntrackd` command.

fn main() {}
