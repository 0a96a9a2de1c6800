//! An engine that lets something else happen right before a write: what another process does between two calls.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use keevo_core::{
    Batch, Consistency, Engine, FanOut, FannedOut, Key, Keyspace, KeyspaceKind, Record, Result, Scan, ScanPage, Watch,
    WatchFrom, WatchRange, Written,
};

type Matches = Arc<dyn Fn(&Batch) -> bool + Send + Sync>;
type Hook = Pin<Box<dyn Future<Output = ()> + Send>>;

/// An engine that runs a future once, before the first write that matches, and counts the writes that match.
#[derive(Clone)]
pub struct Interrupted<E> {
    engine: E,
    matches: Matches,
    hook: Arc<Mutex<Option<Hook>>>,
    matched: Arc<AtomicU64>,
}

impl<E> fmt::Debug for Interrupted<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interrupted").field("matched", &self.matched).finish_non_exhaustive()
    }
}

impl<E: Engine> Interrupted<E> {
    /// `engine`, with `hook` before the first write for which `matches` holds.
    pub fn new(
        engine: E,
        matches: impl Fn(&Batch) -> bool + Send + Sync + 'static,
        hook: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        let hook: Hook = Box::pin(hook);
        Self {
            engine,
            matches: Arc::new(matches),
            hook: Arc::new(Mutex::new(Some(hook))),
            matched: Arc::new(AtomicU64::new(0)),
        }
    }

    /// How many writes matched, refused ones included.
    pub fn matched(&self) -> u64 {
        self.matched.load(Ordering::SeqCst)
    }
}

impl<E: Engine> Engine for Interrupted<E> {
    async fn keyspace(&self, name: &str, kind: KeyspaceKind) -> Result<Keyspace> {
        self.engine.keyspace(name, kind).await
    }

    async fn find_keyspace(&self, name: &str) -> Result<Keyspace> {
        self.engine.find_keyspace(name).await
    }

    async fn get(&self, key: Key, consistency: Consistency) -> Result<Option<Record>> {
        self.engine.get(key, consistency).await
    }

    async fn multi_get(&self, keys: Vec<Key>, consistency: Consistency) -> Result<Vec<Option<Record>>> {
        self.engine.multi_get(keys, consistency).await
    }

    async fn scan(&self, scan: Scan) -> Result<ScanPage> {
        self.engine.scan(scan).await
    }

    async fn write(&self, batch: Batch) -> Result<Written> {
        if (self.matches)(&batch) {
            self.matched.fetch_add(1, Ordering::SeqCst);
            let hook = self.hook.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(hook) = hook {
                hook.await;
            }
        }
        self.engine.write(batch).await
    }

    async fn fan_out(&self, fan_out: FanOut) -> Result<FannedOut> {
        self.engine.fan_out(fan_out).await
    }

    async fn watch(&self, range: WatchRange, from: WatchFrom) -> Result<Watch> {
        self.engine.watch(range, from).await
    }
}
