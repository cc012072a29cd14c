//! What of a replicated flow goes into a request to the kernel.
//!
//! The kernel is particular about what it takes when an entry is made and when it is changed. The
//! functions here adapt a flow in place: they clear what a request must not carry and set what it
//! must; the encoder then writes what is present.

use proto_ctnl::{
    Expect, ExpectPresent, Flow, Name, Present, ProtoInfo, Status, Tcp, TcpFlags, Tuple,
};

use super::errno::EINVAL;

/// `IP_CT_TCP_FLAG_WINDOW_SCALE`.
const WINDOW_SCALE: u8 = 0x01;
/// `IP_CT_TCP_FLAG_BE_LIBERAL`: segments outside of the window are not invalid.
const BE_LIBERAL: u8 = 0x08;

/// `TCP_CONNTRACK_ESTABLISHED`.
const TCP_ESTABLISHED: u8 = 3;

/// Seconds that a flow gets whose peer did not say how long it lives.
pub(crate) const UNKNOWN_TIMEOUT_SECS: u32 = 60;

const fn or(list: &[Present]) -> Present {
    let mut all = Present::NONE;
    let mut i = 0;
    while i < list.len() {
        all.insert(list[i]);
        i += 1;
    }
    all
}

/// What names the translation, as peers do.
pub(crate) const NAT: Present = or(&[Present::SNAT, Present::DNAT, Present::SPAT, Present::DPAT]);

/// What a request that changes an entry may carry. The kernel answers `EOPNOTSUPP` to any
/// translation and to a master; a helper cannot be exchanged.
const CHANGEABLE: Present = or(&[
    Present::ORIG,
    Present::ZONE,
    Present::STATUS,
    Present::TIMEOUT,
    Present::MARK,
    Present::PROTOINFO,
    Present::LABELS,
    Present::SEQADJ,
    Present::SYNPROXY,
]);

/// What a request that makes an entry may carry, the reply tuple aside.
const CREATABLE: Present = or(&[CHANGEABLE, NAT, Present::MASTER, Present::HELPER]);

/// What is the key of an entry.
const KEY: Present = or(&[Present::ORIG, Present::ZONE]);

/// The timeout of an entry to be committed: the configured one, or what is left of the one that
/// the peer reported `age` seconds ago. `None`: it has run out, and the flow with it.
pub(crate) const fn left_to_live(
    fixed: Option<u32>,
    reported: Option<u32>,
    age: u32,
) -> Option<u32> {
    match (fixed, reported) {
        (Some(secs), _) => Some(secs),
        (None, None) => Some(UNKNOWN_TIMEOUT_SECS),
        (None, Some(secs)) if secs > age => Some(secs - age),
        (None, Some(_)) => None,
    }
}

/// Whether a flow may live on although the time that the peer reported has run out: traffic
/// prolongs an entry, and the kernel raises no event for that. Its end would have been reported.
pub(crate) fn may_have_been_prolonged(flow: &Flow) -> bool {
    let assured = flow.present.has(Present::STATUS) && flow.status.has(Status::ASSURED);
    let closing = match flow.protoinfo {
        ProtoInfo::Tcp(tcp) if flow.present.has(Present::PROTOINFO) => tcp.state != TCP_ESTABLISHED,
        _ => false,
    };
    assured && !closing
}

/// Adapts a flow that a peer described to a request that makes it. The error number is the answer
/// that the kernel would give.
pub(crate) fn for_create(flow: &mut Flow, window_tracking: bool) -> Result<(), i32> {
    // Always the plain answer: the kernel translates it by what CTA_NAT_* say.
    flow.reply = flow.orig.inverted().ok_or(EINVAL)?;
    flow.present = Present(flow.present.0 & CREATABLE.0);
    flow.present.insert(Present::REPLY);
    if !flow.present.has(Present::TIMEOUT) {
        flow.timeout = UNKNOWN_TIMEOUT_SECS;
        flow.present.insert(Present::TIMEOUT);
    }
    if flow.helper.is_empty() {
        flow.present.remove(Present::HELPER);
    }
    // EXPECTED follows from the master; DYING and a missing CONFIRMED are refused.
    flow.status =
        flow.status.without(Status::EXPECTED).without(Status::DYING).with(Status::CONFIRMED);
    adapt_tcp(flow, window_tracking);
    Ok(())
}

