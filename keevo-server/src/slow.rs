//! The log of slow calls: one line each, which says where the time went.
//!
//! ```text
//! WARN keevo_server::slow: slow call method=keevo.kv.v1.Kv/Write took_ms=1204.3 outcome=OK
//!      trace=4bf92f3577b34da6a3ce929d0e0e4736 stages="gate@3 0.1 ms, queue@3 0.2 ms, flush@3 1198.0 ms, …" unlogged=0
//! ```
//!
//! A stage is told with its shard. Those of a write are explained in docs/METRICS.md; `leader` is the time that another node
//! took, `barrier` that of a read without a lease.
//!
//! Invariant: a line holds names, numbers and kinds of errors only: no key, no value, no text of a caller. There are at most
//! ten of them a second; the next line says how many were left out.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use keevo_core::trace::Trace;
use tokio::time::Instant;

/// The most lines of a second.
const LINES_PER_SECOND: u32 = 10;
/// The most stages that a line tells.
const STAGES_MAX: usize = 16;

#[derive(Debug, Default)]
struct Window {
    since: Option<Instant>,
    lines: u32,
    unlogged: u64,
}

/// The log of slow calls of one node.
#[derive(Debug, Default)]
pub struct SlowLog {
    /// Calls that take so long are slow; zero = none is.
    threshold: Duration,
    window: Mutex<Window>,
    slow: AtomicU64,
    unlogged: AtomicU64,
}

impl SlowLog {
    /// The log of calls that take `threshold` or longer; zero = of none.
    pub fn new(threshold: Duration) -> Self {
        Self { threshold, ..Self::default() }
    }

    /// Whether any call can be slow.
    pub fn is_on(&self) -> bool {
        !self.threshold.is_zero()
    }

    /// Slow calls so far, and those of them that no line tells.
    pub fn counts(&self) -> (u64, u64) {
        (self.slow.load(Ordering::Relaxed), self.unlogged.load(Ordering::Relaxed))
    }

    /// Looks at a call that has ended: writes a line if it was slow.
    pub fn look(&self, method: &str, took: Duration, outcome: &str, trace: Option<&Trace>) {
        if !self.is_on() || took < self.threshold {
            return;
        }
        self.slow.fetch_add(1, Ordering::Relaxed);
        let Some(unlogged) = self.turn(Instant::now()) else {
            self.unlogged.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let trace_id = trace.map_or_else(String::new, |trace| format!("{:032x}", trace.trace_id()));
        let stages = trace.map(stages).unwrap_or_default();
        let took_ms = format!("{:.1}", millis(took));
        tracing::warn!(method, took_ms, outcome, trace = trace_id, stages, unlogged, "slow call");
    }

    /// How many lines were left out before this one; `None` where this one is to be left out too.
    fn turn(&self, now: Instant) -> Option<u64> {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = |since: Instant| now.saturating_duration_since(since) >= Duration::from_secs(1);
        if window.since.is_none_or(is_over) {
            (window.since, window.lines) = (Some(now), 0);
        }
        if window.lines >= LINES_PER_SECOND {
            window.unlogged += 1;
            return None;
        }
        window.lines += 1;
        Some(std::mem::take(&mut window.unlogged))
    }
}

/// Where the time of a call went.
fn stages(trace: &Trace) -> String {
    let parts = trace.parts();
    let mut text = String::new();
    for part in parts.iter().take(STAGES_MAX) {
        let before = if text.is_empty() { "" } else { ", " };
        let shard = part.shard.map_or_else(String::new, |shard| format!("@{shard}"));
        write!(text, "{before}{}{shard} {:.1} ms", part.name, millis(part.took)).expect("a string takes all text");
    }
    if parts.len() > STAGES_MAX {
        text.push_str(", …");
    }
    text
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use keevo_core::ShardId;
    use keevo_core::trace::TraceContext;

    use super::*;
    use crate::observe::RecentLog;

    /// The lines that `work` logs.
    fn logged(work: impl FnOnce()) -> Vec<String> {
        let log = RecentLog::default();
        let subscriber = tracing_subscriber::fmt().with_writer(log.clone()).with_ansi(false).finish();
        tracing::subscriber::with_default(subscriber, work);
        log.lines().0
    }

    #[test]
    fn a_slow_call_is_one_line_with_its_stages_and_trace() {
        let context = TraceContext { trace_id: 0xabc, span_id: 1, sampled: false };
        let trace = Trace::begin(Some(context));
        let (began, second) = (trace.began(), Duration::from_secs(1));
        trace.part("gate", Some(ShardId(3)), began, began);
        trace.part("flush", Some(ShardId(3)), began, began + second);
        let log = SlowLog::new(second);
        let lines = logged(|| {
            log.look("p.S/Put", Duration::from_millis(1_204), "OK", Some(&trace));
            log.look("p.S/Put", Duration::from_millis(999), "OK", Some(&trace));
        });
        assert_eq!(lines.len(), 1, "{lines:?}");
        for part in [
            "WARN",
            "slow call",
            "method=\"p.S/Put\"",
            "took_ms=\"1204.0\"",
            "outcome=\"OK\"",
            "trace=\"00000000000000000000000000000abc\"",
            "stages=\"gate@3 0.0 ms, flush@3 1000.0 ms\"",
            "unlogged=0",
        ] {
            assert!(lines[0].contains(part), "{part} is missing in {}", lines[0]);
        }
        assert_eq!(log.counts(), (1, 0));
    }

    #[test]
    fn a_flood_of_slow_calls_is_counted_and_not_written() {
        let log = SlowLog::new(Duration::from_millis(1));
        let lines = logged(|| {
            for _ in 0..1_000 {
                log.look("p.S/Put", Duration::from_secs(2), "OK", None);
            }
        });
        // A window may end while they are written.
        assert!((10..=20).contains(&lines.len()), "{}", lines.len());
        let (slow, unlogged) = log.counts();
        assert_eq!((slow, unlogged), (1_000, 1_000 - u64::try_from(lines.len()).expect("few")));
        let start = Instant::now() + Duration::from_mins(1);
        assert!(log.turn(start).is_some_and(|before| before > 0), "the next line tells how many were left out");
        assert_eq!(log.turn(start), Some(0));
    }

    #[test]
    fn nothing_is_slow_where_nobody_asked() {
        let log = SlowLog::new(Duration::ZERO);
        assert!(logged(|| log.look("p.S/Put", Duration::from_mins(1), "OK", None)).is_empty());
        assert!(!log.is_on() && log.counts() == (0, 0));
    }
}
