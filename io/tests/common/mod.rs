//! Namespaces of their own for tests, and requests to the kernel in plain octets.

#![allow(dead_code, reason = "each test binary uses its share")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(unsafe_code, reason = "leaving the namespace of the process takes it")]

use std::io::Write as _;

use io::RequestSocket;

/// Runs a test on a thread inside a network namespace of its own, or says that it cannot.
pub(crate) fn in_namespace(name: &str, test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(|| {
        // SAFETY: the thread shares no descriptor table or working directory assumption that a
        // network namespace could change.
        let left = unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) };
        if left.is_ok() {
            test();
        }
        left
    });
    match thread.join() {
        Ok(Ok(())) => {}
        Ok(Err(error)) => skip(name, &format!("no network namespace: {error}")),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Says past the capture of the test runner that a test was not run.
pub(crate) fn skip(name: &str, reason: &str) {
    let _ = std::io::stderr().write_all(format!("SKIPPED {name}: {reason}\n").as_bytes());
}

/// Brings the loopback device of the thread's namespace up.
pub(crate) fn loopback(name: &str) -> bool {
    let done = std::process::Command::new("ip").args(["link", "set", "lo", "up"]).status();
    let works = done.is_ok_and(|status| status.success());
    if !works {
        skip(name, "no ip command");
    }
    works
}

/// A message being written.
pub(crate) struct Writer(pub(crate) Vec<u8>);

impl Writer {
    pub(crate) fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.0.extend((value.len() as u16 + 4).to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    pub(crate) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let start = self.0.len();
        self.attribute(kind | 0x8000, &[]);
        fill(self);
        let length = (self.0.len() - start) as u16;
        self.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    }
}

/// What a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) v6: bool,
    pub(crate) protocol: u8,
    pub(crate) index: u32,
}

impl Key {
    pub(crate) fn tuple(self) -> proto_ctnl::Tuple {
        use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
        let ports = self.ports().unwrap_or((0, 0));
        let l4 = proto_ctnl::L4::ports(ports.0, ports.1);
        let (src, dst) = if self.v6 {
            let src = Ipv6Addr::from(0x2001_0db8_u128 << 96 | u128::from(self.index) << 16);
            (IpAddr::V6(src), IpAddr::V6("2001:db8:ffff::2".parse().unwrap()))
        } else {
            (
                IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + self.index)),
                IpAddr::V4(Ipv4Addr::new(192, 0, 2, 9)),
            )
        };
        proto_ctnl::Tuple { src, dst, proto: self.protocol, l4 }
    }

    pub(crate) fn ports(self) -> Option<(u16, u16)> {
        matches!(self.protocol, 6 | 17 | 132).then_some((1024 + self.index as u16 % 40000, 53))
    }

    fn write(self, w: &mut Writer, reply: bool) {
        let tuple = self.tuple();
        let (mut from, mut to) = (tuple.src, tuple.dst);
        let mut ports = self.ports();
        if reply {
            (from, to) = (to, from);
            ports = ports.map(|(a, b)| (b, a));
        }
        w.nest(if reply { 2 } else { 1 }, |w| {
            w.nest(1, |w| match (from, to) {
                (std::net::IpAddr::V4(from), std::net::IpAddr::V4(to)) => {
                    w.attribute(1, &from.octets());
                    w.attribute(2, &to.octets());
                }
                (std::net::IpAddr::V6(from), std::net::IpAddr::V6(to)) => {
                    w.attribute(3, &from.octets());
                    w.attribute(4, &to.octets());
                }
                _ => unreachable!(),
            });
            w.nest(2, |w| {
                w.attribute(1, &[self.protocol]);
                if let Some((a, b)) = ports {
                    w.attribute(2, &a.to_be_bytes());
                    w.attribute(3, &b.to_be_bytes());
                }
            });
        });
    }
}

/// A request of the conntrack subsystem.
pub(crate) fn request(
    kind: u8,
    flags: u16,
    seq: u32,
    family: u8,
    fill: impl FnOnce(&mut Writer),
) -> Vec<u8> {
    let mut w = Writer(vec![0; 20]);
    w.0[4] = kind;
    w.0[5] = 1;
    w.0[6..8].copy_from_slice(&flags.to_ne_bytes());
    w.0[8..12].copy_from_slice(&seq.to_ne_bytes());
    w.0[16] = family;
    fill(&mut w);
    let length = w.0.len() as u32;
    w.0[..4].copy_from_slice(&length.to_ne_bytes());
    w.0
}

