//! `-I`: makes a flow.

use core::net::IpAddr;

use proto_ctnl::{
    Dccp, Flow, L4, Labels, Present, ProtoInfo, Sctp, Status, Tcp, TcpFlags, Tuple, proto,
};

use super::closing_line;
use crate::args::{Command, Field, Nat, Opt, Request, Table};
use crate::failure::Failure;
use crate::kernel::{Answers, Errno, INVALID, Kernel, RANGE};

/// Window tracking of a made connection: liberal, selective acknowledgement, and from TIME_WAIT
/// on the side that closes (`IP_CT_TCP_FLAG_*`).
const TCP_LIBERAL: u8 = 0x08;
const TCP_SACK: u8 = 0x02;
const TCP_CLOSE_INIT: u8 = 0x04;
const TCP_TIME_WAIT: u32 = 7;

pub(super) fn create(request: &Request) -> Result<(), Failure> {
    let mut kernel = Kernel::open(Command::Create, Table::Conntrack)?;
    let flow = flow(request).map_err(|errno| kernel.failure(errno))?;
    let result = kernel.ask(
        Answers::UntilEnd,
        |encoder, seq| encoder.flow_create(&flow, seq, true),
        |_| Ok(()),
    );
    result.map_err(|errno| kernel.failure(errno))?;
    closing_line(1, "flow entries have been created.");
    Ok(())
}

/// The flow that the options describe.
fn flow(request: &Request) -> Result<Flow, Errno> {
    let (orig, reply) = tuples(request)?;
    let mut flow = Flow {
        orig,
        reply,
        status: Status(request.status.value).with(Status::CONFIRMED),
        timeout: request.timeout,
        ..Flow::default()
    };
    let always = Present::ORIG.or(Present::REPLY).or(Present::STATUS).or(Present::TIMEOUT);
    flow.present.insert(always);
    if let Some(info) = protoinfo(request) {
        flow.protoinfo = info;
        flow.present.insert(Present::PROTOINFO);
    }
    let given = request.given;
    for (opt, bit) in [
        (Opt::Mark, Present::MARK),
        (Opt::Zone, Present::ZONE),
        (Opt::OrigZone, Present::ORIG_ZONE),
        (Opt::ReplyZone, Present::REPLY_ZONE),
        (Opt::LabelAdd, Present::LABELS),
    ] {
        if given.has(opt) {
            flow.present.insert(bit);
        }
    }
    (flow.mark, flow.zone) = (request.mark, request.zone);
    (flow.orig_zone, flow.reply_zone) = (request.orig_zone, request.reply_zone);
    flow.labels = Labels(request.labels_add.words);
    if request.labels_add.beyond {
        return Err(RANGE);
    }
    translation(request, &mut flow);
    Ok(flow)
}

fn translation(request: &Request, flow: &mut Flow) {
    if let Nat { address: Some(address), port } = request.src_nat {
        flow.snat = address;
        flow.present.insert(Present::SNAT);
        if let Some(port) = port {
            flow.spat = port;
            flow.present.insert(Present::SPAT);
        }
    }
    if let Nat { address: Some(address), port } = request.dst_nat {
        flow.dnat = address;
        flow.present.insert(Present::DNAT);
        if let Some(port) = port {
            flow.dpat = port;
            flow.present.insert(Present::DPAT);
        }
    }
}

/// Both directions; what was not named of one mirrors the other.
fn tuples(request: &Request) -> Result<(Tuple, Tuple), Errno> {
    let r = request;
    let pair = |a: Option<IpAddr>, b: Option<IpAddr>| a.or(b).ok_or(INVALID);
    let orig_src = pair(r.src, r.reply_dst)?;
    let orig_dst = pair(r.dst, r.reply_src)?;
    let reply_src = pair(r.reply_src, r.dst)?;
    let reply_dst = pair(r.reply_dst, r.src)?;
    let protocol = r.protocol.unwrap_or_default();
    let field = |a: Field, b: Field| r.field(a).or_else(|| r.field(b)).unwrap_or(0) as u16;
    let base = Tuple { src: orig_src, dst: orig_dst, proto: protocol, l4: L4::default() };
    let reply = Tuple { src: reply_src, dst: reply_dst, ..base };
    if base.is_icmp() {
        return icmp(r, base, reply);
    }
    let orig_l4 =
        L4 { a: field(Field::Sport, Field::ReplyDport), b: field(Field::Dport, Field::ReplySport) };
    let reply_l4 =
        L4 { a: field(Field::ReplySport, Field::Dport), b: field(Field::ReplyDport, Field::Sport) };
    Ok((Tuple { l4: orig_l4, ..base }, Tuple { l4: reply_l4, ..reply }))
}

/// Only queries have an answer, and only those can be made, by their original direction.
fn icmp(request: &Request, orig: Tuple, reply: Tuple) -> Result<(Tuple, Tuple), Errno> {
    if request.src.is_none() || request.dst.is_none() {
        return Err(INVALID);
    }
    let number = |field| request.field(field).unwrap_or(0);
    let kind = number(Field::IcmpType) as u8;
    let code = number(Field::IcmpCode) as u8;
    let l4 = L4::icmp(number(Field::IcmpId) as u16, kind, code);
    let orig = Tuple { l4, ..orig };
    let answer = orig.inverted().ok_or(INVALID)?;
    Ok((orig, Tuple { l4: answer.l4, ..reply }))
}

fn protoinfo(request: &Request) -> Option<ProtoInfo> {
    let state = request.field(Field::State)?;
    let number = state as u8;
    Some(match request.protocol? {
        proto::TCP => {
            let closing = if state >= TCP_TIME_WAIT { TCP_CLOSE_INIT } else { 0 };
            let flags = TCP_LIBERAL | TCP_SACK | closing;
            let flags = TcpFlags { flags, mask: flags };
            ProtoInfo::Tcp(Tcp { state: number, wscale: None, flags: Some([flags; 2]) })
        }
        proto::SCTP => {
            // In the octet order of the machine: see the rendering of saved flows.
            let tag = |field| request.field(field).map(u32::from_be);
            let vtag = tag(Field::OrigVtag).zip(tag(Field::ReplyVtag)).map(|(o, r)| [o, r]);
            ProtoInfo::Sctp(Sctp { state: number, vtag })
        }
        _ => {
            let role = request.field(Field::Role).unwrap_or(0) as u8;
            ProtoInfo::Dccp(Dccp { state: number, role, handshake_seq: None })
        }
    })
}
