//! What the peer reported, as a shard takes it: into the external caches, or into the kernel.

use proto_ctnl::Expect;
use proto_sync::{ExpectPayload, FlowPayload, Kind, Messages};

use crate::cache::TOGETHER;
use crate::clock::Moment;
use crate::index::{Hashed, Key};
use crate::kernel::InjectKind;
use crate::shard::Shard;

/// Flows of the peer that wait to be stored together.
struct Gathered<'a> {
    flows: [(Kind, FlowPayload<'a>); TOGETHER],
    len: usize,
}

impl Gathered<'_> {
    const NONE: Self = Self { flows: [(Kind::New, FlowPayload::EMPTY); TOGETHER], len: 0 };
}

impl Shard {
    /// Messages of the peer, one behind the other. The session has checked them.
    pub fn on_peer_messages(&mut self, now: Moment, bytes: &[u8]) {
        if self.inject {
            if !self.inbox.push(bytes) {
                self.kernel.refuse_injections(Messages::new(bytes).count() as u64);
                self.refused = true;
            }
            self.inject_more();
            return;
        }
        let mut gathered = Gathered::NONE;
        for message in Messages::new(bytes).flatten() {
            let Some(kind) = Kind::from_type(message.message_type) else { continue };
            if kind.is_expect() {
                // Its master may be among them.
                self.store(now, &mut gathered);
                if let Ok(payload) = ExpectPayload::parse(message.payload()) {
                    self.on_peer_expect(now, kind, &payload);
                }
            } else {
                if gathered.len == TOGETHER {
                    self.store(now, &mut gathered);
                }
                if let Some((of, payload)) = gathered.flows.get_mut(gathered.len)
                    && payload.read(message.payload(), &mut self.layouts).is_ok()
                {
                    *of = kind;
                    gathered.len += 1;
                }
            }
        }
        self.store(now, &mut gathered);
    }

    fn store(&mut self, now: Moment, gathered: &mut Gathered<'_>) {
        let Some(flows) = gathered.flows.get(..gathered.len) else { return };
        self.counters.received += flows.len() as u64;
        let keys = flows.iter().map(|(_, p)| Key::new(&p.orig_tuple(), p.zone()));
        let hashed = self.caches.external.foresee(keys);
        for ((kind, payload), at) in flows.iter().zip(&hashed) {
            self.on_peer_flow(now, *kind, payload, at);
        }
        gathered.len = 0;
    }

    /// Injects what waits, as far as the kernel's side has room.
    pub(crate) fn inject_more(&mut self) {
        let Self { inbox, layouts, kernel, counters, scratch, expect, refused, .. } = self;
        if kernel.inject_room() == 0 {
            return;
        }
        inbox.drain(|message| {
            counters.received += 1;
            let Some(kind) = Kind::from_type(message.message_type) else { return true };
            let injected = if kind.is_expect() {
                let Ok(payload) = ExpectPayload::parse(message.payload()) else { return true };
                *expect = Expect::default();
                payload.write_to(expect);
                kernel.inject_expect(inject_kind(kind), expect)
            } else {
                let mut payload = FlowPayload::EMPTY;
                if payload.read(message.payload(), layouts).is_err() {
                    return true;
                }
                scratch.clear();
                payload.write_to(scratch);
                kernel.inject(inject_kind(kind), scratch)
            };
            *refused |= injected.is_err();
            kernel.inject_room() > 0
        });
    }

    /// Forgets what the peer told and the kernel has yet to take. Ends are kept: who takes its flows
    /// at once has them already, and will not be told again that they have ended.
    pub(crate) fn forget_waiting(&mut self) {
        let is_end = |kind| matches!(kind, Some(Kind::Delete | Kind::ExpectDelete));
        self.inbox.retain(|message| is_end(Kind::from_type(message.message_type)));
        self.kernel.forget_injections();
    }

    fn on_peer_flow(&mut self, now: Moment, kind: Kind, payload: &FlowPayload<'_>, at: &Hashed) {
        let external = &mut self.caches.external;
        if kind == Kind::Delete {
            if let Some(index) = external.find_hashed(at) {
                external.remove(index);
            }
            return;
        }
        let flow = &mut self.scratch;
        flow.clear();
        payload.write_to(flow);
        // What does not fit is counted by the cache.
        let _full = match kind {
            Kind::New => external.replace_at(at, flow, now.secs),
            _ => external.merge_at(at, flow, now.secs),
        };
    }

