//! What the two processes say to each other: one JSON object a line.

use std::time::Duration;

use keevo_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use super::EmbeddedCase;
use crate::load::{Measured, Tally};
use crate::usage::Usage;

/// What a side is asked to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) case: EmbeddedCase,
    pub(crate) threads: u32,
    pub(crate) keys: u64,
    pub(crate) value_bytes: usize,
    pub(crate) warm_up_ms: u64,
    pub(crate) measure_ms: u64,
    /// Which of several runs: each has keys and values of its own.
    pub(crate) round: u32,
}

/// What it says when it has opened its store and written the keys.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Ready {
    /// How many keys there are.
    pub(super) keys: u64,
}

/// What it met in a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Answer {
    ops: u64,
    failed: u64,
    first_failure: Option<String>,
    elapsed_us: u64,
    cpu_us: u64,
    rss_bytes_max: u64,
    written_bytes: Option<u64>,
    /// How often which latency was met, in microseconds.
    latencies: Vec<(u64, u64)>,
}

impl Answer {
    pub(super) fn new(measured: &Measured) -> Self {
        let Measured { tally, elapsed, usage } = measured;
        let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let met = tally.latency_us.iter_recorded();
        Self {
            ops: tally.ops,
            failed: tally.failed,
            first_failure: tally.first_failure.as_ref().map(ToString::to_string),
            elapsed_us: micros(*elapsed),
            cpu_us: micros(usage.cpu),
            rss_bytes_max: usage.rss_bytes_max,
            written_bytes: usage.written_bytes,
            latencies: met.map(|value| (value.value_iterated_to(), value.count_at_value())).collect(),
        }
    }

    pub(super) fn measured(self) -> Result<Measured> {
        let mut tally = Tally::new()?;
        for (latency_us, count) in self.latencies {
            tally.latency_us.saturating_record_n(latency_us, count);
        }
        tally.ops = self.ops;
        tally.failed = self.failed;
        tally.first_failure = self.first_failure.map(|what| Error::new(ErrorKind::Io, what));
        let usage = Usage {
            cpu: Duration::from_micros(self.cpu_us),
            rss_bytes_max: self.rss_bytes_max,
            written_bytes: self.written_bytes,
        };
        Ok(Measured { tally, elapsed: Duration::from_micros(self.elapsed_us), usage })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::Total;
    use crate::figures::tests::run;

    #[test]
    fn figures_pass_between_the_processes_unchanged() {
        let mut measured = run(3_000, 100, 1, 2);
        measured.tally.latency_us.saturating_record(123_456);
        let text = serde_json::to_string(&Answer::new(&measured)).expect("JSON");
        let answer: Answer = serde_json::from_str(&text).expect("JSON");
        let there = answer.measured().expect("the same bounds");
        assert_eq!(there.tally.latency_us, measured.tally.latency_us);
        assert_eq!(Total::from(there).figures(), Total::from(measured).figures());
    }
}
