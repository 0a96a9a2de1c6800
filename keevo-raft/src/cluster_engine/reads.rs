//! Reads: on the leader behind a barrier, on any replica behind the leader's read index, or as they are.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use keevo_core::{
    Consistency, Cursor, Direction, Error, Key, Keyspace, Record, Result, Scan, ScanPage, ScanRange, ShardId,
};

use super::ClusterEngine;
use super::route::{Attempt, Effect, Place};
use crate::peer_messages::{self, ReadAnswer as Answer, ReadRequest};
use crate::shard_map::ShardMap;
use crate::transport::PeerCall;

pub(super) fn scan_keyspace(scan: &Scan) -> Keyspace {
    match &scan.range {
        ScanRange::Partition { keyspace, .. } | ScanRange::Ordered { keyspace, .. } => *keyspace,
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl ClusterEngine {
    /// The record under the key.
    pub(super) async fn get_key(&self, key: Key, consistency: Consistency) -> Result<Option<Record>> {
        let shard = self.shard_of(&key)?;
        let request = ReadRequest::Keys(vec![key]);
        let read = |attempt| self.read_once(shard, &request, consistency, attempt);
        match self.until_answered(Effect::None, read).await? {
            Answer::Records(mut records) => Ok(records.pop().flatten()),
            Answer::Page(_) => Err(Error::corrupt("a key was answered by a page")),
        }
    }

    /// The records under the keys, shard by shard, all shards at once.
    pub(super) async fn get_keys(&self, keys: Vec<Key>, consistency: Consistency) -> Result<Vec<Option<Record>>> {
        let map = self.node.inner.map_or_wait()?;
        let mut parts: BTreeMap<ShardId, (Vec<usize>, Vec<Key>)> = BTreeMap::new();
        let count = keys.len();
        for (position, key) in keys.into_iter().enumerate() {
            let part = parts.entry(map.locate(&key.encode())?.id).or_default();
            part.0.push(position);
            part.1.push(key);
        }
        let mut reads: FuturesUnordered<_> = parts
            .into_iter()
            .map(|(shard, (positions, keys))| async move {
                let request = ReadRequest::Keys(keys);
                let answer = self
                    .until_answered(Effect::None, |attempt| self.read_once(shard, &request, consistency, attempt))
                    .await?;
                let Answer::Records(records) = answer else {
                    return Err(Error::corrupt("keys were answered by a page"));
                };
                Ok((positions, records))
            })
            .collect();
        let mut all = vec![None; count];
        while let Some(read) = reads.next().await {
            let (positions, records) = read?;
            for (position, record) in positions.into_iter().zip(records) {
                if let Some(slot) = all.get_mut(position) {
                    *slot = record;
                }
            }
        }
        Ok(all)
    }

    /// One page of a scan: of the first shard that the rest of the range touches and that has something.
    pub(super) async fn scan_page(&self, scan: Scan) -> Result<ScanPage> {
        if scan.consistent {
            return self.scan_views(scan).await;
        }
        let map = self.node.inner.map_or_wait()?;
        let shards = shards_of(&map, &scan)?;
        let mut left = scan.limit;
        let mut whole: Option<ScanPage> = None;
        let count = shards.len();
        for (position, shard) in shards.into_iter().enumerate() {
            let request = ReadRequest::Scan(Scan { limit: left, ..scan.clone() });
            let answer = self
                .until_answered(Effect::None, |attempt| self.read_once(shard, &request, scan.consistency, attempt))
                .await?;
            let Answer::Page(page) = answer else {
                return Err(Error::corrupt("a scan was answered by keys"));
            };
            let page = merge(whole.take(), page);
            left = scan.limit.saturating_sub(page.records.len());
            let is_last = position + 1 == count;
            if page.next.is_some() || left == 0 || is_last {
                return Ok(close_page(page, left == 0 && !is_last));
            }
            whole = Some(page);
        }
        Err(Error::corrupt("the scan's range lies in no shard"))
    }

    pub(super) async fn read_once(
        &self,
        shard: ShardId,
        request: &ReadRequest,
        consistency: Consistency,
        attempt: Attempt,
    ) -> Result<Answer> {
        if let Some(answer) = self.read_replica(shard, request, consistency, &attempt).await? {
            return Ok(answer);
        }
        match self.leader_of(shard, attempt.number)? {
            Place::Here(group) => group.read(request, attempt.left).await,
            Place::There(peer) => {
                let body = peer_messages::encode_read(request, millis(attempt.left), consistency);
                let body = self.ask(&peer, PeerCall::Read, shard, body, attempt.left).await?;
                match request {
                    ReadRequest::Keys(_) => Ok(Answer::Records(peer_messages::decode_records(&body)?)),
                    ReadRequest::Scan(_) => Ok(Answer::Page(peer_messages::decode_page(&body)?)),
                }
            }
        }
    }

    /// Serves the read from a replica here that does not lead, where the consistency allows it.
    async fn read_replica(
        &self,
        shard: ShardId,
        request: &ReadRequest,
        consistency: Consistency,
        attempt: &Attempt,
    ) -> Result<Option<Answer>> {
        let Some(group) = self.node.inner.group(shard) else { return Ok(None) };
        match consistency {
            Consistency::Linearizable => return Ok(None),
            Consistency::Stale { max_age_ms } => {
                if !group.is_fresh(Duration::from_millis(max_age_ms)) {
                    return Ok(None);
                }
            }
            Consistency::Follower => {
                let Place::There(leader) = self.leader_of(shard, attempt.number)? else { return Ok(None) };
                let (engine, limit) = (self.clone(), self.attempt_limit());
                let ask = move || async move { engine.read_index(shard, &leader, limit).await }.boxed();
                group.follow_barrier(ask, attempt.left).await?;
            }
        }
        // What has expired while the shard's clock stood is the leader's to see to.
        group.read_here(request).map(|(answer, has_expired)| (!has_expired).then_some(answer))
    }

    async fn read_index(&self, shard: ShardId, leader: &crate::transport::Peer, left: Duration) -> Result<u64> {
        let body = peer_messages::encode_read(&ReadRequest::Keys(Vec::new()), millis(left), Consistency::Linearizable);
        let body = self.ask(leader, PeerCall::ReadIndex, shard, body, left).await?;
        let index = <[u8; 8]>::try_from(body.as_ref())
            .map_err(|error| Error::corrupt("a read index is not 8 bytes").with_source(error))?;
        Ok(u64::from_be_bytes(index))
    }

    /// A cursor after everything acknowledged in the shard before the call.
    pub(super) async fn now_cursor(&self, shard: ShardId) -> Result<Cursor> {
        let key = cursor_probe(shard, self.node.inner.map_or_wait()?.as_ref())?;
        let request = ReadRequest::Scan(key);
        let answer = self
            .until_answered(Effect::None, |attempt| self.read_once(shard, &request, Consistency::Linearizable, attempt))
            .await?;
        match answer {
            Answer::Page(page) => Ok(page.as_of),
            Answer::Records(_) => Err(Error::corrupt("a scan was answered by keys")),
        }
    }
}

/// A scan that is served by the shard and touches no record: its page tells how far the shard has come.
fn cursor_probe(shard: ShardId, map: &ShardMap) -> Result<Scan> {
    map.shard(shard)
        .ok_or_else(|| Error::new(keevo_core::ErrorKind::ShardMoved, format!("shard {shard} is not in the map")))?;
    let mut scan = Scan::partition(Keyspace::META, "-", 1);
    scan.direction = Direction::Forward;
    Ok(scan)
}

/// The shards that the rest of the range touches, in the order of the scan.
pub(super) fn shards_of(map: &ShardMap, scan: &Scan) -> Result<Vec<ShardId>> {
    let (lower, upper) = scan.encoded_bounds();
    if !upper.is_empty() && lower >= upper {
        // Nothing is left, but the page still says as of when.
        let start = match &scan.range {
            ScanRange::Partition { keyspace, partition, .. } => keevo_core::encode_partition(*keyspace, partition, 0),
            ScanRange::Ordered { keyspace, .. } => keevo_core::encode_ordered_prefix(keyspace.id),
        };
        return Ok(vec![map.locate(&start)?.id]);
    }
    let touched = map
        .shards
        .iter()
        .filter(|shard| shard.end > lower && (upper.is_empty() || shard.start < upper))
        .map(|shard| shard.id);
    let mut shards: Vec<ShardId> = touched.collect();
    if scan.direction == Direction::Backward {
        shards.reverse();
    }
    Ok(shards)
}

fn merge(whole: Option<ScanPage>, page: ScanPage) -> ScanPage {
    match whole {
        None => page,
        Some(mut whole) => {
            whole.records.extend(page.records);
            whole.next = page.next;
            whole
        }
    }
}

/// A full page that ended exactly at a shard's end goes on in the next shard.
fn close_page(mut page: ScanPage, more_shards: bool) -> ScanPage {
    if page.next.is_none() && more_shards {
        page.next = page.records.last().map(|(key, _)| keevo_core::PageToken(key.encode()));
    }
    page
}
