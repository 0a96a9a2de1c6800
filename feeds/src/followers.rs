//! The followers of a feed: a head partition, and more partitions once there are many.
//!
//! The first thousand go to bucket 0; later ones are spread over the others by their hash, so that no partition
//! is hot and a small feed is read in one scan. A mark in bucket 0, written before the first follower outside
//! of it, says that the others are in use.
//!
//! Invariant: per follower and bucket, the row with the highest (epoch, gone) wins, whatever the order in which
//! steps of follows and unfollows arrive. The counters change in the batch that changes the row, so they are exact.

mod answering;
mod gathered;

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use keevo_core::{Batch, Check, Consistency, Engine, ErrorKind, Record, Result, Revision, Target};

use crate::feed_id::FeedId;
use crate::feeds::{ATTEMPTS, Feeds, contended, is_passing};
use crate::ids;
use crate::keys::{self, COUNT, FOLLOWER, FOLLOWER_BUCKETS, HEAD_FOLLOWERS, SOURCE, WIDE};
use crate::merge::{Phase, SourceRow};
use crate::rows::{FollowerRow, decode, decode_count, encode};

/// The most followers changed by one batch.
const ENLIST_CHUNK: usize = 500;

/// One change of a feed's followers.
#[derive(Debug, Clone)]
pub(crate) struct Enlist {
    pub(crate) target: FeedId,
    pub(crate) bucket: u8,
    pub(crate) follower: FeedId,
    pub(crate) row: FollowerRow,
    /// Whether the follower is most likely not in the list: it is written before it is read.
    pub(crate) likely_new: bool,
}

/// Where a follow will be listed, as its target was right before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) bucket: u8,
    /// The target's round of merging, if it was written to its followers.
    pub(crate) written_round: Option<u64>,
}

/// The first partition of a target's followers, as follows choose their places.
#[derive(Debug, Default)]
struct Head {
    /// Followers in it, with those that are being added.
    count: u64,
    is_wide: bool,
    source: SourceRow,
}

/// A place in a walk over a feed's followers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) bucket: u8,
    /// The last follower taken in that bucket; empty = none.
    pub(crate) after: String,
}

/// A follower as a fan-out needs it.
#[derive(Debug, Clone)]
pub(crate) struct Follower {
    pub(crate) target: Target,
    /// The list that it stands in.
    pub(crate) bucket: u8,
    /// When its edge was made, in microseconds.
    pub(crate) created_us: u64,
}

/// Some followers, and where the walk goes on.
#[derive(Debug)]
pub(crate) struct FollowerPage {
    pub(crate) followers: Vec<Follower>,
    pub(crate) next: Option<Position>,
    /// How the feed reaches them; only a page that begins with the first follower says it.
    pub(crate) source: SourceRow,
    /// Whether the list at its place did not answer, and was passed by.
    pub(crate) left_out: bool,
}

/// Some followers of one bucket.
#[derive(Debug, Default)]
struct BucketPage {
    followers: Vec<Follower>,
    next: Option<Position>,
    /// Whether the mark of further buckets was met.
    wide: bool,
    source: SourceRow,
}

impl<E: Engine> Feeds<E> {
    /// Where each follow, given as (follower, target), will be listed. Marks targets that outgrow bucket 0.
    pub(crate) async fn choose_places(&self, follows: &[(FeedId, FeedId)]) -> Result<Vec<Place>> {
        let mut heads: BTreeMap<&FeedId, Head> = follows.iter().map(|(_, target)| (target, Head::default())).collect();
        let mut wanted = Vec::with_capacity(heads.len() * 3);
        for target in heads.keys() {
            let head = self.layout().followers(target, 0);
            let key = |sort| self.layout().key(head.clone(), sort);
            wanted.extend([key(COUNT), key(WIDE), key(SOURCE)]);
        }
        let mut records = Vec::with_capacity(wanted.len());
        for chunk in wanted.chunks(keevo_core::limits::MULTI_GET_KEYS_MAX) {
            records.extend(self.engine().multi_get(chunk.to_vec(), Consistency::Linearizable).await?);
        }
        for (head, found) in heads.values_mut().zip(records.chunks(3)) {
            let [count, wide, source] = found else { continue };
            let source = source.as_ref().map(decode).transpose()?.unwrap_or_default();
            *head = Head { count: decode_count(count.as_ref())?, is_wide: wide.is_some(), source };
        }
        let mut places = Vec::with_capacity(follows.len());
        let mut unmarked = Vec::new();
        for (follower, target) in follows {
            let Some(head) = heads.get_mut(target) else { continue };
            let written_round = (head.source.phase() == Phase::Written).then_some(head.source.round);
            head.count += 1;
            if head.count <= HEAD_FOLLOWERS {
                places.push(Place { bucket: 0, written_round });
                continue;
            }
            if !std::mem::replace(&mut head.is_wide, true) {
                unmarked.push(target.clone());
            }
            let spread = ids::spread(follower.as_str()) % u64::from(FOLLOWER_BUCKETS - 1);
            places.push(Place { bucket: 1 + u8::try_from(spread).unwrap_or_default(), written_round });
        }
        for target in unmarked {
            let mark = self.layout().key(self.layout().followers(&target, 0), WIDE);
            crate::feeds::retry(|| self.engine().write(Batch::new().put(mark.clone(), "1"))).await?;
        }
        Ok(places)
    }

