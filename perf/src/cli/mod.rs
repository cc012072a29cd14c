//! The command lines of both makes and bare loops, in turns on the same table.

mod events;
mod spent;
mod table;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use proto_ctnl::{Flow, L4, Present, Status, proto};
use shardtrack_tests::flows::plain;
use shardtrack_tests::kernel::Kernel;
use shardtrack_tests::limits::TableSize;
use shardtrack_tests::netns::Netns;
use shardtrack_tests::peer::{BASE_RULES, Make};

use crate::{Options, Part, report};
use spent::spent;
use table::{Rows, Wanted};

/// Listings, and what is wanted of them: the highest ratio to the original, and to a bare loop that
/// reads the table.
const LISTINGS: [(&str, Wanted); 11] = [
    ("-L", WHOLE),
    ("-L -o extended", WHOLE),
    ("-L -o json", WHOLE),
    ("-L -o xml", Wanted { original: 0.4, ..WHOLE }),
    ("-L -o save", WHOLE),
    ("-L -f ipv4 -d 10.2.0.2", FILTERED),
    ("-L -f ipv4 -p tcp --dport 444", FILTERED),
    ("-L -f ipv4 -p udp", FILTERED),
    ("-L -w 5", FILTERED),
    ("-L -m 77", FILTERED),
    ("-L -u ASSURED", FILTERED),
];
const WHOLE: Wanted = Wanted { original: 0.6, floor: 1.15 };
const FILTERED: Wanted = Wanted { original: 0.35, floor: f64::NAN };
const CHANGED: Wanted = Wanted { original: 0.5, floor: 1.25 };
const LOADED: Wanted = Wanted { original: 0.4, floor: 1.3 };
const MAKES: [Make; 2] = [Make::Original, Make::Ours];

/// Measures all rounds and prints the medians.
pub(crate) fn run(options: &Options) -> io::Result<()> {
    let _size =
        TableSize::at_least(u64::from(options.flows) + u64::from(events::BEGINNING) + 1000)?;
    let directory = std::env::temp_dir().join(format!("shardtrack-cli-{}", std::process::id()));
    std::fs::create_dir_all(&directory)?;
    let result = measure(options, &directory);
    std::fs::remove_dir_all(&directory)?;
    let text = result?;
    println!("{text}");
    if options.record { report::append(&text) } else { Ok(()) }
}

fn measure(options: &Options, directory: &Path) -> io::Result<String> {
    let mut bench = Bench::new(options.flows, directory);
    let mut rows = Rows::default();
    let mut events = Vec::new();
    let has = |part| options.part.is_none_or(|p| p == part);
    for _ in 0..options.rounds {
        if has(Part::Listings) {
            bench.listings(&mut rows)?;
        }
        if has(Part::Changes) {
            bench.changes(&mut rows)?;
        }
        if has(Part::Events) {
            events.push(events::round(&bench.ns, &bench.flows, &bench.out)?);
        }
    }
    let mut text = table::heading(options);
    text += &rows.text();
    text += &events::text(&events);
    Ok(text)
}

/// A table in a namespace, and where output goes.
struct Bench {
    ns: Netns,
    kernel: Kernel,
    flows: Vec<Flow>,
    out: PathBuf,
    saved: PathBuf,
}

impl Bench {
    fn new(count: u32, directory: &Path) -> Self {
        let ns = Netns::new("cli");
        ns.nft(BASE_RULES);
        let kernel = Kernel::of(&ns);
        let (out, saved) = (directory.join("out"), directory.join("saved"));
        Self { ns, kernel, flows: table_of(count), out, saved }
    }

    fn fill(&mut self) {
        self.kernel.flush();
        self.kernel.create(&self.flows);
    }

    fn listings(&mut self, rows: &mut Rows) -> io::Result<()> {
        self.fill();
        for (line, wanted) in LISTINGS {
            for make in MAKES {
                rows.note(line, wanted, make, spent(&self.ns, make, line, &self.out)?);
            }
            if !wanted.floor.is_nan() {
                rows.floor(line, self.read());
            }
        }
        self.kernel.flush();
        Ok(())
    }

    fn changes(&mut self, rows: &mut Rows) -> io::Result<()> {
        for make in MAKES {
            self.fill();
            let line = "-U -f ipv4 --mark 9";
            rows.note(line, CHANGED, make, spent(&self.ns, make, line, &self.out)?);
            spent(&self.ns, Make::Ours, "-L -o save", &self.saved)?;
            let line = "-D -f ipv4 -p tcp --dport 443";
            rows.note(line, CHANGED, make, spent(&self.ns, make, line, &self.out)?);
            self.kernel.flush();
            let line = format!("-R {}", self.saved.display());
            rows.note("-R", LOADED, make, spent(&self.ns, make, &line, &self.out)?);
        }
        self.kernel.flush();
        let flows = std::mem::take(&mut self.flows);
        rows.floor("-R", timed(|| self.kernel.create(&flows)));
        let updates: Vec<Flow> = flows.iter().map(mark_of).collect();
        let update = timed(|| self.kernel.update_at(&updates, 0));
        rows.floor("-U -f ipv4 --mark 9", self.read() + update);
        let read = self.read();
        let meant: Vec<Flow> = flows.iter().filter(|f| is_meant(f)).copied().collect();
        let delete = timed(|| self.kernel.delete_at(&meant, 0));
        rows.floor("-D -f ipv4 -p tcp --dport 443", read + delete);
        self.kernel.flush();
        self.flows = flows;
        Ok(())
    }

    /// A loop that receives the table and does nothing else.
    fn read(&mut self) -> f64 {
        timed(|| self.kernel.read(|batch| batch.dump(), |_| ()))
    }
}

fn timed(work: impl FnOnce()) -> f64 {
    let begin = Instant::now();
    work();
    begin.elapsed().as_secs_f64()
}

/// Flows of which each filter finds one in a hundred.
fn table_of(count: u32) -> Vec<Flow> {
    let mut flows = plain(0, count);
    for (number, flow) in flows.iter_mut().enumerate() {
        flow.status = Status::SEEN_REPLY.with(Status::CONFIRMED);
        match number % 100 {
            0 => {
                flow.orig.dst = std::net::Ipv4Addr::new(10, 2, 0, 2).into();
                flow.mark = 77;
                flow.present.insert(Present::MARK);
            }
            1 => {
                let port = (1024 + number % 50_000) as u16;
                flow.orig.l4 = L4::ports(port, 444);
                flow.status = flow.status.with(Status::ASSURED);
            }
            2 => {
                flow.orig.proto = proto::UDP;
                flow.present.remove(Present::PROTOINFO);
            }
            3 => {
                flow.zone = 5;
                flow.present.insert(Present::ZONE);
            }
            _ => {}
        }
    }
    flows
}

/// No more than the request for another mark needs.
fn mark_of(flow: &Flow) -> Flow {
    let mut update = Flow { orig: flow.orig, mark: 9, zone: flow.zone, ..Flow::default() };
    update.present.insert(Present::ORIG);
    update.present.insert(Present::MARK);
    if flow.present.has(Present::ZONE) {
        update.present.insert(Present::ZONE);
    }
    update
}

/// What `-D -p tcp --dport 443` removes.
fn is_meant(flow: &Flow) -> bool {
    flow.orig.proto == proto::TCP && flow.orig.l4.b == 443
}
