//! The kernel's table: filled in bulk, read as it is.

use std::os::fd::OwnedFd;
use std::time::Duration;

use proto_ctnl::{Expect, Flow};
use rustix::io::Errno;
use rustix::net::sockopt::{
    Timeout, set_socket_recv_buffer_size, set_socket_recv_buffer_size_force, set_socket_timeout,
};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, netlink, recv, send,
    sendto, socket_with,
};

use crate::netns::Netns;
use crate::pace::Pace;
use crate::request::Batch;

/// Messages per send: more gains nothing, and fewer than 250 answers fit the default buffer.
const BLOCK: usize = 64;
/// The largest datagram of a dump.
const DUMP_BUFFER: usize = 32 << 10;

/// A netlink socket to the conntrack subsystem of one namespace.
#[derive(Debug)]
pub struct Kernel {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

/// A request that failed: its place in what was given, and the error.
pub type Failure = (usize, Errno);

impl Kernel {
    /// Opens a socket inside a namespace.
    ///
    /// # Panics
    /// If that is not allowed.
    pub fn of(ns: &Netns) -> Self {
        ns.enter(Self::here)
    }

    /// Opens a socket in the calling thread's namespace.
    ///
    /// # Panics
    /// If that is not allowed.
    pub fn here() -> Self {
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            Some(netlink::NETFILTER),
        )
        .expect("a netlink socket");
        bind(&socket, &netlink::SocketAddrNetlink::new(0, 0)).expect("any port will do");
        let size = 4 << 20;
        if set_socket_recv_buffer_size_force(&socket, size).is_err() {
            set_socket_recv_buffer_size(&socket, size).expect("the kernel cuts what is too much");
        }
        set_socket_timeout(&socket, Timeout::Recv, Some(Duration::from_secs(30)))
            .expect("a socket option");
        Self { socket, buffer: vec![0; DUMP_BUFFER] }
    }

    /// Does something to each of `items`, in blocks, and tells what failed. `rate` is a number per
    /// second, 0 for as fast as possible.
    ///
    /// # Panics
    /// If the kernel does not answer.
    pub fn each<T>(
        &mut self,
        items: impl IntoIterator<Item = T>,
        rate: u32,
        write: impl FnMut(&mut Batch, T),
    ) -> Vec<Failure> {
        self.each_paced(items, &mut Pace::new(rate), write)
    }

    /// Like [`Kernel::each`], at a pace that goes on from call to call.
    ///
    /// # Panics
    /// If the kernel does not answer.
    pub fn each_paced<T>(
        &mut self,
        items: impl IntoIterator<Item = T>,
        pace: &mut Pace,
        mut write: impl FnMut(&mut Batch, T),
    ) -> Vec<Failure> {
        let mut failures = Vec::new();
        let mut batch = Batch::default();
        let mut done = 0;
        let block = pace.block(BLOCK);
        let mut items = items.into_iter().peekable();
        while items.peek().is_some() {
            batch.clear();
            for item in items.by_ref().take(block) {
                write(&mut batch, item);
            }
            pace.wait(batch.messages().into());
            let last = batch.messages() - 1;
            let failed = self.submit(batch.finish(), last).into_iter();
            failures.extend(failed.map(|(index, errno)| (done + index, errno)));
            done += batch.messages() as usize;
        }
        failures
    }

    /// Sends requests whose sequence numbers end with `last`, which asks for an acknowledgement,
    /// and tells which failed, by sequence number.
    ///
    /// # Panics
    /// If the kernel does not answer.
    pub fn submit(&mut self, requests: &[u8], last: u32) -> Vec<Failure> {
        let mut failures = Vec::new();
        send(&self.socket, requests, SendFlags::empty()).expect("the kernel takes a block");
        loop {
            let (_, length) = recv(&self.socket, self.buffer.as_mut_slice(), RecvFlags::empty())
                .expect("the kernel answers");
            for message in messages(&self.buffer[..length]) {
                if message.kind != ERROR {
                    continue;
                }
                let code =
                    i32::from_ne_bytes(message.body[..4].try_into().expect("an error has a code"));
                if code != 0 {
                    let errno = Errno::from_raw_os_error(-code);
                    failures.push((message.seq as usize, errno));
                }
                // Acknowledged, or failed itself: either way the last.
                if message.seq == last {
                    return failures;
                }
            }
        }
    }

    /// Creates flows.
    ///
    /// # Panics
    /// If the kernel refuses one.
    #[track_caller]
    pub fn create(&mut self, flows: &[Flow]) {
        self.create_at(flows, 0);
    }

    /// Creates flows at a rate per second.
    ///
    /// # Panics
    /// If the kernel refuses one.
    #[track_caller]
    pub fn create_at(&mut self, flows: &[Flow], rate: u32) {
        self.create_paced(flows, &mut Pace::new(rate));
    }

