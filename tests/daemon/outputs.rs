//! What only ours prints: JSON, and how a command ended.

use std::net::UdpSocket;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use shardtrack_tests::cond::{wait_equal, wait_until};
use shardtrack_tests::flows::{Without, mixture, plain};
use shardtrack_tests::kernel::Kernel;
use shardtrack_tests::need_root;
use shardtrack_tests::netns::Netns;
use shardtrack_tests::peer::{Link, Make, Mode, Node, Pair, Setup};

use crate::place::Place;
use crate::schema::{complaints, unseen};

const LIMIT: Duration = Duration::from_secs(20);
/// The request that `-s json` sends.
const JSON: u32 = 101;
/// A flow of TCP in a state that there is not, number 1064.
const WRONG: &str = "1000003c00000428000c00000a0900010a090002000800050000000e000500020600000000080003006f\
    005000050004c80000000008000600000064";

fn schema(path: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../bins").join(path);
    serde_json::from_str(&std::fs::read_to_string(path).expect("a schema")).expect("JSON")
}

/// The figures, which are as the schema says.
fn figures(answer: &str) -> Value {
    let schema = schema("conntrackd/dist/conntrackd.schema.json");
    let figures = serde_json::from_str(answer).expect("JSON");
    let found = complaints(&schema, &schema, &figures);
    assert!(found.is_empty(), "{found:#?}");
    figures
}

fn of(node: &Node) -> Value {
    figures(&node.client(&["-s", "json"]))
}

#[test]
fn figures_are_json_in_every_mode() {
    need_root!();
    let mut all = Vec::new();
    for (mode, link) in [
        (Mode::Ftfw, Link::Udp),
        (Mode::Notrack, Link::Tcp),
        (Mode::Ftfw, Link::Multicast),
        (Mode::Alarm, Link::Tcp6),
    ] {
        let pair = Pair::running(Make::Ours, Make::Ours, mode, link);
        Kernel::of(&pair.a.ns).create(&plain(0, 100));
        wait_equal(LIMIT, "flows of the receiver", &100, || pair.b.cached(false));
        let (a, b) = (of(&pair.a), of(&pair.b));
        assert_eq!(a["caches"]["internal"]["active"], 100);
        assert_eq!(b["caches"]["external"]["active"], 100);
        // Nobody knows of a peer in mode ALARM whether it has nothing to say.
        let silent = b["conditions"].get("peer_silent");
        assert_eq!(silent, (mode != Mode::Alarm).then_some(&Value::Bool(false)));
        assert_eq!(a["links"][0]["active"], true);
        assert_eq!(a["queues"].get("resend").is_some(), mode == Mode::Ftfw);
        all.extend([a, b]);
    }
    for (lines, side, kind) in [
        ("DisableExternalCache on\n", "external", "inject"),
        ("DisableInternalCache on\n", "internal", "bypass"),
    ] {
        let mut setup = Setup::new(Make::Ours, Mode::Notrack, Link::Udp);
        setup.mode_lines = lines.into();
        let mut pair = Pair::new(setup.clone(), setup);
        pair.start();
        let figures = of(&pair.a);
        assert_eq!(figures["caches"][side]["kind"], kind);
        all.push(figures);
    }
    let ns = Netns::new("json");
    for (config, mode) in [
        ("Stats {\nLogFile HERE/flows\n}\n", "statistics"),
        ("Stats {\n}\nGeneral {\nPollSecs 1\n}\nEngine {\nCPUs 0\n}\n", "statistics"),
        ("", "idle"),
    ] {
        let place = Place::start(&ns, Make::Ours, config);
        let answer = place.client(&["-s", "json"]).stdout;
        let figures = figures(&String::from_utf8_lossy(&answer));
        assert_eq!(figures["mode"], mode);
        all.push(figures);
    }
    // Nothing is described that there is not.
    let schema = schema("conntrackd/dist/conntrackd.schema.json");
    assert_eq!(unseen(&schema, &schema, &all.iter().collect::<Vec<_>>()), [""; 0]);
}

#[test]
fn a_flow_log_on_a_full_disk_is_a_condition() {
    need_root!();
    let ns = Netns::new("full");
    let config = "Stats {\nLogFile /dev/full\n}\nGeneral {\nLogFile HERE/log\n}\n";
    let place = Place::start(&ns, Make::Ours, config);
    let of = || figures(&String::from_utf8_lossy(&place.client(&["-s", "json"]).stdout));
    let mut kernel = Kernel::of(&ns);
    kernel.create(&plain(0, 50));
    wait_until(LIMIT, "the flows are known", || of()["caches"]["stats"]["active"] == 50);
    assert_eq!(of()["conditions"]["flow_log_dropped"], 0);
    kernel.flush();
    wait_until(LIMIT, "all are lost", || of()["conditions"]["flow_log_dropped"] == 50);
    let told = || place.read("log").matches("the flow log loses lines").count();
    wait_until(LIMIT, "it is told", || told() == 1);
    assert!(place.read("log").contains(": can't write to its file: No space left on device"));
}

