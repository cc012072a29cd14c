//! A peer that tells a node what the test wants it to hear.

use std::net::UdpSocket;

use proto_ctnl::Flow;
use proto_sync::{EncodeOptions, FLOW_MESSAGE_MAX, Kind, encode_flow};
use shardtrack_tests::peer::{Link, Make, Mode, Node, Pair, Setup, sync_address};

/// A node that hears, and the socket of what takes the other one's place.
pub(crate) struct Teller {
    pub(crate) node: Node,
    socket: UdpSocket,
    to: String,
    seq: u32,
    /// Its namespace is the other end of the link.
    _other: Node,
}

impl Teller {
    /// A running node of ours with these lines in the block of its mode.
    pub(crate) fn new(mode_lines: &str) -> Self {
        let mut setup = Setup::new(Make::Ours, Mode::Notrack, Link::Udp);
        setup.mode_lines = mode_lines.into();
        let Pair { a: other, b: mut node } = Pair::new(setup.clone(), setup.clone());
        node.start();
        let from = format!("{}:{}", sync_address(1), setup.port);
        let to = format!("{}:{}", sync_address(2), setup.port);
        let socket = other.ns.enter(|| UdpSocket::bind(from).expect("an address of the node"));
        Self { node, socket, to, seq: 1, _other: other }
    }

    /// Says something about each of `flows`.
    pub(crate) fn tell(&mut self, kind: Kind, flows: &[Flow]) {
        let options = EncodeOptions { window_tracking: false, timeout: true };
        for flow in flows {
            let mut message = [0; FLOW_MESSAGE_MAX];
            let len = encode_flow(kind, flow, &options, &mut message).expect("it fits");
            message[4..8].copy_from_slice(&self.seq.to_be_bytes());
            self.seq += 1;
            self.socket.send_to(&message[..len], &self.to).expect("the link is up");
        }
    }

    /// The member `name` of the node's figures.
    pub(crate) fn figures(&self, name: &str) -> serde_json::Value {
        let all = self.node.client(&["-s", "json"]);
        let mut all: serde_json::Value = serde_json::from_str(&all).expect("figures are JSON");
        all[name].take()
    }
}
