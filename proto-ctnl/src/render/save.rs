//! The form of a flow that is a command line to make it again (`-o save`).

use super::addr::{address, decimal};
use super::names::{proto_name, state_name};
use super::{EventKind, Render};
use crate::flow::{Flow, Present, ProtoInfo, SeqAdj, Synproxy};
use crate::status::Status;
use crate::tuple::{L4, Tuple, proto};

/// Status flags that a command line can name.
const STATUS: [(Status, &str); 4] = [
    (Status::EXPECTED, "EXPECTED"),
    (Status::SEEN_REPLY, "SEEN_REPLY"),
    (Status::ASSURED, "ASSURED"),
    (Status::FIXED_TIMEOUT, "FIXED_TIMEOUT"),
];

/// Appends the options that make the flow, without a newline. Of `render` only the event counts:
/// a change is told as `-U`, an end as `-D`.
///
/// Mark, labels, helper, sequence adjustment, master and SYN proxy state, which other programs leave out,
/// stand behind the rest where a flow has them, and only in lines that make a flow.
pub fn flow_save(flow: &Flow, render: &Render<'_>, out: &mut Vec<u8>) {
    let p = flow.present;
    out.reserve(512);
    out.extend_from_slice(match render.event {
        None | Some(EventKind::New) => b"-A",
        Some(EventKind::Update) => b"-U",
        Some(EventKind::Destroy) => b"-D",
    });
    if p.has(Present::TIMEOUT) {
        number("-t", flow.timeout, out);
    }
    if p.has(Present::STATUS) {
        status(flow.status, out);
    }
    // Not the security mark: the kernel lets nobody set it, and no command that a file may have takes
    // its option, so that one such line would keep the whole file from being loaded.
    if p.has(Present::ZONE) {
        number("-w", flow.zone, out);
    }
    if p.has(Present::ORIG_ZONE) {
        number("--orig-zone", flow.orig_zone, out);
    }
    if p.has(Present::REPLY_ZONE) {
        number("--reply-zone", flow.reply_zone, out);
    }
    if p.has(Present::ORIG) {
        addresses(flow, out);
        protocol(flow.orig.proto, out);
        keys(&flow.orig, p.has(Present::REPLY).then_some(&flow.reply), out);
    }
    if p.has(Present::PROTOINFO) {
        protocol_state(&flow.protoinfo, out);
    }
    if matches!(render.event, None | Some(EventKind::New)) {
        extras(flow, out);
    }
}

fn extras(flow: &Flow, out: &mut Vec<u8>) {
    let p = flow.present;
    if p.has(Present::MARK) && flow.mark != 0 {
        number("-m", flow.mark, out);
    }
    if p.has(Present::LABELS) && !flow.labels.is_empty() {
        out.extend_from_slice(b" --label-bits 0x");
        let bits = flow.labels.0.iter().rev().fold(0, |bits, word| bits << 32 | u128::from(*word));
        let digits = (128 - bits.leading_zeros()).div_ceil(4);
        for digit in (0..digits).rev() {
            out.push(b"0123456789abcdef"[(bits >> (4 * digit) & 15) as usize]);
        }
    }
    if p.has(Present::HELPER) {
        out.extend_from_slice(b" --helper ");
        out.extend_from_slice(flow.helper.as_bytes());
    }
    if p.has(Present::SEQADJ) {
        let adjusted = ["--seqadj-orig", "--seqadj-reply"].into_iter().zip(flow.seqadj);
        for (option, adj) in adjusted.filter(|(_, adj)| *adj != SeqAdj::default()) {
            number(option, adj.correction_pos, out);
            out.push(b',');
            decimal(adj.offset_before, out);
            out.push(b',');
            decimal(adj.offset_after, out);
        }
    }
    if p.has(Present::MASTER) {
        let Tuple { src, dst, proto, l4 } = &flow.master;
        number("--master", *proto, out);
        for end in [src, dst] {
            out.push(b',');
            address(end, out);
        }
        for key in [l4.a, l4.b] {
            out.push(b',');
            decimal(key, out);
        }
    }
    // The kernel tells it of every flow once it proxies any.
    if p.has(Present::SYNPROXY) && flow.synproxy != Synproxy::default() {
        number("--synproxy", flow.synproxy.isn, out);
        for value in [flow.synproxy.its, flow.synproxy.tsoff] {
            out.push(b',');
            decimal(value, out);
        }
    }
}

fn status(status: Status, out: &mut Vec<u8>) {
    out.extend_from_slice(b" -u ");
    let mut first = true;
    for (_, name) in STATUS.iter().filter(|(bit, _)| status.has(*bit)) {
        if !first {
            out.push(b',');
        }
        first = false;
        out.extend_from_slice(name.as_bytes());
    }
    if first {
        out.extend_from_slice(b"UNSET");
    }
}

