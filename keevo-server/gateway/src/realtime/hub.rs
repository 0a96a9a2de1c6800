//! The hub: one watch of all feeds' changes, and the clients who hear of them.
//!
//! The watch is there while somebody listens. When it breaks it begins anew, from then: clients hear of changes at most
//! once.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::StreamExt;
use keevo_core::{Clock, Engine, KeyspaceKind, Result, WatchFrom, WatchRange};
use keevo_feeds::FeedChange;
use tokio_util::sync::CancellationToken;

use super::Clients;
use super::news::News;
use crate::registry::Registry;

/// How many changes are looked at together.
const CHUNK: usize = 512;
/// How long the hub waits after a watch broke.
const AGAIN_AFTER: Duration = Duration::from_millis(500);
/// How often it looks whether anybody still listens.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// The hub of a node.
#[derive(Clone)]
pub(crate) struct Hub {
    inner: Arc<Inner>,
}

struct Inner {
    registry: Registry,
    clock: Arc<dyn Clock>,
    clients: Clients,
    runs: AtomicBool,
    /// Raised when a watch is in place.
    watching: tokio::sync::watch::Sender<bool>,
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hub")
    }
}

impl Hub {
    pub(crate) fn new(registry: Registry, clock: Arc<dyn Clock>, clients_max: usize) -> Self {
        let clients = Clients::new(Arc::clone(&clock), clients_max);
        let (watching, _) = tokio::sync::watch::channel(false);
        Self { inner: Arc::new(Inner { registry, clock, clients, runs: AtomicBool::new(false), watching }) }
    }

    /// The clients.
    pub(crate) fn clients(&self) -> &Clients {
        &self.inner.clients
    }

    /// Makes sure that the watch is in place, for a client that listens from now on.
    pub(crate) async fn listen(&self, stop: &CancellationToken) {
        if !self.inner.runs.swap(true, Ordering::SeqCst) {
            tokio::spawn(self.clone().run(stop.clone()));
        }
        let mut watching = self.inner.watching.subscribe();
        let in_place = watching.wait_for(|there| *there);
        // A cluster that is not up makes no watch: the client then hears of what comes after it is.
        if tokio::time::timeout(Duration::from_secs(5), in_place).await.is_err() {
            tracing::warn!("the watch of the feeds is not in place yet");
        }
    }

    async fn run(self, stop: CancellationToken) {
        let work = async {
            loop {
                if let Err(error) = self.watch().await {
                    tracing::debug!(%error, "the watch of the feeds broke");
                }
                self.inner.watching.send_replace(false);
                self.inner.clients.sweep();
                if !self.inner.clients.any_listens() {
                    self.inner.runs.store(false, Ordering::SeqCst);
                    // Somebody may have come in between, and found it running.
                    if !self.inner.clients.any_listens() || self.inner.runs.swap(true, Ordering::SeqCst) {
                        return;
                    }
                }
                tokio::time::sleep(AGAIN_AFTER).await;
            }
        };
        stop.run_until_cancelled(work).await;
    }

    /// Watches until the watch breaks, or nobody listens any more.
    async fn watch(&self) -> Result<()> {
        let engine = self.inner.registry.engine();
        let keyspace = engine.keyspace(keevo_feeds::KEYSPACE, KeyspaceKind::Hashed).await?;
        let watch = engine.watch(WatchRange::Keyspace(keyspace), WatchFrom::Now).await?;
        self.inner.watching.send_replace(true);
        let mut chunks = watch.ready_chunks(CHUNK);
        loop {
            let chunk = match tokio::time::timeout(LOOK_EVERY, chunks.next()).await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => return Ok(()),
                Err(_elapsed) => {
                    self.inner.clients.sweep();
                    if self.inner.clients.any_listens() {
                        continue;
                    }
                    return Ok(());
                }
            };
            let mut news = News::default();
            for event in chunk {
                let event = event?;
                let change = FeedChange::of(&event);
                if let Some(change) = change.filter(|one| self.inner.clients.listens(one.app, &one.feed)) {
                    news.add(change);
                }
            }
            for (app, feed, data) in news.tell(&self.inner.registry, self.inner.clock.now_ms()).await? {
                self.inner.clients.push(app, &feed, &data);
            }
        }
    }
}
