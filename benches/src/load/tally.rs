//! What clients met: answers, failures, latencies.
//!
//! Throughput counts the answers that arrived within the window. Latencies are those of the same requests and of the
//! ones that were under way at its end, so that a stall is not cut off.

use std::time::Duration;

use hdrhistogram::Histogram;
use keevo_core::{Error, Result};

use crate::window::Window;

/// The longest latency that is told from longer ones, in microseconds.
const LATENCY_US_MAX: u64 = 60_000_000;

/// The counts of one client, or of several added up.
#[derive(Debug)]
pub(crate) struct Tally {
    /// Latencies in microseconds.
    pub(crate) latency_us: Histogram<u64>,
    /// Answers within the window.
    pub(crate) ops: u64,
    /// Requests that failed, after the warm-up.
    pub(crate) failed: u64,
    /// The first of these failures.
    pub(crate) first_failure: Option<Error>,
}

impl Tally {
    /// Nothing so far.
    pub(crate) fn new() -> Result<Self> {
        let latency_us = Histogram::new_with_bounds(1, LATENCY_US_MAX, 3)
            .map_err(|error| Error::invalid("the histogram's bounds do not fit").with_source(error))?;
        Ok(Self { latency_us, ops: 0, failed: 0, first_failure: None })
    }

    /// Notes a request that began and ended at these times of the window's clock.
    pub(crate) fn note(&mut self, window: &Window, began: Duration, ended: Duration, done: Result<()>) {
        if !window.has_started_at(ended) {
            return;
        }
        match done {
            Ok(()) => {
                let micros = u64::try_from(ended.saturating_sub(began).as_micros()).unwrap_or(u64::MAX);
                self.latency_us.saturating_record(micros);
                self.ops += u64::from(!window.has_ended_at(ended));
            }
            Err(error) => {
                self.failed += 1;
                self.first_failure.get_or_insert(error);
            }
        }
    }

    /// Adds what another client, or another run, met.
    pub(crate) fn add(&mut self, other: &Self) -> Result<()> {
        self.latency_us
            .add(&other.latency_us)
            .map_err(|error| Error::invalid("the histograms do not add up").with_source(error))?;
        self.ops += other.ops;
        self.failed += other.failed;
        if self.first_failure.is_none() {
            self.first_failure.clone_from(&other.first_failure);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keevo_core::ErrorKind;

    #[test]
    fn requests_count_by_when_they_end() {
        let window = Window::after(Duration::from_secs(1_000), Duration::from_secs(10));
        let start = window.now() + window.until_start();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut tally = Tally::new().expect("empty");
        let failure = || Err(Error::new(ErrorKind::Unavailable, "gone"));

        tally.note(&window, Duration::ZERO, start / 2, Ok(()));
        tally.note(&window, Duration::ZERO, start / 2, failure());
        assert_eq!((tally.ops, tally.latency_us.len(), tally.failed), (0, 0, 0), "the warm-up is not measured");
        tally.note(&window, at(1), at(4), Ok(()));
        assert_eq!((tally.ops, tally.latency_us.len(), tally.failed), (1, 1, 0));
        tally.note(&window, at(9), at(30), Ok(()));
        assert_eq!((tally.ops, tally.latency_us.len()), (1, 2), "under way at the end: a latency, no throughput");
        assert!((20_900_000..=21_100_000).contains(&tally.latency_us.max()), "{}", tally.latency_us.max());
        tally.note(&window, at(1), at(2), failure());
        assert_eq!((tally.ops, tally.latency_us.len(), tally.failed), (1, 2, 1));

        let mut sum = Tally::new().expect("empty");
        sum.add(&tally).expect("adds");
        sum.add(&tally).expect("adds");
        assert_eq!((sum.ops, sum.latency_us.len(), sum.failed), (2, 4, 2));
        assert_eq!(sum.first_failure.map(|error| error.kind()), Some(ErrorKind::Unavailable));
    }
}
