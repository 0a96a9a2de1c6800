//! Calls that share round trips: reads of a replica that asks its leader for the read index.
//!
//! ```text
//! reads   a b ──▶ round 1 ─────────▶ answered
//!             c d e ── wait ───────▶ round 2 ─▶ …
//! ```
//!
//! Invariant: a round serves only calls that joined before it started, since what it brings says nothing of writes that
//! were acknowledged later.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use keevo_core::Result;

/// A round trip, under way or about to start; it is driven by those who wait for it.
type Round = Shared<BoxFuture<'static, Result<u64>>>;

/// The round trips of one replica.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The last that started.
    running: Option<Round>,
    /// The one that calls may join.
    waiting: Option<Round>,
}

impl Rounds {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The result of a round that starts after this call: once the one before it has ended, or has taken longer than
    /// `patience`. `trip` is what a round does, if this call is the first to join it.
    pub(super) fn join<F>(self: &Arc<Self>, patience: Duration, trip: F) -> Round
    where
        F: FnOnce() -> BoxFuture<'static, Result<u64>> + Send + 'static,
    {
        let mut state = self.state();
        if let Some(waiting) = &state.waiting {
            return waiting.clone();
        }
        let (before, rounds) = (state.running.clone(), Arc::downgrade(self));
        let round = async move {
            if let Some(before) = before {
                // How it ended concerns those who joined it.
                drop(tokio::time::timeout(patience, before).await);
            }
            if let Some(rounds) = rounds.upgrade() {
                let mut state = rounds.state();
                state.running = state.waiting.take();
            }
            trip().await
        };
        let round = round.boxed().shared();
        state.waiting = Some(round.clone());
        round
    }

    /// Lets go of rounds that nobody waits for any more.
    pub(super) fn clear(&self) {
        *self.state() = State::default();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use keevo_core::{Error, ErrorKind};
    use tokio::sync::Semaphore;

    use super::*;

    const PATIENCE: Duration = Duration::from_mins(1);

    /// Trips that end when they are told to, each with its number.
    #[derive(Clone)]
    struct Trips {
        started: Arc<AtomicU64>,
        ends: Arc<Semaphore>,
        rounds: Arc<Rounds>,
    }

    impl Trips {
        fn new() -> Self {
            Self { started: Arc::default(), ends: Arc::new(Semaphore::new(0)), rounds: Arc::default() }
        }

        fn join(&self, patience: Duration) -> tokio::task::JoinHandle<Result<u64>> {
            let (started, ends) = (Arc::clone(&self.started), Arc::clone(&self.ends));
            let trip = move || {
                async move {
                    let number = started.fetch_add(1, Ordering::SeqCst) + 1;
                    ends.acquire().await.expect("open").forget();
                    if number == 3 { Err(Error::new(ErrorKind::NotLeader, "the third fails")) } else { Ok(number) }
                }
                .boxed()
            };
            tokio::spawn(self.rounds.join(patience, trip))
        }

        async fn started(&self, count: u64) {
            while self.started.load(Ordering::SeqCst) < count {
                tokio::task::yield_now().await;
            }
        }
    }

    #[tokio::test]
    async fn calls_share_the_round_that_starts_after_them() {
        let trips = Trips::new();
        let first = trips.join(PATIENCE);
        trips.started(1).await;
        let second: Vec<_> = (0..100).map(|_| trips.join(PATIENCE)).collect();
        tokio::task::yield_now().await;
        assert_eq!(trips.started.load(Ordering::SeqCst), 1, "the second round waits for the first");
        trips.ends.add_permits(1);
        assert_eq!(first.await.expect("runs").expect("an answer"), 1);
        trips.started(2).await;
        let third = trips.join(PATIENCE);
        trips.ends.add_permits(2);
        for one in second {
            assert_eq!(one.await.expect("runs").expect("an answer"), 2);
        }
        assert_eq!(third.await.expect("runs").expect_err("it failed").kind(), ErrorKind::NotLeader);
        trips.ends.add_permits(1);
        assert_eq!(trips.join(PATIENCE).await.expect("runs").expect("an answer"), 4);
    }

    #[tokio::test]
    async fn a_round_that_hangs_holds_the_next_one_for_a_while_only() {
        let trips = Trips::new();
        let hangs = trips.join(PATIENCE);
        trips.started(1).await;
        let next = trips.join(Duration::from_millis(5));
        trips.started(2).await;
        assert!(!hangs.is_finished() && !next.is_finished());
        trips.ends.add_permits(2);
        assert!(hangs.await.expect("runs").is_ok() && next.await.expect("runs").is_ok());
    }

    #[tokio::test]
    async fn readers_that_give_up_leave_the_others_alone() {
        let trips = Trips::new();
        let first = trips.join(PATIENCE);
        trips.started(1).await;
        let gives_up = trips.join(PATIENCE);
        first.abort();
        gives_up.abort();
        drop((first.await, gives_up.await));
        trips.ends.add_permits(2);
        assert_eq!(trips.join(PATIENCE).await.expect("runs").expect("an answer"), 2);
        trips.rounds.clear();
    }
}
