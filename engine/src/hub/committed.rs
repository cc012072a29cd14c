//! What follows a commit: the client's answer, the count and the log's lines.

use std::time::{Duration, Instant};

use super::Hub;
use crate::kernel::CommitReport;
use crate::order::{Asker, TableUse};

/// A commit of what goes into the kernel by itself is a line of the log only if it has taken so long.
const NOTABLE: Duration = Duration::from_secs(1);

impl Hub {
    /// All shards have committed what they were to. `began`: when flows and when expectations were
    /// begun with.
    pub(super) fn committed(
        &mut self,
        asker: Asker,
        flows: Option<CommitReport>,
        expectations: Option<CommitReport>,
        began: [Instant; 2],
    ) {
        let failed = |report: CommitReport| report.failed > 0;
        if flows.is_some_and(failed) || expectations.is_some_and(failed) {
            self.failed(asker);
        } else {
            self.done(asker);
        }
        let [flows_began, expectations_began] = began;
        if !self.bypass {
            self.plan.demand(flows_began, TableUse::Committed);
        }
        let commits = &mut self.base.conditions.commits;
        commits.count += 1;
        for report in [flows, expectations].into_iter().flatten() {
            commits.total.add(&report);
        }
        if let Some(report) = flows {
            self.log_commit("entries", report.committed, report.failed);
            self.log_reduced(&report);
            let end = if expectations.is_some() { expectations_began } else { self.now };
            self.log_time(end.saturating_duration_since(flows_began));
        }
        if let Some(report) = expectations {
            self.log_commit("expectations", report.committed, report.failed);
            self.log_time(self.now.saturating_duration_since(expectations_began));
        }
    }

    /// The kernel has what the peer had told when `asker` asked for a commit, where that goes into it
    /// by itself, but for `failed` objects that it has refused since.
    pub(super) fn settled(&mut self, asker: Asker, began: Instant, failed: u64) {
        let took = self.now.saturating_duration_since(began);
        if took >= NOTABLE {
            self.log.notice(format_args!("the kernel has what the other node had told"));
            self.log_time(took);
        }
        if failed > 0 {
            self.log_failed("entries", failed);
            self.failed(asker);
        } else {
            self.done(asker);
        }
    }

    fn log_time(&self, took: Duration) {
        self.log.notice(format_args!(
            "commit has taken {}.{:06} seconds",
            took.as_secs(),
            took.subsec_micros()
        ));
    }

    fn log_commit(&self, what: &str, committed: u64, failed: u64) {
        self.log.notice(format_args!("Committed {committed} new {what}"));
        if failed > 0 {
            self.log_failed(what, failed);
        }
    }

    fn log_failed(&self, what: &str, failed: u64) {
        self.log.notice(format_args!("{failed} {what} can't be committed"));
    }

    /// What of the flows is not as it was on the other node.
    fn log_reduced(&self, report: &CommitReport) {
        let lines = [
            (report.without_helper, "entries without their helper, which this kernel lacks"),
            (report.without_master, "entries without their master, which has ended"),
            (report.expired, "entries left out, their time has run out"),
        ];
        for (count, what) in lines.iter().filter(|(count, _)| *count > 0) {
            self.log.notice(format_args!("{count} {what}"));
        }
    }
}
