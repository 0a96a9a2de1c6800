//! Lists and counts of follows.

use std::cmp::Reverse;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use keevo_core::{Consistency, Engine, Error, Key, Result};

use crate::feed_id::FeedId;
use crate::feeds::Feeds;
use crate::keys::{self, BY_TIME, COUNT, FOLLOWER_BUCKETS};
use crate::read::{OFFSET_MAX, PAGE_LIMIT_MAX};
use crate::rows::{EdgeRow, FollowerRow, decode, decode_count};
use crate::time::ActivityTime;

/// A follow edge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Follow {
    /// The feed that receives.
    pub follower: FeedId,
    /// The feed that is followed.
    pub target: FeedId,
    /// Since when.
    pub created_at: ActivityTime,
}

/// Where a page of follows ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FollowCursor {
    /// When the last one was made, in microseconds since the epoch.
    pub created_us: u64,
    /// The other feed of it.
    pub feed: FeedId,
}

/// Which part of a list of follows to read.
#[derive(Debug, Clone)]
pub struct ListRequest {
    /// The most to return, 1 to 1,000.
    pub limit: usize,
    /// How many to leave out first, up to 10,000.
    pub offset: usize,
    /// Where the page before ended; stable under changes, unlike `offset`.
    pub after: Option<FollowCursor>,
    /// Not empty: only follows with these feeds ("do I follow …?").
    pub filter: Vec<FeedId>,
}

impl Default for ListRequest {
    fn default() -> Self {
        Self { limit: 25, offset: 0, after: None, filter: Vec::new() }
    }
}

/// A page of follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FollowPage {
    /// Newest first, then by name.
    pub follows: Vec<Follow>,
    /// Where the next page starts; `None` at the end.
    pub next: Option<FollowCursor>,
}

/// How many follows a feed has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FollowStats {
    /// Feeds that follow it.
    pub followers: u64,
    /// Feeds that it follows.
    pub following: u64,
}

/// The other end of a follow, and since when.
type Other = (u64, FeedId);

impl<E: Engine> Feeds<E> {
    /// The feeds that `feed` follows, newest first.
    pub async fn following(&self, feed: &FeedId, request: ListRequest) -> Result<FollowPage> {
        check(&request)?;
        let others = if request.filter.is_empty() {
            self.newest_follows(self.layout().feed(feed), &request).await?
        } else {
            let wanted = request.filter.iter().map(|target| self.layout().edge(feed, target)).collect();
            let records = self.engine().multi_get(wanted, Consistency::Linearizable).await?;
            let mut others = Vec::new();
            for (target, record) in request.filter.iter().zip(&records) {
                if let Some(record) = record {
                    others.push((decode::<EdgeRow>(record)?.created_us, target.clone()));
                }
            }
            others
        };
        page_of(others, &request, |target, created_at| Follow { follower: feed.clone(), target, created_at })
    }

    /// The feeds that follow `feed`, newest first.
    pub async fn followers(&self, feed: &FeedId, request: ListRequest) -> Result<FollowPage> {
        check(&request)?;
        let buckets = 0..if self.is_wide(feed).await? { FOLLOWER_BUCKETS } else { 1 };
        let mut others = Vec::new();
        if request.filter.is_empty() {
            let read = buckets.map(|bucket| self.newest_follows(self.layout().followers(feed, bucket), &request));
            let read: Vec<_> = futures::stream::iter(read).buffered(16).try_collect().await?;
            others.extend(read.into_iter().flatten());
        } else {
            for follower in &request.filter {
                let wanted = buckets.clone().map(|bucket| self.layout().follower(feed, bucket, follower)).collect();
                for record in self.engine().multi_get(wanted, Consistency::Linearizable).await?.iter().flatten() {
                    let row: FollowerRow = decode(record)?;
                    if !row.gone {
                        others.push((row.created_us, follower.clone()));
                    }
                }
            }
        }
        page_of(others, &request, |follower, created_at| Follow { follower, target: feed.clone(), created_at })
    }

