//! The attributes of what is in a kernel's tables, each as text under a name. They are taken out
//! of the kernel's messages without the crates under test.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use shardtrack_tests::kernel::Kernel;
use shardtrack_tests::snapshot::walk;

/// A flow or an expectation.
#[derive(Clone, Debug, Default)]
pub(crate) struct Object {
    /// The protocol of a flow, or `expectation`.
    pub(crate) kind: &'static str,
    pub(crate) attributes: BTreeMap<&'static str, String>,
}

impl Object {
    pub(crate) fn get(&self, attribute: &str) -> Option<&str> {
        self.attributes.get(attribute).map(String::as_str)
    }

    fn put(&mut self, attribute: &'static str, value: impl Into<String>) {
        self.attributes.insert(attribute, value.into());
    }
}

/// Objects by what tells them apart on either node.
pub(crate) type Objects = BTreeMap<String, Object>;

/// Status bits and their names; each is an attribute that a flow has or not.
const STATUS: [(u32, &str); 9] = [
    (0x1, "expected"),
    (0x2, "seen reply"),
    (0x4, "assured"),
    (0x8, "confirmed"),
    (0x10, "source translated"),
    (0x20, "destination translated"),
    (0x40, "sequence numbers adjusted"),
    (0x400, "fixed timeout"),
    (0x2000, "helped"),
];

/// All flows.
pub(crate) fn flows(kernel: &mut Kernel) -> Objects {
    let mut objects = Objects::new();
    kernel.read(
        |batch| batch.dump(),
        |bytes| {
            let (key, object) = flow(bytes);
            let twin = objects.insert(key.clone(), object);
            assert!(twin.is_none(), "two flows are {key}");
        },
    );
    objects
}

/// All expectations.
pub(crate) fn expectations(kernel: &mut Kernel) -> Objects {
    let mut objects = Objects::new();
    kernel.read(
        |batch| batch.dump_expectations(),
        |bytes| {
            let object = expectation(bytes);
            let key = ["master", "expected tuple"].map(|name| object.attributes[name].clone());
            objects.insert(key.join(" < "), object);
        },
    );
    objects
}

fn flow(bytes: &[u8]) -> (String, Object) {
    let mut flow = Object::default();
    let mut zone = String::from("0");
    for (number, value) in walk(bytes) {
        match number {
            1 => {
                let names = ["original addresses", "ports", "keys", "ICMP type, code and id"];
                flow.kind = tuple(value, names, &mut flow);
            }
            2 => {
                let names = [
                    "reply addresses",
                    "reply ports",
                    "reply keys",
                    "reply ICMP type, code and id",
                ];
                tuple(value, names, &mut flow);
            }
            3 => status(value, &mut flow),
            4 => protocol(value, &mut flow),
            5 => {
                for (inner, value) in walk(value) {
                    flow.put(if inner == 1 { "helper" } else { "helper data" }, text(value));
                }
            }
            7 => flow.put("timeout", decimal(value)),
            8 => flow.put("mark", decimal(value)),
            9 | 10 => flow.put("counters", hex(value) + flow.get("counters").unwrap_or_default()),
            12 => flow.put("identifier", hex(value)),
            14 => flow.put("master", hex(value)),
            15 | 16 => {
                let before = flow.get("sequence adjustment").unwrap_or_default().to_owned();
                flow.put("sequence adjustment", before + " " + &hex(value));
            }
            17 => flow.put("security mark", hex(value)),
            18 => {
                zone = decimal(value);
                flow.put("zone", zone.clone());
            }
            19 => flow.put("security context", hex(value)),
            20 => flow.put("start time", hex(value)),
            22 => flow.put("labels", hex(value)),
            24 => flow.put("SYN proxy", hex(value)),
            // How many parts of the kernel look at the entry just now.
            11 => {}
            other => panic!("the kernel tells attribute {other} of a flow: name it here"),
        }
    }
    // A mark of zero is none, and so are labels of which none is set.
    for name in ["mark", "labels", "SYN proxy"] {
        if flow.get(name).is_some_and(is_empty) {
            flow.attributes.remove(name);
        }
    }
    // The keys and ports that are lost tell nothing apart; the test makes no such twins.
    let apart = match flow.kind {
        "gre" | "udplite" => "",
        _ => flow.get("ports").or_else(|| flow.get("ICMP type, code and id")).unwrap_or_default(),
    };
    (format!("{} {} {apart} zone {zone}", flow.kind, flow.attributes["original addresses"]), flow)
}

