//! A link between two nodes that repeats, reorders, loses and forges datagrams, by a seed.
//!
//! Each node is wired to a namespace in which the relay has the address of the other, so the nodes
//! are configured as if they were joined directly.

use std::io::ErrorKind;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_recv_buffer_size_force};

use crate::netns::Netns;
use crate::peer::{Node, Pair, SYNC_DEVICE, Setup, sync_address};
use crate::random::Random;

/// What happens to a datagram, in thousandths. May be changed while the relay works.
#[derive(Debug, Default)]
pub struct Faults {
    /// It never arrives.
    pub lost: AtomicU32,
    /// It arrives twice.
    pub repeated: AtomicU32,
    /// It arrives after the one behind it.
    pub late: AtomicU32,
    /// Changed copies that arrive before each, a number and no thousandth.
    pub forged: AtomicU32,
}

/// What the relay did.
#[derive(Debug, Default)]
pub struct Work {
    /// Datagrams that came.
    pub came: AtomicU64,
    /// Changed copies that were sent.
    pub forged: AtomicU64,
}

/// Two nodes with the relay between them.
#[derive(Debug)]
pub struct Relay {
    /// What happens to what node 1 sends, and to what node 2 sends.
    pub faults: [Arc<Faults>; 2],
    /// What was done to what node 1 sent, and node 2.
    pub work: [Arc<Work>; 2],
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    // Declared last: the namespaces go after the threads.
    _ends: [Netns; 2],
}

impl Relay {
    /// Two nodes over UDP that do not run yet, joined by a relay that does nothing but pass on.
    ///
    /// # Panics
    /// If the relay cannot be built.
    pub fn between(a: Setup, b: Setup, seed: u64) -> (Pair, Self) {
        let port = a.port;
        let pair = Pair { a: Node::new(1, a), b: Node::new(2, b) };
        // The end that node 1 is wired to has the address of node 2.
        let ends = [Netns::new("relay-a"), Netns::new("relay-b")];
        let mut sockets = Vec::new();
        for ((node, end), other) in [&pair.a, &pair.b].into_iter().zip(&ends).zip([2, 1]) {
            let own = format!("{}/24", sync_address(node.index));
            let others = format!("{}/24", sync_address(other));
            Netns::wire((&node.ns, SYNC_DEVICE, &[&own]), (end, "wire0", &[&others]));
            let address = (sync_address(other), port);
            let socket = end.enter(|| UdpSocket::bind((address.0.as_str(), address.1)));
            let socket = socket.expect("the address was just set");
            let size = 16 << 20;
            if set_socket_recv_buffer_size_force(&socket, size).is_err() {
                let _ = set_socket_recv_buffer_size(&socket, size);
            }
            let limit = Some(Duration::from_millis(20));
            socket.set_read_timeout(limit).expect("a socket option");
            sockets.push(socket);
        }
        let mut relay = Self {
            faults: [Arc::default(), Arc::default()],
            work: [Arc::default(), Arc::default()],
            stop: Arc::default(),
            threads: Vec::new(),
            _ends: ends,
        };
        for (index, to) in [(0, 2), (1, 1)] {
            let way = Way {
                from: sockets[index].try_clone().expect("a socket can be cloned"),
                to: sockets[1 - index].try_clone().expect("a socket can be cloned"),
                address: (sync_address(to), port),
                faults: relay.faults[index].clone(),
                work: relay.work[index].clone(),
                random: Random::new(seed ^ index as u64),
                held: None,
            };
            let stop = relay.stop.clone();
            relay.threads.push(std::thread::spawn(move || way.run(&stop)));
        }
        (pair, relay)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// One direction.
struct Way {
    from: UdpSocket,
    to: UdpSocket,
    address: (String, u16),
    faults: Arc<Faults>,
    work: Arc<Work>,
    random: Random,
    held: Option<Vec<u8>>,
}

impl Way {
    fn run(mut self, stop: &AtomicBool) {
        let mut buffer = vec![0; 65_536];
        while !stop.load(Ordering::Relaxed) {
            match self.from.recv(&mut buffer) {
                Ok(length) => self.pass(&buffer[..length]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock) => self.release(),
                // The other node does not listen at the moment.
                Err(_) => {}
            }
        }
    }

    fn pass(&mut self, datagram: &[u8]) {
        let faults = self.faults.clone();
        let permille = |fault: &AtomicU32| fault.load(Ordering::Relaxed);
        self.work.came.fetch_add(1, Ordering::Relaxed);
        for _ in 0..permille(&faults.forged) {
            let mut forged = datagram.to_vec();
            self.random.mutate(&mut forged);
            self.send(&forged);
            self.work.forged.fetch_add(1, Ordering::Relaxed);
        }
        if self.random.chance(permille(&faults.lost)) {
            return;
        }
        if self.held.is_none() && self.random.chance(permille(&faults.late)) {
            self.held = Some(datagram.to_vec());
            return;
        }
        self.send(datagram);
        if self.random.chance(permille(&faults.repeated)) {
            self.send(datagram);
        }
        self.release();
    }

    fn release(&mut self) {
        if let Some(held) = self.held.take() {
            self.send(&held);
        }
    }

    fn send(&self, datagram: &[u8]) {
        // A node that is down refuses; a forged datagram may be too long.
        let _ = self.to.send_to(datagram, (self.address.0.as_str(), self.address.1));
    }
}
