//! The thread of shard 0: also the links, the control socket, the dumps and the signals.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use io::{Completion, Errno, Fd, IoError, Outcome, Ring, Signals, Waker};

use super::clients::{Clients, Said};
use super::dump::{DumpReader, Progress};
use super::events_switch::EventsSwitch;
use super::pace::{Load, Pacer, Turn};
use super::peers::Peers;
use super::shard_io::ShardIo;
use super::tokens::Token;
use crate::hub::{Hub, HubEvent};
use crate::log::{FlowLog, Log};
use crate::mesh::Sleep;
use crate::order::Asker;

/// The thread's parts.
pub(super) struct HubThread {
    pub(super) hub: Hub,
    pub(super) io: ShardIo,
    pub(super) ring: Ring,
    pub(super) peers: Peers,
    pub(super) dump: DumpReader,
    /// Since when there is no room for more of the table.
    pub(super) dump_waits: Option<Instant>,
    /// It was told that it can not be given up.
    pub(super) dump_stuck: bool,
    pub(super) clients: Clients,
    pub(super) listener: Option<Fd>,
    /// When connections are taken again after one was not.
    pub(super) accept_again: Option<Instant>,
    pub(super) signals: Signals,
    /// Unless nobody listens for events.
    pub(super) events_switch: Option<EventsSwitch>,
    pub(super) pacer: Pacer,
    pub(super) heartbeat: Arc<AtomicU64>,
    pub(super) sleep: Arc<Sleep>,
    pub(super) workers: Vec<Waker>,
    pub(super) log: Arc<dyn Log>,
    pub(super) flow_log: Option<Arc<dyn FlowLog>>,
    pub(super) stopping: bool,
}

/// Opens the log files again.
const SIGHUP: i32 = 1;
const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;
/// The signals that the hub reads.
pub(super) const SIGNALS: [i32; 3] = [SIGHUP, SIGINT, SIGTERM];

/// How long no connection is taken after one was not: time for a descriptor to get free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(5);
/// How long a reading of the table that has to wait does so before it is looked again.
const DUMP_PAUSE: Duration = Duration::from_millis(1);
/// How long it waits before it gives way to others.
const DUMP_PATIENCE: Duration = Duration::from_secs(1);
/// Time given to clients to take their last answer when the daemon stops.
const FAREWELL: Duration = Duration::from_millis(200);

impl HubThread {
    /// Arms everything that receives.
    pub(super) fn start(&mut self) -> Result<(), IoError> {
        self.io.start(&mut self.ring)?;
        self.dump.start(&mut self.ring)?;
        self.clients.start(&mut self.ring)?;
        self.peers.start(&mut self.ring, &mut self.hub)?;
        if let Some(listener) = &self.listener {
            self.ring.accept(Token::Accept.raw(), listener)?;
        }
        self.ring.poll(Token::Signal.raw(), self.signals.fd())
    }

    /// Turns until the kernel's table was read the first time, or the end is asked for.
    pub(super) fn settle(&mut self) -> Result<(), IoError> {
        while !self.hub.is_populated() && !self.stopping {
            self.turn()?;
        }
        Ok(())
    }

    /// Runs until it is told to stop.
    pub(super) fn run(&mut self) -> Result<(), IoError> {
        while !self.stopping {
            self.turn()?;
        }
        self.clients.refuse_waiting();
        let until = Instant::now() + FAREWELL;
        while !self.clients.is_empty() && Instant::now() < until {
            self.ring.wait(1, Duration::from_millis(10))?;
            while let Some(completion) = self.ring.next_completion() {
                if let Some(Token::ClientSent(n)) = Token::from_raw(completion.token) {
                    self.clients.sent(Asker(n), &completion.outcome);
                }
            }
            self.clients.send(Instant::now(), &mut self.ring)?;
        }
        Ok(())
    }

