//! Keevo as clients of other languages use it: one unary gRPC call a request, to the leader of the key's shard.
//!
//! Puts carry no request id, as those of etcd: a retry after a lost answer would apply them again. There is none.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use keevo_client::RemoteEngine;
use keevo_core::{Batch, Consistency, Error, ErrorKind, Result};
use keevo_proto::error_from_status;
use keevo_proto::kv::v1 as pb;
use keevo_proto::kv::v1::kv_client::KvClient;
use tonic::transport::Channel;
use tonic::{Response, Status};

use super::{Keevo, Target};
use crate::channels;

const DEADLINE_MS: u32 = 5_000;

/// The nodes of a cluster, with [`super::CONNECTIONS_PER_NODE`] connections to each.
#[derive(Debug, Clone)]
pub(crate) struct KeevoUnary {
    keevo: Keevo<RemoteEngine>,
    nodes: Arc<BTreeMap<String, Vec<KvClient<Channel>>>>,
    turn: Arc<AtomicUsize>,
}

impl KeevoUnary {
    /// Connects to all nodes. Their shard map is the engine's.
    pub(crate) async fn connect(keevo: Keevo<RemoteEngine>, addresses: &[String]) -> Result<Self> {
        let mut nodes = BTreeMap::new();
        for address in addresses {
            let connections = channels::connect(address, super::CONNECTIONS_PER_NODE).await?;
            nodes.insert(address.clone(), connections.into_iter().map(KvClient::new).collect());
        }
        Ok(Self { keevo, nodes: Arc::new(nodes), turn: Arc::default() })
    }

    /// Calls the leader of the shard that owns the key; a node that knows a better one is followed once.
    async fn call<T, F>(&self, encoded: &[u8], call: impl Fn(KvClient<Channel>) -> F + Send + Sync) -> Result<T>
    where
        F: Future<Output = Result<Response<T>, Status>> + Send,
    {
        let map = self.keevo.engine().shard_map().await?;
        let shard = map.locate(encoded)?;
        let address = shard.leader.as_ref().or_else(|| shard.replicas.first());
        let address = address.ok_or_else(|| Error::new(ErrorKind::Unavailable, "the key's shard has no replica"))?;
        let error = match call(self.connection(address)?).await {
            Ok(answer) => return Ok(answer.into_inner()),
            Err(status) => error_from_status(&status),
        };
        let Some(leader) = error.leader() else { return Err(error) };
        match call(self.connection(leader)?).await {
            Ok(answer) => Ok(answer.into_inner()),
            Err(status) => Err(error_from_status(&status)),
        }
    }

    fn connection(&self, address: &str) -> Result<KvClient<Channel>> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let connection = self.nodes.get(address).and_then(|all| all.get(turn % all.len().max(1)));
        let unknown = || Error::new(ErrorKind::Unavailable, format!("{address} is no node of the cluster"));
        connection.cloned().ok_or_else(unknown)
    }
}

impl Target for KeevoUnary {
    async fn put(&self, key: Bytes, value: Bytes) -> Result<()> {
        let key = self.keevo.key(key);
        let encoded = key.encode();
        let batch = pb::Batch::try_from(Batch::new().put(key, value))?;
        let request = pb::WriteRequest { batch: Some(batch), deadline_ms: DEADLINE_MS };
        let call = |mut client: KvClient<Channel>| {
            let request = request.clone();
            async move { client.write(request).await }
        };
        self.call(&encoded, call).await.map(drop)
    }

    async fn get(&self, key: Bytes) -> Result<Option<Bytes>> {
        let key = self.keevo.key(key);
        let encoded = key.encode();
        let request = pb::GetRequest {
            key: Some(key.into()),
            consistency: Some(Consistency::Linearizable.into()),
            deadline_ms: DEADLINE_MS,
        };
        let call = |mut client: KvClient<Channel>| {
            let request = request.clone();
            async move { client.get(request).await }
        };
        Ok(self.call(&encoded, call).await?.record.map(|record| record.value))
    }
}
