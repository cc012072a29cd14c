//! The machines of the recorded runs, and the traffic through them.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};

use rustix::net::{AddressFamily, SendFlags, SocketType, bind, connect, ipproto, sendto, socket};
use shardtrack_tests::netns::Netns;

use super::LIMIT;

const PASV: (&[u8], &[u8]) = (b"PASV\r\n", b"227 Entering Passive Mode (10,2,0,2,156,64).\r\n");
const RULES: &str = r#"
table inet a {
	ct helper ftp { type "ftp" protocol tcp; }
	chain help {
		type filter hook prerouting priority 0;
		meta nfproto ipv4 tcp dport 21 ct helper set "ftp"
		udp dport 5353 ct mark set 7
	}
	chain source {
		type nat hook postrouting priority srcnat;
		meta nfproto ipv4 tcp dport 8080 masquerade
	}
}
"#;

/// The namespaces of a run.
pub(super) struct Stage {
    client: Netns,
    pub(super) a: Netns,
    server: Netns,
    pub(super) b: Netns,
}

impl Stage {
    pub(super) fn new() -> Self {
        let [client, a, server, b] = ["client", "a", "server", "b"].map(Netns::new);
        Netns::wire(
            (&client, "port", &["10.1.0.2/24", "2001:db8:1::2/64"]),
            (&a, "in0", &["10.1.0.1/24", "2001:db8:1::1/64"]),
        );
        Netns::wire(
            (&server, "port", &["10.2.0.2/24", "2001:db8:2::2/64"]),
            (&a, "out0", &["10.2.0.1/24", "2001:db8:2::1/64"]),
        );
        for (device, net) in [("sync0", "192.0.2"), ("sync1", "198.51.100")] {
            let [of_a, of_b] = [1, 2].map(|host| format!("{net}.{host}/24"));
            Netns::wire((&a, device, &[&of_a]), (&b, device, &[&of_b]));
        }
        for (end, side) in [(&client, 1), (&server, 2)] {
            end.ip(&format!("route add default via 10.{side}.0.1"));
            end.ip(&format!("-6 route add default via 2001:db8:{side}::1"));
        }
        a.sysctl("net/ipv4/ip_forward", 1);
        a.sysctl("net/ipv6/conf/all/forwarding", 1);
        a.nft(RULES);
        b.nft("table inet b {\nchain c {\ntype nat hook postrouting priority srcnat\n}\n}\n");
        for node in [&a, &b] {
            node.sysctl("net/netfilter/nf_conntrack_acct", 1);
        }
        Self { client, a, server, b }
    }

    /// A connection from a port of the client, and the server's end of it.
    fn connection(&self, port: u16, to: &str) -> [TcpStream; 2] {
        let listener = self.server.enter(|| TcpListener::bind(to).expect("a free port"));
        let to: SocketAddr = to.parse().expect("an address with its port");
        let (family, from) = match to {
            SocketAddr::V4(_) => (AddressFamily::INET, format!("10.1.0.2:{port}")),
            SocketAddr::V6(_) => (AddressFamily::INET6, format!("[2001:db8:1::2]:{port}")),
        };
        let from: SocketAddr = from.parse().expect("an address with its port");
        let here = self.client.enter(|| {
            let here = socket(family, SocketType::STREAM, None).expect("a socket");
            bind(&here, &from).expect("a free port");
            connect(&here, &to).expect("the way is open");
            TcpStream::from(here)
        });
        let (there, _) = listener.accept().expect("the client is there");
        for end in [&here, &there] {
            end.set_read_timeout(Some(LIMIT)).expect("a fresh socket");
        }
        [here, there]
    }

    /// The traffic of every run, in its order. What stays open is returned.
    pub(super) fn traffic(&self) -> Vec<[TcpStream; 2]> {
        let mut open = Vec::new();
        for (port, to, length) in [(40001, "10.2.0.2:5001", 100), (40002, "10.2.0.2:8080", 50)] {
            let mut ends = self.connection(port, to);
            exchange(&mut ends, &vec![b'x'; length], &vec![b'x'; length]);
            open.push(ends);
        }
        let mut ends = self.connection(40003, "10.2.0.2:21");
        exchange(&mut ends, b"USER x\r\n", b"331 need password\r\n");
        exchange(&mut ends, PASV.0, PASV.1);
        open.push(ends);
        let mut ends = self.connection(40004, "[2001:db8:2::2]:5006");
        exchange(&mut ends, b"0123456789", b"0123456789");
        open.push(ends);
        self.datagrams();
        let mut ends = self.connection(40006, "10.2.0.2:5002");
        exchange(&mut ends, b"end", b"end");
        close(ends);
        self.echo();
        open
    }

    /// A question over UDP and its answer.
    fn datagrams(&self) {
        let server = self.server.enter(|| UdpSocket::bind("10.2.0.2:5353").expect("a free port"));
        let client = self.client.enter(|| UdpSocket::bind("10.1.0.2:40005").expect("a free port"));
        for socket in [&server, &client] {
            socket.set_read_timeout(Some(LIMIT)).expect("a fresh socket");
        }
        client.send_to(&[b'x'; 30], "10.2.0.2:5353").expect("room");
        let (_, from) = server.recv_from(&mut [0; 64]).expect("the question");
        server.send_to(&[b'x'; 30], from).expect("room");
        client.recv_from(&mut [0; 64]).expect("the answer");
    }

    /// One ICMP echo with identity 4242; the kernel of the server answers it.
    fn echo(&self) {
        let mut message = [0; 18];
        message[0] = 8;
        message[4..6].copy_from_slice(&4242u16.to_be_bytes());
        message[7] = 1;
        let words = message.chunks(2).map(|word| u16::from_be_bytes([word[0], word[1]]));
        let sum = words.fold(0u16, |sum, word| {
            let (sum, carry) = sum.overflowing_add(word);
            sum + u16::from(carry)
        });
        message[2..4].copy_from_slice(&(!sum).to_be_bytes());
        let to: SocketAddr = "10.2.0.2:0".parse().expect("an address");
        self.client.enter(|| {
            let raw = socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::ICMP));
            let raw = raw.expect("root may have a raw socket");
            sendto(&raw, &message, SendFlags::empty(), &to).expect("room");
        });
    }
}

fn exchange([here, there]: &mut [TcpStream; 2], question: &[u8], answer: &[u8]) {
    let say = |from: &mut TcpStream, to: &mut TcpStream, text: &[u8]| {
        from.write_all(text).expect("it is connected");
        to.read_exact(&mut vec![0; text.len()]).expect("it is connected");
    };
    say(here, there, question);
    say(there, here, answer);
}

/// The client ends it first.
pub(super) fn close([here, mut there]: [TcpStream; 2]) {
    drop(here);
    let end = there.read(&mut [0; 8]).expect("it is connected");
    assert_eq!(end, 0, "nothing was said");
}
