//! Keevo: posts by the feeds library over `RemoteEngine`, with the worker that an application runs; a page is one call of
//! `keevo.feeds.v1`, which a node answers with all that it shows.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use keevo_client::{ClientOptions, RemoteEngine};
use keevo_core::{Error, ErrorKind, Result};
use keevo_feeds::{AppId, FeedId, Feeds, FeedsOptions, NewActivity, NewFollow, WorkerHandle};
use keevo_proto::error_from_status;
use keevo_proto::feeds::v1 as pb;
use keevo_proto::feeds::v1::feeds_client::FeedsClient;
use serde_json::{Map, Value};
use tonic::transport::Channel;

use super::{PAGE, Shape, Timelines, USERS, text_of, user_of, user_text};
use crate::channels;

/// How many follows are made by one call.
const FOLLOWS: u32 = 10_000;
/// How often the worker looks by itself.
const WORKER_EVERY: Duration = Duration::from_secs(1);

/// Connections for reading, dealt out in turn over all nodes: as many as the peers have.
const READERS: usize = 12;

/// The timelines of one cluster.
#[derive(Clone)]
pub(crate) struct KeevoTimelines {
    feeds: Feeds<RemoteEngine>,
    readers: Arc<[FeedsClient<Channel>]>,
    turn: Arc<AtomicUsize>,
    author: FeedId,
    shape: Shape,
    posted: Arc<AtomicU64>,
    _worker: Arc<WorkerHandle>,
}

impl fmt::Debug for KeevoTimelines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeevoTimelines").field("shape", &self.shape).finish_non_exhaustive()
    }
}

impl KeevoTimelines {
    /// Connects to the nodes, and makes the users and the follows.
    pub(crate) async fn open(addresses: &[String], shape: Shape) -> Result<Self> {
        let engine = RemoteEngine::connect(addresses.to_vec(), ClientOptions::default()).await?;
        let mut readers = Vec::with_capacity(READERS);
        for address in addresses {
            let connections = channels::connect(address, READERS.div_ceil(addresses.len())).await?;
            readers.extend(connections.into_iter().map(FeedsClient::new));
        }
        // A post returns when every entry is durable, as the peer's does; so the worker has nothing to take over.
        let options =
            FeedsOptions { inline_targets_max: usize::MAX, pickup_after_ms: 600_000, ..FeedsOptions::default() };
        let feeds = Feeds::open(engine, AppId(1), options).await?;
        let author: FeedId = "user:author".parse()?;
        let users = (0..USERS).map(|number| (user_of(number), named("text", user_text(number)))).collect();
        feeds.add_users(users, true).await?;
        let mut first = 0;
        while first < shape.followers {
            let until = shape.followers.min(first + FOLLOWS);
            let follows: Vec<NewFollow> =
                (first..until).map(|number| follow(number, &author)).collect::<Result<_>>()?;
            feeds.follow_many(follows).await?;
            first = until;
        }
        let worker = Arc::new(feeds.spawn_worker(WORKER_EVERY));
        let readers = readers.into();
        Ok(Self { feeds, readers, turn: Arc::default(), author, shape, posted: Arc::default(), _worker: worker })
    }
}

fn timeline(follower: u32) -> Result<FeedId> {
    format!("timeline:f{follower}").parse()
}

fn follow(follower: u32, author: &FeedId) -> Result<NewFollow> {
    Ok(NewFollow { follower: timeline(follower)?, target: author.clone(), copy_limit: Some(0) })
}

fn named(name: &str, text: String) -> Map<String, Value> {
    Map::from_iter([(name.to_owned(), Value::String(text))])
}

impl Timelines for KeevoTimelines {
    async fn post(&self) -> Result<()> {
        let number = self.posted.fetch_add(1, Ordering::Relaxed);
        let mut new = NewActivity::new(format!("SU:{}", user_of(number)), "post", format!("post:{number}"));
        new.custom = named("text", text_of(number, self.shape.text_bytes));
        self.feeds.add_activity(&self.author, new).await.map(drop)
    }

    async fn page(&self, follower: u32) -> Result<usize> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let reader = self.readers.get(turn % self.readers.len().max(1)).cloned();
        let mut reader =
            reader.ok_or_else(|| Error::new(ErrorKind::Unavailable, "there is no connection to a node"))?;
        let request = pb::GetFeedRequest {
            feed: timeline(follower)?.to_string(),
            limit: u32::try_from(PAGE).unwrap_or(u32::MAX),
            enrich: Some(pb::Enrich::default()),
            ..pb::GetFeedRequest::default()
        };
        let page = reader.get_feed(request).await.map_err(|status| error_from_status(&status))?.into_inner();
        // The reference to the user has given way to the user.
        let whole = |text: &&String| {
            let shown = serde_json::from_str::<Value>(text);
            shown.is_ok_and(|one| one.pointer("/actor/data").is_some())
        };
        Ok(page.enriched.iter().filter(whole).count())
    }

    async fn entries(&self) -> Result<u64> {
        let expected = self.posted.load(Ordering::Relaxed) * u64::from(self.shape.followers);
        let written = self.feeds.metrics().entries_fanned_out;
        if written < expected {
            return Err(Error::corrupt(format!("{written} entries were written of {expected} that were answered")));
        }
        Ok(expected)
    }
}
