//! Whole jobs against a kernel made of rules: what ends up in its table, and what is told.

mod commit;
mod during;
mod inactive;
mod inject;
mod read;
mod tables;

use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;
use proto_ctnl::consts::msg;
use proto_ctnl::{Expect, ExpectPresent, Flow, L4, Name, Present, Status};

use super::testing::{Asked, Bench, entry, kernel_tcp, tcp};
use super::*;
use tables::half_silent;

fn bench() -> Bench {
    Bench::new(KernelConfig::default())
}

fn injecting() -> Bench {
    Bench::new(KernelConfig { inject: true, ..KernelConfig::default() })
}

fn commit(bench: &mut Bench, pass: Pass) -> CommitReport {
    assert!(bench.side.start_commit(pass));
    bench.run();
    let done = bench.events.iter().rev().find_map(|event| match event {
        KernelEvent::CommitDone(report) => Some(*report),
        _ => None,
    });
    done.expect("a commit ends")
}

fn failures(bench: &Bench) -> Vec<(&'static str, i32)> {
    let told = bench.events.iter().filter_map(|event| match event {
        KernelEvent::Failed(failure) => Some((failure.operation.text(), failure.errno)),
        _ => None,
    });
    told.collect()
}

/// The steps that the kernel saw, in order.
fn steps(bench: &Bench) -> Vec<&'static str> {
    let name = |asked: &Asked| match asked.kind {
        msg::CT_NEW | msg::EXP_NEW if asked.creates() => "create",
        msg::CT_NEW => "update",
        msg::CT_DELETE | msg::EXP_DELETE => "delete",
        msg::CT_GET => "get",
        _ => "other",
    };
    bench.log.iter().map(name).collect()
}

fn with_mark(mut flow: Flow, mark: u32) -> Flow {
    flow.mark = mark;
    flow.present.insert(Present::MARK);
    flow
}

fn with_helper(mut flow: Flow, helper: &str) -> Flow {
    flow.helper = Name::new(helper.as_bytes()).unwrap();
    flow.present.insert(Present::HELPER);
    flow
}

fn with_snat(mut flow: Flow, last: u8) -> Flow {
    flow.snat = IpAddr::V4(Ipv4Addr::new(198, 18, 0, last));
    flow.present.insert(Present::SNAT);
    flow
}

fn with_master(mut flow: Flow, master: u16) -> Flow {
    flow.master = tcp(master).orig;
    flow.present.insert(Present::MASTER);
    flow.status = flow.status.with(Status::EXPECTED);
    flow
}

fn ftp_expect(port: u16) -> Expect {
    let mut expect = Expect::default();
    for bit in [
        ExpectPresent::MASTER,
        ExpectPresent::TUPLE,
        ExpectPresent::MASK,
        ExpectPresent::TIMEOUT,
        ExpectPresent::ID,
        ExpectPresent::HELPER,
        ExpectPresent::CLASS,
        ExpectPresent::NAT,
        ExpectPresent::FUNCTION,
        ExpectPresent::FLAGS,
    ] {
        expect.present.insert(bit);
    }
    expect.master = tcp(21).orig;
    expect.tuple = tcp(0).orig;
    expect.tuple.l4 = L4::ports(0, port);
    expect.mask = expect.tuple;
    expect.timeout = 300;
    expect.class = 1;
    expect.flags = 4 | 1;
    expect.helper = Name::new(b"ftp").unwrap();
    expect.nat = tcp(5).orig;
    expect.function = Name::new(b"nat-follow-master").unwrap();
    expect
}

#[test]
fn a_small_buffer_makes_small_batches() {
    let mut b = bench();
    for port in 0..10 {
        b.external(&tcp(port));
    }
    b.side.start_commit(Pass::Unrelated);
    let mut buffer = [0; 512];
    let send = b.side.poll_send(b.now, &mut b.caches, &mut buffer).unwrap();
    assert!(send.len <= 512 && b.side.counters().requests < 10);
    assert_eq!(b.side.poll_send(b.now, &mut b.caches, &mut buffer), None, "one at a time");
    b.side.answers_lost(b.now, &mut b.caches);
    b.run();
    assert_eq!(b.table.len(), 10);
}

proptest! {
    #[test]
    fn whatever_the_kernel_answers_everything_ends(answers in proptest::collection::vec(
        prop_oneof![Just(None), (0i32..133).prop_map(Some)], 1..200
    ), deaf in 0u32..3) {
        let mut b = injecting();
        for port in 0..40 {
            b.external(&with_helper(tcp(port), "sip"));
            b.side.inject(InjectKind::New, &tcp(port)).unwrap();
            b.side.inject(InjectKind::Update, &tcp(port)).unwrap();
        }
        let mut turn = 0;
        b.script = Box::new(move |_| { turn += 1; answers[turn % answers.len()] });
        b.script = Box::new({
            let mut script = std::mem::replace(&mut b.script, Box::new(|_| None));
            // A read that succeeds needs an entry to tell.
            move |asked| script(asked).filter(|&e| e != 0 || asked.kind != msg::CT_GET)
        });
        b.deaf = deaf;
        let report = commit(&mut b, Pass::Unrelated);
        prop_assert_eq!(report.committed + report.failed, 40);
        let counters = b.side.counters();
        prop_assert_eq!(counters.injected().ok + counters.injected().failed, 80);
    }

    #[test]
    fn any_bytes_are_survived(noise in proptest::collection::vec(any::<u8>(), 0..200), at in 0usize..300) {
        let mut b = half_silent(4);
        b.side.start_audit(b.now, &b.caches);
        let mut buffer = vec![0; 4096];
        b.side.poll_send(b.now, &mut b.caches, &mut buffer);
        b.side.on_datagram(b.now, &mut b.caches, &noise);
        let mut mutated = entry(&kernel_tcp(1), 1);
        for (i, octet) in noise.iter().enumerate() {
            if let Some(place) = mutated.get_mut(at + i) {
                *place = *octet;
            }
        }
        b.side.on_datagram(b.now, &mut b.caches, &mutated);
        b.side.begin_dump(DumpPurpose::Reconcile, &mut b.caches);
        b.side.on_dump_datagram(b.now, &mut b.caches, &mutated);
        b.side.dump_finished(b.now, &mut b.caches, true);
        b.run();
        b.caches.internal.verify();
    }
}
