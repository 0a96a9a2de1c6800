//! `Host`: what the gRPC services need of the node they run on.
//!
//! The daemon implements it once over a `LocalEngine` and once over the cluster's engine; the services know neither.
//! Invariant: services reach data through [`Host::engine`] alone; the rest is what the `Engine` trait leaves out
//! because a linked library has no use for it.

use std::collections::BTreeSet;
use std::future::{Future, ready};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use keevo_core::{
    ClientId, Cursor, Engine, Error, ErrorKind, Key, Keyspace, KeyspaceId, KeyspaceKind, Result, Scan, ScanRange,
    ShardId, WatchRange,
};
use keevo_proto::admin::v1 as admin;

/// On which shard a session is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionScope {
    /// On the shard with this id.
    Shard(ShardId),
    /// On the shard that owns this key.
    Key(Key),
}

/// The node behind the services.
pub trait Host: Send + Sync + 'static {
    /// The engine that holds the data.
    type Engine: Engine;

    /// The engine.
    fn engine(&self) -> &Self::Engine;

    /// The same host, whose calls say what they met with before `limit` has passed. By default it is the same.
    #[must_use]
    fn bounded(self: &Arc<Self>, limit: Duration) -> Arc<Self> {
        let _ = limit;
        Arc::clone(self)
    }

    /// The keyspace with this id, or `UnknownKeyspace`. Services cache the answer: a keyspace never changes.
    fn keyspace_by_id(&self, id: KeyspaceId) -> impl Future<Output = Result<Keyspace>> + Send;

    /// The name of the keyspace with this id, or `UnknownKeyspace`. Asked for only where callers have limited rights.
    fn keyspace_name(&self, id: KeyspaceId) -> impl Future<Output = Result<String>> + Send {
        ready(Err(Error::new(ErrorKind::UnknownKeyspace, format!("this node knows no name of keyspace {id}"))))
    }

    /// Opens a client's session and gives the shard it is open on. `ShardMoved` when the shard does not exist.
    fn open_session(&self, scope: SessionScope, client: ClientId) -> impl Future<Output = Result<ShardId>> + Send;

    /// The present end of the sequence of changes of each shard of `range`: a watch after these cursors delivers
    /// what is applied from now on. With `only`, of those shards alone; others are not asked. [`end_of_one_shard`] serves engines
    /// that have one shard.
    fn watch_start(
        &self,
        range: &WatchRange,
        only: Option<&BTreeSet<ShardId>>,
    ) -> impl Future<Output = Result<Vec<Cursor>>> + Send;

    /// Who the node is.
    fn info(&self) -> admin::InfoResponse;

    /// Where every shard is served. [`one_shard_map`] serves engines that have one shard.
    fn shard_map(&self) -> impl Future<Output = Result<admin::ShardMapResponse>> + Send;

    /// Nodes, shards and replicas.
    fn cluster_status(&self) -> impl Future<Output = Result<admin::ClusterStatusResponse>> + Send;

    /// Proposes a checksum on every shard, or on the one that is named, and collects what the replicas found.
    fn checksum(&self, request: admin::ChecksumRequest)
    -> impl Future<Output = Result<admin::ChecksumResponse>> + Send;

    /// Makes everything written so far durable in the data store.
    fn flush(&self) -> impl Future<Output = Result<()>> + Send;

    /// The keyspaces above an id, and whether there may be more.
    fn keyspaces(
        &self,
        request: admin::ListKeyspacesRequest,
    ) -> impl Future<Output = Result<admin::ListKeyspacesResponse>> + Send
    where
        Self: Sized,
    {
        list_keyspaces(self, request)
    }

    /// Compacts the data store, or a part of it. The stream ends when it is done, or with an error.
    fn compact(
        &self,
        request: admin::CompactRequest,
    ) -> impl Future<Output = Result<BoxStream<'static, Result<admin::CompactProgress>>>> + Send;

    /// Verifies all that is on the disk; refused by default. The stream ends when it is done, or with an error.
    fn scrub(
        &self,
        request: admin::ScrubRequest,
    ) -> impl Future<Output = Result<BoxStream<'static, Result<admin::ScrubProgress>>>> + Send {
        let _ = request;
        ready(Err(no_stores()))
    }

    /// Copies the node into a folder; refused by default.
    fn checkpoint(
        &self,
        request: admin::CheckpointRequest,
    ) -> impl Future<Output = Result<admin::CheckpointResponse>> + Send {
        let _ = request;
        ready(Err(no_stores()))
    }

    /// Looks at the clock, the disk and the limits; refused by default.
    fn diagnose(&self) -> impl Future<Output = Result<admin::DiagnoseResponse>> + Send {
        ready(Err(no_stores()))
    }

    /// Takes a node into the cluster; refused by default.
    fn join(&self, request: admin::JoinRequest) -> impl Future<Output = Result<admin::JoinResponse>> + Send {
        let _ = request;
        ready(Err(no_cluster()))
    }

    /// Takes a node out of the cluster; refused by default.
    fn remove(&self, request: admin::RemoveRequest) -> impl Future<Output = Result<()>> + Send {
        let _ = request;
        ready(Err(no_cluster()))
    }

    /// Tells the state of an upgrade, or ends it; refused by default.
    fn upgrade(&self, request: admin::UpgradeRequest) -> impl Future<Output = Result<admin::UpgradeResponse>> + Send {
        let _ = request;
        ready(Err(no_cluster()))
    }

    /// Moves a shard's leadership; refused by default.
    fn transfer(&self, request: admin::TransferRequest) -> impl Future<Output = Result<()>> + Send {
        let _ = request;
        ready(Err(no_cluster()))
    }
}

