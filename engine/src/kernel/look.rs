//! Looking at silent flows without asking for each.
//!
//! A program in the kernel looks many flows up at once and tells status, mark and TCP state, see
//! [`proto_ctnl::bpf`]. The owner runs it between [`KernelSide::poll_look`] and
//! [`KernelSide::on_looked`]. A flow that is as it was costs no message; one that differs is asked
//! for. So are those that the program cannot judge: other protocols, flows with labels, and in
//! turn one in thirty-two of all, because a helper or labels may have come. Neighbours have the same
//! turn, so that most passes over them need no message, and no waking up for its answer.

use std::time::Instant;

use proto_ctnl::bpf::{LOOKUP_RECORDS, Looked, LookupRecord};
use proto_ctnl::{Present, ProtoInfo};

use crate::cache::FlowIndex;
use crate::caches::Caches;

use super::KernelSide;
use super::sweep::forget;

/// Flows looked at in one go, a quarter of a millisecond: what [`KernelSide::poll_look`] wants room
/// for.
pub const LOOK_BURST: usize = 8 * LOOKUP_RECORDS;
/// Flows that wait to be asked for, above which no more are looked at.
const ASK_MAX: usize = 2 * LOOK_BURST;
/// Each flow is asked for in one of so many passes.
const ASK_EVERY: u32 = 32;
/// Neighbours by their places that are asked for in the same pass.
const NEIGHBOURS: u32 = 256;

impl KernelSide {
    /// Whether the owner can look at flows. If not, or not any more, they are asked for.
    pub fn allow_look(&mut self, allowed: bool) {
        self.config.look = allowed;
        if let Some(sweep) = &mut self.sweep {
            sweep.look &= allowed;
            if !sweep.look {
                sweep.ask.clear();
            }
        }
    }

    /// Names the flows to be looked at now, if an audit is under way and its next part is due;
    /// gives how many. Run the program on them and hand them to [`KernelSide::on_looked`].
    pub fn poll_look(
        &mut self,
        now: Instant,
        caches: &Caches,
        records: &mut [LookupRecord],
    ) -> usize {
        let Some(sweep) = &mut self.sweep else { return 0 };
        let due = sweep.look && sweep.due().is_some_and(|due| due <= now);
        if !due || sweep.ask.len() >= ASK_MAX {
            return 0;
        }
        let mut named = 0;
        for _ in 0..LOOK_BURST.min(records.len()) {
            let Some(index) = sweep.next_flow(now, caches) else { break };
            sweep.report.checked += 1;
            match record_of(caches, index, self.audits) {
                Some(record) => {
                    records[named] = record;
                    named += 1;
                }
                None => sweep.ask.push(index),
            }
        }
        sweep.advance(now, caches);
        self.busy |= !sweep.ask.is_empty();
        self.last_now = now;
        if named == 0 {
            self.announce_sweep(now, caches);
        }
        named
    }

    /// Takes what the program said of the flows that [`KernelSide::poll_look`] named.
    pub fn on_looked(&mut self, now: Instant, caches: &mut Caches, records: &[LookupRecord]) {
        let Some(sweep) = &mut self.sweep else { return };
        for record in records {
            let index = FlowIndex::from_raw(record.cookie);
            let Some(meta) = caches.internal.load(index, &mut self.stored) else { continue };
            let flow = &self.stored;
            let zone = flow.key_zone();
            if !meta.silent || !record.is_about(&flow.orig, zone) {
                continue;
            }
            match record.looked() {
                Looked::Missing => {
                    let orig = flow.orig;
                    sweep.report.vanished += forget(caches, index, &orig, zone);
                }
                Looked::Found { status, mark, tcp_state } => {
                    let known = if flow.present.has(Present::MARK) { flow.mark } else { 0 };
                    let state = match flow.protoinfo {
                        ProtoInfo::Tcp(tcp) if flow.present.has(Present::PROTOINFO) => tcp.state,
                        _ => tcp_state,
                    };
                    let same = flow.present.has(Present::STATUS)
                        && (flow.status, known, state) == (status, mark, tcp_state);
                    if !same {
                        sweep.ask.push(index);
                    }
                }
                Looked::Failed(_) => sweep.ask.push(index),
            }
        }
        self.busy |= !sweep.ask.is_empty();
        self.announce_sweep(now, caches);
    }
}

/// The record of a flow, if looking tells enough of it in this pass.
fn record_of(caches: &Caches, index: FlowIndex, pass: u32) -> Option<LookupRecord> {
    let labelled = caches.internal.present(index)?.has(Present::LABELS);
    if labelled || (index.raw() / NEIGHBOURS).wrapping_add(pass).is_multiple_of(ASK_EVERY) {
        return None;
    }
    let (orig, zone) = caches.internal.key(index)?;
    LookupRecord::new(&orig, zone, index.raw())
}
