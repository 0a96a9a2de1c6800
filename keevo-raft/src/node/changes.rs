//! Watching a shard from a node that holds no replica of it: pages of changes, waited for at a peer that does.

use std::time::Duration;

use bytes::Bytes;
use keevo_core::{Change, Changes, CommitEvent, Cursor, Error, Result, Revision, ShardId, WatchRange};
use prost::Message;

use super::NodeInner;
use crate::group::Group;
use crate::peer_messages::{KeyWire, key_of, key_wire, pack, parse};
use crate::transport::PeerRequest;

/// The most events of one page.
const PAGE_EVENTS_MAX: usize = 1_024;
/// About how many bytes of events one page has at most.
const PAGE_BYTES_MAX: usize = 2 << 20;
/// How long changes gather before they are given.
const GATHER: Duration = Duration::from_millis(2);
/// How long a page may be waited for before it is given empty.
const WAIT: Duration = Duration::from_secs(5);

/// A page of changes that is asked for.
#[derive(Debug, Clone)]
pub struct ChangesRequest {
    /// What is watched.
    pub range: WatchRange,
    /// After which change.
    pub after: Cursor,
}

/// A page of changes.
#[derive(Debug, Clone)]
pub struct ChangesPage {
    /// The changes, in order.
    pub events: Vec<CommitEvent>,
    /// Up to where nothing was left out. Nodes of before do not say it: then it is the last event, or what was asked for.
    pub reached: Cursor,
}

#[derive(Clone, PartialEq, Message)]
struct RequestWire {
    #[prost(message, optional, tag = "1")]
    place: Option<KeyWire>,
    #[prost(bool, tag = "2")]
    whole_keyspace: bool,
    #[prost(bytes = "bytes", tag = "3")]
    cluster: Bytes,
    #[prost(uint64, tag = "4")]
    shard: u64,
    #[prost(uint64, tag = "5")]
    revision: u64,
    #[prost(uint32, tag = "6")]
    offset: u32,
}

#[derive(Clone, PartialEq, Message)]
struct PageWire {
    #[prost(message, repeated, tag = "1")]
    events: Vec<EventWire>,
    #[prost(uint64, tag = "2")]
    reached_revision: u64,
    #[prost(uint32, tag = "3")]
    reached_offset: u32,
}

#[derive(Clone, PartialEq, Message)]
struct EventWire {
    #[prost(message, optional, tag = "1")]
    key: Option<KeyWire>,
    #[prost(uint64, tag = "2")]
    revision: u64,
    #[prost(uint32, tag = "3")]
    offset: u32,
    /// 1 = put, 2 = delete, 3 = range delete.
    #[prost(uint32, tag = "4")]
    kind: u32,
    /// The value, or the end of the range.
    #[prost(bytes = "bytes", tag = "5")]
    value: Bytes,
    #[prost(uint64, optional, tag = "6")]
    expires_at_ms: Option<u64>,
}

impl ChangesRequest {
    pub(crate) fn encode(&self) -> Bytes {
        let (place, whole_keyspace) = match &self.range {
            WatchRange::Partition { keyspace, partition, prefix } => {
                (keyspace.key(partition.clone(), prefix.clone()), false)
            }
            WatchRange::Keyspace(keyspace) => (keyspace.key(Bytes::new(), Bytes::new()), true),
        };
        pack(&RequestWire {
            place: Some(key_wire(&place)),
            whole_keyspace,
            cluster: Bytes::copy_from_slice(&self.after.cluster.0.to_be_bytes()),
            shard: self.after.shard.0,
            revision: self.after.revision.0,
            offset: self.after.offset,
        })
    }

