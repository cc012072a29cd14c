//! A shard without its loop: blocking sockets, one per lane.

use std::time::{Duration, Instant};

use engine::cache::{Cache, CacheConfig, Role};
use engine::caches::Caches;
use engine::expects::Expects;
use engine::kernel::{KernelConfig, KernelEvent, KernelSide, LOOK_BURST, Lane, Ports};
use io::{FlowLookup, RequestSocket};
use proto_ctnl::bpf::LookupRecord;
use proto_ctnl::{DumpFilter, Encoder, Expect, Flow, FlowRef, Messages};
use proto_sync::{EncodeOptions, ExpectPayload, FlowPayload, Kind};
use shardtrack_tests::kernel::Kernel;
use shardtrack_tests::netns::Netns;

/// Octets before the payload of a message about state.
const HEAD: usize = 8;

pub(crate) struct Driver {
    pub(crate) side: KernelSide,
    pub(crate) caches: Caches,
    pub(crate) ports: Ports,
    /// Flows looked at.
    pub(crate) looked: usize,
    sockets: [RequestSocket; 3],
    lookup: Option<FlowLookup>,
    buffer: Vec<u8>,
}

impl Driver {
    pub(crate) fn of(ns: &Netns, config: KernelConfig) -> Self {
        ns.enter(|| Self::here(config))
    }

    pub(crate) fn here(config: KernelConfig) -> Self {
        let sockets = Lane::ALL.map(|_| {
            let socket = RequestSocket::open(1 << 20, 1 << 18).unwrap();
            socket.set_receive_timeout(Some(Duration::from_secs(10))).unwrap();
            socket
        });
        let cache = |role| Cache::new(CacheConfig { limit: 1 << 20, role, seed: None });
        let expects =
            || Expects::new(CacheConfig { limit: 1 << 16, role: Role::Internal, seed: None });
        let ports =
            Ports { write: sockets[0].port(), flush: sockets[1].port(), audit: sockets[2].port() };
        let start = Instant::now();
        Self {
            side: KernelSide::new(config, start),
            caches: Caches {
                internal: cache(Role::Internal),
                external: cache(Role::External),
                expects_internal: expects(),
                expects_external: expects(),
            },
            ports,
            looked: 0,
            sockets,
            lookup: None,
            buffer: vec![0; 64 << 10],
        }
    }

    /// From now on flows are looked at; the calling thread must be in their namespace.
    pub(crate) fn look_with(&mut self, lookup: FlowLookup) {
        self.lookup = Some(lookup);
        self.side.allow_look(true);
    }

    /// Looks at what is due; gives at how many.
    fn look(&mut self, now: Instant) -> usize {
        let Some(lookup) = &self.lookup else { return 0 };
        let mut records = [LookupRecord::empty(); LOOK_BURST];
        let named = self.side.poll_look(now, &self.caches, &mut records);
        if named > 0 {
            lookup.look(&mut records[..named]).unwrap();
            self.side.on_looked(now, &mut self.caches, &records[..named]);
            self.looked += named;
        }
        named
    }

    /// Works until nothing is left to be done; waits for what is due later if `patient`.
    pub(crate) fn run(&mut self, patient: bool) -> Vec<KernelEvent> {
        let mut events = Vec::new();
        loop {
            let mut now = Instant::now();
            self.look(now);
            while let Some(send) = self.side.poll_send(now, &mut self.caches, &mut self.buffer) {
                let socket = &self.sockets[send.lane as usize];
                socket.send(&self.buffer[..send.len]).unwrap();
                while self.side.awaits_answers() {
                    let got = socket.receive(&mut self.buffer).unwrap();
                    let bytes = &self.buffer[..got.bytes];
                    self.side.on_datagram(Instant::now(), &mut self.caches, bytes);
                }
                now = Instant::now();
            }
            events.extend(std::iter::from_fn(|| self.side.poll_event()));
            let Some(at) = self.side.poll_timeout() else { return events };
            if let Some(early) = at.checked_duration_since(now) {
                if !patient {
                    return events;
                }
                std::thread::sleep(early);
            }
            self.side.handle_timeout(Instant::now(), &mut self.caches);
        }
    }

    /// Reads the kernel's table and hands it in.
    pub(crate) fn dump(&mut self) {
        let mut request = [0; 64];
        let mut encoder = Encoder::new(&mut request);
        encoder.flow_dump(&DumpFilter::default(), 9).unwrap();
        self.sockets[2].send(encoder.bytes()).unwrap();
        loop {
            let got = self.sockets[2].receive(&mut self.buffer).unwrap();
            let bytes = &self.buffer[..got.bytes];
            let end = Messages::new(bytes).flatten().any(|message| message.kind == 3);
            self.side.on_dump_datagram(Instant::now(), &mut self.caches, bytes);
            if end {
                break;
            }
        }
        self.side.dump_finished(Instant::now(), &mut self.caches, true);
    }
}

/// What a peer would tell of the flows of a kernel: every entry through the wire and back.
pub(crate) fn as_told_by_peer(kernel: &mut Kernel) -> Vec<Flow> {
    let options = EncodeOptions { window_tracking: false, timeout: true };
    let mut flows = Vec::new();
    kernel.read_whole(
        |batch| batch.dump(),
        |bytes| {
            let message = Messages::new(bytes).next().unwrap().unwrap();
            let mut flow = Flow::default();
            FlowRef::parse(&message).unwrap().write_to(&mut flow).unwrap();
            let mut wire = [0; 2048];
            let len = proto_sync::encode_flow(Kind::New, &flow, &options, &mut wire).unwrap();
            let mut told = Flow::default();
            FlowPayload::parse(&wire[HEAD..len]).unwrap().write_to(&mut told);
            flows.push(told);
        },
    );
    flows
}

/// The same for expectations.
pub(crate) fn expects_as_told_by_peer(kernel: &mut Kernel) -> Vec<Expect> {
    let options = EncodeOptions { window_tracking: false, timeout: true };
    let mut expects = Vec::new();
    kernel.read_whole(
        |batch| batch.dump_expectations(),
        |bytes| {
            let message = Messages::new(bytes).next().unwrap().unwrap();
            let mut expect = Expect::default();
            proto_ctnl::ExpectRef::parse(&message).unwrap().write_to(&mut expect).unwrap();
            let mut wire = [0; 2048];
            let len =
                proto_sync::encode_expect(Kind::ExpectNew, &expect, &options, &mut wire).unwrap();
            let mut told = Expect::default();
            ExpectPayload::parse(&wire[HEAD..len]).unwrap().write_to(&mut told);
            expects.push(told);
        },
    );
    expects
}
