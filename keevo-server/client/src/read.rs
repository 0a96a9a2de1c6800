//! Reads, and the loop that repeats what may be repeated.
//!
//! Invariant: a request that goes through [`RemoteEngine::repeat`] may be carried out any number of times.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, FuturesUnordered, StreamExt, TryStreamExt};
use keevo_core::limits::MULTI_GET_KEYS_MAX;
use keevo_core::{Consistency, Error, ErrorKind, Key, Record, Result, ShardId};
use keevo_proto::kv::v1 as pb;
use tokio::time::Instant;

use crate::engine::{RemoteEngine, unexpected};
use crate::pipe::{Answer, Ask, Fault};
use crate::retry::{Retry, may_retry};
use crate::routes::Lesson;
use crate::shard_map::{Shard, ShardMap};

/// How many shards one call talks to at a time.
pub(crate) const SHARDS_AT_ONCE: usize = 32;

/// What one shard answered, and the items to be grouped anew because it has moved.
pub(crate) type Part<T, I> = (T, Option<(Vec<I>, Error)>);

impl RemoteEngine {
    /// Sends a request to the shard that owns `key` until it is answered.
    pub(crate) async fn repeat(
        &self,
        key: &[u8],
        any_replica: bool,
        deadline: Instant,
        ask: impl Fn(u32) -> Ask + Send + Sync,
    ) -> Result<Answer> {
        let mut retry = Retry::until(&self.inner.options, deadline);
        loop {
            let map = self.map_by(&mut retry).await?;
            let fault = match map.locate(key) {
                Ok(shard) => match self.attempt(&map, shard, any_replica, &retry, &ask).await {
                    None => return Err(retry.too_late()),
                    Some(Ok(answer)) => return Ok(answer),
                    Some(Err(fault)) => fault,
                },
                Err(error) => {
                    self.refresh(&map, retry.deadline()).await;
                    Fault::NotSent(error)
                }
            };
            if !may_retry(&fault) {
                return Err(fault.error().clone());
            }
            retry.pause(fault.error()).await?;
        }
    }

    /// One attempt at one shard; what it teaches about the routes is kept. `None` = there is no time left.
    pub(crate) async fn attempt(
        &self,
        map: &Arc<ShardMap>,
        shard: &Shard,
        any_replica: bool,
        retry: &Retry<'_>,
        ask: impl Fn(u32) -> Ask,
    ) -> Option<Result<Answer, Fault>> {
        let (timeout, deadline_ms) = retry.attempt()?;
        let routes = &self.inner.routes;
        let address = match routes.address_of(shard, any_replica, retry.failed) {
            Ok(address) => address,
            Err(error) => return Some(Err(Fault::NotSent(error))),
        };
        let answer = match self.inner.nodes.at(&address) {
            Ok(node) => node.call(ask(deadline_ms), timeout).await,
            Err(error) => Err(Fault::NotSent(error)),
        };
        if let Err(fault) = &answer
            && may_retry(fault)
        {
            self.learn(map, shard, &address, fault, retry.deadline()).await;
        }
        Some(answer)
    }

    /// Learns from a failed attempt at `address`, and does what that asks for before the next one.
    pub(crate) async fn learn(
        &self,
        map: &Arc<ShardMap>,
        shard: &Shard,
        address: &str,
        fault: &Fault,
        deadline: Instant,
    ) {
        match self.inner.routes.learn(shard.id, address, fault) {
            Lesson::GoOn => {}
            Lesson::FetchMap => self.refresh_after(map, Some(address), deadline).await,
            Lesson::AskOthers => self.inner.routes.ask_others(&[shard.id], address, deadline).await,
        }
    }