    pub(crate) fn decode(body: &Bytes) -> Result<Self> {
        let wire: RequestWire = parse("a request for changes", body)?;
        let place = key_of(wire.place.ok_or_else(|| Error::corrupt("a request for changes names no place"))?)?;
        let range = if wire.whole_keyspace {
            WatchRange::Keyspace(place.keyspace)
        } else {
            WatchRange::Partition { keyspace: place.keyspace, partition: place.partition, prefix: place.sort }
        };
        let cluster = <[u8; 16]>::try_from(wire.cluster.as_ref())
            .map_err(|error| Error::corrupt("a cursor's cluster is malformed").with_source(error))?;
        let after = Cursor {
            cluster: keevo_core::ClusterId(u128::from_be_bytes(cluster)),
            shard: ShardId(wire.shard),
            revision: Revision(wire.revision),
            offset: wire.offset,
        };
        Ok(Self { range, after })
    }
}

impl ChangesPage {
    pub(crate) fn encode(&self) -> Bytes {
        let (reached_revision, reached_offset) = (self.reached.revision.0, self.reached.offset);
        pack(&PageWire { events: self.events.iter().map(event_wire).collect(), reached_revision, reached_offset })
    }

    pub(crate) fn decode(body: &Bytes, after: &Cursor) -> Result<Self> {
        let wire: PageWire = parse("a page of changes", body)?;
        let events: Vec<CommitEvent> =
            wire.events.into_iter().map(|event| event_of(event, after)).collect::<Result<_>>()?;
        let told = Cursor { revision: Revision(wire.reached_revision), offset: wire.reached_offset, ..*after };
        let reached = events.last().map_or(*after, |event| event.cursor).max(told);
        Ok(Self { events, reached })
    }
}

fn event_wire(event: &CommitEvent) -> EventWire {
    let (kind, value, expires_at_ms) = match &event.change {
        Change::Put { value, expires_at_ms } => (1, value.clone(), *expires_at_ms),
        Change::Delete => (2, Bytes::new(), None),
        Change::DeleteRange { end } => (3, end.clone(), None),
    };
    EventWire {
        key: Some(key_wire(&event.key)),
        revision: event.cursor.revision.0,
        offset: event.cursor.offset,
        kind,
        value,
        expires_at_ms,
    }
}

fn event_of(wire: EventWire, after: &Cursor) -> Result<CommitEvent> {
    let key = key_of(wire.key.ok_or_else(|| Error::corrupt("a change names no key"))?)?;
    let change = match wire.kind {
        1 => Change::Put { value: wire.value, expires_at_ms: wire.expires_at_ms },
        2 => Change::Delete,
        3 => Change::DeleteRange { end: wire.value },
        kind => return Err(Error::corrupt(format!("a change has unknown kind {kind}"))),
    };
    Ok(CommitEvent { cursor: Cursor { revision: Revision(wire.revision), offset: wire.offset, ..*after }, key, change })
}

/// Answers a page of changes: at least one if one comes within [`WAIT`].
pub(super) async fn answer(node: &NodeInner, request: &PeerRequest) -> Result<Bytes> {
    let asked = ChangesRequest::decode(&request.body)?;
    let group = node.group_for(request)?;
    let Changes { events, reached } = page_of(&group, &asked.range, asked.after).await?;
    Ok(ChangesPage { events, reached }.encode())
}

/// A page of a replica's changes: at least one if one comes within [`WAIT`].
pub(crate) async fn page_of(group: &Group, range: &WatchRange, after: Cursor) -> Result<Changes> {
    let reader = group.reader();
    let until = tokio::time::Instant::now() + WAIT;
    let mut page = Changes { events: Vec::new(), reached: after };
    loop {
        page = reader.changes(range.clone(), page.reached, PAGE_EVENTS_MAX, PAGE_BYTES_MAX)?;
        if !page.events.is_empty() {
            return Ok(page);
        }
        let more = reader.wait_applied(Revision(page.reached.revision.0.saturating_add(1)));
        match tokio::time::timeout_at(until, more).await {
            Ok(applied) => applied?,
            Err(_elapsed) => return Ok(page),
        }
        tokio::time::sleep(GATHER).await;
    }
}
