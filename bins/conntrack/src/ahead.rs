//! Reads long answers ahead, on a thread of their own.
//!
//! The kernel makes each part of a dump inside the call that receives the one before. Meanwhile what
//! came is shown, or deleted: on two cores a command then takes as long as the longer of both.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use io::{DUMP_BYTES, RequestSocket};
use proto_ctnl::consts::nlmsg;
use proto_ctnl::{Message, Messages};

use crate::kernel::{Errno, MEANINGLESS, NO_ROOM, errno_of};

/// Octets for one part of an answer.
pub(crate) const BYTES: usize = DUMP_BYTES as usize;
/// Parts that are read without another thread: small tables are not worth one.
const ALONE: u32 = 8;
/// Parts that wait to be used, at most.
const AHEAD: usize = 8;

/// A part of an answer in its buffer, and how many octets it has; or why there is none.
type Part = Result<(Vec<u8>, usize), Errno>;

/// Hands each message of an answer to `take` until that says that it was the last. Each of them has
/// an end, or an error, of its own.
pub(crate) fn read(
    socket: &RequestSocket,
    buffer: &mut [u8],
    mut take: impl FnMut(&Message<'_>) -> Result<bool, Errno>,
) -> Result<(), Errno> {
    for _ in 0..ALONE {
        if one(socket, buffer, &mut take)? {
            return Ok(());
        }
    }
    let helped = thread::scope(|scope| {
        let (parts, received) = sync_channel(AHEAD);
        let (free, used) = sync_channel(AHEAD);
        let reader = thread::Builder::new().name("dump".into());
        let started = reader.spawn_scoped(scope, move || receive(socket, &used, &parts)).is_ok();
        started.then(|| consume(&received, &free, &mut take))
    });
    if let Some(result) = helped {
        return result;
    }
    // No further thread is allowed here.
    while !one(socket, buffer, &mut take)? {}
    Ok(())
}

/// Receives one part and hands its messages to `take`; whether the last was among them.
pub(crate) fn one(
    socket: &RequestSocket,
    buffer: &mut [u8],
    take: &mut impl FnMut(&Message<'_>) -> Result<bool, Errno>,
) -> Result<bool, Errno> {
    let bytes = part(socket, buffer)?;
    each(&buffer[..bytes], take)
}

fn part(socket: &RequestSocket, buffer: &mut [u8]) -> Result<usize, Errno> {
    let received = socket.receive(buffer).map_err(errno_of)?;
    if received.truncated { Err(NO_ROOM) } else { Ok(received.bytes) }
}

fn each(
    part: &[u8],
    take: &mut impl FnMut(&Message<'_>) -> Result<bool, Errno>,
) -> Result<bool, Errno> {
    for message in Messages::new(part) {
        if take(&message.map_err(|_| MEANINGLESS)?)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What the thread does. It ends after the last part, or when nobody wants more.
fn receive(socket: &RequestSocket, used: &Receiver<Vec<u8>>, parts: &SyncSender<Part>) {
    loop {
        let mut buffer = used.try_recv().unwrap_or_else(|_| vec![0; BYTES]);
        let part = part(socket, &mut buffer).map(|bytes| (buffer, bytes));
        let last = part.as_ref().map_or(true, |(buffer, bytes)| is_last(&buffer[..*bytes]));
        if parts.send(part).is_err() || last {
            return;
        }
    }
}

fn is_last(part: &[u8]) -> bool {
    Messages::new(part).any(|message| {
        message.is_ok_and(|message| matches!(message.kind, nlmsg::DONE | nlmsg::ERROR))
    })
}

fn consume(
    received: &Receiver<Part>,
    free: &SyncSender<Vec<u8>>,
    take: &mut impl FnMut(&Message<'_>) -> Result<bool, Errno>,
) -> Result<(), Errno> {
    // The thread has gone without an end only if the answer is not what was asked for.
    while let Ok(part) = received.recv() {
        let (buffer, bytes) = part?;
        if each(&buffer[..bytes], take)? {
            return Ok(());
        }
        // Where there is no room for it, it is freed.
        let _ = free.try_send(buffer);
    }
    Err(MEANINGLESS)
}
