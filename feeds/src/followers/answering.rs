//! Pages of followers for a fan-out, which goes on without the lists whose shards do not answer.

use futures::StreamExt;
use keevo_core::{Consistency, Engine, Result};

use super::{BucketPage, FollowerPage, Position};
use crate::feed_id::FeedId;
use crate::feeds::{Feeds, is_passing};
use crate::keys::{COUNT, FOLLOWER_BUCKETS};
use crate::merge::SourceRow;

impl<E: Engine> Feeds<E> {
    /// As [`Feeds::follower_page`]; but a list beyond the first whose shard does not answer is left out, and the page says
    /// so. A silent one is asked only if `asks` says so and its wait is over. `Unavailable`: the first list is silent.
    pub(crate) async fn answering_page(
        &self,
        feed: &FeedId,
        at: &Position,
        limit: usize,
        asks: bool,
    ) -> Result<FollowerPage> {
        let partition = self.layout().followers(feed, at.bucket);
        if at.bucket == 0 {
            return self.ask(&partition, self.follower_page(feed, at, limit)).await;
        }
        let apart = &self.inner.apart;
        let is_silent = |bucket| apart.is_silent(&self.layout().followers(feed, bucket));
        if !(at.bucket..FOLLOWER_BUCKETS).any(is_silent) {
            match self.patiently(self.follower_page(feed, at, limit)).await {
                Err(error) if is_passing(error.kind()) => self.ask_lists(feed, at.bucket).await,
                answer => return answer,
            }
        }
        // One list at a time, as the counters of all cannot be read.
        let next = Some(at.bucket + 1).filter(|bucket| *bucket < FOLLOWER_BUCKETS);
        let next = next.map(|bucket| Position { bucket, after: String::new() });
        let source = SourceRow::default();
        if apart.waits(&partition) || (!asks && apart.is_silent(&partition)) {
            return Ok(FollowerPage { followers: Vec::new(), next, source, left_out: true });
        }
        match self.ask(&partition, self.bucket_page(feed, at.clone(), limit)).await {
            Ok(BucketPage { followers, next: further, .. }) => {
                Ok(FollowerPage { followers, next: further.or(next), source, left_out: false })
            }
            Err(error) if is_passing(error.kind()) => {
                Ok(FollowerPage { followers: Vec::new(), next, source, left_out: true })
            }
            Err(error) => Err(error),
        }
    }

    /// Asks the lists of a feed from `first` on, side by side, so that those that do not answer are known.
    async fn ask_lists(&self, feed: &FeedId, first: u8) {
        let ask = |bucket: u8| async move {
            let partition = self.layout().followers(feed, bucket);
            let count = self.layout().key(partition.clone(), COUNT);
            if let Err(error) = self.ask(&partition, self.engine().get(count, Consistency::Linearizable)).await {
                tracing::debug!(%error, %feed, bucket, "a list of followers does not answer");
            }
        };
        let asks: Vec<_> = (first..FOLLOWER_BUCKETS).map(ask).collect();
        futures::stream::iter(asks).buffer_unordered(usize::from(FOLLOWER_BUCKETS)).collect::<Vec<()>>().await;
    }
}
