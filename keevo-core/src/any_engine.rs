//! An engine of any kind behind one type, for programs that choose at run time: embedded, in a cluster, or remote.
//!
//! What is written over it is compiled once, whatever it runs on; each call costs one allocation and one indirect call.

use std::fmt;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;

use crate::batch::{Batch, Written};
use crate::engine::Engine;
use crate::error::Result;
use crate::fan_out::{FanOut, FannedOut};
use crate::key::{Key, Keyspace, KeyspaceKind};
use crate::read::Consistency;
use crate::record::Record;
use crate::scan::{Scan, ScanPage};
use crate::watch::{Watch, WatchFrom, WatchRange};

/// An engine of any kind. Cheap to clone; clones share everything.
///
/// ```
/// # use keevo_core::{AnyEngine, Batch, Consistency, Engine, KeyspaceKind, MemoryEngine, Result};
/// async fn count(engine: AnyEngine) -> Result<()> {
///     let keyspace = engine.keyspace("visits", KeyspaceKind::Hashed).await?;
///     engine.write(Batch::new().merge(keyspace.key("home", "count"), 1)).await.map(drop)
/// }
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// count(AnyEngine::new(MemoryEngine::new())).await.unwrap();
/// # });
/// ```
#[derive(Clone)]
pub struct AnyEngine(Arc<dyn Erased>);

impl AnyEngine {
    /// The engine behind this type.
    pub fn new(engine: impl Engine) -> Self {
        Self(Arc::new(engine))
    }
}

impl fmt::Debug for AnyEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AnyEngine").finish_non_exhaustive()
    }
}

/// [`Engine`] with boxed futures.
trait Erased: Send + Sync {
    fn keyspace<'a>(&'a self, name: &'a str, kind: KeyspaceKind) -> BoxFuture<'a, Result<Keyspace>>;
    fn find_keyspace<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Keyspace>>;
    fn get(&self, key: Key, consistency: Consistency) -> BoxFuture<'_, Result<Option<Record>>>;
    fn multi_get(&self, keys: Vec<Key>, consistency: Consistency) -> BoxFuture<'_, Result<Vec<Option<Record>>>>;
    fn scan(&self, scan: Scan) -> BoxFuture<'_, Result<ScanPage>>;
    fn write(&self, batch: Batch) -> BoxFuture<'_, Result<Written>>;
    fn fan_out(&self, fan_out: FanOut) -> BoxFuture<'_, Result<FannedOut>>;
    fn watch(&self, range: WatchRange, from: WatchFrom) -> BoxFuture<'_, Result<Watch>>;
}

impl<E: Engine> Erased for E {
    fn keyspace<'a>(&'a self, name: &'a str, kind: KeyspaceKind) -> BoxFuture<'a, Result<Keyspace>> {
        Engine::keyspace(self, name, kind).boxed()
    }

    fn find_keyspace<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Keyspace>> {
        Engine::find_keyspace(self, name).boxed()
    }

    fn get(&self, key: Key, consistency: Consistency) -> BoxFuture<'_, Result<Option<Record>>> {
        Engine::get(self, key, consistency).boxed()
    }

    fn multi_get(&self, keys: Vec<Key>, consistency: Consistency) -> BoxFuture<'_, Result<Vec<Option<Record>>>> {
        Engine::multi_get(self, keys, consistency).boxed()
    }

    fn scan(&self, scan: Scan) -> BoxFuture<'_, Result<ScanPage>> {
        Engine::scan(self, scan).boxed()
    }

    fn write(&self, batch: Batch) -> BoxFuture<'_, Result<Written>> {
        Engine::write(self, batch).boxed()
    }

    fn fan_out(&self, fan_out: FanOut) -> BoxFuture<'_, Result<FannedOut>> {
        Engine::fan_out(self, fan_out).boxed()
    }

    fn watch(&self, range: WatchRange, from: WatchFrom) -> BoxFuture<'_, Result<Watch>> {
        Engine::watch(self, range, from).boxed()
    }
}

impl Engine for AnyEngine {
    async fn keyspace(&self, name: &str, kind: KeyspaceKind) -> Result<Keyspace> {
        self.0.as_ref().keyspace(name, kind).await
    }

    async fn find_keyspace(&self, name: &str) -> Result<Keyspace> {
        self.0.as_ref().find_keyspace(name).await
    }

    async fn get(&self, key: Key, consistency: Consistency) -> Result<Option<Record>> {
        self.0.as_ref().get(key, consistency).await
    }

    async fn multi_get(&self, keys: Vec<Key>, consistency: Consistency) -> Result<Vec<Option<Record>>> {
        self.0.as_ref().multi_get(keys, consistency).await
    }

    async fn scan(&self, scan: Scan) -> Result<ScanPage> {
        self.0.as_ref().scan(scan).await
    }

    async fn write(&self, batch: Batch) -> Result<Written> {
        self.0.as_ref().write(batch).await
    }

    async fn fan_out(&self, fan_out: FanOut) -> Result<FannedOut> {
        self.0.as_ref().fan_out(fan_out).await
    }

    async fn watch(&self, range: WatchRange, from: WatchFrom) -> Result<Watch> {
        self.0.as_ref().watch(range, from).await
    }
}
