//! Two firewalls under keepalived: it moves the addresses and calls a script at each transition,
//! once the one that Debian ships for the original, once ours.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use shardtrack_tests::cond::wait_until;
use shardtrack_tests::limits::alone;
use shardtrack_tests::need_root;
use shardtrack_tests::netns::Netns;
use shardtrack_tests::peer::{Link, Make, Mode, Node, Setup};
use shardtrack_tests::privilege::{is_inside, skip};
use shardtrack_tests::stage::{SERVER, Stage};
use shardtrack_tests::traffic::{Fate, echo, talk};

/// Connections whose survival is counted.
const CONNECTIONS: usize = 50;
/// Port of the echo server.
const PORT: u16 = 7;
/// How long a transition or a connection's recovery may take.
const LIMIT: Duration = Duration::from_secs(20);
/// What Debian ships for the original. It names all its places itself.
const DEBIANS: &str = "/usr/share/doc/conntrackd/examples/sync/primary-backup.sh";

/// Gives the processes of a node the places that scripts name: the program, its configuration,
/// and a `logger` whose words the test can read. `$1` is the node's directory, `$2` our program,
/// `$3` where it is installed; in the other place is one that fails.
const PLACES: &str = r#"
set -eu
mount -t tmpfs none /etc/conntrackd
cp "$1/conf" /etc/conntrackd/conntrackd.conf
cp "$1/script" /etc/conntrackd/primary-backup.sh
mount -t tmpfs none /usr/local/sbin
: >/usr/local/sbin/conntrackd
mount --bind /bin/false /usr/sbin/conntrackd
mount --bind "$2" "$3"
printf '#!/bin/sh\necho "$*" >>%s/told\n' "$1" >"$1/logger"
chmod 755 "$1/logger" /etc/conntrackd/primary-backup.sh
mount --bind "$1/logger" "$(command -v logger)"
export CONNTRACKD_STATE="$1/failover"
exec keepalived --dont-fork --vrrp --log-console --no-syslog --log-detail \
	--use-file "$1/keepalived.conf" --pid "$1/keepalived.pid" --vrrp_pid "$1/vrrp.pid"
"#;

/// One keepalived with everything that it starts. They are alone in a namespace of processes, so
/// that all end with it.
struct Keepalived {
    child: Child,
    log: PathBuf,
}

impl Keepalived {
    fn start(node: &Node, script: &Path) -> Self {
        let directory = node.directory();
        // Debian's names the place of its package, ours finds what was installed beside that.
        let is_debians = script == Path::new(DEBIANS);
        let place = if is_debians { "/usr/sbin/conntrackd" } else { "/usr/local/sbin/conntrackd" };
        fs::copy(script, directory.join("script")).expect("the script is there");
        let example = include_str!("../../bins/conntrackd/dist/keepalived.conf");
        let mut config = example.to_owned();
        for (from, to) in [
            ("interface eth0", "interface in0"),
            ("interface eth1", "interface out0"),
            ("192.168.0.1/24", "10.1.0.1/24"),
            ("203.0.113.1/24", "10.2.0.1/24"),
            ("priority 100", if node.index == 1 { "priority 150" } else { "priority 100" }),
            ("advert_int 1", "advert_int 0.3"),
        ] {
            assert!(config.contains(from), "the example says {from}");
            config = config.replace(from, to);
        }
        fs::write(directory.join("keepalived.conf"), config).expect("own directory");
        let log = directory.join("keepalived.log");
        let file = File::create(&log).expect("own directory");
        let child = node
            .ns
            .daemon("unshare")
            .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"])
            .args(["sh", "-c", PLACES, "sh"])
            .arg(directory)
            .arg(Make::Ours.program("conntrackd"))
            .arg(place)
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a file can be cloned"))
            .stderr(file)
            .spawn();
        Self { child: child.expect("nsenter can be started"), log }
    }

    /// How often the node became this.
    fn count(&self, role: &str) -> usize {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        log.matches(&format!("(inside) Entering {role} STATE")).count()
    }
}

impl Drop for Keepalived {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            eprintln!("{}:\n{log}", self.log.display());
        }
    }
}

/// The talks of the client through whichever firewall is active.
struct Traffic<'a> {
    fates: &'a Mutex<Vec<Fate>>,
}

impl Traffic<'_> {
    fn look(&self) -> Vec<Fate> {
        self.fates.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// All connections have had an answer after `moment`, and none is broken.
    fn goes_on(&self, moment: Instant, what: &str) {
        let mut fates = self.look();
        let end = Instant::now() + LIMIT;
        loop {
            let broken = fates.iter().filter(|fate| fate.broken).count();
            let silent = fates.iter().filter(|fate| fate.last_answer <= moment).count();
            assert_eq!(broken, 0, "connections are broken after {what}");
            if fates.len() == CONNECTIONS && silent == 0 {
                return;
            }
            assert!(Instant::now() < end, "{silent} connections are silent after {what}");
            std::thread::sleep(Duration::from_millis(20));
            fates = self.look();
        }
    }
}

