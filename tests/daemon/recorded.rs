//! Runs of the original that were recorded, made again by ours: same configurations, same traffic
//! through the node, same commands in the same order, same answers.
//!
//! ```text
//!  client ── A ── server      10.1.0.2 ── 10.1.0.1, 10.2.0.1 ── 10.2.0.2
//!            ║                and 2001:db8:1::/64, 2001:db8:2::/64
//!            B
//! ```

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use regex::{Captures, Regex};
use rustix::net::{AddressFamily, SendFlags, SocketType, bind, connect, ipproto, sendto, socket};
use serde_json::Value;
use shardtrack_tests::cond::{wait_equal, wait_for};
use shardtrack_tests::need_root;
use shardtrack_tests::netns::Netns;
use shardtrack_tests::peer::Make;

use crate::place::Place;

/// How long an answer may take to become the recorded one.
const LIMIT: Duration = Duration::from_secs(10);
const PASV: (&[u8], &[u8]) = (b"PASV\r\n", b"227 Entering Passive Mode (10,2,0,2,156,64).\r\n");
const RULES: &str = r#"
table inet a {
	ct helper ftp { type "ftp" protocol tcp; }
	chain help {
		type filter hook prerouting priority 0;
		meta nfproto ipv4 tcp dport 21 ct helper set "ftp"
		udp dport 5353 ct mark set 7
	}
	chain source {
		type nat hook postrouting priority srcnat;
		meta nfproto ipv4 tcp dport 8080 masquerade
	}
}
"#;

/// The namespaces of a run.
struct Stage {
    client: Netns,
    a: Netns,
    server: Netns,
    b: Netns,
}

impl Stage {
    fn new() -> Self {
        let [client, a, server, b] = ["client", "a", "server", "b"].map(Netns::new);
        Netns::wire(
            (&client, "port", &["10.1.0.2/24", "2001:db8:1::2/64"]),
            (&a, "in0", &["10.1.0.1/24", "2001:db8:1::1/64"]),
        );
        Netns::wire(
            (&server, "port", &["10.2.0.2/24", "2001:db8:2::2/64"]),
            (&a, "out0", &["10.2.0.1/24", "2001:db8:2::1/64"]),
        );
        for (device, net) in [("sync0", "192.0.2"), ("sync1", "198.51.100")] {
            let [of_a, of_b] = [1, 2].map(|host| format!("{net}.{host}/24"));
            Netns::wire((&a, device, &[&of_a]), (&b, device, &[&of_b]));
        }
        for (end, side) in [(&client, 1), (&server, 2)] {
            end.ip(&format!("route add default via 10.{side}.0.1"));
            end.ip(&format!("-6 route add default via 2001:db8:{side}::1"));
        }
        a.sysctl("net/ipv4/ip_forward", 1);
        a.sysctl("net/ipv6/conf/all/forwarding", 1);
        a.nft(RULES);
        b.nft("table inet b {\nchain c {\ntype nat hook postrouting priority srcnat\n}\n}\n");
        for node in [&a, &b] {
            node.sysctl("net/netfilter/nf_conntrack_acct", 1);
        }
        Self { client, a, server, b }
    }

    /// A connection from a port of the client, and the server's end of it.
    fn connection(&self, port: u16, to: &str) -> [TcpStream; 2] {
        let listener = self.server.enter(|| TcpListener::bind(to).expect("a free port"));
        let to: SocketAddr = to.parse().expect("an address with its port");
        let (family, from) = match to {
            SocketAddr::V4(_) => (AddressFamily::INET, format!("10.1.0.2:{port}")),
            SocketAddr::V6(_) => (AddressFamily::INET6, format!("[2001:db8:1::2]:{port}")),
        };
        let from: SocketAddr = from.parse().expect("an address with its port");
        let here = self.client.enter(|| {
            let here = socket(family, SocketType::STREAM, None).expect("a socket");
            bind(&here, &from).expect("a free port");
            connect(&here, &to).expect("the way is open");
            TcpStream::from(here)
        });
        let (there, _) = listener.accept().expect("the client is there");
        for end in [&here, &there] {
            end.set_read_timeout(Some(LIMIT)).expect("a fresh socket");
        }
        [here, there]
    }

