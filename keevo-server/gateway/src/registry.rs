//! The feeds of all apps of a node, opened once each, with a worker that drives what calls left in the outbox.
//!
//! Invariant: every app that exists has a worker on every node that runs [`Registry::keep`], so what a node that died
//! had begun is finished by the others.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use keevo_core::{AnyEngine, Engine, Result};
use keevo_feeds::{AppId, Feeds, FeedsMetrics, FeedsOptions, WorkerHandle};
use tokio_util::sync::CancellationToken;

use crate::apps::{App, Apps};

/// How often a worker looks for work that nobody woke it for.
const WORKER_EVERY: Duration = Duration::from_millis(500);
/// How often the list of apps is read anew.
const APPS_EVERY: Duration = Duration::from_secs(5);

/// The feeds of a node's apps. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Registry {
    inner: Arc<Inner>,
}

struct Inner {
    engine: AnyEngine,
    options: FeedsOptions,
    opened: Mutex<BTreeMap<AppId, Opened>>,
    opening: tokio::sync::Mutex<()>,
}

struct Opened {
    feeds: Feeds<AnyEngine>,
    worker: WorkerHandle,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Registry")
    }
}

impl Registry {
    /// An empty registry over an engine.
    pub fn new(engine: impl Engine, options: FeedsOptions) -> Self {
        let engine = AnyEngine::new(engine);
        let inner = Inner { engine, options, opened: Mutex::default(), opening: tokio::sync::Mutex::default() };
        Self { inner: Arc::new(inner) }
    }

    /// The engine underneath.
    pub fn engine(&self) -> &AnyEngine {
        &self.inner.engine
    }

    fn opened(&self) -> MutexGuard<'_, BTreeMap<AppId, Opened>> {
        self.inner.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The feeds of an app, opened when this is the first call for it. Fails while the engine is not up.
    pub async fn open(&self, app: AppId) -> Result<Feeds<AnyEngine>> {
        let known = |registry: &Self| registry.opened().get(&app).map(|one| one.feeds.clone());
        if let Some(feeds) = known(self) {
            return Ok(feeds);
        }
        let _one_at_a_time = self.inner.opening.lock().await;
        if let Some(feeds) = known(self) {
            return Ok(feeds);
        }
        let feeds = Feeds::open(self.inner.engine.clone(), app, self.inner.options.clone()).await?;
        let worker = feeds.spawn_worker(WORKER_EVERY);
        self.opened().insert(app, Opened { feeds: feeds.clone(), worker });
        Ok(feeds)
    }

    /// The feeds of an app, opened when this is the first call for it.
    pub(crate) async fn of(&self, app: &App) -> Result<Feeds<AnyEngine>> {
        let feeds = self.open(AppId(app.id)).await?;
        let groups = app.feed_groups();
        if *feeds.groups() != groups {
            feeds.set_groups(groups);
        }
        Ok(feeds)
    }

    /// What the feeds of all apps have counted; nothing before any is open. A lag is the longest of them.
    pub fn metrics(&self) -> Option<FeedsMetrics> {
        let opened = self.opened();
        let all = opened.values().map(|one| one.feeds.metrics());
        all.reduce(|sum, one| FeedsMetrics {
            lag_ms: sum.lag_ms.max(one.lag_ms),
            bulk_lag_ms: sum.bulk_lag_ms.max(one.bulk_lag_ms),
            ..sum.plus(one)
        })
    }

    /// Opens every app there is, again and again, so that each has its worker here; until `stop`.
    pub async fn keep(self, apps: Apps, stop: CancellationToken) {
        let work = async {
            loop {
                if let Err(error) = self.open_all(&apps).await {
                    tracing::debug!(%error, "the apps cannot be listed yet");
                }
                tokio::time::sleep(APPS_EVERY).await;
            }
        };
        if stop.run_until_cancelled(work).await.is_none() {
            self.stop().await;
        }
    }

    async fn open_all(&self, apps: &Apps) -> Result<()> {
        for app in apps.list().await? {
            self.of(&app).await?;
        }
        Ok(())
    }

    /// Ends the workers after the runs that they are in.
    pub async fn stop(&self) {
        let opened = std::mem::take(&mut *self.opened());
        for (app, one) in opened {
            if let Err(error) = one.worker.stop().await {
                tracing::warn!(%app, %error, "the worker of an app's feeds did not end well");
            }
        }
    }
}
