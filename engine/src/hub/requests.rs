//! What clients ask of the hub.

use std::time::{Duration, Instant};

use super::{Answer, Hub, HubEvent, Then};
use crate::command::{Object, Request, Scope, Side};
use crate::commands::{Commands, Step};
use crate::order::{Asker, Caches, CommitPass, TableUse};
use crate::report::{self, ShardReport};

/// How long a flush that is due during a commit is put off before it is looked again.
const COMMIT_PAUSE: Duration = Duration::from_millis(100);
/// Who asks for what the hub does by itself: no client has this number for long.
const NOBODY: Asker = Asker(u32::MAX);

impl Hub {
    /// A request of a client.
    pub fn request(&mut self, now: Instant, asker: Asker, id: u32) {
        let Some(request) = Request::from_id(id) else {
            self.base.runtime.local_unknown += 1;
            self.done(asker);
            return;
        };
        if !self.serves(request) {
            self.done(asker);
            return;
        }
        match request {
            Request::Stop => {
                self.events.push_back(HubEvent::Stop);
                self.done(asker);
            }
            Request::Statistics(kind) => {
                self.statistics.push_back((asker, Some(kind)));
                self.steps(Commands::figures, asker);
            }
            Request::Dump(side, object, format) => {
                let hidden = object == Object::Expect && !self.expectations
                    || side == Side::External && self.inject;
                if hidden {
                    self.done(asker);
                } else if self.bypass && (side, object) == (Side::Internal, Object::Flow) {
                    self.readers.push((TableUse::List, asker));
                    self.plan.demand(now, TableUse::List);
                } else if let Some(step) = self.commands.dump(asker, side, object, format) {
                    self.step(step);
                }
            }
            Request::Commit(scope) => self.commit(now, asker, scope),
            Request::FlushKernel(scope) => self.flush_kernel(now, asker, scope),
            Request::Resync(scope) if self.bypass => {
                // As the original does, for flows and for expectations.
                let parts = match scope {
                    Scope::All => 1 + usize::from(self.expectations),
                    Scope::Flows | Scope::Expects => 1,
                };
                for _ in 0..parts {
                    self.log.notice(format_args!("resync is unsupported in this mode"));
                }
                self.done(asker);
            }
            Request::Resync(scope) => {
                if scope != Scope::Expects {
                    self.base.netlink.resyncs += 1;
                    self.log.notice(format_args!("resync with master conntrack table"));
                }
                if scope != Scope::Flows && self.expectations {
                    self.base.netlink.resyncs += 1;
                    self.log.notice(format_args!("resync with master expect table"));
                }
                self.readers.push((TableUse::Merge, asker));
                self.plan.demand(now, TableUse::Merge);
            }
            Request::Bulk => {
                self.bulk(now, true);
                self.done(asker);
            }
            Request::RequestResync => {
                self.request_resync();
                self.done(asker);
            }
            Request::FlushCaches(_) | Request::FlushInternal | Request::FlushExternal => {
                self.flush(now, asker, request);
            }
            Request::DelayedFlush => {
                self.schedule_purge(now);
                self.done(asker);
            }
        }
    }

    /// Whether the daemon has what is asked for: without a peer there are no external caches, and
    /// without statistics either nothing but its figures.
    const fn serves(&self, request: Request) -> bool {
        match request {
            Request::Stop | Request::Statistics(_) => true,
            _ if self.session.is_some() => true,
            Request::FlushKernel(_)
            | Request::Resync(_)
            | Request::Dump(Side::Internal, Object::Flow, _)
            | Request::FlushCaches(_)
            | Request::FlushInternal => self.base.statistics.is_some(),
            _ => false,
        }
    }

    fn steps(&mut self, command: fn(&mut Commands, Asker) -> Vec<Step>, asker: Asker) {
        for step in command(&mut self.commands, asker) {
            self.step(step);
        }
    }

    fn commit(&mut self, now: Instant, asker: Asker, scope: Scope) {
        if self.is_committing() {
            self.log.notice(format_args!("commit already in progress, skipping"));
            self.failed(asker);
            return;
        }
        let (flows, expects): (&[CommitPass], &[CommitPass]) =
            (&[CommitPass::Unrelated, CommitPass::Related], &[CommitPass::Expectations]);
        let (text, passes) = match scope {
            Scope::Flows => ("committing conntrack cache", flows.to_vec()),
            Scope::Expects if self.expectations => {
                ("committing expectation cache", expects.to_vec())
            }
            Scope::Expects => {
                self.done(asker);
                return;
            }
            Scope::All if self.expectations => {
                ("committing all external caches", [flows, expects].concat())
            }
            Scope::All => ("committing all external caches", flows.to_vec()),
        };
        self.purge_at = None;
        if self.plan.is_flushing() {
            // It would take away again what is committed meanwhile.
            self.commit_waits = Some((asker, scope));
            return;
        }
        self.log.notice(format_args!("{text}"));
        let steps = if self.inject {
            // It goes into the kernel by itself, but the peer tells faster than the kernel takes.
            self.commands.settle(asker, now)
        } else {
            self.commands.commit(asker, now, &passes)
        };
        for step in steps {
            self.step(step);
        }
    }

