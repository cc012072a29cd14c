//! The flows and expectations that options describe.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proto_ctnl::{
    Dccp, Expect, ExpectPresent, Flow, L4, Present, ProtoInfo, Sctp, Status, Tcp, TcpFlags, Tuple,
    proto,
};

use crate::args::{Field, Nat, Opt, Request};
use crate::kernel::{Errno, INVALID, RANGE};

/// Window tracking of a made connection: liberal, selective acknowledgement, and from TIME_WAIT
/// on the side that closes (`IP_CT_TCP_FLAG_*`).
const TCP_LIBERAL: u8 = 0x08;
const TCP_SACK: u8 = 0x02;
const TCP_CLOSE_INIT: u8 = 0x04;
const TCP_TIME_WAIT: u32 = 7;

/// What stands for the protocol of half a reply.
const NO_PROTOCOL: u8 = 0;

/// The flow that the options describe, whole.
pub(crate) fn flow(request: &Request) -> Result<Flow, Errno> {
    let (orig, reply) = tuples(request)?;
    let mut flow = Flow {
        orig,
        reply,
        status: Status(request.status.value).with(Status::CONFIRMED),
        timeout: request.timeout,
        ..Flow::default()
    };
    let always = Present::ORIG.or(Present::REPLY).or(Present::TIMEOUT);
    flow.present.insert(always);
    if let Some(info) = protoinfo(request) {
        flow.protoinfo = info;
        flow.present.insert(Present::PROTOINFO);
    }
    let given = request.given;
    for (opt, bit) in [
        // Without it the kernel confirms a new flow, and leaves alone what an old one has.
        (Opt::Status, Present::STATUS),
        (Opt::Mark, Present::MARK),
        (Opt::Zone, Present::ZONE),
        (Opt::OrigZone, Present::ORIG_ZONE),
        (Opt::ReplyZone, Present::REPLY_ZONE),
        (Opt::LabelAdd, Present::LABELS),
        (Opt::LabelBits, Present::LABELS),
        (Opt::Helper, Present::HELPER),
        (Opt::SeqadjOrig, Present::SEQADJ),
        (Opt::SeqadjReply, Present::SEQADJ),
        (Opt::Synproxy, Present::SYNPROXY),
        (Opt::Master, Present::MASTER),
    ] {
        if given.has(opt) {
            flow.present.insert(bit);
        }
    }
    (flow.mark, flow.zone) = (request.mark, request.zone);
    (flow.orig_zone, flow.reply_zone) = (request.orig_zone, request.reply_zone);
    flow.labels = request.label_bits;
    for (word, more) in flow.labels.0.iter_mut().zip(request.labels_add.words) {
        *word |= more;
    }
    flow.helper = request.helper;
    flow.seqadj = request.seqadj;
    flow.synproxy = request.synproxy;
    if given.has(Opt::Master) {
        flow.master = request.master;
        // The kernel sets it itself, and refuses to be asked for it.
        flow.status = flow.status.without(Status::EXPECTED);
    }
    if request.labels_add.beyond {
        return Err(RANGE);
    }
    translation(request, &mut flow);
    Ok(flow)
}

fn translation(request: &Request, flow: &mut Flow) {
    // Ports are translated for these alone.
    let ported = matches!(flow.orig.proto, proto::TCP | proto::UDP);
    if let Nat { address: Some(address), port } = request.src_nat {
        flow.snat = address;
        flow.present.insert(Present::SNAT);
        if let Some(port) = port.filter(|_| ported) {
            flow.spat = port;
            flow.present.insert(Present::SPAT);
        }
    }
    if let Nat { address: Some(address), port } = request.dst_nat {
        flow.dnat = address;
        flow.present.insert(Present::DNAT);
        if let Some(port) = port.filter(|_| ported) {
            flow.dpat = port;
            flow.present.insert(Present::DPAT);
        }
    }
}

/// The tuple by which a flow is looked up, and whether it is that of the reply.
pub(crate) fn key(request: &Request) -> Result<(Tuple, bool), Errno> {
    let r = request;
    let protocol = r.protocol.unwrap_or_default();
    let by_reply = r.src.is_none() || r.dst.is_none();
    let ends = if by_reply { [r.reply_src, r.reply_dst] } else { [r.src, r.dst] };
    let tuple = end(protocol, ends).ok_or(INVALID)?;
    let word = |field| r.field(field).unwrap_or(0) as u16;
    if matches!(protocol, proto::ICMP | proto::ICMPV6) {
        let (kind, code) = (word(Field::IcmpType) as u8, word(Field::IcmpCode) as u8);
        let l4 = L4::icmp(word(Field::IcmpId), kind, code);
        // The options tell the query.
        let asked = Tuple { l4, ..tuple };
        let l4 = if by_reply { asked.inverted().ok_or(INVALID)?.l4 } else { l4 };
        return Ok((Tuple { l4, ..tuple }, by_reply));
    }
    let [a, b] = if by_reply {
        [Field::ReplySport, Field::ReplyDport]
    } else {
        [Field::Sport, Field::Dport]
    };
    Ok((Tuple { l4: L4 { a: word(a), b: word(b) }, ..tuple }, by_reply))
}

