//! The change of the members that is under way, as a record of the meta group.
//!
//! A change takes many steps in many groups and can be cut off after each of them. Its record says what was begun
//! and by whom. While it is there no other change begins; who asks for the same one again takes it over and finishes
//! it, and a removal takes over from the joining of the same node, so that neither can be stuck for ever. Whoever
//! lost the record makes no further step: each one demands it, those that change the map in the same batch.

use bytes::Bytes;
use keevo_core::{Batch, Check, Error, ErrorKind, Key, Keyspace, Result};
use prost::Message;

use crate::cluster_engine::ClusterEngine;
use crate::cluster_map;
use crate::shard_map::ShardMap;

const FORMAT: u32 = 1;
/// How often the record is tried again when another one came first.
const TRIES_MAX: usize = 16;

/// Where the record lies: beside the map, so that one batch can demand or change both.
fn operation_key() -> Key {
    Keyspace::META.key("cluster", "operation")
}

/// What is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// A node comes.
    Join(u64),
    /// A node goes.
    Remove(u64),
}

impl Change {
    /// Whether `next` may go on from where this one stopped.
    fn gives_way_to(self, next: Self) -> bool {
        self == next || matches!((self, next), (Self::Join(comes), Self::Remove(goes)) if comes == goes)
    }

    fn describe(self) -> String {
        match self {
            Self::Join(node) => format!("the joining of node {node}"),
            Self::Remove(node) => format!("the removal of node {node}"),
        }
    }

    fn repeat(self) -> String {
        match self {
            Self::Join(node) => format!("ask again for node {node} to join, or for its removal"),
            Self::Remove(node) => format!("ask again for the removal of node {node}"),
        }
    }
}

#[derive(Clone, PartialEq, Message)]
struct OperationWire {
    #[prost(uint32, tag = "1")]
    format: u32,
    /// 1 = join, 2 = remove.
    #[prost(uint32, tag = "2")]
    kind: u32,
    /// The node that comes or goes.
    #[prost(uint64, tag = "3")]
    node_id: u64,
    /// The node that carries the change out.
    #[prost(uint64, tag = "4")]
    owner: u64,
    /// Drawn by each owner: tells two records of the same change apart.
    #[prost(bytes = "bytes", tag = "5")]
    token: Bytes,
}

fn decode(bytes: &[u8]) -> Result<(Change, u64)> {
    let wire = OperationWire::decode(bytes)
        .map_err(|error| Error::corrupt("the record of the membership change does not decode").with_source(error))?;
    if wire.format != FORMAT {
        let text = format!("the record of the membership change has format {}", wire.format);
        return Err(Error::new(ErrorKind::NewerFormat, text));
    }
    match wire.kind {
        1 => Ok((Change::Join(wire.node_id), wire.owner)),
        2 => Ok((Change::Remove(wire.node_id), wire.owner)),
        kind => Err(Error::new(ErrorKind::NewerFormat, format!("there is no membership change of kind {kind}"))),
    }
}

/// Whether these bytes are the record of a change.
#[cfg(feature = "fuzzing")]
pub(crate) fn is_record(bytes: &[u8]) -> bool {
    decode(bytes).is_ok()
}

/// The record of a node that comes.
#[cfg(feature = "fuzzing")]
pub(crate) fn sample_record() -> Vec<u8> {
    OperationWire { format: FORMAT, kind: 1, node_id: 4, owner: 1, token: Bytes::from_static(b"token") }.encode_to_vec()
}

/// The right to make the steps of a change: the record as this owner wrote it.
#[derive(Debug, Clone)]
pub(super) struct Ticket {
    record: Bytes,
}

impl Ticket {
    /// Begins a change, or takes over one that was begun. `Unavailable` while another one is under way.
    pub(super) async fn begin(engine: &ClusterEngine, change: Change) -> Result<Self> {
        let (kind, node_id) = match change {
            Change::Join(node_id) => (1, node_id),
            Change::Remove(node_id) => (2, node_id),
        };
        let token = Bytes::copy_from_slice(&engine.node.inner.parts.random.next_u128().to_be_bytes());
        let wire = OperationWire { format: FORMAT, kind, node_id, owner: engine.node.id(), token };
        let record = Bytes::from(wire.encode_to_vec());
        for _ in 0..TRIES_MAX {
            let check = match engine.get_unchecked(operation_key()).await? {
                None => Check::Absent,
                Some(found) => {
                    let (running, owner) = decode(&found.value)?;
                    if !running.gives_way_to(change) {
                        return Err(under_way(running, owner));
                    }
                    tracing::info!(change = running.describe(), owner, "taking over a change of the members");
                    Check::RevisionIs(found.revision)
                }
            };
            let batch = Batch::new().put(operation_key(), record.clone()).require(operation_key(), check);
            match engine.write_unchecked(batch).await {
                Ok(_) => return Ok(Self { record }),
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::new(ErrorKind::Unavailable, "too many changes of the members begin at once; try again"))
    }

    /// `Conflict` if the change is no longer ours.
    pub(super) async fn check(&self, engine: &ClusterEngine) -> Result<()> {
        let found = engine.get_unchecked(operation_key()).await?;
        if found.is_some_and(|record| record.value == self.record) { Ok(()) } else { Err(taken_over()) }
    }

    /// Changes the map by `change`, again from the newest one if another change came first. The version grows
    /// unless nothing changed.
    pub(super) async fn update(
        &self,
        engine: &ClusterEngine,
        change: impl Fn(&mut ShardMap) -> Result<()>,
    ) -> Result<ShardMap> {
        self.write(engine, change, false).await
    }

    /// The same as the last step: the record goes in the same batch.
    pub(super) async fn finish(
        self,
        engine: &ClusterEngine,
        change: impl Fn(&mut ShardMap) -> Result<()>,
    ) -> Result<ShardMap> {
        self.write(engine, change, true).await
    }

    /// Ends a change that turned out to be impossible before its first step, and gives back why.
    pub(super) async fn give_up(self, engine: &ClusterEngine, why: Error) -> Error {
        if let Err(error) = self.write(engine, |_map| Ok(()), true).await {
            tracing::warn!(%error, "the record of a membership change that cannot be made stays");
        }
        why
    }

    async fn write(
        &self,
        engine: &ClusterEngine,
        change: impl Fn(&mut ShardMap) -> Result<()>,
        finish: bool,
    ) -> Result<ShardMap> {
        for _ in 0..TRIES_MAX {
            self.check(engine).await?;
            let (old, revision) = cluster_map::read(engine).await?;
            let mut map = old.clone();
            change(&mut map)?;
            let mut batch = Batch::new().require(operation_key(), Check::ValueIs(self.record.clone()));
            if map != old {
                map.version += 1;
                batch = cluster_map::replace(batch, &map, revision);
            } else if !finish {
                return Ok(map);
            }
            if finish {
                batch = batch.delete(operation_key());
            }
            match engine.write_unchecked(batch).await {
                Ok(_) => {
                    engine.node.inner.adopt(map.clone()).await?;
                    return Ok(map);
                }
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::new(ErrorKind::Unavailable, "the shard map kept changing underneath; ask again"))
    }
}

fn under_way(running: Change, owner: u64) -> Error {
    Error::new(
        ErrorKind::Unavailable,
        format!(
            "another membership change is under way: {}, begun through node {owner}; wait until it is done, or, if it \
             was cut off, {} to finish it",
            running.describe(),
            running.repeat()
        ),
    )
}

fn taken_over() -> Error {
    Error::new(
        ErrorKind::Conflict,
        "this membership change was taken over or ended by another request; look at the cluster's status",
    )
}
