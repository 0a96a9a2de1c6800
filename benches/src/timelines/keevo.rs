//! Keevo: the feeds library over `RemoteEngine`, with the worker that an application runs.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use keevo_client::{ClientOptions, RemoteEngine};
use keevo_core::{Error, Result};
use keevo_feeds::{
    AppId, EnrichOptions, FeedId, Feeds, FeedsOptions, NewActivity, NewFollow, PageRequest, WorkerHandle,
};
use serde_json::{Map, Value};

use super::{PAGE, Shape, Timelines, USERS, text_of, user_of, user_text};

/// How many follows are made by one call.
const FOLLOWS: u32 = 10_000;
/// How often the worker looks by itself.
const WORKER_EVERY: Duration = Duration::from_secs(1);

/// The timelines of one cluster.
#[derive(Clone)]
pub(crate) struct KeevoTimelines {
    feeds: Feeds<RemoteEngine>,
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
        Ok(Self { feeds, author, shape, posted: Arc::default(), _worker: worker })
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
        let page = self.feeds.page(&timeline(follower)?, PageRequest::first(PAGE)).await?;
        let shown = self.feeds.enrich_activities(&page.activities, &EnrichOptions::default()).await?;
        // The reference to the user has given way to the user.
        let whole = |one: &&Map<String, Value>| one.get("actor").is_some_and(|actor| actor.get("data").is_some());
        Ok(shown.iter().filter(whole).count())
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
