//! A phone behind node `a` registers. The kernel expects calls for it from then on, but lets none
//! match before the registrar has agreed; no event says that it has.

use std::net::UdpSocket;
use std::time::Duration;

use shardtrack_tests::cond::wait_equal;
use shardtrack_tests::need_root;
use shardtrack_tests::netns::Netns;
use shardtrack_tests::peer::{Link, Make, Mode, Pair, Setup};

const PHONE: &str = "10.1.0.10";
const REGISTRAR: &str = "10.2.0.10";
const LIMIT: Duration = Duration::from_secs(10);

const RULES: &str = r#"
table ip sip {
	ct helper sip { type "sip" protocol udp; }
	chain help {
		type filter hook prerouting priority 0;
		udp dport 5060 ct helper set "sip"
	}
}
"#;

/// A message of the registration, behind its first line.
fn message(first: &str) -> String {
    let lines = [
        first,
        &format!("Via: SIP/2.0/UDP {PHONE}:5062;branch=z9hG4bK1"),
        &format!("From: <sip:al@{PHONE}>;tag=1"),
        &format!("To: <sip:al@{REGISTRAR}>"),
        &format!("Call-ID: c1@{PHONE}"),
        "CSeq: 1 REGISTER",
        &format!("Contact: <sip:al@{PHONE}:5062>"),
        "Expires: 600",
        "Content-Length: 0",
        "\r\n",
    ];
    lines.join("\r\n")
}

fn send(from: &UdpSocket, to: &UdpSocket, first: &str) {
    from.send(message(first).as_bytes()).expect("the way is open");
    let mut room = [0; 2048];
    let len = to.recv(&mut room).expect("the way is open");
    assert!(room[..len].starts_with(first.as_bytes()));
}

/// Whether each expectation for the phone that a node prints is inactive.
fn inactive(pair: &Pair, of_peer: bool) -> Vec<bool> {
    let (node, option) = if of_peer { (&pair.b, "-e") } else { (&pair.a, "-i") };
    let text = node.client(&[option, "expect"]);
    let lines = text.lines().filter(|line| line.contains("PERMANENT"));
    lines.map(|line| line.contains("INACTIVE")).collect()
}

fn becomes_active(engine: &str) {
    let mut setup = Setup::new(Make::Ours, Mode::Ftfw, Link::Udp);
    if !engine.is_empty() {
        setup.engine = engine.into();
    }
    let mut pair = Pair::new(setup.clone(), setup);
    let [inside, outside] = ["phone", "registrar"].map(Netns::new);
    let router = &pair.a.ns;
    let address = format!("{PHONE}/24");
    Netns::wire((&inside, "port", &[&address]), (router, "in0", &["10.1.0.1/24"]));
    let address = format!("{REGISTRAR}/24");
    Netns::wire((&outside, "port", &[&address]), (router, "out0", &["10.2.0.1/24"]));
    inside.ip("route add default via 10.1.0.1");
    outside.ip("route add default via 10.2.0.1");
    router.sysctl("net/ipv4/ip_forward", 1);
    router.nft(RULES);
    pair.start();
    let socket = |ns: &Netns, (address, port), peer| {
        let socket = ns.enter(|| UdpSocket::bind((address, port)).expect("a free port"));
        socket.connect(peer).expect("there is a route");
        socket.set_read_timeout(Some(LIMIT)).expect("a fresh socket");
        socket
    };
    let phone = socket(&inside, (PHONE, 5062), (REGISTRAR, 5060));
    let registrar = socket(&outside, (REGISTRAR, 5060), (PHONE, 5062));

    send(&phone, &registrar, &format!("REGISTER sip:{REGISTRAR} SIP/2.0"));
    wait_equal(LIMIT, "what the peer knows", &vec![true], || inactive(&pair, true));
    send(&registrar, &phone, "SIP/2.0 200 OK");
    wait_equal(LIMIT, "what the peer knows", &vec![false], || inactive(&pair, true));
    assert_eq!(inactive(&pair, false), [false]);
    pair.b.client(&["-c"]);
    let committed = pair.b.ns.run("conntrack -L expect");
    assert!(committed.contains("PERMANENT") && !committed.contains("INACTIVE"), "{committed}");
}

#[test]
fn a_registration_is_active_at_the_peer_when_the_registrar_agrees() {
    need_root!();
    becomes_active("");
}

#[test]
fn a_registration_is_active_at_the_peer_on_any_shard() {
    need_root!();
    becomes_active("Intake filter\nShards 4");
}
