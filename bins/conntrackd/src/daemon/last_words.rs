//! What a bug in any thread leads to: a line in the log and the end of the daemon, so that whatever
//! watches it starts another. A daemon that lives on without one of its threads would look well and
//! replicate nothing.

use std::panic;
use std::process;
use std::sync::Arc;
use std::thread;

use engine::log::Log as _;

use crate::log::Logger;

/// From now on a panic is logged and ends the process.
pub(super) fn on_panic(logger: &Arc<Logger>) {
    let logger = logger.clone();
    let default = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        default(info);
        let text = info.payload_as_str().unwrap_or("no reason given");
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let thread = thread::current();
        let name = thread.name().unwrap_or("unnamed");
        logger.error(format_args!("this is a bug: thread `{name}' gives up at {place}: {text}"));
        logger.finish();
        process::abort();
    }));
}
