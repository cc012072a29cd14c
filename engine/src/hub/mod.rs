//! The hub: owns the replication session and the control commands, and is the only place where
//! the shards meet. Sans-io; `run` gives it bytes and takes bytes from it.

mod committed;
mod intake;
mod links;
mod listing;
mod patience;
mod peer;
mod requests;
mod watch;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proto_ctnl::consts::subsys;
use proto_ctnl::{Content as KernelContent, Messages};
use proto_sync::Session;

use crate::audit::Audit;
use crate::clock::Moment;
use crate::command::{Scope, StatKind};
use crate::commands::{Commands, Step};
use crate::config::Intake;
use crate::console::Console;
use crate::filter::FlowFilter;
use crate::kernel::AuditMethod;
use crate::link::LinkSet;
use crate::log::Log;
use crate::mesh::Content;
use crate::order::{Asker, Order, Outcome, TableUse};
use crate::report;
use crate::resend::Resend;
use crate::resync::ResyncPlan;
use crate::shards::Shards;
use crate::snapshot::Snapshot;
use watch::Watch;

/// Bytes for a client.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// Who asked.
    pub asker: Asker,
    /// What to send.
    pub bytes: Vec<u8>,
    /// What follows.
    pub then: Then,
}

/// What follows an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// More of it.
    More,
    /// The end: what was asked for is done.
    Done,
    /// The end: it was refused, or could not be done in full.
    Failed,
}

/// What the owner of the hub has to do beside moving bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HubEvent {
    /// Ask the kernel for its flows, and for its expectations if they are replicated; answers go
    /// to [`Hub::on_dump`].
    StartDump,
    /// End the daemon.
    Stop,
}

/// Without an external cache, the time that the peer has to say which flows are its own before it is
/// told all that was read at the start.
const PEER_FIRST: Duration = Duration::from_secs(2);
/// Time between two status lines.
const STATUS_GAP: Duration = Duration::from_secs(5);

/// See the module's description.
pub struct Hub {
    /// The shards.
    pub shards: Shards,
    /// The links, if the daemon replicates.
    pub links: LinkSet,
    /// Figures that the owner keeps: process, intake.
    pub base: Snapshot,
    session: Option<Session>,
    commands: Commands,
    plan: ResyncPlan,
    /// Events lost since the kernel's table was last read because of that.
    lost: u64,
    /// Ends of objects that were forgotten since the last bulk send.
    forgotten: u64,
    /// Whether shard 0 takes events of the others.
    shared_intake: bool,
    /// The intake, if it takes the events of all shards.
    one_intake: Option<intake::SharedIntake>,
    /// Who waits for a reading of the kernel's table.
    readers: Vec<(TableUse, Asker)>,
    /// A commit that waits until the kernel's table is emptied.
    commit_waits: Option<(Asker, Scope)>,
    /// Who asked for figures, and of which kind; of none is for the status line.
    statistics: VecDeque<(Asker, Option<StatKind>)>,
    /// When the status line is due.
    status_at: Instant,
    inject: bool,
    /// Own flows are told and not kept.
    bypass: bool,
    filter: Arc<FlowFilter>,
    listing: listing::Listing,
    expectations: bool,
    began: Instant,
    /// When the turn began.
    now: Instant,
    log: Arc<dyn Log>,
    console: Box<dyn Console>,
    answers: VecDeque<Answer>,
    events: VecDeque<HubEvent>,
    bulks: u64,
    audit: Audit,
    watch: Watch,
    populated: bool,
    acknowledged: bool,
    /// When everything is to be sent again because a link failed, or the peer asked soon after it
    /// got all.
    resend: Resend,
    /// When the peer is to be asked for everything, because messages of it were dropped or there was
    /// no link when it was asked.
    request_at: Option<Instant>,
    /// How long that waits if what the peer tells is too much.
    patience: patience::Patience,
    /// Whether it is to be asked when it connects for the first time.
    ask_on_connect: bool,
    /// When the peer's last request was answered.
    asked_at: Option<Instant>,
    poll: Option<Duration>,
    /// When the kernel's table is to be read because nobody listens for events.
    poll_at: Option<Instant>,
    purge_delay: Duration,
    /// When the kernel's table is to be flushed.
    purge_at: Option<Instant>,
}

