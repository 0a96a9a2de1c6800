//! Which node tells a hook, and how far it has told.
//!
//! A claim is a row that runs out unless it is renewed; each renewal is a compare-and-set, so one node tells at a time, and a
//! node that was away for too long finds out before it writes how far it is. It has a cursor for every shard, so what
//! happens while nobody holds it is told by whoever takes it next.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use keevo_chat::AppId;
use keevo_core::{
    AnyEngine, Batch, Check, ClusterId, Consistency, Cursor, Engine, Error, ErrorKind, Key, KeyspaceKind, Result,
    Revision, Scan, ShardId, partition_hash,
};
use serde::{Deserialize, Serialize};

use crate::watches::{AppWatch, SharedWatches};

/// How long a claim holds unless it is renewed, in milliseconds.
const CLAIM_MS: u64 = 20_000;
/// How many places of the space of partitions are asked for their shard.
const PROBES: usize = 256;
/// How many of them at once.
const PROBES_AT_ONCE: usize = 16;

/// The place of an event in its channel.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) cid: String,
    pub(super) version: u64,
    pub(super) index: u32,
}

/// How far a shard was told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Told {
    shard: u64,
    revision: u64,
    offset: u32,
    /// Of the last event, since what follows may belong to the same write.
    place: Place,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Row {
    holder: u64,
    until_ms: u64,
    /// In hexadecimal digits.
    cluster: String,
    told: Vec<Told>,
}

/// A claim that this node holds.
pub(super) struct Claim {
    engine: AnyEngine,
    key: Key,
    row: Row,
    revision: Revision,
}

/// Where the claim on a hook lies.
pub(super) async fn key(engine: &AnyEngine, app: u32, hook: &str) -> Result<Key> {
    let keyspace = engine.keyspace(keevo_gateway::KEYSPACE, KeyspaceKind::Hashed).await?;
    let sort = Bytes::copy_from_slice(hook.as_bytes());
    Ok(keyspace.key([b"chat-hooks".as_slice(), &app.to_be_bytes()].concat(), sort))
}

/// Forgets how far a hook was told: it is gone, and one of the same name begins anew.
pub(crate) async fn forget(engine: &AnyEngine, app: u32, hook: &str) -> Result<()> {
    let key = key(engine, app, hook).await?;
    engine.write(Batch::new().delete(key)).await.map(drop)
}

