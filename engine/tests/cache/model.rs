//! Random operations on the cache and on a model made of plain collections.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use engine::cache::{Cache, CacheConfig, Change, Dumped, FlowIndex, Killed, Role, State};
use proptest::prelude::*;
use proto_ctnl::{Flow, Present, ProtoInfo, Status, Tuple};

use crate::flows::{any_flow, tuple};

type Key = (Tuple, u16);

const LIMIT: u32 = 12;

#[derive(Clone, Debug)]
struct Object {
    flow: Flow,
    state: State,
    created: u32,
    updated: u32,
    fresh: bool,
    /// A peer may have another flow of this key.
    anew: bool,
    silent: bool,
    pos: u32,
}

/// The same as the cache, with no thought of memory or speed.
#[derive(Debug)]
struct Model {
    role: Role,
    flows: BTreeMap<Key, Object>,
    queue: VecDeque<Key>,
    unacked: VecDeque<Key>,
    stale: BTreeSet<Key>,
    /// Created by an update, or shown by one that was stale, and not completed by a dump.
    partial: BTreeSet<Key>,
    /// Labels and protocol state of those that were stale, until an update tells them.
    untold: BTreeMap<Key, Present>,
    /// Dead, and given up until the next bulk send.
    parked: VecDeque<Key>,
    bulk: BTreeMap<FlowIndex, Key>,
    /// Where the bulk send goes on.
    bulk_from: FlowIndex,
    tombstones: BTreeSet<Key>,
    epoch: bool,
    /// All was forgotten once, and peers may know some of it.
    emptied: bool,
    /// What of it has not ended may not be here.
    unread: bool,
    pos: u32,
}

fn key_of(flow: &Flow) -> Key {
    (flow.orig, flow.key_zone())
}

/// What a cache of this role keeps of a flow.
fn kept(flow: &Flow, role: Role) -> Flow {
    let mut out = *flow;
    let dropped = [
        Present::COUNTERS_ORIG,
        Present::COUNTERS_REPLY,
        Present::START,
        Present::STOP,
        Present::EVENT_TIME,
        Present::USE,
    ];
    for bit in dropped {
        out.present.remove(bit);
    }
    let nat = [Present::SNAT, Present::DNAT, Present::SPAT, Present::DPAT];
    match role {
        Role::External => out.present.remove(Present::REPLY),
        _ => nat.into_iter().for_each(|bit| out.present.remove(bit)),
    }
    if role == Role::Stats {
        out.present.remove(Present::TIMEOUT);
    }
    if flow.snat.is_ipv6() != flow.orig.is_v6() {
        out.present.remove(Present::SNAT);
    }
    if flow.dnat.is_ipv6() != flow.orig.is_v6() {
        out.present.remove(Present::DNAT);
    }
    out.present.0 &= (1 << 27) - 1;
    out
}

fn merge_protoinfo(old: ProtoInfo, new: ProtoInfo) -> ProtoInfo {
    match (old, new) {
        (ProtoInfo::Tcp(a), ProtoInfo::Tcp(mut b)) => {
            b.wscale = b.wscale.or(a.wscale);
            ProtoInfo::Tcp(b)
        }
        (ProtoInfo::Sctp(a), ProtoInfo::Sctp(mut b)) => {
            b.vtag = b.vtag.or(a.vtag);
            ProtoInfo::Sctp(b)
        }
        (ProtoInfo::Dccp(a), ProtoInfo::Dccp(mut b)) => {
            b.handshake_seq = b.handshake_seq.or(a.handshake_seq);
            ProtoInfo::Dccp(b)
        }
        (_, new) => new,
    }
}

fn merge_flow(old: &mut Flow, new: &Flow) {
    macro_rules! take {
        ($($bit:ident $member:ident),*) => {
            $(if new.present.has(Present::$bit) { old.$member = new.$member; })*
        };
    }
    if new.present.has(Present::PROTOINFO) {
        old.protoinfo = if old.present.has(Present::PROTOINFO) {
            merge_protoinfo(old.protoinfo, new.protoinfo)
        } else {
            new.protoinfo
        };
    }
    take!(REPLY reply, STATUS status, TIMEOUT timeout, MARK mark, ZONE zone, ID id);
    take!(HELPER helper, MASTER master, LABELS labels, SEQADJ seqadj, SYNPROXY synproxy);
    take!(SECCTX secctx, SECMARK secmark, ORIG_ZONE orig_zone, REPLY_ZONE reply_zone);
    take!(SNAT snat, DNAT dnat, SPAT spat, DPAT dpat);
    old.present.insert(new.present);
}