    /// The traffic of every run, in its order. What stays open is returned.
    fn traffic(&self) -> Vec<[TcpStream; 2]> {
        let mut open = Vec::new();
        for (port, to, length) in [(40001, "10.2.0.2:5001", 100), (40002, "10.2.0.2:8080", 50)] {
            let mut ends = self.connection(port, to);
            exchange(&mut ends, &vec![b'x'; length], &vec![b'x'; length]);
            open.push(ends);
        }
        let mut ends = self.connection(40003, "10.2.0.2:21");
        exchange(&mut ends, b"USER x\r\n", b"331 need password\r\n");
        exchange(&mut ends, PASV.0, PASV.1);
        open.push(ends);
        let mut ends = self.connection(40004, "[2001:db8:2::2]:5006");
        exchange(&mut ends, b"0123456789", b"0123456789");
        open.push(ends);
        self.datagrams();
        let mut ends = self.connection(40006, "10.2.0.2:5002");
        exchange(&mut ends, b"end", b"end");
        close(ends);
        self.echo();
        open
    }

    /// A question over UDP and its answer.
    fn datagrams(&self) {
        let server = self.server.enter(|| UdpSocket::bind("10.2.0.2:5353").expect("a free port"));
        let client = self.client.enter(|| UdpSocket::bind("10.1.0.2:40005").expect("a free port"));
        for socket in [&server, &client] {
            socket.set_read_timeout(Some(LIMIT)).expect("a fresh socket");
        }
        client.send_to(&[b'x'; 30], "10.2.0.2:5353").expect("room");
        let (_, from) = server.recv_from(&mut [0; 64]).expect("the question");
        server.send_to(&[b'x'; 30], from).expect("room");
        client.recv_from(&mut [0; 64]).expect("the answer");
    }

    /// One ICMP echo with identity 4242; the kernel of the server answers it.
    fn echo(&self) {
        let mut message = [0; 18];
        message[0] = 8;
        message[4..6].copy_from_slice(&4242u16.to_be_bytes());
        message[7] = 1;
        let words = message.chunks(2).map(|word| u16::from_be_bytes([word[0], word[1]]));
        let sum = words.fold(0u16, |sum, word| {
            let (sum, carry) = sum.overflowing_add(word);
            sum + u16::from(carry)
        });
        message[2..4].copy_from_slice(&(!sum).to_be_bytes());
        let to: SocketAddr = "10.2.0.2:0".parse().expect("an address");
        self.client.enter(|| {
            let raw = socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::ICMP));
            let raw = raw.expect("root may have a raw socket");
            sendto(&raw, &message, SendFlags::empty(), &to).expect("room");
        });
    }
}

fn exchange([here, there]: &mut [TcpStream; 2], question: &[u8], answer: &[u8]) {
    let say = |from: &mut TcpStream, to: &mut TcpStream, text: &[u8]| {
        from.write_all(text).expect("it is connected");
        to.read_exact(&mut vec![0; text.len()]).expect("it is connected");
    };
    say(here, there, question);
    say(there, here, answer);
}

/// The client ends it first.
fn close([here, mut there]: [TcpStream; 2]) {
    drop(here);
    let end = there.read(&mut [0; 8]).expect("it is connected");
    assert_eq!(end, 0, "nothing was said");
}

fn folder(run: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/conntrackd/runs").join(run)
}

fn read(run: &str, file: &str) -> String {
    fs::read_to_string(folder(run).join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// A recorded configuration with its files in the daemon's directory, for node A or B. Nobody asks
/// for everything at the start, as nobody did in the original.
fn config(recorded: &str, node_b: bool) -> String {
    let mut text = recorded.to_owned();
    for (recorded, ours) in [
        ("/var/log/A.log", "HERE/log"),
        ("/var/log/flows.log", "HERE/flows"),
        ("/var/lock/A.lock", "HERE/lock"),
        ("/var/run/A.ctl", "HERE/ctl"),
        ("Mode FTFW {\n", "Mode FTFW {\nStartupResync off\n"),
        ("Mode NOTRACK {\n", "Mode NOTRACK {\nStartupResync off\n"),
    ] {
        text = text.replace(recorded, ours);
    }
    if node_b {
        let host = Regex::new(r"(192\.0\.2|198\.51\.100)\.([12])\n").expect("an expression");
        let other = |found: &Captures<'_>| {
            format!("{}.{}\n", &found[1], if &found[2] == "1" { 2 } else { 1 })
        };
        text = host.replace_all(&text, other).into_owned();
    }
    text
}

/// A deviation of ours from a recorded run; `deviations.json` has the reason.
struct Deviation {
    step: u64,
    /// Parts of the recorded answer, in their order, and what ours has there.
    replaced: Vec<[String; 2]>,
    /// Figures may be others, too.
    any_figures: bool,
}

fn deviations(run: &str) -> Vec<Deviation> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/conntrackd/deviations.json");
    let text = fs::read_to_string(path).expect("the list of deviations");
    let all: Vec<Value> = serde_json::from_str(&text).expect("JSON");
    let mut found = Vec::new();
    for entry in all.iter().filter(|entry| entry["run"] == run) {
        let replaced = |pairs: &Value| {
            serde_json::from_value(pairs.clone()).expect("pairs of what is recorded and ours")
        };
        for step in entry["steps"].as_array().expect("numbers of steps") {
            found.push(Deviation {
                step: step.as_u64().expect("a number"),
                replaced: entry.get("replaced").map_or_else(Vec::new, replaced),
                any_figures: entry["any_figures"] == true,
            });
        }
    }
    found
}

