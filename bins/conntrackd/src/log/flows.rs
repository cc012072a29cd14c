//! The flow log of statistics mode: one line for each flow that has ended.
//!
//! Shards copy flows into a bounded queue; a thread of its own renders and writes them, many lines
//! with one write. What finds no room in the queue is dropped and counted.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use engine::log::{FlowLog, Log};
use proto_ctnl::Flow;
use proto_ctnl::render::{Parts, Render, flow_text};

use super::line::moment;
use super::line_file::{LineFile, Lost};
use super::syslog::Syslog;
use crate::conf::settings::Facility;
use crate::system::error_text;

/// Flows that may wait for the writer.
const QUEUE: usize = 32_768;
/// The writer is woken whenever so many more flows have ended, in any case before the queue is
/// full.
const WAKE_EVERY: u64 = 4096;
/// Longest time that a flow waits for the writer.
const IDLE: Duration = Duration::from_millis(20);
/// Bytes that are written at once.
const BLOCK_BYTES: usize = 64 * 1024;
/// How long the end of the daemon waits for the last lines.
const LAST_LINES: Duration = Duration::from_secs(2);
/// How long a FIFO without room is waited for; the end of the daemon waits longer.
const PATIENCE: Duration = Duration::from_secs(1);
/// Losses with less time between them are one, and told once.
const CALM: Duration = Duration::from_secs(60);
/// Severity of flow lines in the system log: informational.
const SEVERITY: u8 = 6;

/// Takes flows from any thread.
pub struct FlowLogger {
    queue: SyncSender<(Instant, Flow)>,
    queued: AtomicU64,
    state: Arc<State>,
    thread: OnceLock<Thread>,
    /// Until the thread takes it.
    writer: Mutex<Option<Writer>>,
}

/// What the writer and the others share.
#[derive(Debug, Default)]
struct State {
    /// Flows that the writer took out of the queue.
    taken: AtomicU64,
    dropped: AtomicU64,
    reopen: AtomicBool,
    /// Who waits for the end.
    end: Mutex<Option<Sender<()>>>,
}

impl fmt::Debug for FlowLogger {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("FlowLogger").field("state", &self.state).finish_non_exhaustive()
    }
}

impl FlowLogger {
    /// Opens the file; the system log is looked for when there is something to say.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(file: Option<&Path>, facility: Option<Facility>) -> io::Result<Self> {
        let (queue, flows) = sync_channel(QUEUE);
        let state = Arc::new(State::default());
        let writer = Writer {
            flows,
            state: state.clone(),
            file: file.map(open).transpose()?,
            path: file.map(Path::to_owned),
            syslog: facility.map(Syslog::patient),
            block: Vec::with_capacity(2 * BLOCK_BYTES),
            told: Told::default(),
        };
        Ok(Self {
            queue,
            queued: AtomicU64::new(0),
            state,
            thread: OnceLock::new(),
            writer: Mutex::new(Some(writer)),
        })
    }

    /// From now on a thread writes, and tells `log` when it begins to lose lines. Signals that must not hit it are blocked before.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start_writer(&self, log: Arc<dyn Log>) -> io::Result<()> {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer {
            let spawned = thread::Builder::new().name("flow-log".to_owned());
            let spawned = spawned.spawn(move || writer.run(&*log))?;
            let _ = self.thread.set(spawned.thread().clone());
        }
        Ok(())
    }

    /// Waits until all flows so far are written, or for two seconds, and ends the thread.
    pub fn finish(&self) {
        let Some(thread) = self.thread.get() else { return };
        let (done, wait) = channel();
        *self.state.end.lock().unwrap_or_else(PoisonError::into_inner) = Some(done);
        thread.unpark();
        let _ = wait.recv_timeout(LAST_LINES);
    }
}