#[test]
fn caches_are_json_with_the_keys_of_conntrack() {
    need_root!();
    let pair = Pair::running(Make::Ours, Make::Ours, Mode::Ftfw, Link::Udp);
    let mut kernel = Kernel::of(&pair.a.ns);
    let mixture = mixture(300, Without::default());
    kernel.create(&mixture.flows);
    kernel.expect(&mixture.expectations);
    let flows = mixture.flows.len() as u64;
    wait_equal(LIMIT, "flows of the receiver", &flows, || pair.b.cached(false));
    let lines = |node: &Node, arguments: &[&str]| node.client(arguments).lines().count();
    let expected = lines(&pair.a, &["-i", "expect"]);
    wait_equal(LIMIT, "expectations", &expected, || lines(&pair.b, &["-e", "expect"]));
    assert!(expected > 0);
    let schema = schema("conntrack/conntrack.schema.json");
    let objects = |node: &Node, arguments: &[&str]| {
        let object = |line: &str| {
            let object: Value = serde_json::from_str(line).expect("JSON");
            for (key, value) in object.as_object().expect("an object") {
                assert!(schema["properties"].get(key).is_some(), "{key} is unknown: {value}");
            }
            object
        };
        node.client(arguments).lines().map(object).collect::<Vec<_>>()
    };
    let keys = ["family", "protonum", "src", "dst", "sport", "dport", "mark", "zone", "helper"];
    let known = |objects: Vec<Value>| {
        let line = |object: &Value| keys.map(|key| object[key].to_string()).join(" ");
        let mut lines: Vec<_> = objects.iter().map(line).collect();
        lines.sort();
        lines
    };
    let own = objects(&pair.a, &["-i", "-o", "json"]);
    assert_eq!(own.len() as u64, flows);
    assert!(own.iter().all(|flow| flow.get("reply_src").is_some()));
    let received = objects(&pair.b, &["-e", "ct", "-o", "json"]);
    assert!(received.iter().all(|flow| flow.get("reply_src").is_none()));
    let keyed = |objects: Vec<Value>| {
        // The protocol loses the keys of these.
        objects
            .into_iter()
            .filter(|flow| flow["protonum"] != 47 && flow["protonum"] != 136)
            .collect()
    };
    assert_eq!(known(keyed(own)), known(keyed(received)));
    let own = objects(&pair.a, &["-i", "expect", "-o", "json"]);
    let received = objects(&pair.b, &["-e", "expect", "-o", "json"]);
    assert_eq!((own.len(), known(own)), (expected, known(received)));
}

#[test]
fn nothing_happens_silently() {
    need_root!();
    let setup = Setup::new(Make::Ours, Mode::Ftfw, Link::Udp);
    let mut small = setup.clone();
    small.hash_limit = 100;
    small.engine = "Shards 1".into();
    let mut pair = Pair::new(setup, small);
    pair.start();
    let mut kernel = Kernel::of(&pair.a.ns);
    kernel.create(&plain(0, 79));
    wait_until(LIMIT, "the peer knows", || pair.b.cached(false) == 79);
    assert!(!pair.b.log().contains(" % full"), "too early");
    kernel.create(&plain(79, 1));
    pair.b.told("[warning] a cache is 80 % full, see HashLimit");
    kernel.create(&plain(80, 220));
    let refused = |node: &Node| of(node)["conditions"]["cache_full"].as_u64();
    wait_until(LIMIT, "objects are refused", || refused(&pair.b).is_some_and(|n| n >= 200));
    let told = |node: &Node, text: &str| node.log().contains(text);
    wait_until(LIMIT, "the log tells", || told(&pair.b, "no space left in cache: "));
    pair.b.ns.ip("link set sync0 down");
    wait_until(LIMIT, "the link is down", || of(&pair.b)["conditions"]["links_down"] == 1);
    wait_until(LIMIT, "the link is told", || told(&pair.b, "[warning] device `sync0' is down"));
    wait_until(LIMIT, "the peer is silent", || of(&pair.a)["conditions"]["peer_silent"] == true);
    assert!(told(&pair.a, "[warning] the other node was not heard for 5 seconds"));
    pair.b.ns.ip("link set sync0 up");
    wait_until(LIMIT, "the peer is heard", || of(&pair.a)["conditions"]["peer_silent"] == false);
    assert!(told(&pair.a, "[notice] the other node is heard again"));
    assert_eq!(of(&pair.a)["conditions"]["peer_silences"], 1);
}

