//! What a node shows to Prometheus: gathered when it is asked, from the node, its log and its store.

use std::sync::Arc;

use keevo_core::RocksStore;
use keevo_raft::Node;
use keevo_raft::log_store::LogStore;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

/// The gauges and counters of one node.
pub(crate) struct Metrics {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    node: Node,
    log: Arc<dyn LogStore>,
    store: RocksStore,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").field("node", &self.node.id()).finish_non_exhaustive()
    }
}

impl Metrics {
    /// The metrics of a node.
    pub(crate) fn new(node: Node, log: Arc<dyn LogStore>, store: RocksStore) -> Self {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        Self { recorder, handle, node, log, store }
    }

    /// Why the node should not get traffic yet; `None` when it should.
    pub(crate) fn not_ready(&self) -> Option<String> {
        if let Err(error) = self.node.serving_map() {
            return Some(error.message().to_owned());
        }
        let waiting = self.node.replicas().into_iter().find(|one| one.leader_node == 0 || !one.fault.is_empty())?;
        if !waiting.fault.is_empty() {
            return Some(format!("the replica of shard {} is down: {}", waiting.shard, waiting.fault));
        }
        Some(format!("shard {} has no leader that this node knows", waiting.shard))
    }

    /// The metrics in Prometheus' text format.
    pub(crate) fn render(&self) -> String {
        metrics::with_local_recorder(&self.recorder, || self.gather());
        self.handle.run_upkeep();
        self.handle.render()
    }

    fn gather(&self) {
        for one in self.node.replicas() {
            let labels = [("shard", one.shard.to_string())];
            for (name, value) in [
                ("keevo_raft_last_log_index", one.last_log),
                ("keevo_raft_committed_index", one.committed),
                ("keevo_raft_applied_index", one.applied),
                ("keevo_raft_purged_index", one.purged),
                ("keevo_raft_term", one.term),
                ("keevo_raft_is_leader", u64::from(one.role == "leader")),
                ("keevo_raft_is_down", u64::from(!one.fault.is_empty())),
            ] {
                metrics::gauge!(name, &labels).set(to_f64(value));
            }
        }
        let log = self.log.counters();
        for (name, value) in [
            ("keevo_log_appends_total", log.appends),
            ("keevo_log_entries_total", log.entries),
            ("keevo_log_syncs_total", log.syncs),
            ("keevo_log_bytes_total", log.bytes),
        ] {
            metrics::counter!(name).absolute(value);
        }
        match self.store.stats() {
            Ok(stats) => {
                for (name, value) in [
                    ("keevo_store_flush_bytes_total", stats.flush_bytes),
                    ("keevo_store_compaction_bytes_total", stats.compaction_bytes),
                    ("keevo_store_stall_micros_total", stats.stall_micros),
                    ("keevo_store_cache_hits_total", stats.cache_hits),
                    ("keevo_store_cache_misses_total", stats.cache_misses),
                    ("keevo_store_background_errors_total", stats.background_errors),
                ] {
                    metrics::counter!(name).absolute(value);
                }
                metrics::gauge!("keevo_store_memtable_bytes").set(to_f64(stats.memtable_bytes));
                metrics::gauge!("keevo_store_table_bytes").set(to_f64(stats.table_bytes));
                metrics::gauge!("keevo_store_pending_compaction_bytes").set(to_f64(stats.pending_compaction_bytes));
            }
            Err(error) => tracing::warn!(%error, "the store's statistics cannot be read"),
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "Prometheus knows floats only; 53 bits of an index are enough to plot")]
fn to_f64(value: u64) -> f64 {
    value as f64
}
