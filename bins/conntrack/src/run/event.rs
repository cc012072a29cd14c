//! `-E`: events as they happen.

use io::{Interrupts, RequestSocket, Woken};
use proto_ctnl::consts::group;
use proto_ctnl::render::{EventKind, Render, expect_json, expect_text, expect_xml};
use proto_ctnl::{
    Content, Expect, ExpectMessage, ExpectRef, Flow, FlowMessage, FlowRef, Messages, Present,
};
use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::dump::dump;
use super::origin::Origins;
use super::{Document, closing_line};
use crate::args::{Command, EVENT_ALL, Opt, Output, Request};
use crate::failure::{Failure, complain, errno_text};
use crate::filter::Filter;
use crate::kernel::Kernel;
use crate::output::Out;
use crate::show::{Form, Show, now, rendering};

/// Octets of events that may wait, unless the user says otherwise: those of a burst of 100,000.
/// Memory is taken as it fills.
const SOCKET_BYTES: u32 = 96 << 20;
/// Octets for one receive call: one event needs a few hundred.
const EVENT_BYTES: usize = 64 << 10;
/// Events that are shown together at most before they are written.
const BURST: usize = 256;

/// How long after a snapshot events may come of what it shows: the kernel puts a flow into the table
/// first and tells of it then.
const BELATED: Duration = Duration::from_secs(1);

const ENOBUFS: i32 = 105;
const EAGAIN: i32 = 11;

const LOST: &[u8] = b"WARNING: We have hit ENOBUFS! We are losing events.
This message means that the current netlink socket buffer size is too small.
Please, check --buffer-size in conntrack(8) manpage.
";

/// Flows.
pub(super) fn flows(request: &Request) -> Result<(), Failure> {
    let events = if request.given.has(Opt::EventMask) { request.events } else { EVENT_ALL };
    let groups =
        [group::CONNTRACK_NEW, group::CONNTRACK_UPDATE, group::CONNTRACK_DESTROY].into_iter();
    let groups = groups.enumerate().filter(|(bit, _)| events >> bit & 1 != 0).map(|(_, g)| g);
    let bytes = match request.given.has(Opt::BufferSize) {
        false => SOCKET_BYTES,
        true => u32::try_from(request.buffer_size).unwrap_or(u32::MAX).max(1),
    };
    let interrupts = interrupts()?;
    let socket = subscribe(bytes, groups).map_err(|reason| {
        let mut failure = Failure::other(&[b"Can't open netlink socket"]);
        failure.text.splice(0..0, format!("mnl_socket_bind: {reason}\n").into_bytes());
        failure
    })?;
    if request.given.has(Opt::BufferSize) {
        let size = socket.receive_bytes();
        complain(
            format!("NOTICE: Netlink socket buffer size has been set to {size} bytes.\n")
                .as_bytes(),
        );
    }
    let mut events = FlowEvents::new(request)?;
    let mut out = Out::new()?;
    if request.given.has(Opt::Snapshot) {
        events.snapshot(request, &mut out)?;
        events.catch_up(&socket, &mut out)?;
    }
    follow(&socket, &interrupts, &mut out, |content, out| match content {
        Content::Flow(seen) => events.show(&seen, out),
        _ => Ok(()),
    })?;
    events.document.close(&mut out);
    end(events.shown, "flow events have been shown", &socket);
    out.flush()
}

/// The closing line, which tells losses if there were any.
fn end(shown: u64, what: &str, socket: &RequestSocket) {
    match socket.drops() {
        Ok(lost @ 1..) => closing_line(shown, &format!("{what}, {lost} have been lost.")),
        _ => closing_line(shown, &format!("{what}.")),
    }
}

/// Expectations.
pub(super) fn expectations(request: &Request) -> Result<(), Failure> {
    let interrupts = interrupts()?;
    let groups =
        [group::CONNTRACK_EXP_NEW, group::CONNTRACK_EXP_UPDATE, group::CONNTRACK_EXP_DESTROY];
    let socket = subscribe(SOCKET_BYTES, groups.into_iter())
        .map_err(|_| Failure::other(&[b"Can't open handler"]))?;
    let mut events = ExpectEvents::new(request);
    let mut out = Out::new()?;
    follow(&socket, &interrupts, &mut out, |content, out| match content {
        Content::Expect(seen) => events.show(&seen, out),
        _ => Ok(()),
    })?;
    events.document.close(&mut out);
    end(events.shown, "expectation events have been shown", &socket);
    out.flush()
}