impl FlowLog for FlowLogger {
    fn ended(&self, at: Instant, flow: &Flow) {
        if self.queue.try_send((at, *flow)).is_err() {
            self.state.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let queued = self.queued.fetch_add(1, Ordering::Relaxed);
        if queued % WAKE_EVERY == WAKE_EVERY - 1
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
    }

    fn has_room(&self) -> bool {
        let queued = self.queued.load(Ordering::Relaxed);
        queued.saturating_sub(self.state.taken.load(Ordering::Relaxed)) < QUEUE as u64 / 2
    }

    fn reopen(&self) {
        self.state.reopen.store(true, Ordering::Relaxed);
    }

    fn dropped(&self) -> u64 {
        self.state.dropped.load(Ordering::Relaxed)
    }
}

fn open(path: &Path) -> io::Result<LineFile> {
    LineFile::open(path, PATIENCE)
}

/// The thread.
struct Writer {
    flows: Receiver<(Instant, Flow)>,
    state: Arc<State>,
    path: Option<PathBuf>,
    file: Option<LineFile>,
    syslog: Option<Syslog>,
    /// Lines that are not written yet.
    block: Vec<u8>,
    told: Told,
}

/// What was said about losses.
#[derive(Default)]
struct Told {
    /// Dropped lines up to the last look.
    dropped: u64,
    /// When a look found some.
    last: Option<Instant>,
    /// Why some were not taken since then, if it was not for lack of room in the queue.
    reason: Option<Cow<'static, str>>,
}

impl Told {
    /// Tells that losses begin, if they do.
    fn look(&mut self, now: Instant, dropped: u64, log: &dyn Log) {
        let new = dropped.saturating_sub(self.dropped);
        if new == 0 {
            return;
        }
        self.dropped = dropped;
        let last = self.last.replace(now);
        let reason = self.reason.take();
        if last.is_some_and(|last| now.saturating_duration_since(last) < CALM) {
            return;
        }
        let reason = reason.unwrap_or("flows end faster than it goes".into());
        log.warning(format_args!("the flow log loses lines, {new} just now: {reason}"));
    }
}

impl Writer {
    fn run(mut self, log: &dyn Log) {
        loop {
            let end = self.state.end.lock().unwrap_or_else(PoisonError::into_inner).take();
            if self.state.reopen.swap(false, Ordering::Relaxed)
                && let Some(path) = self.path.as_deref()
            {
                match open(path) {
                    Ok(file) => self.file = Some(file),
                    Err(error) => log.error(format_args!(
                        "can't open logfile `{}' again, the old one goes on: {}",
                        path.display(),
                        error_text(&error)
                    )),
                }
            }
            self.take_all();
            self.told.look(Instant::now(), self.state.dropped.load(Ordering::Relaxed), log);
            if let Some(done) = end {
                let _ = done.send(());
                return;
            }
            thread::park_timeout(IDLE);
        }
    }

    fn take_all(&mut self) {
        let Ok((at, flow)) = self.flows.try_recv() else { return };
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let clock = (Instant::now(), since);
        let mut last = None;
        let mut next = Some((at, flow));
        while let Some((at, flow)) = next {
            self.state.taken.fetch_add(1, Ordering::Relaxed);
            let unix = clock.1.saturating_sub(clock.0.saturating_duration_since(at)).as_secs();
            let stamp = match last.take() {
                Some((second, stamp)) if second == unix => stamp,
                _ => moment(i64::try_from(unix).unwrap_or(i64::MAX)),
            };
            self.line(unix, &stamp, &flow);
            last = Some((unix, stamp));
            if self.block.len() >= BLOCK_BYTES {
                self.write();
            }
            next = self.flows.try_recv().ok();
        }
        self.write();
    }

    fn line(&mut self, unix: u64, stamp: &str, flow: &Flow) {
        let parts = Parts::REPLY.with(Parts::COUNTERS);
        let render = Render { parts, now: Some(unix), ..Render::default() };
        self.block.extend_from_slice(stamp.as_bytes());
        self.block.push(b'\t');
        let text = self.block.len();
        flow_text(flow, &render, &mut self.block);
        self.block.push(b'\n');
        if let Some(syslog) = &mut self.syslog {
            // Beside a file the original leaves the line feed in the message.
            let end = self.block.len() - usize::from(self.file.is_none());
            let text = self.block.get(text..end).unwrap_or_default();
            if !syslog.send(SEVERITY, i64::try_from(unix).unwrap_or(i64::MAX), text) {
                self.state.dropped.fetch_add(1, Ordering::Relaxed);
                self.told.reason = Some("the system log does not take them".into());
            }
        }
        if self.file.is_none() {
            self.block.clear();
        }
    }

