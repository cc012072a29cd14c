//! `make demo`: two firewalls, one state, and a failover that connections survive; then the same
//! without replication, so that one sees them die.

#![forbid(unsafe_code)]

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use shardtrack_tests::cond::{wait_for, wait_until};
use shardtrack_tests::peer::{Link, Make, Mode, Node, Setup};
use shardtrack_tests::privilege;
use shardtrack_tests::stage::{self, SERVER, Stage};
use shardtrack_tests::traffic::{Fate, background, echo, talk};

/// Connections whose survival is counted.
const CONNECTIONS: usize = 200;
/// Flows beside them.
const BACKGROUND: u16 = 10_000;
/// Port of the echo server.
const PORT: u16 = 7;
/// How long a connection may be silent after the failover before it counts as dead. TCP repeats
/// what got lost after 0.2, 0.4, 0.8, 1.6 s, so a living one has spoken by then.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long undisturbed traffic is shown.
const SHOW: Duration = Duration::from_secs(2);

/// How a scene ended.
struct Outcome {
    survived: usize,
    longest: Duration,
}

fn main() -> ExitCode {
    if !privilege::enter() {
        eprintln!(
            "demo: it makes network namespaces, which takes root or unprivileged user namespaces"
        );
        return ExitCode::FAILURE;
    }
    let make = match std::env::args().nth(1).as_deref() {
        None => Make::Ours,
        Some("--original") => Make::Original,
        Some(_) => {
            eprintln!("usage: shardtrack-demo [--original]");
            return ExitCode::FAILURE;
        }
    };
    let program = make.program("conntrackd");
    if !program.exists() {
        eprintln!("demo: {} is missing: build it first", program.display());
        return ExitCode::FAILURE;
    }
    println!(
        "client -- fw1/fw2 -- server: {CONNECTIONS} echoing TCP connections and {BACKGROUND} UDP \
         flows through fw1,\nsource NAT to 10.2.0.1, which either firewall may own; what is not \
         tracked is dropped\n"
    );
    println!("== with replication ({})", program.display());
    let with = scene(make, true);
    println!("\n== without replication");
    let without = scene(make, false);
    println!(
        "\nwith replication: {} of {CONNECTIONS} connections survived, longest stall {:.2} s\n\
         without:          {} of {CONNECTIONS} survived",
        with.survived,
        with.longest.as_secs_f64(),
        without.survived
    );
    let passed = with.survived == CONNECTIONS && without.survived == 0;
    println!("demo: {}", if passed { "passed" } else { "FAILED" });
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Plays the failover once.
fn scene(make: Make, replicate: bool) -> Outcome {
    let begin = Instant::now();
    let say = |text: &str| println!("{:7.2} s  {text}", begin.elapsed().as_secs_f64());
    let mut stage = Stage::new(Setup::new(make, Mode::Ftfw, Link::Udp));
    stage::activate(&stage.fw1);
    if replicate {
        stage.fw1.start();
        stage.fw2.start();
        say("fw1 and fw2 run conntrackd, FTFW over UDP; fw1 owns the addresses");
    } else {
        say("no daemon runs; fw1 owns the addresses");
    }
    let stop = AtomicBool::new(false);
    let fates: Mutex<Vec<Fate>> = Mutex::default();
    let server: SocketAddr = SocketAddr::new(SERVER.parse().expect("an address"), PORT);
    let listener = stage.server.enter(|| TcpListener::bind(server)).expect("a free port");
    let Stage { client, server: far, fw1, fw2 } = &mut stage;
    let (client, far) = (&*client, &*far);
    std::thread::scope(|scope| {
        let _guard = StopAtEnd(&stop);
        scope.spawn(|| echo(listener, &stop));
        scope.spawn(|| {
            client.enter(|| talk(server, CONNECTIONS, &stop, |new| *lock(&fates) = new));
        });
        scope.spawn(|| client.enter(|| background(server, BACKGROUND, &stop)));
        let look = || lock(&fates).clone();
        wait_until(Duration::from_secs(10), "every connection talks", || {
            let fates = look();
            fates.len() == CONNECTIONS && fates.iter().all(|fate| fate.answers > 20)
        });
        say(&format!("{CONNECTIONS} connections talk through fw1, the background flows are there"));
        if replicate {
            wait_until(Duration::from_secs(10), "fw2 knows what fw1 knows", || {
                fw2.cached(false) >= BACKGROUND.into() && fw2.cached(false) + 500 > fw1.cached(true)
            });
            say(&format!("fw1 tracks {} flows, fw2 knows {}", fw1.cached(true), fw2.cached(false)));
        }
        std::thread::sleep(SHOW);
        let cut = Instant::now();
        stage::cut_off(client, far, fw1, fw2);
        say("fw1 is cut off and its daemon killed");
        if replicate {
            commit(fw2, &say);
        }
        stage::activate(fw2);
        say("fw2 owns the addresses");
        let moved = Instant::now();
        let outcome = wait_for(PATIENCE, || {
            let outcome = judge(&look(), moved);
            (outcome.survived == CONNECTIONS).then_some(outcome)
        });
        let outcome = outcome.unwrap_or_else(|| judge(&look(), moved));
        report(&outcome, &look(), cut, &say);
        let fresh = client.enter(|| TcpStream::connect_timeout(&server, Duration::from_secs(3)));
        say(match fresh {
            Ok(_) => "a new connection through fw2 works",
            Err(_) => "a new connection through fw2 FAILS: the way itself is broken",
        });
        outcome
    })
}

/// What a failover script calls when a node becomes active.
fn commit(fw2: &Node, say: &impl Fn(&str)) {
    let begin = Instant::now();
    fw2.client(&["-c"]);
    let spent = begin.elapsed().as_secs_f64();
    let count = fw2.ns.read_sysctl("net/netfilter/nf_conntrack_count");
    say(&format!("fw2 commits: {count} flows are in its kernel after {spent:.3} s"));
    for command in ["-f", "-R", "-B"] {
        fw2.client(&[command]);
    }
}

/// Who has had an answer since `moved`.
fn judge(fates: &[Fate], moved: Instant) -> Outcome {
    let alive = fates.iter().filter(|fate| !fate.broken && fate.last_answer > moved);
    let longest = fates.iter().map(|fate| fate.longest).max().unwrap_or_default();
    Outcome { survived: alive.count(), longest }
}

fn report(outcome: &Outcome, fates: &[Fate], cut: Instant, say: &impl Fn(&str)) {
    let broken = fates.iter().filter(|fate| fate.broken).count();
    if outcome.survived == CONNECTIONS {
        let longest = outcome.longest.as_secs_f64();
        say(&format!(
            "all {CONNECTIONS} connections talk again; the longest stall was {longest:.2} s"
        ));
    } else {
        say(&format!(
            "{:.1} s after the cut {} of {CONNECTIONS} connections talk, {} are silent, {broken} broken",
            cut.elapsed().as_secs_f64(),
            outcome.survived,
            CONNECTIONS - outcome.survived - broken,
        ));
    }
}

/// Ends the traffic however the scene ends.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
