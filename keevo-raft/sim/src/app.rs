//! What runs on a node: the engine, and the feeds and the chat over it.

use std::sync::Arc;
use std::time::Duration;

use keevo_chat::{Chat, ChatOptions};
use keevo_core::{AnyEngine, Clock, ErrorKind, Random, Result};
use keevo_feeds::{Feeds, FeedsOptions, GroupConfig, GroupKind, Groups, Template};
use keevo_raft::{ClusterEngine, Node};
use tokio::sync::OnceCell;

/// The app that all workloads use.
const APP: u32 = 1;
/// How often the workers look through their outboxes.
const SWEEP_EVERY: Duration = Duration::from_secs(2);

/// Above how many followers a user's feed is merged by its readers.
pub(crate) const MERGE_ABOVE: u64 = 3;

/// The feed groups: users' feeds are merged above so many followers.
pub(crate) fn groups(merge_above: Option<u64>) -> Groups {
    let gathers = |kind| GroupConfig::new(kind, Template::default());
    let named = [
        ("user", GroupConfig { merge_above, ..GroupConfig::flat() }),
        ("aggregated", gathers(GroupKind::Aggregated)),
        ("notification", gathers(GroupKind::Notification)),
    ];
    Groups::new(named.map(|(slug, group)| (slug.to_owned(), group)))
}

/// A running node with its layers. Cheap to clone; clones are the same node.
#[derive(Debug, Clone)]
pub(crate) struct NodeApp {
    pub(crate) node: Node,
    pub(crate) engine: ClusterEngine,
    pub(crate) chat: Chat<AnyEngine>,
    feeds: Arc<OnceCell<Feeds<AnyEngine>>>,
    feeds_options: FeedsOptions,
}

impl NodeApp {
    pub(crate) fn new(node: Node, clock: &Arc<dyn Clock>, random: &Arc<dyn Random>) -> Self {
        let engine = node.engine();
        let chat_options =
            ChatOptions { clock: Arc::clone(clock), random: Arc::clone(random), ..ChatOptions::default() };
        let feeds_options = FeedsOptions {
            clock: Arc::clone(clock),
            random: Arc::clone(random),
            inline_targets_max: 4,
            pickup_after_ms: 1_000,
            pointer_grace_ms: 60_000,
            claim_ms: 5_000,
            // What waits apart is tried again within the pauses in which the outbox must stay without work.
            patience_ms: 500,
            ..FeedsOptions::default()
        };
        let chat = Chat::new(AnyEngine::new(engine.clone()), keevo_chat::AppId(APP), chat_options);
        Self { node, engine, chat, feeds: Arc::default(), feeds_options }
    }

    /// The feeds, opened when they are first asked for.
    pub(crate) async fn feeds(&self) -> Result<Feeds<AnyEngine>> {
        let open = || async {
            let engine = AnyEngine::new(self.engine.clone());
            let feeds = Feeds::open(engine, keevo_feeds::AppId(APP), self.feeds_options.clone()).await?;
            feeds.set_groups(groups(Some(MERGE_ABOVE)));
            Ok(feeds)
        };
        self.feeds.get_or_try_init(open).await.cloned()
    }

    /// Runs the worker of the feeds for as long as the node lives.
    pub(crate) async fn work_on_feeds(self) {
        loop {
            match self.feeds().await {
                Ok(feeds) => {
                    let _worker = feeds.spawn_worker(SWEEP_EVERY);
                    return std::future::pending().await;
                }
                Err(error) if error.kind() == ErrorKind::Closed => return,
                Err(_) => tokio::time::sleep(Duration::from_millis(500)).await,
            }
        }
    }

    /// Runs the worker of the chat for as long as the node lives.
    pub(crate) async fn work_on_chat(self) {
        let _worker = self.chat.spawn_worker(SWEEP_EVERY);
        std::future::pending::<()>().await;
    }
}