    /// A file that takes nothing costs the lines, which are counted.
    fn write(&mut self) {
        if let Some(file) = &mut self.file
            && let Err(Lost { lines, reason }) = file.write(&self.block)
        {
            self.state.dropped.fetch_add(lines, Ordering::Relaxed);
            let reason = format!("can't write to its file: {}", error_text(&reason));
            self.told.reason = Some(reason.into());
        }
        self.block.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::log::{Level, Silent};
    use proto_ctnl::{Counters, L4, Present, Tuple, proto};
    use std::fs;

    fn flow(port: u16) -> Flow {
        let mut flow = Flow::default();
        flow.orig = Tuple {
            src: [10, 0, 0, 1].into(),
            dst: [10, 0, 0, 2].into(),
            proto: proto::UDP,
            l4: L4::ports(port, 53),
        };
        flow.reply = Tuple { src: flow.orig.dst, dst: flow.orig.src, ..flow.orig };
        flow.reply.l4 = L4::ports(53, port);
        flow.counters = [Counters { packets: 1, bytes: 58 }, Counters { packets: 2, bytes: 99 }];
        for bit in [Present::ORIG, Present::REPLY, Present::COUNTERS_ORIG, Present::COUNTERS_REPLY]
        {
            flow.present.insert(bit);
        }
        flow
    }

    #[test]
    fn flows_become_lines_and_a_file_that_was_moved_away_is_opened_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("flows");
        let log = FlowLogger::open(Some(&path), None).expect("a file");
        log.start_writer(Arc::new(Silent)).expect("a thread");
        let lines = |path: &Path| fs::read_to_string(path).unwrap_or_default();
        let wait = |path: &Path, count: usize| {
            let end = Instant::now() + Duration::from_secs(10);
            while lines(path).lines().count() < count && Instant::now() < end {
                thread::sleep(Duration::from_millis(5));
            }
        };
        log.ended(Instant::now(), &flow(1000));
        wait(&path, 1);
        let line = lines(&path);
        let (stamp, rest) = line.split_once('\t').expect("a tab");
        assert_eq!(stamp.len(), "Mon Nov 23 21:14:14 2026".len());
        assert_eq!(
            rest,
            "udp      17 src=10.0.0.1 dst=10.0.0.2 sport=1000 dport=53 packets=1 bytes=58 \
             src=10.0.0.2 dst=10.0.0.1 sport=53 dport=1000 packets=2 bytes=99\n"
        );
        let moved = folder.path().join("flows.1");
        fs::rename(&path, &moved).expect("a rename");
        log.reopen();
        wait(&path, 0);
        while !path.exists() {
            thread::sleep(Duration::from_millis(5));
        }
        for port in 0..2000 {
            log.ended(Instant::now(), &flow(port));
        }
        log.finish();
        assert_eq!(lines(&path).lines().count(), 2000);
        assert_eq!(lines(&moved).lines().count(), 1);
        assert_eq!(log.dropped(), 0);
    }

    #[test]
    fn what_finds_no_room_is_counted() {
        let log = FlowLogger::open(None, None).expect("nothing to open");
        for _ in 0..QUEUE + 7 {
            log.ended(Instant::now(), &flow(1));
        }
        assert_eq!(log.dropped(), 7);
        assert!(!log.has_room());
    }

    /// Keeps lines.
    #[derive(Default)]
    struct Kept(Mutex<Vec<(Level, String)>>);

    impl Log for Kept {
        fn log(&self, level: Level, line: fmt::Arguments<'_>) {
            self.0.lock().expect("nobody panics").push((level, line.to_string()));
        }
    }

    #[test]
    fn a_full_disk_is_counted_and_told_once() {
        let kept = Arc::new(Kept::default());
        let log = FlowLogger::open(Some(Path::new("/dev/full")), None).expect("a device");
        log.start_writer(kept.clone()).expect("a thread");
        for lost in 1..=3 {
            log.ended(Instant::now(), &flow(lost));
            let end = Instant::now() + Duration::from_secs(10);
            while log.dropped() < u64::from(lost) && Instant::now() < end {
                thread::sleep(Duration::from_millis(5));
            }
        }
        log.finish();
        assert_eq!(log.dropped(), 3);
        let told = "the flow log loses lines, 1 just now: \
                    can't write to its file: No space left on device";
        assert_eq!(*kept.0.lock().expect("nobody panics"), [(Level::Warning, told.to_owned())]);
    }

    #[test]
    fn losses_after_a_calm_minute_are_told_again() {
        let (kept, mut told, begin) = (Kept::default(), Told::default(), Instant::now());
        for (second, dropped) in [(0, 0), (1, 7), (50, 8), (100, 8), (109, 9), (170, 12)] {
            told.look(begin + Duration::from_secs(second), dropped, &kept);
        }
        let lines = kept.0.into_inner().expect("nobody panics");
        let lines: Vec<_> = lines.iter().map(|(_, line)| line.as_str()).collect();
        assert_eq!(
            lines,
            [
                "the flow log loses lines, 7 just now: flows end faster than it goes",
                "the flow log loses lines, 3 just now: flows end faster than it goes",
            ]
        );
    }
}
