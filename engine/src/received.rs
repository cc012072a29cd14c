//! What the peer reported, as a shard takes it: into the external caches, or into the kernel.

use proto_ctnl::Expect;
use proto_sync::{ExpectPayload, FlowPayload, Kind, Messages};

use crate::cache::TOGETHER;
use crate::clock::Moment;
use crate::index::Key;
use crate::kernel::InjectKind;
use crate::shard::Shard;

/// Flows of the peer that wait to be stored together.
struct Gathered<'a> {
    flows: [Option<(Kind, FlowPayload<'a>)>; TOGETHER],
    len: usize,
}

impl Shard {
    /// Messages of the peer, one behind the other. The session has checked them.
    pub fn on_peer_messages(&mut self, now: Moment, bytes: &[u8]) {
        let mut gathered = Gathered { flows: [None; TOGETHER], len: 0 };
        for message in Messages::new(bytes).flatten() {
            let Some(kind) = Kind::from_type(message.message_type) else { continue };
            if kind.is_expect() {
                // Its master may be among them.
                self.store(now, &mut gathered);
                if let Ok(payload) = ExpectPayload::parse(message.payload()) {
                    self.on_peer_expect(now, kind, &payload);
                }
            } else if let Ok(payload) = FlowPayload::parse(message.payload()) {
                if gathered.len == TOGETHER {
                    self.store(now, &mut gathered);
                }
                if let Some(place) = gathered.flows.get_mut(gathered.len) {
                    *place = Some((kind, payload));
                    gathered.len += 1;
                }
            }
        }
        self.store(now, &mut gathered);
    }

    fn store(&mut self, now: Moment, gathered: &mut Gathered<'_>) {
        let Some(flows) = gathered.flows.get(..gathered.len) else { return };
        if !self.inject {
            let payloads = flows.iter().flatten().map(|(_, payload)| payload);
            self.caches.external.foresee(payloads.map(|p| Key::new(&p.orig_tuple(), p.zone())));
        }
        for (kind, payload) in flows.iter().flatten() {
            self.on_peer_flow(now, *kind, payload);
        }
        gathered.len = 0;
    }

    fn on_peer_flow(&mut self, now: Moment, kind: Kind, payload: &FlowPayload<'_>) {
        self.counters.received += 1;
        let flow = &mut self.scratch;
        flow.clear();
        payload.write_to(flow);
        if self.inject {
            self.refused |= self.kernel.inject(inject_kind(kind), flow).is_err();
            return;
        }
        let external = &mut self.caches.external;
        // What does not fit is counted by the cache.
        let _full = match kind {
            Kind::Delete => {
                if let Some(index) = external.find(&flow.orig, payload.zone()) {
                    external.remove(index);
                }
                return;
            }
            Kind::New => external.replace(flow, now.secs),
            _ => external.merge(flow, now.secs),
        };
    }

    fn on_peer_expect(&mut self, now: Moment, kind: Kind, payload: &ExpectPayload<'_>) {
        self.counters.received += 1;
        self.expect = Expect::default();
        payload.write_to(&mut self.expect);
        if self.inject {
            let injected = self.kernel.inject_expect(inject_kind(kind), &self.expect);
            self.refused |= injected.is_err();
            return;
        }
        let expects = &mut self.caches.expects_external;
        let _full = match kind {
            Kind::ExpectDelete => {
                if let Some(index) = expects.find(&self.expect) {
                    expects.remove(index);
                }
                return;
            }
            Kind::ExpectNew => expects.replace(&self.expect, now.secs),
            _ => expects.merge(&self.expect, now.secs),
        };
    }
}

const fn inject_kind(kind: Kind) -> InjectKind {
    match kind {
        Kind::New | Kind::ExpectNew => InjectKind::New,
        Kind::Update | Kind::ExpectUpdate => InjectKind::Update,
        Kind::Delete | Kind::ExpectDelete => InjectKind::Delete,
    }
}
