//! When requests are due: at a fixed rate, whatever the system under load does.
//!
//! ```text
//! due at   start, start + 1/rate, start + 2/rate, …      a thread lets as many through as are due
//! client   takes the next number, asks, and counts its latency from when that number was due
//! ```
//!
//! Invariant: a request that had to wait for a free client has waited: nothing is left out because the system was slow
//! just then (coordinated omission). The thread looks every [`EVERY`], so a latency may be that much too long.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use keevo_core::{Error, ErrorKind, Result};
use tokio::sync::Semaphore;

use crate::window::Window;

/// How often it is looked what is due.
const EVERY: Duration = Duration::from_micros(100);

/// The requests of one run, shared by its clients.
#[derive(Debug, Clone)]
pub(crate) struct Arrivals {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// One permit a request that is due and not taken.
    due: Semaphore,
    taken: AtomicU64,
    /// How many were due and never taken, once the run is over.
    left: AtomicU64,
    per_s: u32,
    began: Duration,
}

impl Arrivals {
    /// Requests are due from now on, `per_s` a second, until the window ends. `Io`: no thread can be started.
    pub(crate) fn start(per_s: u32, window: &Arc<Window>) -> Result<Self> {
        let (taken, left) = (AtomicU64::new(0), AtomicU64::new(0));
        let shared = Shared { due: Semaphore::new(0), taken, left, per_s, began: window.now() };
        let arrivals = Self { shared: Arc::new(shared) };
        let (shared, window) = (Arc::clone(&arrivals.shared), Arc::clone(window));
        std::thread::Builder::new()
            .name("arrivals".to_owned())
            .spawn(move || shared.let_through(&window))
            .map_err(|error| Error::new(ErrorKind::Io, "the arrivals' thread cannot be started").with_source(error))?;
        Ok(arrivals)
    }

    /// Waits until a request is due; returns when it was, on the window's clock. After the end: a time behind it.
    pub(crate) async fn next(&self) -> Duration {
        match self.shared.due.acquire().await {
            Ok(permit) => permit.forget(),
            Err(_closed) => return Duration::MAX,
        }
        self.shared.due_at(self.shared.taken.fetch_add(1, Ordering::Relaxed))
    }
}

impl Arrivals {
    /// How many requests were due and never sent, because no client came free in time. Known once the clients have ended.
    pub(crate) fn left(&self) -> u64 {
        self.shared.left.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn due_at(&self, number: u64) -> Duration {
        let nanos = u128::from(number) * 1_000_000_000 / u128::from(self.per_s.max(1));
        self.began + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    fn let_through(&self, window: &Window) {
        let mut let_through = 0;
        loop {
            let now = window.now();
            let mut more = 0;
            while self.due_at(let_through) <= now && !window.has_ended_at(self.due_at(let_through)) {
                let_through += 1;
                more += 1;
            }
            if more > 0 {
                self.due.add_permits(more);
            }
            let all = window.has_ended_at(self.due_at(let_through));
            let left = let_through.saturating_sub(self.taken.load(Ordering::Relaxed));
            if (all && left == 0) || window.gives_up_at(now) {
                self.left.store(left, Ordering::Relaxed);
                self.due.close();
                return;
            }
            std::thread::park_timeout(EVERY);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn requests_are_due_at_the_rate_and_all_of_them_are_handed_out() {
        let window = Arc::new(Window::after(Duration::ZERO, Duration::from_millis(100)));
        let began = window.now();
        let arrivals = Arrivals::start(1_000, &window).expect("a thread");
        let mut due = Vec::new();
        loop {
            let at = arrivals.next().await;
            if window.has_ended_at(at) {
                break;
            }
            assert!(window.now() >= at, "nothing comes before it is due");
            due.push(at);
        }
        // The window began a moment before the first was due.
        assert!((98..=101).contains(&due.len()), "{}", due.len());
        assert!(due.iter().all(|at| *at >= began));
        assert!(due.windows(2).all(|two| two[1] == two[0] + Duration::from_millis(1)), "{due:?}");
    }
}