/// Whether a value says what its absence says.
fn is_empty(value: &str) -> bool {
    // Of a nest, the headers of its three numbers are no value.
    let headers = ["08000100", "08000200", "08000300"];
    let bare = headers.iter().fold(value.to_owned(), |text, header| text.replacen(header, "", 1));
    bare.bytes().all(|digit| digit == b'0')
}

/// Puts the parts of a tuple under `names`: addresses, ports, keys, what ICMP has. Gives the kind.
fn tuple(bytes: &[u8], names: [&'static str; 4], flow: &mut Object) -> &'static str {
    let [addresses, ports, keys, icmp] = names;
    let (mut number, mut words) = (0, String::new());
    for (part, value) in walk(bytes) {
        match part {
            1 => {
                let both: Vec<_> = walk(value).map(|(_, address)| hex(address)).collect();
                flow.put(addresses, both.join(" > "));
            }
            2 => {
                for (inner, value) in walk(value) {
                    if inner == 1 {
                        number = value[0];
                    } else {
                        let _ = write!(words, "{} ", hex(value));
                    }
                }
            }
            _ => {
                let before = flow.get("zone of one direction").unwrap_or_default().to_owned();
                flow.put("zone of one direction", before + addresses + &decimal(value));
            }
        }
    }
    let (kind, name) = match number {
        1 => ("icmp", Some(icmp)),
        6 => ("tcp", Some(ports)),
        17 => ("udp", Some(ports)),
        33 => ("dccp", Some(ports)),
        47 => ("gre", Some(keys)),
        58 => ("icmpv6", Some(icmp)),
        132 => ("sctp", Some(ports)),
        136 => ("udplite", Some(ports)),
        _ => ("generic", None),
    };
    if let Some(name) = name.filter(|_| !words.is_empty()) {
        flow.put(name, words);
    }
    kind
}

fn status(value: &[u8], flow: &mut Object) {
    let bits = u32::from_be_bytes(value.try_into().expect("four octets"));
    for (bit, name) in STATUS {
        if bits & bit != 0 {
            flow.put(name, "yes");
        }
    }
    // The kernel has decided whether and how to translate it.
    const DECIDED: u32 = 0x80 | 0x100;
    if bits & DECIDED != 0 {
        let translated = bits & 0x30 != 0;
        let name = if translated { "translation decided" } else { "no translation decided" };
        flow.put(name, format!("{:#x}", bits & DECIDED));
    }
    let known = STATUS.iter().fold(DECIDED, |all, (bit, _)| all | bit);
    assert_eq!(bits & !known, 0, "name the status bits {bits:#x}");
}

fn protocol(value: &[u8], flow: &mut Object) {
    for (number, inner) in walk(value) {
        for (member, value) in walk(inner) {
            let name = match (number, member) {
                (1, 1) => "TCP state",
                (1, 2 | 3) => "TCP window scales",
                (1, 4 | 5) => "TCP flags",
                (3, 1) => "SCTP state",
                (3, 2 | 3) => "SCTP verification tags",
                other => panic!("the kernel tells {other:?} of a protocol: name it here"),
            };
            let before = flow.get(name).unwrap_or_default().to_owned();
            flow.put(name, before + &hex(value) + " ");
        }
    }
}

fn expectation(bytes: &[u8]) -> Object {
    let mut expect = Object { kind: "expectation", ..Object::default() };
    for (number, value) in walk(bytes) {
        match number {
            1 => expect.put("master", hex(value)),
            2 => expect.put("expected tuple", hex(value)),
            3 => expect.put("mask", hex(value)),
            4 => expect.put("timeout", decimal(value)),
            5 => expect.put("identifier", hex(value)),
            6 => expect.put("helper", text(value)),
            7 => expect.put("zone", decimal(value)),
            8 => expect.put("flags", hex(value)),
            9 => expect.put("class", hex(value)),
            10 => expect.put("translation", hex(value)),
            11 => expect.put("function", text(value)),
            other => panic!("the kernel tells attribute {other} of an expectation: name it here"),
        }
    }
    if expect.get("zone") == Some("0") {
        expect.attributes.remove("zone");
    }
    expect
}

fn hex(value: &[u8]) -> String {
    value.iter().fold(String::new(), |mut text, octet| {
        let _ = write!(text, "{octet:02x}");
        text
    })
}

fn decimal(value: &[u8]) -> String {
    value.iter().fold(0, |all: u64, octet| all << 8 | u64::from(*octet)).to_string()
}

fn text(value: &[u8]) -> String {
    let name = value.split(|octet| *octet == 0).next().unwrap_or_default();
    String::from_utf8_lossy(name).into_owned()
}
