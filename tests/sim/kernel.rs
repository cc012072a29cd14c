//! A firewall's kernel: its table of flows, what it reports, and ctnetlink's rules for requests.
//!
//! It outlives the daemon. Everything goes in and out as bytes, as it does over netlink sockets.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use engine::kernel::errno::{EBUSY, EEXIST, EINVAL, ENOENT, EOPNOTSUPP};
use proto_ctnl::consts::{flag, msg};
use proto_ctnl::{Flow, FlowRef, Message, Messages, Present, ProtoInfo, Sctp, Status, Tcp, Tuple};

use crate::wire;

/// What tells flows apart.
pub(crate) type Key = (Tuple, u16);

/// Bits that a request may set and not clear.
const SETTABLE: Status = Status(0x2 | 0x4);
/// Bits that a request must repeat.
const FIXED: Status = Status(0x1 | 0x8 | 0x200);
/// Entries in a datagram of a dump.
const DUMP_ENTRIES: usize = 12;

/// An entry of the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    /// With both tuples; the timeout is what packets refresh it to.
    pub(crate) flow: Flow,
    /// It raises no events, because nobody listened when it was made.
    pub(crate) silent: bool,
    /// When it runs out.
    pub(crate) expires: Instant,
}

/// What an event says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Raised {
    New,
    Update,
    Destroy,
}

/// See the module's description.
#[derive(Debug)]
pub(crate) struct Kernel {
    pub(crate) table: BTreeMap<Key, Entry>,
    /// Flows that are made while nobody listens stay silent (`nf_conntrack_events` is 2).
    pub(crate) lazy_events: bool,
    pub(crate) listened: bool,
    /// Events that were raised and not taken yet, with their tuples.
    pub(crate) raised: Vec<(Tuple, Vec<u8>)>,
    ids: u32,
    /// Requests answered.
    pub(crate) requests: u64,
}

impl Kernel {
    pub(crate) const fn new(lazy_events: bool) -> Self {
        Self {
            table: BTreeMap::new(),
            lazy_events,
            listened: false,
            raised: Vec::new(),
            ids: 0,
            requests: 0,
        }
    }

    /// When the next entry runs out.
    pub(crate) fn next_expiry(&self) -> Option<Instant> {
        self.table.values().map(|entry| entry.expires).min()
    }

    /// Traffic keeps every entry alive for longer than any run takes.
    pub(crate) fn keep_alive(&mut self, now: Instant) {
        for entry in self.table.values_mut() {
            entry.flow.timeout = 100_000;
            entry.expires = now + Duration::from_secs(100_000);
        }
    }

    /// Ends the entries that have run out.
    pub(crate) fn expire(&mut self, now: Instant) {
        let over: Vec<Key> =
            self.table.iter().filter(|(_, e)| e.expires <= now).map(|(key, _)| *key).collect();
        for key in over {
            self.end(now, key, 0);
        }
    }

    /// Makes an entry. It must have both tuples, a status and a timeout.
    pub(crate) fn make(&mut self, now: Instant, flow: &Flow, port: u32) {
        let key = key(flow);
        let mut flow = *flow;
        // The memory of an entry is used again at once: a tuple mostly has the same identifier.
        if !self.ids.is_multiple_of(5) {
            flow.id = flow.orig.l4.a.into();
        } else {
            flow.id = self.ids | 1 << 31;
        }
        self.ids += 1;
        flow.present.insert(Present::ID);
        let expires = now + Duration::from_secs(flow.timeout.into());
        let silent = self.lazy_events && !self.listened;
        let entry = Entry { flow, silent, expires };
        self.table.insert(key, entry);
        self.raise(now, &entry, Raised::New, port, entry.flow.present);
    }

    /// Changes an entry as packets do: the event tells what `change` says has changed.
    pub(crate) fn change(
        &mut self,
        now: Instant,
        key: Key,
        change: impl FnOnce(&mut Flow) -> Present,
    ) {
        let Some(entry) = self.table.get_mut(&key) else { return };
        let changed = change(&mut entry.flow);
        entry.expires = now + Duration::from_secs(entry.flow.timeout.into());
        let entry = *entry;
        if changed != Present::NONE {
            self.raise(now, &entry, Raised::Update, 0, changed);
        }
    }

