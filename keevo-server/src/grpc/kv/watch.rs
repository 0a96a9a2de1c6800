//! A watch: a header with where it starts, then events in batches.
//!
//! Invariant: every shard of the range has a cursor in the header, and the engine's watch starts exactly there. So a
//! client that loses the stream before any event resumes without a gap.

use std::collections::BTreeSet;

use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt};
use keevo_core::{CommitEvent, Cursor, Engine, Error, ErrorKind, Result, ShardId, Watch, WatchFrom, WatchRange};
use keevo_proto::Message;
use keevo_proto::kv::v1 as pb;
use keevo_proto::status_from_error;
use tonic::Status;

use super::KvService;
use crate::host::Host;

/// The most events of one message.
const EVENTS_MAX: usize = 256;
/// A message is closed when it has this many bytes.
const MESSAGE_BYTES: usize = 1 << 20;

pub(super) type Messages = BoxStream<'static, Result<pb::WatchResponse, Status>>;

impl<H: Host> KvService<H> {
    pub(super) async fn open_watch(&self, request: pb::WatchRequest) -> Result<Messages> {
        let (range, from) = <(WatchRange, WatchFrom)>::try_from(request)?;
        let (WatchRange::Partition { keyspace, .. } | WatchRange::Keyspace(keyspace)) = range;
        self.check(keyspace).await?;
        let limited = self.allow_watch(&range).await?;
        let only: Option<BTreeSet<ShardId>> = match &from {
            WatchFrom::Only(cursors) => Some(cursors.iter().map(|cursor| cursor.shard).collect()),
            WatchFrom::Now | WatchFrom::After(_) => None,
        };
        let mut start = self.host.watch_start(&range, only.as_ref()).await?;
        if let WatchFrom::After(cursors) | WatchFrom::Only(cursors) = from {
            merge(&mut start, cursors)?;
        }
        let begin = if only.is_some() { WatchFrom::Only(start.clone()) } else { WatchFrom::After(start.clone()) };
        let watch = self.host.engine().watch(range, begin).await?;
        let header = pb::Watching { start: start.into_iter().map(Into::into).collect() };
        let header = pb::WatchResponse { part: Some(pb::watch_response::Part::Watching(header)) };
        let shutdown = self.shutdown.clone();
        let stopping = stream::once(async {
            Err(status_from_error(&Error::new(ErrorKind::Unavailable, "the node is shutting down")))
        });
        let events = stream::unfold(Events { watch, ended: false, error: None }, |mut events| async {
            events.next().await.map(|message| (message, events))
        });
        let until = async move { shutdown.cancelled().await };
        let messages = stream::once(async { Ok(header) }).chain(events.take_until(until.boxed()).chain(stopping));
        Ok(limited(messages.boxed()))
    }
}

/// Puts the client's cursors in the place of the present ends of their shards. One that lies ahead of its shard was
/// never given out: a watch from there would wait in silence.
fn merge(start: &mut Vec<Cursor>, cursors: Vec<Cursor>) -> Result<()> {
    for cursor in &cursors {
        let end = start.iter().find(|end| end.shard == cursor.shard && end.cluster == cursor.cluster);
        if end.is_some_and(|end| cursor.revision > end.revision) {
            return Err(Error::new(
                ErrorKind::CursorCompacted,
                format!("shard {} has no change at revision {}", cursor.shard, cursor.revision),
            ));
        }
    }
    start.retain(|end| cursors.iter().all(|cursor| cursor.shard != end.shard));
    start.extend(cursors);
    Ok(())
}

struct Events {
    watch: Watch,
    /// Set once the watch has ended.
    ended: bool,
    /// What ended it, to be said after the events before it.
    error: Option<Error>,
}

impl Events {
    async fn next(&mut self) -> Option<Result<pb::WatchResponse, Status>> {
        if self.ended {
            return self.error.take().map(|error| Err(status_from_error(&error)));
        }
        let mut events = Vec::new();
        let mut bytes = 0;
        let mut next = self.watch.next().await;
        loop {
            match next {
                Some(Ok(event)) => bytes += push(&mut events, event),
                Some(Err(error)) => (self.ended, self.error) = (true, Some(error)),
                None => self.ended = true,
            }
            if self.ended || events.len() == EVENTS_MAX || bytes >= MESSAGE_BYTES {
                break;
            }
            let Some(ready) = self.watch.next().now_or_never() else { break };
            next = ready;
        }
        if events.is_empty() {
            return self.error.take().map(|error| Err(status_from_error(&error)));
        }
        let part = pb::watch_response::Part::Events(pb::CommitEvents { events });
        Some(Ok(pb::WatchResponse { part: Some(part) }))
    }
}

/// Adds an event; its size in bytes.
fn push(events: &mut Vec<pb::CommitEvent>, event: CommitEvent) -> usize {
    let event = pb::CommitEvent::from(event);
    let bytes = event.encoded_len();
    events.push(event);
    bytes
}
