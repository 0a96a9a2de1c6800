//! Counters of one `Feeds` instance, for whoever exports them.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// What an instance has counted since it was opened.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct FeedsMetrics {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl FeedsMetrics {
            /// What two instances have counted together, gauges too.
            #[must_use]
            pub fn plus(self, other: Self) -> Self {
                Self { $($name: self.$name.saturating_add(other.$name),)* }
            }
        }

        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: AtomicU64,)*
        }

        impl Counters {
            pub(crate) fn read(&self) -> FeedsMetrics {
                FeedsMetrics { $($name: self.$name.load(Ordering::Relaxed),)* }
            }
        }
    };
}

counters! {
    /// Activities added or overwritten.
    activities_added,
    /// Activities removed from a feed.
    activities_removed,
    /// Timeline rows written or removed by fan-outs. A step that is repeated, after a crash or a lost answer, counts
    /// again: an engine does not say whether a row was there before.
    entries_fanned_out,
    /// Those of them that the worker wrote in the lane of new jobs.
    entries_prompt,
    /// Those of them that it wrote in the lane of large ones.
    entries_bulk,
    /// Fan-out targets that were skipped: unfollowed since, removed since, or followed only since.
    entries_skipped,
    /// Timeline rows copied by follows.
    entries_copied,
    /// Timeline rows taken out by unfollows.
    entries_withdrawn,
    /// Follow edges made.
    follows,
    /// Follow edges deleted.
    unfollows,
    /// Feeds that became merged by their readers.
    sources_merged,
    /// Feeds that are written to their followers again.
    sources_unmerged,
    /// Outbox jobs brought to their end.
    jobs_finished,
    /// Outbox jobs that a caller left to the worker.
    jobs_left,
    /// Attempts of the worker that failed; it tries again.
    jobs_failed,
    /// Pointers without a job that were dropped after the grace time.
    pointers_dropped,
    /// Outbox jobs that turned out large and make way for smaller ones.
    jobs_bulk,
    /// Gauge: jobs that the last sweep of the outbox found waiting, but for large ones.
    jobs_pending,
    /// Gauge: the age in milliseconds of the oldest of them.
    lag_ms,
    /// Gauge: large jobs that the last sweep for them found waiting.
    bulk_pending,
    /// Gauge: the age in milliseconds of the oldest of them.
    bulk_lag_ms,
}

pub(crate) fn add(counter: &AtomicU64, by: usize) {
    counter.fetch_add(u64::try_from(by).unwrap_or(u64::MAX), Ordering::Relaxed);
}
