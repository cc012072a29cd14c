//! A kernel for tests: a table of flows with ctnetlink's rules, and a script that overrules them.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use proto_ctnl::bpf::{Looked, LookupRecord};
use proto_ctnl::consts::{flag, msg};
use proto_ctnl::{
    Encoder, Expect, ExpectRef, Flow, FlowMasks, FlowRef, L4, Messages, Present, ProtoInfo, Status,
    Tcp, Tuple, proto,
};

use crate::cache::{Cache, CacheConfig, Role};
use crate::caches::Caches;
use crate::expects::Expects;

use super::errno::{EBUSY, EEXIST, EINVAL, ENOENT, EOPNOTSUPP};
use super::{KernelConfig, KernelEvent, KernelSide, Lane, Send};

/// A request as the kernel sees it.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) flow: Flow,
    pub(crate) expect: Expect,
    pub(crate) lane: Lane,
}

impl Asked {
    pub(crate) const fn creates(&self) -> bool {
        self.flags & flag::CREATE != 0
    }
}

/// What the script says: an error number, or nothing, and the rules hold.
type Script = Box<dyn FnMut(&Asked) -> Option<i32>>;

/// The kernel, one shard's kernel side and its caches, and the time.
pub(crate) struct Bench {
    pub(crate) side: KernelSide,
    pub(crate) caches: Caches,
    pub(crate) now: Instant,
    pub(crate) table: Vec<Flow>,
    pub(crate) expects: Vec<Expect>,
    pub(crate) helpers: Vec<&'static [u8]>,
    pub(crate) script: Script,
    pub(crate) log: Vec<Asked>,
    /// Batches whose answers are lost.
    pub(crate) deaf: u32,
    /// What is told instead of the entry that is asked for.
    pub(crate) answer_with: Option<Flow>,
    /// Flows looked at.
    pub(crate) looked: usize,
    pub(crate) events: Vec<KernelEvent>,
}

fn cache(role: Role) -> Cache {
    Cache::new(CacheConfig { limit: 100_000, role, seed: Some(1) })
}

fn expects() -> Expects {
    Expects::new(CacheConfig { limit: 1000, role: Role::Internal, seed: Some(1) })
}

impl Bench {
    pub(crate) fn new(config: KernelConfig) -> Self {
        let now = Instant::now();
        let caches = Caches {
            internal: cache(Role::Internal),
            external: cache(Role::External),
            expects_internal: expects(),
            expects_external: expects(),
        };
        Self {
            side: KernelSide::new(config, now),
            caches,
            now,
            table: Vec::new(),
            expects: Vec::new(),
            helpers: vec![b"ftp"],
            script: Box::new(|_| None),
            log: Vec::new(),
            deaf: 0,
            answer_with: None,
            looked: 0,
            events: Vec::new(),
        }
    }

    /// Runs until nothing is left to be done, passing the time as the kernel side asks.
    pub(crate) fn run(&mut self) {
        self.work(None);
    }