    /// Whether a commit is under way, or waits.
    const fn is_committing(&self) -> bool {
        self.commands.is_committing() || self.commit_waits.is_some()
    }

    /// The kernel's table was emptied: what waited for that is committed.
    pub(super) fn flushed(&mut self, now: Instant) {
        if let Some((asker, scope)) = self.commit_waits.take() {
            self.commit(now, asker, scope);
        }
    }

    /// A second request does not put off the first.
    fn schedule_purge(&mut self, now: Instant) {
        if self.purge_at.is_none() {
            let secs = self.purge_delay.as_secs();
            self.log.notice(format_args!("flushing conntrack table in {secs} secs"));
            self.purge_at = Some(now + self.purge_delay);
        }
    }

    /// The flush that was scheduled: the flows are another node's by now. That one is told
    /// nothing, so the cache is emptied first.
    pub(super) fn purge(&mut self, now: Instant) {
        if self.is_committing() {
            self.purge_at = Some(now + COMMIT_PAUSE);
            return;
        }
        self.purge_at = None;
        self.log.notice(format_args!("flushing kernel conntrack table (scheduled)"));
        self.base.netlink.flushes += 1;
        let caches = Caches { internal: true, external: false, expectations: false };
        for step in self.commands.flush(NOBODY, caches) {
            self.step(step);
        }
        self.plan.demand(now, TableUse::Flush);
    }

    fn flush_kernel(&mut self, now: Instant, asker: Asker, scope: Scope) {
        if self.is_committing() {
            // Both would say that they did all of it, and the table would hold a part.
            self.log.error(format_args!("ignoring flush command, commit still in progress"));
            self.failed(asker);
            return;
        }
        if scope != Scope::Expects {
            self.log.notice(format_args!("flushing kernel conntrack table"));
            self.base.netlink.flushes += 1;
            self.readers.push((TableUse::Flush, asker));
            self.plan.demand(now, TableUse::Flush);
        }
        if scope != Scope::Flows && self.expectations {
            self.log.notice(format_args!("flushing kernel expect table"));
            self.base.netlink.flushes += 1;
            self.shards.local.flush_kernel_expects();
        }
        if scope == Scope::Expects {
            self.done(asker);
        }
    }

    fn flush(&mut self, now: Instant, asker: Asker, request: Request) {
        let (text, caches) = match request {
            // One cache is all there is to a daemon that only counts.
            Request::FlushInternal if self.session.is_some() => (
                "flushing internal cache",
                Caches { internal: true, external: false, expectations: false },
            ),
            Request::FlushExternal => (
                "flushing external cache",
                Caches { internal: false, external: true, expectations: false },
            ),
            _ => (
                "flushing caches",
                Caches { internal: true, external: true, expectations: self.expectations },
            ),
        };
        // Without an internal cache it is the kernel's table that is flushed.
        if (caches.external || self.bypass) && self.is_committing() {
            self.log.error(format_args!("ignoring flush command, commit still in progress"));
            self.failed(asker);
            return;
        }
        if caches.internal {
            self.purge_at = None;
        }
        self.log.notice(format_args!("{text}"));
        let mut asker = asker;
        if self.bypass && caches.internal {
            // What stands for the internal cache is the kernel's table.
            self.readers.push((TableUse::Flush, asker));
            self.plan.demand(now, TableUse::Flush);
            asker = NOBODY;
        }
        for step in self.commands.flush(asker, caches) {
            self.step(step);
        }
    }

    pub(super) fn ask_status(&mut self) {
        if self.console.wants_status() {
            self.statistics.push_back((NOBODY, None));
            self.steps(Commands::figures, NOBODY);
        }
    }

    pub(super) fn figures(&mut self, asker: Asker, reports: &[ShardReport]) {
        let Some((_, kind)) = self.statistics.pop_front() else { return };
        let mut snapshot = self.base.clone();
        snapshot.uptime_secs = self.now.saturating_duration_since(self.began).as_secs();
        let conditions = &mut snapshot.conditions;
        conditions.resync_running = self.plan.is_running();
        conditions.commit_running = self.is_committing();
        self.watch.figures(self.now, self.session.as_ref(), conditions);
        snapshot.engine.log_dropped = self.log.dropped();
        if let Some(sync) = &mut snapshot.sync {
            self.links.figures(sync);
        }
        if let Some(session) = &self.session {
            report::add_session(session, self.bulks, &mut snapshot);
        }
        for (k, report) in reports.iter().enumerate() {
            report.add_to(&mut snapshot, self.shards.high_water(k));
        }
        // So far it is the time of the whole process.
        let shards: u64 = snapshot.engine.shards.iter().map(|shard| shard.cpu_ns).sum();
        let other = &mut snapshot.engine.other_cpu_ns;
        *other = other.saturating_sub(shards);
        let Some(kind) = kind else {
            self.console.status(&snapshot);
            return;
        };
        let mut bytes = Vec::new();
        self.console.statistics(kind, &snapshot, &mut bytes);
        self.answers.push_back(Answer { asker, bytes, then: Then::Done });
    }
}
