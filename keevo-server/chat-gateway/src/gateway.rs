//! `ChatGateway`: the handle, its options, and what all requests share.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use keevo_chat::ChatOptions;
use keevo_core::AnyEngine;
use keevo_gateway::Gateway;
use keevo_search::SearchIndex;

use crate::chats::Chats;
use crate::gate::Gatekeeper;
use crate::hooks;
use crate::serve;
use crate::socket::Hub;
use crate::users_limit::UserLimiter;
use crate::watches::SharedWatches;

/// How the chat API behaves. The defaults suit production.
#[derive(Debug, Clone)]
pub struct ChatGatewayOptions {
    /// The largest JSON body, in bytes.
    pub body_bytes_max: usize,
    /// The most sockets of this node.
    pub sockets_max: usize,
    /// The most sockets of one user on this node.
    pub user_sockets_max: usize,
    /// The most channels of one socket.
    pub channels_max: usize,
    /// The most frames that wait for a socket.
    pub queue_frames_max: usize,
    /// The most bytes that wait for a socket.
    pub queue_bytes_max: usize,
    /// How often a socket is told something at least.
    pub heartbeat: Duration,
    /// How long a client may say nothing.
    pub silence: Duration,
    /// How long a client may take to say hello.
    pub hello: Duration,
    /// The most requests of one user in a minute, on this node.
    pub user_per_minute: u32,
    /// How many recent events of a channel are kept for those who come back.
    pub recent_max: usize,
    /// Where messages are searched; `None` = nowhere.
    pub search: Option<SearchIndex>,
}

impl Default for ChatGatewayOptions {
    fn default() -> Self {
        Self {
            body_bytes_max: 1 << 20,
            sockets_max: 20_000,
            user_sockets_max: 20,
            channels_max: 200,
            queue_frames_max: 2_000,
            queue_bytes_max: 4 << 20,
            heartbeat: Duration::from_secs(25),
            silence: Duration::from_mins(1),
            hello: Duration::from_secs(10),
            user_per_minute: 600,
            recent_max: 128,
            search: None,
        }
    }
}

/// The chat API of one node. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct ChatGateway {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) shared: Gateway,
    pub(crate) options: ChatGatewayOptions,
    pub(crate) chats: Arc<Chats>,
    pub(crate) users: UserLimiter,
    pub(crate) gate: Option<Arc<dyn Gatekeeper>>,
    pub(crate) hub: Hub,
    /// What the node reads of all chats, for those who follow some of it.
    pub(crate) watches: SharedWatches<AnyEngine>,
}

impl fmt::Debug for ChatGateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChatGateway")
    }
}

impl ChatGateway {
    /// Chat beside `shared`, on the same engine; texts pass `gate` before they are sent. Everything that waits ends when
    /// `shared` stops. Does no I/O.
    pub fn new(shared: Gateway, gate: Option<Arc<dyn Gatekeeper>>, options: ChatGatewayOptions) -> Self {
        let base = shared.options();
        let chat_options =
            ChatOptions { clock: Arc::clone(&base.clock), random: Arc::clone(&base.random), ..ChatOptions::default() };
        // Every channel that is watched has a watch: together they are one of the engine a shard.
        let watches = SharedWatches::new(shared.engine().clone(), shared.stopping().clone());
        let chats = Arc::new(Chats::new(AnyEngine::new(watches.clone()), chat_options));
        let hub = Hub::new(Arc::clone(&chats), shared.clone(), options.clone());
        let users = UserLimiter::new(options.user_per_minute);
        Self { inner: Arc::new(Inner { shared, options, chats, users, gate, hub, watches }) }
    }

    /// The routes, all under `/chat/v1`.
    pub fn router(&self) -> Router {
        serve::router(self.clone())
    }

    /// Where messages are searched; `None` = nowhere.
    pub fn search(&self) -> Option<&SearchIndex> {
        self.inner.options.search.as_ref()
    }

    /// Sockets that are open, and the most that may be.
    pub fn sockets(&self) -> (usize, usize) {
        self.inner.hub.sockets()
    }

    /// What runs beside the requests: the workers of all apps, and their hooks. Ends when the gateway stops.
    pub async fn run(self) {
        let keep = self.inner.chats.keep(&self.inner.shared);
        futures::future::join(keep, hooks::run(Arc::clone(&self.inner))).await;
    }
}