/// What a hub is made of.
pub struct HubParts {
    /// The shards.
    pub shards: Shards,
    /// The links.
    pub links: LinkSet,
    /// The session, if the daemon replicates.
    pub session: Option<Session>,
    /// Longest time from an overrun to the re-reading of the table; `None` never re-reads.
    pub overrun_resync: Option<Duration>,
    /// Time between two readings of the kernel's table where these take the place of events.
    pub poll: Option<Duration>,
    /// Buckets of the kernel's hash table.
    pub buckets: u64,
    /// Whether shards can look at silent flows without asking for each.
    pub look: bool,
    /// Whether received flows go straight into the kernel.
    pub inject: bool,
    /// Whether own flows are told and not kept.
    pub bypass: bool,
    /// Which flows of the kernel's table are shown.
    pub filter: Arc<FlowFilter>,
    /// Whether the peer acknowledges what it gets.
    pub acknowledged: bool,
    /// Whether expectations are replicated.
    pub expectations: bool,
    /// Time from a request for a delayed flush to the flush.
    pub purge_delay: Duration,
    /// Takes lines.
    pub log: Arc<dyn Log>,
    /// Writes figures.
    pub console: Box<dyn Console>,
    /// Figures that do not change.
    pub base: Snapshot,
}

impl Hub {
    /// A hub that begins to run at `now`. It reads the kernel's table first, if it replicates or
    /// counts.
    pub fn new(parts: HubParts, now: Instant) -> Self {
        let count = parts.shards.count();
        // Else flows are of no interest, and there is no cache to be filled.
        let follows = parts.session.is_some() || parts.base.statistics.is_some();
        let plan = ResyncPlan::new(count, parts.overrun_resync, follows);
        let single = parts.base.engine.intake == Intake::Single;
        let shared_intake = parts.expectations || single;
        Self {
            shards: parts.shards,
            links: parts.links,
            base: parts.base,
            session: parts.session,
            commands: Commands::new(count),
            plan,
            readers: Vec::new(),
            commit_waits: None,
            lost: 0,
            forgotten: 0,
            shared_intake,
            one_intake: single.then(intake::SharedIntake::default),
            audit: Audit::new(parts.buckets, parts.look),
            watch: Watch::new(now),
            populated: !follows,
            acknowledged: parts.acknowledged,
            resend: Resend::default(),
            request_at: None,
            patience: patience::Patience::new(),
            ask_on_connect: false,
            asked_at: None,
            poll: parts.poll,
            poll_at: None,
            purge_delay: parts.purge_delay,
            purge_at: None,
            statistics: VecDeque::new(),
            status_at: now,
            inject: parts.inject,
            bypass: parts.bypass,
            filter: parts.filter,
            listing: listing::Listing::default(),
            expectations: parts.expectations,
            began: now,
            now,
            log: parts.log,
            console: parts.console,
            answers: VecDeque::new(),
            events: VecDeque::new(),
            bulks: 0,
        }
    }

    /// Sets the time of this turn; call it before anything else in a turn.
    pub fn begin_turn(&mut self, now: Instant) -> Moment {
        self.now = now;
        let moment = Moment::new(now, self.began);
        self.shards.begin_turn(moment);
        moment
    }

    /// Whether the kernel's table was read since the start, as far as that is to be.
    pub const fn is_populated(&self) -> bool {
        self.populated
    }

    /// Writes the next datagram for the current link into `room`, whose length is the link's
    /// maximum. Call it until it gives nothing.
    pub fn poll_transmit(&mut self, now: Instant, room: &mut [u8]) -> Option<usize> {
        self.session.as_mut()?.poll_transmit(now, room, &mut self.shards)
    }

    /// A datagram from an event socket that no filter sorted: each message goes to its shard.
    pub fn on_events(&mut self, datagram: &[u8]) {
        self.distribute(Content::Events, datagram);
    }

    /// A datagram from one of shard 0's sockets, where a filter lets only its own flows pass. Of
    /// expectations shard 0 hears for all.
    pub fn on_own_events(&mut self, datagram: &[u8]) {
        let first = Messages::new(datagram).next().and_then(Result::ok);
        if first.is_some_and(|message| message.subsystem() == subsys::CTNETLINK_EXP) {
            self.distribute(Content::Events, datagram);
        } else {
            self.shards.own_events(datagram);
        }
    }

    /// A datagram of the dump asked for by [`HubEvent::StartDump`].
    pub fn on_dump(&mut self, now: Instant, datagram: &[u8]) {
        if self.plan.purpose() == Some(TableUse::List) {
            self.list(now, datagram);
        } else {
            self.distribute(Content::Dump, datagram);
        }
    }

