//! `--check` names what is wrong with a file on this machine, where, and what to do.

use std::fs;
use std::process::{Command, Output};
use std::time::Duration;

use shardtrack_tests::cond::wait_until;
use shardtrack_tests::need_root;
use shardtrack_tests::netns::Netns;
use shardtrack_tests::peer::{Link, Make, Mode, Node, Setup};
use shardtrack_tests::privilege::is_inside;

/// A machine with a sync link and an outside.
fn machine() -> Netns {
    let ns = Netns::new("check");
    for (device, addresses) in
        [("sync0", &["192.0.2.1/24", "2001:db8::1/64"][..]), ("wan0", &["198.51.100.1/24"])]
    {
        ns.add_device(device);
        for address in addresses {
            ns.ip(&format!("addr add {address} dev {device}"));
        }
    }
    ns
}

/// Checks a file in a namespace.
fn check(ns: &Netns, text: &str) -> (String, Option<i32>) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("conf");
    fs::write(&file, text).expect("own folder");
    let mut command = ns.command(Make::Ours.program("conntrackd"));
    let output = command.arg("-C").arg(&file).arg("--check").output().expect("it runs");
    told(&output, &file.display().to_string())
}

fn told(output: &Output, file: &str) -> (String, Option<i32>) {
    let out = String::from_utf8_lossy(&output.stdout).replace(file, "F");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    (out, output.status.code())
}

const GENERAL: &str = "General {\n HashLimit 4294967295\n LockFile /tmp/l\n UNIX { Path /tmp/conntrackd-check.ctl }\n}\n";

fn link(lines: &str) -> String {
    format!("{GENERAL}Sync {{\n Mode FTFW {{ }}\n UDP {{\n{lines}\n }}\n}}\n")
}

const GOOD: &str = "IPv4_address 192.0.2.1\nIPv4_Destination_Address 192.0.2.2\nPort 3780\n\
                    Interface sync0";

#[test]
fn a_sound_file_is_clean() {
    need_root!();
    let ns = machine();
    assert_eq!(check(&ns, &link(GOOD)), ("F: errors: 0, warnings: 0\n".to_owned(), Some(0)));
}

#[test]
fn a_fault_is_named_and_not_what_follows_from_it() {
    need_root!();
    let ns = machine();
    ns.add_device("least0");
    ns.ip("addr add 2001:db8:5::1/64 dev least0 nodad");
    ns.ip("link set least0 mtu 68");
    let lost =
        GOOD.replace("IPv4", "IPv6").replace("192.0.2.", "2001:db8:5::").replace("sync0", "least0");
    let report = "F:12:1: error: the MTU of `least0' is 68: IPv6 needs 1280, and the device loses its \
                  addresses\n\tip link set least0 mtu 1500, on both nodes\n\
                  F: errors: 1, warnings: 0\n";
    assert_eq!(check(&ns, &link(&lost)), (report.to_owned(), Some(1)));
    let (report, status) = check(&ns, &link(&GOOD.replace("sync0", "eth7").replace("0.2", "0.9")));
    assert!(report.starts_with("F:12:1: error: there is no device `eth7' here\n"), "{report}");
    assert!(report.ends_with("F: errors: 1, warnings: 0\n"), "{report}");
    assert_eq!(status, Some(1));
}

#[test]
fn what_does_nothing_is_noted_and_no_fault() {
    need_root!();
    let ns = machine();
    let text = link(GOOD).replace("UNIX { ", "Nice -20\n UNIX {\n Backlog 20\n ");
    let advice = "it does nothing and may stay";
    let expected = format!(
        "F:4:7: note: deprecated nice configuration, ignoring. The nice value can be set \
         externally with nice(1) and renice(1).\n\t{advice}\n\
         F:6:10: note: deprecated unix backlog configuration, ignoring.\n\t{advice}\n\
         F: errors: 0, warnings: 0, notes: 2\n"
    );
    assert_eq!(check(&ns, &text), (expected, Some(0)));
    let (report, status) = check(&ns, &text.replace("3780", "69316"));
    assert!(report.ends_with("F: errors: 0, warnings: 1, notes: 2\n"), "{report}");
    assert_eq!(status, Some(2));
}