    /// How many feeds follow `feed` and how many it follows; of the given groups only, where any are given.
    pub async fn follow_stats(
        &self,
        feed: &FeedId,
        follower_slugs: &[&str],
        following_slugs: &[&str],
    ) -> Result<FollowStats> {
        let buckets = if self.is_wide(feed).await? { FOLLOWER_BUCKETS } else { 1 };
        let mut followers = Vec::new();
        for bucket in 0..buckets {
            followers.extend(self.count_keys(&self.layout().followers(feed, bucket), follower_slugs));
        }
        let following = self.count_keys(&self.layout().feed(feed), following_slugs);
        Ok(FollowStats { followers: self.sum(followers).await?, following: self.sum(following).await? })
    }

    fn count_keys(&self, partition: &Bytes, slugs: &[&str]) -> Vec<Key> {
        let key = |sort| self.layout().key(partition.clone(), sort);
        if slugs.is_empty() {
            return vec![key(Bytes::from_static(COUNT))];
        }
        let slugs: std::collections::BTreeSet<&&str> = slugs.iter().collect();
        slugs.into_iter().map(|slug| key(keys::count_slug(slug))).collect()
    }

    async fn sum(&self, counters: Vec<Key>) -> Result<u64> {
        let mut sum = 0;
        for chunk in counters.chunks(keevo_core::limits::MULTI_GET_KEYS_MAX) {
            for record in self.engine().multi_get(chunk.to_vec(), Consistency::Linearizable).await? {
                sum += decode_count(record.as_ref())?;
            }
        }
        Ok(sum)
    }

    /// The newest follows of one partition: as many as `request` may show of it, and one more.
    async fn newest_follows(&self, partition: Bytes, request: &ListRequest) -> Result<Vec<Other>> {
        let start = match &request.after {
            Some(after) => keys::right_after(&keys::by_time(after.created_us, &after.feed)),
            None => Bytes::from_static(BY_TIME),
        };
        let wanted = request.offset + request.limit + 1;
        let mut others = Vec::new();
        let mut token = None;
        loop {
            let room = (wanted - others.len()).min(keevo_core::limits::SCAN_LIMIT_MAX);
            let scan = self.layout().scan(partition.clone(), BY_TIME, start.clone(), room);
            let page = self.engine().scan(scan.after(token)).await?;
            for (key, _) in &page.records {
                others.push(keys::parse_by_time(&key.sort)?);
            }
            token = page.next;
            if token.is_none() || others.len() >= wanted {
                return Ok(others);
            }
        }
    }
}

fn check(request: &ListRequest) -> Result<()> {
    if request.limit == 0 || request.limit > PAGE_LIMIT_MAX {
        return Err(Error::invalid(format!("a list's limit is 1 to {PAGE_LIMIT_MAX}, not {}", request.limit)));
    }
    if request.offset > OFFSET_MAX {
        return Err(Error::invalid(format!("an offset is at most {OFFSET_MAX}; read on from a cursor beyond it")));
    }
    if request.filter.len() > PAGE_LIMIT_MAX {
        return Err(Error::invalid(format!("a filter names at most {PAGE_LIMIT_MAX} feeds")));
    }
    Ok(())
}

fn page_of(
    mut others: Vec<Other>,
    request: &ListRequest,
    follow: impl Fn(FeedId, ActivityTime) -> Follow,
) -> Result<FollowPage> {
    others.sort_by(|a, b| (Reverse(a.0), &a.1).cmp(&(Reverse(b.0), &b.1)));
    others.dedup();
    let more = others.len() > request.offset + request.limit;
    let shown = others.into_iter().skip(request.offset).take(request.limit);
    let mut page = FollowPage { follows: Vec::new(), next: None };
    for (created_us, feed) in shown {
        let created_at = ActivityTime::from_micros(i64::try_from(created_us).unwrap_or(i64::MAX))?;
        page.next = more.then(|| FollowCursor { created_us, feed: feed.clone() });
        page.follows.push(follow(feed, created_at));
    }
    Ok(page)
}
