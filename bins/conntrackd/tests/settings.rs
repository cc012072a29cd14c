//! What files mean: our own section, and what this version refuses to start with.

use std::net::IpAddr;

use conntrackd::conf::convert::{Refusal, convert};
use conntrackd::conf::environment::Environment;
use conntrackd::conf::settings::{Facility, Settings};
use conntrackd::conf::token::Place;
use conntrackd::conf::{self, Reading};
use engine::config::{Config, Expectations, Intake, LinkKind, Network, Policy, SyncMode};
use proptest::prelude::*;

struct Machine;

impl Environment for Machine {
    fn has_interface(&self, name: &str) -> bool {
        name.starts_with("eth")
    }

    fn protocol(&self, name: &str) -> Option<u8> {
        match name {
            "TCP" => Some(6),
            "icmp" => Some(1),
            _ => None,
        }
    }
}

fn read(text: &str) -> Reading {
    conf::read(text.as_bytes(), &Machine)
}

fn settings(text: &str) -> Settings {
    let reading = read(text);
    let lines: Vec<_> =
        reading.diagnostics.iter().map(|line| String::from_utf8_lossy(&line.text)).collect();
    reading.settings.unwrap_or_else(|| panic!("{lines:?}"))
}

fn config(text: &str) -> Result<Config, Refusal> {
    convert(&settings(text), &Machine)
}

fn error(text: &str) -> String {
    let reading = read(text);
    assert_eq!(reading.settings, None);
    let last = reading.diagnostics.last().expect("an error");
    String::from_utf8_lossy(&last.text).into_owned()
}

const LINK: &str = "UDP { IPv4_address 10.0.0.1 IPv4_Destination_Address 10.0.0.2 \
                    Port 3780 Interface eth0 }";

#[test]
fn an_empty_file_is_a_configuration() {
    assert_eq!(config(""), Ok(Config::default()));
}

#[test]
fn a_link_without_any_address_is_refused() {
    for kind in ["UDP", "TCP"] {
        for address in ["", "IPv4_address 08.1.1.1", "IPv6_address 10.0.0.1"] {
            let text = format!("Sync {{ {kind} {{ {address} Port 3780 Interface eth0 }} }}");
            let said = config(&text).expect_err(&text).to_string();
            let expected = "can't open channel socket: Address family not supported by protocol";
            assert_eq!(said, expected, "{text}");
        }
        // One is enough.
        for address in ["IPv4_address 10.0.0.1", "IPv6_Destination_Address fd00::1"] {
            let text = format!("Sync {{ {kind} {{ {address} Port 3780 Interface eth0 }} }}");
            assert!(config(&text).is_ok(), "{text}");
        }
    }
}

#[test]
fn the_engine_section_is_read() {
    let text = "Engine {\n Shards 4 # four\n CPUs 0,2-4\n Intake filter\n IntakeBuffer 65536\n \
                Linger 0\n EventsSysctl off\n}\n";
    let config = config(text).expect("a configuration");
    assert_eq!(config.engine.shards, Some(4));
    assert_eq!(config.engine.cpus, [0, 2, 3, 4]);
    assert_eq!(config.engine.intake, Intake::Filter);
    assert_eq!(config.engine.intake_buffer_bytes, Some(65_536));
    assert_eq!(config.engine.linger_us, 0);
    assert!(!config.events.set_events_sysctl);
    // Nothing after the list is swallowed by it.
    assert_eq!(settings("Engine { CPUs 7 Linger 5 }").engine.linger_us, 5);
}

#[test]
fn the_engine_section_names_what_is_wrong() {
    assert_eq!(error("Engine { Shards 0 }"), "`Shards' must be [1, 64]");
    assert_eq!(error("Engine { Shards 65 }"), "`Shards' must be [1, 64]");
    assert_eq!(error("Engine { Intake fast }"), "unknown intake `fast'");
    assert!(error("Engine { CPUs 5-2 }").starts_with("`CPUs' must be"));
    assert!(error("Engine { CPUs 0-99999 }").starts_with("`CPUs' must be"));
    assert!(error("Engine { IntakeBuffer 1 }").starts_with("`IntakeBuffer' must be"));
    assert!(error("Engine { Linger 1000001 }").starts_with("`Linger' must be"));
    let syntax = |line, symbol| {
        format!("parsing config file in line ({line}), symbol '{symbol}': syntax error")
    };
    assert_eq!(error("Engine {\n CPUs 1,\n}"), syntax(3, "}"));
    assert_eq!(error("Engine {\n shards 1\n}"), syntax(2, "shards"));
    // Our words are reserved nowhere else, and theirs are not ours.
    settings("Sync { Options { ExpectationSync { Engine Shards Linger } } }");
    assert_eq!(error("Engine { HashSize 1 }"), syntax(1, "HashSize"));
}