fn interrupts() -> Result<Interrupts, Failure> {
    Interrupts::catch().map_err(|e| {
        let reason = errno_text(e.errno().unwrap_or(0));
        Failure::other(&[b"can't catch signals: ", reason.as_bytes()])
    })
}

/// The error is the system's reason.
fn subscribe(bytes: u32, groups: impl Iterator<Item = u32>) -> Result<RequestSocket, String> {
    let reason = |e: io::IoError| errno_text(e.errno().unwrap_or(0));
    let socket = RequestSocket::open(bytes, 0).map_err(reason)?;
    for group in groups {
        socket.subscribe(group).map_err(reason)?;
    }
    // Receiving must not wait: the signals are waited for elsewhere.
    socket.set_receive_timeout(Some(Duration::from_micros(1))).map_err(reason)?;
    Ok(socket)
}

/// Hands every message to `take` until a signal arrives. What was shown is written whenever no
/// event waits, so that readers are never behind.
fn follow(
    socket: &RequestSocket,
    interrupts: &Interrupts,
    out: &mut Out,
    mut take: impl FnMut(Content<'_>, &mut Out) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut buffer = vec![0; EVENT_BYTES];
    loop {
        let woken = interrupts.wait(socket);
        if woken.map_err(|e| failed(e.raw_os_error().unwrap_or(0)))? == Woken::Interrupted {
            return Ok(());
        }
        burst(socket, &mut buffer, |content| take(content, out))?;
        out.flush()?;
    }
}

/// Hands what waits in the socket to `take`, a burst at most. Answers whether nothing is left.
fn burst(
    socket: &RequestSocket,
    buffer: &mut [u8],
    mut take: impl FnMut(Content<'_>) -> Result<(), Failure>,
) -> Result<bool, Failure> {
    for _ in 0..BURST {
        match socket.receive(buffer) {
            Ok(received) => {
                for message in Messages::new(&buffer[..received.bytes]).flatten() {
                    if let Ok(content) = message.content() {
                        take(content)?;
                    }
                }
            }
            Err(e) if e.errno() == Some(ENOBUFS) => complain(LOST),
            Err(e) if e.errno() == Some(EAGAIN) => return Ok(true),
            Err(e) => return Err(failed(e.errno().unwrap_or(0))),
        }
    }
    Ok(false)
}

fn failed(errno: i32) -> Failure {
    let reason = errno_text(errno);
    Failure::other(&[b"failed to received netlink event: ", reason.as_bytes()])
}

struct FlowEvents<'a> {
    filter: Filter,
    show: Show<'a>,
    stamped: bool,
    document: Document,
    origins: Origins,
    flow: Flow,
    shown: u64,
    /// What the snapshot showed, until the events are read that came while it was taken: they tell
    /// of some of these once more.
    known: HashSet<u32>,
    /// When that is, once they are read.
    forget: Option<Instant>,
}

impl<'a> FlowEvents<'a> {
    fn new(request: &'a Request) -> Result<Self, Failure> {
        Ok(Self {
            filter: super::filter(request)?,
            show: Show::new(request),
            stamped: request.output.has(Output::TIMESTAMP),
            document: Document::new("conntrack"),
            origins: Origins::default(),
            flow: Flow::default(),
            shown: 0,
            known: HashSet::new(),
            forget: None,
        })
    }

    /// Shows the table. The socket for events is open already, so nothing is missed.
    fn snapshot(&mut self, request: &Request, out: &mut Out) -> Result<(), Failure> {
        let mut kernel = Kernel::open(Command::List, request.table)?;
        let Self { filter, show, document, known, .. } = self;
        dump(&mut kernel, request, filter, |flow| {
            // Where flows go while it is read, the kernel sends their neighbours again.
            if !known.insert(flow.id) {
                return Ok(());
            }
            if show.form == Form::Xml {
                document.before_element(out);
            }
            show.flow(flow, &mut out.buffer);
            out.buffer.push(b'\n');
            out.line_done()
        })?;
        out.flush()
    }

    /// Shows the events that came while the snapshot was taken, without those that it shows.
    fn catch_up(&mut self, socket: &RequestSocket, out: &mut Out) -> Result<(), Failure> {
        let mut buffer = vec![0; EVENT_BYTES];
        let mut done = false;
        while !done {
            done = burst(socket, &mut buffer, |content| match content {
                Content::Flow(seen) => self.show(&seen, out),
                _ => Ok(()),
            })?;
            out.flush()?;
        }
        self.forget = Some(Instant::now() + BELATED);
        Ok(())
    }

    /// Whether the event tells what the snapshot has shown.
    fn is_double(&mut self, kind: EventKind) -> bool {
        if self.forget.is_some_and(|time| Instant::now() >= time) {
            (self.known, self.forget) = (HashSet::new(), None);
        }
        if self.known.is_empty() || !self.flow.present.has(Present::ID) {
            return false;
        }
        match kind {
            EventKind::New => self.known.contains(&self.flow.id),
            EventKind::Update => false,
            // A later flow may get the number again.
            EventKind::Destroy => {
                self.known.remove(&self.flow.id);
                false
            }
        }
    }

    fn show(&mut self, seen: &FlowRef<'_>, out: &mut Out) -> Result<(), Failure> {
        let kind = match seen.what() {
            FlowMessage::New => EventKind::New,
            FlowMessage::Destroy => EventKind::Destroy,
            _ => EventKind::Update,
        };
        self.flow.clear();
        if seen.write_to(&mut self.flow).is_err() || !self.filter.admits(&self.flow) {
            return Ok(());
        }
        if self.is_double(kind) {
            return Ok(());
        }
        self.shown += 1;
        let (flow, render) = (&self.flow, &mut self.show.render);
        render.event = Some(kind);
        if self.stamped {
            let kernel = flow.present.has(Present::EVENT_TIME);
            render.time = Some(if kernel { Duration::from_nanos(flow.event_time) } else { now() });
        }
        if flow.present.has(Present::START) && !flow.present.has(Present::STOP) {
            render.now = Some(now().as_secs());
        }
        if self.show.form == Form::Xml {
            self.document.before_element(out);
        }
        self.show.flow(flow, &mut out.buffer);
        if seen.port() != 0 {
            self.origins.append(seen.port(), self.show.form, &mut out.buffer);
        }
        out.buffer.push(b'\n');
        out.line_done()
    }
}

struct ExpectEvents<'a> {
    render: Render<'a>,
    form: Form,
    stamped: bool,
    document: Document,
    expect: Expect,
    shown: u64,
}

impl<'a> ExpectEvents<'a> {
    fn new(request: &'a Request) -> Self {
        Self {
            render: rendering(request),
            form: Form::of(request),
            stamped: request.output.has(Output::TIMESTAMP),
            document: Document::new("expect"),
            expect: Expect::default(),
            shown: 0,
        }
    }

    fn show(&mut self, seen: &ExpectRef<'_>, out: &mut Out) -> Result<(), Failure> {
        self.expect.present = Default::default();
        if seen.write_to(&mut self.expect).is_err() {
            return Ok(());
        }
        self.shown += 1;
        self.render.event = Some(match seen.what() {
            ExpectMessage::New => EventKind::New,
            ExpectMessage::Destroy => EventKind::Destroy,
            _ => EventKind::Update,
        });
        self.render.time = self.stamped.then(now);
        match self.form {
            Form::Xml => {
                self.document.before_element(out);
                expect_xml(&self.expect, &self.render, &mut out.buffer);
            }
            Form::Json => expect_json(&self.expect, &self.render, &mut out.buffer),
            Form::Text | Form::Save => {
                expect_text(&self.expect, &self.render, &mut out.buffer);
            }
        }
        out.buffer.push(b'\n');
        out.line_done()
    }
}