/// The request that makes a flow.
pub(crate) fn create(key: Key, seq: u32) -> Vec<u8> {
    // REQUEST | CREATE | EXCL
    request(0, 0x601, seq, if key.v6 { 10 } else { 2 }, |w| {
        key.write(w, false);
        key.write(w, true);
        w.attribute(3, &0x0eu32.to_be_bytes());
        w.attribute(7, &300u32.to_be_bytes());
        if key.protocol == 6 {
            w.nest(4, |w| w.nest(1, |w| w.attribute(1, &[3])));
        }
    })
}

/// The request that changes a flow's timeout and mark, which makes an event.
pub(crate) fn update(key: Key, seq: u32, mark: u32) -> Vec<u8> {
    request(0, 0x1, seq, if key.v6 { 10 } else { 2 }, |w| {
        key.write(w, false);
        w.attribute(8, &mark.to_be_bytes());
    })
}

/// The request that removes a flow.
pub(crate) fn delete(key: Key, seq: u32) -> Vec<u8> {
    request(2, 0x1, seq, if key.v6 { 10 } else { 2 }, |w| key.write(w, false))
}

/// Sends requests in batches and checks that the kernel took them all.
pub(crate) fn apply(socket: &RequestSocket, requests: &[Vec<u8>]) {
    let mut buffer = [0; 8192];
    for batch in requests.chunks(50) {
        let mut bytes = batch.concat();
        let last = bytes.len() - batch.last().unwrap().len();
        // ACK on the last one: errors come in any case, and before.
        bytes[last + 6] |= 4;
        socket.send(&bytes).unwrap();
        let answer = socket.receive(&mut buffer).unwrap();
        let error = i32::from_ne_bytes(buffer[16..20].try_into().unwrap());
        assert_eq!((buffer[4], error), (2, 0), "{answer:?}");
    }
}

/// Flows of all kinds.
pub(crate) fn keys(count: u32) -> Vec<Key> {
    let protocols = [6, 17, 132, 50, 89];
    (0..count)
        .map(|index| Key {
            v6: index % 2 == 1,
            protocol: protocols[index as usize / 2 % protocols.len()],
            index,
        })
        .collect()
}

/// Makes a flow with a helper; `false` if the kernel does not have the helper.
pub(crate) fn create_with_helper(socket: &RequestSocket, key: Key, helper: &str) -> bool {
    let mut bytes = create(key, 0);
    let mut w = Writer(Vec::new());
    w.nest(5, |w| w.attribute(1, format!("{helper}\0").as_bytes()));
    bytes.extend(w.0);
    let length = bytes.len() as u32;
    bytes[..4].copy_from_slice(&length.to_ne_bytes());
    bytes[6] |= 4;
    socket.send(&bytes).unwrap();
    let mut buffer = [0; 8192];
    socket.receive(&mut buffer).unwrap();
    i32::from_ne_bytes(buffer[16..20].try_into().unwrap()) == 0
}

/// The request that makes an expectation: `expected` with any source port, for 300 seconds.
pub(crate) fn expect(master: Key, expected: Key) -> Vec<u8> {
    let mut bytes = request(0, 0x601, 0, 2, |w| {
        let tuple = |w: &mut Writer, kind: u16, key: Key, mask: bool| {
            let t = key.tuple();
            let std::net::IpAddr::V4(src) = t.src else { unreachable!() };
            let std::net::IpAddr::V4(dst) = t.dst else { unreachable!() };
            let (src, dst) = if mask { ([255; 4], [255; 4]) } else { (src.octets(), dst.octets()) };
            let (a, b) = if mask { (0, 0xffff) } else { key.ports().unwrap() };
            w.nest(kind, |w| {
                w.nest(1, |w| {
                    w.attribute(1, &src);
                    w.attribute(2, &dst);
                });
                w.nest(2, |w| {
                    w.attribute(1, &[key.protocol]);
                    w.attribute(2, &u16::to_be_bytes(a));
                    w.attribute(3, &u16::to_be_bytes(b));
                });
            });
        };
        tuple(w, 1, master, false);
        tuple(w, 2, expected, false);
        tuple(w, 3, expected, true);
        w.attribute(4, &300u32.to_be_bytes());
    });
    bytes[5] = 2;
    bytes
}