#[test]
fn an_overrun_and_its_resync_are_not_silent() {
    need_root!();
    let ns = Netns::new("overrun");
    let config = "Stats {\nLogFile HERE/flows\n}\nGeneral {\nLogFile HERE/log\n\
                  NetlinkBufferSize 65536\nNetlinkOverrunResync 5\n}\n\
                  Engine {\nIntakeBuffer 65536\nShards 2\n}\n";
    let place = Place::start(&ns, Make::Ours, config);
    let of = || figures(&place.ask(JSON).expect("the daemon runs"));
    let idle = || of()["conditions"]["resync_running"] == false;
    wait_until(LIMIT, "the table is read", idle);
    let before = of();
    assert_eq!(before["conditions"]["overruns"], 0);
    assert!(!place.read("log").contains("loses events"));
    let pid = Pid::from_raw(place.pid() as i32).expect("a process id");
    let mut kernel = Kernel::of(&ns);
    // The quiet second before the table is read may pass unseen on a loaded machine.
    let seen = (0..5).any(|round| {
        kill_process(pid, Signal::STOP).expect("our daemon");
        kernel.create(&plain(round * 5000, 5000));
        kill_process(pid, Signal::CONT).expect("our daemon");
        let lost = || of()["conditions"]["overruns"].as_u64() > Some(0);
        wait_until(LIMIT, "the overrun is counted", lost);
        let running = !idle();
        wait_until(LIMIT, "the table is read again", idle);
        running
    });
    assert!(seen, "no resync was seen running");
    let after = of();
    let resyncs = |figures: &Value| figures["conditions"]["resyncs"].as_u64().expect("a number");
    assert!(resyncs(&after) > resyncs(&before), "{after}");
    for text in ["loses events, the table will be read again", " events were lost, reading the"] {
        wait_until(LIMIT, text, || place.read("log").contains(text));
    }
}

/// How a command ends, with what it says.
fn command(node: &Node, arguments: &[&str]) -> Output {
    let mut command = Command::new("timeout");
    command.arg("60").arg(Make::Ours.program("conntrackd")).arg("-C");
    command.arg(node.directory().join("conf")).args(arguments);
    command.output().expect("timeout can be started")
}

#[test]
fn a_commit_says_how_it_ended() {
    need_root!();
    let mut pair = Pair::new(
        Setup::new(Make::Ours, Mode::Notrack, Link::Udp),
        Setup::new(Make::Ours, Mode::Notrack, Link::Udp),
    );
    pair.b.start();
    assert_eq!(command(&pair.b, &["-c"]).status.code(), Some(0), "nothing to commit");
    let mut wrong: Vec<u8> = (0..WRONG.len() / 2)
        .map(|k| u8::from_str_radix(&WRONG[2 * k..2 * k + 2], 16).expect("hexadecimal"))
        .collect();
    pair.a.ns.enter(|| {
        let socket = UdpSocket::bind("10.99.0.1:3780").expect("an address of the node");
        socket.send_to(&wrong, "10.99.0.2:3780").expect("room");
        // The same again, seven messages later.
        wrong[7] += 8;
        socket.send_to(&wrong, "10.99.0.2:3780").expect("room");
    });
    wait_equal(LIMIT, "flows of the receiver", &1, || pair.b.cached(false));
    let commit = command(&pair.b, &["-c"]);
    assert_eq!(commit.status.code(), Some(1));
    let said = String::from_utf8_lossy(&commit.stderr).into_owned();
    assert!(said.contains("[ERROR] the daemon could not do all of it"), "{said}");
    assert!(commit.stdout.is_empty());
    // Lines are written by a thread of their own.
    for line in [
        "[notice] 1 entries can't be committed",
        "[ERROR] commit-create: Numerical result out of range",
        "messages of the other node did not come in order",
    ] {
        wait_until(LIMIT, line, || pair.b.log().contains(line));
    }
    let figures = of(&pair.b);
    assert_eq!(figures["commits"]["count"], 2);
    assert_eq!(figures["conditions"]["commit_failures"], 1);
    assert!(figures["conditions"]["messages_lost"].as_u64().is_some_and(|lost| lost >= 7));
    // A client of the original is told what it always was.
    assert_eq!(pair.b.client_of(Make::Original, &["-c"]), "");
    assert_eq!(command(&pair.b, &["-f"]).status.code(), Some(0));
    assert_eq!(command(&pair.b, &["-k"]).status.code(), Some(0));
    wait_until(LIMIT, "the daemon ends", || pair.b.exited());
    assert_eq!(command(&pair.b, &["-c"]).status.code(), Some(1), "nobody listens");
}

#[test]
fn our_client_asks_the_original() {
    need_root!();
    let ns = Netns::new("client");
    let original = Place::start(&ns, Make::Original, "Stats {\nLogFile HERE/flows\n}\n");
    let mut client = Command::new(Make::Ours.program("conntrackd"));
    let output = client.arg("-C").arg(original.path("conf")).arg("-s").output().expect("it runs");
    assert!(output.status.success());
    assert!(output.stdout.starts_with(b"cache stats:\n"));
}