    fn turn(&mut self) -> Result<(), IoError> {
        let now = Instant::now();
        self.heartbeat.fetch_add(1, Ordering::Relaxed);
        let moment = self.hub.begin_turn(now);
        let awaited = self.hub.waits_for_events();
        let found = self.io.drain(moment, &mut self.hub.shards.local, awaited);
        self.hub.intake_is_at(found.taken, found.come);
        let mut load = if found.any { Load::Some } else { Load::None };
        while let Some(completion) = self.ring.next_completion() {
            load = load.max(weight(completion.token));
            self.completion(now, completion.token, completion.outcome)?;
        }
        if load == Load::Some {
            self.io.check_losses(&mut self.hub.shards.local);
        }
        if self.events_switch.as_mut().is_some_and(|switch| switch.look(now, &*self.log)) {
            self.hub.events_were_off(now);
        }
        self.peers.take_news(now, &mut self.hub);
        self.hub.shards.work();
        self.hub.turn(now);
        if self.hub.shards.take_stirred() {
            load = load.max(Load::Some);
        }
        while let Some(event) = self.hub.poll_event() {
            match event {
                HubEvent::StartDump => self.dump.begin(&mut self.ring)?,
                HubEvent::Stop => self.stopping = true,
            }
        }
        let reads = self.dump.is_running() && self.hub.has_room_for_dump();
        if reads {
            self.dump.ask(&mut self.ring)?;
        }
        self.give_way(now, reads);
        let sent = self.io.send_requests(now, &mut self.ring, &mut self.hub.shards.local)?;
        self.peers.handle_timeout(now, &mut self.ring, &mut self.hub)?;
        let blocked = self.peers.transmit(now, &mut self.ring, &mut self.hub)?;
        while let Some(answer) = self.hub.poll_answer() {
            load = load.max(Load::Some);
            self.clients.answer(answer);
        }
        self.clients.send(now, &mut self.ring)?;
        self.accept_again(now)?;
        while let Some(asker) = self.clients.poll_dropped() {
            self.hub.base.engine.clients_dropped += 1;
            self.hub.gone(asker);
        }
        ShardIo::turn_ended(moment, &mut self.hub.shards.local);
        if found.more || sent || reads || self.hub.waits_for_events() {
            load = Load::Busy;
        }
        self.rest(now, load, blocked)
    }

    /// Gives up a reading that has no room for long, if somebody waits for its end.
    fn give_way(&mut self, now: Instant, reads: bool) {
        if reads || !self.dump.is_running() {
            (self.dump_waits, self.dump_stuck) = (None, false);
            return;
        }
        let since = *self.dump_waits.get_or_insert(now);
        let long = now.saturating_duration_since(since) >= DUMP_PATIENCE;
        if !long || !self.hub.dump_is_in_the_way() {
            return;
        }
        match self.dump.give_up() {
            Ok(true) => self.hub.dump_ended(now, false),
            Ok(false) => {}
            Err(error) => {
                // Descriptors or memory are short.
                self.dump_waits = Some(now);
                if !std::mem::replace(&mut self.dump_stuck, true) {
                    self.log.error(format_args!(
                        "cannot give up a reading of the kernel table that waits for the other node, \
                         trying again: {error}"
                    ));
                }
            }
        }
    }

    fn rest(&mut self, now: Instant, mut load: Load, blocked: bool) -> Result<(), IoError> {
        let (ring, workers) = (&mut self.ring, &self.workers);
        let mut failed = None;
        self.hub.shards.flush(|k| {
            if let Err(error) = ring.wake(&workers[k - 1]) {
                failed = Some(error);
            }
        });
        if let Some(error) = failed {
            return Err(error);
        }
        // What the link has no room for waits for a send to complete, not for time.
        if self.hub.shards.local.is_busy() && !blocked {
            load = Load::Busy;
        }
        if self.hub.shards.has_backlog() {
            load = load.max(Load::Some);
        }
        let deadline = [
            self.hub.poll_timeout(),
            self.hub.shards.local.poll_timeout(),
            self.peers.poll_timeout(),
            self.accept_again,
            self.events_switch.as_ref().map(EventsSwitch::poll_timeout),
            // Nobody tells when there is room for more of the table.
            self.dump.is_running().then(|| now + DUMP_PAUSE),
        ];
        let deadline = deadline.into_iter().flatten().min();
        let received = self.hub.shards.local.counters.received;
        let (hub, io, sleep) = (&self.hub, &self.io, &self.sleep);
        let asleep = || {
            sleep.announce();
            !hub.shards.has_inbound() && !io.has_events()
        };
        let turn = Turn { load, began: now, received };
        if self.pacer.rest(&mut self.ring, &turn, deadline, asleep)? {
            self.sleep.end();
        }
        Ok(())
    }

