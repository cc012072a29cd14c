//! What a reader of the protocol would ask of the cache.

use engine::cache::{
    Cache, CacheConfig, CacheFull, Change, Dumped, FlowIndex, Killed, Role, State,
};
use proto_ctnl::{Flow, Labels, Present, Status, Synproxy};

use crate::flows::{kernel_flow, tuple, v4, v6};

fn cache(role: Role, limit: u32) -> Cache {
    Cache::new(CacheConfig { limit, role, seed: Some(1) })
}

fn send(cache: &mut Cache, keep: bool) -> Option<(FlowIndex, Change, u32)> {
    let (index, change) = cache.next_changed()?;
    Some((index, change, cache.sent(index, keep)))
}

/// Not as an update: a peer that has the flows of others in its kernel may have one of this key for its
/// own, which ran out here alone. That would be updated and keep its translation.
#[test]
fn created_and_updated_is_sent_once_as_new() {
    let mut cache = cache(Role::Internal, 9);
    let flow = kernel_flow(1, false);
    let a = cache.replace(&flow, 0).unwrap().index;
    cache.mark_changed(a);
    let b = cache.merge(&flow, 1).unwrap();
    assert!(b.existed && b.index == a);
    cache.mark_changed(a);
    assert_eq!(send(&mut cache, false).map(|s| s.1), Some(Change::New));
    assert_eq!(send(&mut cache, false), None);
    assert_eq!(cache.counters().coalesced, 1);
    cache.merge(&flow, 2).unwrap();
    cache.mark_changed(a);
    assert_eq!(send(&mut cache, false).map(|s| s.1), Some(Change::Update));
}

#[test]
fn delete_and_new_in_quick_succession_send_only_new() {
    let mut cache = cache(Role::Internal, 9);
    let flow = kernel_flow(1, false);
    let a = cache.replace(&flow, 0).unwrap().index;
    cache.mark_changed(a);
    send(&mut cache, true).unwrap();
    assert_eq!(cache.kill(a), Killed::Queued);
    assert_eq!(cache.find(&flow.orig, 0), None);
    let again = cache.replace(&flow, 5).unwrap();
    assert!(!again.existed && again.index == a);
    cache.mark_changed(a);
    assert_eq!(send(&mut cache, true).map(|s| s.1), Some(Change::New));
    assert_eq!(send(&mut cache, true), None);
}

#[test]
fn a_flow_in_the_place_of_another_is_told_as_new_until_the_peer_has_it() {
    let mut cache = cache(Role::Internal, 9);
    let flow = kernel_flow(1, false);
    let a = cache.replace(&flow, 0).unwrap().index;
    cache.mark_changed(a);
    let (_, _, first) = send(&mut cache, true).unwrap();
    cache.acked(a, first);
    cache.kill(a);
    cache.replace(&flow, 1).unwrap();
    let told = |cache: &mut Cache| {
        cache.merge(&flow, 2).unwrap();
        cache.mark_changed(a);
        let (_, change, pos) = send(cache, true).unwrap();
        (change, pos)
    };
    // Updated before it was told; and again while it is not known whether the first arrived.
    let (change, lost) = told(&mut cache);
    assert_eq!(change, Change::New);
    let (change, _) = told(&mut cache);
    assert_eq!(change, Change::New);
    cache.acked(a, lost);
    let (change, last) = told(&mut cache);
    assert_eq!(change, Change::New, "what was acknowledged is not the last");
    cache.acked(a, last);
    assert_eq!(told(&mut cache).0, Change::Update);
}