/// What ours should answer where the original answered `recorded`.
fn expected(recorded: &str, deviations: &[&Deviation]) -> String {
    let mut text = recorded.to_owned();
    for deviation in deviations {
        let mut from = 0;
        for [theirs, ours] in &deviation.replaced {
            let place = text[from..].find(theirs.as_str());
            let place = from + place.unwrap_or_else(|| panic!("not in {recorded}: {theirs}"));
            text.replace_range(place..place + theirs.len(), ours);
            from = place + ours.len();
        }
    }
    text
}

/// How much of an answer is the same in every run.
#[derive(Clone, Copy)]
enum Figures {
    /// All but what depends on the moment.
    Exact,
    /// But not how often flows were updated, nor how often the external cache took one for a new
    /// one or let one go: how many changes go in one message does, and a flow that is told of as
    /// new again counts as an end and a beginning.
    ButUpdates,
    /// None, only their columns.
    None,
}

/// The lines of an answer with what differs from run to run masked, a column of figures in its
/// width; those of a dump sorted.
fn shape(arguments: &[&str], figures: Figures, answer: &str) -> Vec<String> {
    let is_dump = matches!(arguments[0], "-i" | "-e" | "-L");
    let volatile = match figures {
        _ if is_dump => {
            r"((?:active since|expires in) |<id>|^(?:tcp|udp|icmp) +\d+ |(?:packets|bytes)=)[1-9]\d*"
        }
        Figures::None => r" *\d+",
        // Octets and packets on the link, messages that wait, what ended flows carried, and how
        // many events came, in a buffer of which size.
        _ => {
            r"(uptime: |len=|(?:nodes|elements|received|filtered|bytes\)):\t+) *\d+|^ *\d+| *\d+( (?:Bytes|Pckts))"
        }
    };
    let volatile = Regex::new(volatile).expect("an expression");
    let updates = r"(updated|update OK/failed):(\t+) *\d+";
    let changes = r"(updated|created|destroyed|update OK/failed|creation OK/failed|created/failed):(\t+) *\d+";
    let [updates, changes] =
        [updates, changes].map(|pattern| Regex::new(pattern).expect("an expression"));
    let mut is_external = false;
    let mask = |line: &str| {
        is_external |= line.starts_with("cache external:") || line.starts_with("cache:external");
        let merged = if is_external { &changes } else { &updates };
        if matches!(figures, Figures::ButUpdates) && merged.is_match(line) {
            return merged.replace(line, "$1:$2#").into_owned();
        }
        let column = |found: &Captures<'_>| {
            let before = found.get(1).map_or("", |before| before.as_str());
            let after = found.get(2).map_or("", |after| after.as_str());
            let width = found[0].len() - before.len() - after.len();
            let width = if is_dump || width < 12 { 1 } else { width };
            format!("{before}{}{after}", "#".repeat(width))
        };
        volatile.replace_all(line, column).into_owned()
    };
    // Which messages wait for an acknowledgement depends on the moment.
    let mut lines: Vec<_> =
        answer.lines().filter(|line| !line.contains(" -> seq:")).map(mask).collect();
    if is_dump {
        lines.sort();
    }
    lines
}

