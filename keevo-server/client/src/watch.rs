//! Watches that outlive the node they are served by.
//!
//! Invariant: there is a cursor for every shard of the range, from the header on, so a resumed watch has no gap; and
//! an event whose cursor is not after its shard's is dropped, so it has no repeats either.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use futures::StreamExt;
use futures::stream;
use keevo_core::{
    CommitEvent, Cursor, Error, ErrorKind, Result, ShardId, Watch, WatchFrom, WatchRange, validate_partition,
    validate_sort, watches_nothing,
};
use keevo_proto::kv::v1 as pb;
use keevo_proto::{KIND_METADATA, error_from_status};
use tokio::time::Instant;
use tonic::{Status, Streaming};

use crate::engine::RemoteEngine;
use crate::pipe::Fault;
use crate::retry::{Retry, may_retry};
use crate::shard_map::{Shard, ShardMap};

impl RemoteEngine {
    pub(crate) async fn remote_watch(&self, range: WatchRange, from: WatchFrom) -> Result<Watch> {
        if let WatchRange::Partition { keyspace, partition, prefix } = &range {
            validate_partition(*keyspace, partition)?;
            validate_sort(prefix)?;
        }
        let mut cursors = BTreeMap::new();
        let only = matches!(from, WatchFrom::Only(_));
        if let WatchFrom::After(given) | WatchFrom::Only(given) = from {
            for cursor in given {
                keep_lowest(&mut cursors, cursor);
            }
        }
        if only && cursors.is_empty() {
            return Err(watches_nothing());
        }
        let mut watcher = Watcher {
            engine: self.clone(),
            range,
            cursors,
            only,
            stream: None,
            ready: VecDeque::new(),
            pause: Duration::ZERO,
        };
        watcher.open(self.until()).await?;
        let events = stream::unfold(Some(watcher), |watcher| async move {
            let mut watcher = watcher?;
            match watcher.next().await {
                Ok(event) => Some((Ok(event), Some(watcher))),
                Err(error) => Some((Err(error), None)),
            }
        });
        Ok(events.boxed())
    }
}

/// Two cursors of one shard: nothing after either may be missed.
fn keep_lowest(cursors: &mut BTreeMap<ShardId, Cursor>, cursor: Cursor) {
    let lowest = cursors.entry(cursor.shard).or_insert(cursor);
    *lowest = (*lowest).min(cursor);
}

struct Watcher {
    engine: RemoteEngine,
    range: WatchRange,
    /// Where to resume, by shard.
    cursors: BTreeMap<ShardId, Cursor>,
    /// Whether shards without a cursor are not watched.
    only: bool,
    stream: Option<Streaming<pb::WatchResponse>>,
    ready: VecDeque<CommitEvent>,
    /// How long to wait before the stream is opened anew: longer with every one that ended without an event.
    pause: Duration,
}