impl Claim {
    /// Takes the claim; `None` while another node holds it.
    pub(super) async fn take(
        engine: &AnyEngine,
        app: u32,
        hook: &str,
        holder: u64,
        now_ms: u64,
    ) -> Result<Option<Self>> {
        let key = key(engine, app, hook).await?;
        let record = engine.get(key.clone(), Consistency::Linearizable).await?;
        let check = record.as_ref().map_or(Check::Absent, |record| Check::RevisionIs(record.revision));
        let until_ms = now_ms.saturating_add(CLAIM_MS);
        let row = if let Some(record) = record {
            let malformed = |error| Error::corrupt("the claim on a hook is malformed").with_source(error);
            let before: Row = serde_json::from_slice(&record.value).map_err(malformed)?;
            if before.holder != holder && before.until_ms > now_ms {
                return Ok(None);
            }
            let mut row = Row { holder, until_ms, ..before };
            row.complete(engine).await?;
            row
        } else {
            let mut row = Row { holder, until_ms, cluster: String::new(), told: Vec::new() };
            row.begin(engine).await?;
            row
        };
        let batch = Batch::new().require(key.clone(), check).put(key.clone(), encode(&row)?);
        match engine.write(batch).await {
            Ok(written) => Ok(Some(Self { engine: engine.clone(), key, row, revision: written.revision })),
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Begins anew, with what happens from now on.
    pub(super) async fn begin_anew(&mut self) -> Result<()> {
        let engine = self.engine.clone();
        self.row.begin(&engine).await
    }

    /// All changes of the app's chats behind what was told, from what the node reads anyhow.
    pub(super) async fn watch(&self, watches: &SharedWatches<AnyEngine>, app: u32) -> Result<AppWatch<AnyEngine>> {
        let keyspace = self.engine.keyspace(keevo_chat::KEYSPACE, KeyspaceKind::Hashed).await?;
        let cluster = ClusterId(u128::from_str_radix(&self.row.cluster, 16).unwrap_or_default());
        let cursor = |told: &Told| Cursor {
            cluster,
            shard: ShardId(told.shard),
            revision: Revision(told.revision),
            offset: told.offset,
        };
        let cursors = self.row.told.iter().map(cursor).collect();
        watches.follow_prefix(keyspace, &keevo_chat::partitions_of(AppId(app)), cursors).await
    }

    /// The last place that was told, by shard.
    pub(super) fn places(&self) -> BTreeMap<ShardId, Place> {
        self.row.told.iter().map(|told| (ShardId(told.shard), told.place.clone())).collect()
    }

    /// Notes how far a shard was told; the next renewal writes it.
    pub(super) fn note(&mut self, cursor: Cursor, place: Place) {
        self.row.cluster = cursor.cluster.to_string();
        self.row.told.retain(|told| told.shard != cursor.shard.0);
        let (shard, revision, offset) = (cursor.shard.0, cursor.revision.0, cursor.offset);
        self.row.told.push(Told { shard, revision, offset, place });
    }

    /// Renews the claim, with what was noted; false where another node has it, or the hook is gone.
    pub(super) async fn renew(&mut self, now_ms: u64) -> Result<bool> {
        self.row.until_ms = now_ms.saturating_add(CLAIM_MS);
        let batch = Batch::new()
            .require(self.key.clone(), Check::RevisionIs(self.revision))
            .put(self.key.clone(), encode(&self.row)?);
        match self.engine.write(batch).await {
            Ok(written) => {
                self.revision = written.revision;
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl Row {
    async fn begin(&mut self, engine: &AnyEngine) -> Result<()> {
        self.told.clear();
        self.complete(engine).await
    }

    /// Adds the shards that are not there, as they stand.
    async fn complete(&mut self, engine: &AnyEngine) -> Result<()> {
        for cursor in frontier(engine).await? {
            if self.told.iter().all(|told| told.shard != cursor.shard.0) {
                self.cluster = cursor.cluster.to_string();
                let (shard, revision, offset) = (cursor.shard.0, cursor.revision.0, cursor.offset);
                self.told.push(Told { shard, revision, offset, place: Place::default() });
            }
        }
        Ok(())
    }
}

/// Where each shard of the chats stands, as far as it is wider than the pieces into which the space of partitions is cut here.
async fn frontier(engine: &AnyEngine) -> Result<Vec<Cursor>> {
    let keyspace = engine.keyspace(keevo_chat::KEYSPACE, KeyspaceKind::Hashed).await?;
    let mut probes: BTreeMap<u16, Vec<u8>> = BTreeMap::new();
    let names = (0_u32..).map(|number| [b"probe".as_slice(), &number.to_be_bytes()].concat());
    for name in names {
        probes.entry(partition_hash(&name) >> 8).or_insert(name);
        if probes.len() >= PROBES {
            break;
        }
    }
    let pages = stream::iter(probes.into_values()).map(|name| engine.scan(Scan::partition(keyspace, name, 1)));
    let pages: Vec<_> = pages.buffered(PROBES_AT_ONCE).try_collect().await?;
    let mut cursors: BTreeMap<ShardId, Cursor> = BTreeMap::new();
    for page in pages {
        let lowest = cursors.entry(page.as_of.shard).or_insert(page.as_of);
        *lowest = (*lowest).min(page.as_of);
    }
    Ok(cursors.into_values().collect())
}

fn encode(row: &Row) -> Result<Bytes> {
    let bytes = serde_json::to_vec(row);
    bytes.map(Bytes::from).map_err(|error| Error::invalid("the claim cannot be written").with_source(error))
}
