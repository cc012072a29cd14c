//! Processors and the time they spend on us.

use std::io;
use std::time::Duration;

use core_affinity::CoreId;
use rustix::time::{ClockId, clock_gettime};

use crate::error::IoError;

/// The cores that this thread may run on, in ascending order. Never empty.
pub fn available_cores() -> Vec<u16> {
    let ids = core_affinity::get_core_ids().unwrap_or_default();
    let mut cores: Vec<u16> = ids.iter().filter_map(|core| u16::try_from(core.id).ok()).collect();
    cores.sort_unstable();
    if cores.is_empty() {
        cores.push(0);
    }
    cores
}

/// Ties this thread to one core.
///
/// # Errors
/// If there is no such core, or it is not among those we may use.
pub fn pin_to_core(core: u16) -> Result<(), IoError> {
    if available_cores().contains(&core)
        && core_affinity::set_for_current(CoreId { id: core.into() })
    {
        return Ok(());
    }
    let error = io::Error::from_raw_os_error(libc::EINVAL);
    Err(IoError::new("run on core", core.to_string(), error))
}

/// Processor time of this thread, in the kernel and outside.
pub fn thread_cpu_time() -> Duration {
    clock(ClockId::ThreadCPUTime)
}

/// Processor time of the process.
pub fn process_cpu_time() -> Duration {
    clock(ClockId::ProcessCPUTime)
}

fn clock(id: ClockId) -> Duration {
    Duration::try_from(clock_gettime(id)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_thread_stays_where_it_was_put() {
        std::thread::spawn(|| {
            let cores = available_cores();
            let last = cores[cores.len() - 1];
            pin_to_core(last).unwrap();
            assert_eq!(available_cores(), [last]);
            assert_eq!(rustix::thread::sched_getcpu(), usize::from(last));
            let error = pin_to_core(u16::MAX).unwrap_err();
            assert!(error.to_string().starts_with("run on core 65535: "), "{error}");
        })
        .join()
        .unwrap();
    }

    #[test]
    fn work_takes_time() {
        let before = thread_cpu_time();
        let mut x = 1u64;
        while thread_cpu_time() == before {
            x = std::hint::black_box(x.wrapping_mul(3));
        }
        assert!(process_cpu_time() >= before);
    }
}
