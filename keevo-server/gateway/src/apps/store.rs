//! The rows of the apps: keys, values, and the store they lie in.

use std::fmt;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use keevo_core::keyspaces::MetaStore;
use keevo_core::{Batch, Check, Consistency, Engine, Error, Key, Keyspace, KeyspaceKind, Record, Result, Written};

use super::model::App;

const PARTITION: &[u8] = b"apps";

/// The keyspace that stands in for the meta group where a program embeds the gateway.
pub const META_KEYSPACE: &str = "gateway.meta";

/// [`MetaStore`] behind a pointer.
pub(super) trait ErasedMeta: Send + Sync {
    fn get(&self, key: Key) -> BoxFuture<'_, Result<Option<Record>>>;
    fn write(&self, batch: Batch) -> BoxFuture<'_, Result<Written>>;
}

impl<M: MetaStore + Send> ErasedMeta for M {
    fn get(&self, key: Key) -> BoxFuture<'_, Result<Option<Record>>> {
        MetaStore::get(self, key).boxed()
    }

    fn write(&self, batch: Batch) -> BoxFuture<'_, Result<Written>> {
        MetaStore::write(self, batch).boxed()
    }
}

/// The rows, decoded.
#[derive(Clone)]
pub(super) struct Rows(pub(super) std::sync::Arc<dyn ErasedMeta>);

impl Rows {
    pub(super) async fn get(&self, key: Key) -> Result<Option<Record>> {
        self.0.get(key).await
    }

    pub(super) async fn write(&self, batch: Batch) -> Result<()> {
        self.0.write(batch).await.map(drop)
    }

    /// The id that the next app gets, and what must hold for it to be given.
    pub(super) async fn next_id(&self) -> Result<(u32, Check)> {
        match self.get(next_key()).await? {
            None => Ok((1, Check::Absent)),
            Some(record) => Ok((decode_id(&record.value)?, Check::RevisionIs(record.revision))),
        }
    }

    /// The ids of all apps, and what must hold for the list to be replaced.
    pub(super) async fn ids(&self) -> Result<(Vec<u32>, Check)> {
        match self.get(list_key()).await? {
            None => Ok((Vec::new(), Check::Absent)),
            Some(record) => {
                let ids = serde_json::from_slice(&record.value)
                    .map_err(|error| Error::corrupt("the list of apps is no list of ids").with_source(error))?;
                Ok((ids, Check::RevisionIs(record.revision)))
            }
        }
    }

    pub(super) async fn id_of_key(&self, key: &str) -> Result<Option<u32>> {
        self.get(key_row(key)).await?.map(|record| decode_id(&record.value)).transpose()
    }
}

fn row(sort: impl AsRef<[u8]>) -> Key {
    Keyspace::META.key(PARTITION, Bytes::copy_from_slice(sort.as_ref()))
}

pub(super) fn app_row(id: u32) -> Key {
    row([b"a/".as_slice(), &id.to_be_bytes()].concat())
}

pub(super) fn key_row(key: &str) -> Key {
    row([b"k/", key.as_bytes()].concat())
}

pub(super) fn list_key() -> Key {
    row(b"l")
}

pub(super) fn next_key() -> Key {
    row(b"next")
}

pub(super) fn encode_id(id: u32) -> Bytes {
    Bytes::copy_from_slice(&id.to_be_bytes())
}

fn decode_id(value: &[u8]) -> Result<u32> {
    let wrong = |_| Error::corrupt("an app's id does not have 4 bytes");
    Ok(u32::from_be_bytes(value.try_into().map_err(wrong)?))
}

pub(super) fn encode_ids(ids: &[u32]) -> Result<Bytes> {
    encode(&ids)
}

pub(super) fn encode_app(app: &App) -> Result<Bytes> {
    encode(app)
}

pub(super) fn decode_app(value: &[u8]) -> Result<App> {
    serde_json::from_slice(value).map_err(|error| Error::corrupt("the row of an app is malformed").with_source(error))
}

fn encode(value: &impl serde::Serialize) -> Result<Bytes> {
    serde_json::to_vec(value)
        .map(Bytes::from)
        .map_err(|error| Error::invalid("the app cannot be written as JSON").with_source(error))
}

/// A meta store for engines without a meta group: a keyspace of its own on the engine itself. For programs that link
/// the gateway, and for tests; in a cluster use its meta group.
#[derive(Clone)]
pub struct EngineMeta<E> {
    engine: E,
    keyspace: Keyspace,
}

impl<E> fmt::Debug for EngineMeta<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EngineMeta")
    }
}

impl<E: Engine> EngineMeta<E> {
    /// The store on `engine`; its keyspace `gateway.meta` is created when it is new.
    pub async fn open(engine: E) -> Result<Self> {
        let keyspace = engine.keyspace(META_KEYSPACE, KeyspaceKind::Hashed).await?;
        Ok(Self { engine, keyspace })
    }
}

impl<E: Engine> MetaStore for EngineMeta<E> {
    async fn get(&self, mut key: Key) -> Result<Option<Record>> {
        key.keyspace = self.keyspace;
        self.engine.get(key, Consistency::Linearizable).await
    }

    async fn write(&self, mut batch: Batch) -> Result<Written> {
        for one in &mut batch.preconditions {
            one.key.keyspace = self.keyspace;
        }
        let mut moved = Batch { ops: Vec::with_capacity(batch.ops.len()), ..batch };
        for op in batch.ops {
            moved.ops.push(match op {
                keevo_core::Op::Put { mut key, value, ttl_ms } => {
                    key.keyspace = self.keyspace;
                    keevo_core::Op::Put { key, value, ttl_ms }
                }
                keevo_core::Op::Delete { mut key } => {
                    key.keyspace = self.keyspace;
                    keevo_core::Op::Delete { key }
                }
                _ => return Err(Error::invalid("apps are kept by puts and deletes alone")),
            });
        }
        self.engine.write(moved).await
    }
}