    /// Runs for so long.
    pub(crate) fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        self.work(Some(end));
        self.now = end;
    }

    /// Sends a batch and answers it, if one is due.
    pub(crate) fn send(&mut self) -> bool {
        let mut buffer = [0; 32 << 10];
        let Some(Send { lane, len }) = self.side.poll_send(self.now, &mut self.caches, &mut buffer)
        else {
            return false;
        };
        self.serve(lane, &buffer[..len]);
        true
    }

    fn work(&mut self, end: Option<Instant>) {
        for _ in 0..100_000 {
            if self.send() {
                continue;
            }
            self.look();
            while let Some(event) = self.side.poll_event() {
                self.events.push(event);
            }
            let Some(at) = self.side.poll_timeout() else { return };
            if end.is_some_and(|end| at > end) {
                return;
            }
            self.now = self.now.max(at);
            self.side.handle_timeout(self.now, &mut self.caches);
        }
        panic!("it never ends");
    }

    /// Looks at flows as the kernel's program does.
    fn look(&mut self) {
        let mut records = [LookupRecord::empty(); super::LOOK_BURST];
        let named = self.side.poll_look(self.now, &self.caches, &mut records);
        for record in &mut records[..named] {
            let found = self.table.iter().find(|flow| record.is_about(&flow.orig, flow.key_zone()));
            record.answer(found.map_or(Looked::Missing, |flow| Looked::Found {
                status: flow.status,
                mark: flow.mark,
                tcp_state: flow.protoinfo.state(),
            }));
        }
        self.looked += named;
        self.side.on_looked(self.now, &mut self.caches, &records[..named]);
    }

    fn serve(&mut self, lane: Lane, sent: &[u8]) {
        let count = Messages::new(sent).count();
        let mut answers: Vec<Vec<u8>> = Vec::new();
        for (at, message) in Messages::new(sent).enumerate() {
            let message = message.unwrap();
            let wants_ack = message.flags & flag::ACK != 0;
            assert_eq!(wants_ack, at + 1 == count, "one acknowledgement, at the end");
            let mut asked = Asked {
                kind: message.kind,
                flags: message.flags,
                flow: Flow::default(),
                expect: Expect::default(),
                lane,
            };
            if message.subsystem() == 1 {
                FlowRef::parse(&message).unwrap().write_to(&mut asked.flow).unwrap();
            } else {
                ExpectRef::parse(&message).unwrap().write_to(&mut asked.expect).unwrap();
            }
            self.log.push(asked.clone());
            let errno = (self.script)(&asked).unwrap_or_else(|| self.obey(&asked));
            if errno == 0 && message.kind == msg::CT_GET {
                answers.push(self.entry(&asked.flow, message.seq));
            }
            if errno == 0 && message.kind == msg::EXP_GET {
                let expect = self.find_expect(&asked.expect).expect("the kernel has it");
                answers.push(expect_entry(expect, message.seq));
            }
            if errno != 0 || wants_ack {
                answers.push(answer(message.bytes, errno));
            }
        }
        if self.deaf > 0 {
            self.deaf -= 1;
            return;
        }
        for bytes in answers {
            self.side.on_datagram(self.now, &mut self.caches, &bytes);
        }
    }

    fn find(&self, flow: &Flow) -> Option<usize> {
        self.table.iter().position(|f| f.orig == flow.orig && f.key_zone() == flow.key_zone())
    }

    fn find_expect(&self, expect: &Expect) -> Option<&Expect> {
        self.expects.iter().find(|e| e.tuple == expect.tuple && e.zone == expect.zone)
    }

    fn obey(&mut self, asked: &Asked) -> i32 {
        match asked.kind {
            msg::CT_NEW => self.put(asked),
            msg::CT_GET => self.find(&asked.flow).map_or(ENOENT, |_| 0),
            msg::EXP_GET => self.find_expect(&asked.expect).map_or(ENOENT, |_| 0),
            msg::CT_DELETE => match self.find(&asked.flow) {
                Some(at) => {
                    self.table.remove(at);
                    0
                }
                None => ENOENT,
            },
            _ => 0,
        }
    }

    fn put(&mut self, asked: &Asked) -> i32 {
        let flow = &asked.flow;
        let has = |bit| flow.present.any(bit);
        let named = has(Present::STATUS).then_some(flow.status);
        if let Some(at) = self.find(flow) {
            if asked.creates() {
                return EEXIST;
            }
            if has(super::request::NAT) || has(Present::MASTER) {
                return EOPNOTSUPP;
            }
            let entry = &mut self.table[at];
            if let Some(status) = named {
                let fixed = Status(0x1 | 0x8 | 0x200);
                let lost = Status(0x2 | 0x4);
                let differs = (entry.status.0 ^ status.0) & fixed.0 != 0;
                if differs || entry.status.0 & !status.0 & lost.0 != 0 {
                    return EBUSY;
                }
                entry.status = entry.status.with(Status(status.0 & lost.0));
            }
            if has(Present::MARK) {
                entry.mark = flow.mark;
            }
            if has(Present::PROTOINFO) {
                entry.protoinfo = flow.protoinfo;
            }
            return 0;
        }
        if !asked.creates() {
            return ENOENT;
        }
        if !has(Present::TIMEOUT) || !has(Present::REPLY) {
            return EINVAL;
        }
        if named.is_some_and(|s| !s.has(Status(0x8)) || s.0 & 0x201 != 0) {
            return EBUSY;
        }
        if has(Present::HELPER) && !self.helpers.contains(&flow.helper.as_bytes()) {
            return EOPNOTSUPP;
        }
        if has(Present::MASTER) && !self.table.iter().any(|f| f.orig == flow.master) {
            return ENOENT;
        }
        let mut entry = *flow;
        entry.reply = super::request::translated_reply(flow).unwrap();
        entry.status = entry.status.with(Status::CONFIRMED);
        if has(Present::MASTER) {
            entry.status = entry.status.with(Status::EXPECTED);
        }
        if self.table.iter().any(|f| f.reply == entry.reply) {
            return EEXIST;
        }
        entry.present.insert(Present::STATUS);
        self.table.push(entry);
        0
    }

    fn entry(&self, key: &Flow, seq: u32) -> Vec<u8> {
        let told = self.answer_with.unwrap_or_else(|| self.table[self.find(key).unwrap()]);
        entry(&told, seq)
    }

    /// Shows the table, as a dump does.
    pub(crate) fn dump(&mut self) {
        for flow in self.table.clone() {
            let bytes = entry(&flow, 77);
            self.side.on_dump_datagram(self.now, &mut self.caches, &bytes);
        }
    }

    pub(crate) fn external(&mut self, flow: &Flow) {
        let secs = self.side.secs(self.now);
        self.caches.external.replace(flow, secs).unwrap();
    }

    /// What peers would be told now, and is then.
    pub(crate) fn changes(&mut self) -> Vec<(crate::cache::Change, u16)> {
        let mut changes = Vec::new();
        while let Some((index, change)) = self.caches.internal.next_changed() {
            let (orig, _) = self.caches.internal.key(index).unwrap();
            changes.push((change, orig.l4.a));
            self.caches.internal.sent(index, false);
        }
        changes
    }
}

