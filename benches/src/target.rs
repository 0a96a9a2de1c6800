//! What is put under load: the systems that are compared, each through a client of its own.

mod etcd;
mod keevo;
mod unary;

use bytes::Bytes;
use keevo_core::Result;

pub(crate) use etcd::Etcd;
pub(crate) use keevo::Keevo;
pub(crate) use unary::KeevoUnary;

/// Connections to each node where requests travel as unary gRPC calls.
const CONNECTIONS_PER_NODE: usize = 4;

/// A system under load. Cheap to clone; clones share connections.
pub(crate) trait Target: Clone + Send + Sync + 'static {
    /// Stores `value` under `key`; returns once it is durable on a majority of the nodes.
    fn put(&self, key: Bytes, value: Bytes) -> impl Future<Output = Result<()>> + Send;

    /// The value under `key`, read linearizably.
    fn get(&self, key: Bytes) -> impl Future<Output = Result<Option<Bytes>>> + Send;
}

/// The key of a number: the same bytes on every system.
pub(crate) fn key(number: u64) -> Bytes {
    format!("k{number:08}").into()
}
