//! The process itself: leaving the terminal, its scheduling, its local time.

use std::io;
use std::mem::MaybeUninit;

/// Which side of a fork this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fork {
    /// The process that was there before.
    Parent {
        /// Process id of the new one.
        child: u32,
    },
    /// The new process.
    Child,
}

/// Makes a second process of this one. Refused if there is more than one thread: only the calling
/// one would exist in the new process, with locks that the others held.
pub fn fork() -> io::Result<Fork> {
    let threads = std::fs::read_dir("/proc/self/task")?.count();
    if threads != 1 {
        return Err(io::Error::other("there is more than one thread"));
    }
    // SAFETY: there is one thread, so the child owns a consistent copy of everything.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Fork::Child),
        child => Ok(Fork::Parent { child: child.unsigned_abs() }),
    }
}

/// A real-time scheduling policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheduler {
    /// Round robin.
    RoundRobin,
    /// First in, first out.
    Fifo,
}

/// Has the kernel schedule this thread, and threads it starts, by a real-time policy.
pub fn set_scheduler(policy: Scheduler, priority: u32) -> io::Result<()> {
    let policy = match policy {
        Scheduler::RoundRobin => libc::SCHED_RR,
        Scheduler::Fifo => libc::SCHED_FIFO,
    };
    let priority = i32::try_from(priority).unwrap_or(i32::MAX);
    let param = libc::sched_param { sched_priority: priority };
    // SAFETY: `param` lives through the call, which only reads it.
    match unsafe { libc::sched_setscheduler(0, policy, &raw const param) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// A moment as the clock on the wall shows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LocalTime {
    /// Year of the common era.
    pub year: i32,
    /// Month, 0 is January.
    pub month: u8,
    /// Day of the month, from 1.
    pub day: u8,
    /// Day of the week, 0 is Sunday.
    pub weekday: u8,
    /// Hour, 0 to 23.
    pub hour: u8,
    /// Minute, 0 to 59.
    pub minute: u8,
    /// Second, 0 to 60.
    pub second: u8,
}

/// The local time at `seconds` since 1970.
pub fn local_time(seconds: i64) -> LocalTime {
    let mut tm = MaybeUninit::<libc::tm>::zeroed();
    // SAFETY: both pointers are valid for the call; all zeroes is a valid `tm`, whose pointer
    // member is not read here.
    let tm = unsafe {
        libc::localtime_r(&raw const seconds, tm.as_mut_ptr());
        tm.assume_init()
    };
    let small = |value: i32| u8::try_from(value).unwrap_or(0);
    LocalTime {
        year: tm.tm_year.saturating_add(1900),
        month: small(tm.tm_mon),
        day: small(tm.tm_mday),
        weekday: small(tm.tm_wday),
        hour: small(tm.tm_hour),
        minute: small(tm.tm_min),
        second: small(tm.tm_sec),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_has_twenty_four_hours() {
        let one = local_time(1_700_000_000);
        let next = local_time(1_700_000_000 + 7 * 86_400);
        assert_eq!(one.weekday, next.weekday);
        assert_eq!((one.year, one.month, one.second), (2023, 10, 20));
    }

    #[test]
    fn no_fork_beside_other_threads() {
        // Tests run on threads of their own.
        assert!(fork().is_err());
    }
}
