//! Names of protocols and protocol states as all renderings print them.

use crate::flow::ProtoInfo;
use crate::tuple::proto;

const TCP_STATES: [&str; 10] = [
    "NONE",
    "SYN_SENT",
    "SYN_RECV",
    "ESTABLISHED",
    "FIN_WAIT",
    "CLOSE_WAIT",
    "LAST_ACK",
    "TIME_WAIT",
    "CLOSE",
    "SYN_SENT2",
];

const SCTP_STATES: [&str; 10] = [
    "NONE",
    "CLOSED",
    "COOKIE_WAIT",
    "COOKIE_ECHOED",
    "ESTABLISHED",
    "SHUTDOWN_SENT",
    "SHUTDOWN_RECD",
    "SHUTDOWN_ACK_SENT",
    "HEARTBEAT_SENT",
    "HEARTBEAT_ACKED",
];

const DCCP_STATES: [&str; 10] = [
    "NONE", "REQUEST", "RESPOND", "PARTOPEN", "OPEN", "CLOSEREQ", "CLOSING", "TIMEWAIT", "IGNORE",
    "INVALID",
];

/// Name of an IP protocol, `unknown` for those that are tracked without a key of their own.
pub const fn proto_name(protocol: u8) -> &'static str {
    match protocol {
        proto::TCP => "tcp",
        proto::UDP => "udp",
        proto::UDPLITE => "udplite",
        proto::ICMP => "icmp",
        proto::ICMPV6 => "icmpv6",
        proto::SCTP => "sctp",
        proto::DCCP => "dccp",
        proto::GRE => "gre",
        _ => "unknown",
    }
}

/// Name of the state; `NONE` for a number without a name.
pub fn state_name(info: &ProtoInfo) -> &'static str {
    let table = match info {
        ProtoInfo::Tcp(_) => &TCP_STATES,
        ProtoInfo::Sctp(_) => &SCTP_STATES,
        ProtoInfo::Dccp(_) => &DCCP_STATES,
    };
    table.get(usize::from(info.state())).copied().unwrap_or("NONE")
}

/// The name that XML gives the state. It takes every protocol's number for one of TCP; scripts
/// that read the XML have learnt to live with that.
pub(super) fn xml_state_name(info: &ProtoInfo) -> &'static str {
    TCP_STATES.get(usize::from(info.state())).copied().unwrap_or("NONE")
}

/// Number of a TCP state's name, exactly as printed. `LISTEN` is an old name of `SYN_SENT2`.
pub fn tcp_state(name: &[u8]) -> Option<u8> {
    if name == b"LISTEN" { Some(9) } else { position(&TCP_STATES, name) }
}

/// Number of an SCTP state's name.
pub fn sctp_state(name: &[u8]) -> Option<u8> {
    position(&SCTP_STATES, name)
}

/// Number of a DCCP state's name.
pub fn dccp_state(name: &[u8]) -> Option<u8> {
    position(&DCCP_STATES, name)
}

fn position(table: &[&str], name: &[u8]) -> Option<u8> {
    let at = table.iter().position(|n| n.as_bytes() == name)?;
    u8::try_from(at).ok()
}
