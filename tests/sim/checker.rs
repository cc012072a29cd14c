//! What must hold in the end: caches and kernels agree, a takeover restores what there was, and
//! nothing is left behind.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use engine::cache::{Cache, FlowIndex};
use engine::command::{Request, Scope, StatKind};
use proto_ctnl::{Flow, Labels, Name, Present, ProtoInfo, SeqAdj, Status, Tuple};
use proto_sync::{FlowPayload, Kind, Messages, encode_flow};

use crate::kernel::{Key, key};
use crate::node::{Node, encode_options};
use crate::settings::Settings;
use crate::world::World;

/// Time in which everything must agree once nothing goes wrong any more: a look after silent flows
/// comes within a minute, and a resend queue of a few places takes its time.
const BOUND: Duration = Duration::from_secs(100);

/// What is replicated of a flow, the absent being what it stands for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct View {
    status: Status,
    mark: u32,
    protoinfo: Option<ProtoInfo>,
    helper: Name<16>,
    master: Option<Tuple>,
    labels: Labels,
    seqadj: Option<[SeqAdj; 2]>,
    translation: [Option<(std::net::IpAddr, u16)>; 2],
    ports: [Option<u16>; 2],
}

pub(crate) type Views = BTreeMap<Key, View>;

/// The view of a flow as a peer tells it.
fn told(flow: &Flow) -> View {
    let has = |bit| flow.present.has(bit);
    View {
        status: flow.status,
        mark: if has(Present::MARK) { flow.mark } else { 0 },
        protoinfo: has(Present::PROTOINFO).then_some(flow.protoinfo),
        helper: if has(Present::HELPER) { flow.helper } else { Name::EMPTY },
        master: has(Present::MASTER).then_some(flow.master),
        labels: if has(Present::LABELS) { flow.labels } else { Labels::default() },
        seqadj: has(Present::SEQADJ).then_some(flow.seqadj),
        translation: [
            has(Present::SNAT).then_some((flow.snat, 0)),
            has(Present::DNAT).then_some((flow.dnat, 0)),
        ],
        ports: [has(Present::SPAT).then_some(flow.spat), has(Present::DPAT).then_some(flow.dpat)],
    }
}

/// The view of a flow of the kernel's: what a peer has after it was told.
fn of_kernel(flow: &Flow, settings: &Settings) -> View {
    let mut room = [0; 512];
    let len = encode_flow(Kind::New, flow, &encode_options(settings), &mut room).expect("it fits");
    let message = Messages::new(&room[..len]).next().expect("a message").expect("whole");
    let payload = FlowPayload::parse(message.payload()).expect("well-formed");
    let mut flow = Flow::default();
    payload.write_to(&mut flow);
    told(&flow)
}

fn each(cache: &Cache, mut visit: impl FnMut(&Flow)) {
    let mut at = FlowIndex::FIRST;
    let mut flow = Flow::default();
    while let Some(index) = cache.next_from(at) {
        at = index.next();
        flow.clear();
        cache.load(index, &mut flow).expect("it is there");
        visit(&flow);
    }
}

/// What the kernel of a node holds.
pub(crate) fn kernel(world: &World, id: usize) -> Views {
    let table = &world.kernels[id].table;
    table.iter().map(|(key, e)| (*key, of_kernel(&e.flow, &world.settings))).collect()
}

/// What a node says that its kernel holds.
pub(crate) fn internal(world: &World, id: usize) -> Views {
    let mut views = Views::new();
    for shard in world.node(id).shards() {
        each(&shard.caches().internal, |flow| {
            views.insert(key(flow), of_kernel(flow, &world.settings));
        });
    }
    views
}

/// What a node was told by its peer.
pub(crate) fn external(world: &World, id: usize) -> Views {
    let mut views = Views::new();
    for shard in world.node(id).shards() {
        each(&shard.caches().external, |flow| {
            views.insert(key(flow), told(flow));
        });
    }
    views
}

/// Where two sets differ, in words.
fn difference(what: &str, is: &Views, should: &Views) -> Vec<String> {
    let mut lines = Vec::new();
    for (key, view) in should {
        match is.get(key) {
            None => lines.push(format!("{what} lacks {key:?}: {view:?}")),
            Some(other) if other != view => {
                lines.push(format!("{what} {key:?}\n  is     {other:?}\n  should {view:?}"));
            }
            Some(_) => {}
        }
    }
    for (key, view) in is.iter().filter(|(key, _)| !should.contains_key(key)) {
        lines.push(format!("{what} has more: {key:?}: {view:?}"));
    }
    lines
}

/// Panics with the run's story.
fn fail(world: &World, lines: &[String]) -> ! {
    let lines = &lines[..lines.len().min(4)];
    let from = world.story.len().saturating_sub(story_lines());
    eprintln!("{}", world.story[from..].join("\n"));
    panic!("SHARDTRACK_SEED={} {:#?}\n{}", world.settings.seed, world.settings, lines.join("\n"));
}

