//! The figures of one side, from all its runs.
//!
//! Everything is a sum over the runs and then a quotient, never a mean of quotients: `ops_per_s` is all answers over
//! all measured seconds, percentiles are of all requests together, CPU seconds add up, memory is the largest seen. A
//! slow round weighs as much as it lasted.

use std::time::Duration;

use keevo_core::{Error, Result};
use serde::Serialize;

use crate::load::{Measured, Tally};
use crate::usage::Usage;

/// The figures of one side, as they are printed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Figures {
    pub(crate) ops_per_s: f64,
    /// Percentiles of the latency in microseconds; absent when nothing was answered.
    pub(crate) p50_us: Option<u64>,
    pub(crate) p99_us: Option<u64>,
    pub(crate) p999_us: Option<u64>,
    /// User and system time of the servers.
    pub(crate) cpu_s: f64,
    /// The largest sum of the servers' resident sets.
    pub(crate) rss_bytes_max: u64,
    /// Absent where the kernel does not tell, and when nothing was answered.
    pub(crate) bytes_written_per_op: Option<f64>,
    /// Requests that failed; they are in no other figure.
    pub(crate) failed: u64,
}

/// The runs of one side, added up.
#[derive(Debug)]
pub(crate) struct Total {
    tally: Tally,
    elapsed: Duration,
    usage: Usage,
}

impl From<Measured> for Total {
    fn from(run: Measured) -> Self {
        Self { tally: run.tally, elapsed: run.elapsed, usage: run.usage }
    }
}

impl Total {
    /// Adds a later run.
    pub(crate) fn add(&mut self, run: &Measured) -> Result<()> {
        self.tally.add(&run.tally)?;
        self.elapsed += run.elapsed;
        self.usage = self.usage.and(run.usage);
        Ok(())
    }

    /// Adds later runs.
    pub(crate) fn append(&mut self, later: Self) -> Result<()> {
        let Self { tally, elapsed, usage } = later;
        self.add(&Measured { tally, elapsed, usage })
    }

    /// The first request that failed.
    pub(crate) fn first_failure(&self) -> Option<&Error> {
        self.tally.first_failure.as_ref()
    }

    /// The figures.
    pub(crate) fn figures(&self) -> Figures {
        let Self { tally, elapsed, usage } = self;
        let at = |quantile| (!tally.latency_us.is_empty()).then(|| tally.latency_us.value_at_quantile(quantile));
        Figures {
            ops_per_s: per_second(tally.ops, *elapsed),
            p50_us: at(0.5),
            p99_us: at(0.99),
            p999_us: at(0.999),
            cpu_s: rounded(usage.cpu.as_secs_f64(), 100.0),
            rss_bytes_max: usage.rss_bytes_max,
            bytes_written_per_op: usage
                .written_bytes
                .filter(|_| tally.ops > 0)
                .map(|bytes| rounded(float(bytes) / float(tally.ops), 10.0)),
            failed: tally.failed,
        }
    }
}

/// How many a second, to a tenth.
pub(crate) fn per_second(count: u64, elapsed: Duration) -> f64 {
    rounded(float(count) / elapsed.as_secs_f64(), 10.0)
}

/// `value` to the nearest part of one; 100 means hundredths.
pub(crate) fn rounded(value: f64, parts: f64) -> f64 {
    (value * parts).round() / parts
}

#[allow(clippy::cast_precision_loss, reason = "counts of requests and of bytes are far below 2^53")]
fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use keevo_core::ErrorKind;

    /// A run of `seconds` in which `ops` requests took `latency_us` each.
    pub(crate) fn run(ops: u64, latency_us: u64, seconds: u64, failed: u64) -> Measured {
        let mut tally = Tally::new().expect("empty");
        tally.latency_us.saturating_record_n(latency_us, ops);
        tally.ops = ops;
        tally.failed = failed;
        tally.first_failure = (failed > 0).then(|| Error::new(ErrorKind::Unavailable, "the node is gone"));
        let usage =
            Usage { cpu: Duration::from_millis(ops), rss_bytes_max: ops * 1_000, written_bytes: Some(ops * 512) };
        Measured { tally, elapsed: Duration::from_secs(seconds), usage }
    }

    #[test]
    fn runs_are_summed_before_they_are_divided() {
        let mut total = Total::from(run(3_000, 100, 1, 0));
        total.add(&run(1_000, 900, 3, 2)).expect("adds");
        let figures = total.figures();
        let expected = Figures {
            // Not 1,666.7, the mean of 3,000 and 333.3.
            ops_per_s: 1_000.0,
            p50_us: Some(100),
            p99_us: Some(900),
            p999_us: Some(900),
            cpu_s: 4.0,
            rss_bytes_max: 3_000_000,
            bytes_written_per_op: Some(512.0),
            failed: 2,
        };
        assert_eq!(figures, expected);
        assert_eq!(total.first_failure().map(Error::kind), Some(ErrorKind::Unavailable));
    }

    #[test]
    fn nothing_answered_gives_no_latency_and_no_bytes() {
        let figures = Total::from(run(0, 0, 1, 5)).figures();
        assert_eq!((figures.p50_us, figures.p999_us, figures.bytes_written_per_op), (None, None, None));
        assert_eq!((figures.ops_per_s.to_string(), figures.failed), ("0".to_owned(), 5));
    }

    #[test]
    fn bytes_that_one_run_could_not_tell_are_told_for_none() {
        let mut total = Total::from(run(10, 1, 1, 0));
        let mut later = run(10, 1, 1, 0);
        later.usage.written_bytes = None;
        total.add(&later).expect("adds");
        assert_eq!(total.figures().bytes_written_per_op, None);
    }
}
