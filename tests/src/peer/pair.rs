//! Two nodes joined by sync links.

use std::time::Duration;

use super::address::{link_local_address_of, sync_address_of, sync_address6_of, sync_device};
use super::make::Make;
use super::node::Node;
use super::setup::{Link, Mode, Setup};
use crate::cond::wait_until;
use crate::netns::Netns;

/// Two nodes joined by a sync link.
#[derive(Debug)]
pub struct Pair {
    /// Node 1.
    pub a: Node,
    /// Node 2.
    pub b: Node,
}

impl Pair {
    /// Two nodes that do not run yet.
    pub fn new(a: Setup, b: Setup) -> Self {
        let pair = Self { a: Node::new(1, a), b: Node::new(2, b) };
        (0..pair.a.setup.links).for_each(|n| pair.wire(n));
        pair
    }

    /// Makes sync link `n`.
    pub fn wire(&self, n: u8) {
        let device = sync_device(n);
        let (one, two) = (addresses(n, 1), addresses(n, 2));
        Netns::wire(
            (&self.a.ns, &device, &one.each_ref().map(String::as_str)),
            (&self.b.ns, &device, &two.each_ref().map(String::as_str)),
        );
    }

    /// Gives the ends of sync link `n` their addresses again, after they have lost them.
    pub fn address(&self, n: u8) {
        let device = sync_device(n);
        for (node, index) in [(&self.a, 1), (&self.b, 2)] {
            for address in addresses(n, index) {
                node.ns.ip(&format!("addr replace {address} dev {device} nodad"));
            }
        }
    }

    /// Two running nodes of these makes.
    pub fn running(a: Make, b: Make, mode: Mode, link: Link) -> Self {
        let mut pair = Self::new(Setup::new(a, mode, link), Setup::new(b, mode, link));
        pair.start();
        pair
    }

    /// Starts both and waits until they are connected.
    ///
    /// # Panics
    /// If one of them does not come up.
    #[track_caller]
    pub fn start(&mut self) {
        self.a.start();
        self.b.start();
        // In mode ALARM the original does not connect before it has something to say.
        let silent = self.a.setup.mode == Mode::Alarm;
        if self.a.setup.link.is_tcp() && !silent {
            for node in [&self.a, &self.b] {
                wait_until(Duration::from_secs(20), "the TCP link connects", || {
                    let stats = node.request(21).unwrap_or_default();
                    stats.contains("server=connected client=connected")
                });
            }
        }
    }
}

/// Addresses of node `index` on sync link `n`, with the lengths of their prefixes.
fn addresses(n: u8, index: u8) -> [String; 3] {
    [
        format!("{}/24", sync_address_of(n, index)),
        format!("{}/64", sync_address6_of(n, index)),
        format!("{}/64", link_local_address_of(n, index)),
    ]
}