    fn on_peer_expect(&mut self, now: Moment, kind: Kind, payload: &ExpectPayload<'_>) {
        self.counters.received += 1;
        self.expect = Expect::default();
        payload.write_to(&mut self.expect);
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

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::time::{Duration, Instant};

    use proto_ctnl::consts::{flag, msg};
    use proto_ctnl::{
        Encoder, Flow, FlowMasks, L4, Messages as Requests, Present, Status, Tuple, proto,
    };
    use proto_sync::{EncodeOptions, Next, encode_flow};

    use super::*;
    use crate::config::Expectations;

    use crate::kernel::errno::EPERM;
    use crate::kernel::testing::answer;
    use crate::kernel::{KernelConfig, Ports};
    use crate::mesh::Content;
    use crate::order::{Caches, Order, Outcome, TableUse};
    use crate::shard::ShardConfig;

    const PORTS: Ports = Ports { write: 1, flush: 2, audit: 3 };
    const ENCODE: EncodeOptions = EncodeOptions { window_tracking: false, timeout: true };

    /// A shard that puts what it is told into the kernel, and a moment.
    fn injecting() -> (Shard, Moment) {
        let began = Instant::now();
        let config = ShardConfig {
            id: 0,
            limit: 100,
            seed: Some(1),
            encode: ENCODE,
            acknowledged: false,
            replicates: true,
            bypass: false,
            alarm: None,
            kernel: KernelConfig { inject: true, inject_queue_max: 3, ..KernelConfig::default() },
            expectations: Expectations::Off,
            cpu: None,
            cpu_time: || Duration::ZERO,
            flow_log: None,
        };
        (Shard::new(config, PORTS, began), Moment::new(began, began))
    }

    fn flow(port: u16) -> Flow {
        let host = |n| IpAddr::V4(Ipv4Addr::new(10, 0, 0, n));
        Flow {
            present: Present(Present::ORIG.0 | Present::STATUS.0 | Present::TIMEOUT.0),
            orig: Tuple { src: host(1), dst: host(2), proto: proto::UDP, l4: L4::ports(port, 9) },
            status: Status(0xe),
            timeout: 30,
            ..Flow::default()
        }
    }

    /// The peer says something of the flow with this port.
    fn tell(shard: &mut Shard, now: Moment, kind: Kind, port: u16) {
        let mut buffer = [0; 1024];
        let len = encode_flow(kind, &flow(port), &ENCODE, &mut buffer).unwrap();
        shard.on_peer_messages(now, &buffer[..len]);
    }

    /// What the kernel has yet to take is what stands for the external cache.
    #[test]
    fn a_flush_forgets_what_waits_for_the_kernel_but_for_ends() {
        let (mut shard, now) = injecting();
        let told = [(Kind::New, 1), (Kind::Delete, 2), (Kind::Update, 3), (Kind::New, 4)];
        for (kind, port) in told.into_iter().chain([(Kind::Delete, 5), (Kind::New, 6)]) {
            tell(&mut shard, now, kind, port);
        }
        let external = Caches { internal: false, external: true, expectations: false };
        shard.order(now, Order::Flush(external));
        shard.work(now.at);
        let mut buffer = vec![0; 4096];
        let send = shard.poll_kernel(now.at, &mut buffer).unwrap();
        let asked = Requests::new(&buffer[..send.len]).map(|message| message.unwrap().kind);
        assert_eq!(asked.collect::<Vec<_>>(), [msg::CT_DELETE; 2]);
    }

    #[test]
    fn what_the_kernel_refuses_is_counted_from_the_order_on() {
        let (mut shard, now) = injecting();
        let refused = |shard: &mut Shard, port| {
            tell(shard, now, Kind::New, port);
            let mut buffer = vec![0; 4096];
            let send = shard.poll_kernel(now.at, &mut buffer).unwrap();
            for request in Requests::new(&buffer[..send.len]) {
                shard.on_kernel_answer(now.at, &answer(request.unwrap().bytes, EPERM));
            }
            shard.work(now.at);
        };
        refused(&mut shard, 1);
        tell(&mut shard, now, Kind::New, 2);
        shard.order(now, Order::Settle);
        refused(&mut shard, 3);
        let outcomes: Vec<_> = std::iter::from_fn(|| shard.poll_outcome()).collect();
        let settled = |outcome: &Outcome| match outcome {
            Outcome::Settled { failed } => Some(*failed),
            _ => None,
        };
        assert_eq!(outcomes.iter().find_map(settled), Some(2), "{outcomes:?}");
    }

    /// An event of the kernel that a request from this port caused.
    fn event(shard: &mut Shard, now: Moment, flow: &Flow, kind: u16, flags: u16, port: u32) {
        let mut buffer = [0; 1024];
        let mut encoder = Encoder::new(&mut buffer);
        encoder.flow_new(flow, FlowMasks::default(), flags, 0).unwrap();
        let mut message = encoder.bytes().to_vec();
        message[4..6].copy_from_slice(&kind.to_ne_bytes());
        message[6..8].copy_from_slice(&flags.to_ne_bytes());
        message[12..16].copy_from_slice(&port.to_ne_bytes());
        shard.on_kernel_datagram(now, Content::Events, &message);
    }

    const NEW: u16 = flag::CREATE | flag::EXCL;

    /// How much the shard has to tell its peer.
    fn told(shard: &mut Shard) -> usize {
        let mut room = [0; 1024];
        let next = || matches!(shard.next_change(&mut room), Next::Message { .. }).then_some(());
        std::iter::from_fn(next).count()
    }

    /// What the peer ended may have begun there again: an end that is told back would be of that.
    #[test]
    fn what_the_peer_ended_is_told_to_it_by_nobody() {
        let (mut shard, now) = injecting();
        event(&mut shard, now, &flow(1), msg::CT_NEW, NEW, 0);
        assert_eq!(told(&mut shard), 1);
        event(&mut shard, now, &flow(1), msg::CT_NEW, 0, 0);
        event(&mut shard, now, &flow(1), msg::CT_DELETE, 0, PORTS.write);
        shard.order(now, Order::Bulk { followed: true });
        shard.work(now.at);
        assert_eq!(told(&mut shard), 0);
    }

    /// It may be a stale word of a peer that took the flow for its own when it started, and would keep
    /// it.
    #[test]
    fn the_end_of_an_own_flow_is_told_even_if_the_peer_began_one_meanwhile() {
        let (mut shard, now) = injecting();
        event(&mut shard, now, &flow(1), msg::CT_NEW, NEW, 0);
        assert_eq!(told(&mut shard), 1);
        event(&mut shard, now, &flow(1), msg::CT_DELETE, 0, 0);
        event(&mut shard, now, &flow(1), msg::CT_NEW, NEW, PORTS.write);
        assert_eq!(told(&mut shard), 1);
    }

    /// A flow of the peer is taken for an own one if the kernel's table is read.
    #[test]
    fn what_the_peer_changes_is_followed_where_it_is_known() {
        let (mut shard, now) = injecting();
        event(&mut shard, now, &flow(1), msg::CT_NEW, NEW, 0);
        assert_eq!(told(&mut shard), 1);
        for flags in [0, NEW] {
            for port in [1, 2] {
                let mut changed = flow(port);
                changed.mark = 7;
                changed.present.insert(Present::MARK);
                event(&mut shard, now, &changed, msg::CT_NEW, flags, PORTS.write);
            }
        }
        assert_eq!(told(&mut shard), 0, "the peer knows");
        let internal = &shard.caches().internal;
        let mut known = Flow::default();
        internal.load(internal.find(&flow(1).orig, 0).unwrap(), &mut known);
        assert_eq!(known.mark, 7);
        assert_eq!(internal.find(&flow(2).orig, 0), None, "the peer's alone");
    }

    /// A node that had started again told the peer flows of that as it had read them, and so undid
    /// what had changed there meanwhile.
    #[test]
    fn what_the_peer_has_told_of_what_was_read_is_not_told_back() {
        let (mut shard, now) = injecting();
        shard.order(now, Order::ReadBegin(TableUse::Start));
        for port in 1..=3 {
            let mut buffer = [0; 1024];
            let mut encoder = Encoder::new(&mut buffer);
            encoder.flow_new(&flow(port), FlowMasks::default(), flag::MULTI, 0).unwrap();
            shard.on_kernel_datagram(now, Content::Dump, encoder.bytes());
        }
        shard.order(now, Order::ReadEnd { complete: true });
        event(&mut shard, now, &flow(1), msg::CT_NEW, 0, PORTS.write);
        event(&mut shard, now, &flow(2), msg::CT_NEW, 0, PORTS.write);
        // Packets of this one come here.
        event(&mut shard, now, &flow(2), msg::CT_NEW, 0, 0);
        assert_eq!(told(&mut shard), 1);
        for (followed, all) in [(false, 2), (true, 3)] {
            shard.order(now, Order::Bulk { followed });
            shard.work(now.at);
            assert_eq!(told(&mut shard), all, "{followed}");
        }
        // What the peer tells while a bulk send is under way is left out too.
        shard.order(now, Order::Bulk { followed: false });
        event(&mut shard, now, &flow(3), msg::CT_NEW, 0, PORTS.write);
        shard.work(now.at);
        assert_eq!(told(&mut shard), 1);
        shard.caches().internal.verify();
    }
}