/// Of the flows of a peer only the master says that it is another one, which began in the place of
/// the one that is known without a word of either.
#[test]
fn an_update_about_another_master_or_none_keeps_nothing_of_the_old_flow() {
    let told = |master: Option<u8>, labels: u32| {
        let mut flow = Flow { orig: tuple(1), status: Status(0xe), ..Flow::default() };
        flow.present = Present::ORIG.or(Present::STATUS);
        if let Some(master) = master {
            flow.master = tuple(master);
            flow.present.insert(Present::MASTER);
            flow.status = Status(0xf);
        }
        if labels != 0 {
            flow.labels = Labels([labels, 0, 0, 0]);
            flow.present.insert(Present::LABELS);
        }
        flow
    };
    let mut bare = told(None, 0);
    bare.status = Status(0xf);
    // What was known, what an update tells, and whether it is of the same flow.
    let cases = [
        (told(Some(2), 1), told(Some(2), 0), true),
        (told(Some(2), 1), bare, true),
        (told(None, 1), told(None, 0), true),
        (told(Some(2), 1), told(Some(3), 0), false),
        (told(Some(2), 1), told(None, 0), false),
        (told(None, 1), told(Some(2), 0), false),
    ];
    for (n, (known, update, same)) in cases.into_iter().enumerate() {
        let mut cache = cache(Role::External, 9);
        cache.replace(&known, 0).unwrap();
        let index = cache.merge(&update, 1).unwrap().index;
        let mut flow = Flow::default();
        cache.load(index, &mut flow).unwrap();
        let related = if same { &known } else { &update }.present.has(Present::MASTER);
        assert_eq!(flow.present.has(Present::MASTER), related, "master, case {n}");
        assert_eq!(flow.present.has(Present::LABELS), same, "labels, case {n}");
        cache.verify();
    }
}

/// The end of a translated flow and the beginning of the next of its tuple were lost: an update of
/// that must not keep the translation, which a commit would give it.
#[test]
fn an_update_of_a_flow_that_is_translated_otherwise_keeps_nothing_of_the_old_flow() {
    let told = |to: Option<(u8, u16)>, ipv6: bool| {
        let orig = tuple(u8::from(ipv6));
        let mut flow = Flow { orig, status: Status(0xe), mark: 3, ..Flow::default() };
        flow.present = Present::ORIG.or(Present::STATUS);
        if let Some((host, port)) = to {
            flow.snat = if ipv6 { v6(host) } else { v4(host) };
            flow.spat = port;
            flow.status = Status(0x19e);
            flow.present.insert(Present::SNAT);
            if port != 0 {
                flow.present.insert(Present::SPAT);
            }
        }
        flow
    };
    for ipv6 in [false, true] {
        let mut bare = told(None, ipv6);
        bare.status = Status(0x19e);
        // What was known, what an update tells, and whether it is of the same flow.
        let cases = [
            (told(Some((7, 9)), ipv6), told(Some((7, 9)), ipv6), true),
            (told(Some((7, 9)), ipv6), bare, true),
            (told(None, ipv6), told(None, ipv6), true),
            (told(Some((7, 9)), ipv6), told(None, ipv6), false),
            (told(None, ipv6), told(Some((7, 9)), ipv6), false),
            (told(Some((7, 9)), ipv6), told(Some((8, 9)), ipv6), false),
            (told(Some((7, 9)), ipv6), told(Some((7, 8)), ipv6), false),
            (told(Some((7, 9)), ipv6), told(Some((7, 0)), ipv6), false),
            (told(Some((7, 0)), ipv6), told(Some((7, 9)), ipv6), false),
        ];
        for (n, (mut known, update, same)) in cases.into_iter().enumerate() {
            let mut cache = cache(Role::External, 9);
            known.present.insert(Present::MARK);
            cache.replace(&known, 0).unwrap();
            let index = cache.merge(&update, 1).unwrap().index;
            let mut flow = Flow::default();
            cache.load(index, &mut flow).unwrap();
            assert_eq!(flow.present.has(Present::MARK), same, "case {n}");
            let wanted = if same { known } else { update };
            for bit in [Present::SNAT, Present::SPAT] {
                assert_eq!(flow.present.has(bit), wanted.present.has(bit), "case {n}");
            }
            assert!(!wanted.present.has(Present::SNAT) || flow.snat == wanted.snat, "case {n}");
            assert!(!wanted.present.has(Present::SPAT) || flow.spat == wanted.spat, "case {n}");
            cache.verify();
        }
    }
}