    /// The same from an attempt at `address` that was about several shards. What the node says of one of them does not say
    /// of which, so that is found out shard by shard; that it does not answer, or finds no quorum, is true of all.
    async fn learn_of_node(
        &self,
        map: &Arc<ShardMap>,
        shards: &BTreeSet<ShardId>,
        address: &str,
        fault: &Fault,
        deadline: Instant,
    ) {
        let says_of_all = |kind| matches!(kind, ErrorKind::NoQuorum | ErrorKind::DeadlineExceeded);
        let of_all = !matches!(fault, Fault::Refused(error) if !says_of_all(error.kind()));
        if !may_retry(fault) || (shards.len() > 1 && !of_all) {
            return;
        }
        let learn = |shard: &ShardId| self.inner.routes.learn(*shard, address, fault);
        let lessons: Vec<Lesson> = shards.iter().map(learn).collect();
        if lessons.contains(&Lesson::FetchMap) {
            self.refresh_after(map, Some(address), deadline).await;
        }
        if lessons.contains(&Lesson::AskOthers) {
            let shards: Vec<ShardId> = shards.iter().copied().collect();
            self.inner.routes.ask_others(&shards, address, deadline).await;
        }
    }

    /// The map, fetched with retries while there is none.
    pub(crate) async fn map_by(&self, retry: &mut Retry<'_>) -> Result<Arc<ShardMap>> {
        loop {
            match self.inner.routes.map(retry.deadline()).await {
                Ok(map) => return Ok(map),
                Err(error) => retry.pause(&error).await?,
            }
        }
    }

    /// Fetches a newer map, until `deadline`; without one the next attempt goes by what is known.
    pub(crate) async fn refresh(&self, stale: &Arc<ShardMap>, deadline: Instant) {
        self.refresh_after(stale, None, deadline).await;
    }

    /// The same after an attempt at `failed`.
    async fn refresh_after(&self, stale: &Arc<ShardMap>, failed: Option<&str>, deadline: Instant) {
        let current = self.inner.routes.known().unwrap_or_else(|| Arc::clone(stale));
        if current.version != stale.version {
            return;
        }
        if let Err(error) = self.inner.routes.refresh(Some(&current), failed, deadline).await {
            tracing::debug!(%error, "no newer shard map");
        }
    }

    pub(crate) async fn remote_get(&self, key: Key, consistency: Consistency) -> Result<Option<Record>> {
        key.validate()?;
        let encoded = key.encode();
        let wire = pb::Key::from(key);
        let ask = |deadline_ms| {
            Ask::Get(pb::GetRequest { key: Some(wire.clone()), consistency: Some(consistency.into()), deadline_ms })
        };
        match self.repeat(&encoded, any_replica(consistency), self.until(), ask).await? {
            Answer::Get(pb::GetResponse { record }) => Ok(record.map(Into::into)),
            other => Err(unexpected(&other)),
        }
    }

    pub(crate) async fn remote_multi_get(
        &self,
        keys: Vec<Key>,
        consistency: Consistency,
    ) -> Result<Vec<Option<Record>>> {
        if keys.len() > MULTI_GET_KEYS_MAX {
            return Err(Error::new(
                ErrorKind::BatchTooLarge,
                format!("the read names {} keys, more than {MULTI_GET_KEYS_MAX}", keys.len()),
            ));
        }
        keys.iter().try_for_each(Key::validate)?;
        let deadline = self.until();
        let mut records: Vec<Option<Record>> = keys.iter().map(|_| None).collect();
        let encoded = keys.into_iter().map(|key| (key.encode(), key));
        let mut left: Vec<Wanted> =
            encoded.enumerate().map(|(place, (encoded, key))| Wanted { place, encoded, key }).collect();
        let mut retry = Retry::until(&self.inner.options, deadline);
        if left.len() > 1 && !any_replica(consistency) {
            left = self.get_by_node(left, &mut records, consistency, &mut retry).await?;
        }
        while !left.is_empty() {
            let groups = self.group(&mut retry, std::mem::take(&mut left), |wanted| &wanted.encoded).await?;
            let mut answers = stream::iter(groups)
                .map(|group| self.clone().get_group(group, consistency, deadline))
                .buffer_unordered(SHARDS_AT_ONCE);
            let mut moved = None;
            while let Some((found, again)) = answers.try_next().await? {
                for (place, record) in found {
                    if let Some(slot) = records.get_mut(place) {
                        *slot = record;
                    }
                }
                if let Some((wanted, error)) = again {
                    left.extend(wanted);
                    moved = Some(error);
                }
            }
            drop(answers);
            if let Some(error) = moved {
                retry.pause(&error).await?;
            }
        }
        Ok(records)
    }

