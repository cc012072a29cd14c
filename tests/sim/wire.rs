//! The kernel's messages as bytes.

use std::time::Instant;

use proto_ctnl::consts::{flag, msg, nlmsg};
use proto_ctnl::{Encoder, Flow, FlowMasks, Present, ProtoInfo, Status};

use crate::kernel::{Entry, Raised};

/// What only requests and peers say.
pub(crate) const TRANSLATION: Present =
    Present(Present::SNAT.0 | Present::DNAT.0 | Present::SPAT.0 | Present::DPAT.0);

/// What every message has.
const ALWAYS: Present = Present(
    Present::ORIG.0
        | Present::REPLY.0
        | Present::ZONE.0
        | Present::STATUS.0
        | Present::TIMEOUT.0
        | Present::ID.0,
);
/// `CTA_ID`.
const CTA_ID: u16 = 12;

/// A message about `flow` with the headers of the kernel.
fn message(flow: &Flow, kind: u16, flags: u16, seq: u32, port: u32) -> Vec<u8> {
    let mut room = [0; 1024];
    let mut encoder = Encoder::new(&mut room);
    encoder.flow_new(flow, FlowMasks::default(), flags, seq).expect("there is room");
    let mut bytes = encoder.bytes().to_vec();
    if flow.present.has(Present::ID) {
        bytes.extend(8u16.to_ne_bytes());
        bytes.extend(CTA_ID.to_ne_bytes());
        bytes.extend(flow.id.to_be_bytes());
    }
    let len = bytes.len() as u32;
    bytes[..4].copy_from_slice(&len.to_ne_bytes());
    bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
    bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
    bytes[12..16].copy_from_slice(&port.to_ne_bytes());
    bytes
}

fn left(entry: &Entry, now: Instant) -> u32 {
    entry.expires.saturating_duration_since(now).as_secs() as u32
}

/// An event; `changed` is what an update tells beside what all tell.
pub(crate) fn event(
    entry: &Entry,
    what: Raised,
    changed: Present,
    port: u32,
    now: Instant,
) -> Vec<u8> {
    let mut flow = entry.flow;
    let has = |bit| entry.flow.present.has(bit);
    flow.timeout = left(entry, now);
    let mut tells = ALWAYS;
    if has(Present::MARK) && flow.mark != 0 {
        tells.insert(Present::MARK);
    }
    let (kind, flags) = match what {
        Raised::New => {
            let rest = Present::PROTOINFO.or(Present::HELPER).or(Present::MASTER);
            tells.insert(rest.or(Present::SEQADJ));
            if !flow.labels.is_empty() {
                tells.insert(Present::LABELS);
            }
            (msg::CT_NEW, flag::CREATE | flag::EXCL)
        }
        Raised::Update => {
            tells.insert(Present(changed.0 & !Present::MASTER.0));
            tells.insert(Present::HELPER.or(Present::SEQADJ));
            (msg::CT_NEW, 0)
        }
        Raised::Destroy => {
            flow.status = flow.status.with(Status::DYING);
            tells.insert(Present::PROTOINFO);
            if let ProtoInfo::Sctp(sctp) = &mut flow.protoinfo {
                sctp.vtag = None;
            }
            if entry.expires <= now {
                tells.remove(Present::TIMEOUT);
            }
            (msg::CT_DELETE, 0)
        }
    };
    flow.present = Present(flow.present.0 & tells.0);
    message(&flow, kind, flags, 0, port)
}

/// Whether an event is of a new flow.
pub(crate) fn is_new(event: &[u8]) -> bool {
    let flags = event.get(6..8).and_then(|b| b.try_into().ok()).map_or(0, u16::from_ne_bytes);
    flags & flag::CREATE != 0
}

/// An entry as a dump or an answer tells it.
pub(crate) fn shown(entry: &Entry, flags: u16, seq: u32, now: Instant) -> Vec<u8> {
    let mut flow = entry.flow;
    flow.timeout = left(entry, now);
    flow.present.remove(TRANSLATION);
    if !flow.present.has(Present::MARK) {
        flow.mark = 0;
        flow.present.insert(Present::MARK);
    }
    if flow.labels.is_empty() {
        flow.present.remove(Present::LABELS);
    }
    message(&flow, msg::CT_NEW, flags, seq, 0)
}

/// `NLMSG_DONE`.
pub(crate) fn done(seq: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(20u32.to_ne_bytes());
    bytes.extend(nlmsg::DONE.to_ne_bytes());
    bytes.extend(flag::MULTI.to_ne_bytes());
    bytes.extend(seq.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes
}

/// `NLMSG_ERROR` with the request's header.
pub(crate) fn error(request: &[u8], errno: i32) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(36u32.to_ne_bytes());
    bytes.extend(nlmsg::ERROR.to_ne_bytes());
    bytes.extend(flag::CAPPED.to_ne_bytes());
    bytes.extend(&request[8..12]);
    bytes.extend([0; 4]);
    bytes.extend((-errno).to_ne_bytes());
    bytes.extend(&request[..16]);
    bytes
}
