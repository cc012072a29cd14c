//! A control connection of FTP through NAT: the other node must know how far the kernel shifts its
//! sequence numbers, which no event says.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use shardtrack_tests::cond::wait_for;
use shardtrack_tests::kernel::Kernel;
use shardtrack_tests::need_root;
use shardtrack_tests::netns::Netns;
use shardtrack_tests::peer::{Link, Make, Mode, Pair, Setup};
use shardtrack_tests::snapshot::{Ignore, Snapshot};
use shardtrack_tests::table::{Lines, difference};

const CLIENT: &str = "10.1.0.10";
const SERVER: &str = "10.2.0.10";
/// What the server takes the client for: an octet more in a PORT command.
const OUTSIDE: &str = "10.2.0.200";
const LIMIT: Duration = Duration::from_secs(5);

const RULES: &str = r#"
table ip ftp {
	ct helper ftp { type "ftp" protocol tcp; }
	chain help {
		type filter hook prerouting priority 0;
		tcp dport 21 ct helper set "ftp"
	}
	chain translate {
		type nat hook postrouting priority srcnat;
		oifname "out0" snat to 10.2.0.200
	}
}
"#;

/// A client and a server of FTP with node `a` of a pair between them, and their connection.
struct Stage {
    pair: Pair,
    /// Kept for what lives in them.
    _ends: [Netns; 2],
    client: BufReader<TcpStream>,
    server: BufReader<TcpStream>,
}

impl Stage {
    fn new(setup: &Setup) -> Self {
        let mut pair = Pair::new(setup.clone(), setup.clone());
        let [inside, outside] = ["client", "server"].map(Netns::new);
        let router = &pair.a.ns;
        let address = format!("{CLIENT}/24");
        Netns::wire((&inside, "port", &[&address]), (router, "in0", &["10.1.0.1/24"]));
        let address = format!("{SERVER}/24");
        let translated = format!("{OUTSIDE}/24");
        Netns::wire((&outside, "port", &[&address]), (router, "out0", &[&translated]));
        inside.ip("route add default via 10.1.0.1");
        router.sysctl("net/ipv4/ip_forward", 1);
        router.nft(RULES);
        pair.start();
        let listener = outside.enter(|| TcpListener::bind((SERVER, 21)).expect("a free port"));
        let client = inside.enter(|| TcpStream::connect((SERVER, 21)).expect("the way is open"));
        let (server, _) = listener.accept().expect("the client is there");
        let [client, server] = [client, server].map(|stream| {
            stream.set_read_timeout(Some(LIMIT)).expect("a fresh socket");
            BufReader::new(stream)
        });
        let mut stage = Self { pair, _ends: [inside, outside], client, server };
        // The kernel's helper looks at commands once it has seen where a line begins.
        assert_eq!(stage.command("USER anonymous"), "USER anonymous\r\n");
        stage
    }

    /// The client says something and the server answers; gives what the server heard.
    fn command(&mut self, line: &str) -> String {
        let say = |to: &mut BufReader<TcpStream>, line: &str| {
            to.get_mut().write_all(format!("{line}\r\n").as_bytes()).expect("it is connected");
        };
        let hear = |from: &mut BufReader<TcpStream>| {
            let mut heard = String::new();
            from.read_line(&mut heard).expect("it is connected");
            heard
        };
        say(&mut self.client, line);
        let heard = hear(&mut self.server);
        say(&mut self.server, "200 well");
        assert_eq!(hear(&mut self.client), "200 well\r\n");
        heard
    }

    /// The client offers a port; the kernel makes the command longer on its way.
    fn offer(&mut self, port: u8) {
        let heard = self.command(&format!("PORT {},156,{port}", CLIENT.replace('.', ",")));
        assert_eq!(heard, format!("PORT {},156,{port}\r\n", OUTSIDE.replace('.', ",")));
    }

    /// What node `a`'s kernel knows of the connection; `b`'s has the same after a commit.
    fn is_replicated(&self) -> Lines {
        let ignore = Ignore { tcp_window: true, ..Ignore::default() };
        // What ctnetlink made has a SYN proxy of zeros.
        let bare = |line: &String| line.split(" synproxy=").next().unwrap_or("").trim().to_owned();
        let table = |ns| -> Lines {
            Snapshot::of(&mut Kernel::of(ns), ignore).lines.iter().map(bare).collect()
        };
        let here = table(&self.pair.a.ns);
        assert_eq!(here.len(), 1, "{here:?}");
        let mut apart = None;
        let agreed = wait_for(LIMIT, || {
            self.pair.b.client(&["-c"]);
            apart = difference(("a", &here), ("b", &table(&self.pair.b.ns)), 8);
            apart.is_none().then_some(())
        });
        assert!(agreed.is_some(), "{}", apart.unwrap_or_default());
        here
    }
}

fn replicates(options: &str, engine: &str) {
    let mut setup = Setup::new(Make::Ours, Mode::Ftfw, Link::Udp);
    setup.options = options.into();
    if !engine.is_empty() {
        setup.engine = engine.into();
    }
    let mut stage = Stage::new(&setup);
    let before = stage.is_replicated();
    assert!(!format!("{before:?}").contains("seq-orig"), "nothing is shifted yet: {before:?}");
    stage.offer(10);
    let once = stage.is_replicated();
    assert!(format!("{once:?}").contains("seq-orig"), "nothing is shifted: {once:?}");
    stage.offer(11);
    let twice = stage.is_replicated();
    assert_ne!(once, twice);
}

#[test]
fn what_a_helper_shifts_is_replicated() {
    need_root!();
    replicates("ExpectationSync On\n", "");
}

#[test]
fn what_a_helper_shifts_is_replicated_on_any_shard() {
    need_root!();
    replicates("ExpectationSync On\n", "Intake filter\nShards 4");
}
