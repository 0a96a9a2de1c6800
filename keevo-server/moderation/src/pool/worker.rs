//! One worker: its load, how fast it answers, and until when it rests.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::WorkerStatus;

/// How many failures in a row send a worker to rest.
const FAILURES_MAX: u32 = 3;
/// The first rest; it doubles with each failure after it.
const REST_MIN: Duration = Duration::from_millis(500);
/// The longest rest.
const REST_MAX: Duration = Duration::from_secs(30);
/// How long a worker rests that is far slower than another.
const REST_SLOW: Duration = Duration::from_secs(5);
/// How many times slower than the fastest it must be.
const SLOW_FACTOR: u32 = 5;
/// And how slow at least.
const SLOW_MIN: Duration = Duration::from_millis(100);
/// How much the newest answer counts in the mean: one part in so many.
const MEAN_PARTS: u32 = 8;

/// A worker as the pool sees it.
#[derive(Debug)]
pub(super) struct Worker {
    url: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    in_flight: usize,
    failures: u32,
    rests_until: Duration,
    /// Mean time of urgent answers; zero = none yet.
    mean: Duration,
}

/// Counts a question as under way while it lives.
pub(super) struct InFlight<'a>(&'a Worker);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.in_flight = state.in_flight.saturating_sub(1);
    }
}

impl Worker {
    pub(super) fn new(url: String) -> Self {
        Self { url, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) fn status(&self, now: Duration) -> WorkerStatus {
        let state = self.state();
        WorkerStatus { url: self.url.clone(), in_flight: state.in_flight, resting: state.rests_until > now }
    }

    /// Whether it may be asked.
    pub(super) fn is_fit(&self, now: Duration) -> bool {
        self.state().rests_until <= now
    }

    /// What is compared between two workers: questions under way, then how fast it is.
    pub(super) fn load(&self) -> (usize, Duration) {
        let state = self.state();
        (state.in_flight, state.mean)
    }

    /// Counts a question until what it answers is dropped.
    pub(super) fn begin(&self) -> InFlight<'_> {
        self.state().in_flight += 1;
        InFlight(self)
    }

    /// Notes an answer: failures in a row begin anew. `took` is the time of an urgent one; others may have waited.
    pub(super) fn answered(&self, took: Option<Duration>) {
        let mut state = self.state();
        state.failures = 0;
        if let Some(took) = took {
            state.mean = if state.mean.is_zero() { took } else { (state.mean * (MEAN_PARTS - 1) + took) / MEAN_PARTS };
        }
    }

    /// Notes a failure; several in a row send it to rest.
    pub(super) fn failed(&self, now: Duration) {
        let mut state = self.state();
        state.failures = state.failures.saturating_add(1);
        if state.failures >= FAILURES_MAX {
            let rest = doubled(state.failures - FAILURES_MAX);
            state.rest(now, rest);
        }
    }

    /// Notes that nobody is there, which one look tells.
    pub(super) fn gone(&self, now: Duration) {
        let mut state = self.state();
        let rest = doubled(state.failures);
        state.failures = state.failures.saturating_add(1);
        state.rest(now, rest);
    }

    /// Leaves it alone for as long as it asked for.
    pub(super) fn rest(&self, now: Duration, rest: Duration) {
        self.state().rest(now, rest);
    }

    /// Sends it to rest where another that may be asked is far faster.
    pub(super) fn compare(self: &Arc<Self>, all: &[Arc<Self>], now: Duration) {
        let mean = self.state().mean;
        if mean < SLOW_MIN {
            return;
        }
        let others = all.iter().filter(|other| !Arc::ptr_eq(other, self) && other.is_fit(now));
        let fastest = others.map(|other| other.state().mean).filter(|other| !other.is_zero()).min();
        if fastest.is_some_and(|fastest| mean > fastest * SLOW_FACTOR) {
            let mut state = self.state();
            state.rest(now, REST_SLOW);
            // It is measured anew when it is asked again.
            state.mean = Duration::ZERO;
        }
    }
}

impl State {
    fn rest(&mut self, now: Duration, rest: Duration) {
        self.rests_until = self.rests_until.max(now + rest);
    }
}

fn doubled(times: u32) -> Duration {
    REST_MIN.saturating_mul(1 << times.min(10)).min(REST_MAX)
}
