//! Being the daemon: the order in which things are opened at the start and closed at the end.

mod background;
pub(crate) mod control;
mod last_words;
mod status;

use std::io;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use ::io::process;
use engine::config::Config;
use engine::console::Console;
use engine::log::{FlowLog, Level, Log};

use crate::conf::convert::{Refusal, convert};
use crate::conf::environment::Machine;
use crate::conf::settings::{Facility, Scheduler, Settings};
use crate::lock::Lock;
use crate::log::{Destinations, FlowLogger, Logger, Sink, Terminal};
use crate::notify::Notify;
use crate::system::error_text;
use background::Parent;
use control::Control;
use status::Reporter;

/// What the engine gets.
pub struct Start {
    /// What to do.
    pub config: Config,
    /// Where clients connect, if the configuration names a path. Blocking.
    pub control: Option<UnixListener>,
    /// Where to tell what happens.
    pub log: Arc<dyn Log>,
    /// Where to tell which flows have ended.
    pub flow_log: Option<Arc<dyn FlowLog>>,
    /// Renders figures.
    pub console: Box<dyn Console>,
    /// Goes up with every turn of the engine's main loop, at least once a second.
    pub heartbeat: Arc<AtomicU64>,
}

/// Why the engine did not start.
#[derive(Debug)]
pub enum StartError {
    /// A link could not be opened.
    Link(io::Error),
    /// Anything else, in one line.
    Other(String),
}

/// An engine, before it runs.
pub trait Engine {
    /// What it is while it runs.
    type Running: Running;
    /// Opens everything, reads the kernel's tables and blocks the signals that it waits for.
    fn start(self, start: Start) -> Result<Self::Running, StartError>;
}

/// An engine that runs.
pub trait Running {
    /// Returns when a client or a signal asked for the end, or when it cannot go on.
    fn run(self) -> Result<(), String>;
}

/// What ends a start; it was told already.
struct Failed;

/// Is the daemon until it is stopped. Gives the exit status.
pub fn run(settings: &Settings, background: bool, engine: impl Engine) -> u8 {
    // A log that may not grow is told by an error, as a full disk is.
    ::io::refuse_oversized_files();
    let destinations = Destinations {
        console: Terminal::All,
        file: settings.log_file.clone(),
        facility: settings.syslog,
    };
    let sink = match Sink::open(destinations) {
        Ok(sink) => sink,
        Err(error) => return cannot_open(settings.log_file.as_deref(), &error),
    };
    let flow_log = match open_flow_log(settings) {
        Ok(flow_log) => flow_log.map(Arc::new),
        Err((file, error)) => return cannot_open(file, &error),
    };
    let logger = Arc::new(Logger::new(sink));
    last_words::on_panic(&logger);
    let notify = Notify::new(settings.systemd);
    let parent = match background {
        false => None,
        true => {
            // Whoever waits for the start is told why it fails.
            logger.set_console(Terminal::Errors);
            match background::leave(&notify) {
                Ok(background::Side::Child(parent)) => Some(parent),
                Ok(background::Side::Parent(status)) => return status,
                Err(error) => {
                    logger.error(format_args!("fork has failed: {}", error_text(&error)));
                    return 1;
                }
            }
        }
    };
    match be(settings, &logger, flow_log, &notify, parent, engine) {
        Ok(()) => 0,
        Err(Failed) => {
            logger.finish();
            1
        }
    }
}

/// Opens the log of flows that have ended, if there is to be one.
fn open_flow_log(settings: &Settings) -> Result<Option<FlowLogger>, (Option<&Path>, io::Error)> {
    let Some(stats) = settings.stats.as_ref().map(|stats| &stats.value) else { return Ok(None) };
    let file = stats.log_file.as_deref();
    // A facility that only follows from `on` is that of the other lines.
    let facility = match stats.syslog {
        Some(Facility::DAEMON) => settings.syslog.or(stats.syslog),
        facility => facility,
    };
    if file.is_none() && facility.is_none() {
        return Ok(None);
    }
    FlowLogger::open(file, facility).map(Some).map_err(|error| (file, error))
}

fn cannot_open(file: Option<&Path>, error: &io::Error) -> u8 {
    let file = file.unwrap_or(Path::new("")).display();
    eprintln!("ERROR: can't open logfile `{file}'.Reason: {}", error_text(error));
    1
}

fn be(
    settings: &Settings,
    logger: &Arc<Logger>,
    flow_log: Option<Arc<FlowLogger>>,
    notify: &Notify,
    parent: Option<Parent>,
    engine: impl Engine,
) -> Result<(), Failed> {
    let lock = take_lock(settings, logger)?;
    set_scheduler(settings, logger);
    let mut control = open_control(settings, logger)?;
    let config = configure(settings, logger)?;
    let heartbeat = Arc::new(AtomicU64::new(0));
    let start = Start {
        config,
        control: control.as_mut().and_then(Control::take_listener),
        log: logger.clone(),
        flow_log: flow_log.clone().map(|log| log as Arc<dyn FlowLog>),
        console: Box::new(Reporter(notify.clone())),
        heartbeat: heartbeat.clone(),
    };
    let running = engine.start(start).map_err(|error| {
        match error {
            StartError::Link(error) => tell_link_error(logger, &error_text(&error)),
            StartError::Other(text) => logger.error(format_args!("{text}")),
        }
        cannot_start(logger)
    })?;
    if parent.is_some() {
        logger.set_console(Terminal::Nothing);
    }
    // The engine has blocked its signals, so they do not hit this thread.
    let flow_writer = flow_log.as_ref().map_or(Ok(()), |log| log.start_writer(logger.clone()));
    if let Err(error) = logger.start_writer().and(flow_writer) {
        logger.error(format_args!("can't start a thread: {}", error_text(&error)));
        return Err(cannot_start(logger));
    }
    logger.notice(format_args!("initialization completed"));
    let mode = if parent.is_some() { "daemon" } else { "console" };
    background::leave_surroundings(parent.is_some());
    logger.notice(format_args!("-- starting in {mode} mode --"));
    if let Some(parent) = parent {
        parent.release();
    }
    notify.send("READY=1");
    watch(notify, heartbeat);
    let ended = running.run();
    notify.send("STOPPING=1");
    if let Some(flow_log) = flow_log {
        flow_log.finish();
    }
    drop(control);
    drop(lock);
    match ended {
        Ok(()) => logger.notice(format_args!("---- shutdown received ----")),
        Err(ref reason) => logger.error(format_args!("{reason}")),
    }
    logger.finish();
    ended.map_err(|_| Failed)
}

