//! The dumps that the original daemon printed, read into flows and rendered again.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use proto_ctnl::render::{
    CacheLine, Render, cache_line, cache_xml, expect_cache_line, expect_cache_xml, flow_text,
};
use proto_ctnl::{
    Expect, ExpectPresent, Flow, L4, Name, Present, ProtoInfo, Sctp, Status, Tcp, Tuple, proto,
};

fn captured(name: &str) -> Vec<String> {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors/conntrackd/runs").join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    assert!(!lines.is_empty(), "{name} is empty");
    lines
}

const TCP: [&str; 10] = [
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

/// `NAME=NUMBER` of the words after `words[at]`, which name one tuple of protocol `number`.
fn tuple(words: &[&str], prefix: &str, number: u8) -> (Tuple, usize) {
    let value = |i: usize, name: &str| {
        words[i].strip_prefix(name).unwrap_or_else(|| panic!("{name} in {words:?}"))
    };
    let port = |i: usize, name: &str| value(i, name).parse::<u16>().unwrap();
    let (l4, used) = match number {
        proto::ICMP => {
            (L4::icmp(port(4, "id="), port(2, "type=") as u8, port(3, "code=") as u8), 5)
        }
        _ => (L4::ports(port(2, "sport="), port(3, "dport=")), 4),
    };
    let src = value(0, &format!("{prefix}src=")).parse().unwrap();
    let dst = value(1, &format!("{prefix}dst=")).parse().unwrap();
    (Tuple { src, dst, proto: number, l4 }, used)
}

fn number_in<'a>(line: &'a str, open: &str, close: &str) -> Option<(u32, &'a str)> {
    let begin = line.find(open)?;
    let rest = &line[begin + open.len()..];
    let end = rest.find(close)?;
    Some((rest[..end].parse().unwrap(), &line[..begin]))
}

fn parse_flow(line: &str) -> (Flow, CacheLine) {
    let mut entry = CacheLine::default();
    let mut line = line;
    if let Some((seconds, rest)) = number_in(line, " [active since ", "s]") {
        (entry.active_since_s, line) = (seconds, rest);
    }
    if let Some((seconds, rest)) = number_in(line, " [expires in ", "s]") {
        (entry.expires_in_s, line) = (Some(seconds), rest);
    }
    let mut flow = Flow { status: Status::SEEN_REPLY, ..Flow::default() };
    flow.present.insert(Present::ORIG.or(Present::STATUS));
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let number: u8 = words[1].parse().unwrap();
    let mut at = 2;
    if let Ok(timeout) = words[at].parse() {
        flow.timeout = timeout;
        flow.present.insert(Present::TIMEOUT);
        at += 1;
    }
    if let Some(state) = TCP.iter().position(|s| *s == words[at]) {
        flow.protoinfo = ProtoInfo::Tcp(Tcp { state: state as u8, ..Tcp::default() });
        flow.present.insert(Present::PROTOINFO);
        at += 1;
    }
    let (orig, used) = tuple(&words[at..], "", number);
    flow.orig = orig;
    at += used;
    let mut direction = 0;
    entry.external = true;
    while at < words.len() {
        let word = words[at];
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        match name {
            "src" => {
                let (reply, used) = tuple(&words[at..], "", number);
                flow.reply = reply;
                flow.present.insert(Present::REPLY);
                entry.external = false;
                direction = 1;
                at += used - 1;
            }
            "packets" => {
                flow.counters[direction].packets = value.parse().unwrap();
                flow.present.insert(Present::COUNTERS_ORIG.or(Present::COUNTERS_REPLY));
            }
            "bytes" => flow.counters[direction].bytes = value.parse().unwrap(),
            "[UNREPLIED]" => flow.status = flow.status.without(Status::SEEN_REPLY),
            "[ASSURED]" => flow.status = flow.status.with(Status::ASSURED),
            "mark" => {
                flow.mark = value.parse().unwrap();
                flow.present.insert(Present::MARK);
            }
            "use" => {
                flow.use_count = value.parse().unwrap();
                flow.present.insert(Present::USE);
            }
            "helper" => {
                flow.helper = Name::new(value.as_bytes()).unwrap();
                flow.present.insert(Present::HELPER);
            }
            _ => panic!("{word} in {line}"),
        }
        at += 1;
    }
    (flow, entry)
}

