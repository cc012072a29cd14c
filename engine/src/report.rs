//! What one shard counted, and how it adds up to the figures of the daemon.

use proto_ctnl::render::{Parts, Render, expect_text, flow_text};
use proto_sync::{ResendEntry, Session};

use crate::bypass::Bypass;
use crate::cache::CacheCounters;
use crate::kernel::{Failure, KernelCounters, Object, errno};
use crate::log::Log;
use crate::shard::{Shard, ShardCounters};
use crate::snapshot::{
    CacheFigures, ExternalFigures, InternalFigures, NetworkFigures, OkFailed, Queue, Resend,
    SessionFigures, ShardFigures, Snapshot, SyncFigures,
};

/// One cache of one shard.
#[derive(Clone, Copy, Debug, Default)]
struct CacheReport {
    counters: CacheCounters,
    active: u64,
    total: u64,
    pending: u64,
}

/// Everything that one shard counts.
#[derive(Clone, Copy, Debug, Default)]
pub struct ShardReport {
    /// Number of the shard.
    pub id: u8,
    counters: ShardCounters,
    kernel: KernelCounters,
    bypass: Bypass,
    internal: CacheReport,
    external: CacheReport,
    expects_internal: CacheReport,
    expects_external: CacheReport,
    silent: u64,
    cache_bytes: u64,
    cpu_ns: u64,
    cpu: Option<u16>,
}

impl ShardReport {
    /// The figures of `shard`, whose thread is the calling one.
    pub fn of(shard: &Shard) -> Self {
        let caches = &shard.caches;
        let flows = |cache: &crate::cache::Cache| CacheReport {
            counters: cache.counters(),
            active: u64::from(cache.alive_len()),
            total: u64::from(cache.len()),
            pending: u64::from(cache.pending_len()),
        };
        let expects = |cache: &crate::expects::Expects| CacheReport {
            counters: cache.counters(),
            active: u64::from(cache.alive_len()),
            total: u64::from(cache.len()),
            pending: u64::from(cache.pending_len()),
        };
        Self {
            id: shard.id,
            counters: shard.counters,
            kernel: *shard.kernel.counters(),
            bypass: shard.bypass.unwrap_or_default(),
            internal: flows(&caches.internal),
            external: flows(&caches.external),
            expects_internal: expects(&caches.expects_internal),
            expects_external: expects(&caches.expects_external),
            silent: u64::from(caches.internal.silent_len()),
            cache_bytes: (caches.internal.allocated() + caches.external.allocated()) as u64,
            cpu_ns: (shard.cpu_time)().as_nanos() as u64,
            cpu: shard.cpu,
        }
    }

    /// Adds the shard to the figures of the daemon.
    pub fn add_to(&self, snapshot: &mut Snapshot, from_link_max: usize) {
        let counters = &self.counters;
        snapshot.traffic.bytes += counters.traffic.bytes;
        snapshot.traffic.packets += counters.traffic.packets;
        snapshot.netlink.events += counters.events;
        snapshot.netlink.filtered += counters.filtered;
        snapshot.netlink.unknown_events += counters.unknown;
        snapshot.netlink.overruns += counters.overruns;
        snapshot.netlink.event_errors += counters.overruns;
        snapshot.engine.silent_flows += self.silent;
        if let Some(sync) = &mut snapshot.sync {
            self.add_caches(sync);
        }
        for cache in [self.internal, self.external, self.expects_internal, self.expects_external] {
            snapshot.conditions.cache_full += cache.counters.no_space;
        }
        if let Some(statistics) = &mut snapshot.statistics {
            self.internal.add_to(statistics);
        }
        snapshot.engine.shards.push(ShardFigures {
            cpu: self.cpu,
            events: counters.events,
            drains: counters.drains,
            lost: counters.lost,
            overruns: counters.overruns,
            sent: counters.sent,
            received: counters.received,
            cpu_ns: self.cpu_ns,
            internal: self.internal.active,
            external: self.external.active,
            cache_bytes: self.cache_bytes,
            dirty: self.internal.pending,
            dirty_max: u64::from(self.internal.counters.pending_max),
            to_link_max: 0,
            from_link_max: from_link_max as u64,
            turn_max_us: counters.turn_max_us,
        });
    }