#[test]
fn each_fault_is_named_with_its_place_and_what_to_do() {
    need_root!();
    let ns = machine();
    for device in ["off0", "thin0", "least0"] {
        ns.add_device(device);
    }
    ns.ip("link set off0 down");
    ns.ip("link set thin0 mtu 500");
    ns.ip("link set least0 mtu 68");
    let replaced = |from: &str, to: &str| {
        assert!(GOOD.contains(from), "{from}");
        link(&GOOD.replace(from, to))
    };
    let polled = |line: &str| {
        let text = link(GOOD).replace("UNIX {", "PollSecs 1\n UNIX {");
        text.replace("FTFW { }", &format!("NOTRACK {{ {line}\n}}"))
    };
    let group = |from: &str, to: &str| {
        let text =
            link("IPv4_address 225.0.0.50\nIPv4_interface 192.0.2.1\nGroup 3780\nInterface sync0");
        assert!(text.contains(from), "{from}");
        text.replace("UDP", "Multicast").replace(from, to)
    };
    let cases = [
        (
            replaced("sync0", "sync9"),
            "F:12:1: error: there is no device `sync9' here\n\tdid you mean `sync0'? There are: least0, ",
        ),
        (
            replaced("sync0", "eth7"),
            "F:12:1: error: there is no device `eth7' here\n\tuse one of: least0, ",
        ),
        (
            polled("DisableInternalCache on"),
            "F:8:17: warning: with PollSecs nothing says that a flow has ended",
        ),
        (
            polled("DisableExternalCache on"),
            "F:8:17: warning: with PollSecs flows of the other node are read as own ones",
        ),
        (replaced("Interface sync0", ""), "F:8:2: error: the link has no `Interface'\n\tadd"),
        (
            replaced("sync0", "off0"),
            "F:12:1: warning: the device `off0' is switched off\n\tip link set off0 up\n",
        ),
        (
            replaced("sync0", "thin0"),
            "F:12:1: warning: the MTU of `thin0' is 500: a packet carries",
        ),
        (
            replaced("sync0", "least0"),
            "F:12:1: warning: the MTU of `least0' is 68: a flow may take",
        ),
        (
            replaced("sync0", "wan0"),
            "F:9:1: warning: 192.0.2.1 is an address of `sync0', not of `wan0'\n",
        ),
        (
            replaced("192.0.2.1", "192.0.2.9"),
            "F:9:1: error: 192.0.2.9 is no address of this node\n",
        ),
        (replaced("192.0.2.2", "192.0.2.1"), "F:10:1: error: the peer 192.0.2.1 is this node\n"),
        (
            replaced("192.0.2.2", "198.51.100.1"),
            "F:10:1: error: the peer 198.51.100.1 is this node\n",
        ),
        (
            replaced("192.0.2.2", "203.0.113.1"),
            "F:10:1: warning: 203.0.113.1 is in no network of `sync0'",
        ),
        (
            replaced("IPv4_Destination_Address 192.0.2.2", ""),
            "F:8:2: error: the link has no `IPv4_Destination_Address'",
        ),
        (
            replaced("IPv4_address 192.0.2.1", ""),
            "F:8:2: warning: without `IPv4_address' everybody",
        ),
        (replaced("Port 3780", ""), "F:8:2: error: the link has no `Port'\n"),
        (replaced("3780", "69316"), "F:11:6: warning: there is no port 69316: 3780 is used\n"),
        (replaced("Port", "Port 1 Port"), "F:11:8: warning: `Port' was set in line 11 already\n"),
        (
            replaced("192.0.2.2", "192.0.2.300"),
            "F:10:26: warning: 192.0.2.300 is not a valid IPv4 address\n",
        ),
        (
            replaced("Port", "port"),
            "F:11:1: error: parsing config file in line (11), symbol 'port': syntax error\n\tdid you mean `Port'?\n",
        ),
        (group("225.0.0.50", "192.0.2.50"), "F:9:1: error: 192.0.2.50 is no group address\n"),
        (
            group("192.0.2.1", "198.51.100.1"),
            "F:10:1: error: 198.51.100.1 is no address of `sync0'\n",
        ),
        (
            link(&format!("{GOOD}\n}}\nUDP {{\n{GOOD}")),
            "F:18:1: warning: `sync0' carries the link of line 8 already\n",
        ),
        (
            link(&format!("{GOOD}\n}}\nUDP {{\n{GOOD}")),
            "F:17:1: error: address and port are those of the link of line 8\n",
        ),
        (
            "General {\n LockFile /none/such/lock\n}\n".into(),
            "F:2:2: error: the folder of `LockFile' does not exist: /none/such\n\tmkdir -p /none/such\n",
        ),
        ("General {\n}\n".into(), "F:1:1: warning: there is no control socket"),
        (
            "General {\n UNIX {\n  Path /tmp/c}\n }\n}\n}".into(),
            "F:6:1: error: parsing config file in line (6), symbol '}': syntax error\n\tthere is one `}' too many\n",
        ),
        (
            "General {\n UNIX {\n  Path /tmp/c}\n }\n}\n".into(),
            "F:3:3: warning: the path ends in or holds a brace: /tmp/c}\n",
        ),
        (
            "General {\n UNIX {\n  Path /etc/passwd\n }\n}\n".into(),
            "F:3:3: error: `/etc/passwd' exists and is no socket\n\tchoose another path",
        ),
        (
            "General {\n NetlinkBufferSize 2097152\n}\n".into(),
            "F:2:2: warning: NetlinkBufferSize 2097152 is above NetlinkBufferSizeMaxGrowth 0: ignored\n",
        ),
        (
            "General {\n HashLimit 10\n}\nSync { }\n".into(),
            "F:2:2: warning: HashLimit 10 is below the kernel's limit of ",
        ),
        ("Sync {\n}\n".into(), "F:1:1: error: there is no link to the other node\n"),
        (
            "General {\n Scheduler {\n  Type FIFO\n }\n}\n".into(),
            "F:3:3: warning: real-time scheduling has no priority 0\n",
        ),
        (
            "Sync {\n Mode FTFW {\n  ResendQueueSize 10\n }\n}\n".into(),
            "F:3:3: warning: ResendQueueSize 10 is below ACKWindowSize 300",
        ),
        (
            "Sync {\n Mode FTFW {\n  ResendQueueSize 4294967295\n }\n}\n".into(),
            "F:3:3: warning: ResendQueueSize 4294967295 is beyond use",
        ),
        (
            "Sync {\n Mode FTFW {\n  ACKWindowSize 4294967295\n }\n}\n".into(),
            "F:3:3: warning: ACKWindowSize 4294967295 is beyond use",
        ),
        (
            "Sync {\n Mode FTFW {\n  ACKWindowSize 4294967295\n }\n}\n".into(),
            "\n\tset ResendQueueSize to 262144 at least\n",
        ),
        (
            "Sync {\n Mode ALARM {\n  RefreshTime 100\n  CacheTimeout 101\n }\n}\n".into(),
            "F:4:3: warning: CacheTimeout 101 is not above RefreshTime 100: states are forgotten \
             before they are sent again\n\tset CacheTimeout to 300\n",
        ),
        (
            "Sync {\n Mode ALARM {\n  RefreshTime 4294967295\n }\n}\n".into(),
            "\n\tset RefreshTime to 60 and CacheTimeout to 180, as is usual\n",
        ),
        (
            "Engine {\n CPUs 0,1022-1023\n}\n".into(),
            "F:2:2: warning: the daemon may not run on CPU 1022 and 1 more",
        ),
    ];
    for (text, expected) in cases {
        let (report, status) = check(&ns, &text);
        assert!(report.contains(expected), "{text}\n{report}\ndoes not say\n{expected}");
        let wanted = if report.contains(" error: ") { 1 } else { 2 };
        assert_eq!(status, Some(wanted), "{text}\n{report}");
    }
    if !is_inside() {
        // Without the right to exceed them the limits of the machine count.
        let folder = tempfile::tempdir_in("/tmp").expect("a folder");
        let file = folder.path().join("conf");
        let text = link(&format!("{GOOD}\nRcvSocketBuffer 1000000000"));
        fs::write(&file, &text).expect("own folder");
        let (report, _) = check(&ns, &text);
        assert!(!report.contains("RcvSocketBuffer"), "{report}");
        let mut command = ns.command("setpriv");
        command.args(["--bounding-set=-net_admin", "--inh-caps=-net_admin", "--"]);
        command.arg(Make::Ours.program("conntrackd")).arg("-C").arg(&file).arg("--check");
        let (report, _) = told(&command.output().expect("it runs"), &file.display().to_string());
        assert!(report.contains("F:13:1: warning: this process gets "), "{report}");
        assert!(report.contains("or sysctl net.core.rmem_max=1000000000\n"), "{report}");
    }
}

#[test]
fn a_check_leaves_a_running_daemon_alone() {
    need_root!();
    let mut node = Node::new(1, Setup::new(Make::Ours, Mode::Ftfw, Link::Udp));
    node.ns.add_device("sync0");
    node.ns.ip("addr add 10.99.0.1/24 dev sync0");
    node.start();
    wait_until(Duration::from_secs(10), "the start is told", || node.log().contains("-- starting"));
    let log = node.log();
    let file = node.directory().join("conf");
    let mut command: Command = node.ns.command(Make::Ours.program("conntrackd"));
    let output = command.arg("--check").arg("-C").arg(&file).output().expect("it runs");
    let (report, status) = told(&output, &file.display().to_string());
    assert!(matches!(status, Some(0 | 2)), "{report}");
    assert!(!report.contains("error: "), "{report}");
    assert_eq!(node.log(), log);
    assert!(node.request(30).is_some());
}
