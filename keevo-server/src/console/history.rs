//! What the plots show: a sample every two seconds of the last quarter of an hour, kept on this node.
//!
//! ```text
//! calls, log, store, replicas ──every 2 s──▶ counters now − counters before ──▶ one row of numbers ──▶ ring of 450
//! ```
//!
//! Invariant: a row is made of differences of counters that only grow, so one that was not taken spreads over the next.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::State;
use keevo_core::Clock;
use serde::Deserialize;
use serde_json::{Value, json};

use super::guard::Caller;
use super::reply::{Answer, Asked, Reply};
use super::{Console, ConsoleParts};
use crate::auth::grant::Action;
use crate::auth::rules::{self, Rule};
use crate::calls::{BUCKET_COUNT, MethodCalls, bucket_ends_us};

/// How often a sample is taken.
const EVERY: Duration = Duration::from_secs(2);
/// How many samples are kept.
const KEPT: usize = 450;
/// What the numbers of a row are, in order: when it was taken and how long it spans, what was counted in that time, times
/// in microseconds, how far the store is behind.
const COLUMNS: [&str; 13] = [
    "at_ms",
    "span_ms",
    "reads",
    "writes",
    "errors",
    "read_p50_us",
    "read_p99_us",
    "write_p50_us",
    "write_p99_us",
    "applied",
    "log_bytes",
    "log_syncs",
    "pressure_permille",
];

/// What a call does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Read,
    Write,
    /// Administers, or stays open.
    Other,
}

/// What a method does, by its name: `package.Service/Method`, or `http.API/VERB` for the HTTP APIs.
fn class(method: &str) -> Class {
    if let Some((api, verb)) = method.split_once('/')
        && api.starts_with("http.")
    {
        return if verb == "GET" { Class::Read } else { Class::Write };
    }
    match method.rsplit('/').next() {
        Some("Watch" | "Pipe" | "Subscribe" | "OpenSession" | "Keyspace") => return Class::Other,
        Some("FanOut" | "Write") => return Class::Write,
        _ => {}
    }
    match rules::find(method).map(|row| row.rule) {
        Some(Rule::Keys | Rule::Feeds(Action::Read) | Rule::Chat(Action::Read)) => Class::Read,
        Some(Rule::Feeds(Action::Write) | Rule::Chat(Action::Write)) => Class::Write,
        _ => Class::Other,
    }
}

/// All that is counted, at one time.
#[derive(Debug, Clone, Copy, Default)]
struct Counters {
    at: Duration,
    reads: MethodCalls,
    writes: MethodCalls,
    applied: u64,
    log_bytes: u64,
    log_syncs: u64,
}

fn plus(sum: &mut MethodCalls, one: &MethodCalls) {
    sum.calls += one.calls;
    sum.errors += one.errors;
    for (sum, one) in sum.buckets.iter_mut().zip(one.buckets) {
        *sum += one;
    }
}

fn minus(now: &MethodCalls, before: &MethodCalls) -> MethodCalls {
    let mut buckets = now.buckets;
    for (bucket, before) in buckets.iter_mut().zip(before.buckets) {
        *bucket = bucket.saturating_sub(before);
    }
    let calls = now.calls.saturating_sub(before.calls);
    MethodCalls { calls, errors: now.errors.saturating_sub(before.errors), buckets }
}

impl Counters {
    fn take(parts: &ConsoleParts) -> Self {
        let log = parts.metrics.log.counters();
        let applied = parts.node.replicas().iter().map(|one| one.applied).sum();
        let at = parts.clock.monotonic();
        let mut all = Self { at, applied, log_bytes: log.bytes, log_syncs: log.syncs, ..Self::default() };
        for (method, counted) in parts.metrics.calls.counted() {
            match class(&method) {
                Class::Read => plus(&mut all.reads, &counted),
                Class::Write => plus(&mut all.writes, &counted),
                Class::Other => {}
            }
        }
        all
    }
}

/// The time within which a share of the calls, in hundredths, was answered, in microseconds; 0 where there were none.
/// Within a bucket calls are taken to be spread evenly; what is slower than the last bucket counts as its end.
fn quantile_us(calls: &MethodCalls, percent: u64) -> u64 {
    let total: u64 = calls.calls.max(calls.buckets.iter().sum());
    if total == 0 {
        return 0;
    }
    let wanted = total.saturating_mul(percent).div_ceil(100).max(1);
    let (mut below, mut start) = (0, 0);
    let ends: [u64; BUCKET_COUNT] = bucket_ends_us();
    for (count, end) in calls.buckets.iter().zip(ends) {
        if below + count >= wanted {
            let within = (end - start).saturating_mul(wanted - below) / (*count).max(1);
            return start + within;
        }
        below += count;
        start = end;
    }
    start
}

/// A row of [`COLUMNS`].
type Row = [u64; COLUMNS.len()];

fn row(now_ms: u64, pressure: u64, before: &Counters, now: &Counters) -> Row {
    let millis = u64::try_from(now.at.saturating_sub(before.at).as_millis()).unwrap_or(u64::MAX).max(1);
    let (reads, writes) = (minus(&now.reads, &before.reads), minus(&now.writes, &before.writes));
    [
        now_ms,
        millis,
        reads.calls,
        writes.calls,
        reads.errors + writes.errors,
        quantile_us(&reads, 50),
        quantile_us(&reads, 99),
        quantile_us(&writes, 50),
        quantile_us(&writes, 99),
        now.applied.saturating_sub(before.applied),
        now.log_bytes.saturating_sub(before.log_bytes),
        now.log_syncs.saturating_sub(before.log_syncs),
        pressure,
    ]
}

/// The samples.
pub(super) struct History {
    rows: Mutex<VecDeque<Row>>,
    clock: Arc<dyn Clock>,
}

