//! Connections that survive the loss of a firewall: the demonstration as a test (without
//! replication none does), keepalived at work, and the steps of our script.

#[cfg(test)]
mod keepalived;
#[cfg(test)]
mod script;

#[cfg(test)]
mod tests {
    use std::process::Command;

    use shardtrack_tests::limits::alone;
    use shardtrack_tests::need_root;

    #[test]
    fn connections_survive_a_failover_and_die_without_replication() {
        need_root!();
        let _alone = alone();
        let demo = Command::new(env!("CARGO_BIN_EXE_shardtrack-demo")).output();
        let demo = demo.expect("the demonstration was built");
        let told = String::from_utf8_lossy(&demo.stdout);
        assert!(demo.status.success(), "{told}{}", String::from_utf8_lossy(&demo.stderr));
    }
}