    fn distribute(&mut self, content: Content, datagram: &[u8]) {
        for message in Messages::new(datagram) {
            let Ok(message) = message else {
                self.base.netlink.unknown_events += 1;
                continue;
            };
            let tuple = match message.content() {
                Ok(KernelContent::Flow(flow)) => Some(flow.orig()),
                Ok(KernelContent::Expect(expect)) => expect.master().ok(),
                Ok(KernelContent::Done { .. }) => continue,
                _ => None,
            };
            match tuple {
                Some(tuple) => self.shards.kernel_message(content, &tuple, message.bytes),
                None => self.base.netlink.unknown_events += 1,
            }
        }
    }

    /// The dump has ended; `complete` tells whether all of it was seen.
    pub fn dump_ended(&mut self, now: Instant, complete: bool) {
        let shards = self.plan.shards();
        for k in (0..self.shards.count()).filter(|&k| shards.has(k)) {
            self.shards.order(k, Order::ReadEnd { complete });
        }
        if let Some(purpose) = self.plan.told(now) {
            self.table_read(now, purpose);
        }
    }

    /// Whether the next datagram of a dump may be asked for.
    pub fn has_room_for_dump(&self) -> bool {
        self.listing.has_room() && self.shards.has_room_for_dump()
    }

    /// Whether a reading that finds no room for long is to be given up, and repeated later: without an
    /// internal cache it may wait for a peer that is not there.
    pub fn dump_is_in_the_way(&self) -> bool {
        self.bypass && self.plan.is_in_the_way()
    }

    /// Does what became due and takes what the shards answered.
    pub fn turn(&mut self, now: Instant) {
        self.session_turn(now);
        if self.links.poll_timeout().is_some_and(|at| at <= now) {
            self.choose_link(now);
        }
        self.take_outcomes(now);
        self.watch.turn(now, self.session.as_ref(), &*self.log);
        let dropped = self.shards.take_dropped();
        if dropped.events > 0 {
            self.base.netlink.event_errors += dropped.events;
            self.plan.lost_of_all(now);
        }
        if dropped.peer > 0 {
            self.links.dropped += dropped.peer;
            self.request_later(now);
        }
        self.resync_turn(now);
        if self.poll_at.take_if(|at| *at <= now).is_some() {
            self.plan.demand(now, TableUse::Reconcile);
        }
        if self.may_read(now)
            && let Some((purpose, shards)) = self.plan.poll(now)
        {
            for k in (0..self.shards.count()).filter(|&k| shards.has(k)) {
                self.shards.order(k, Order::ReadBegin(purpose));
            }
            if purpose == TableUse::List {
                self.list_begins();
            }
            let resync = purpose == TableUse::Reconcile && self.poll.is_none() && !self.bypass;
            self.base.netlink.resyncs += u64::from(resync);
            let lost = std::mem::take(&mut self.lost);
            if lost > 0 {
                self.log.notice(format_args!("{lost} events were lost, reading the kernel table"));
            }
            // Shard 0 has begun already, and nothing else would wake for its word.
            self.take_outcomes(now);
        }
        if self.status_at <= now && self.populated {
            self.status_at = now + STATUS_GAP;
            self.ask_status();
        }
        self.list_without_slow(now);
        if self.purge_at.is_some_and(|at| at <= now) {
            self.purge(now);
        }
        if self.audit.is_due(now) {
            self.audit.begin_census(now, self.shards.count());
            for k in 0..self.shards.count() {
                self.shards.order(k, Order::Census);
            }
        }
    }

    fn take_outcomes(&mut self, now: Instant) {
        while let Some((k, outcome)) = self.shards.poll_outcome() {
            self.outcome(now, k, outcome);
        }
    }

