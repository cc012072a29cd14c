//! The stage: a client and a server with two firewalls between them.
//!
//! ```text
//!  client ── bridge ──┬── fw1 ──┬── bridge ── server
//!   10.1.0.10         │    │    │             10.2.0.10
//!                     │   sync  │
//!                     │    │    │
//!                     └── fw2 ──┘
//! ```
//!
//! The bridges are inside the client and the server. Whichever firewall is active owns 10.1.0.1
//! and 10.2.0.1, and a virtual hardware address on either side unless keepalived is at work.

use crate::netns::Netns;
use crate::peer::{BASE_RULES, Node, SYNC_DEVICE, Setup};

/// Address of the server.
pub const SERVER: &str = "10.2.0.10";
/// Virtual hardware addresses of the active firewall, inside and outside.
const VIRTUAL_MAC: [(&str, &str, &str); 2] =
    [("in0", "10.1.0.1/24", "02:00:5e:00:01:01"), ("out0", "10.2.0.1/24", "02:00:5e:00:01:02")];

/// All four namespaces.
#[derive(Debug)]
pub struct Stage {
    /// Opens the connections.
    pub client: Netns,
    /// Answers them.
    pub server: Netns,
    /// Active at first.
    pub fw1: Node,
    /// Takes over.
    pub fw2: Node,
}

impl Stage {
    /// Builds everything; no daemon runs yet and no firewall is active.
    pub fn new(setup: Setup) -> Self {
        let stage = Self {
            client: Netns::new("client"),
            server: Netns::new("server"),
            fw1: Node::in_namespace(1, setup.clone(), Netns::new("fw1")),
            fw2: Node::in_namespace(2, setup, Netns::new("fw2")),
        };
        for (ns, address) in [(&stage.client, "10.1.0.10/24"), (&stage.server, "10.2.0.10/24")] {
            ns.ip("link add br0 type bridge");
            ns.ip(&format!("addr add {address} dev br0"));
            ns.ip("link set br0 up");
        }
        for (node, port) in [(&stage.fw1, "port1"), (&stage.fw2, "port2")] {
            for (end, device) in [(&stage.client, "in0"), (&stage.server, "out0")] {
                Netns::wire((end, port, &[]), (&node.ns, device, &[]));
                end.ip(&format!("link set {port} master br0"));
                node.ns.sysctl(&format!("net/ipv4/conf/{device}/arp_notify"), 1);
            }
            node.ns.nft(BASE_RULES);
            node.ns.nft(FIREWALL_RULES);
            node.ns.sysctl("net/ipv4/ip_forward", 1);
            // A connection from whose middle the firewall sees packets first is not one.
            node.ns.sysctl("net/netfilter/nf_conntrack_tcp_loose", 0);
        }
        Netns::wire(
            (&stage.fw1.ns, SYNC_DEVICE, &["10.99.0.1/24"]),
            (&stage.fw2.ns, SYNC_DEVICE, &["10.99.0.2/24"]),
        );
        // Only the client knows a way to the other side: the server answers the address that
        // its connections come from.
        stage.client.ip("route add default via 10.1.0.1");
        // Nobody listens there, and nobody shall say so.
        stage.server.nft("table ip quiet {\nchain in {\ntype filter hook input priority 0\nudp dport 10000-65535 drop\n}\n}\n");
        stage
    }
}

/// Takes fw1 off all its segments and kills its daemon, as losing power does.
pub fn cut_off(client: &Netns, server: &Netns, fw1: &mut Node, fw2: &Node) {
    for end in [client, server] {
        end.ip("link set port1 down");
    }
    fw2.ns.ip(&format!("link set {SYNC_DEVICE} down"));
    fw1.kill9();
}

/// Gives a firewall the virtual addresses. Setting the hardware address makes the kernel announce
/// it, so the bridges learn the new port at once.
pub fn activate(node: &Node) {
    for (device, address, mac) in VIRTUAL_MAC {
        node.ns.ip(&format!("addr add {address} dev {device}"));
        node.ns.ip(&format!("link set {device} address {mac}"));
    }
}

/// What is not tracked is dropped: in the forward chain because it is no part of a connection, in
/// the input chain so that the firewall does not answer it with a reset.
const FIREWALL_RULES: &str = r#"
table ip firewall {
	chain forward {
		type filter hook forward priority filter; policy drop;
		ct state established,related accept
		iifname "in0" tcp flags & (fin|syn|rst|ack) == syn ct state new accept
		iifname "in0" meta l4proto { udp, icmp } ct state new accept
		counter name untracked
	}
	chain input {
		type filter hook input priority filter; policy accept;
		iifname { "in0", "out0" } meta l4proto { tcp, udp } drop
	}
	chain translate {
		type nat hook postrouting priority srcnat;
		oifname "out0" ip saddr 10.1.0.0/24 snat to 10.2.0.1
	}
	counter untracked { }
}
"#;
