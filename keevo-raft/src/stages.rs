//! How long the stages of writes take on a node, and which parts of the time of a slow one went where.
//!
//! ```text
//! leader    gate ─▶ queue ─▶ append ─▶ (flushed here) ─▶ committed ─▶ apply ─▶ answer
//! follower                   append ─▶  flushed here                  apply
//! ```
//!
//! Invariant: nothing here decides anything, and nothing is kept but counters and the newest appends of each replica.

mod progress;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use keevo_core::trace::{Span, SpanSink};

pub(crate) use progress::Progress;

/// The upper ends of the buckets of times, in microseconds.
pub const STAGE_BUCKETS_US: [u64; 12] =
    [250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 100_000, 250_000, 1_000_000, 2_500_000, 10_000_000];

/// A stage that writes go through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Held back before the log, for want of space or since a store is behind; of each write, at the leader.
    Gate,
    /// Waiting to be put into the log; of each batch the one that waited longest, at the leader.
    Queue,
    /// From an append to the log until it is durable here; of each append.
    Flush,
    /// From an append to the log until what it brought begins to be applied here; of each append.
    Commit,
    /// Applying; of each batch of entries.
    Apply,
    /// From the gate to the answer; of each write, at the leader.
    Write,
}

impl Stage {
    /// Every stage, in order.
    pub const ALL: [Self; 6] = [Self::Gate, Self::Queue, Self::Flush, Self::Commit, Self::Apply, Self::Write];

    /// What it is called in metrics and in the log of slow calls.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gate => "gate",
            Self::Queue => "queue",
            Self::Flush => "flush",
            Self::Commit => "commit",
            Self::Apply => "apply",
            Self::Write => "write",
        }
    }
}

/// The times of one stage since the node was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StageTimes {
    /// How often, by time: each in the first bucket of [`STAGE_BUCKETS_US`] that it fits; longer ones in none.
    pub buckets: [u64; STAGE_BUCKETS_US.len()],
    /// How often in all.
    pub count: u64,
    /// The times together, in microseconds.
    pub micros: u64,
}

#[derive(Debug, Default)]
struct Histogram {
    buckets: [AtomicU64; STAGE_BUCKETS_US.len()],
    count: AtomicU64,
    micros: AtomicU64,
}

/// The stages of the writes of one node.
#[derive(Debug, Default)]
pub(crate) struct Stages {
    times: [Histogram; Stage::ALL.len()],
    sink: OnceLock<Arc<dyn SpanSink>>,
}

impl Stages {
    /// Counts that a stage took so long.
    pub(crate) fn took(&self, stage: Stage, time: Duration) {
        let Some(histogram) = self.times.get(stage as usize) else { return };
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        if let Some((bucket, _)) = histogram.buckets.iter().zip(STAGE_BUCKETS_US).find(|(_, end)| micros <= *end) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        histogram.micros.fetch_add(micros, Ordering::Relaxed);
        histogram.count.fetch_add(1, Ordering::Relaxed);
    }

    /// What was counted.
    pub(crate) fn times(&self) -> [(Stage, StageTimes); Stage::ALL.len()] {
        Stage::ALL.map(|stage| {
            let Some(histogram) = self.times.get(stage as usize) else { return (stage, StageTimes::default()) };
            let mut buckets = [0; STAGE_BUCKETS_US.len()];
            for (bucket, counted) in buckets.iter_mut().zip(&histogram.buckets) {
                *bucket = counted.load(Ordering::Relaxed);
            }
            let (count, micros) = (&histogram.count, &histogram.micros);
            (
                stage,
                StageTimes { buckets, count: count.load(Ordering::Relaxed), micros: micros.load(Ordering::Relaxed) },
            )
        })
    }

    /// Has spans go there from now on; the first sink stays.
    pub(crate) fn trace_to(&self, sink: Arc<dyn SpanSink>) {
        if self.sink.set(sink).is_err() {
            tracing::warn!("the node traces already; its spans go where they did");
        }
    }

    /// Where spans go, if anywhere.
    pub(crate) fn sink(&self) -> Option<&Arc<dyn SpanSink>> {
        self.sink.get()
    }

    /// Hands a span on, if spans go anywhere.
    pub(crate) fn span(&self, span: Span) {
        if let Some(sink) = self.sink.get() {
            sink.take(span);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_fall_into_the_buckets_that_they_fit() {
        let stages = Stages::default();
        for micros in [250, 251, 20_000_000] {
            stages.took(Stage::Flush, Duration::from_micros(micros));
        }
        let times = stages.times();
        assert_eq!(times.map(|(stage, _)| stage), Stage::ALL);
        let (_, flush) = times[2];
        assert_eq!((flush.buckets[0], flush.buckets[1], flush.buckets.iter().sum::<u64>()), (1, 1, 2));
        assert_eq!((flush.count, flush.micros), (3, 20_000_501));
        assert!(times.iter().filter(|(stage, _)| *stage != Stage::Flush).all(|(_, one)| *one == StageTimes::default()));
    }
}