/// Adapts a flow that a peer described to a request that changes it. EXPECTED stays: it has to
/// be as it is in the entry.
pub(crate) fn for_update(flow: &mut Flow, window_tracking: bool) {
    flow.present = Present(flow.present.0 & CHANGEABLE.0);
    if has_fixed_timeout(flow) {
        // The kernel answers EPERM to any other, and to the same.
        flow.present.remove(Present::TIMEOUT);
    }
    flow.status = flow
        .status
        .without(Status::SRC_NAT)
        .without(Status::DST_NAT)
        .without(Status::DYING)
        .with(Status::CONFIRMED);
    adapt_tcp(flow, window_tracking);
}

/// Reduces a flow to its key, for requests that name an entry and nothing else.
pub(crate) const fn for_key(flow: &mut Flow) {
    flow.present = Present(flow.present.0 & KEY.0);
}

/// Nobody has seen the sequence numbers that passed the other firewall. So either the flow is
/// treated liberally, or the window scales came along and count; the kernel takes them only if
/// the flag beside them is set.
fn adapt_tcp(flow: &mut Flow, window_tracking: bool) {
    let ProtoInfo::Tcp(tcp) = &mut flow.protoinfo else { return };
    *tcp = liberal_or_scaled(*tcp, window_tracking);
}

const fn liberal_or_scaled(tcp: Tcp, window_tracking: bool) -> Tcp {
    let bit = match (window_tracking, tcp.wscale) {
        (false, _) => BE_LIBERAL,
        (true, Some(_)) => WINDOW_SCALE,
        (true, None) => return Tcp { flags: None, ..tcp },
    };
    Tcp { flags: Some([TcpFlags { flags: bit, mask: bit }; 2]), ..tcp }
}

/// The reply tuple that an entry made from this description has. `None` if its protocol's answer
/// is unknown.
pub(crate) fn translated_reply(flow: &Flow) -> Option<Tuple> {
    let mut reply = flow.orig.inverted()?;
    if flow.present.has(Present::DNAT) {
        reply.src = flow.dnat;
    }
    if flow.present.has(Present::SNAT) {
        reply.dst = flow.snat;
    }
    if flow.orig.has_ports() {
        if flow.present.has(Present::DPAT) {
            reply.l4.a = flow.dpat;
        }
        if flow.present.has(Present::SPAT) {
            reply.l4.b = flow.spat;
        }
    }
    Some(reply)
}

/// Whether an update makes `entry`, which the kernel has, what `wanted` describes. It cannot change
/// a translation, attach a helper or make a flow one that was expected; nor does it take anything
/// away that `wanted` has not.
pub(crate) fn update_suffices(entry: &Flow, wanted: &Flow) -> bool {
    let translated =
        entry.present.has(Present::REPLY) && translated_reply(wanted) == Some(entry.reply);
    let helper = helper_of(wanted).is_none_or(|helper| helper_of(entry) == Some(helper));
    let related = !wanted.present.has(Present::MASTER)
        || entry.present.has(Present::STATUS) && entry.status.has(Status::EXPECTED);
    let fixed = has_fixed_timeout(wanted) == has_fixed_timeout(entry);
    translated && helper && related && fixed && !leaves_more(entry, wanted)
}

/// Whether the flow ends when its time has come, whatever traffic it has.
const fn has_fixed_timeout(flow: &Flow) -> bool {
    flow.present.has(Present::STATUS) && flow.status.has(Status::FIXED_TIMEOUT)
}

/// Whether an entry that is updated keeps labels, a helper or an adjustment of sequence numbers
/// that are of an earlier flow of its tuple.
fn leaves_more(entry: &Flow, wanted: &Flow) -> bool {
    let only = |bit| entry.present.has(bit) && !wanted.present.has(bit);
    only(Present::LABELS) && !entry.labels.is_empty()
        || only(Present::SEQADJ)
        || helper_of(entry).is_some() && helper_of(wanted).is_none()
}

fn helper_of(flow: &Flow) -> Option<Name<16>> {
    (flow.present.has(Present::HELPER) && !flow.helper.is_empty()).then_some(flow.helper)
}

