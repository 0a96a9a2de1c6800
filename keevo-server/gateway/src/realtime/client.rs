//! Clients of realtime: who they are, what they listen to, what waits for them.
//!
//! Invariants: a client's queue, its subscriptions and the number of clients are bounded; a client whose queue is full
//! is dropped and told to begin anew, rather than to miss something without knowing it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use keevo_core::Clock;
use keevo_feeds::{AppId, FeedId};
use serde_json::Value;
use tokio::sync::Notify;

use crate::error::{ApiError, ApiResult};

/// The most messages that wait for a client.
const QUEUE_MAX: usize = 1_000;
/// The most feeds that a client listens to.
pub(crate) const SUBSCRIPTIONS_MAX: usize = 100;
/// How long a client may be silent.
const IDLE: Duration = Duration::from_mins(2);

/// What a client listens to, and the channel on which it hears of it.
type Subscriptions = BTreeMap<(AppId, FeedId), String>;

/// One client.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) id: String,
    /// Wakes who waits for its messages.
    pub(crate) news: Notify,
    /// Counts its waiting connects; only the newest one goes on waiting.
    pub(crate) connects: AtomicU64,
    queue: Mutex<VecDeque<Value>>,
    subscriptions: Mutex<Subscriptions>,
    seen: Mutex<Duration>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Client {
    /// What waits for it, which it then has.
    pub(crate) fn take(&self) -> Vec<Value> {
        lock(&self.queue).drain(..).collect()
    }

    /// Whether anything waits for it.
    pub(crate) fn has_news(&self) -> bool {
        !lock(&self.queue).is_empty()
    }

    /// The channels it listens on.
    #[cfg(test)]
    fn channels(&self) -> Vec<String> {
        lock(&self.subscriptions).values().cloned().collect()
    }
}

/// The clients of a node.
#[derive(Debug)]
pub(crate) struct Clients {
    clock: Arc<dyn Clock>,
    max: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    clients: BTreeMap<String, Arc<Client>>,
    listeners: BTreeMap<(AppId, FeedId), BTreeSet<String>>,
}

impl Clients {
    pub(crate) fn new(clock: Arc<dyn Clock>, max: usize) -> Self {
        Self { clock, max, state: Mutex::default() }
    }

    /// A new client under an id that nobody can guess.
    pub(crate) fn add(&self, id: String) -> ApiResult<Arc<Client>> {
        self.sweep();
        let mut state = lock(&self.state);
        if state.clients.len() >= self.max {
            return Err(ApiError::rate(format!("this node has {} realtime clients already", self.max), 10));
        }
        let client = Arc::new(Client {
            id: id.clone(),
            news: Notify::new(),
            connects: AtomicU64::new(0),
            queue: Mutex::default(),
            subscriptions: Mutex::default(),
            seen: Mutex::new(self.clock.monotonic()),
        });
        state.clients.insert(id, Arc::clone(&client));
        Ok(client)
    }

    /// A client that is known, and was heard of just now.
    pub(crate) fn get(&self, id: &str) -> Option<Arc<Client>> {
        let client = lock(&self.state).clients.get(id).cloned()?;
        *lock(&client.seen) = self.clock.monotonic();
        Some(client)
    }

    /// Takes a client away.
    pub(crate) fn remove(&self, id: &str) {
        let mut state = lock(&self.state);
        if let Some(client) = state.clients.remove(id) {
            for feed in lock(&client.subscriptions).keys() {
                forget(&mut state.listeners, feed, id);
            }
            client.connects.fetch_add(1, Ordering::SeqCst);
            client.news.notify_waiters();
        }
    }

    /// Has a client hear of a feed on a channel.
    pub(crate) fn subscribe(&self, client: &Client, app: AppId, feed: FeedId, channel: &str) -> ApiResult<()> {
        let mut state = lock(&self.state);
        let mut subscriptions = lock(&client.subscriptions);
        let key = (app, feed);
        if subscriptions.len() >= SUBSCRIPTIONS_MAX && !subscriptions.contains_key(&key) {
            return Err(ApiError::input(format!("a client listens to at most {SUBSCRIPTIONS_MAX} feeds")));
        }
        subscriptions.insert(key.clone(), channel.to_owned());
        state.listeners.entry(key).or_default().insert(client.id.clone());
        Ok(())
    }

