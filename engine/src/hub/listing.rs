//! `-i` without an internal cache: the kernel's table itself, in the form of `conntrack -L`.
//!
//! One reading serves all clients that wait for one when it begins. It waits until they have taken
//! what they were given, but for a short time only: others may want to read the table.

use std::time::{Duration, Instant};

use proto_ctnl::render::{Render, flow_text};
use proto_ctnl::{Content, Flow, Messages};

use super::{Answer, Hub, Then};
use crate::order::{Asker, TableUse};

/// Time that a client has to take a part.
const PATIENCE: Duration = Duration::from_secs(2);

/// A reading that is shown to clients.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Who gets it: those that asked before it began.
    clients: Vec<Asker>,
    /// Who has not taken the last part, and until when it may.
    waiting: Vec<Asker>,
    until: Option<Instant>,
}

impl Listing {
    pub(super) fn has_room(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn forget(&mut self, asker: Asker) {
        self.waiting.retain(|&waiting| waiting != asker);
        if self.waiting.is_empty() {
            self.until = None;
        }
    }

    pub(super) const fn poll_timeout(&self) -> Option<Instant> {
        self.until
    }
}

impl Hub {
    /// The reading for clients begins.
    pub(super) fn list_begins(&mut self) {
        let all = self.readers.iter().filter(|(purpose, _)| *purpose == TableUse::List);
        self.listing.clients = all.map(|&(_, asker)| asker).collect();
    }

    /// A datagram of it.
    pub(super) fn list(&mut self, now: Instant, datagram: &[u8]) {
        let mut text = Vec::new();
        let mut flow = Flow::default();
        for message in Messages::new(datagram).flatten() {
            let Ok(Content::Flow(entry)) = message.content() else { continue };
            flow.clear();
            if entry.write_to(&mut flow).is_err() {
                self.base.netlink.unknown_events += 1;
            } else if self.filter.passes(&flow) {
                flow_text(&flow, &Render::default(), &mut text);
                text.push(b'\n');
            }
        }
        if text.is_empty() {
            return;
        }
        for &asker in &self.listing.clients {
            self.answers.push_back(Answer { asker, bytes: text.clone(), then: Then::More });
        }
        self.listing.waiting.clone_from(&self.listing.clients);
        self.listing.until = (!self.listing.waiting.is_empty()).then(|| now + PATIENCE);
    }

    /// Lets go of clients that do not take what they are given.
    pub(super) fn list_without_slow(&mut self, now: Instant) {
        if self.listing.until.is_none_or(|until| until > now) {
            return;
        }
        self.listing.until = None;
        for asker in std::mem::take(&mut self.listing.waiting) {
            self.listing.clients.retain(|&client| client != asker);
            self.readers.retain(|&(_, reader)| reader != asker);
            self.base.engine.clients_dropped += 1;
            self.failed(asker);
        }
    }

    /// A client has left.
    pub(super) fn list_left(&mut self, asker: Asker) {
        self.listing.clients.retain(|&client| client != asker);
        self.listing.forget(asker);
    }
}