impl Watcher {
    async fn next(&mut self) -> Result<CommitEvent> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(event);
            }
            let Some(stream) = &mut self.stream else {
                let patience = self.engine.inner.options.watch_resume;
                tokio::time::sleep(self.pause).await;
                self.open(Instant::now() + patience).await?;
                continue;
            };
            match stream.message().await {
                Ok(Some(pb::WatchResponse { part: Some(part) })) => self.take(part)?,
                Ok(Some(pb::WatchResponse { part: None })) => {
                    return Err(Error::invalid("the node sends events of a newer version"));
                }
                Ok(None) => self.lose_stream(),
                Err(status) => {
                    self.lose_stream();
                    let fault = fault(&status);
                    if !may_retry(&fault) {
                        return Err(fault.error().clone());
                    }
                    tracing::debug!(error = %fault.error(), "a watch lost its node and resumes");
                }
            }
        }
    }

    /// Forgets a stream that has ended; the next one waits.
    fn lose_stream(&mut self) {
        let options = &self.engine.inner.options;
        self.stream = None;
        self.pause = (self.pause * 2).clamp(options.pause_min, options.pause_max.max(options.pause_min));
    }

    fn take(&mut self, part: pb::watch_response::Part) -> Result<()> {
        match part {
            pb::watch_response::Part::Watching(header) => {
                for cursor in header.start {
                    let cursor = Cursor::try_from(cursor)?;
                    self.cursors.entry(cursor.shard).or_insert(cursor);
                }
            }
            pb::watch_response::Part::Events(events) => {
                self.pause = Duration::ZERO;
                for event in events.events {
                    let event = CommitEvent::try_from(event)?;
                    let last = self.cursors.insert(event.cursor.shard, event.cursor);
                    match last.filter(|last| event.cursor <= *last) {
                        Some(last) => {
                            self.cursors.insert(last.shard, last);
                        }
                        None => self.ready.push_back(event),
                    }
                }
            }
        }
        Ok(())
    }

    /// Puts the watch in place at some node, and reads its header.
    async fn open(&mut self, deadline: Instant) -> Result<()> {
        let engine = self.engine.clone();
        let mut retry = Retry::until(&engine.inner.options, deadline);
        loop {
            let map = engine.map_by(&mut retry).await?;
            let Some((timeout, _)) = retry.attempt() else { return Err(retry.too_late()) };
            let fault = match self.shard(&map) {
                Ok(shard) => {
                    let address = engine.inner.routes.address_of(shard, self.any_replica(), retry.failed)?;
                    let fault = match tokio::time::timeout(timeout, self.open_at(&address)).await {
                        Ok(Ok(())) => return Ok(()),
                        Ok(Err(fault)) => fault,
                        Err(_) => Fault::Lost(Error::new(
                            ErrorKind::Unavailable,
                            format!("{address} did not begin a watch within {} ms", timeout.as_millis()),
                        )),
                    };
                    if may_retry(&fault) {
                        engine.learn(&map, shard, &address, &fault, deadline).await;
                    }
                    fault
                }
                Err(error) => {
                    engine.refresh(&map, deadline).await;
                    Fault::NotSent(error)
                }
            };
            if !may_retry(&fault) {
                return Err(fault.error().clone());
            }
            retry.pause(fault.error()).await?;
        }
    }

    async fn open_at(&mut self, address: &str) -> Result<(), Fault> {
        let node = self.engine.inner.nodes.at(address).map_err(Fault::NotSent)?;
        let from = match self.cursors.values().copied().collect::<Vec<_>>() {
            none if none.is_empty() => WatchFrom::Now,
            cursors if self.only => WatchFrom::Only(cursors),
            cursors => WatchFrom::After(cursors),
        };
        let request = pb::WatchRequest::from((self.range.clone(), from));
        let mut stream = node.kv().watch(request).await.map_err(|status| fault(&status))?.into_inner();
        match stream.message().await.map_err(|status| fault(&status))? {
            Some(pb::WatchResponse { part: Some(part @ pb::watch_response::Part::Watching(_)) }) => {
                self.take(part).map_err(Fault::Refused)?;
                self.stream = Some(stream);
                Ok(())
            }
            _ => Err(Fault::Lost(Error::new(ErrorKind::Unavailable, "the watch ended before it began"))),
        }
    }

    /// The shard of a partition; of a keyspace, any: each node serves watches of all shards.
    fn shard<'m>(&self, map: &'m ShardMap) -> Result<&'m Shard> {
        match &self.range {
            WatchRange::Partition { keyspace, partition, .. } => {
                map.locate(&keyspace.key(partition.clone(), "").encode())
            }
            WatchRange::Keyspace(_) => map.shards.last().ok_or_else(|| Error::invalid("the shard map is empty")),
        }
    }

    fn any_replica(&self) -> bool {
        matches!(self.range, WatchRange::Keyspace(_))
    }
}

/// A status with a kind is the server's word; one without comes from a connection that broke.
fn fault(status: &Status) -> Fault {
    let error = error_from_status(status);
    if status.metadata().contains_key(KIND_METADATA) {
        return Fault::Refused(error);
    }
    Fault::Lost(Error::new(ErrorKind::Unavailable, format!("the watch lost its node: {}", error.message())))
}