    /// Ends that.
    pub(crate) fn unsubscribe(&self, client: &Client, channel: &str) {
        let mut state = lock(&self.state);
        let mut subscriptions = lock(&client.subscriptions);
        let feeds: Vec<_> =
            subscriptions.iter().filter(|(_, on)| *on == channel).map(|(feed, _)| feed.clone()).collect();
        for feed in feeds {
            subscriptions.remove(&feed);
            forget(&mut state.listeners, &feed, &client.id);
        }
    }

    /// Whether anybody here listens to a feed.
    pub(crate) fn listens(&self, app: AppId, feed: &FeedId) -> bool {
        lock(&self.state).listeners.contains_key(&(app, feed.clone()))
    }

    /// Whether anybody here listens to anything.
    pub(crate) fn any_listens(&self) -> bool {
        !lock(&self.state).listeners.is_empty()
    }

    /// Puts data into the queues of those who listen to a feed.
    pub(crate) fn push(&self, app: AppId, feed: &FeedId, data: &Value) {
        let listeners: Vec<Arc<Client>> = {
            let state = lock(&self.state);
            let ids = state.listeners.get(&(app, feed.clone())).into_iter().flatten();
            ids.filter_map(|id| state.clients.get(id).cloned()).collect()
        };
        let mut slow = Vec::new();
        for client in listeners {
            let Some(channel) = lock(&client.subscriptions).get(&(app, feed.clone())).cloned() else { continue };
            let mut queue = lock(&client.queue);
            if queue.len() >= QUEUE_MAX {
                slow.push(client.id.clone());
                continue;
            }
            queue.push_back(serde_json::json!({ "channel": channel, "data": data }));
            drop(queue);
            client.news.notify_waiters();
        }
        for id in &slow {
            self.remove(id);
        }
    }

    /// Drops clients that were silent for too long.
    pub(crate) fn sweep(&self) {
        let now = self.clock.monotonic();
        let silent: Vec<String> = {
            let state = lock(&self.state);
            let silent = state.clients.values().filter(|one| now.saturating_sub(*lock(&one.seen)) > IDLE);
            silent.map(|one| one.id.clone()).collect()
        };
        for id in &silent {
            self.remove(id);
        }
    }
}

fn forget(listeners: &mut BTreeMap<(AppId, FeedId), BTreeSet<String>>, feed: &(AppId, FeedId), id: &str) {
    if let Some(ids) = listeners.get_mut(feed) {
        ids.remove(id);
        if ids.is_empty() {
            listeners.remove(feed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keevo_core::ManualClock;

    #[test]
    fn queues_subscriptions_and_clients_are_bounded() {
        let clock = Arc::new(ManualClock::new(0));
        let clients = Clients::new(Arc::clone(&clock) as Arc<dyn Clock>, 2);
        let feed: FeedId = "user:1".parse().expect("a feed");
        let client = clients.add("a".to_owned()).expect("room");
        clients.subscribe(&client, AppId(1), feed.clone(), "/c").expect("room");
        clients.push(AppId(1), &feed, &Value::Null);
        clients.push(AppId(2), &feed, &Value::Null);
        assert_eq!(client.take().len(), 1, "another app's feed is another feed");
        for number in 1..SUBSCRIPTIONS_MAX {
            let other = FeedId::new("flat", &number.to_string()).expect("a feed");
            clients.subscribe(&client, AppId(1), other, "/x").expect("room");
        }
        let one_more = FeedId::new("flat", "more").expect("a feed");
        assert!(clients.subscribe(&client, AppId(1), one_more, "/x").is_err());
        clients.unsubscribe(&client, "/x");
        assert_eq!(client.channels(), ["/c"]);
        for _ in 0..=QUEUE_MAX {
            clients.push(AppId(1), &feed, &Value::Null);
        }
        assert!(clients.get("a").is_none() && !clients.any_listens(), "too slow");
        clients.add("b".to_owned()).expect("room");
        clients.add("c".to_owned()).expect("room");
        assert!(clients.add("d".to_owned()).is_err());
        clock.advance_ms(121_000);
        clients.add("d".to_owned()).expect("the silent ones gave way");
        assert!(clients.get("b").is_none());
    }
}
