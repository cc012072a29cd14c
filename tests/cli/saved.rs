//! Tables that are saved and loaded again.

use std::fmt::Write as _;
use std::fs::File;

use proto_ctnl::{Flow, proto};
use shardtrack_tests::flows::{Without, mixture};
use shardtrack_tests::kernel::Kernel;
use shardtrack_tests::limits::TableSize;
use shardtrack_tests::need_root;
use shardtrack_tests::netns::{self, Netns};
use shardtrack_tests::peer::{BASE_RULES, Make};
use shardtrack_tests::snapshot::{Ignore, Snapshot};
use shardtrack_tests::table::assert_same;

/// Flows of a usual run, more than are read without help; of a full one those of the target.
fn count() -> u32 {
    if std::env::var_os("SHARDTRACK_FULL").is_some() { 100_000 } else { 10_000 }
}

/// Flows of every kind: protocols and states, families, translations, marks, labels, zones, helpers,
/// sequence adjustment, masters.
#[test]
fn a_table_of_all_kinds_is_the_same_when_loaded() {
    need_root!();
    let _size =
        TableSize::at_least(u64::from(count()) + 10_000).expect("the table can be as large");
    let mut made = mixture(count(), Without::default());
    // New kernels do not know it, and so tell no ports and no state of it.
    let protocols = made.flows.iter().filter(|flow| flow.orig.proto == 50).copied();
    let dccp: Vec<Flow> = protocols.map(of_dccp).collect();
    made.flows.extend(dccp);
    let namespaces = [Netns::new("save"), Netns::new("load")];
    let [before, after] = namespaces.each_ref().map(|ns| {
        ns.nft(BASE_RULES);
        Kernel::of(ns)
    });
    let (mut before, mut after) = (before, after);
    before.create(&made.flows);
    let directory = tempfile::tempdir().expect("there is room for temporary files");
    let saved = directory.path().join("saved");
    let program = Make::Ours.program("conntrack");
    let file = File::create(&saved).expect("the directory is ours");
    netns::run(namespaces[0].command(&program).args(["-L", "-o", "save"]).stdout(file));
    netns::run(namespaces[1].command(&program).arg("-R").arg(&saved));
    // What the command makes does not check windows, as in the original.
    let ignore = Ignore { tcp_window: true, ..Ignore::default() };
    let [want, have] = [Snapshot::of(&mut before, ignore), Snapshot::of(&mut after, ignore)];
    assert_eq!(want.lines.len(), made.flows.len());
    assert_same(("the table", &want.lines), ("the loaded one", &have.lines));
    let apart = have.expiries_apart(&want, 30);
    assert!(apart.is_empty(), "{}", apart.join("\n"));
}

fn of_dccp(mut flow: Flow) -> Flow {
    flow.orig.proto = proto::DCCP;
    flow
}

/// Flows that expect others have masters themselves, in any depth and in no order of the table.
#[test]
fn a_saved_flow_stands_behind_its_master() {
    need_root!();
    const CHAINS: u32 = 40;
    const DEPTH: u32 = 6;
    let tuple = |chain, depth| {
        let address = std::net::Ipv4Addr::from(0x0a00_0000 + chain * 16 + depth);
        (address, format!("17,{address},10.1.0.1,{},53", 1000 + depth))
    };
    let mut lines = String::new();
    for chain in 0..CHAINS {
        for depth in 0..DEPTH {
            let (address, _) = tuple(chain, depth);
            let port = 1000 + depth;
            write!(lines, "-A -p udp -s {address} -d 10.1.0.1 --sport {port} --dport 53 -t 600")
                .expect("a string takes all");
            if depth > 0 {
                let (_, master) = tuple(chain, depth - 1);
                write!(lines, " --master {master}").expect("a string takes all");
            }
            lines += "\n";
        }
    }
    let program = Make::Ours.program("conntrack");
    let directory = tempfile::tempdir().expect("there is room for temporary files");
    let [first, second] = ["first", "second"].map(|name| directory.path().join(name));
    std::fs::write(&first, lines).expect("the directory is ours");
    let [before, after] = [Netns::new("save"), Netns::new("load")];
    netns::run(before.command(&program).arg("-R").arg(&first));
    let save = |ns: &Netns, path| {
        let file = File::create(path).expect("the directory is ours");
        netns::run(ns.command(&program).args(["-L", "-o", "save"]).stdout(file));
        let text = std::fs::read_to_string(path).expect("it was written");
        let mut lines: Vec<String> =
            text.lines().map(|line| line[line.find(" -u ").unwrap_or(0)..].to_owned()).collect();
        lines.sort_unstable();
        lines
    };
    let want = save(&before, &second);
    netns::run(after.command(&program).arg("-R").arg(&second));
    let have = save(&after, &first);
    assert_eq!(want.iter().filter(|l| l.contains("--master")).count() as u32, CHAINS * (DEPTH - 1));
    assert_eq!((want.len() as u32, &want), (CHAINS * DEPTH, &have));
}