#[test]
fn what_the_engine_cannot_do_is_refused_by_name_and_line() {
    let text = "Helper {\n\n Type ftp inet tcp { }\n Type tns inet tcp { }\n}";
    let refusal = config(text).expect_err("there are helpers");
    let place = Place { line: 3, column: 2 };
    assert_eq!(refusal, Refusal::Helper { name: "ftp".into(), place });
    let told = "this version runs no user-space helpers: `Type ftp' in line 3";
    assert_eq!(refusal.to_string(), told);
    // Switched off again, or beaten by another block, they are no reason to refuse.
    let off = "Sync { Mode NOTRACK { DisableInternalCache on DisableInternalCache off }";
    config(&format!("{off} {LINK} }}")).expect("a configuration");
    config(&format!("Sync {{ Mode ALARM {{ }} Mode FTFW {{ }} {LINK} }}")).expect("FT-FW");
}

#[test]
fn a_list_of_networks_may_be_long() {
    let count = 300_000_u32;
    let mut text = String::from("General {\n Filter {\n Address Ignore {\n");
    for n in 0..count {
        // Each twice, the second time as an address of IPv6.
        text += &format!("IPv4_address {}/24\n", std::net::Ipv4Addr::from(n << 8));
        text += &format!("IPv6_address {}\n", std::net::Ipv6Addr::from(u128::from(n)));
    }
    text += "IPv4_address 0.0.1.0/24\nIPv6_address ::1\n}\n}\n}\n";
    let began = std::time::Instant::now();
    let Reading { settings, diagnostics, outline, .. } = read(&text);
    assert!(outline.repeated().is_empty());
    let (_, networks) = settings.expect("settings").filter.addresses.expect("a list");
    assert_eq!(networks.len(), 2 * count as usize);
    assert_eq!(diagnostics.len(), 1, "{diagnostics:?}");
    // A look at all before it for each would take minutes.
    assert!(began.elapsed() < std::time::Duration::from_secs(20), "{:?}", began.elapsed());
}

#[test]
fn everything_reaches_the_engine() {
    let text = "General {\n HashLimit 1000\n NetlinkBufferSize 4096\n \
        NetlinkBufferSizeMaxGrowth 8192\n NetlinkOverrunResync off\n NetlinkEventsReliable on\n \
        UNIX { Path /run/ctl }\n Filter From Kernelspace {\n Protocol Accept { TCP icmp TCP }\n \
        Address Ignore { IPv4_address 10.0.0.0/8 IPv6_address ::/0 IPv4_address 0.0.0.0/0 \
        IPv6_address ::/0 }\n State Accept { ESTABLISHED CLOSED CLOSE for TCP LISTEN for TCP }\n \
        } }\n Sync {\n Mode FTFW { ResendQueueSize 7 ACKWindowSize 8 DisableExternalCache off \
        StartupResync off CommitTimeout 9 }\n \
        UDP { IPv4_address 10.0.0.1 IPv4_Destination_Address 10.0.0.2 Port 3780 Interface eth0 }\n \
        UDP Default { IPv6_address fe80::1 IPv6_Destination_Address fe80::2 Port 70000 \
        Interface eth1 Checksum off SndSocketBuffer 5 RcvSocketBuffer 6 }\n \
        Options { TCPWindowTracking on ExpectationSync { ftp h323 ftp } } }";
    let config = config(text).expect("a configuration");
    assert_eq!(config.hash_limit, 1000);
    assert_eq!(config.events.buffer_bytes, Some(4096));
    assert_eq!(config.events.overrun_resync_secs, None);
    assert!(config.events.reliable && config.filter.kernelspace);
    assert_eq!(config.filter.protocols, Some((Policy::Accept, vec![6, 1])));
    assert_eq!(config.filter.tcp_states, Some((Policy::Accept, vec![3, 8, 9])));
    // The original takes ::/0 for a repeated network and leaves it out.
    let network = |text: &str, prefix| {
        let address: IpAddr = text.parse().expect("an address");
        Network { address, prefix }
    };
    let networks = vec![network("10.0.0.0", 8), network("::", 0), network("0.0.0.0", 0)];
    assert_eq!(config.filter.addresses, Some((Policy::Ignore, networks)));
    let sync = config.sync.expect("replication");
    assert_eq!(sync.mode, SyncMode::Ftfw { ack_window: 8, resend_queue: 7 });
    assert_eq!(sync.commit_timeout_secs, Some(9));
    assert!(!sync.startup_resync && sync.tcp_window_tracking && sync.default_link == 1);
    let helpers = vec!["ftp".to_owned(), "h323".to_owned()];
    assert_eq!(sync.expectations, Expectations::Helpers(helpers));
    let [first, second] = &sync.links[..] else { panic!("two links") };
    assert!(first.checksum && !second.checksum);
    assert_eq!((second.send_buffer_bytes, second.receive_buffer_bytes), (5, 6));
    let LinkKind::Udp { local, peer, port } = &second.kind else { panic!("UDP") };
    assert_eq!((local.to_string(), peer.to_string()), ("fe80::1".into(), "fe80::2".into()));
    assert_eq!(*port, 4464);
}