    /// Lists followers, or takes them off, grouped by partition.
    pub(crate) async fn enlist(&self, changes: Vec<Enlist>) -> Result<()> {
        let mut groups: BTreeMap<(FeedId, u8), Vec<Enlist>> = BTreeMap::new();
        for change in changes {
            groups.entry((change.target.clone(), change.bucket)).or_default().push(change);
        }
        let chunks: Vec<Vec<Enlist>> = groups
            .into_values()
            .flat_map(|group| group.chunks(ENLIST_CHUNK).map(<[_]>::to_vec).collect::<Vec<_>>())
            .collect();
        futures::stream::iter(chunks.into_iter().map(Ok))
            .try_for_each_concurrent(self.options().concurrency, |chunk| async move { self.enlist_chunk(&chunk).await })
            .await
    }

    /// Changes followers of one partition. New ones are written at once; a list that holds one of them is read.
    async fn enlist_chunk(&self, chunk: &[Enlist]) -> Result<()> {
        let keys: Vec<_> =
            chunk.iter().map(|one| self.layout().follower(&one.target, one.bucket, &one.follower)).collect();
        let likely_new = chunk.iter().all(|one| one.likely_new);
        for attempt in 0..ATTEMPTS {
            let current = if likely_new && attempt == 0 {
                vec![None; keys.len()]
            } else {
                self.engine().multi_get(keys.clone(), Consistency::Linearizable).await?
            };
            let batch = self.enlist_batch(chunk, &current)?;
            if batch.ops.is_empty() {
                return Ok(());
            }
            match self.engine().write(batch).await {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) if is_passing(error.kind()) && attempt < 3 => {
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                }
                Err(error) => return Err(error),
            }
        }
        Err(contended("a list of followers"))
    }

    fn enlist_batch(&self, chunk: &[Enlist], current: &[Option<Record>]) -> Result<Batch> {
        let mut batch = Batch::new();
        let mut deltas: BTreeMap<Bytes, i64> = BTreeMap::new();
        let now_us = self.stamp_us();
        for (change, record) in chunk.iter().zip(current) {
            let old = record.as_ref().map(decode::<FollowerRow>).transpose()?;
            let new = FollowerRow { listed_us: if change.row.gone { 0 } else { now_us }, ..change.row };
            if old.is_some_and(|old| (old.epoch, old.gone) >= (new.epoch, new.gone)) {
                continue;
            }
            let partition = self.layout().followers(&change.target, change.bucket);
            let by_time = |row: FollowerRow| {
                self.layout().key(partition.clone(), keys::by_time(row.created_us, &change.follower))
            };
            let key = self.layout().follower(&change.target, change.bucket, &change.follower);
            let check = record.as_ref().map_or(Check::Absent, |record| Check::RevisionIs(record.revision));
            batch = batch.require(key.clone(), check);
            let mut delta = 0;
            if let Some(old) = old.filter(|old| !old.gone) {
                batch = batch.delete(by_time(old));
                delta -= 1;
            }
            if new.gone {
                batch = batch.put_ttl(key, encode(&new), self.options().tombstone_ttl_ms);
            } else {
                batch = batch.put(key, encode(&new)).put(by_time(new), "");
                delta += 1;
            }
            *deltas.entry(Bytes::from_static(COUNT)).or_default() += delta;
            *deltas.entry(keys::count_slug(change.follower.slug())).or_default() += delta;
        }
        let Some(first) = chunk.first() else { return Ok(batch) };
        let partition = self.layout().followers(&first.target, first.bucket);
        let changed = deltas.into_iter().filter(|(_, delta)| *delta != 0);
        Ok(changed.fold(batch, |batch, (sort, delta)| batch.merge(self.layout().key(partition.clone(), sort), delta)))
    }

    /// The next followers of `feed` from `at` on: up to about `limit`, from as many buckets as that takes.
    pub(crate) async fn follower_page(&self, feed: &FeedId, at: &Position, limit: usize) -> Result<FollowerPage> {
        if at.bucket == 0 {
            let BucketPage { followers, next, wide, source } = self.bucket_page(feed, at.clone(), limit).await?;
            let next = next.or_else(|| wide.then(|| Position { bucket: 1, after: String::new() }));
            return Ok(FollowerPage { followers, next, source, left_out: false });
        }
        let last = self.buckets_within(feed, at.bucket, limit).await?;
        let walk = (at.bucket..=last).map(|bucket| {
            let after = if bucket == at.bucket { at.after.clone() } else { String::new() };
            self.bucket_page(feed, Position { bucket, after }, limit)
        });
        let pages: Vec<_> = futures::stream::iter(walk).buffered(8).try_collect().await?;
        let mut followers = Vec::new();
        let source = SourceRow::default();
        for page in pages {
            followers.extend(page.followers);
            if page.next.is_some() {
                // What the later buckets gave is read again: counters had run behind.
                return Ok(FollowerPage { followers, next: page.next, source, left_out: false });
            }
        }
        let next = (last + 1 < FOLLOWER_BUCKETS).then(|| Position { bucket: last + 1, after: String::new() });
        Ok(FollowerPage { followers, next, source, left_out: false })
    }

    /// The last bucket, from `first` on, up to which the counters add up to no more than `limit`.
    async fn buckets_within(&self, feed: &FeedId, first: u8, limit: usize) -> Result<u8> {
        let key = |bucket| self.layout().key(self.layout().followers(feed, bucket), COUNT);
        let wanted = (first..FOLLOWER_BUCKETS).map(key).collect();
        let counts = self.engine().multi_get(wanted, Consistency::Linearizable).await?;
        let mut room = u64::try_from(limit).unwrap_or(u64::MAX);
        let mut last = first;
        for (bucket, record) in (first..FOLLOWER_BUCKETS).zip(&counts) {
            let Some(left) = room.checked_sub(decode_count(record.as_ref())?) else { break };
            (room, last) = (left, bucket);
        }
        Ok(last)
    }

    /// Followers of one bucket from a place on.
    async fn bucket_page(&self, feed: &FeedId, at: Position, limit: usize) -> Result<BucketPage> {
        let start = keys::join(FOLLOWER, at.after.as_bytes());
        let start = if at.after.is_empty() { start } else { keys::right_after(&start) };
        self.bucket_range(feed, at.bucket, start, FOLLOWER, limit).await
    }

    /// Followers of one bucket from the key `start` on, within `prefix`.
    async fn bucket_range(
        &self,
        feed: &FeedId,
        bucket: u8,
        start: Bytes,
        prefix: &[u8],
        limit: usize,
    ) -> Result<BucketPage> {
        let partition = self.layout().followers(feed, bucket);
        let (mut found, mut token) = (BucketPage::default(), None);
        loop {
            let scan = self.layout().scan(partition.clone(), prefix, start.clone(), limit.max(1));
            let page = self.scan_on(scan.after(token)).await?;
            let mut last = None;
            for (key, record) in &page.records {
                if key.sort == WIDE {
                    found.wide = true;
                    continue;
                }
                if key.sort == SOURCE {
                    found.source = decode(record)?;
                    continue;
                }
                let follower = keys::parse_named(&key.sort, FOLLOWER)?;
                let row: FollowerRow = decode(record)?;
                if !row.gone {
                    let guard = Some(Revision(row.epoch));
                    let target = Target { partition: self.layout().feed(&follower), guard };
                    found.followers.push(Follower { target, bucket, created_us: row.created_us });
                }
                last = Some(follower.to_string());
            }
            token = page.next;
            // A page without a follower holds the rows before or behind them all.
            if token.is_none() || last.is_some() {
                found.next = token.and(last).map(|after| Position { bucket, after });
                return Ok(found);
            }
        }
    }

    /// Whether buckets beyond the first are in use.
    pub(crate) async fn is_wide(&self, feed: &FeedId) -> Result<bool> {
        let mark = self.layout().key(self.layout().followers(feed, 0), WIDE);
        Ok(self.engine().get(mark, Consistency::Linearizable).await?.is_some())
    }
}
