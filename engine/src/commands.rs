//! Commands from the control socket that take more than one turn: each is cut into orders to the
//! shards, and its answer is put together from their outcomes.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use crate::command::{Format, Object, Side};
use crate::kernel::{Coming, CommitReport, FlowKey};
use crate::order::{Asker, CommitPass, Order, Outcome};
use crate::report::ShardReport;

/// What an outcome completes.
#[derive(Debug)]
pub(crate) enum Step {
    /// Give this order to this shard.
    Order(usize, Order),
    /// A part of an answer.
    Part(Asker, Vec<u8>),
    /// A command has ended and its client gets nothing more.
    Done(Asker),
    /// All shards reported their figures.
    Figures(Asker, Vec<ShardReport>),
    /// The kernel has what the peer had told when somebody asked for that.
    Settled {
        /// Who asked.
        asker: Asker,
        /// When.
        began: Instant,
        /// Objects that the kernel has refused meanwhile.
        failed: u64,
    },
    /// A commit has ended, and its client is to be told how.
    Committed {
        /// Who asked.
        asker: Asker,
        /// Flows of all shards; `None` if only expectations were committed.
        flows: Option<CommitReport>,
        /// Expectations of all shards, if they were committed.
        expectations: Option<CommitReport>,
        /// When it began.
        began: Instant,
        /// When the flows were all there and expectations followed; `None` if only one of the two
        /// was committed.
        flows_ended: Option<Instant>,
    },
}

#[derive(Debug)]
struct Gather {
    asker: Asker,
    left: usize,
    shards: Vec<ShardReport>,
}

#[derive(Debug)]
struct Commit {
    asker: Asker,
    began: Instant,
    flows_ended: Option<Instant>,
    stage: Stage,
    passes: VecDeque<CommitPass>,
    /// Shards that have not ended the stage.
    left: usize,
    flows: Option<CommitReport>,
    expectations: Option<CommitReport>,
    /// Flows that the pass under way has put into the kernel.
    put: u64,
    /// Flows that it has left because their masters were missing.
    orphaned: u64,
    /// Which, of the shards where it has put none.
    orphans: HashSet<FlowKey>,
}

/// What a commit is at. The kernel makes no messages about the flows that are made while nobody
/// hears of new ones, which is half of the time that it takes; the table is read afterwards.
#[derive(Clone, Debug)]
enum Stage {
    Hush,
    Pass(CommitPass),
    Listen,
}

impl Commit {
    /// Which masters another pass may bring to what this one has left. As long as it has put
    /// something in, that may be one. Else what waits for none of the others goes in without its
    /// master, and the others may follow it, whatever the number of generations; where all wait for
    /// one another, which no kernel has, all go in so.
    fn coming(&mut self) -> Coming {
        let left = std::mem::take(&mut self.orphans);
        match &self.stage {
            _ if self.put > 0 => Coming::Any,
            Stage::Pass(CommitPass::Orphans(Coming::Left(before)))
                if before.len() == left.len() =>
            {
                Coming::None
            }
            _ => Coming::Left(Arc::new(left)),
        }
    }
}

/// A commit of what goes into the kernel by itself.
#[derive(Debug)]
struct Settle {
    asker: Asker,
    began: Instant,
    /// Shards that have not ended it.
    left: usize,
    /// Objects that the others could not put into the kernel.
    failed: u64,
}

#[derive(Debug)]
struct Dump {
    asker: Asker,
    side: Side,
    object: Object,
    format: Format,
    shard: usize,
    /// Shard and cursor of the part that comes next.
    pending: Option<(usize, u32)>,
}

/// The commands under way.
#[derive(Debug)]
pub(crate) struct Commands {
    shards: usize,
    gathers: VecDeque<Gather>,
    /// Who waits for emptied caches, and from how many shards.
    flushes: VecDeque<(Asker, usize)>,
    settle: Option<Settle>,
    commit: Option<Commit>,
    dumps: Vec<Dump>,
}

impl Commands {
    /// None under way, for `shards` shards.
    pub(crate) const fn new(shards: usize) -> Self {
        Self {
            shards,
            gathers: VecDeque::new(),
            flushes: VecDeque::new(),
            settle: None,
            commit: None,
            dumps: Vec::new(),
        }
    }

    fn all(&self, order: impl Fn() -> Order) -> Vec<Step> {
        (0..self.shards).map(|k| Step::Order(k, order())).collect()
    }

    /// Asks all shards for their figures. Answers come in the order of the questions.
    pub(crate) fn figures(&mut self, asker: Asker) -> Vec<Step> {
        let shards = Vec::with_capacity(self.shards);
        self.gathers.push_back(Gather { asker, left: self.shards, shards });
        self.all(|| Order::Snapshot)
    }