/// Gives each command of a run to the daemon of its node. `before` is called with its number first.
fn replay(run: &str, nodes: &[(&Place, &Netns)], mut before: impl FnMut(u64)) {
    let index: Value = serde_json::from_str(&read(run, "index.json")).expect("JSON");
    let deviations = deviations(run);
    let time = Regex::new(r"(?m)^\[.*?\] \(pid=\d+\) ").expect("an expression");
    let mut changed = false;
    for step in index["steps"].as_array().expect("steps") {
        let n = step["n"].as_u64().expect("a number");
        before(n);
        let here: Vec<_> = deviations.iter().filter(|deviation| deviation.step == n).collect();
        let (node, arguments, file) = match step["args"].as_array() {
            Some(arguments) => {
                let words = arguments.iter().map(|word| word.as_str().expect("a word")).collect();
                (usize::from(step["node"] == "B"), words, &step["stdout_file"])
            }
            None if step["external"].as_str().is_some_and(|name| name.starts_with("b-kernel")) => {
                (1, vec!["-L"], &step["file"])
            }
            None => continue,
        };
        let (place, ns) = nodes[node];
        let is_reading = matches!(arguments[0], "-s" | "-i" | "-e" | "-L");
        changed |= !is_reading;
        let figures = match (changed || node == 1, here.iter().any(|here| here.any_figures)) {
            (_, true) => Figures::None,
            (true, false) => Figures::ButUpdates,
            (false, false) => Figures::Exact,
        };
        let recorded = read(run, file.as_str().expect("a file"));
        let stderr = step["stderr"].as_str().unwrap_or_default().to_owned();
        let exit = step["exit"].as_i64().unwrap_or(0);
        let want = (exit, stderr, shape(&arguments, figures, &expected(&recorded, &here)));
        let mut last = None;
        let limit = if is_reading { LIMIT } else { Duration::ZERO };
        let reached = wait_for(limit, || {
            let output = if arguments[0] == "-L" {
                ns.command(Make::Ours.program("conntrack")).arg("-L").output().expect("it starts")
            } else {
                place.client(&arguments)
            };
            let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
            // The table's own closing line goes there.
            let stderr = if arguments[0] == "-L" { String::new() } else { text(&output.stderr) };
            let exit = output.status.code().map_or(-1, i64::from);
            let mut lines = shape(&arguments, figures, &text(&output.stdout));
            lines.retain(|line| !line.contains("=192.0.2."));
            let got = (exit, time.replace_all(&stderr, "").into_owned(), lines);
            let same = (got.0, &got.1) == (want.0, &want.1)
                && got.2.iter().eq(want.2.iter().filter(|line| !line.contains("=192.0.2.")));
            last = Some(got);
            same.then_some(())
        });
        if reached.is_none() {
            assert_eq!(last, Some(want), "step {n} of {run}, {arguments:?}: ours, the original");
        }
    }
}

/// A recorded run of two nodes.
fn pair(run: &str) {
    let stage = Stage::new();
    let recorded = read(run, "01-a-conf.txt");
    let b = Place::start(&stage.b, Make::Ours, &config(&recorded, true));
    let a = Place::start(&stage.a, Make::Ours, &config(&recorded, false));
    // It stays open until the end.
    let _open = stage.traffic();
    replay(run, &[(&a, &stage.a), (&b, &stage.b)], |_| {});
}

#[test]
fn ftfw_over_two_links_runs_as_recorded() {
    need_root!();
    pair("ftfw-udp");
}

#[test]
fn notrack_over_multicast_runs_as_recorded() {
    need_root!();
    pair("notrack-multicast");
}

#[test]
fn alarm_over_two_tcp_links_runs_as_recorded() {
    need_root!();
    pair("alarm-tcp");
}

#[test]
fn notrack_without_caches_runs_as_recorded() {
    need_root!();
    pair("notrack-nocache-udp");
}

#[test]
fn statistics_run_as_recorded() {
    need_root!();
    const RUN: &str = "stats-mode";
    let stage = Stage::new();
    let a = Place::start(&stage.a, Make::Ours, &config(&read(RUN, "01-conf.txt"), false));
    let mut open = stage.traffic();
    replay(RUN, &[(&a, &stage.a)], |n| match n {
        24 => {
            open.drain(..).for_each(close);
            let conntrack = Make::Ours.program("conntrack").display().to_string();
            wait_equal(LIMIT, "connections that have ended", &5, || {
                stage.a.run(&format!("{conntrack} -L")).matches("TIME_WAIT").count()
            });
            stage.a.run(&format!("{conntrack} -F"));
        }
        32 => {
            for request in [&99u32.to_ne_bytes()[..], &27u32.to_ne_bytes(), b"", b"\x15"] {
                let mut client = UnixStream::connect(a.path("ctl")).expect("the daemon listens");
                client.write_all(request).expect("room");
            }
        }
        _ => {}
    });
    let lines = |log: &str| -> Vec<String> {
        let flows = log.lines().filter_map(|line| line.split_once('\t'));
        flows.flat_map(|(_, flow)| shape(&["-i"], Figures::Exact, flow)).collect()
    };
    let [mut ours, mut recorded] =
        [a.read("flows"), read(RUN, "34-flows.log.txt")].map(|log| lines(&log));
    ours.sort();
    recorded.sort();
    assert_eq!(ours, recorded);
}