/// The tuple of `-s`, `-d` and their ports: that of a master, or of an expectation to look up.
pub(crate) fn expect_key(request: &Request) -> Result<Tuple, Errno> {
    let words = [Field::Sport, Field::Dport];
    expect_end(request, [request.src, request.dst], words).ok_or(INVALID)
}

/// The expectation that the options describe.
pub(crate) fn expect(request: &Request) -> Result<Expect, Errno> {
    let r = request;
    let tuple = expect_end(r, [r.tuple_src, r.tuple_dst], [Field::TupleSport, Field::TupleDport]);
    let mask = expect_end(r, [r.src_mask, r.dst_mask], [Field::MaskSport, Field::MaskDport]);
    let mut expect = Expect {
        master: expect_key(r)?,
        tuple: tuple.ok_or(INVALID)?,
        mask: mask.ok_or(INVALID)?,
        timeout: r.timeout,
        ..Expect::default()
    };
    for bit in
        [ExpectPresent::MASTER, ExpectPresent::TUPLE, ExpectPresent::MASK, ExpectPresent::TIMEOUT]
    {
        expect.present.insert(bit);
    }
    Ok(expect)
}

fn expect_end(r: &Request, ends: [Option<IpAddr>; 2], [a, b]: [Field; 2]) -> Option<Tuple> {
    let word = |field| r.field(field).unwrap_or(0) as u16;
    let tuple = end(r.protocol.unwrap_or_default(), ends)?;
    Some(Tuple { l4: L4 { a: word(a), b: word(b) }, ..tuple })
}

/// Both directions. One of which no address was named mirrors the other, whatever ports were named
/// for it; of one with an address, what was not named is zero.
fn tuples(request: &Request) -> Result<(Tuple, Tuple), Errno> {
    let r = request;
    let protocol = r.protocol.unwrap_or_default();
    let has_orig = r.src.is_some() || r.dst.is_some();
    let has_reply = r.reply_src.is_some() || r.reply_dst.is_some();
    let orig = end(protocol, [r.src, r.dst]).ok_or(INVALID);
    let reply = end(protocol, [r.reply_src, r.reply_dst]).ok_or(INVALID);
    let l4 = |a: Field, b: Field| {
        let port = |field| r.field(field).unwrap_or(0) as u16;
        L4 { a: port(a), b: port(b) }
    };
    if matches!(protocol, proto::ICMP | proto::ICMPV6) {
        // Saved lines name both ends of the reply, of which a translation may tell one.
        let (dst, src) = (r.src_nat.address, r.dst_nat.address);
        let whole = r.reply_src.or(src).is_some() && r.reply_dst.or(dst).is_some();
        let reply = match (has_reply, whole) {
            (true, false) => Some(Tuple { proto: NO_PROTOCOL, ..reply? }),
            (true, true) => Some(reply?),
            (false, _) => None,
        };
        return icmp(r, orig?, reply);
    }
    let named = r.field(Field::ReplySport).or_else(|| r.field(Field::ReplyDport)).is_some();
    let whole = named || r.extension.is_none() || r.is_bare_dccp();
    let orig = orig.map(|t| Tuple { l4: l4(Field::Sport, Field::Dport), ..t });
    let reply = reply.map(|t| match whole {
        true => Tuple { l4: l4(Field::ReplySport, Field::ReplyDport), ..t },
        false => Tuple { proto: NO_PROTOCOL, ..t },
    });
    match (has_orig, has_reply) {
        (true, true) => Ok((orig?, reply?)),
        (true, false) => {
            let orig = orig?;
            let mut reply = orig.inverted().ok_or(INVALID)?;
            // Saved lines tell translated addresses by these options, and ports beside them.
            if r.src_nat.address.is_some() && r.dst_nat.address.is_some() && named {
                reply.l4 = l4(Field::ReplySport, Field::ReplyDport);
            }
            Ok((orig, reply))
        }
        _ if !whole => Err(INVALID),
        _ => reply?.inverted().zip(reply.ok()).ok_or(INVALID),
    }
}

/// Whether the reply lacks what a new flow needs: its ports, or one of ICMP's addresses. A flow that
/// exists can be named so, as the kernel finds it by its original direction.
pub(crate) const fn is_half(flow: &Flow) -> bool {
    flow.reply.proto != flow.orig.proto
}