    /// Creates flows at a pace.
    ///
    /// # Panics
    /// If the kernel refuses one.
    #[track_caller]
    pub fn create_paced(&mut self, flows: &[Flow], pace: &mut Pace) {
        let failures = self.each_paced(flows, pace, |batch, flow| batch.create(flow));
        none_failed("create", &failures, |index| format!("{:?}", flows[index]));
    }

    /// Updates flows at a rate per second.
    ///
    /// # Panics
    /// If the kernel refuses one.
    #[track_caller]
    pub fn update_at(&mut self, flows: &[Flow], rate: u32) {
        self.update_paced(flows, &mut Pace::new(rate));
    }

    /// Updates flows at a pace.
    ///
    /// # Panics
    /// If the kernel refuses one.
    #[track_caller]
    pub fn update_paced(&mut self, flows: &[Flow], pace: &mut Pace) {
        let failures = self.each_paced(flows, pace, |batch, flow| batch.update(flow));
        none_failed("update", &failures, |index| format!("{:?}", flows[index]));
    }

    /// Deletes flows at a rate per second.
    ///
    /// # Panics
    /// If the kernel does not know one.
    #[track_caller]
    pub fn delete_at(&mut self, flows: &[Flow], rate: u32) {
        self.delete_paced(flows, &mut Pace::new(rate));
    }

    /// Deletes flows at a pace.
    ///
    /// # Panics
    /// If the kernel does not know one.
    #[track_caller]
    pub fn delete_paced(&mut self, flows: &[Flow], pace: &mut Pace) {
        let failures =
            self.each_paced(flows, pace, |batch, flow| batch.delete(&flow.orig, flow.zone));
        none_failed("delete", &failures, |index| format!("{:?}", flows[index].orig));
    }

    /// Creates expectations.
    ///
    /// # Panics
    /// If the kernel refuses one.
    #[track_caller]
    pub fn expect(&mut self, expectations: &[Expect]) {
        let failures = self.each(expectations, 0, |batch, expect| batch.expect(expect));
        none_failed("expect", &failures, |index| format!("{:?}", expectations[index]));
    }

    /// Deletes all flows.
    pub fn flush(&mut self) {
        self.each([()], 0, |batch, ()| batch.flush());
    }

    /// Reads a table: `each` gets the attributes of every entry.
    ///
    /// # Panics
    /// If the kernel does not answer.
    pub fn read(&mut self, write: impl FnOnce(&mut Batch), mut each: impl FnMut(&[u8])) {
        // Behind the netlink header, the family, the version and the resource.
        self.read_whole(write, |message| each(&message[20..]));
    }

    /// Reads a table: `each` gets every message, from its header on.
    ///
    /// # Panics
    /// If the kernel does not answer.
    pub fn read_whole(&mut self, write: impl FnOnce(&mut Batch), mut each: impl FnMut(&[u8])) {
        let mut batch = Batch::default();
        write(&mut batch);
        send(&self.socket, batch.finish(), SendFlags::empty()).expect("the kernel takes a request");
        loop {
            let (_, length) = recv(&self.socket, self.buffer.as_mut_slice(), RecvFlags::empty())
                .expect("the kernel answers");
            for message in messages(&self.buffer[..length]) {
                match message.kind {
                    DONE => return,
                    ERROR => {
                        assert_eq!(message.body[..4], [0; 4], "the kernel refuses a dump");
                    }
                    _ => each(message.whole),
                }
            }
        }
    }

    /// Sends bytes to a multicast group, as if the kernel had.
    pub fn forge_event(&self, bytes: &[u8], group: u32) {
        // Besides the group, a message goes to a port: the kernel's, 0, would do what it says. This
        // port is nobody's.
        let groups = netlink::SocketAddrNetlink::new(NOBODY, 1 << (group - 1));
        // Refused because nobody has the port, when the group has it.
        let _ = sendto(&self.socket, bytes, SendFlags::empty(), &groups);
    }
}

#[track_caller]
fn none_failed(what: &str, failures: &[Failure], show: impl Fn(usize) -> String) {
    if let Some(&(index, errno)) = failures.first() {
        panic!(
            "{} of the kernel's answers to {what} are errors, the first {errno} (no. {index}): {}",
            failures.len(),
            show(index)
        );
    }
}

/// A port that no socket has: the kernel gives process ids, or numbers that are negative as such.
const NOBODY: u32 = 0x7fff_ffff;
const ERROR: u16 = 2;
const DONE: u16 = 3;

struct Message<'a> {
    kind: u16,
    seq: u32,
    whole: &'a [u8],
    /// Behind the netlink header.
    body: &'a [u8],
}

/// The messages of a datagram of the kernel, which is taken to be well formed.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let word = |at: usize| bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes);
        let length = word(0)? as usize;
        let message = Message {
            kind: word(4)? as u16,
            seq: word(8)?,
            whole: bytes.get(..length)?,
            body: bytes.get(16..length)?,
        };
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}