fn take_lock(settings: &Settings, logger: &Logger) -> Result<Lock, Failed> {
    let path = settings.lock_file.display();
    match Lock::take(&settings.lock_file) {
        Ok(lock) => {
            if lock.taken_over {
                logger.notice(format_args!("took over lockfile `{path}' of a daemon that is gone"));
            }
            Ok(lock)
        }
        Err(error) => {
            match error.kind() {
                io::ErrorKind::InvalidData => {
                    logger.error(format_args!("`{path}' is no lockfile, it holds something else"));
                }
                _ => logger.error(format_args!(
                    "lockfile `{path}' exists, perhaps conntrackd already running?"
                )),
            }
            Err(Failed)
        }
    }
}

fn set_scheduler(settings: &Settings, logger: &Logger) {
    let policy = match settings.scheduler {
        Some(Scheduler::RoundRobin) => process::Scheduler::RoundRobin,
        Some(Scheduler::Fifo) => process::Scheduler::Fifo,
        None => return,
    };
    if let Err(error) = process::set_scheduler(policy, settings.priority) {
        logger.warning(format_args!(
            "scheduler configuration failed: {}. Likely a bug in conntrackd, please report it. \
             Continuing with system default scheduler.",
            error_text(&error)
        ));
    }
}

fn open_control(settings: &Settings, logger: &Logger) -> Result<Option<Control>, Failed> {
    let Some(path) = settings.control_path.as_deref() else {
        logger.notice(format_args!(
            "there is no control socket (UNIX {{ Path }}): no client can reach this daemon"
        ));
        return Ok(None);
    };
    match Control::open(path) {
        Ok(control) => Ok(Some(control)),
        Err(error) => {
            if error.kind() == io::ErrorKind::AlreadyExists {
                let path = path.display();
                logger.error(format_args!("`{path}' exists and is no socket"));
            }
            logger.error(format_args!("can't open unix socket!"));
            Err(cannot_start(logger))
        }
    }
}

/// Makes the engine's configuration and tells what is special about it.
fn configure(settings: &Settings, logger: &Logger) -> Result<Config, Failed> {
    if settings.sync.as_ref().is_some_and(|sync| sync.modes == [None; 3]) {
        logger
            .warning(format_args!("No synchronization mode specified. Defaulting to FT-FW mode."));
    }
    for remark in &settings.remarks {
        logger.notice(format_args!("{remark}"));
    }
    let config = convert(settings, &Machine).map_err(|refusal| {
        match refusal {
            Refusal::Channel(errno) => tell_link_error(logger, &error_text(&errno.into())),
            Refusal::Helper { .. } => logger.error(format_args!("{refusal}")),
        }
        cannot_start(logger)
    })?;
    if config.sync.as_ref().is_some_and(|sync| sync.disable_internal_cache) {
        logger.notice(format_args!("disabling internal cache"));
    }
    if config.sync.as_ref().is_some_and(|sync| sync.disable_external_cache) {
        logger.notice(format_args!("disabling external cache"));
    }
    if config.events.reliable {
        logger.notice(format_args!("reliable ctnetlink event delivery is ENABLED."));
    }
    if settings.iteration_limit.is_some() {
        logger.notice(format_args!(
            "EventIterationLimit has no effect: events are taken in slices of bounded time"
        ));
    }
    Ok(config)
}

fn tell_link_error(logger: &Logger, reason: &str) {
    logger.error(format_args!("can't open channel socket: {reason}"));
    logger.error(format_args!("initialization failed"));
}

fn cannot_start(logger: &Logger) -> Failed {
    logger.log(
        Level::Error,
        format_args!("conntrackd cannot start, please review your configuration"),
    );
    Failed
}

/// Tells the service manager that the main loop turns, for as long as it does.
fn watch(notify: &Notify, heartbeat: Arc<AtomicU64>) {
    let Some(interval) = notify.watchdog_interval() else {
        return;
    };
    let notify = notify.clone();
    let beat = move || {
        let mut last = None;
        loop {
            thread::sleep(interval.max(Duration::from_millis(10)));
            let now = heartbeat.load(Ordering::Relaxed);
            if last != Some(now) {
                notify.send("WATCHDOG=1");
            }
            last = Some(now);
        }
    };
    // Without the thread the service manager restarts the daemon, which is what it is for.
    let _ = thread::Builder::new().name("watchdog".to_owned()).spawn(beat);
}