    /// Asks each node once for the keys of all shards that it is thought to lead: one request instead of one a shard. A
    /// node passes on what another leads. Returns what was not answered, to be asked for shard by shard, of whoever leads
    /// by what was learned from the failure.
    async fn get_by_node(
        &self,
        wanted: Vec<Wanted>,
        records: &mut [Option<Record>],
        consistency: Consistency,
        retry: &mut Retry<'_>,
    ) -> Result<Vec<Wanted>> {
        let map = self.map_by(retry).await?;
        let mut left = Vec::new();
        let mut nodes: BTreeMap<&str, (BTreeSet<ShardId>, Vec<Wanted>)> = BTreeMap::new();
        for one in wanted {
            match map.locate(&one.encoded).ok().and_then(|shard| Some((shard.id, shard.leader.as_deref()?))) {
                Some((shard, leader)) => {
                    let (shards, group) = nodes.entry(leader).or_default();
                    shards.insert(shard);
                    group.push(one);
                }
                None => left.push(one),
            }
        }
        let (retry, map) = (&*retry, &map);
        let mut answers: FuturesUnordered<_> = nodes
            .into_iter()
            .map(|(address, (shards, group))| async move {
                let found = self.get_at(address, &group, consistency, retry).await;
                if let Some(Err(fault)) = &found {
                    self.learn_of_node(map, &shards, address, fault, retry.deadline()).await;
                }
                (group, found)
            })
            .collect();
        while let Some((group, found)) = answers.next().await {
            let Some(Ok(found)) = found else {
                left.extend(group);
                continue;
            };
            for (one, record) in group.into_iter().zip(found) {
                if let Some(slot) = records.get_mut(one.place) {
                    *slot = record;
                }
            }
        }
        Ok(left)
    }

    /// One attempt at one node. `None` = there was no time for it, or the answer is none.
    async fn get_at(
        &self,
        address: &str,
        group: &[Wanted],
        consistency: Consistency,
        retry: &Retry<'_>,
    ) -> Option<Result<Vec<Option<Record>>, Fault>> {
        let (timeout, deadline_ms) = retry.attempt()?;
        let keys = group.iter().map(|wanted| wanted.key.clone().into()).collect();
        let ask = Ask::MultiGet(pb::MultiGetRequest { keys, consistency: Some(consistency.into()), deadline_ms });
        let answer = match self.inner.nodes.at(address) {
            Ok(node) => node.call(ask, timeout).await,
            Err(error) => Err(Fault::NotSent(error)),
        };
        match answer {
            Ok(Answer::MultiGet(pb::MultiGetResponse { records })) if records.len() == group.len() => {
                Some(Ok(records.into_iter().map(|one| one.record.map(Into::into)).collect()))
            }
            Ok(_) => None,
            Err(fault) => Some(Err(fault)),
        }
    }