/// A peer has what it was told before, and has not heard that any of it has ended.
#[test]
fn a_flow_that_begins_after_all_were_forgotten_is_told_as_new_and_its_end_too() {
    let mut cache = cache(Role::Internal, 9);
    let flow = kernel_flow(1, false);
    let a = cache.replace(&flow, 0).unwrap().index;
    cache.mark_changed(a);
    send(&mut cache, true).unwrap();
    cache.clear();
    let b = cache.replace(&flow, 1).unwrap().index;
    cache.mark_changed(b);
    cache.merge(&flow, 2).unwrap();
    assert_eq!(cache.next_changed().map(|(_, change)| change), Some(Change::New));
    assert_eq!(cache.kill(b), Killed::Queued);
    assert_eq!(send(&mut cache, true).map(|s| s.1), Some(Change::Delete));
    cache.verify();
}

#[test]
fn what_the_daemon_made_itself_the_peer_may_know() {
    let mut cache = cache(Role::Internal, 9);
    let flow = kernel_flow(1, false);
    let a = cache.adopt(&flow, 0).unwrap().index;
    cache.merge(&flow, 1).unwrap();
    cache.mark_changed(a);
    assert_eq!(cache.next_changed(), Some((a, Change::New)));
    assert_eq!(cache.kill(a), Killed::Queued);
    assert_eq!(send(&mut cache, true).map(|s| s.1), Some(Change::Delete));
}

#[test]
fn a_lost_delete_that_a_new_overtook_brings_nothing() {
    let mut cache = cache(Role::Internal, 9);
    let flow = kernel_flow(1, false);
    let a = cache.replace(&flow, 0).unwrap().index;
    cache.mark_changed(a);
    send(&mut cache, true).unwrap();
    cache.kill(a);
    let (_, change, del) = send(&mut cache, true).unwrap();
    assert_eq!(change, Change::Delete);
    assert_eq!((cache.len(), cache.alive_len()), (1, 0));
    cache.replace(&flow, 1).unwrap();
    cache.mark_changed(a);
    let (_, change, new) = send(&mut cache, true).unwrap();
    assert_eq!(change, Change::New);
    cache.nacked(a, del);
    cache.acked(a, del);
    assert_eq!((cache.pending_len(), cache.unacked_len()), (0, 1));
    cache.acked(a, new);
    assert_eq!((cache.unacked_len(), cache.alive_len()), (0, 1));
}

#[test]
fn what_nobody_heard_of_goes_without_a_word() {
    let mut cache = cache(Role::Internal, 9);
    let a = cache.replace(&kernel_flow(1, false), 0).unwrap().index;
    cache.mark_changed(a);
    assert_eq!(cache.kill(a), Killed::Removed);
    assert!(cache.is_empty() && cache.next_changed().is_none());
    // A peer may know a flow of a dump from before this daemon's start.
    let Ok(Dumped::Stored(b)) = cache.merge_dump(&kernel_flow(2, true), 0) else { panic!() };
    assert_eq!(cache.silent_len(), 1);
    cache.mark_changed(b.index);
    assert_eq!(cache.kill(b.index), Killed::Queued);
    assert_eq!(send(&mut cache, false).map(|s| s.1), Some(Change::Delete));
    assert!(cache.is_empty());
    cache.verify();
}

#[test]
fn an_end_that_was_given_up_is_told_with_the_next_bulk_send() {
    let mut cache = cache(Role::Internal, 2);
    let a = cache.merge(&kernel_flow(1, true), 0).unwrap().index;
    let b = cache.merge(&kernel_flow(2, true), 0).unwrap().index;
    for index in [a, b] {
        cache.kill(index);
        let (_, _, pos) = send(&mut cache, true).unwrap();
        cache.evicted(index, pos);
        cache.verify();
    }
    assert_eq!((cache.pending_len(), cache.unacked_len(), cache.len()), (0, 0, 2));
    // One comes back as another flow, and is no update of what the peer may have.
    cache.replace(&kernel_flow(1, true), 1).unwrap();
    cache.verify();
    // One more comes before the word of the other one, which was the only one left.
    cache.replace(&kernel_flow(3, true), 1).unwrap();
    assert_eq!((cache.len(), cache.counters().ends_forgotten), (2, 1));
    assert!(cache.replace(&kernel_flow(4, true), 1).is_err());

    cache.kill(a);
    let (_, change, _) = send(&mut cache, false).unwrap();
    assert_eq!(change, Change::Delete);
    let c = cache.find(&kernel_flow(3, true).orig, 0).unwrap();
    cache.kill(c);
    let (_, _, pos) = send(&mut cache, true).unwrap();
    cache.evicted(c, pos);
    cache.begin_bulk();
    assert_eq!(cache.bulk_step(9).queued, 1);
    let (index, change, pos) = send(&mut cache, true).unwrap();
    assert_eq!((index, change), (c, Change::Delete));
    cache.acked(c, pos);
    assert!(cache.is_empty());
    cache.verify();
}

