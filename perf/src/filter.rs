//! What an event of an unwanted flow costs by where the filter acts, and what the test costs.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use shardtrack_tests::cond::wait_until;
use shardtrack_tests::flows::plain;
use shardtrack_tests::kernel::Kernel;
use shardtrack_tests::limits::TableSize;
use shardtrack_tests::netns::Netns;
use shardtrack_tests::peer::{BASE_RULES, Make};
use shardtrack_tests::privilege;
use shardtrack_tests::proc::{cpu_time, own_cpu_time};

use crate::{Options, report};

/// Events per second.
const RATE: u32 = 60_000;
/// Networks of each family in the long list.
const MANY: u32 = 3000;
/// Longest start.
const LIMIT: Duration = Duration::from_secs(30);
/// What follows the last event belongs to the price.
const SETTLE: Duration = Duration::from_millis(1500);
/// The request for the figures.
const STATISTICS: u32 = 30;

/// A configuration.
struct Case {
    name: &'static str,
    /// Sets of the filter.
    sets: String,
    intake: &'static str,
    /// Where `-s json` says that it filters.
    filtering: &'static str,
    refuses: bool,
}

/// Every flow here is an established one over TCP from 10.1.0.0/16.
fn cases() -> Vec<Case> {
    let mut many = String::new();
    for n in 0..MANY {
        let _ = writeln!(many, "IPv4_address 172.16.{}.{}", n / 128, n % 128 * 2);
        let _ = writeln!(many, "IPv6_address 2001:db8::{n:x}:1");
    }
    let case = |name, sets: String, intake, filtering, refuses| Case {
        name,
        sets,
        intake,
        filtering,
        refuses,
    };
    let state = "State Ignore { ESTABLISHED for TCP }".to_owned();
    let protocol = || "Protocol Ignore { TCP }".to_owned();
    let accept = format!("Address Accept {{\n{many}}}");
    let ignore = format!("Address Ignore {{\n{many}}}");
    vec![
        case("no filter", String::new(), "ring", "none", false),
        case("6000 networks, none of them here", ignore, "ring", "kernel", false),
        case("refused in user space, sockets", protocol(), "filter", "user", true),
        case("refused in user space, ring", state, "ring", "user", true),
        case("refused in the kernel, protocol", protocol(), "ring", "kernel", true),
        case("refused in the kernel, 6000 networks", accept, "ring", "kernel", true),
    ]
}

/// What an event cost the daemon and whoever caused it, in nanoseconds.
#[derive(Clone, Copy)]
struct Cost {
    daemon: f64,
    writer: f64,
}

/// Measures all rounds and prints the medians.
pub(crate) fn run(options: &Options) -> io::Result<()> {
    if !privilege::owns_machine() {
        return Err(io::Error::other("needs root, and nf_conntrack_max must be ours to raise"));
    }
    let _size = TableSize::at_least(u64::from(options.flows) + 100_000)?;
    let rate = options.rate.unwrap_or(RATE);
    let cases = cases();
    let mut costs: Vec<Vec<Cost>> = cases.iter().map(|_| Vec::new()).collect();
    for round in 1..=options.rounds {
        println!("round {round} of {}", options.rounds);
        for (case, costs) in cases.iter().zip(&mut costs) {
            let cost = measure(case, options.flows, rate)?;
            println!("  {}: daemon {:.0}, writer {:.0}", case.name, cost.daemon, cost.writer);
            costs.push(cost);
        }
    }
    let text = text(&cases, &costs, options, rate);
    println!("\n{text}");
    if options.record {
        report::append(&text)?;
    }
    Ok(())
}

fn text(cases: &[Case], costs: &[Vec<Cost>], options: &Options, rate: u32) -> String {
    let Options { flows, rounds, .. } = options;
    let mut text = format!(
        "## {}: {flows} NEW events of TCP flows at {rate}/s and a filter\n\n\
         `shardtrack-perf filter --flows {flows} --rate {rate} --rounds {rounds} --record`; {}. \
         Statistics mode, one shard. Medians of {rounds} rounds, in which the cases take turns. The \
         ratio is to what the first case of its kind takes. The kernel makes events, and tests them, \
         in the writer's time.\n\n\
         | | daemon, ns/event | ratio | writer, ns/event | ratio |\n|---|---|---|---|---|\n",
        report::date(),
        report::machine()
    );
    let medians: Vec<Cost> = costs
        .iter()
        .map(|costs| Cost {
            daemon: report::middle(costs.iter().map(|cost| cost.daemon).collect()),
            writer: report::middle(costs.iter().map(|cost| cost.writer).collect()),
        })
        .collect();
    for (case, cost) in cases.iter().zip(&medians) {
        let first = cases.iter().position(|other| other.refuses == case.refuses).unwrap_or(0);
        let _ = writeln!(
            text,
            "| {} | {:.0} | {:.3} | {:.0} | {:.2} |",
            case.name,
            cost.daemon,
            cost.daemon / medians[first].daemon,
            cost.writer,
            cost.writer / medians[first].writer
        );
    }
    text
}