/// Adapts an expectation that a peer described to a request that makes it.
pub(crate) const fn for_expect(expect: &mut Expect) {
    // The flag that the kernel strips: only its own tables may say it.
    const USERSPACE: u32 = 4;
    expect.flags &= !USERSPACE;
    // An identifier belongs to the other kernel.
    expect.present = ExpectPresent(expect.present.0 & !ExpectPresent::ID.0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto_ctnl::{L4, proto};
    use std::net::{IpAddr, Ipv4Addr};

    fn flow(present: Present) -> Flow {
        let tuple = |a, b, sport, dport| Tuple {
            src: IpAddr::V4(Ipv4Addr::new(10, 0, 0, a)),
            dst: IpAddr::V4(Ipv4Addr::new(10, 0, 0, b)),
            proto: proto::TCP,
            l4: L4::ports(sport, dport),
        };
        Flow { present, orig: tuple(1, 2, 1003, 80), ..Flow::default() }
    }

    #[test]
    fn timeouts() {
        assert_eq!(left_to_live(Some(180), Some(10), 3600), Some(180));
        assert_eq!(left_to_live(None, Some(100), 99), Some(1));
        assert_eq!(left_to_live(None, Some(100), 100), None, "not revived");
        assert_eq!(left_to_live(None, Some(100), 5000), None, "not revived");
        assert_eq!(left_to_live(None, None, 5000), Some(60));
    }

    #[test]
    fn only_an_assured_flow_that_is_not_closing_may_have_been_prolonged() {
        let mut f = flow(or(&[Present::ORIG, Present::STATUS, Present::PROTOINFO]));
        let state = |state| ProtoInfo::Tcp(Tcp { state, ..Tcp::default() });
        (f.status, f.protoinfo) = (Status(0xe), state(TCP_ESTABLISHED));
        assert!(may_have_been_prolonged(&f));
        f.protoinfo = state(7);
        assert!(!may_have_been_prolonged(&f), "TIME_WAIT");
        f.present.remove(Present::PROTOINFO);
        f.orig.proto = proto::UDP;
        assert!(may_have_been_prolonged(&f));
        f.status = Status(0xa);
        assert!(!may_have_been_prolonged(&f), "one answer is no stream");
    }

    #[test]
    fn a_new_entry_has_the_plain_answer_and_a_status_the_kernel_takes() {
        let mut f = flow(or(&[Present::ORIG, Present::STATUS, Present::SNAT, Present::HELPER]));
        f.status = Status(0x1 | 0x2 | 0x10 | 0x200);
        for_create(&mut f, false).unwrap();
        assert_eq!(f.reply, f.orig.inverted().unwrap());
        assert_eq!(f.status, Status(0x2 | 0x8 | 0x10));
        assert!(f.present.has(or(&[Present::REPLY, Present::TIMEOUT, Present::SNAT])));
        assert!(!f.present.has(Present::HELPER), "no name, no helper");
        assert_eq!(f.timeout, 60);
    }

    #[test]
    fn an_icmp_type_without_an_answer_is_refused() {
        let mut f = flow(Present::ORIG);
        f.orig.proto = proto::ICMP;
        f.orig.l4 = L4::icmp(1, 3, 1);
        assert_eq!(for_create(&mut f, false), Err(EINVAL));
    }

    #[test]
    fn an_update_names_no_translation_helper_or_master() {
        let all = or(&[Present::ORIG, NAT, Present::REPLY, Present::MASTER, Present::HELPER]);
        let mut f = flow(or(&[all, Present::STATUS, Present::MARK, Present::ID]));
        f.helper = Name::new(b"ftp").unwrap();
        f.status = Status(0x1 | 0x8 | 0x10 | 0x20 | 0x180);
        for_update(&mut f, false);
        assert_eq!(f.present, or(&[Present::ORIG, Present::STATUS, Present::MARK]));
        assert_eq!(f.status, Status(0x1 | 0x8 | 0x180));
    }

    #[test]
    fn tcp_is_liberal_unless_windows_are_tracked() {
        let mut f = flow(or(&[Present::ORIG, Present::PROTOINFO]));
        let tcp = Tcp { state: 3, wscale: Some([7, 8]), flags: None };
        f.protoinfo = ProtoInfo::Tcp(tcp);
        for_create(&mut f, false).unwrap();
        let liberal = Some([TcpFlags { flags: 8, mask: 8 }; 2]);
        assert_eq!(f.protoinfo, ProtoInfo::Tcp(Tcp { flags: liberal, ..tcp }));

        f.protoinfo = ProtoInfo::Tcp(tcp);
        for_create(&mut f, true).unwrap();
        let scaled = Some([TcpFlags { flags: 1, mask: 1 }; 2]);
        assert_eq!(f.protoinfo, ProtoInfo::Tcp(Tcp { flags: scaled, ..tcp }));

        f.protoinfo = ProtoInfo::Tcp(Tcp { wscale: None, flags: liberal, ..tcp });
        for_update(&mut f, true);
        assert_eq!(f.protoinfo, ProtoInfo::Tcp(Tcp { wscale: None, flags: None, ..tcp }));
    }

    #[test]
    fn sctp_tags_are_left_alone() {
        let mut f = flow(or(&[Present::ORIG, Present::PROTOINFO]));
        f.orig.proto = proto::SCTP;
        let tags = Some([0x1010_1010, 0x2020_2020]);
        f.protoinfo = ProtoInfo::Sctp(proto_ctnl::Sctp { state: 4, vtag: tags });
        let before = f.protoinfo;
        for_create(&mut f, false).unwrap();
        assert_eq!(f.protoinfo, before);
    }

    #[test]
    fn an_update_cannot_make_up_for_everything() {
        let wanted = flow(Present::ORIG);
        let mut entry = flow(or(&[Present::ORIG, Present::REPLY, Present::STATUS]));
        entry.reply = entry.orig.inverted().unwrap();
        assert!(update_suffices(&entry, &wanted));
        let mut f = wanted;
        f.present.insert(or(&[Present::SPAT]));
        f.spat = 9;
        assert!(!update_suffices(&entry, &f));
        let mut f = wanted;
        f.present.insert(Present::MASTER);
        assert!(!update_suffices(&entry, &f));
        entry.status = Status::EXPECTED;
        assert!(update_suffices(&entry, &f));
        f.present.insert(Present::HELPER);
        f.helper = Name::new(b"ftp").unwrap();
        assert!(!update_suffices(&entry, &f));
        entry.present.insert(Present::HELPER);
        entry.helper = f.helper;
        assert!(update_suffices(&entry, &f));
    }

    #[test]
    fn a_fixed_timeout_is_not_changed() {
        let mut wanted = flow(or(&[Present::ORIG, Present::STATUS, Present::TIMEOUT]));
        let mut entry = flow(or(&[Present::ORIG, Present::REPLY, Present::STATUS]));
        entry.reply = entry.orig.inverted().unwrap();
        wanted.status = Status::FIXED_TIMEOUT;
        assert!(!update_suffices(&entry, &wanted), "its timeout would stay");
        entry.status = Status::FIXED_TIMEOUT;
        assert!(update_suffices(&entry, &wanted));
        let mut update = wanted;
        for_update(&mut update, false);
        assert_eq!(update.present, or(&[Present::ORIG, Present::STATUS]));
        wanted.status = Status::default();
        assert!(!update_suffices(&entry, &wanted), "the kernel would refuse the other timeout");
    }

    #[test]
    fn an_update_takes_nothing_away() {
        let wanted = flow(Present::ORIG);
        let mut entry = flow(or(&[Present::ORIG, Present::REPLY, Present::LABELS]));
        entry.reply = entry.orig.inverted().unwrap();
        assert!(update_suffices(&entry, &wanted), "no label is set");
        entry.labels = proto_ctnl::Labels([1, 0, 0, 0]);
        assert!(!update_suffices(&entry, &wanted));
        assert!(update_suffices(&entry, &flow(or(&[Present::ORIG, Present::LABELS]))));
        entry.present = or(&[Present::ORIG, Present::REPLY, Present::SEQADJ]);
        assert!(!update_suffices(&entry, &wanted));
        entry.present = or(&[Present::ORIG, Present::REPLY, Present::HELPER]);
        entry.helper = Name::new(b"ftp").unwrap();
        assert!(!update_suffices(&entry, &wanted));
    }

    #[test]
    fn the_answer_of_a_translated_flow() {
        let mut f = flow(or(&[Present::ORIG, NAT]));
        f.snat = IpAddr::V4(Ipv4Addr::new(198, 18, 0, 1));
        f.dnat = IpAddr::V4(Ipv4Addr::new(10, 2, 0, 9));
        (f.spat, f.dpat) = (5000, 8080);
        let reply = translated_reply(&f).unwrap();
        assert_eq!((reply.src, reply.dst), (f.dnat, f.snat));
        assert_eq!(reply.l4, L4::ports(8080, 5000));
        f.present = Present::ORIG;
        assert_eq!(translated_reply(&f), f.orig.inverted());
    }
}
