//! `Gateway`: the handle, its options, and what all requests share.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use keevo_core::call::CallLog;
use keevo_core::{AnyEngine, Clock, Error, ErrorKind, Random, Result, SystemClock};
use keevo_feeds::{AppId, Feeds};
use tokio_util::sync::CancellationToken;

use crate::apps::{Apps, OsRandom};
use crate::fetch::Fetcher;
use crate::files::Files;
use crate::limits::Limiter;
use crate::realtime::{Hub, webhook};
use crate::registry::Registry;
use crate::serve;

/// The app of calls that name none.
pub const FIRST_APP: AppId = AppId(1);

/// How the gateway behaves. The defaults suit production.
#[derive(Debug, Clone)]
pub struct GatewayOptions {
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// Where ids and secrets come from.
    pub random: Arc<dyn Random>,
    /// The largest JSON body, in bytes.
    pub body_bytes_max: usize,
    /// The largest uploaded file, in bytes.
    pub file_bytes_max: usize,
    /// The folder of uploaded files; `None` = uploads are refused. Nodes of a cluster share it.
    pub files_dir: Option<PathBuf>,
    /// Where uploaded files are served, such as `https://files.example.org`; `None` = at the address of the request.
    /// Another origin than the API's keeps what users upload away from it.
    pub files_url: Option<String>,
    /// How long the address of a file works, in seconds.
    pub files_ttl_s: u64,
    /// Whether pages and webhooks may lie at private, loopback and link-local addresses.
    pub private_fetches: bool,
    /// The most clients of Bayeux and WebSocket together.
    pub realtime_clients_max: usize,
    /// How long a long poll waits for news, in milliseconds.
    pub poll_ms: u64,
    /// Where calls that change something are recorded; `None` = nowhere.
    pub calls: Option<Arc<CallLog>>,
}

impl Default for GatewayOptions {
    fn default() -> Self {
        Self {
            clock: Arc::new(SystemClock::new()),
            random: Arc::new(OsRandom),
            body_bytes_max: 4 << 20,
            file_bytes_max: 20 << 20,
            files_dir: None,
            files_url: None,
            files_ttl_s: 14 * 24 * 3_600,
            private_fetches: false,
            realtime_clients_max: 10_000,
            poll_ms: 25_000,
            calls: None,
        }
    }
}

/// The feeds REST API of one node. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Gateway {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) options: GatewayOptions,
    pub(crate) apps: Apps,
    pub(crate) registry: Registry,
    pub(crate) limiter: Limiter,
    pub(crate) files: Option<Files>,
    pub(crate) fetcher: Fetcher,
    pub(crate) hub: Hub,
    /// Ends what waits: long polls, sockets, webhooks.
    pub(crate) stop: CancellationToken,
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gateway")
    }
}

impl Gateway {
    /// A gateway over the feeds of `registry` for the apps in `apps`. `Config` where the folder of files cannot be
    /// used. Everything that waits ends with `stop`.
    pub fn open(apps: Apps, registry: Registry, options: GatewayOptions, stop: CancellationToken) -> Result<Self> {
        let files = options.files_dir.as_deref().map(Files::open).transpose()?;
        let fetcher = Fetcher::new(options.private_fetches)?;
        let hub = Hub::new(registry.clone(), Arc::clone(&options.clock), options.realtime_clients_max);
        let inner = Inner { options, apps, registry, limiter: Limiter::default(), files, fetcher, hub, stop };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The apps.
    pub fn apps(&self) -> &Apps {
        &self.inner.apps
    }

    /// The feeds of an app, with its groups. `NotFound` for an app that there is not, but the feeds of the first one are
    /// there before it is made.
    pub async fn feeds(&self, app: AppId) -> Result<Feeds<AnyEngine>> {
        match self.inner.apps.by_id(app.0).await? {
            Some(app) => self.inner.registry.of(&app).await,
            None if app == FIRST_APP => self.inner.registry.open(app).await,
            None => Err(Error::new(ErrorKind::NotFound, format!("there is no app {}", app.0))),
        }
    }

    /// The feeds of the apps.
    pub fn registry(&self) -> &Registry {
        &self.inner.registry
    }

    /// All routes. They take any path that nothing else has.
    pub fn router(&self) -> Router {
        serve::router(self.clone())
    }

    /// What runs beside the requests: the workers of all apps, and the webhooks. Ends with the gateway's `stop`.
    pub async fn run(self) {
        let stop = self.inner.stop.clone();
        let keep = self.inner.registry.clone().keep(self.inner.apps.clone(), stop);
        futures::future::join(keep, webhook::run(self)).await;
    }
}