/// One daemon of ours in statistics mode.
struct Daemon {
    directory: PathBuf,
    child: Child,
}

impl Daemon {
    fn start(ns: &Netns, case: &Case, flows: u32) -> io::Result<Self> {
        let directory =
            std::env::temp_dir().join(format!("shardtrack-perf-{}", std::process::id()));
        fs::create_dir_all(&directory)?;
        let here = directory.display();
        let config = format!(
            "Stats {{\n}}\nGeneral {{\nHashLimit {}\nLockFile {here}/lock\nUNIX {{\nPath {here}/ctl\n\
             }}\nFilter From Kernelspace {{\n{}\n}}\n}}\n\
             Engine {{\nShards 1\nIntake {}\nIntakeBuffer 268435456\n}}\n",
            flows * 2,
            case.sets,
            case.intake
        );
        fs::write(directory.join("conf"), config)?;
        let mut command = ns.daemon(Make::Ours.program("conntrackd"));
        command.arg("-C").arg(directory.join("conf")).stdin(Stdio::null());
        let child = command.stdout(Stdio::null()).spawn()?;
        let daemon = Self { directory, child };
        wait_until(LIMIT, "the daemon answers", || daemon.ask(STATISTICS).is_ok());
        Ok(daemon)
    }

    fn ask(&self, id: u32) -> io::Result<String> {
        let mut stream = UnixStream::connect(self.directory.join("ctl"))?;
        stream.write_all(&id.to_ne_bytes())?;
        stream.shutdown(Shutdown::Write)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    fn count(&self, name: &str) -> io::Result<u64> {
        let answer = self.ask(STATISTICS)?;
        let line = answer.lines().find_map(|line| line.trim().strip_prefix(name));
        Ok(line.and_then(|count| count.trim().parse().ok()).unwrap_or(0))
    }

    /// Whether the filter acts where it is to act.
    fn filters(&self, place: &str) -> io::Result<bool> {
        let mut command = Command::new(Make::Ours.program("conntrackd"));
        command.arg("-C").arg(self.directory.join("conf")).args(["-s", "json"]);
        let figures = String::from_utf8_lossy(&command.output()?.stdout).into_owned();
        Ok(figures.contains(&format!("\"filtering\":\"{place}\"")))
    }

    fn cpu_time(&self) -> io::Result<Duration> {
        cpu_time(self.child.id()).ok_or_else(|| io::Error::other("the daemon ended"))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn measure(case: &Case, flows: u32, rate: u32) -> io::Result<Cost> {
    let ns = Netns::new("filter");
    ns.nft(BASE_RULES);
    let daemon = Daemon::start(&ns, case, flows)?;
    if !daemon.filters(case.filtering)? {
        let wrong = format!("{}: it does not filter in `{}'", case.name, case.filtering);
        return Err(io::Error::other(wrong));
    }
    let table = plain(0, flows);
    let mut kernel = Kernel::of(&ns);
    let none = || io::Error::other("no CPU times in /proc");
    let before = (daemon.cpu_time()?, own_cpu_time().ok_or_else(none)?);
    kernel.create_at(&table, rate);
    let writer = own_cpu_time().ok_or_else(none)? - before.1;
    std::thread::sleep(SETTLE);
    let spent = daemon.cpu_time()? - before.0;
    let refused = if case.refuses { u64::from(flows) } else { 0 };
    let counted = (daemon.count("events received:")?, daemon.count("events filtered:")?);
    if counted != (flows.into(), refused) {
        return Err(io::Error::other(format!("{}: {counted:?} were counted", case.name)));
    }
    drop(daemon);
    kernel.flush();
    let each = |spent: Duration| spent.as_nanos() as f64 / f64::from(flows);
    Ok(Cost { daemon: each(spent), writer: each(writer) })
}