impl Model {
    fn new(role: Role) -> Self {
        Self {
            role,
            flows: BTreeMap::new(),
            queue: VecDeque::new(),
            unacked: VecDeque::new(),
            stale: BTreeSet::new(),
            partial: BTreeSet::new(),
            untold: BTreeMap::new(),
            parked: VecDeque::new(),
            bulk: BTreeMap::new(),
            bulk_from: FlowIndex::FIRST,
            tombstones: BTreeSet::new(),
            epoch: false,
            emptied: false,
            unread: false,
            pos: 0,
        }
    }

    fn is_alive(&self, key: &Key) -> bool {
        self.flows.get(key).is_some_and(|o| o.state != State::Dead)
    }

    /// Whether the flow existed; `None` if there is no room.
    fn put(&mut self, flow: &Flow, now: u32, fresh: bool, silent: bool) -> Option<bool> {
        let key = key_of(flow);
        let existed = self.is_alive(&key);
        if !self.flows.contains_key(&key) && self.flows.len() as u32 >= LIMIT {
            let oldest = self.parked.front().copied()?;
            self.forget(&oldest);
        }
        self.parked.retain(|k| *k != key);
        let fresh = fresh && !self.unread;
        let old = self.flows.get(&key);
        let object = Object {
            flow: kept(flow, self.role),
            state: State::New,
            created: now,
            updated: now,
            fresh: old.map_or(fresh, |o| o.fresh),
            anew: old.is_some() || !fresh || self.emptied,
            silent,
            pos: old.map_or(0, |o| o.pos),
        };
        self.flows.insert(key, object);
        self.stale.remove(&key);
        self.partial.remove(&key);
        self.untold.remove(&key);
        Some(existed)
    }

    fn replace(&mut self, flow: &Flow, now: u32) -> Option<bool> {
        self.tombstones.remove(&key_of(flow));
        self.put(flow, now, true, false)
    }

    fn merge(&mut self, flow: &Flow, now: u32) -> Option<bool> {
        let key = key_of(flow);
        self.tombstones.remove(&key);
        if !self.is_alive(&key) || self.is_other(flow) {
            let stored = self.put(flow, now, false, false);
            if stored.is_some() {
                self.partial.insert(key);
            }
            return stored;
        }
        if self.stale.contains(&key) {
            self.partial.insert(key);
            self.untold.insert(key, Present(Present::PROTOINFO.0 | Present::LABELS.0));
        }
        self.update(flow, now);
        self.flows.get_mut(&key).unwrap().silent = false;
        Some(true)
    }

    /// Takes what updates alone have not told.
    fn complete(&mut self, flow: &Flow) -> bool {
        let key = key_of(flow);
        if !self.partial.contains(&key) || self.is_other(flow) {
            return false;
        }
        self.partial.remove(&key);
        let old = &mut self.flows.get_mut(&key).unwrap().flow;
        let mut rest = kept(flow, self.role);
        let untold = self.untold.remove(&key).unwrap_or(Present::NONE);
        rest.present.0 &= !old.present.0 | untold.0;
        merge_flow(old, &rest);
        true
    }

    /// Whether the flow is another one than that which is stored.
    fn is_other(&self, flow: &Flow) -> bool {
        let old = &self.flows[&key_of(flow)].flow;
        let new = kept(flow, self.role);
        let both = |bit| old.present.has(bit) && new.present.has(bit);
        let related = old.present.has(Present::MASTER) || new.present.has(Present::MASTER);
        let expected = |flow: &Flow| flow.status.has(Status::EXPECTED);
        both(Present::ID) && old.id != new.id
            || both(Present::REPLY) && old.reply != new.reply
            || both(Present::MASTER) && old.master != new.master
            || related && both(Present::STATUS) && expected(old) != expected(&new)
            || !both(Present::REPLY) && Self::is_translated_otherwise(old, &new)
    }

    fn is_translated_otherwise(old: &Flow, new: &Flow) -> bool {
        let both = |bit| old.present.has(bit) && new.present.has(bit);
        let nat = [Present::SNAT, Present::DNAT, Present::SPAT, Present::DPAT];
        let told = |flow: &Flow| nat.map(|bit| flow.present.has(bit));
        let translated =
            |flow: &Flow| [Status::SRC_NAT, Status::DST_NAT].map(|bit| flow.status.has(bit));
        let told_both = told(old).contains(&true) && told(new).contains(&true);
        both(Present::STATUS)
            && (translated(old) != translated(new) || told_both && told(old) != told(new))
            || both(Present::SNAT) && old.snat != new.snat
            || both(Present::DNAT) && old.dnat != new.dnat
            || both(Present::SPAT) && old.spat != new.spat
            || both(Present::DPAT) && old.dpat != new.dpat
    }

