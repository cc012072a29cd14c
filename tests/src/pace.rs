//! A steady rate of operations, whatever each of them takes.

use std::time::{Duration, Instant};

/// Says when the next operations are due, by how many went before. What came late is caught up
/// with, so that over any time longer than a delay the rate is the one that was asked for.
#[derive(Debug)]
pub struct Pace {
    begin: Instant,
    /// Operations per second; 0 is as fast as possible.
    rate: u32,
    done: u64,
}

impl Pace {
    /// A pace of `rate` operations per second from now on, 0 for as fast as possible.
    pub fn new(rate: u32) -> Self {
        Self { begin: Instant::now(), rate, done: 0 }
    }

    /// How many operations to do at a time, at most `most`: few at a low rate, so that the stream
    /// is even.
    pub fn block(&self, most: usize) -> usize {
        if self.rate == 0 { most } else { most.min(self.rate as usize / 200).max(1) }
    }

    /// Waits until the next `count` operations are due.
    pub fn wait(&mut self, count: u64) {
        if let Some(early) = self.due().checked_sub(self.begin.elapsed()) {
            std::thread::sleep(early);
        }
        self.done += count;
    }

    /// From the beginning to the next operation.
    fn due(&self) -> Duration {
        match self.rate {
            0 => Duration::ZERO,
            rate => Duration::from_secs_f64(self.done as f64 / f64::from(rate)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_caller_catches_up() {
        let mut pace = Pace::new(1000);
        pace.wait(50);
        std::thread::sleep(Duration::from_millis(100));
        // Both are due by now.
        let late = Instant::now();
        pace.wait(25);
        pace.wait(125);
        assert!(late.elapsed() < Duration::from_millis(50), "{:?}", late.elapsed());
        pace.wait(1);
        assert!(pace.begin.elapsed() >= Duration::from_millis(200));
        assert_eq!(pace.due(), Duration::from_millis(201));
    }

    #[test]
    fn no_rate_is_no_wait() {
        let mut pace = Pace::new(0);
        pace.wait(u64::MAX);
        assert_eq!((pace.due(), pace.block(64)), (Duration::ZERO, 64));
    }
}
