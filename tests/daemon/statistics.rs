//! Statistics mode beside the original: both hear of the same flows, so both log the same lines.

use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::time::Duration;

use serde_json::Value;
use shardtrack_tests::cond::{settle, wait_equal, wait_until};
use shardtrack_tests::flows::{Without, marked, mixture, plain};
use shardtrack_tests::kernel::Kernel;
use shardtrack_tests::need_root;
use shardtrack_tests::netns::Netns;
use shardtrack_tests::peer::{BASE_RULES, Make};

use crate::place::Place;

const LIMIT: Duration = Duration::from_secs(20);
const CONFIG: &str = "Stats {\nLogFile HERE/flows\nSyslog local3\n}\n\
                      General {\nHashSize 8192\nHashLimit 65536\nLogFile HERE/log\n\
                      Syslog local3\nNetlinkBufferSize 33554432\n\
                      NetlinkBufferSizeMaxGrowth 33554432\n}\n";

/// A namespace where flows are counted and their times kept.
fn stage() -> Netns {
    let ns = Netns::new("stats");
    ns.nft(BASE_RULES);
    ns.ip("addr add 10.5.0.1/32 dev lo");
    ns.sysctl("net/netfilter/nf_conntrack_acct", 1);
    ns.sysctl("net/netfilter/nf_conntrack_timestamp", 1);
    ns
}

/// Flows of all kinds, some of them changed, one with real packets; all of them end.
fn traffic(ns: &Netns) {
    let mut kernel = Kernel::of(ns);
    let flows = mixture(600, Without::default()).flows;
    kernel.create_at(&flows, 5000);
    let some: Vec<_> = flows.iter().step_by(3).map(|flow| marked(flow, 77)).collect();
    kernel.update_at(&some, 5000);
    ns.enter(|| {
        let server = UdpSocket::bind("10.5.0.1:5353").expect("an address of this namespace");
        let client = UdpSocket::bind("10.5.0.1:0").expect("an address of this namespace");
        client.send_to(b"what", "10.5.0.1:5353").expect("room");
        let (_, from) = server.recv_from(&mut [0; 16]).expect("a datagram");
        server.send_to(b"that", from).expect("room");
        client.recv_from(&mut [0; 16]).expect("a datagram");
    });
    kernel.flush();
}

/// Lines without their times, in an order that does not depend on when they came.
fn flow_lines(log: &str) -> Vec<String> {
    let mut lines: Vec<_> = log
        .lines()
        .map(|line| {
            let (time, flow) = line.split_once('\t').expect("a time and a tab");
            assert_eq!(time.len(), 24, "{line}");
            flow.to_owned()
        })
        .collect();
    lines.sort();
    lines
}

/// What stands behind the process id, and the priority in front.
fn messages(place: &Place) -> Vec<String> {
    let cut = |message: String| {
        let (head, text) = message.split_once("]: ").expect("an identity");
        assert!(head.contains(" conntrack-tools["), "{message}");
        format!("{}{text}", head.split_inclusive('>').next().unwrap_or_default())
    };
    place.system_log().into_iter().map(cut).collect()
}

#[test]
fn flows_are_logged_as_the_original_does() {
    need_root!();
    let ns = stage();
    let mut ours = Place::start(&ns, Make::Ours, CONFIG);
    let mut original = Place::start(&ns, Make::Original, CONFIG);
    // A queue of the system log is short: it is emptied while the daemons write.
    let (mut our_messages, mut original_messages) = (Vec::new(), Vec::new());
    traffic(&ns);
    settle(LIMIT, Duration::from_secs(1), || {
        our_messages.extend(messages(&ours));
        original_messages.extend(messages(&original));
        ours.read("flows").len() + original.read("flows").len()
    });
    let (here, there) = (flow_lines(&ours.read("flows")), flow_lines(&original.read("flows")));
    assert!(there.len() > 600, "{} lines of the original", there.len());
    assert_eq!(here, there);
    assert!(
        here.iter().any(|line| line.starts_with("udp ") && line.contains(" packets=1 bytes=32 "))
    );
    assert!(here.iter().any(|line| line.contains(" delta-time=")));
    let of_flows = |messages: &[String]| {
        let flows = messages.iter().filter(|message| message.starts_with("<158>"));
        let mut flows: Vec<_> = flows.cloned().collect();
        flows.sort();
        flows
    };
    assert_eq!(of_flows(&our_messages), of_flows(&original_messages));
    assert_eq!(of_flows(&our_messages).len(), here.len());
    assert_eq!(ours.client(&["-s"]).stdout, original.client(&["-s"]).stdout);
    ours.stop();
    original.stop();
}

/// As the original: it has nothing but its control socket.
#[test]
fn without_replication_and_statistics_the_kernel_is_left_alone() {
    need_root!();
    const EVENTS: &str = "net/netfilter/nf_conntrack_events";
    let ns = stage();
    let mut kernel = Kernel::of(&ns);
    kernel.create(&plain(0, 100));
    let events = ns.read_sysctl(EVENTS);
    for make in [Make::Original, Make::Ours] {
        let mut place = Place::start(&ns, make, "General {\nLogFile HERE/log\n}\n");
        assert!(place.client(&["-s", "runtime"]).status.success());
        assert_eq!(ns.read_sysctl(EVENTS), events);
        if make == Make::Ours {
            let figures = place.client(&["-s", "json"]).stdout;
            let figures: Value = serde_json::from_slice(&figures).expect("JSON");
            let engine = &figures["engine"];
            assert_eq!(engine["intake_reason"], "neither Sync nor Stats: no events are taken");
            let known = engine["shards"].as_array().expect("shards");
            assert!(known.iter().all(|shard| shard["internal"] == 0), "nobody asks for them");
            wait_until(LIMIT, "it is told", || {
                place.read("log").contains("neither `Sync' nor `Stats': flows are of no interest")
            });
        }
        place.stop();
    }
}