    fn completion(&mut self, now: Instant, raw: u64, outcome: Outcome) -> Result<(), IoError> {
        let Some(token) = Token::from_raw(raw) else { return Ok(()) };
        match token {
            Token::Intake => self.event_by_socket(outcome)?,
            Token::Kernel(_) => ShardIo::on_answer(now, &outcome, &mut self.hub.shards.local),
            Token::KernelSent(_) => {
                if matches!(outcome, Outcome::Failed(_)) {
                    self.hub.shards.local.kernel_answers_lost(now);
                }
            }
            Token::DumpSent => {
                if matches!(outcome, Outcome::Failed(_)) {
                    self.dump.abandon();
                    self.hub.dump_ended(now, false);
                }
            }
            Token::Dump => self.dump_part(now, &outcome)?,
            Token::Wake => {}
            Token::Signal => self.signals(),
            Token::Accept => match (outcome, &self.listener) {
                (Outcome::Accepted(fd), _) => self.clients.accept(now, &mut self.ring, fd)?,
                // Descriptors or memory are short for now.
                (Outcome::Failed(error), Some(_)) => {
                    if matches!(error, Errno::MFILE | Errno::NFILE) {
                        self.clients.make_room(now, &mut self.ring)?;
                    }
                    self.accept_again = Some(now + ACCEPT_PAUSE);
                }
                _ => {}
            },
            Token::Client(n) => {
                let said = self.clients.received(Asker(n), &outcome);
                self.said(now, said)?;
            }
            Token::ClientSent(n) => {
                let said = self.clients.sent(Asker(n), &outcome);
                self.said(now, said)?;
            }
            Token::Devices => self.peers.device_news(&outcome)?,
            Token::Link(k) => {
                let completion = Completion { token: raw, outcome };
                self.peers.completion(
                    now,
                    &mut self.ring,
                    &mut self.hub,
                    k as usize,
                    completion,
                )?;
            }
        }
        Ok(())
    }

    /// Takes connections again once the pause is over.
    fn accept_again(&mut self, now: Instant) -> Result<(), IoError> {
        if self.accept_again.is_some_and(|at| at <= now)
            && let Some(listener) = &self.listener
        {
            self.accept_again = None;
            self.ring.accept(Token::Accept.raw(), listener)?;
        }
        Ok(())
    }

    fn event_by_socket(&mut self, outcome: Outcome) -> Result<(), IoError> {
        let hub = &mut self.hub;
        let sorted = self.io.is_sorted();
        self.io.by_socket(outcome, |message| {
            if sorted {
                hub.on_own_events(message);
            } else {
                hub.on_events(message);
            }
        })?;
        Ok(())
    }

    fn dump_part(&mut self, now: Instant, outcome: &Outcome) -> Result<(), IoError> {
        let hub = &mut self.hub;
        let progress =
            self.dump.handle(&mut self.ring, outcome, |datagram| hub.on_dump(now, datagram))?;
        if let Progress::Ended(complete) = progress {
            self.hub.dump_ended(now, complete);
        }
        Ok(())
    }

    fn said(&mut self, now: Instant, said: Said) -> Result<(), IoError> {
        match said {
            Said::Nothing => {}
            Said::Request(asker, id) => {
                self.peers.refresh(now, &mut self.hub);
                let engine = &mut self.hub.base.engine;
                engine.other_cpu_ns = io::cpu::process_cpu_time().as_nanos() as u64;
                if let Some(flow_log) = &self.flow_log {
                    engine.flow_log_dropped = flow_log.dropped();
                }
                self.hub.request(now, asker, id);
            }
            Said::Took(asker) => self.hub.answered(asker),
            Said::Gone(asker, whole) => {
                self.hub.base.runtime.local_read_failed += u64::from(!whole);
                self.hub.gone(asker);
            }
        }
        Ok(())
    }

    fn signals(&mut self) {
        while let Some(signal) = self.signals.next() {
            match signal {
                SIGHUP => {
                    self.log.reopen();
                    if let Some(flow_log) = &self.flow_log {
                        flow_log.reopen();
                    }
                }
                _ => self.stopping = true,
            }
        }
    }
}

/// What a completion says of the turn. The reason for a wake-up stands in the pipes.
const fn weight(raw: u64) -> Load {
    match Token::from_raw(raw) {
        None | Some(Token::Wake) => Load::None,
        Some(Token::Link(_)) => Load::Received,
        Some(_) => Load::Some,
    }
}