    /// Packets went by: nothing is told.
    pub(crate) fn refresh(&mut self, now: Instant, key: Key) {
        self.change(now, key, |_| Present::NONE);
    }

    /// Ends an entry.
    pub(crate) fn end(&mut self, now: Instant, key: Key, port: u32) {
        if let Some(entry) = self.table.remove(&key) {
            self.raise(now, &entry, Raised::Destroy, port, Present::NONE);
        }
    }

    fn raise(&mut self, now: Instant, entry: &Entry, what: Raised, port: u32, changed: Present) {
        if !entry.silent && self.listened {
            self.raised.push((entry.flow.orig, wire::event(entry, what, changed, port, now)));
        }
    }

    /// The blocks of a dump from `after` on: one datagram, and the last key in it, if there was
    /// one.
    pub(crate) fn dump(
        &self,
        now: Instant,
        after: Option<Key>,
        seq: u32,
    ) -> (Vec<u8>, Option<Key>) {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, Excluded);
        let mut bytes = Vec::new();
        let mut last = None;
        for (key, entry) in self.table.range((from, Unbounded)).take(DUMP_ENTRIES) {
            bytes.extend(wire::shown(entry, flag::MULTI, seq, now));
            last = Some(*key);
        }
        if last.is_none() {
            bytes = wire::done(seq);
        }
        (bytes, last)
    }

    /// Works off the requests of one datagram that came by the socket `port`, and gives the
    /// datagrams that answer them.
    pub(crate) fn serve(&mut self, now: Instant, port: u32, datagram: &[u8]) -> Vec<Vec<u8>> {
        let mut answers = Vec::new();
        for message in Messages::new(datagram) {
            let message = message.expect("requests are well-formed");
            self.requests += 1;
            let (errno, told) = self.request(now, port, &message);
            answers.extend(told);
            if errno != 0 || message.flags & flag::ACK != 0 {
                answers.push(wire::error(message.bytes, errno));
            }
        }
        answers
    }

    fn request(
        &mut self,
        now: Instant,
        port: u32,
        message: &Message<'_>,
    ) -> (i32, Option<Vec<u8>>) {
        let mut wanted = Flow::default();
        let parsed = FlowRef::parse(message).expect("requests have a tuple");
        parsed.write_to(&mut wanted).expect("requests are well-formed");
        let key = key(&wanted);
        let found = self.table.get(&key).copied();
        match (message.kind, found) {
            (msg::CT_NEW, Some(_)) if message.flags & flag::CREATE != 0 => (EEXIST, None),
            (msg::CT_NEW, Some(entry)) => (self.update(now, port, key, entry, &wanted), None),
            (msg::CT_NEW, None) if message.flags & flag::CREATE != 0 => {
                (self.create(now, port, &wanted), None)
            }
            (_, None) => (ENOENT, None),
            (msg::CT_GET, Some(entry)) => (0, Some(wire::shown(&entry, 0, message.seq, now))),
            (msg::CT_DELETE, Some(entry)) => {
                if wanted.present.has(Present::ID) && wanted.id != entry.flow.id {
                    return (ENOENT, None);
                }
                self.end(now, key, port);
                (0, None)
            }
            _ => (EOPNOTSUPP, None),
        }
    }

    fn create(&mut self, now: Instant, port: u32, wanted: &Flow) -> i32 {
        let has = |bit| wanted.present.has(bit);
        if !has(Present::TIMEOUT) || !has(Present::REPLY) {
            return EINVAL;
        }
        if has(Present::STATUS)
            && (!wanted.status.has(Status::CONFIRMED) || wanted.status.0 & 0x201 != 0)
        {
            return EBUSY;
        }
        if has(Present::HELPER) && wanted.helper.as_bytes() != b"ftp" {
            return EOPNOTSUPP;
        }
        let mut flow = *wanted;
        if has(Present::MASTER) {
            if !self.table.contains_key(&(wanted.master, zone(wanted))) {
                return ENOENT;
            }
            flow.status = flow.status.with(Status::EXPECTED);
        }
        flow.reply = translated(wanted);
        if self.table.values().any(|e| e.flow.reply == flow.reply && zone(&e.flow) == zone(&flow)) {
            return EEXIST;
        }
        flow.present.remove(wire::TRANSLATION);
        flow.present.insert(Present::STATUS);
        flow.status = flow.status.with(Status::CONFIRMED);
        if has(Present::SEQADJ) {
            flow.status = flow.status.with(Status::SEQ_ADJUST);
        }
        if !has(Present::PROTOINFO) && matches!(flow.orig.proto, 6 | 132) {
            // A tracker always has a state, be it none.
            flow.protoinfo = match flow.orig.proto {
                6 => ProtoInfo::Tcp(Tcp::default()),
                _ => ProtoInfo::Sctp(Sctp { vtag: Some([0; 2]), ..Sctp::default() }),
            };
            flow.present.insert(Present::PROTOINFO);
        }
        plain_tcp(&mut flow.protoinfo);
        self.make(now, &flow, port);
        0
    }

    fn update(&mut self, now: Instant, port: u32, key: Key, entry: Entry, wanted: &Flow) -> i32 {
        let has = |bit| wanted.present.has(bit);
        if wanted.present.any(wire::TRANSLATION.or(Present::MASTER)) {
            return EOPNOTSUPP;
        }
        let mut flow = entry.flow;
        if has(Present::HELPER)
            && !(flow.present.has(Present::HELPER) && flow.helper == wanted.helper)
        {
            return if flow.present.has(Present::HELPER) { EBUSY } else { EOPNOTSUPP };
        }
        let mut expires = entry.expires;
        if has(Present::TIMEOUT) {
            flow.timeout = wanted.timeout;
            expires = now + Duration::from_secs(wanted.timeout.into());
        }
        let mut errno = 0;
        if has(Present::STATUS) {
            let (old, new) = (flow.status.0, wanted.status.0);
            if (old ^ new) & FIXED.0 != 0 || old & !new & SETTABLE.0 != 0 {
                errno = EBUSY;
            } else {
                flow.status.0 |= new & SETTABLE.0;
            }
        }
        if errno == 0 {
            absorb(&mut flow, wanted);
        }
        let changed = Entry { flow, expires, ..entry };
        self.table.insert(key, changed);
        if errno == 0 {
            let all = flow.present.or(Present::MARK).or(Present::PROTOINFO);
            self.raise(now, &changed, Raised::Update, port, all);
        }
        errno
    }
}