    /// Begins a dump with the first part of shard 0.
    pub(crate) fn dump(
        &mut self,
        asker: Asker,
        side: Side,
        object: Object,
        format: Format,
    ) -> Option<Step> {
        let pending = Some((0, 0));
        self.dumps.push(Dump { asker, side, object, format, shard: 0, pending });
        self.go_on(asker)
    }

    /// Empties caches.
    pub(crate) fn flush(&mut self, asker: Asker, caches: crate::order::Caches) -> Vec<Step> {
        self.flushes.push_back((asker, self.shards));
        self.all(|| Order::Flush(caches))
    }

    /// Waits until the kernel has what the peer has told so far. The caller has seen that no commit
    /// is under way.
    pub(crate) fn settle(&mut self, asker: Asker, now: Instant) -> Vec<Step> {
        self.settle = Some(Settle { asker, began: now, left: self.shards, failed: 0 });
        self.all(|| Order::Settle)
    }

    /// Whether a commit is under way.
    pub(crate) const fn is_committing(&self) -> bool {
        self.commit.is_some() || self.settle.is_some()
    }

    /// Begins a commit: all shards at once, one pass after the other. The kernel works off one
    /// request at a time; the next shard's waits behind it while the first looks after its events,
    /// which saves a tenth to a fifth of the time. The caller has seen that none is under way.
    pub(crate) fn commit(
        &mut self,
        asker: Asker,
        now: Instant,
        passes: &[CommitPass],
    ) -> Vec<Step> {
        self.commit = Some(Commit {
            asker,
            began: now,
            flows_ended: None,
            stage: Stage::Hush,
            passes: passes.iter().cloned().collect(),
            left: self.shards,
            flows: None,
            expectations: None,
            put: 0,
            orphaned: 0,
            orphans: HashSet::new(),
        });
        self.all(|| Order::HearNew(false))
    }

    /// The client of `asker` has left: nothing more is made for it. What changes state goes on.
    pub(crate) fn forget(&mut self, asker: Asker) {
        self.dumps.retain(|dump| dump.asker != asker);
    }

    /// Takes what shard `k` answered.
    pub(crate) fn outcome(&mut self, now: Instant, k: usize, outcome: Outcome) -> Vec<Step> {
        match outcome {
            Outcome::Snapshot(snapshot) => self.snapshot(k, *snapshot),
            Outcome::Dump { asker, out, next } => self.dump_part(asker, out, next),
            Outcome::Commit { report, left } => self.committed(now, Some((report, left))),
            Outcome::HearsNew => self.committed(now, None),
            Outcome::Flushed(_) => self.flushed(),
            Outcome::Settled { failed } => self.settled(failed),
            Outcome::ReadBegun
            | Outcome::Read { .. }
            | Outcome::Census { .. }
            | Outcome::Lost(_)
            | Outcome::Refused
            | Outcome::Failed(_)
            | Outcome::FailuresSuppressed(_)
            | Outcome::NoSpace(_)
            | Outcome::NearlyFull
            | Outcome::Forgotten(_) => Vec::new(),
        }
    }

    /// Every shard answers questions in their order, so the first gathering that still misses
    /// this shard is the one meant.
    fn snapshot(&mut self, k: usize, snapshot: ShardReport) -> Vec<Step> {
        let id = k as u8;
        let open = self.gathers.iter_mut().find(|g| g.shards.iter().all(|s| s.id != id));
        if let Some(gather) = open {
            gather.shards.push(snapshot);
            gather.left -= 1;
        }
        match self.gathers.pop_front_if(|g| g.left == 0) {
            Some(mut gather) => {
                gather.shards.sort_by_key(|s| s.id);
                vec![Step::Figures(gather.asker, gather.shards)]
            }
            None => Vec::new(),
        }
    }

    /// Shards answer in the order of the orders, so counting from the oldest is enough.
    fn flushed(&mut self) -> Vec<Step> {
        let Some(open) = self.flushes.iter_mut().find(|f| f.1 > 0) else { return Vec::new() };
        open.1 -= 1;
        match self.flushes.pop_front_if(|f| f.1 == 0) {
            Some((asker, _)) => vec![Step::Done(asker)],
            None => Vec::new(),
        }
    }

    fn settled(&mut self, failed: u64) -> Vec<Step> {
        if let Some(settle) = &mut self.settle {
            settle.left -= 1;
            settle.failed += failed;
        }
        match self.settle.take_if(|settle| settle.left == 0) {
            Some(Settle { asker, began, failed, .. }) => {
                vec![Step::Settled { asker, began, failed }]
            }
            None => Vec::new(),
        }
    }

