//! Change streams in keevod: the changes of the node's cluster, and the runner of its sinks.
//!
//! Invariant: what a sink is told comes from a replica that has applied it; which node tells it, the claims decide.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use keevo_core::{AnyEngine, Changes, Clock, Cursor, Keyspace, Random, Result, SystemClock, WatchRange};
use keevo_gateway::apps::OsRandom;
use keevo_raft::{ClusterEngine, Node};
use keevo_streams::{ChangeLog, DefaultTargets, Runner, RunnerOptions, RunnerParts, SinkMetrics, Sinks};

use crate::config::Config;

/// The changes of a cluster, as one of its nodes reads them.
struct NodeLog(ClusterEngine);

impl ChangeLog for NodeLog {
    fn frontier(&self, keyspace: Keyspace) -> BoxFuture<'_, Result<Vec<Cursor>>> {
        async move { self.0.watch_start(&WatchRange::Keyspace(keyspace)).await }.boxed()
    }

    fn page(&self, keyspace: Keyspace, after: Cursor) -> BoxFuture<'_, Result<Changes>> {
        async move { self.0.changes(&WatchRange::Keyspace(keyspace), after).await }.boxed()
    }
}

/// The runner of the sinks at a node, over `engine`.
pub(crate) fn runner(config: &Config, node: &Node, engine: ClusterEngine) -> Runner {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let log = Arc::new(NodeLog(engine.clone()));
    let places = AnyEngine::new(engine);
    let sinks = Sinks::new(node.engine().meta(), places, log, Arc::clone(&clock), Arc::new(OsRandom));
    Runner::new(RunnerParts {
        sinks,
        targets: Arc::new(DefaultTargets::new(config.sinks_dir.clone())),
        clock,
        node: config.node_id,
        instance: OsRandom.next_u64(),
        options: RunnerOptions::default(),
    })
}

/// Shows how sinks do to Prometheus.
pub(crate) fn gather(sinks: &[SinkMetrics]) {
    let counters = [
        ("keevo_sink_changes_total", "Changes of a sink that this node told."),
        ("keevo_sink_bytes_total", "Bytes of them."),
        ("keevo_sink_failures_total", "Times that a sink did not get on at this node."),
    ];
    for sink in sinks {
        for ((name, help), value) in counters.into_iter().zip([sink.told, sink.bytes, sink.failures]) {
            metrics::describe_counter!(name, help);
            metrics::counter!(name, "sink" => sink.name.clone()).absolute(value);
        }
        let name = "keevo_sink_running";
        metrics::describe_gauge!(name, "1 where this node runs the sink.");
        metrics::gauge!(name, "sink" => sink.name.clone()).set(f64::from(u8::from(sink.running)));
        let name = "keevo_sink_lag_revisions";
        metrics::describe_gauge!(name, "Revisions that a sink is behind in a shard; each node shows it.");
        for (shard, lag) in &sink.lag {
            let labels = [("sink", sink.name.clone()), ("shard", shard.to_string())];
            metrics::gauge!(name, &labels).set(crate::metrics::to_f64(*lag));
        }
    }
}