/// A tuple with the addresses that were named, at least one.
fn end(protocol: u8, [src, dst]: [Option<IpAddr>; 2]) -> Option<Tuple> {
    let none: IpAddr = match src.or(dst)? {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let (src, dst) = (src.unwrap_or(none), dst.unwrap_or(none));
    Some(Tuple { src, dst, proto: protocol, l4: L4::default() })
}

/// Only queries have an answer, and they are made by their original direction.
fn icmp(request: &Request, orig: Tuple, reply: Option<Tuple>) -> Result<(Tuple, Tuple), Errno> {
    if orig.is_v6() != (orig.proto == proto::ICMPV6) {
        return Err(INVALID);
    }
    let number = |field| request.field(field).unwrap_or(0);
    let kind = number(Field::IcmpType) as u8;
    let code = number(Field::IcmpCode) as u8;
    let orig = Tuple { l4: L4::icmp(number(Field::IcmpId) as u16, kind, code), ..orig };
    let answer = orig.inverted().ok_or(INVALID)?;
    match reply {
        Some(reply) => Ok((orig, Tuple { l4: answer.l4, ..reply })),
        None => Ok((orig, answer)),
    }
}

/// State of the protocol, if one was named.
pub(crate) fn protoinfo(request: &Request) -> Option<ProtoInfo> {
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
            let tag = |field| request.field(field);
            let vtag = tag(Field::OrigVtag).zip(tag(Field::ReplyVtag)).map(|(o, r)| [o, r]);
            ProtoInfo::Sctp(Sctp { state: number, vtag })
        }
        _ => {
            let role = request.field(Field::Role).unwrap_or(0) as u8;
            ProtoInfo::Dccp(Dccp { state: number, role, handshake_seq: None })
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::parse;

    /// `-s -d -r -q` ports, or the refusal, as the original made them.
    fn made(options: &str) -> Option<String> {
        let line = format!("conntrack -I -t 60 {options}");
        let words = line.split_ascii_whitespace().map(str::as_bytes).collect();
        let (o, r) = tuples(&parse(words, false).unwrap()).ok()?;
        let end = |t: Tuple| format!("{}:{} {}:{}", t.src, t.l4.a, t.dst, t.l4.b);
        let half = if o.proto == r.proto { "" } else { " (half)" };
        Some(format!("{} / {}{half}", end(o), end(r)))
    }

    #[test]
    fn directions_complete_each_other_whole_or_not_at_all() {
        let udp = "-p udp -s 10.0.0.1 -d 10.0.0.2 --sport 5 --dport 6";
        let back = "-p udp -r 10.0.0.3 -q 10.0.0.4 --reply-port-src 7 --reply-port-dst 8";
        for (options, expected) in [
            (udp.to_owned(), Some("10.0.0.1:5 10.0.0.2:6 / 10.0.0.2:6 10.0.0.1:5")),
            (
                format!("{udp} --reply-port-src 9"),
                Some("10.0.0.1:5 10.0.0.2:6 / 10.0.0.2:6 10.0.0.1:5"),
            ),
            (
                format!("{udp} -r 10.0.0.3"),
                Some("10.0.0.1:5 10.0.0.2:6 / 10.0.0.3:0 0.0.0.0:0 (half)"),
            ),
            (
                format!("{udp} -r 10.0.0.3 -q 10.0.0.4"),
                Some("10.0.0.1:5 10.0.0.2:6 / 10.0.0.3:0 10.0.0.4:0 (half)"),
            ),
            ("-p udp -r 10.0.0.3 -q 10.0.0.4 --sport 5 --dport 6".to_owned(), None),
            (
                format!("{udp} -r 10.0.0.3 --reply-port-dst 7"),
                Some("10.0.0.1:5 10.0.0.2:6 / 10.0.0.3:0 0.0.0.0:7"),
            ),
            (back.to_owned(), Some("10.0.0.4:8 10.0.0.3:7 / 10.0.0.3:7 10.0.0.4:8")),
            (format!("{back} --sport 3"), Some("10.0.0.4:8 10.0.0.3:7 / 10.0.0.3:7 10.0.0.4:8")),
            (
                format!("{back} -s 10.0.0.1 --sport 3"),
                Some("10.0.0.1:3 0.0.0.0:0 / 10.0.0.3:7 10.0.0.4:8"),
            ),
            (
                "-p esp -s 10.0.0.1 -d 10.0.0.2 -r 10.0.0.3".to_owned(),
                Some("10.0.0.1:0 10.0.0.2:0 / 10.0.0.3:0 0.0.0.0:0"),
            ),
        ] {
            assert_eq!(made(&options).as_deref(), expected, "{options}");
        }
    }

    #[test]
    fn icmp_by_its_query() {
        let v4 = "-p icmp --icmp-code 0 --icmp-id 3";
        let ends = "-s 10.0.0.1 -d 10.0.0.2";
        assert_eq!(
            made(&format!("{v4} --icmp-type 8 {ends}")).unwrap(),
            "10.0.0.1:3 10.0.0.2:2048 / 10.0.0.2:3 10.0.0.1:0"
        );
        assert_eq!(made(&format!("{v4} --icmp-type 3 {ends}")), None, "it has no answer");
        assert_eq!(made(&format!("{v4} --icmp-type 8 -s ::1 -d ::2")), None);
        assert_eq!(made(&format!("{v4} --icmp-type 8 -r 10.0.0.1 -q 10.0.0.2")), None);
        let back = format!("{v4} --icmp-type 8 {ends} -r 10.0.0.3");
        assert!(made(&back).unwrap().ends_with(" (half)"));
        assert!(made(&format!("{back} -n 10.0.0.4")).is_some());
        assert_eq!(
            made(&format!("{back} -q 10.0.0.4")).unwrap(),
            "10.0.0.1:3 10.0.0.2:2048 / 10.0.0.3:3 10.0.0.4:0"
        );
    }
}