    /// A shard has ended a stage of the commit.
    fn committed(&mut self, now: Instant, done: Option<(CommitReport, Vec<FlowKey>)>) -> Vec<Step> {
        let Some(commit) = &mut self.commit else { return Vec::new() };
        if let (Stage::Pass(pass), Some((report, left))) = (&commit.stage, done) {
            let total = match pass {
                CommitPass::Expectations => &mut commit.expectations,
                CommitPass::Unrelated | CommitPass::Related | CommitPass::Orphans(_) => {
                    commit.put += report.committed;
                    commit.orphaned += report.orphaned;
                    commit.orphans.extend(left);
                    &mut commit.flows
                }
            };
            total.get_or_insert_default().add(&report);
        }
        commit.left -= 1;
        if commit.left > 0 {
            return Vec::new();
        }
        commit.left = self.shards;
        // What was expected by a flow that was expected itself comes before or after that one, on
        // the same shard or on another. Each further pass settles one more at least, so there are
        // at most twice as many as masters stand behind each other.
        if commit.orphaned > 0 {
            let coming = commit.coming();
            commit.passes.push_front(CommitPass::Orphans(coming));
        }
        (commit.put, commit.orphaned) = (0, 0);
        commit.stage = match (commit.passes.pop_front(), &commit.stage) {
            (Some(pass), _) => Stage::Pass(pass),
            (None, Stage::Listen) => return self.commit_done(),
            (None, _) => Stage::Listen,
        };
        match commit.stage.clone() {
            Stage::Pass(pass) => {
                if matches!(pass, CommitPass::Expectations) && commit.flows.is_some() {
                    commit.flows_ended = Some(now);
                }
                self.all(|| Order::Commit(pass.clone()))
            }
            _ => self.all(|| Order::HearNew(true)),
        }
    }

    fn commit_done(&mut self) -> Vec<Step> {
        let Some(commit) = self.commit.take() else { return Vec::new() };
        let Commit { asker, began, flows_ended, flows, expectations, .. } = commit;
        vec![Step::Committed { asker, flows, expectations, began, flows_ended }]
    }

    /// A part of a dump. The next part is asked for when the client has taken this one: a slow
    /// client holds up nothing but itself.
    fn dump_part(&mut self, asker: Asker, out: Vec<u8>, next: Option<u32>) -> Vec<Step> {
        let Some(at) = self.dumps.iter().position(|d| d.asker == asker) else {
            return Vec::new();
        };
        let dump = &mut self.dumps[at];
        match next {
            Some(cursor) => dump.pending = Some((dump.shard, cursor)),
            None if dump.shard + 1 < self.shards => {
                dump.shard += 1;
                dump.pending = Some((dump.shard, 0));
            }
            None => {
                self.dumps.remove(at);
                return vec![Step::Part(asker, out), Step::Done(asker)];
            }
        }
        // A client is not heard of for taking nothing.
        if out.is_empty() {
            return self.go_on(asker).into_iter().collect();
        }
        vec![Step::Part(asker, out)]
    }