    fn update(&mut self, flow: &Flow, now: u32) {
        let kept = kept(flow, self.role);
        let object = self.flows.get_mut(&key_of(flow)).unwrap();
        merge_flow(&mut object.flow, &kept);
        if let Some(untold) = self.untold.get_mut(&key_of(flow)) {
            untold.0 &= !kept.present.0;
        }
        object.state = State::Alive;
        object.updated = now;
        self.stale.remove(&key_of(flow));
    }

    fn leave(&mut self, key: &Key) {
        self.queue.retain(|k| k != key);
        self.unacked.retain(|k| k != key);
        self.parked.retain(|k| k != key);
    }

    fn forget(&mut self, key: &Key) {
        self.leave(key);
        self.flows.remove(key);
        self.partial.remove(key);
        self.untold.remove(key);
        self.stale.remove(key);
        self.bulk.retain(|_, k| k != key);
    }

    fn mark(&mut self, key: &Key) {
        if self.flows.contains_key(key) && !self.queue.contains(key) {
            self.leave(key);
            self.queue.push_back(*key);
        }
    }

    fn kill(&mut self, key: &Key) -> Killed {
        if !self.is_alive(key) {
            return Killed::Ignored;
        }
        if self.epoch {
            self.tombstones.insert(*key);
        }
        if self.flows[key].fresh && self.queue.contains(key) {
            self.forget(key);
            return Killed::Removed;
        }
        let object = self.flows.get_mut(key).unwrap();
        object.state = State::Dead;
        object.silent = false;
        self.stale.remove(key);
        self.mark(key);
        Killed::Queued
    }

    fn sent(&mut self, keep: bool) {
        let key = self.queue.pop_front().unwrap();
        self.pos += 1;
        self.bulk.retain(|_, k| *k != key);
        let object = self.flows.get_mut(&key).unwrap();
        object.pos = self.pos;
        object.fresh = false;
        object.anew &= keep;
        if keep {
            self.unacked.push_back(key);
        } else if object.state == State::Dead {
            self.forget(&key);
        }
    }