fn story_lines() -> usize {
    std::env::var("SHARDTRACK_STORY").ok().and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// Every structure agrees with itself, and no bound is exceeded.
pub(crate) fn verify(world: &World) {
    for node in world.nodes.iter().flatten() {
        for shard in node.shards() {
            let caches = shard.caches();
            caches.internal.verify();
            caches.external.verify();
            let limit = world.settings.limit.div_ceil(node.shards().count() as u32);
            assert!(caches.internal.len() <= limit && caches.external.len() <= limit);
        }
    }
}

/// Where the nodes and their kernels do not agree.
fn disagreements(world: &World) -> Vec<String> {
    let mut lines = Vec::new();
    for id in 0..2 {
        let table = kernel(world, id);
        lines.extend(difference(&format!("internal cache {id}"), &internal(world, id), &table));
        lines.extend(difference(
            &format!("external cache {}", 1 - id),
            &external(world, 1 - id),
            &table,
        ));
        if !world.node(id).is_idle() {
            lines.push(format!("node {id} has not come to rest, open {:?}", world.node(id).open));
        }
    }
    lines
}

/// Waits until `disagree` finds nothing, then some time more.
fn converge(world: &mut World, disagree: impl Fn(&World) -> Vec<String>) {
    let end = world.now + BOUND;
    while !disagree(world).is_empty() {
        let next = world.now + Duration::from_secs(1);
        world.run(next, false);
        if world.now > end {
            fail(world, &disagree(world));
        }
    }
    let end = world.now + Duration::from_secs(4);
    world.run(end, false);
    let lines = disagree(world);
    if !lines.is_empty() {
        fail(world, &lines);
    }
    verify(world);
}

/// Both nodes come to know what their kernels hold, and what the other's holds.
pub(crate) fn agree(world: &mut World) {
    converge(world, disagreements);
}

/// What an operator does after what no protocol repairs.
fn repair(world: &mut World) {
    let settle = |world: &mut World, secs| {
        let end = world.now + Duration::from_secs(secs);
        world.run(end, false);
    };
    settle(world, 8);
    let rough = world.settings.weather.loss > 0
        || world.settings.weather.late > 0
        || world.settings.weather.copies > 0
        || world.settings.weights.cut > 0
        || world.settings.inbox < 100
        || world.settings.weights.crash > 0;
    for id in 0..2 {
        if !world.is_acknowledged() && rough {
            world.repair[id].external = true;
        }
        if world.settings.limit < world.settings.keys {
            shrink(world, id);
            world.repair[id].internal = true;
            world.repair[id].external = true;
        }
    }
    settle(world, 8);
    // A flow that ended takes its place in the cache until the peer has heard of it.
    let end = world.now + BOUND;
    while (0..2).any(|id| !world.node(id).is_idle()) && world.now < end {
        settle(world, 1);
    }
    for id in 0..2 {
        if world.repair[id].internal {
            world.ask(id, Request::Resync(Scope::Flows));
        }
    }
    settle(world, 3);
    for id in 0..2 {
        let repair = world.repair[id];
        if repair.external {
            world.ask(id, Request::FlushExternal);
            world.ask(id, Request::RequestResync);
        }
        if repair.bulk || repair.internal {
            world.ask(id, Request::Bulk);
        }
    }
}

/// Ends flows until every cache has room for the rest.
fn shrink(world: &mut World, id: usize) {
    let shards = *world.settings.shards.iter().max().expect("two");
    let most = world.settings.limit as usize / shards / 2;
    while world.kernels[id].table.len() > most {
        let key = *world.kernels[id].table.keys().next().expect("not empty");
        world.end_flow(id, key);
    }
}

/// The end of a run.
pub(crate) fn finish(world: &mut World) {
    world.calm();
    repair(world);
    agree(world);
    figures(world);
    takeover(world);
    clear_out(world);
}

/// Counters add up.
fn figures(world: &mut World) {
    for id in 0..2 {
        world.ask(id, Request::Statistics(StatKind::Flows));
    }
    let end = world.now + Duration::from_millis(500);
    world.run(end, false);
    for id in 0..2 {
        let node: &Node = world.node(id);
        let figures = node.figures().expect("they were asked for");
        let dropped = figures.netlink.events + figures.netlink.unknown_events;
        assert!(dropped <= node.events, "events {dropped} of {}", node.events);
        let sync = figures.sync.expect("it replicates");
        let held = |name: &str, created: u64, deleted: u64, active: u64| {
            assert_eq!(created - deleted, active, "{name} of {id}");
        };
        if let engine::snapshot::InternalFigures::Cache(c) = sync.internal {
            held("internal", c.created.ok, c.deleted.ok, c.active);
        }
        if let engine::snapshot::ExternalFigures::Cache(c) = sync.external {
            held("external", c.created.ok, c.deleted.ok, c.active);
        }
    }
}

/// Bits of the status that a commit restores. The kernel sets those of translation by what is
/// translated, which is compared as such.
const RESTORED: u32 = 0xf;

/// Flows that a node may leave out when it commits: as far as it knows, they have run out.
fn run_out(world: &World, id: usize) -> BTreeSet<Key> {
    let mut keys = BTreeSet::new();
    if world.settings.commit_timeout.is_some() {
        return keys;
    }
    let node = world.node(id);
    for shard in node.shards() {
        let cache = &shard.caches().external;
        let mut flow = Flow::default();
        let mut at = FlowIndex::FIRST;
        while let Some(index) = cache.next_from(at) {
            at = index.next();
            flow.clear();
            let meta = cache.load(index, &mut flow).expect("it is there");
            let age = node.age_secs(world.now).saturating_sub(meta.updated);
            let open = !matches!(flow.protoinfo, ProtoInfo::Tcp(tcp)
                if flow.present.has(Present::PROTOINFO) && tcp.state != 3);
            // Packets may have renewed it without a word.
            let renewed = flow.status.has(Status::ASSURED) && open;
            if age + 2 >= flow.timeout && !renewed {
                keys.insert(key(&flow));
            }
        }
    }
    keys
}

/// The backup commits: its kernel then has what it had, and what the other one has.
fn takeover(world: &mut World) {
    let to = 1 - world.active;
    let before = kernel(world, to);
    let mut should = before.clone();
    let expected = external(world, to);
    let over = run_out(world, to);
    // However many generations there are, and whatever the cache has first. A master that is not
    // there is a loss, but none of the flow.
    let is_there = |key: &Key| before.contains_key(key) || expected.contains_key(key);
    let mut unsure = BTreeSet::new();
    for (key, view) in &expected {
        let mut view = *view;
        if let Some(master) = view.master.map(|master| (master, key.1)) {
            if !is_there(&master) {
                view.master = None;
                view.status = view.status.without(Status::EXPECTED);
            } else if !before.contains_key(&master) && over.contains(&master) {
                unsure.insert(*key);
            }
        }
        should.insert(*key, view);
    }
    world.ask(to, Request::Commit(Scope::Flows));
    world.active = to;
    for _ in 0..4 {
        let soon = world.now + Duration::from_millis(500);
        world.run(soon, false);
        // What was committed with a few seconds to live has traffic here.
        world.kernels[to].keep_alive(world.now);
    }
    let masked = |mut views: Views| -> Views {
        views.retain(|key, _| !over.contains(key));
        for (key, view) in &mut views {
            view.status.0 &= RESTORED;
            if expected.get(key).is_some_and(|told| told.protoinfo.is_none()) {
                // An entry that is updated keeps the state that nobody told; a new one has none.
                view.protoinfo = None;
            }
            if before.contains_key(key) || unsure.contains(key) {
                // An entry that is updated keeps its master, as no update changes that; it is not
                // worth a replacement, which fails where the new master is missing. And a new one
                // has none if that was left out.
                view.master = None;
                view.status = view.status.without(Status::EXPECTED);
            }
        }
        views
    };
    let should = masked(should);
    converge(world, |world| {
        let mut lines = difference("kernel of the new master", &masked(kernel(world, to)), &should);
        lines.extend(difference("its cache", &internal(world, to), &kernel(world, to)));
        if !world.node(to).is_idle() {
            lines.push("not at rest".into());
        }
        lines
    });
    // As the script of a new master does: what is owned here now, and what ended here.
    world.ask(to, Request::Bulk);
    // Packets now go here, and the peer hears of it.
    let keys: Vec<Key> = world.kernels[to].table.keys().copied().collect();
    for key in keys {
        world.change(key);
    }
    // The end of a silent flow would be seen within a minute, and not before.
    world.kernels[to].keep_alive(world.now);
    converge(world, |world| {
        difference("external cache of the old master", &external(world, 1 - to), &kernel(world, to))
    });
}

/// All flows end, and nothing is left anywhere.
fn clear_out(world: &mut World) {
    for id in 0..2 {
        let keys: Vec<Key> = world.kernels[id].table.keys().copied().collect();
        for key in keys {
            world.end_flow(id, key);
        }
    }
    converge(world, |world| {
        let mut lines = disagreements(world);
        for (id, node) in world.nodes.iter().flatten().enumerate() {
            for shard in node.shards() {
                let caches = shard.caches();
                // Ends that fell out of the resend queue are kept for the next bulk send.
                let internal = caches.internal.alive_len() + caches.internal.unacked_len();
                if internal + caches.external.len() > 0 {
                    lines.push(format!("node {id}: something is left"));
                }
            }
        }
        lines
    });
}