    /// The client of `asker` took all that was written for it.
    pub(crate) fn go_on(&mut self, asker: Asker) -> Option<Step> {
        let dump = self.dumps.iter_mut().find(|d| d.asker == asker)?;
        let (shard, cursor) = dump.pending.take()?;
        let (side, object, format) = (dump.side, dump.object, dump.format);
        let order = Order::Dump { asker, side, object, format, cursor, out: Vec::new() };
        Some(Step::Order(shard, order))
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use proto_ctnl::{L4, Tuple};

    use super::*;

    fn flow(port: u16) -> FlowKey {
        let host = IpAddr::V4(Ipv4Addr::LOCALHOST);
        (Tuple { src: host, dst: host, proto: 6, l4: L4::ports(port, 21) }, 0)
    }

    #[test]
    fn a_pass_begins_when_all_shards_ended_the_one_before() {
        let (mut commands, now) = (Commands::new(2), Instant::now());
        let passes = [CommitPass::Unrelated, CommitPass::Related];
        let orders = |steps: &[Step], pass: CommitPass| {
            let to = |step: &Step| match step {
                Step::Order(k, Order::Commit(p)) if *p == pass => Some(*k),
                _ => None,
            };
            steps.iter().map(to).eq([Some(0), Some(1)])
        };
        let ended = || Outcome::Commit {
            report: CommitReport { committed: 3, ..CommitReport::default() },
            left: Vec::new(),
        };
        let hears = |steps: &[Step], hear: bool| {
            let to = |step: &Step| match step {
                Step::Order(k, Order::HearNew(h)) if *h == hear => Some(*k),
                _ => None,
            };
            steps.iter().map(to).eq([Some(0), Some(1)])
        };
        assert!(hears(&commands.commit(Asker(1), now, &passes), false));
        assert!(commands.outcome(now, 1, Outcome::HearsNew).is_empty(), "shard 0 still hears");
        assert!(orders(&commands.outcome(now, 0, Outcome::HearsNew), CommitPass::Unrelated));
        assert!(commands.outcome(now, 1, ended()).is_empty(), "shard 0 is not done");
        assert!(orders(&commands.outcome(now, 0, ended()), CommitPass::Related));
        assert!(commands.outcome(now, 0, ended()).is_empty());
        assert!(hears(&commands.outcome(now, 1, ended()), true));
        assert!(commands.outcome(now, 0, Outcome::HearsNew).is_empty());
        let steps = commands.outcome(now, 1, Outcome::HearsNew);
        let [Step::Committed { asker: Asker(1), flows: Some(report), .. }] = &steps[..] else {
            panic!("{steps:?}");
        };
        assert_eq!(report.committed, 12);
        assert!(!commands.is_committing());
    }

    #[test]
    fn passes_follow_until_every_master_is_there_or_none_comes() {
        let (mut commands, now) = (Commands::new(2), Instant::now());
        commands.commit(Asker(1), now, &[CommitPass::Related]);
        commands.outcome(now, 0, Outcome::HearsNew);
        commands.outcome(now, 1, Outcome::HearsNew);
        // What shard 0 puts in, and what shard 1 leaves.
        let mut end = |committed: u64, left: &[u16]| {
            let ended = |committed, left: &[u16]| Outcome::Commit {
                report: CommitReport {
                    committed,
                    orphaned: left.len() as u64,
                    ..CommitReport::default()
                },
                left: left.iter().map(|&port| flow(port)).collect(),
            };
            assert!(commands.outcome(now, 0, ended(committed, &[])).is_empty());
            let steps = commands.outcome(now, 1, ended(0, left));
            match &steps[..] {
                [Step::Order(0, Order::Commit(pass)), Step::Order(1, _)] => Some(pass.clone()),
                _ => None,
            }
        };
        let orphans = |coming| Some(CommitPass::Orphans(coming));
        let only =
            |ports: &[u16]| Coming::Left(Arc::new(ports.iter().map(|&port| flow(port)).collect()));
        assert_eq!(end(5, &[1, 2, 3, 4, 5]), orphans(Coming::Any));
        assert_eq!(end(1, &[1, 2, 3, 4]), orphans(Coming::Any));
        assert_eq!(end(0, &[1, 2, 3, 4]), orphans(only(&[1, 2, 3, 4])));
        assert_eq!(end(1, &[2, 3, 4]), orphans(Coming::Any), "the first may be their master");
        assert_eq!(end(0, &[2, 3, 4]), orphans(only(&[2, 3, 4])));
        assert_eq!(end(0, &[3, 4]), orphans(only(&[3, 4])), "the second was refused");
        assert_eq!(end(0, &[3, 4]), orphans(Coming::None), "they wait for each other");
        assert_eq!(end(2, &[]), None, "the end");
    }

    #[test]
    fn a_commit_of_what_goes_in_by_itself_ends_with_the_last_shard() {
        let (mut commands, now) = (Commands::new(2), Instant::now());
        let steps = commands.settle(Asker(3), now);
        assert!(matches!(
            &steps[..],
            [Step::Order(0, Order::Settle), Step::Order(1, Order::Settle)]
        ));
        assert!(commands.outcome(now, 1, Outcome::Settled { failed: 2 }).is_empty());
        assert!(commands.is_committing(), "shard 0 is not done");
        let steps = commands.outcome(now, 0, Outcome::Settled { failed: 3 });
        let [Step::Settled { asker: Asker(3), failed: 5, .. }] = &steps[..] else {
            panic!("{steps:?}");
        };
        assert!(!commands.is_committing());
    }

    #[test]
    fn a_shard_without_objects_does_not_end_a_dump() {
        let (mut commands, now) = (Commands::new(3), Instant::now());
        let asker = Asker(7);
        let empty = || Outcome::Dump { asker, out: Vec::new(), next: None };
        let mut step = commands.dump(asker, Side::External, Object::Flow, Format::Plain);
        for shard in 0..3 {
            let Some(Step::Order(k, Order::Dump { .. })) = step else { panic!("no order") };
            assert_eq!(k, shard);
            let mut steps = commands.outcome(now, k, empty());
            let last = steps.pop();
            if shard == 2 {
                assert!(matches!(last, Some(Step::Done(a)) if a == asker));
            }
            step = last;
        }
    }
}