    fn answered(&mut self, key: &Key, pos: u32, lost: bool, arrived: bool) {
        if !self.unacked.contains(key) || self.flows[key].pos != pos {
            return;
        }
        self.leave(key);
        self.flows.get_mut(key).unwrap().anew &= !arrived;
        if lost {
            self.queue.push_back(*key);
        } else if self.flows[key].state == State::Dead {
            if arrived {
                self.forget(key);
            } else {
                self.parked.push_back(*key);
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Op {
    Replace(Flow, bool),
    Merge(Flow, bool),
    Dump(Flow),
    Kill(u8),
    Remove(u8),
    Mark(u8),
    Sent(bool),
    Answer(u8, bool),
    Bulk,
    BulkStep(u32),
    Epoch,
    Read,
    Sweep(u8),
    NoteDestroyed(u8),
    Clear,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (any_flow(), any::<bool>()).prop_map(|(f, m)| Op::Replace(f, m)),
        8 => (any_flow(), any::<bool>()).prop_map(|(f, m)| Op::Merge(f, m)),
        4 => any_flow().prop_map(Op::Dump),
        6 => (0..40u8).prop_map(Op::Kill),
        2 => (0..40u8).prop_map(Op::Remove),
        2 => (0..40u8).prop_map(Op::Mark),
        8 => any::<bool>().prop_map(Op::Sent),
        6 => (any::<u8>(), any::<bool>()).prop_map(|(n, lost)| Op::Answer(n, lost)),
        1 => Just(Op::Bulk),
        3 => (0..4u32).prop_map(Op::BulkStep),
        2 => Just(Op::Epoch),
        1 => Just(Op::Read),
        1 => (0..12u8).prop_map(Op::Sweep),
        1 => (0..40u8).prop_map(Op::NoteDestroyed),
        1 => prop_oneof![5 => Just(Op::BulkStep(1)), 1 => Just(Op::Clear)],
    ]
}

fn pick(n: u8) -> Key {
    (tuple(n / 2), u16::from(n & 1))
}

struct Both {
    cache: Cache,
    model: Model,
    /// Sendings that may be answered: place, number, and the key they were of.
    sendings: Vec<(FlowIndex, u32, Key)>,
}

impl Both {
    fn index(&self, n: u8) -> Option<FlowIndex> {
        let (tuple, zone) = pick(n);
        self.cache.find_any(&tuple, zone)
    }

    fn step(&mut self, op: Op, now: u32) {
        match op {
            Op::Replace(flow, mark) => {
                let got = self.cache.replace(&flow, now).ok();
                assert_eq!(got.map(|s| s.existed), self.model.replace(&flow, now));
                self.mark(got.filter(|_| mark).map(|s| s.index), &key_of(&flow));
            }
            Op::Merge(flow, mark) => {
                let got = self.cache.merge(&flow, now).ok();
                assert_eq!(got.map(|s| s.existed), self.model.merge(&flow, now));
                self.mark(got.filter(|_| mark).map(|s| s.index), &key_of(&flow));
            }
            Op::Dump(flow) => self.dump(&flow, now),
            Op::Kill(n) => {
                let got = self.index(n).map_or(Killed::Ignored, |i| self.cache.kill(i));
                assert_eq!(got, self.model.kill(&pick(n)));
            }
            Op::Remove(n) => {
                if let Some(index) = self.index(n) {
                    self.cache.remove(index);
                    if self.model.epoch {
                        self.model.tombstones.insert(pick(n));
                    }
                    self.model.forget(&pick(n));
                }
            }
            Op::Mark(n) => self.mark(self.index(n), &pick(n)),
            Op::Sent(keep) => self.sent(keep),
            Op::Answer(n, lost) => self.answer(n, lost),
            Op::Bulk => {
                self.cache.begin_bulk();
                let keys = self.model.flows.keys();
                let place = |k: &Key| self.cache.find_any(&k.0, k.1).unwrap();
                self.model.bulk = keys.map(|k| (place(k), *k)).collect();
            }
            Op::BulkStep(budget) => self.bulk_step(budget),
            Op::Epoch => {
                self.cache.begin_epoch();
                self.model.epoch = true;
                self.model.tombstones.clear();
                self.model.stale = self.model.flows.keys().copied().collect();
            }
            Op::Read => {
                self.cache.holds_all();
                self.model.unread &= !self.model.epoch;
            }
            Op::Sweep(n) => self.sweep(n),
            Op::NoteDestroyed(n) => {
                let (tuple, zone) = pick(n);
                if self.cache.find(&tuple, zone).is_none() {
                    self.cache.note_destroyed(&tuple, zone);
                    if self.model.epoch {
                        self.model.tombstones.insert(pick(n));
                    }
                }
            }
            Op::Clear => {
                self.cache.clear();
                let Model { pos, bulk_from, role, .. } = self.model;
                let forgot = Model { emptied: true, unread: true, ..Model::new(role) };
                self.model = Model { pos, bulk_from, ..forgot };
            }
        }
    }

    fn mark(&mut self, index: Option<FlowIndex>, key: &Key) {
        if let Some(index) = index {
            self.cache.mark_changed(index);
            self.model.mark(key);
        }
    }

    fn dump(&mut self, flow: &Flow, now: u32) {
        let key = key_of(flow);
        let got = self.cache.merge_dump(flow, now);
        if self.model.epoch && self.model.tombstones.contains(&key) {
            assert_eq!(got, Ok(Dumped::Destroyed));
        } else if !self.model.is_alive(&key) {
            let want = self.model.put(flow, now, false, true);
            assert_eq!(want, got.ok().map(|_| false));
        } else if self.model.epoch && !self.model.stale.contains(&key) {
            let completed = self.model.complete(flow);
            match got {
                Ok(Dumped::Completed(_)) => assert!(completed),
                _ => assert!(matches!(got, Ok(Dumped::Current(_))) && !completed, "{got:?}"),
            }
        } else {
            self.model.update(flow, now);
            self.model.partial.remove(&key);
            assert!(matches!(got, Ok(Dumped::Stored(s)) if s.existed), "{got:?}");
        }
    }

    fn sent(&mut self, keep: bool) {
        let Some((index, change)) = self.cache.next_changed() else {
            assert!(self.model.queue.is_empty());
            return;
        };
        let key = self.cache.key(index).unwrap();
        assert_eq!(Some(&key), self.model.queue.front());
        let object = &self.model.flows[&key];
        let want = match object.state {
            State::Dead => Change::Delete,
            State::Alive if !object.anew && !object.fresh => Change::Update,
            State::New | State::Alive => Change::New,
        };
        assert_eq!(change, want);
        let pos = self.cache.sent(index, keep);
        self.model.sent(keep);
        assert_eq!(pos, self.model.pos);
        self.sendings.push((index, pos, key));
    }

    fn answer(&mut self, n: u8, lost: bool) {
        if self.sendings.is_empty() {
            return;
        }
        let (index, pos, key) = self.sendings[usize::from(n) % self.sendings.len()];
        if lost {
            self.cache.nacked(index, pos);
        } else if n & 1 == 0 {
            self.cache.acked(index, pos);
        } else {
            self.cache.evicted(index, pos);
        }
        self.model.answered(&key, pos, lost, !lost && n & 1 == 0);
    }

    fn bulk_step(&mut self, budget: u32) {
        let step = self.cache.bulk_step(budget);
        let mut queued = 0;
        while queued < budget {
            let bulk = &self.model.bulk;
            let next = bulk.range(self.model.bulk_from..).next().or_else(|| bulk.first_key_value());
            let Some((&place, &key)) = next else { break };
            self.model.bulk.remove(&place);
            self.model.bulk_from = place.next();
            let told = !self.model.is_alive(&key) && !self.model.parked.contains(&key);
            if !told && !self.model.queue.contains(&key) {
                self.model.mark(&key);
                queued += 1;
            }
        }
        assert_eq!((step.queued, step.done), (queued, self.model.bulk.is_empty()));
    }

    fn sweep(&mut self, n: u8) {
        for _ in 0..n {
            let Some(index) = self.cache.take_stale() else { break };
            let key = self.cache.key(index).unwrap();
            assert!(self.model.stale.remove(&key) && self.model.is_alive(&key));
            self.model.epoch = false;
            assert_eq!(self.cache.kill(index), self.model.kill(&key));
        }
        self.cache.end_epoch();
        self.model.epoch = false;
        self.model.stale.clear();
        self.model.tombstones.clear();
    }

    fn compare(&self) {
        self.cache.verify();
        let model = &self.model;
        assert_eq!(self.cache.len() as usize, model.flows.len());
        let alive = model.flows.values().filter(|o| o.state != State::Dead).count();
        assert_eq!(self.cache.alive_len() as usize, alive);
        assert_eq!(self.cache.pending_len() as usize, model.queue.len());
        assert_eq!(self.cache.unacked_len() as usize, model.unacked.len());
        assert_eq!(self.cache.next_changed().is_some(), !model.queue.is_empty());
        let mut flow = Flow::default();
        for (key, object) in &model.flows {
            let index = self.cache.find_any(&key.0, key.1).unwrap();
            let meta = self.cache.load(index, &mut flow).unwrap();
            assert_eq!(flow, object.flow);
            assert_eq!((meta.created, meta.updated), (object.created, object.updated));
            assert_eq!(
                (meta.state, meta.pos, meta.silent),
                (object.state, object.pos, object.silent)
            );
            assert_eq!(meta.pending, model.queue.contains(key));
            assert_eq!(meta.unacked, model.unacked.contains(key));
        }
        let mut silent = 0;
        let mut at = FlowIndex::FIRST;
        while let Some(index) = self.cache.next_silent(at) {
            assert!(model.flows[&self.cache.key(index).unwrap()].silent);
            silent += 1;
            at = index.next();
        }
        assert_eq!(silent, self.cache.silent_len());
        let mut listed = 0;
        let mut at = FlowIndex::FIRST;
        while let Some(index) = self.cache.next_from(at) {
            listed += 1;
            at = index.next();
        }
        assert_eq!(listed, alive);
    }
}

fn run(role: Role, ops: Vec<Op>, seed: u64) {
    let cache = Cache::new(CacheConfig { limit: LIMIT, role, seed: Some(seed) });
    let mut both = Both { cache, model: Model::new(role), sendings: Vec::new() };
    for (now, op) in ops.into_iter().enumerate() {
        both.step(op, now as u32);
        both.compare();
    }
    both.cache.clear();
    both.cache.verify();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn does_what_a_plain_map_does(
        role in prop_oneof![Just(Role::Internal), Just(Role::External), Just(Role::Stats)],
        ops in proptest::collection::vec(op(), 0..120),
        seed: u64,
    ) {
        run(role, ops, seed);
    }
}