/// What an update takes beside timeout and status.
fn absorb(flow: &mut Flow, wanted: &Flow) {
    let has = |bit| wanted.present.has(bit);
    if has(Present::PROTOINFO) {
        flow.protoinfo = wanted.protoinfo;
        plain_tcp(&mut flow.protoinfo);
        flow.present.insert(Present::PROTOINFO);
    }
    if has(Present::MARK) {
        flow.mark = wanted.mark;
        flow.present.insert(Present::MARK);
    }
    if has(Present::SEQADJ) {
        flow.seqadj = wanted.seqadj;
        flow.status = flow.status.with(Status::SEQ_ADJUST);
        flow.present.insert(Present::SEQADJ);
    }
    if has(Present::LABELS) {
        flow.labels = wanted.labels;
        flow.present.insert(Present::LABELS);
    }
}

/// What the model knows of TCP is the state.
const fn plain_tcp(info: &mut ProtoInfo) {
    if let ProtoInfo::Tcp(tcp) = info {
        tcp.flags = None;
        tcp.wscale = None;
    }
}

/// The reply tuple that translation makes.
fn translated(flow: &Flow) -> Tuple {
    let mut reply = flow.reply;
    let has = |bit| flow.present.has(bit);
    if has(Present::DNAT) {
        reply.src = flow.dnat;
    }
    if has(Present::SNAT) {
        reply.dst = flow.snat;
    }
    if has(Present::DPAT) && flow.orig.has_ports() {
        reply.l4.a = flow.dpat;
    }
    if has(Present::SPAT) && flow.orig.has_ports() {
        reply.l4.b = flow.spat;
    }
    reply
}

/// The zone of a flow; 0 if it has none.
pub(crate) const fn zone(flow: &Flow) -> u16 {
    if flow.present.has(Present::ZONE) { flow.zone } else { 0 }
}

/// The key of a flow.
pub(crate) const fn key(flow: &Flow) -> Key {
    (flow.orig, zone(flow))
}