impl History {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { rows: Mutex::default(), clock }
    }

    /// Takes samples for ever.
    pub(super) async fn follow(&self, parts: &ConsoleParts) {
        let mut before = Counters::take(parts);
        loop {
            tokio::time::sleep(EVERY).await;
            let now = Counters::take(parts);
            let pressure = u64::from(parts.node.storage().pressure_permille);
            self.keep(row(self.clock.now_ms(), pressure, &before, &now));
            before = now;
        }
    }

    fn keep(&self, row: Row) {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        if rows.len() == KEPT {
            rows.pop_front();
        }
        rows.push_back(row);
    }

    /// The rows that were taken after a time, oldest first.
    fn after(&self, at_ms: u64) -> Vec<Row> {
        let rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        rows.iter().filter(|row| row.first().is_some_and(|taken| *taken > at_ms)).copied().collect()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct After {
    /// Only what was taken after this time, in milliseconds since the epoch.
    #[serde(default)]
    after: u64,
}

/// The samples of this node, and its present state: for whoever is known, as `/metrics` is for everybody.
pub(super) async fn samples(State(console): State<Console>, _: Caller, Asked(asked): Asked<After>) -> Answer {
    let parts = console.parts();
    Ok(Reply(json!({
        "node": parts.node.id(),
        "every_ms": u64::try_from(EVERY.as_millis()).unwrap_or(u64::MAX),
        "columns": COLUMNS,
        "rows": console.0.history.after(asked.after),
        "now": now(parts),
    })))
}

fn now(parts: &ConsoleParts) -> Value {
    let storage = parts.node.storage();
    let stats = parts.metrics.store.stats().ok();
    let replicas = parts.node.replicas();
    json!({
        "not_ready": parts.metrics.not_ready(),
        "replicas": replicas.len(),
        "leads": replicas.iter().filter(|one| one.role == "leader").count(),
        "free_bytes": storage.free_bytes,
        "disk_full": storage.disk_full,
        "refusal": storage.refusal,
        "table_bytes": stats.as_ref().map(|stats| stats.table_bytes),
        "memtable_bytes": stats.as_ref().map(|stats| stats.memtable_bytes),
        "cache_hits": stats.as_ref().map(|stats| stats.cache_hits),
        "cache_misses": stats.as_ref().map(|stats| stats.cache_misses),
        "feeds": (parts.metrics.feeds)().map(|feeds| json!({ "jobs_pending": feeds.jobs_pending, "lag_ms": feeds.lag_ms })),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use keevo_core::ManualClock;

    fn calls(calls: u64, buckets: &[(usize, u64)]) -> MethodCalls {
        let mut all = MethodCalls { calls, ..MethodCalls::default() };
        for (at, count) in buckets {
            all.buckets[*at] = *count;
        }
        all
    }

    #[test]
    fn every_method_has_a_class_that_fits_its_name() {
        for (method, expected) in [
            ("keevo.kv.v1.Kv/Get", Class::Read),
            ("keevo.kv.v1.Kv/Scan", Class::Read),
            ("keevo.kv.v1.Kv/Write", Class::Write),
            ("keevo.kv.v1.Kv/Watch", Class::Other),
            ("keevo.chat.v1.Chat/SendMessage", Class::Write),
            ("keevo.chat.v1.Chat/History", Class::Read),
            ("keevo.feeds.v1.Feeds/GetFeed", Class::Read),
            ("keevo.admin.v1.Admin/Info", Class::Other),
            ("http.feeds/GET", Class::Read),
            ("http.chat/POST", Class::Write),
            ("nobody.knows/This", Class::Other),
        ] {
            assert_eq!(class(method), expected, "{method}");
        }
    }

    #[test]
    fn a_quantile_lies_in_the_bucket_of_its_call() {
        assert_eq!(quantile_us(&calls(0, &[]), 99), 0);
        assert_eq!(quantile_us(&calls(100, &[(0, 100)]), 50), 125, "evenly between 0 and 250");
        let mixed = calls(100, &[(1, 98), (5, 2)]);
        assert!((250..=500).contains(&quantile_us(&mixed, 50)));
        assert!((5_000..=10_000).contains(&quantile_us(&mixed, 99)));
        assert_eq!(quantile_us(&calls(10, &[(0, 1)]), 99), 10_000_000, "slower than all buckets");
    }

    #[test]
    fn a_row_holds_what_was_counted_in_its_time() {
        let before = Counters { at: Duration::from_secs(1), reads: calls(10, &[(0, 10)]), ..Counters::default() };
        let reads = MethodCalls { errors: 4, ..calls(30, &[(0, 10), (2, 20)]) };
        let now = Counters { at: Duration::from_secs(3), reads, applied: 7, log_bytes: 4_096, ..Counters::default() };
        let row = row(5, 12, &before, &now);
        let named = |name: &str| row[COLUMNS.iter().position(|column| *column == name).expect("a column")];
        assert_eq!((named("at_ms"), named("span_ms")), (5, 2_000));
        assert_eq!((named("reads"), named("writes"), named("errors")), (20, 0, 4));
        assert_eq!((named("applied"), named("log_bytes"), named("pressure_permille")), (7, 4_096, 12));
        assert!((501..=1_000).contains(&named("read_p50_us")), "what was counted before does not count");
    }

    #[test]
    fn so_many_rows_are_kept() {
        let history = History::new(Arc::new(ManualClock::new(0)));
        for at in 0..KEPT as u64 + 10 {
            let mut row = [0; COLUMNS.len()];
            row[0] = at + 1;
            history.keep(row);
        }
        let rows = history.after(0);
        assert_eq!((rows.len(), rows[0][0]), (KEPT, 11));
        assert_eq!(history.after(KEPT as u64 + 8).len(), 2);
    }
}