/// Ends the traffic however the test ends.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn connections_survive_three_failovers_with_the_script_of_debian() {
    need_root!();
    let name = "connections_survive_three_failovers_with_the_script_of_debian";
    if Path::new(DEBIANS).exists() {
        three_failovers(name, Path::new(DEBIANS));
    } else {
        skip(name, &format!("{DEBIANS} is not installed"));
    }
}

#[test]
fn connections_survive_three_failovers_with_our_script() {
    need_root!();
    let ours = Path::new(env!("CARGO_MANIFEST_DIR"));
    let name = "connections_survive_three_failovers_with_our_script";
    three_failovers(name, &ours.join("../bins/conntrackd/dist/primary-backup.sh"));
}

/// fw1 fails by a link and comes back as the backup, fw2 crashes with its daemon and comes back,
/// fw1 fails again.
fn three_failovers(name: &str, script: &Path) {
    if is_inside() {
        skip(name, "keepalived runs no script in a user namespace");
        return;
    }
    let _alone = alone();
    let setup = Setup::new(Make::Ours, Mode::Ftfw, Link::Udp);
    let mut stage = Stage::new(setup);
    for (node, host) in [(&mut stage.fw1, 2), (&mut stage.fw2, 3)] {
        // Routers speak with addresses of their own.
        node.ns.ip(&format!("addr add 10.1.0.{host}/24 dev in0"));
        node.ns.ip(&format!("addr add 10.2.0.{host}/24 dev out0"));
        for device in ["in0", "out0"] {
            node.ns.ip(&format!("link set {device} up"));
        }
        node.start();
    }
    let Stage { client, server, fw1, fw2 } = &mut stage;
    let (client, server) = (&*client, &*server);
    let one = Keepalived::start(fw1, script);
    wait_until(LIMIT, "fw1 is the primary", || one.count("MASTER") == 1);
    let two = Keepalived::start(fw2, script);
    wait_until(LIMIT, "fw2 is the backup", || two.count("BACKUP") == 1);
    let stop = AtomicBool::new(false);
    let fates: Mutex<Vec<Fate>> = Mutex::default();
    let address = SocketAddr::new(SERVER.parse().expect("an address"), PORT);
    let listener = server.enter(|| TcpListener::bind(address)).expect("a free port");
    std::thread::scope(|scope| {
        let _guard = StopAtEnd(&stop);
        scope.spawn(|| echo(listener, &stop));
        scope.spawn(|| {
            client.enter(|| {
                talk(address, CONNECTIONS, &stop, |new| {
                    *fates.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = new;
                });
            });
        });
        let traffic = Traffic { fates: &fates };
        traffic.goes_on(Instant::now(), "the start");
        knows(fw2, fw1);

        // A link of fw1 fails: fault there, primary here.
        client.ip("link set port1 down");
        wait_until(LIMIT, "fw2 is the primary", || two.count("MASTER") == 1);
        traffic.goes_on(Instant::now(), "the first failover");
        assert_eq!(one.count("FAULT"), 1);
        client.ip("link set port1 up");
        wait_until(LIMIT, "fw1 is the backup", || one.count("BACKUP") == 2);
        knows(fw1, fw2);
        traffic.goes_on(Instant::now(), "the return of fw1");
        assert_eq!((one.count("MASTER"), two.count("MASTER")), (1, 1));

        // fw2 loses everything at once, its daemon too.
        cut(client, server, "down");
        fw2.kill9();
        wait_until(LIMIT, "fw1 is the primary", || one.count("MASTER") == 2);
        traffic.goes_on(Instant::now(), "the second failover");
        assert!(fw2.request(30).is_none(), "the daemon of fw2 is dead");
        cut(client, server, "up");
        wait_until(LIMIT, "fw2 is the backup", || two.count("BACKUP") == 2);
        wait_until(LIMIT, "the script has started the daemon of fw2", || fw2.request(30).is_some());
        knows(fw2, fw1);

        client.ip("link set port1 down");
        wait_until(LIMIT, "fw2 is the primary again", || two.count("MASTER") == 2);
        traffic.goes_on(Instant::now(), "the third failover");
        // It stays so.
        std::thread::sleep(Duration::from_secs(1));
        traffic.goes_on(Instant::now(), "the third failover, a second later");
    });
    for node in [&*fw1, &*fw2] {
        let told = fs::read_to_string(node.directory().join("told")).unwrap_or_default();
        // The daemon of fw2 may be dead before the script is told of the fault.
        let is_late = |line: &str| node.index == 2 && line.contains("conntrackd -t");
        let is_error = |line: &str| line.contains("ERROR") || line.contains("daemon.err");
        let failed = told.lines().any(|line| is_error(line) && !is_late(line));
        assert!(!failed, "the script on node {}: {told}", node.index);
    }
}

/// The backup has heard of all connections.
fn knows(backup: &Node, primary: &Node) {
    wait_until(LIMIT, "the backup knows the connections", || {
        let all = CONNECTIONS as u64;
        primary.cached(true) >= all && backup.cached(false) >= all
    });
}

/// Cuts fw2 off both its sides, or not.
fn cut(client: &Netns, server: &Netns, state: &str) {
    for end in [client, server] {
        end.ip(&format!("link set port2 {state}"));
    }
}
