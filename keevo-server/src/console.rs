//! The web console at `/console`: a page that is embedded here, and the HTTP API that it asks.
//!
//! ```text
//! browser ─▶ /console/            assets: the page, as it was built (keevo-server/console)
//!         ─▶ /console/api/…       guard: same site? who? ─▶ rights of the key's role ─▶ engine, layers, node
//! ```
//!
//! Whoever logs in shows an API key once; what its role may do over gRPC it may see here, and nothing else. Reading order:
//! [`guard`], `sessions`, `reply`, then one file for each page.
//!
//! Invariant: every answer is bounded, nothing here writes but decisions of moderation, and those are audited. A caller's
//! rights are looked at in every call, so a key that is revoked ends its sessions.

mod apilog;
mod assets;
mod audit;
mod bytes;
mod channels;
mod cluster;
mod feeds;
mod guard;
mod history;
mod keys;
mod keyspaces;
mod moderation;
mod partitions;
mod reply;
mod search;
mod sessions;

use std::fmt;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::routing::{any, get, post};
use keevo_core::{Clock, Error, ErrorKind, Random};
use keevo_gateway::Gateway;
use keevo_raft::{ClusterEngine, Node};
use tokio_util::sync::CancellationToken;

use crate::apilog::read::Reader;
use crate::auth::Authority;
use crate::metrics::Metrics;
use crate::moderation::Moderation;
use history::History;
use reply::Refusal;
use sessions::Sessions;

/// The largest request, in bytes.
const REQUEST_BYTES_MAX: usize = 64 << 10;
/// The most rows of a page.
const PAGE_MAX: usize = 200;
/// The rows of a page unless it is said.
const PAGE_DEFAULT: usize = 50;

/// What a console is over.
pub(crate) struct ConsoleParts {
    pub(crate) node: Node,
    /// Its calls end before a browser's patience does.
    pub(crate) engine: ClusterEngine,
    pub(crate) gateway: Gateway,
    pub(crate) moderation: Moderation<ClusterEngine>,
    pub(crate) metrics: Arc<Metrics>,
    /// `None` = nobody is asked who they are.
    pub(crate) authority: Option<Arc<Authority>>,
    /// Whether it is served where nobody is asked: on loopback, or where `insecure` says so.
    pub(crate) open: bool,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
}

/// The console of one node. Cheap to clone; clones share everything.
#[derive(Clone)]
pub(crate) struct Console(Arc<Inner>);

struct Inner {
    parts: ConsoleParts,
    sessions: Sessions,
    history: History,
    calls: Reader,
}

impl fmt::Debug for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Console").field("node", &self.0.parts.node.id()).finish_non_exhaustive()
    }
}

impl Console {
    /// The console of a node.
    pub(crate) fn new(parts: ConsoleParts) -> Self {
        let sessions = Sessions::new(Arc::clone(&parts.clock), Arc::clone(&parts.random));
        let history = History::new(Arc::clone(&parts.clock));
        // What the logs have purged is for keevo-cli, which waits for archives.
        let calls = Reader::new(parts.node.clone(), None);
        Self(Arc::new(Inner { parts, sessions, history, calls }))
    }

    /// Takes samples for the plots, until `shutdown`.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        shutdown.run_until_cancelled(self.0.history.follow(&self.0.parts)).await;
    }

    /// The routes, all below `/console`.
    pub(crate) fn router(&self) -> Router {
        let api = Router::new()
            .route("/console/api/session", get(guard::session))
            .route("/console/api/login", post(guard::login))
            .route("/console/api/logout", post(guard::logout))
            .route("/console/api/cluster", get(cluster::status))
            .route("/console/api/metrics", get(history::samples))
            .route("/console/api/keyspaces", get(keyspaces::list))
            .route("/console/api/partitions", get(keys::partitions))
            .route("/console/api/rows", get(keys::rows))
            .route("/console/api/value", get(keys::value))
            .route("/console/api/apps", get(feeds::apps))
            .route("/console/api/feeds", get(feeds::list))
            .route("/console/api/activities", get(feeds::activities))
            .route("/console/api/channels", get(channels::list))
            .route("/console/api/messages", get(channels::messages))
            .route("/console/api/members", get(channels::members))
            .route("/console/api/search", get(search::find))
            .route("/console/api/moderation", get(moderation::status))
            .route("/console/api/moderation/queue", get(moderation::queue))
            .route("/console/api/moderation/decide", post(moderation::decide))
            .route("/console/api/audit", get(audit::tail))
            .route("/console/api/apilog", get(apilog::tail))
            .route("/console/api/{*path}", any(nothing_there))
            .layer(from_fn_with_state(self.clone(), guard::same_site))
            .layer(DefaultBodyLimit::max(REQUEST_BYTES_MAX))
            .with_state(self.clone());
        assets::routes(Arc::clone(&self.0.parts.random)).merge(api)
    }

    fn parts(&self) -> &ConsoleParts {
        &self.0.parts
    }

    /// Reads the API log of this node.
    fn calls(&self) -> &Reader {
        &self.0.calls
    }
}

async fn nothing_there() -> Refusal {
    Error::new(ErrorKind::NotFound, "the console's API has nothing at this address").into()
}

/// The size of a page, within its bound.
fn page_size(asked: Option<usize>) -> Result<usize, Error> {
    match asked {
        None => Ok(PAGE_DEFAULT),
        Some(size) if (1..=PAGE_MAX).contains(&size) => Ok(size),
        Some(size) => Err(Error::invalid(format!("limit is 1 to {PAGE_MAX}, not {size}"))),
    }
}