#[test]
fn commands_are_taken_as_the_original_does() {
    need_root!();
    let ns = stage();
    let mut ours = Place::start(&ns, Make::Ours, CONFIG);
    let mut original = Place::start(&ns, Make::Original, CONFIG);
    let mut kernel = Kernel::of(&ns);
    kernel.create(&plain(0, 100));
    let counted =
        |place: &Place| place.ask(21).is_some_and(|text| text.contains("\t         100\n"));
    wait_until(LIMIT, "both know the flows", || counted(&ours) && counted(&original));
    let mut told = Vec::new();
    wait_until(LIMIT, "the service manager is told", || {
        told.extend(ours.notices());
        told.iter().any(|state| state == "STATUS=100 flows")
    });
    assert_eq!(told.iter().filter(|state| *state == "READY=1").count(), 1);
    let commands: [&[&str]; 24] = [
        &["-s"],
        &["-s", "ct"],
        &["-s", "expect"],
        &["-s", "network"],
        &["-s", "cache"],
        &["-s", "link"],
        &["-s", "rsqueue"],
        &["-s", "queue"],
        &["-s", "process"],
        &["-i"],
        &["-i", "ct"],
        &["-i", "-x"],
        &["-i", "expect"],
        &["-i", "expect", "-x"],
        &["-e"],
        &["-e", "-x"],
        &["-e", "expect"],
        &["-c"],
        &["-n"],
        &["-B"],
        &["-t"],
        &["-f", "external"],
        &["-R"],
        &["-s", "runtime"],
    ];
    for command in commands {
        let (here, there) = (ours.client(command), original.client(command));
        assert_eq!(here.status, there.status, "{command:?}");
        let lines = |out: &[u8]| {
            let text = String::from_utf8_lossy(out).into_owned();
            let age = |line: &str| line.split(" [active since ").next().unwrap_or("").to_owned();
            text.lines().map(age).collect::<BTreeSet<_>>()
        };
        assert_eq!(lines(&here.stdout), lines(&there.stdout), "{command:?}");
    }
    assert!(ours.client(&["-f", "internal"]).stdout.is_empty());
    wait_until(LIMIT, "the cache is empty", || ours.client(&["-i"]).stdout.is_empty());
    // What the cache does not know any more is not logged when it ends.
    ours.client(&["-F"]);
    original.client(&["-F"]);
    wait_until(LIMIT, "the original's log", || original.read("flows").lines().count() == 100);
    assert_eq!(ours.read("flows"), "");
    // Unlike the original's, `-f` alone empties the cache too.
    kernel.create(&plain(0, 10));
    wait_until(LIMIT, "ten flows", || {
        ours.client(&["-i"]).stdout.iter().filter(|&&b| b == b'\n').count() == 10
    });
    ours.client(&["-f"]);
    assert!(ours.client(&["-i"]).stdout.is_empty());
    ours.stop();
    original.stop();
    let texts = |place: &Place| {
        let log = place.read("log");
        let text = |line: &str| {
            line.split_once("] (pid=")
                .and_then(|(_, rest)| rest.split_once(") ").map(|(_, text)| text.to_owned()))
        };
        let ignored = ["nf_conntrack_events", "intake", "shards", "buffer size", "flushing caches"];
        log.lines()
            .filter_map(text)
            .filter(|text| !ignored.iter().any(|word| text.contains(word)))
            .collect::<Vec<_>>()
    };
    assert_eq!(texts(&ours), texts(&original));
}

#[test]
fn flows_that_a_lost_event_hid_are_logged_without_counters() {
    need_root!();
    let ns = stage();
    let config = CONFIG.replace("NetlinkBufferSize ", "NetlinkOverrunResync 1\nNetlinkBufferSize ")
        + "Engine {\nIntakeBuffer 65536\nShards 2\n}\n";
    let ours = Place::start(&ns, Make::Ours, &config);
    let mut kernel = Kernel::of(&ns);
    let flows = plain(0, 20_000);
    kernel.create(&flows);
    let known = || ours.ask(21).unwrap_or_default().contains("\t       20000\n");
    wait_until(LIMIT, "all flows are known, if need be by reading the table", known);
    rustix::process::kill_process(pid(&ours), rustix::process::Signal::STOP).expect("our daemon");
    kernel.flush();
    rustix::process::kill_process(pid(&ours), rustix::process::Signal::CONT).expect("our daemon");
    let logged = || ours.read("flows").lines().count();
    wait_equal(LIMIT, "ends that are logged", &flows.len(), logged);
    let lines = ours.read("flows");
    let without = lines.lines().filter(|line| !line.contains("packets=")).count();
    assert!(without > 0, "no event was lost");
    assert!(ours.ask(21).unwrap_or_default().contains("active connections:\t           0\n"));
}

fn pid(place: &Place) -> rustix::process::Pid {
    rustix::process::Pid::from_raw(place.pid() as i32).expect("a process id")
}