    /// Groups items by the shard that owns their key, in the order of the shards.
    pub(crate) async fn group<I>(
        &self,
        retry: &mut Retry<'_>,
        items: Vec<I>,
        key: impl Fn(&I) -> &Bytes,
    ) -> Result<Vec<Vec<I>>> {
        'again: loop {
            let map = self.map_by(retry).await?;
            let mut shards = Vec::with_capacity(items.len());
            for item in &items {
                match map.locate(key(item)) {
                    Ok(shard) => shards.push(shard.id),
                    Err(error) => {
                        self.refresh(&map, retry.deadline()).await;
                        retry.pause(&error).await?;
                        continue 'again;
                    }
                }
            }
            let mut groups = BTreeMap::new();
            for (shard, item) in shards.into_iter().zip(items) {
                groups.entry(shard).or_insert_with(Vec::new).push(item);
            }
            return Ok(groups.into_values().collect());
        }
    }

    /// Reads keys of one shard. An answer that is too large is asked for in halves.
    async fn get_group(
        self,
        group: Vec<Wanted>,
        consistency: Consistency,
        deadline: Instant,
    ) -> Result<Part<Vec<(usize, Option<Record>)>, Wanted>> {
        let mut found = Vec::with_capacity(group.len());
        let mut chunks = vec![group];
        while let Some(mut chunk) = chunks.pop() {
            match self.get_chunk(&chunk, consistency, deadline).await {
                Ok(records) => found.extend(chunk.iter().map(|wanted| wanted.place).zip(records)),
                Err(error) if error.kind() == ErrorKind::BatchTooLarge && chunk.len() > 1 => {
                    let half = chunk.split_off(chunk.len() / 2);
                    chunks.extend([half, chunk]);
                }
                Err(error) if error.kind() == ErrorKind::ShardMoved => {
                    chunk.extend(chunks.into_iter().flatten());
                    return Ok((found, Some((chunk, error))));
                }
                Err(error) => return Err(error),
            }
        }
        Ok((found, None))
    }

    async fn get_chunk(
        &self,
        chunk: &[Wanted],
        consistency: Consistency,
        deadline: Instant,
    ) -> Result<Vec<Option<Record>>> {
        let keys: Vec<pb::Key> = chunk.iter().map(|wanted| wanted.key.clone().into()).collect();
        let ask = |deadline_ms| {
            Ask::MultiGet(pb::MultiGetRequest {
                keys: keys.clone(),
                consistency: Some(consistency.into()),
                deadline_ms,
            })
        };
        let first = chunk.first().map(|wanted| wanted.encoded.clone()).unwrap_or_default();
        match self.repeat_unless_moved(&first, any_replica(consistency), deadline, ask).await? {
            Answer::MultiGet(pb::MultiGetResponse { records }) if records.len() == chunk.len() => {
                Ok(records.into_iter().map(|one| one.record.map(Into::into)).collect())
            }
            other => Err(unexpected(&other)),
        }
    }

    /// As [`Self::repeat`], for a request whose keys must be grouped anew when their shard has moved: that is told
    /// at once, as `ShardMoved`, with a newer map fetched.
    pub(crate) async fn repeat_unless_moved(
        &self,
        key: &[u8],
        any_replica: bool,
        deadline: Instant,
        ask: impl Fn(u32) -> Ask + Send + Sync,
    ) -> Result<Answer> {
        let mut retry = Retry::until(&self.inner.options, deadline);
        loop {
            let map = self.map_by(&mut retry).await?;
            let shard = match map.locate(key) {
                Ok(shard) => shard,
                Err(error) => {
                    self.refresh(&map, retry.deadline()).await;
                    return Err(error);
                }
            };
            let fault = match self.attempt(&map, shard, any_replica, &retry, &ask).await {
                None => return Err(retry.too_late()),
                Some(Ok(answer)) => return Ok(answer),
                Some(Err(fault)) => fault,
            };
            if !may_retry(&fault) || fault.error().kind() == ErrorKind::ShardMoved {
                return Err(fault.error().clone());
            }
            retry.pause(fault.error()).await?;
        }
    }
}

/// One key of a `multi_get` and its place in the answer.
struct Wanted {
    place: usize,
    encoded: Bytes,
    key: Key,
}

/// Whether any replica may serve a read.
pub(crate) fn any_replica(consistency: Consistency) -> bool {
    consistency != Consistency::Linearizable
}
