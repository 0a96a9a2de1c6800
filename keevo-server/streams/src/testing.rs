//! A log of changes over any engine, and a rig of sinks, for the tests.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use keevo_core::keyspaces::MetaStore;
use keevo_core::{
    AnyEngine, Batch, Changes, Consistency, Cursor, Engine, Key, Keyspace, KeyspaceKind, MemoryEngine, Record, Result,
    Scan, SeededRandom, SystemClock, WatchFrom, WatchRange, Written,
};

use crate::log::ChangeLog;
use crate::runner::{Runner, RunnerOptions, RunnerParts};
use crate::sinks::Sinks;
use crate::target::Targets;

/// The changes of an engine of one shard.
pub(crate) struct EngineLog(pub(crate) AnyEngine);

impl ChangeLog for EngineLog {
    fn frontier(&self, keyspace: Keyspace) -> BoxFuture<'_, Result<Vec<Cursor>>> {
        async move { Ok(vec![self.0.scan(Scan::partition(keyspace, "-", 1)).await?.as_of]) }.boxed()
    }

    fn page(&self, keyspace: Keyspace, after: Cursor) -> BoxFuture<'_, Result<Changes>> {
        async move {
            let watch = self.0.watch(WatchRange::Keyspace(keyspace), WatchFrom::After(vec![after])).await?;
            let mut chunks = watch.ready_chunks(64);
            let chunk = tokio::time::timeout(Duration::from_millis(200), chunks.next()).await;
            let events = chunk.ok().flatten().unwrap_or_default().into_iter().collect::<Result<Vec<_>>>()?;
            let reached = events.last().map_or(after, |event| event.cursor);
            Ok(Changes { events, reached })
        }
        .boxed()
    }
}

/// The meta group, in a keyspace of an engine.
#[derive(Clone)]
pub(crate) struct Meta {
    engine: AnyEngine,
    keyspace: Keyspace,
}

impl MetaStore for Meta {
    async fn get(&self, key: Key) -> Result<Option<Record>> {
        self.engine.get(Key { keyspace: self.keyspace, ..key }, Consistency::Linearizable).await
    }

    async fn write(&self, mut batch: Batch) -> Result<Written> {
        for one in &mut batch.preconditions {
            one.key.keyspace = self.keyspace;
        }
        for op in &mut batch.ops {
            if let keevo_core::Op::Put { key, .. } | keevo_core::Op::Delete { key } = op {
                key.keyspace = self.keyspace;
            }
        }
        self.engine.write(batch).await
    }
}

/// Sinks over an engine in memory.
pub(crate) struct Rig {
    pub(crate) engine: AnyEngine,
    meta: Meta,
    pub(crate) orders: Keyspace,
    pub(crate) sinks: Sinks,
}

fn sinks_of(meta: &Meta, engine: &AnyEngine, log: Arc<dyn ChangeLog>) -> Sinks {
    let (clock, random) = (Arc::new(SystemClock::new()), Arc::new(SeededRandom::new(7)));
    Sinks::new(meta.clone(), engine.clone(), log, clock, random)
}

/// Short times, so that tests see a node take over.
pub(crate) fn options() -> RunnerOptions {
    RunnerOptions {
        look_every: Duration::from_millis(20),
        claim: Duration::from_millis(600),
        pause_min: Duration::from_millis(20),
        pause_max: Duration::from_millis(200),
        lag_every: Duration::from_millis(50),
        ..RunnerOptions::default()
    }
}

impl Rig {
    pub(crate) async fn new() -> Self {
        let engine = AnyEngine::new(MemoryEngine::new());
        let orders = engine.keyspace("orders", KeyspaceKind::Hashed).await.expect("a keyspace");
        let keyspace = engine.keyspace("meta", KeyspaceKind::Hashed).await.expect("a keyspace");
        let meta = Meta { engine: engine.clone(), keyspace };
        let log = Arc::new(EngineLog(engine.clone()));
        let sinks = sinks_of(&meta, &engine, log);
        Self { engine, meta, orders, sinks }
    }

    /// The same with changes that come another way.
    pub(crate) fn with_log(self, log: Arc<dyn ChangeLog>) -> Self {
        Self { sinks: sinks_of(&self.meta, &self.engine, log), ..self }
    }

    pub(crate) async fn engine_delete(&self, partition: &'static str, sort: &'static str) {
        self.engine.write(Batch::new().delete(self.orders.key(partition, sort))).await.expect("written");
    }

    pub(crate) async fn write(&self, numbers: std::ops::Range<usize>) {
        for number in numbers {
            let key = self.orders.key(format!("p{}", number % 7), number.to_string());
            self.engine.write(Batch::new().put(key, format!("v{number}"))).await.expect("written");
        }
    }

    pub(crate) fn runner(&self, targets: Arc<dyn Targets>, node: u64) -> Runner {
        let (sinks, clock) = (self.sinks.clone(), Arc::new(SystemClock::new()));
        Runner::new(RunnerParts { sinks, targets, clock, node, instance: 1_000 + node, options: options() })
    }
}
