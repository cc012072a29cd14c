//! The thread of a shard that is not the hub's.

use std::sync::Arc;
use std::time::{Duration, Instant};

use io::{FlowLookup, IoError, Outcome, Ring, RingConfig, ShardIntake, Waker};

use super::pace::{Load, Pacer, Turn};
use super::shard_io::{Growth, ShardIo};
use super::start::pin;
use super::tokens::Token;
use crate::clock::Moment;
use crate::log::Log;
use crate::mesh::{Content, Pipe, Sleep, ToHub, ToShard};
use crate::shard::{Shard, ShardConfig};
use crate::worker::{Pace, Took, Worker};

/// Blocks taken from the hub in one turn.
const BLOCKS_PER_TURN: usize = 4;

/// What a worker's thread is given.
pub(super) struct WorkerParts {
    pub(super) config: ShardConfig,
    pub(super) intake: ShardIntake,
    pub(super) growth: Growth,
    pub(super) cpu: Option<u16>,
    pub(super) linger: Duration,
    pub(super) began: Instant,
    pub(super) from_hub: Arc<Pipe<ToShard>>,
    pub(super) to_hub: Arc<Pipe<ToHub>>,
    pub(super) sleep: Arc<Sleep>,
    pub(super) hub: Waker,
    pub(super) lookup: Option<FlowLookup>,
    pub(super) log: Arc<dyn Log>,
}

/// A worker that is ready to run.
pub(super) struct WorkerThread {
    worker: Worker,
    io: ShardIo,
    ring: Ring,
    pacer: Pacer,
    began: Instant,
    sleep: Arc<Sleep>,
    hub: Waker,
}

impl WorkerThread {
    /// Opens everything on the calling thread, which is the one that runs; gives what wakes it.
    pub(super) fn open(parts: WorkerParts) -> Result<(Self, Waker), IoError> {
        pin(parts.cpu, usize::from(parts.config.id), &*parts.log);
        let mut ring = Ring::new(&RingConfig::default())?;
        let mut io = ShardIo::open(parts.intake, parts.growth, parts.lookup)?;
        io.start(&mut ring)?;
        let waker = ring.waker(Token::Wake.raw())?;
        let shard = Shard::new(parts.config, io.ports(), parts.began);
        let thread = Self {
            worker: Worker::new(shard, parts.from_hub, parts.to_hub),
            io,
            ring,
            pacer: Pacer::new(parts.linger, Instant::now()),
            began: parts.began,
            sleep: parts.sleep,
            hub: parts.hub,
        };
        Ok((thread, waker))
    }

    /// Runs until the hub says stop.
    pub(super) fn run(mut self) -> Result<(), IoError> {
        loop {
            let now = Moment::new(Instant::now(), self.began);
            let shard = &mut self.worker.shard;
            let awaited = shard.waits_for_events();
            let found = self.io.drain(now, shard, awaited);
            shard.intake_is_at(found.taken, found.come);
            let mut any = found.any;
            while let Some(completion) = self.ring.next_completion() {
                // What it was woken for stands in the pipe.
                any |= completion.token != Token::Wake.raw();
                self.completion(now, completion.token, completion.outcome)?;
            }
            if any {
                self.io.check_losses(&mut self.worker.shard);
            }
            let hub = &self.hub;
            let pace = self.worker.turn(now, BLOCKS_PER_TURN, || hub.wake());
            if pace == Pace::Stop {
                return Ok(());
            }
            let sent = self.io.send_requests(now.at, &mut self.ring, &mut self.worker.shard)?;
            let load =
                if found.more || sent || pace == Pace::Busy || self.worker.shard.waits_for_events()
                {
                    Load::Busy
                } else if any {
                    Load::Some
                } else {
                    match self.worker.took() {
                        Took::Nothing => Load::None,
                        Took::Received => Load::Received,
                        Took::Other => Load::Some,
                    }
                };
            ShardIo::turn_ended(now, &mut self.worker.shard);
            let (worker, io, sleep) = (&self.worker, &self.io, &self.sleep);
            let asleep = || {
                sleep.announce();
                !worker.has_inbound() && !io.has_events()
            };
            let deadline = worker.shard.poll_timeout();
            let received = worker.shard.counters.received;
            let turn = Turn { load, began: now.at, received };
            if self.pacer.rest(&mut self.ring, &turn, deadline, asleep)? {
                self.sleep.end();
            }
        }
    }

    fn completion(&mut self, now: Moment, token: u64, outcome: Outcome) -> Result<(), IoError> {
        let shard = &mut self.worker.shard;
        match Token::from_raw(token) {
            Some(Token::Intake) => {
                self.io.by_socket(outcome, |message| {
                    shard.on_kernel_datagram(now, Content::Events, message);
                })?;
            }
            Some(Token::Kernel(_)) => ShardIo::on_answer(now.at, &outcome, shard),
            Some(Token::KernelSent(_)) if matches!(outcome, Outcome::Failed(_)) => {
                shard.kernel_answers_lost(now.at);
            }
            _ => {}
        }
        Ok(())
    }
}