#[test]
fn a_quiet_end_waits_for_the_next_bulk_send() {
    let mut cache = cache(Role::Internal, 9);
    let a = cache.merge(&kernel_flow(1, true), 0).unwrap().index;
    let b = cache.merge(&kernel_flow(2, true), 0).unwrap().index;
    cache.mark_changed(b);
    for index in [a, b] {
        cache.end_quietly(index);
    }
    cache.verify();
    assert_eq!((cache.pending_len(), cache.alive_len(), cache.len()), (0, 0, 2));
    // The commit's own flow takes the place of one.
    cache.adopt(&kernel_flow(1, true), 1).unwrap();
    cache.verify();
    cache.begin_bulk();
    assert_eq!(cache.bulk_step(9).queued, 2);
    let told = [send(&mut cache, false).unwrap().1, send(&mut cache, false).unwrap().1];
    assert_eq!(told, [Change::New, Change::Delete]);
    assert_eq!(cache.len(), 1);
    cache.verify();
}

#[test]
fn a_dead_flow_waits_for_its_acknowledgement() {
    let mut cache = cache(Role::Internal, 9);
    let a = cache.merge(&kernel_flow(1, true), 0).unwrap().index;
    cache.kill(a);
    let (_, _, pos) = send(&mut cache, true).unwrap();
    cache.acked(a, pos.wrapping_sub(1));
    assert_eq!(cache.len(), 1);
    cache.nacked(a, pos);
    let (_, change, pos) = send(&mut cache, true).unwrap();
    assert_eq!(change, Change::Delete);
    cache.acked(a, pos);
    assert!(cache.is_empty());
    // Its place has another flow when a copy of the answer comes.
    let b = cache.replace(&kernel_flow(2, true), 0).unwrap().index;
    assert_eq!(b, a);
    cache.nacked(b, pos);
    cache.acked(b, pos);
    assert_eq!((cache.pending_len(), cache.len()), (0, 1));
    cache.verify();
}

#[test]
fn update_keeps_what_it_does_not_carry_and_new_does_not() {
    let mut cache = cache(Role::External, 9);
    let mut flow = Flow { orig: tuple(0), mark: 7, snat: tuple(0).dst, ..Flow::default() };
    flow.present = Present::ORIG;
    for bit in [Present::MARK, Present::SNAT, Present::SYNPROXY, Present::REPLY] {
        flow.present.insert(bit);
    }
    let index = cache.replace(&flow, 3).unwrap().index;
    let mut out = Flow::default();
    let meta = cache.load(index, &mut out).unwrap();
    assert_eq!((out.mark, out.snat, out.synproxy), (7, tuple(0).dst, Synproxy::default()));
    assert!(out.present.has(Present::SYNPROXY) && !out.present.any(Present::REPLY));
    assert_eq!((meta.created, meta.updated, meta.state), (3, 3, State::New));

    let mut update = Flow { orig: tuple(0), spat: 9, ..Flow::default() };
    update.present = Present(Present::ORIG.0 | Present::SPAT.0);
    cache.merge(&update, 8).unwrap();
    let meta = cache.load(index, &mut out).unwrap();
    assert!(out.present.has(Present::SNAT) && out.present.has(Present::SPAT));
    assert_eq!((meta.created, meta.updated, meta.state), (3, 8, State::Alive));

    cache.replace(&update, 9).unwrap();
    let meta = cache.load(index, &mut out).unwrap();
    assert!(!out.present.any(Present::SNAT) && !out.present.any(Present::MARK));
    assert_eq!((meta.created, meta.state), (9, State::New));
}