/// An entry as the kernel tells it.
pub(crate) fn entry(flow: &Flow, seq: u32) -> Vec<u8> {
    let mut buffer = [0; 1024];
    let mut encoder = Encoder::new(&mut buffer);
    let mut flow = *flow;
    // What only creations name.
    flow.present.remove(super::request::NAT);
    encoder.flow_new(&flow, FlowMasks::default(), flag::MULTI, seq).unwrap();
    encoder.bytes().to_vec()
}

/// An expectation as the kernel tells it.
pub(crate) fn expect_entry(expect: &Expect, seq: u32) -> Vec<u8> {
    let mut buffer = [0; 1024];
    let mut encoder = Encoder::new(&mut buffer);
    encoder.expect_new(expect, flag::MULTI, seq).unwrap();
    encoder.bytes().to_vec()
}

/// `NLMSG_ERROR` with the request's header.
pub(crate) fn answer(request: &[u8], errno: i32) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&36u32.to_ne_bytes());
    bytes.extend_from_slice(&2u16.to_ne_bytes());
    bytes.extend_from_slice(&flag::CAPPED.to_ne_bytes());
    bytes.extend_from_slice(&request[8..12]);
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&(-errno).to_ne_bytes());
    bytes.extend_from_slice(&request[..16]);
    bytes
}

/// A TCP flow with a source port, as a peer describes it.
pub(crate) fn tcp(port: u16) -> Flow {
    let present = [Present::ORIG, Present::STATUS, Present::TIMEOUT, Present::PROTOINFO];
    Flow {
        present: Present(present.iter().fold(0, |all, bit| all | bit.0)),
        orig: Tuple {
            src: IpAddr::V4(Ipv4Addr::new(10, 1, 0, 2)),
            dst: IpAddr::V4(Ipv4Addr::new(10, 2, 0, 2)),
            proto: proto::TCP,
            l4: L4::ports(port, 80),
        },
        status: Status(0xe),
        timeout: 300,
        protoinfo: ProtoInfo::Tcp(Tcp { state: 3, wscale: None, flags: None }),
        ..Flow::default()
    }
}

/// The same as the kernel has it.
pub(crate) fn kernel_tcp(port: u16) -> Flow {
    let mut flow = tcp(port);
    flow.reply = flow.orig.inverted().unwrap();
    flow.present.insert(Present::REPLY);
    flow
}

/// Long after any deadline.
pub(crate) const LONG: Duration = Duration::from_secs(3600);