fn parse_expect(line: &str) -> (Expect, CacheLine) {
    let (seconds, line) = number_in(line, " [active since ", "s]").unwrap();
    let entry = CacheLine { active_since_s: seconds, ..CacheLine::default() };
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let number = words[0].strip_prefix("proto=").unwrap().parse().unwrap();
    let mut expect = Expect {
        tuple: tuple(&words[1..], "", number).0,
        mask: tuple(&words[5..], "mask-", number).0,
        master: tuple(&words[9..], "master-", number).0,
        class: words[13].strip_prefix("class=").unwrap().parse().unwrap(),
        helper: Name::new(words[14].strip_prefix("helper=").unwrap().as_bytes()).unwrap(),
        // The daemon removes the timeout before it prints; here it must not be printed either.
        timeout: 77,
        ..Expect::default()
    };
    for bit in [
        ExpectPresent::TUPLE,
        ExpectPresent::MASK,
        ExpectPresent::MASTER,
        ExpectPresent::CLASS,
        ExpectPresent::HELPER,
        ExpectPresent::FLAGS,
        ExpectPresent::TIMEOUT,
    ] {
        expect.present.insert(bit);
    }
    (expect, entry)
}

fn rendered(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    write(&mut out);
    let line = String::from_utf8(out).unwrap();
    line.strip_suffix('\n').unwrap_or(&line).to_owned()
}

#[test]
fn flows_of_both_caches() {
    for file in [
        "ftfw-udp/14-a-i.out",
        "ftfw-udp/40-b-e.out",
        "ftfw-udp/50-b-i.out",
        "alarm-tcp/40-b-e.out",
        "stats-mode/12-a-i.out",
    ] {
        for line in captured(file) {
            let (mut flow, entry) = parse_flow(&line);
            // What the daemon knows and does not print.
            flow.timeout = 431_999;
            flow.present.insert(Present::TIMEOUT.or(Present::COUNTERS_ORIG));
            flow.present.insert(Present::COUNTERS_REPLY.or(Present::ID));
            assert_eq!(rendered(|out| cache_line(&flow, &entry, out)), line, "{file}");
        }
    }
}

#[test]
fn xml_of_both_caches() {
    for (text, xml) in [
        ("ftfw-udp/14-a-i.out", "ftfw-udp/16-a-i-x.out"),
        ("ftfw-udp/40-b-e.out", "ftfw-udp/42-b-e-x.out"),
        ("alarm-tcp/40-b-e.out", "alarm-tcp/42-b-e-x.out"),
        ("stats-mode/12-a-i.out", "stats-mode/13-a-i-x.out"),
    ] {
        let (lines, elements) = (captured(text), captured(xml));
        assert_eq!(lines.len(), elements.len());
        for (line, element) in lines.iter().zip(&elements) {
            let (mut flow, entry) = parse_flow(line);
            if let Some((id, _)) = number_in(element, "<id>", "</id>") {
                flow.id = id;
                flow.present.insert(Present::ID);
            }
            assert_eq!(&rendered(|out| cache_xml(&flow, &entry, out)), element, "{xml}");
        }
    }
}

#[test]
fn expectations_of_both_caches() {
    for (text, xml) in [
        ("ftfw-udp/17-a-iexpect.out", "ftfw-udp/18-a-iexpect-x.out"),
        ("ftfw-udp/43-b-eexpect.out", "ftfw-udp/44-b-eexpect-x.out"),
    ] {
        for (line, element) in captured(text).iter().zip(&captured(xml)) {
            let (expect, entry) = parse_expect(line);
            assert_eq!(&rendered(|out| expect_cache_line(&expect, &entry, out)), line);
            assert_eq!(&rendered(|out| expect_cache_xml(&expect, &entry, out)), element);
        }
    }
}

/// Without a cache the daemon prints the kernel's table in the form of `conntrack -L`.
#[test]
fn flows_without_a_cache() {
    for line in captured("notrack-nocache-udp/14-a-i.out") {
        let (flow, _) = parse_flow(&line);
        assert_eq!(rendered(|out| flow_text(&flow, &Render::default(), out)), line);
    }
}

/// The cache's XML names the state of SCTP by TCP's table, the line by its own.
#[test]
fn sctp_established() {
    let mut flow = Flow {
        protoinfo: ProtoInfo::Sctp(Sctp { state: 4, ..Sctp::default() }),
        orig: Tuple { proto: proto::SCTP, l4: L4::ports(1, 2), ..Tuple::default() },
        ..Flow::default()
    };
    flow.present.insert(Present::ORIG.or(Present::PROTOINFO));
    let entry = CacheLine { external: true, ..CacheLine::default() };
    assert_eq!(
        rendered(|out| cache_line(&flow, &entry, out)),
        "sctp     132 ESTABLISHED src=0.0.0.0 dst=0.0.0.0 sport=1 dport=2 [active since 0s]"
    );
    assert!(rendered(|out| cache_xml(&flow, &entry, out)).contains("<state>FIN_WAIT</state>"));
}