#[test]
fn zones_and_families_are_part_of_the_key() {
    let mut cache = cache(Role::Internal, 9);
    let mut flow = kernel_flow(1, false);
    cache.replace(&flow, 0).unwrap();
    flow.zone = 258;
    flow.present.insert(Present::ZONE);
    assert!(!cache.replace(&flow, 0).unwrap().existed);
    assert!(cache.find(&flow.orig, 258).is_some() && cache.find(&flow.orig, 1).is_none());
    // A zone that is said to be 0 is none.
    flow.zone = 0;
    assert!(cache.replace(&flow, 0).unwrap().existed);
    // The kernel finds the original tuple in the zone of its own direction, if it has one.
    for zone in 1..=2 {
        let mut flow = kernel_flow(1, false);
        flow.orig_zone = zone;
        flow.present.insert(Present::ORIG_ZONE);
        assert!(!cache.replace(&flow, 0).unwrap().existed);
        assert!(cache.find(&flow.orig, zone).is_some());
    }
    // An IPv4 address is not the IPv6 address that it maps to.
    let mut mapped = flow.orig;
    if let (core::net::IpAddr::V4(src), core::net::IpAddr::V4(dst)) = (mapped.src, mapped.dst) {
        mapped.src = src.to_ipv6_mapped().into();
        mapped.dst = dst.to_ipv6_mapped().into();
    }
    assert!(cache.find(&mapped, 0).is_none());
}

#[test]
fn a_full_cache_refuses_new_flows_only() {
    let mut cache = cache(Role::Internal, 2);
    for n in 0..2 {
        cache.replace(&kernel_flow(n, true), 0).unwrap();
    }
    assert_eq!(cache.replace(&kernel_flow(2, true), 0), Err(CacheFull));
    assert!(cache.merge(&kernel_flow(1, true), 0).is_ok());
    let counters = cache.counters();
    assert_eq!((counters.created, counters.create_failed, counters.no_space), (2, 1, 1));
    cache.verify();
}

/// A peer that asks for everything before the last answer was complete gets it all nevertheless.
#[test]
fn a_bulk_send_that_is_asked_for_all_the_time_leaves_nobody_out() {
    let mut cache = cache(Role::Internal, 100);
    for n in 0..50 {
        cache.merge(&kernel_flow(n, false), 0).unwrap();
    }
    let mut sent = Vec::new();
    for _ in 0..5 {
        cache.begin_bulk();
        assert_eq!(cache.bulk_step(10).queued, 10);
        while let Some((index, ..)) = send(&mut cache, false) {
            sent.push(index);
        }
    }
    sent.sort();
    sent.dedup();
    assert_eq!(sent.len(), 50);
}

#[test]
fn a_bulk_send_leaves_room_for_changes() {
    let mut cache = cache(Role::Internal, 100);
    for n in 0..50 {
        cache.merge(&kernel_flow(n, false), 0).unwrap();
    }
    cache.begin_bulk();
    assert_eq!((cache.bulk_left(), cache.bulk_step(10).queued), (50, 10));
    // A change of a flow that the bulk send has not come to.
    let live = cache.find(&kernel_flow(40, false).orig, 0).unwrap();
    cache.mark_changed(live);
    let mut sent = Vec::new();
    for _ in 0..11 {
        sent.push(send(&mut cache, false).unwrap().0);
    }
    assert_eq!(sent.last(), Some(&live));
    loop {
        let done = cache.bulk_step(7).done;
        while let Some((index, ..)) = send(&mut cache, false) {
            sent.push(index);
        }
        if done {
            break;
        }
    }
    sent.sort();
    sent.dedup();
    assert_eq!((sent.len(), cache.counters().coalesced), (50, 0));
}

