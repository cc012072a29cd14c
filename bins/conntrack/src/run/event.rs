//! `-E`: events as they happen.

use io::{Interrupts, RequestSocket, Woken};
use proto_ctnl::consts::group;
use proto_ctnl::render::{EventKind, Render, expect_json, expect_text, expect_xml};
use proto_ctnl::{Content, Expect, ExpectMessage, Flow, FlowMessage, Messages, Present};
use std::cell::Cell;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use super::dump::dump_all;
use super::origin::Origins;
use super::snapshot::Shown;
use super::{Document, closing_line, feasible};
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

/// Flows of the table after which the events are read that came meanwhile.
const STEP: u64 = 256;
/// Of the masks of events.
const NEW: u32 = 1;
const UPDATE: u32 = 2;
const DESTROY: u32 = 4;

const ENOBUFS: i32 = 105;
const EAGAIN: i32 = 11;

const LOST: &[u8] = b"WARNING: We have hit ENOBUFS! We are losing events.
This message means that the current netlink socket buffer size is too small.
Please, check --buffer-size in conntrack(8) manpage.
";

/// Flows.
pub(super) fn flows(request: &Request) -> Result<(), Failure> {
    let wanted = if request.given.has(Opt::EventMask) { request.events } else { EVENT_ALL };
    let bytes = match request.given.has(Opt::BufferSize) {
        false => SOCKET_BYTES,
        true => u32::try_from(request.buffer_size).unwrap_or(u32::MAX).max(1),
    };
    let interrupts = interrupts()?;
    let open = |bytes, events| {
        subscribe(bytes, groups(events)).map_err(|reason| {
            let mut failure = Failure::other(&[b"Can't open netlink socket"]);
            failure.text.splice(0..0, format!("mnl_socket_bind: {reason}\n").into_bytes());
            failure
        })
    };
    // Of flows that a snapshot has shown it counts which begin and end, wanted or not.
    let doubles = request.given.has(Opt::Snapshot) && wanted & NEW != 0;
    // It is to hear of all flows that the other one hears of.
    let beginnings = doubles.then(|| open(bytes.max(SOCKET_BYTES), NEW)).transpose()?;
    let socket = open(bytes, if doubles { wanted | DESTROY } else { wanted })?;
    if request.given.has(Opt::BufferSize) {
        let size = socket.receive_bytes();
        complain(
            format!("NOTICE: Netlink socket buffer size has been set to {size} bytes.\n")
                .as_bytes(),
        );
    }
    feasible(request)?;
    let mut events = FlowEvents::new(request, wanted)?;
    let mut out = Out::new()?;
    if request.given.has(Opt::Snapshot) {
        events.snapshot(request, &interrupts, beginnings, &mut out)?;
    }
    follow(&socket, &interrupts, &mut events, &mut out)?;
    events.document.close(&mut out);
    out.drain(&interrupts)?;
    end(events.shown, "flow events have been shown", &socket);
    Ok(())
}

/// The multicast groups of a mask of events.
fn groups(events: u32) -> impl Iterator<Item = u32> {
    let all = [group::CONNTRACK_NEW, group::CONNTRACK_UPDATE, group::CONNTRACK_DESTROY];
    all.into_iter().enumerate().filter(move |(bit, _)| events >> bit & 1 != 0).map(|(_, g)| g)
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
    follow(&socket, &interrupts, &mut events, &mut out)?;
    events.document.close(&mut out);
    out.drain(&interrupts)?;
    end(events.shown, "expectation events have been shown", &socket);
    Ok(())
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
    Ok(socket)
}