    fn add_caches(&self, sync: &mut SyncFigures) {
        let kernel = &self.kernel;
        self.internal.add_internal(&mut sync.internal, self.bypass);
        self.external.add_external(
            &mut sync.external,
            [kernel.inject_new, kernel.inject_update, kernel.inject_delete],
        );
        let injection = &mut sync.injection;
        injection.without_helper += kernel.without_helper;
        injection.without_master += kernel.without_master;
        injection.waited += kernel.orphaned;
        injection.refused += kernel.inject_refused;
        if let Some((internal, external)) = &mut sync.expects {
            self.expects_internal.add_internal(internal, Bypass::default());
            let injected = [kernel.inject_expect, OkFailed::default(), kernel.inject_expect_delete];
            self.expects_external.add_external(external, injected);
        }
        sync.network.send_malformed += self.counters.too_large;
        sync.queues.transmit.elements += self.internal.pending + self.expects_internal.pending;
        sync.queues.nodes += self.internal.pending + self.expects_internal.pending;
    }
}

impl CacheReport {
    fn add_internal(&self, figures: &mut InternalFigures, bypass: Bypass) {
        match figures {
            InternalFigures::Cache(figures) => self.add_to(figures),
            InternalFigures::Bypass { created, updated, destroyed } => {
                *created += bypass.created;
                *updated += bypass.updated;
                *destroyed += bypass.destroyed;
            }
        }
    }

    /// `injected`: created, updated, destroyed in the kernel instead of in a cache.
    fn add_external(&self, figures: &mut ExternalFigures, injected: [OkFailed; 3]) {
        match figures {
            ExternalFigures::Cache(figures) => self.add_to(figures),
            ExternalFigures::Inject { created, updated, destroyed } => {
                for (sum, own) in [created, updated, destroyed].into_iter().zip(injected) {
                    sum.ok += own.ok;
                    sum.failed += own.failed;
                }
            }
        }
    }

    fn add_to(&self, figures: &mut CacheFigures) {
        let counters = &self.counters;
        figures.objects += self.total;
        figures.active += self.active;
        figures.total += self.total;
        figures.created.ok += counters.created;
        figures.created.failed += counters.create_failed;
        figures.no_space += counters.no_space;
        figures.updated.ok += counters.updated;
        figures.deleted.ok += counters.destroyed;
    }
}

/// Puts what the session counted into the figures.
pub fn add_session(session: &Session, bulks: u64, snapshot: &mut Snapshot) {
    let counters = session.counters();
    snapshot.engine.session = Some(SessionFigures {
        resent: counters.requeued,
        evicted: counters.evicted,
        acks: counters.acks_received,
        nacks: counters.nacks_received,
        peer_restarts: counters.peer_starts,
        bulks,
        duplicates: counters.before,
    });
    let Some(sync) = &mut snapshot.sync else { return };
    sync.network = NetworkFigures {
        bad_version: counters.wrong_version,
        bad_header: counters.malformed_header,
        bad_payload: counters.malformed_payload,
        bad_type: counters.bad_type,
        truncated: counters.truncated,
        bad_size: counters.bad_size,
        send_malformed: counters.send_oversize,
        lost: counters.lost,
        before: counters.before,
    };
    let control = session.control_depth() as u64;
    sync.queues.transmit = Queue { elements: control, limit: i32::MAX as u64, no_space: 0 };
    sync.queues.nodes = control;
    if let Some(resend) = &mut sync.queues.resend {
        resend.elements = u64::from(session.resend_depth().0);
        resend.no_space = counters.evicted;
        sync.queues.nodes += resend.elements;
    }
    if let Some(list) = &mut sync.resend {
        list.extend(session.resend_queue().map(|entry| match entry {
            ResendEntry::Object { seq } => Resend { seq, control_flags: None },
            ResendEntry::Control { seq, flags } => Resend { seq, control_flags: Some(flags) },
        }));
    }
}

/// Tells the log of an entry that could not be put into the kernel, and which.
pub fn log_failure(log: &dyn Log, failure: &Failure) {
    let reason = errno::text(failure.errno);
    log.error(format_args!("{}: {reason}", failure.operation.text()));
    let render = Render { parts: Parts::REPLY, ..Render::default() };
    let mut line = Vec::new();
    match &*failure.object {
        Object::Flow(flow) => flow_text(flow, &render, &mut line),
        Object::Expect(expect) => expect_text(expect, &render, &mut line),
    }
    log.entry(format_args!("{}", String::from_utf8_lossy(&line)));
}
