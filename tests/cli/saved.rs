//! Tables that are saved and loaded again.

use std::fs::File;

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
    let made = mixture(count(), Without::default());
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