/// How many keyspaces a page has unless the caller says so, and at most.
const KEYSPACES_DEFAULT: u32 = 100;
const KEYSPACES_MAX: u32 = 1_000;

/// Looks at one id after the other: they are given in order and never taken back, so the first that there is not ends it.
async fn list_keyspaces<H: Host>(
    host: &H,
    request: admin::ListKeyspacesRequest,
) -> Result<admin::ListKeyspacesResponse> {
    let limit = if request.limit == 0 { KEYSPACES_DEFAULT } else { request.limit.min(KEYSPACES_MAX) };
    let mut found = admin::ListKeyspacesResponse::default();
    let first = request.after.saturating_add(1);
    for id in first..first.saturating_add(limit) {
        let keyspace = match host.keyspace_by_id(KeyspaceId(id)).await {
            Err(error) if error.kind() == ErrorKind::UnknownKeyspace => return Ok(found),
            keyspace => keyspace?,
        };
        let name = host.keyspace_name(keyspace.id).await?;
        let partition_bytes = match keyspace.kind {
            KeyspaceKind::Hashed => 0,
            KeyspaceKind::Ordered { partition_bytes } => u32::from(partition_bytes),
        };
        found.keyspaces.push(admin::KeyspaceInfo { id, name, partition_bytes });
    }
    found.more = true;
    Ok(found)
}

fn no_stores() -> Error {
    Error::invalid("this node has no stores of its own")
}

fn no_cluster() -> Error {
    Error::invalid("this node is no member of a cluster; start it as one to change its members")
}

/// [`Host::watch_start`] for an engine with one shard: the view of a scan that returns at most one record.
pub async fn end_of_one_shard(engine: &impl Engine, range: &WatchRange) -> Result<Vec<Cursor>> {
    let scan = match range {
        WatchRange::Partition { keyspace, partition, .. } => Scan::partition(*keyspace, partition.clone(), 1),
        WatchRange::Keyspace(keyspace) => match keyspace.kind {
            KeyspaceKind::Hashed => Scan::partition(*keyspace, Bytes::from_static(b"-"), 1),
            KeyspaceKind::Ordered { .. } => Scan {
                range: ScanRange::Ordered { keyspace: *keyspace, start: Bytes::new(), end: Bytes::new() },
                ..Scan::partition(*keyspace, Bytes::new(), 1)
            },
        },
    };
    Ok(vec![engine.scan(scan).await?.as_of])
}

/// [`Host::shard_map`] for an engine with one shard: it owns every key, and the node that was asked serves it.
pub fn one_shard_map(cluster_id: Bytes, shard: ShardId) -> admin::ShardMapResponse {
    let whole = admin::ShardRoute {
        id: shard.0,
        epoch: Some(admin::Epoch { version: 1, conf_version: 1 }),
        ..admin::ShardRoute::default()
    };
    admin::ShardMapResponse { cluster_id, version: 1, shards: vec![whole] }
}