#[test]
fn a_network_that_can_not_be_is_named_as_it_was_read() {
    for (written, named) in
        [("1.2.3.4/033", "1.2.3.4/33"), ("1.2.3.4/99999999999", "1.2.3.4/1215752191")]
    {
        let reading = read(&format!(
            "General {{ Filter {{ Address Accept {{ IPv4_address {written} }} }} }}"
        ));
        let told = format!("{named} is not a valid network, ignoring");
        assert_eq!(reading.diagnostics[0].text, told.as_bytes(), "{written}");
    }
}

#[test]
fn facilities_have_the_numbers_of_syslog() {
    let of = |word: &str| {
        let settings = settings(&format!("General {{ Syslog {word} }} Stats {{ Syslog {word} }}"));
        let stats = settings.stats.expect("the section").value.syslog;
        assert_eq!(settings.syslog, stats, "{word}");
        settings.syslog
    };
    for number in 0..8 {
        assert_eq!(of(&format!("local{number}")), Some(Facility(16 + number)));
    }
    assert_eq!((of("daemon"), of("on"), of("Yes")), (Some(Facility(3)), of("daemon"), of("on")));
    for word in ["off", "no", "local8", "local", "Local0", "user", "mail"] {
        assert_eq!(of(word), None, "{word}");
    }
}

#[test]
fn log_files_switched_off_again_are_off() {
    // In the original `off` has no effect.
    let log = |lines: &str| settings(&format!("General {{ {lines} }}")).log_file;
    assert_eq!(log("LogFile on LogFile /a"), Some("/a".into()));
    assert_eq!(log("LogFile /a LogFile off"), None);
    let flows = |lines: &str| {
        let stats = settings(&format!("Stats {{ {lines} }}")).stats.expect("the section");
        stats.value.log_file
    };
    assert_eq!(flows("LogFile off LogFile /a"), Some("/a".into()));
    assert_eq!(flows("LogFile /a LogFile off"), None);
}

#[test]
fn expectations_switched_off_again_are_off() {
    // The original dies of it.
    let text = format!("Sync {{ Options {{ ExpectationSync on ExpectationSync off }} {LINK} }}");
    let sync = config(&text).expect("a configuration").sync.expect("replication");
    assert_eq!(sync.expectations, Expectations::Off);
}

#[test]
fn bytes_that_end_the_file_for_the_original_are_errors_here() {
    let reading = conf::read(b"\xef\xbb\xbfGeneral { }", &Machine);
    let text = b"parsing config file in line (1), symbol '\xef': syntax error";
    assert_eq!(reading.diagnostics.last().expect("an error").text, text);
    let reading = conf::read(b"General { }\n\0", &Machine);
    let text = b"parsing config file in line (2), symbol '': syntax error";
    assert_eq!(reading.diagnostics.last().expect("an error").text, text);
}

#[test]
fn types_in_types_do_not_exhaust_the_stack() {
    let text = format!("Helper {{ {} ", "Type ftp inet tcp { ".repeat(20_000));
    assert!(error(&text).contains("symbol ''"));
}

proptest! {
    #[test]
    fn any_bytes_are_read_to_an_end(file in proptest::collection::vec(any::<u8>(), 0..300)) {
        let reading = conf::read(&file, &Machine);
        if let Some(settings) = &reading.settings {
            let _ = convert(settings, &Machine);
        }
    }

    #[test]
    fn any_words_are_read_to_an_end(
        words in proptest::collection::vec(
            proptest::sample::select(vec![
                "General", "Sync", "Engine", "{", "}", "UDP", "Mode", "FTFW", "CPUs", "1", "-2",
                ",", "Filter", "Address", "Ignore", "IPv4_address", "10.0.0.0/8", "::/0", "Type",
                "Helper", "ftp", "inet", "tcp", "on", "/x", "#", "\n", "IPv6_address", "1::::2",
            ]),
            0..60,
        )
    ) {
        let reading = conf::read(words.join(" ").as_bytes(), &Machine);
        prop_assert!(reading.settings.is_some() || !reading.diagnostics.is_empty());
    }
}

#[test]
fn the_example_starts_as_it_is() {
    let reading = read(include_str!("../dist/conntrackd.conf"));
    assert!(reading.diagnostics.is_empty(), "{:?}", reading.diagnostics);
    let config = convert(&reading.settings.unwrap(), &Machine).unwrap();
    let sync = config.sync.unwrap();
    assert!(matches!(sync.mode, SyncMode::Ftfw { .. }));
    assert_eq!(sync.expectations, Expectations::All);
    assert!(matches!(sync.links[0].kind, LinkKind::Udp { port: 3780, .. }));
}