    /// When [`Self::turn`] has something to do at the latest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let session = self.session.as_ref().and_then(Session::poll_timeout);
        [
            session,
            self.plan.poll_timeout(),
            self.audit.due,
            self.links.poll_timeout(),
            self.resync_due(),
            self.purge_at,
            self.poll_at,
            self.listing.poll_timeout(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// What the owner has to do.
    pub fn poll_event(&mut self) -> Option<HubEvent> {
        self.events.pop_front()
    }

    /// The next bytes for a client.
    pub fn poll_answer(&mut self) -> Option<Answer> {
        self.answers.pop_front()
    }

    /// The client of `asker` has taken all that was written for it.
    pub fn answered(&mut self, asker: Asker) {
        self.listing.forget(asker);
        if let Some(step) = self.commands.go_on(asker) {
            self.step(step);
        }
    }

    /// The client of `asker` has left.
    pub fn gone(&mut self, asker: Asker) {
        self.list_left(asker);
        self.commands.forget(asker);
    }

    fn outcome(&mut self, now: Instant, k: usize, outcome: Outcome) {
        match outcome {
            Outcome::Lost(events) => self.lost(now, k, events),
            // The kernel must not be asked earlier: what it says then could be older than an event
            // that a shard handles before it begins.
            Outcome::ReadBegun if self.plan.begun(k) => {
                self.events.push_back(HubEvent::StartDump);
            }
            Outcome::Read { again } => {
                if let Some(purpose) = self.plan.done(now, k, again) {
                    self.table_read(now, purpose);
                }
            }
            Outcome::Census { flows, silent } => self.census(now, flows, silent),
            Outcome::NoSpace(objects) => self.watch.no_space(objects),
            Outcome::NearlyFull => self.watch.nearly_full(),
            Outcome::Refused => self.request_later(now),
            Outcome::Forgotten(ends) => {
                if self.forgotten == 0 {
                    self.log.warning(format_args!(
                        "the other node does not acknowledge: the oldest ends are forgotten"
                    ));
                }
                self.forgotten += ends;
            }
            Outcome::Failed(failure) => report::log_failure(&*self.log, &failure),
            Outcome::FailuresSuppressed(count) => {
                self.log.warning(format_args!("{count} more entries failed"));
            }
            other => {
                for step in self.commands.outcome(now, k, other) {
                    self.step(step);
                }
            }
        }
    }

    /// Losses may come by the thousand: the first is told, and their sum when they are made good.
    fn lost(&mut self, now: Instant, k: usize, events: u64) {
        let first = self.lost == 0;
        self.lost += events;
        // Shard 0 also takes what it passes on to the others.
        let read = match k {
            0 if self.shared_intake => self.plan.lost_of_all(now),
            _ => self.plan.lost(now, k),
        };
        if first && read {
            self.log.warning(format_args!("shard {k} loses events, the table will be read again"));
        } else if first {
            self.log.warning(format_args!(
                "shard {k} loses events, and NetlinkOverrunResync does not let it read them again"
            ));
        }
    }

    /// A reading of the kernel's table has ended for all shards.
    fn table_read(&mut self, now: Instant, purpose: TableUse) {
        self.populated |= purpose == TableUse::Start;
        if purpose == TableUse::Start && self.session.is_some() && !self.would_echo() {
            // The peer may be up already, and know flows of an earlier life of this node at best.
            if self.inject {
                // What was read may be the peer's, and have changed there since: it says so first.
                self.resend.wanted(now + PEER_FIRST);
            } else {
                self.bulk(now, false);
            }
        }
        if let (TableUse::Start | TableUse::Reconcile, Some(poll)) = (purpose, self.poll) {
            self.poll_at = Some(now + poll);
        }
        if purpose != TableUse::Flush {
            self.audit.table_was_read(now);
        }
        let mut waiting = std::mem::take(&mut self.readers);
        waiting.retain(|&(wanted, asker)| {
            if wanted == purpose {
                self.done(asker);
            }
            wanted != purpose
        });
        self.readers.append(&mut waiting);
        if purpose == TableUse::Flush && !self.plan.is_flushing() {
            self.flushed(now);
        }
    }

    fn census(&mut self, now: Instant, flows: u64, silent: u64) {
        match self.audit.count(flows, silent) {
            None | Some(AuditMethod::None) => {}
            Some(AuditMethod::Ask) => {
                for k in 0..self.shards.count() {
                    self.shards.order(k, Order::Audit);
                }
            }
            Some(AuditMethod::Dump) => self.plan.demand(now, TableUse::Reconcile),
        }
    }

    fn done(&mut self, asker: Asker) {
        self.answers.push_back(Answer { asker, bytes: Vec::new(), then: Then::Done });
    }

    fn failed(&mut self, asker: Asker) {
        self.answers.push_back(Answer { asker, bytes: Vec::new(), then: Then::Failed });
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Order(k, order) => self.shards.order(k, order),
            Step::Part(asker, bytes) => {
                self.answers.push_back(Answer { asker, bytes, then: Then::More });
            }
            Step::Done(asker) => self.done(asker),
            Step::Figures(asker, reports) => self.figures(asker, &reports),
            Step::Settled { asker, began, failed } => self.settled(asker, began, failed),
            Step::Committed { asker, flows, expectations, began, flows_ended } => {
                self.committed(asker, flows, expectations, [began, flows_ended.unwrap_or(began)]);
            }
        }
    }
}
