//! Those followers of a feed that gather their activities: a merged source is written to them alone.
//!
//! Invariant: they come in the order of a walk over all followers, so a walk may go on with them, and the other way round.

use std::collections::BTreeMap;

use keevo_core::limits::MULTI_GET_KEYS_MAX;
use keevo_core::{Consistency, Engine, Result, prefix_end};

use super::{FollowerPage, Position};
use crate::feed_id::FeedId;
use crate::feeds::Feeds;
use crate::keys::{self, FOLLOWER, FOLLOWER_BUCKETS};
use crate::merge::SourceRow;
use crate::rows::decode_count;

impl<E: Engine> Feeds<E> {
    /// The next followers of `feed`, from `at` on, whose feeds gather their activities: up to `limit`, of one group.
    pub(crate) async fn gathered_page(&self, feed: &FeedId, at: &Position, limit: usize) -> Result<FollowerPage> {
        let groups = self.groups();
        let slugs = groups.gathering();
        let counts = self.gathered_counts(feed, at.bucket, &slugs).await?;
        for bucket in at.bucket..FOLLOWER_BUCKETS {
            for slug in slugs.iter().filter(|slug| counts.get(&(bucket, **slug)).is_some_and(|count| *count > 0)) {
                let prefix = keys::join(FOLLOWER, format!("{slug}:").as_bytes());
                let mut start = prefix.clone();
                if bucket == at.bucket && !at.after.is_empty() {
                    start = start.max(keys::right_after(&keys::join(FOLLOWER, at.after.as_bytes())));
                }
                if start >= prefix_end(&prefix) {
                    continue;
                }
                let page = self.bucket_range(feed, bucket, start, &prefix, limit).await?;
                // Behind all names of this slug, where there are no more of them.
                let behind = || Position { bucket, after: format!("{slug};") };
                let next = page.next.unwrap_or_else(behind);
                let source = SourceRow::default();
                return Ok(FollowerPage { followers: page.followers, next: Some(next), source, left_out: false });
            }
        }
        Ok(FollowerPage { followers: Vec::new(), next: None, source: SourceRow::default(), left_out: false })
    }

    /// How many followers of each slug a feed has in its buckets from `first` on.
    async fn gathered_counts<'a>(
        &self,
        feed: &FeedId,
        first: u8,
        slugs: &[&'a str],
    ) -> Result<BTreeMap<(u8, &'a str), u64>> {
        let places: Vec<(u8, &str)> =
            (first..FOLLOWER_BUCKETS).flat_map(|bucket| slugs.iter().map(move |slug| (bucket, *slug))).collect();
        let mut counts = BTreeMap::new();
        for chunk in places.chunks(MULTI_GET_KEYS_MAX) {
            let key = |(bucket, slug): &(u8, &str)| {
                self.layout().key(self.layout().followers(feed, *bucket), keys::count_slug(slug))
            };
            let found = self.engine().multi_get(chunk.iter().map(key).collect(), Consistency::Linearizable).await?;
            for (place, record) in chunk.iter().zip(&found) {
                counts.insert(*place, decode_count(record.as_ref())?);
            }
        }
        Ok(counts)
    }
}
