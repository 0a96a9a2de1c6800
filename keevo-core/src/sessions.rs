//! An engine's own sessions, one on each shard: what makes a write that is sent again be applied once.
//!
//! Used by every engine that sends writes to shards elsewhere; what a shard keeps of a session is in `machine`.
//!
//! Invariant: `acked_below` never passes a request whose caller still waits; and the sequences in use span less than
//! the window that servers keep, so that no answer is forgotten while it is waited for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, OnceCell};

use crate::clock::Random;
use crate::ids::{ClientId, RequestId, ShardId};
use crate::limits::SESSION_WINDOW;

/// One session a shard.
#[derive(Debug, Default)]
pub struct Sessions {
    by_shard: Mutex<BTreeMap<ShardId, Arc<Session>>>,
}

impl Sessions {
    /// The shard's session, a new one at first.
    pub fn of(&self, shard: ShardId, random: &dyn Random) -> Arc<Session> {
        let mut sessions = lock(&self.by_shard);
        let session = sessions.entry(shard).or_insert_with(|| Arc::new(Session::new(random)));
        Arc::clone(session)
    }

    /// Forgets a session that the server does not know, unless that was done already.
    pub fn forget(&self, shard: ShardId, session: &Arc<Session>) {
        let mut sessions = lock(&self.by_shard);
        if sessions.get(&shard).is_some_and(|current| Arc::ptr_eq(current, session)) {
            sessions.remove(&shard);
        }
    }
}

/// A session on one shard.
#[derive(Debug)]
pub struct Session {
    /// The client id under which it is open.
    pub client: ClientId,
    /// Set once the server has opened it.
    pub opened: OnceCell<()>,
    window: Mutex<Window>,
    freed: Notify,
}

#[derive(Debug, Default)]
struct Window {
    last: u64,
    unanswered: BTreeSet<u64>,
}

impl Session {
    fn new(random: &dyn Random) -> Self {
        Self {
            client: ClientId(random.next_u128()),
            opened: OnceCell::new(),
            window: Mutex::default(),
            freed: Notify::new(),
        }
    }

    /// The next sequence; waits while the window is full.
    pub async fn begin(self: Arc<Self>) -> Ticket {
        let sequence = self.next_sequence().await;
        Ticket { session: self, sequence }
    }

    async fn next_sequence(&self) -> u64 {
        loop {
            // Registered before the look, so that no wake-up between the two is missed.
            let freed = self.freed.notified();
            let taken = lock(&self.window).take();
            match taken {
                Some(sequence) => return sequence,
                None => freed.await,
            }
        }
    }
}

impl Window {
    fn take(&mut self) -> Option<u64> {
        let next = self.last + 1;
        let lowest = self.unanswered.first().copied().unwrap_or(next);
        if next - lowest >= SESSION_WINDOW {
            return None;
        }
        self.last = next;
        self.unanswered.insert(next);
        Some(next)
    }
}

/// A sequence in use: answered, as far as the session is concerned, when dropped.
#[derive(Debug)]
pub struct Ticket {
    /// The session that it belongs to.
    pub session: Arc<Session>,
    sequence: u64,
}

impl Ticket {
    /// The request id to send now.
    pub fn request(&self) -> RequestId {
        let lowest = lock(&self.session.window).unanswered.first().copied();
        RequestId {
            client: self.session.client,
            sequence: self.sequence,
            acked_below: lowest.unwrap_or(self.sequence).min(self.sequence),
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        lock(&self.session.window).unanswered.remove(&self.sequence);
        self.session.freed.notify_waiters();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::SeededRandom;

    #[tokio::test]
    async fn acked_below_waits_for_the_slowest() {
        let session = Arc::new(Session::new(&SeededRandom::new(1)));
        let first = Arc::clone(&session).begin().await;
        let second = Arc::clone(&session).begin().await;
        let third = Arc::clone(&session).begin().await;
        drop(second);
        assert_eq!((third.request().sequence, third.request().acked_below), (3, 1));
        drop(first);
        assert_eq!(third.request().acked_below, 3);
        drop(third);
        let fourth = session.begin().await;
        assert_eq!((fourth.request().sequence, fourth.request().acked_below), (4, 4));
    }

    #[tokio::test]
    async fn a_full_window_waits() {
        let session = Arc::new(Session::new(&SeededRandom::new(1)));
        let mut tickets = Vec::new();
        for _ in 0..SESSION_WINDOW {
            tickets.push(Arc::clone(&session).begin().await);
        }
        let slowest = tickets.remove(0);
        tickets.clear();
        let waits = tokio::spawn(Arc::clone(&session).begin());
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(!waits.is_finished(), "sequence {} would leave the first behind", SESSION_WINDOW + 1);
        drop(slowest);
        let next = waits.await.expect("begins").request();
        assert_eq!((next.sequence, next.acked_below), (SESSION_WINDOW + 1, SESSION_WINDOW + 1));
    }

    #[test]
    fn a_forgotten_session_is_replaced_once() {
        let (sessions, random) = (Sessions::default(), SeededRandom::new(1));
        let old = sessions.of(ShardId(1), &random);
        sessions.forget(ShardId(1), &old);
        let new = sessions.of(ShardId(1), &random);
        assert_ne!(old.client, new.client);
        sessions.forget(ShardId(1), &old);
        assert_eq!(sessions.of(ShardId(1), &random).client, new.client);
    }
}