#[test]
fn a_resync_takes_events_before_older_dump_messages() {
    let mut cache = cache(Role::Internal, 100);
    let flows: Vec<Flow> = (0..5).map(|n| kernel_flow(n, n % 2 == 0)).collect();
    for flow in &flows[..4] {
        cache.replace(flow, 0).unwrap();
    }
    cache.begin_epoch();
    let place = |cache: &Cache, n: usize| cache.find(&flows[n].orig, 0).unwrap();
    // 0: updated by an event; 1: destroyed by one; 2: in the dump only; 3: nowhere; 4: unknown
    // here when an event destroyed it.
    let mut newer = flows[0];
    newer.timeout = 1;
    cache.merge(&newer, 1).unwrap();
    let one = place(&cache, 1);
    cache.kill(one);
    cache.note_destroyed(&flows[4].orig, 0);
    for again in [Dumped::Completed, Dumped::Current] {
        assert_eq!(cache.merge_dump(&flows[0], 2), Ok(again(place(&cache, 0))));
    }
    let mut zero = Flow::default();
    cache.load(place(&cache, 0), &mut zero).unwrap();
    assert_eq!(zero.timeout, 1);
    assert_eq!(cache.merge_dump(&flows[1], 2), Ok(Dumped::Destroyed));
    assert!(matches!(cache.merge_dump(&flows[2], 2), Ok(Dumped::Stored(s)) if s.existed));
    assert_eq!(cache.merge_dump(&flows[4], 2), Ok(Dumped::Destroyed));
    assert!(!cache.tombstones_overflowed());
    assert_eq!(cache.take_stale(), Some(place(&cache, 3)));
    assert_eq!(cache.take_stale(), None);
    cache.end_epoch();
    assert!(matches!(cache.merge_dump(&flows[4], 3), Ok(Dumped::Stored(_))));
    cache.verify();
}

#[test]
fn too_many_tombstones_are_reported() {
    let mut cache = cache(Role::Internal, 100);
    cache.begin_epoch();
    for n in 0..65_536 {
        cache.note_destroyed(&kernel_flow(n, false).orig, 0);
    }
    assert!(!cache.tombstones_overflowed());
    cache.note_destroyed(&kernel_flow(0, false).orig, 0);
    assert!(!cache.tombstones_overflowed());
    cache.note_destroyed(&kernel_flow(65_536, false).orig, 0);
    assert!(cache.tombstones_overflowed());
    cache.begin_epoch();
    assert!(!cache.tombstones_overflowed());
}

#[test]
fn places_and_side_records_are_used_again_across_chunks() {
    let mut cache = cache(Role::Internal, 12_000);
    let flow_of = |n: u32| {
        let mut flow = kernel_flow(n, n.is_multiple_of(2));
        if n.is_multiple_of(5) {
            flow.present.insert(Present::SYNPROXY);
            flow.synproxy.isn = n % 3;
        }
        if n.is_multiple_of(7) {
            flow.reply.dst = tuple(u8::from(n.is_multiple_of(2))).src;
            flow.present.insert(Present::SECCTX);
            flow.secctx = proto_ctnl::Name::new(b"u:r:t").unwrap();
        }
        flow
    };
    for n in 0..12_000 {
        cache.replace(&flow_of(n), 0).unwrap();
    }
    cache.verify();
    let full = cache.allocated();
    for round in 1..4 {
        let mut at = FlowIndex::FIRST;
        while let Some(index) = cache.next_from(at) {
            if (index.raw() + round) % 3 != 0 {
                cache.remove(index);
            }
            at = index.next();
        }
        assert_eq!(cache.len(), 4_000);
        cache.verify();
        for n in 0..8_000 {
            cache.replace(&flow_of(round * 20_000 + n), round).unwrap();
        }
        assert_eq!(cache.replace(&flow_of(999_999), round), Err(CacheFull));
        cache.verify();
    }
    let grown = cache.allocated() - full;
    assert!(grown < full / 4, "{grown} octets more after the places were used again");
    let mut out = Flow::default();
    for n in 0..8_000 {
        let flow = flow_of(60_000 + n);
        let index = cache.find(&flow.orig, 0).unwrap();
        cache.load(index, &mut out).unwrap();
        assert_eq!(out, flow);
    }
    cache.clear();
    cache.verify();
}
