//! Traffic through a failover: connections that send a number and want it back, and a background of
//! flows that come and go.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Pause between an answer and the next question of a connection.
const PACE: Duration = Duration::from_millis(20);

/// A connection as its client sees it.
struct Talk {
    stream: TcpStream,
    /// Number of the question that is out, and of the last one answered.
    asked: u64,
    answered: u64,
    last_answer: Instant,
    next_question: Instant,
    longest: Duration,
    broken: bool,
    partial: Vec<u8>,
}

/// What became of one connection.
#[derive(Clone, Copy, Debug)]
pub struct Fate {
    /// Answers it got.
    pub answers: u64,
    /// When the last one came.
    pub last_answer: Instant,
    /// Longest time between two answers.
    pub longest: Duration,
    /// It was reset, closed or answered wrongly.
    pub broken: bool,
}

/// Echoes whatever comes, on any number of connections, until told to stop.
pub fn echo(listener: TcpListener, stop: &AtomicBool) {
    listener.set_nonblocking(true).expect("a fresh socket");
    let mut streams: Vec<TcpStream> = Vec::new();
    let mut buffer = [0u8; 4096];
    while !stop.load(Ordering::Relaxed) {
        while let Ok((stream, _)) = listener.accept() {
            let ready = stream.set_nonblocking(true).and_then(|()| stream.set_nodelay(true));
            ready.expect("a fresh socket");
            streams.push(stream);
        }
        wait_readable(streams.iter());
        streams.retain_mut(|stream| match stream.read(&mut buffer) {
            Ok(0) => false,
            Ok(count) => stream.write_all(&buffer[..count]).is_ok(),
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        });
    }
}

/// Opens `count` connections and talks on them until told to stop. `report` gets their fates now
/// and then.
pub fn talk(
    server: SocketAddr,
    count: usize,
    stop: &AtomicBool,
    mut report: impl FnMut(Vec<Fate>),
) {
    let mut talks: Vec<Talk> = (0..count).map(|_| Talk::open(server)).collect();
    let mut last_report = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        wait_readable(talks.iter().filter(|talk| !talk.broken).map(|talk| &talk.stream));
        let now = Instant::now();
        for talk in talks.iter_mut().filter(|talk| !talk.broken) {
            talk.turn(now);
        }
        if last_report.elapsed() > Duration::from_millis(50) {
            last_report = Instant::now();
            report(talks.iter().map(|talk| talk.fate(now)).collect());
        }
    }
}

impl Talk {
    fn open(server: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&server, Duration::from_secs(5))
            .expect("the way through the active firewall is open");
        let ready = stream.set_nonblocking(true).and_then(|()| stream.set_nodelay(true));
        ready.expect("a fresh socket");
        let now = Instant::now();
        Self {
            stream,
            asked: 0,
            answered: 0,
            last_answer: now,
            next_question: now,
            longest: Duration::ZERO,
            broken: false,
            partial: Vec::new(),
        }
    }

    /// Reads what came and asks if it is time.
    fn turn(&mut self, now: Instant) {
        let mut buffer = [0u8; 64];
        match self.stream.read(&mut buffer) {
            Ok(0) => self.broken = true,
            Ok(count) => self.take(&buffer[..count], now),
            Err(error) => self.broken |= error.kind() != ErrorKind::WouldBlock,
        }
        if self.asked == self.answered && now >= self.next_question && !self.broken {
            self.asked += 1;
            // Eight octets fit an idle connection's buffer.
            self.broken = self.stream.write_all(&self.asked.to_be_bytes()).is_err();
        }
    }

    fn take(&mut self, bytes: &[u8], now: Instant) {
        self.partial.extend_from_slice(bytes);
        let Ok(answer) = <[u8; 8]>::try_from(self.partial.as_slice()) else {
            self.broken = self.partial.len() > 8;
            return;
        };
        self.partial.clear();
        self.answered = u64::from_be_bytes(answer);
        self.broken = self.answered != self.asked;
        self.longest = self.longest.max(now - self.last_answer);
        self.last_answer = now;
        self.next_question = now + PACE;
    }

    fn fate(&self, now: Instant) -> Fate {
        Fate {
            answers: self.answered,
            last_answer: self.last_answer,
            longest: self.longest.max(now - self.last_answer),
            broken: self.broken,
        }
    }
}

/// Makes `flows` UDP flows at once and then some more all the time, until told to stop.
pub fn background(server: SocketAddr, flows: u16, stop: &AtomicBool) {
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a port of the own namespace");
    let mut target = server;
    for port in 0..flows {
        target.set_port(10_000 + port);
        // The way may be cut: that is the point.
        let _ = socket.send_to(b"background", target);
    }
    let mut port = 0u16;
    while !stop.load(Ordering::Relaxed) {
        port = (port + 1) % 20_000;
        target.set_port(40_000 + port);
        let _ = socket.send_to(b"more", target);
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Sleeps until one of the streams can be read, for 5 ms at most.
fn wait_readable<'a>(streams: impl Iterator<Item = &'a TcpStream>) {
    let mut fds: Vec<_> = streams.map(|stream| PollFd::new(stream, PollFlags::IN)).collect();
    let limit = Timespec { tv_sec: 0, tv_nsec: 5_000_000 };
    // An interrupted wait is as good as one that ended.
    let _ = poll(&mut fds, Some(&limit));
}
