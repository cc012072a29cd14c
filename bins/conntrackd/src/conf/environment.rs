//! What the meaning of a configuration depends on outside of the file.

use std::fs;

/// Answers questions about the machine.
pub trait Environment {
    /// Whether there is a network device of this name.
    fn has_interface(&self, name: &str) -> bool;
    /// The IP protocol of this name.
    fn protocol(&self, name: &str) -> Option<u8>;
}

/// This machine, in the network namespace of the process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Machine;

impl Environment for Machine {
    fn has_interface(&self, name: &str) -> bool {
        crate::system::interface_index(name).is_some()
    }

    fn protocol(&self, name: &str) -> Option<u8> {
        match fs::read_to_string("/etc/protocols") {
            Ok(table) => protocol_in(&table, name).or_else(|| well_known(name)),
            Err(_) => well_known(name),
        }
    }
}

/// Looks a name or an alias up in a table of the form of `/etc/protocols`.
fn protocol_in(table: &str, name: &str) -> Option<u8> {
    table.lines().find_map(|line| {
        let mut words = line.split('#').next()?.split_ascii_whitespace();
        let official = words.next()?;
        let number = words.next()?.parse().ok()?;
        (official == name || words.any(|alias| alias == name)).then_some(number)
    })
}

/// The protocols that flows have, for machines without a table.
fn well_known(name: &str) -> Option<u8> {
    match name {
        "icmp" | "ICMP" => Some(1),
        "igmp" | "IGMP" => Some(2),
        "tcp" | "TCP" => Some(6),
        "udp" | "UDP" => Some(17),
        "dccp" | "DCCP" => Some(33),
        "gre" | "GRE" => Some(47),
        "esp" | "ESP" | "IPSEC-ESP" => Some(50),
        "ah" | "AH" | "IPSEC-AH" => Some(51),
        "ipv6-icmp" | "IPv6-ICMP" => Some(58),
        "ospf" | "OSPFIGP" => Some(89),
        "vrrp" | "VRRP" => Some(112),
        "sctp" | "SCTP" => Some(132),
        "udplite" | "UDPLite" => Some(136),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_aliases_are_found_in_their_exact_spelling() {
        let table = "# comment\nicmp 1 ICMP # internet control\nipv6-icmp\t58\tIPv6-ICMP\nbad x\n";
        assert_eq!(protocol_in(table, "icmp"), Some(1));
        assert_eq!(protocol_in(table, "IPv6-ICMP"), Some(58));
        assert_eq!(protocol_in(table, "Icmp"), None);
        assert_eq!(protocol_in(table, "internet"), None);
    }
}
