//! Keevo through its engine: with `RemoteEngine`, requests travel in batches over streams.

use bytes::Bytes;
use keevo_core::{Batch, Consistency, Engine, Key, Keyspace, KeyspaceKind, Result};

use super::Target;

/// An engine, and the keyspace that the load goes to. Every key is a partition of its own, so that the keys spread
/// over all shards.
#[derive(Debug, Clone)]
pub(crate) struct Keevo<E> {
    engine: E,
    keyspace: Keyspace,
}

impl<E: Engine> Keevo<E> {
    /// Opens the keyspace, which is created if it is new.
    pub(crate) async fn open(engine: E) -> Result<Self> {
        let keyspace = engine.keyspace("bench", KeyspaceKind::Hashed).await?;
        Ok(Self { engine, keyspace })
    }

    pub(super) fn key(&self, key: Bytes) -> Key {
        self.keyspace.key(key, "")
    }

    pub(super) fn engine(&self) -> &E {
        &self.engine
    }
}

impl<E: Engine> Target for Keevo<E> {
    async fn put(&self, key: Bytes, value: Bytes) -> Result<()> {
        self.engine.write(Batch::new().put(self.key(key), value)).await.map(drop)
    }

    async fn get(&self, key: Bytes) -> Result<Option<Bytes>> {
        let record = self.engine.get(self.key(key), Consistency::Linearizable).await?;
        Ok(record.map(|record| record.value))
    }
}