/// What is done with events.
trait Events {
    /// Shows an event.
    fn show(&mut self, content: Content<'_>, out: &mut Out);

    /// No event was waiting at that time.
    fn caught_up(&mut self, _time: Instant) {}
}

/// Shows all events until a signal arrives. What was shown is written whenever no event waits, so that
/// readers are never behind.
fn follow(
    socket: &RequestSocket,
    interrupts: &Interrupts,
    events: &mut impl Events,
    out: &mut Out,
) -> Result<(), Failure> {
    let mut buffer = vec![0; EVENT_BYTES];
    loop {
        let woken = interrupts.wait(socket);
        if woken.map_err(|e| failed(e.raw_os_error().unwrap_or(0)))? == Woken::Interrupted {
            return Ok(());
        }
        let time = Instant::now();
        let lost = || complain(LOST);
        let none_waits = burst(socket, &mut buffer, lost, |content| events.show(content, out))?;
        if none_waits {
            events.caught_up(time);
        }
        if !out.drain(interrupts)? {
            return Ok(());
        }
    }
}

/// Hands what waits in the socket to `take`, a burst at most, and tells `lost` if something did not fit.
/// Answers whether nothing is left.
fn burst(
    socket: &RequestSocket,
    buffer: &mut [u8],
    lost: impl Fn(),
    mut take: impl FnMut(Content<'_>),
) -> Result<bool, Failure> {
    for _ in 0..BURST {
        match socket.receive_now(buffer) {
            Ok(received) => {
                for message in Messages::new(&buffer[..received.bytes]).flatten() {
                    if let Ok(content) = message.content() {
                        take(content);
                    }
                }
            }
            Err(e) if e.errno() == Some(ENOBUFS) => lost(),
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
    /// Which kinds of events are shown.
    wanted: u32,
    show: Show<'a>,
    stamped: bool,
    document: Document,
    origins: Origins,
    flow: Flow,
    shown: u64,
    /// What the snapshot showed, as long as events may tell of it once more.
    known: Option<Shown>,
}

impl<'a> FlowEvents<'a> {
    fn new(request: &'a Request, wanted: u32) -> Result<Self, Failure> {
        Ok(Self {
            filter: super::filter(request)?,
            wanted,
            show: Show::new(request),
            stamped: request.output.has(Output::TIMESTAMP),
            document: Document::new("conntrack"),
            origins: Origins::default(),
            flow: Flow::default(),
            shown: 0,
            known: None,
        })
    }

    /// Shows the table, until a signal arrives. The socket for events is open already, so nothing is
    /// missed; what is read of `beginnings` tells which flows will be told of twice.
    fn snapshot(
        &mut self,
        request: &Request,
        interrupts: &Interrupts,
        beginnings: Option<RequestSocket>,
        out: &mut Out,
    ) -> Result<(), Failure> {
        let mut kernel = Kernel::open(Command::List, request.table)?;
        let Self { filter, show, document, .. } = self;
        let mut known = Shown::new(Instant::now());
        let (mut buffer, mut begun) = (vec![0; EVENT_BYTES], Flow::default());
        let mut count = 0;
        dump_all(&mut kernel, request, filter, |flow| {
            count += 1;
            if count % STEP == 0 {
                if interrupts.arrived() {
                    return Ok(ControlFlow::Break(()));
                }
                let time = Instant::now();
                if let Some(socket) = &beginnings {
                    let mut note = |content: Content<'_>| {
                        note_beginning(&content, &mut begun, &mut known);
                    };
                    let lost = Cell::new(false);
                    while !burst(socket, &mut buffer, || lost.set(true), &mut note)? {}
                    if lost.get() {
                        known.lost();
                    }
                }
                known.settle(time);
            }
            // Where flows go while it is read, the kernel sends their neighbours again.
            if let Some(flow) = flow.filter(|flow| known.add(flow)) {
                if show.form == Form::Xml {
                    document.before_element(out);
                }
                show.flow(flow, &mut out.buffer);
                out.buffer.push(b'\n');
            }
            let unread = out.is_full() && !out.drain(interrupts)?;
            Ok(if unread { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        known.finish(Instant::now());
        self.known = beginnings.is_some().then_some(known);
        out.drain(interrupts).map(drop)
    }
}

fn note_beginning(content: &Content<'_>, flow: &mut Flow, known: &mut Shown) {
    if let Content::Flow(seen) = content {
        flow.clear();
        if seen.write_to(flow).is_ok() {
            known.begins(flow);
        }
    }
}

impl Events for FlowEvents<'_> {
    fn caught_up(&mut self, time: Instant) {
        if self.known.as_ref().is_some_and(|known| known.is_over(time)) {
            self.known = None;
        }
    }

    fn show(&mut self, content: Content<'_>, out: &mut Out) {
        let Content::Flow(seen) = content else { return };
        let (kind, bit) = match seen.what() {
            FlowMessage::New => (EventKind::New, NEW),
            FlowMessage::Destroy => (EventKind::Destroy, DESTROY),
            _ => (EventKind::Update, UPDATE),
        };
        self.flow.clear();
        if seen.write_to(&mut self.flow).is_err() {
            return;
        }
        let double = self.known.as_mut().is_some_and(|known| known.is_double(kind, &self.flow));
        if double || self.wanted & bit == 0 || !self.filter.admits(&self.flow) {
            return;
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
}

impl Events for ExpectEvents<'_> {
    fn show(&mut self, content: Content<'_>, out: &mut Out) {
        let Content::Expect(seen) = content else { return };
        self.expect.present = Default::default();
        if seen.write_to(&mut self.expect).is_err() {
            return;
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
    }
}