/// A translated end of the reply is told by the option that asks for the translation.
fn addresses(flow: &Flow, out: &mut Vec<u8>) {
    let (orig, reply) = (&flow.orig, &flow.reply);
    end("-s", orig, out);
    out.extend_from_slice(b" -d ");
    address(&orig.dst, out);
    if !flow.present.has(Present::REPLY) {
        return;
    }
    let translated = |done| flow.present.has(Present::STATUS) && flow.status.has(done);
    let dnat = translated(Status::DST_NAT_DONE) && reply.src != orig.dst;
    let snat = translated(Status::SRC_NAT_DONE) && reply.dst != orig.src;
    end(if dnat { "-g" } else { "-r" }, reply, out);
    out.extend_from_slice(if snat { b" -n " } else { b" -q " });
    address(&reply.dst, out);
}

fn end(option: &str, tuple: &Tuple, out: &mut Vec<u8>) {
    out.push(b' ');
    out.extend_from_slice(option.as_bytes());
    out.push(b' ');
    address(&tuple.src, out);
}

fn protocol(number: u8, out: &mut Vec<u8>) {
    out.extend_from_slice(b" -p ");
    match proto_name(number) {
        "unknown" => decimal(number, out),
        name => out.extend_from_slice(name.as_bytes()),
    }
}

fn keys(orig: &Tuple, reply: Option<&Tuple>, out: &mut Vec<u8>) {
    let names = match orig.proto {
        proto::ICMP => return icmp(["--icmp-type", "--icmp-code", "--icmp-id"], orig, out),
        proto::ICMPV6 => {
            return icmp(["--icmpv6-type", "--icmpv6-code", "--icmpv6-id"], orig, out);
        }
        // Kernels that no longer track DCCP tell no ports.
        proto::DCCP if orig.l4 == L4::default() => return,
        proto::GRE => ["--srckey", "--dstkey", "--reply-key-src", "--reply-key-dst"],
        _ if orig.has_ports() => ["--sport", "--dport", "--reply-port-src", "--reply-port-dst"],
        _ => return,
    };
    number(names[0], orig.l4.a, out);
    number(names[1], orig.l4.b, out);
    if let Some(reply) = reply {
        number(names[2], reply.l4.a, out);
        number(names[3], reply.l4.b, out);
    }
}

fn icmp(names: [&str; 3], tuple: &Tuple, out: &mut Vec<u8>) {
    number(names[0], tuple.l4.icmp_type(), out);
    number(names[1], tuple.l4.icmp_code(), out);
    number(names[2], tuple.l4.a, out);
}

fn protocol_state(info: &ProtoInfo, out: &mut Vec<u8>) {
    out.extend_from_slice(b" --state ");
    out.extend_from_slice(state_name(info).as_bytes());
    match info {
        ProtoInfo::Tcp(_) => {}
        ProtoInfo::Sctp(sctp) => {
            if let Some([orig, reply]) = sctp.vtag {
                number("--orig-vtag", orig, out);
                number("--reply-vtag", reply, out);
            }
        }
        ProtoInfo::Dccp(dccp) => {
            let role = if dccp.role == 0 { b"client" } else { b"server" };
            out.extend_from_slice(b" --role ");
            out.extend_from_slice(role);
        }
    }
}

fn number(option: &str, n: impl itoa::Integer, out: &mut Vec<u8>) {
    out.push(b' ');
    out.extend_from_slice(option.as_bytes());
    out.push(b' ');
    decimal(n, out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Tcp;

    #[test]
    fn a_translated_flow() {
        let ip = |t: &str| t.parse().unwrap();
        let tuple = |src, dst, l4| Tuple { src: ip(src), dst: ip(dst), proto: proto::TCP, l4 };
        let mut flow = Flow {
            orig: tuple("192.0.2.10", "198.51.100.20", L4::ports(1001, 80)),
            reply: tuple("198.51.100.20", "203.0.113.5", L4::ports(80, 1001)),
            status: Status(0x18c),
            timeout: 599,
            protoinfo: ProtoInfo::Tcp(Tcp { state: 3, ..Tcp::default() }),
            ..Flow::default()
        };
        for bit in
            [Present::ORIG, Present::REPLY, Present::STATUS, Present::TIMEOUT, Present::PROTOINFO]
        {
            flow.present.insert(bit);
        }
        let mut out = Vec::new();
        flow_save(&flow, &Render::default(), &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "-A -t 599 -u ASSURED -s 192.0.2.10 -d 198.51.100.20 -r 198.51.100.20 -n 203.0.113.5 \
             -p tcp --sport 1001 --dport 80 --reply-port-src 80 --reply-port-dst 1001 \
             --state ESTABLISHED"
        );
    }
}
