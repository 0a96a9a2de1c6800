//! Runs the sinks that nobody else runs.
//!
//! ```text
//! every second: the table of sinks ──> a task for each that may run here, an end for each that may not
//! a task: claim ─> target opened ─> pages of all shards ─> batches ─┐
//!           ^                                                       │ failure
//!           └────── pause, longer each time, without the claim <────┘
//! ```
//!
//! Invariant: memory holds a page of each shard and one batch, however far the target is behind: what is not told yet stays
//! in Keevo. Between two tries nobody has the claim, so that a node that can reach the target gets its turn.

mod batch;
mod lag;
mod run;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use keevo_core::{Clock, Result};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::sinks::{Sinks, ready};
use crate::spec::Sink;
use crate::status::SinkMetrics;
use crate::target::Targets;
use run::Run;

/// How sinks are run. The defaults suit production.
#[derive(Debug, Clone, Copy)]
pub struct RunnerOptions {
    /// How often the table of sinks is looked at.
    pub look_every: Duration,
    /// How long a node that fell silent keeps others from running its sinks.
    pub claim: Duration,
    /// The first pause after a target failed; pauses double.
    pub pause_min: Duration,
    /// The longest pause.
    pub pause_max: Duration,
    /// How often it is looked how far sinks are behind.
    pub lag_every: Duration,
    /// The most changes of a batch.
    pub batch_changes_max: usize,
    /// About the most bytes of a batch.
    pub batch_bytes_max: usize,
}

impl Default for RunnerOptions {
    fn default() -> Self {
        Self {
            look_every: Duration::from_secs(1),
            claim: Duration::from_secs(10),
            pause_min: Duration::from_millis(500),
            pause_max: Duration::from_secs(30),
            lag_every: Duration::from_secs(5),
            batch_changes_max: 2_048,
            batch_bytes_max: 4 << 20,
        }
    }
}

/// What a runner is made of.
pub struct RunnerParts {
    /// The sinks.
    pub sinks: Sinks,
    /// What opens their targets.
    pub targets: Arc<dyn Targets>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The node.
    pub node: u64,
    /// Random at each start, so that a node is told from itself before.
    pub instance: u64,
    /// How they are run.
    pub options: RunnerOptions,
}

impl fmt::Debug for RunnerParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunnerParts").field("node", &self.node).finish_non_exhaustive()
    }
}

/// Runs sinks at one node. Cheap to clone; clones share what was counted.
#[derive(Clone)]
pub struct Runner {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) parts: RunnerParts,
    counters: Mutex<BTreeMap<String, Arc<Counters>>>,
    lag: Mutex<BTreeMap<String, Vec<(u64, u64)>>>,
}

/// What was counted of one sink at this node.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) running: AtomicU64,
    pub(crate) told: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) failures: AtomicU64,
}

impl fmt::Debug for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runner").field("node", &self.inner.parts.node).finish_non_exhaustive()
    }
}

/// A sink that runs, or tries to.
struct Task {
    id: u64,
    stop: CancellationToken,
    handle: JoinHandle<()>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Runner {
    /// A runner. Does no I/O.
    pub fn new(parts: RunnerParts) -> Self {
        Self { inner: Arc::new(Inner { parts, counters: Mutex::default(), lag: Mutex::default() }) }
    }

    /// The sinks.
    pub fn sinks(&self) -> &Sinks {
        &self.inner.parts.sinks
    }

    /// What is known here of each sink.
    pub fn metrics(&self) -> Vec<SinkMetrics> {
        let lag = locked(&self.inner.lag).clone();
        let counters = locked(&self.inner.counters);
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let one = |(name, lag): (String, Vec<(u64, u64)>)| {
            let mut metrics = SinkMetrics { lag, ..SinkMetrics::default() };
            if let Some(counters) = counters.get(&name) {
                metrics.running = of(&counters.running) > 0;
                (metrics.told, metrics.bytes) = (of(&counters.told), of(&counters.bytes));
                metrics.failures = of(&counters.failures);
            }
            SinkMetrics { name, ..metrics }
        };
        lag.into_iter().map(one).collect()
    }

    /// Runs sinks until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut tasks: BTreeMap<String, Task> = BTreeMap::new();
        let looking = async {
            loop {
                match self.look(&mut tasks, &stop).await {
                    Ok(()) => {}
                    Err(error) => tracing::debug!(%error, "the sinks cannot be looked at"),
                }
                tokio::time::sleep(self.inner.parts.options.look_every).await;
            }
        };
        let measuring = lag::measure(&self.inner);
        tokio::select! {
            () = stop.cancelled() => {}
            () = looking => {}
            () = measuring => {}
        }
        for task in tasks.values() {
            task.stop.cancel();
        }
        for (_, task) in tasks {
            drop(task.handle.await);
        }
    }

    /// Starts and stops tasks as the table has it.
    async fn look(&self, tasks: &mut BTreeMap<String, Task>, stop: &CancellationToken) -> Result<()> {
        let parts = &self.inner.parts;
        let mut wanted: BTreeMap<String, Sink> = BTreeMap::new();
        let sinks = parts.sinks.list().await?;
        locked(&self.inner.counters).retain(|name, _| sinks.iter().any(|sink| sink.name == *name));
        for sink in sinks {
            if !sink.paused && sink.node.is_none_or(|node| node == parts.node) {
                wanted.insert(sink.name.clone(), sink);
            }
        }
        for (name, task) in tasks.iter() {
            if wanted.get(name).is_none_or(|sink| sink.id != task.id) {
                task.stop.cancel();
            }
        }
        tasks.retain(|_, task| !task.handle.is_finished());
        if !wanted.is_empty() {
            ready(parts.sinks.engine()).await?;
        }
        for (name, sink) in wanted {
            if tasks.contains_key(&name) {
                continue;
            }
            let counters = Arc::clone(locked(&self.inner.counters).entry(name.clone()).or_default());
            let (id, stop) = (sink.id, stop.child_token());
            let run = Run::new(Arc::clone(&self.inner), sink, counters);
            let handle = tokio::spawn(run.until(stop.clone()));
            tasks.insert(name, Task { id, stop, handle });
        }
        Ok(())
    }
}
