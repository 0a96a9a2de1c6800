//! What a node shows to Prometheus: gathered when it is asked, from the node, its log, its store and its services.
//!
//! Invariant: every answer is gathered anew, so that a replica that has moved away leaves no gauge behind; labels are
//! shards, nodes, methods, stages and kinds of errors only. docs/METRICS.md lists what is shown; a test holds it to that.

mod layers;
mod node;
mod stages;

use std::sync::Arc;

use keevo_chat_gateway::ChatGateway;
use keevo_core::RocksStore;
use keevo_core::call::CallLog;
use keevo_feeds::FeedsMetrics;
use keevo_gateway::Gateway;
use keevo_moderation_policy::{ModerationMetrics, StoreMetrics};
use keevo_raft::log_store::LogStore;
use keevo_raft::{ClusterEngine, Node};
use keevo_search::SearchIndex;
use keevo_streams::Runner;
use keevo_tls::ServerTls;
use layers::{gather_feeds, gather_moderation, gather_rights, gather_store, gather_tls};
use metrics_exporter_prometheus::PrometheusBuilder;

use crate::archive::ArchiveMetrics;
use crate::auth::Authority;
use crate::calls::Calls;
use crate::health;
use crate::moderation::Moderation;
use crate::peer::GrpcTransport;
use crate::stores::Scrubs;

/// What a node's feeds have counted; nothing before they are open.
pub(crate) type FeedsMeter = Arc<dyn Fn() -> Option<FeedsMetrics> + Send + Sync>;

/// What a node's moderation has counted, and its copy in PostgreSQL; nothing where no text is judged, or none is copied.
pub(crate) type ModerationMeter = Arc<dyn Fn() -> (Option<ModerationMetrics>, Option<StoreMetrics>) + Send + Sync>;

/// What the feeds and moderation of a node have counted.
pub(crate) fn meters(gateway: &Gateway, moderation: &Moderation<ClusterEngine>) -> (FeedsMeter, ModerationMeter) {
    let (registry, moderation) = (gateway.registry().clone(), moderation.clone());
    let feeds = Arc::new(move || registry.metrics());
    (feeds, Arc::new(move || (moderation.metrics(), moderation.store_metrics())))
}

/// Where the gauges and counters of one node come from.
pub(crate) struct Metrics {
    pub(crate) node: Node,
    pub(crate) log: Arc<dyn LogStore>,
    pub(crate) store: RocksStore,
    pub(crate) scrubs: Arc<Scrubs>,
    pub(crate) calls: Arc<Calls>,
    pub(crate) transport: Arc<GrpcTransport>,
    pub(crate) chat: ChatGateway,
    pub(crate) feeds: FeedsMeter,
    pub(crate) moderation: ModerationMeter,
    pub(crate) sinks: Runner,
    pub(crate) search: Option<SearchIndex>,
    pub(crate) tls: Option<Arc<ServerTls>>,
    pub(crate) authority: Option<Arc<Authority>>,
    pub(crate) call_log: Arc<CallLog>,
    pub(crate) archive: Box<dyn Fn() -> Option<ArchiveMetrics> + Send + Sync>,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").field("node", &self.node.id()).finish_non_exhaustive()
    }
}

impl Metrics {
    /// Why the node should not get traffic yet; `None` when it should.
    pub(crate) fn not_ready(&self) -> Option<String> {
        health::not_ready(&self.node)
    }

    /// The metrics in Prometheus' text format.
    pub(crate) fn render(&self) -> String {
        let recorder = PrometheusBuilder::new().build_recorder();
        metrics::with_local_recorder(&recorder, || {
            node::gather_process(self.node.id());
            self.replicas();
            node::gather_replicas(&self.node.gauges());
            node::gather_peers(&self.transport.queues());
            node::gather_sockets(self.chat.sockets());
            self.log();
            self.store();
            self.storage();
            // Zeros before an app's feeds are open: a counter that appears late hides its first step from a rate.
            gather_feeds(&(self.feeds)().unwrap_or_default());
            let (moderation, store) = (self.moderation)();
            if let Some(moderation) = moderation {
                gather_moderation(&moderation);
            }
            if let Some(store) = store {
                gather_store(&store);
            }
            crate::streams::gather(&self.sinks.metrics());
            if let Some(search) = &self.search {
                crate::search::gather(&search.metrics());
            }
            if let Some(tls) = &self.tls {
                gather_tls(&tls.metrics());
            }
            if let Some(authority) = &self.authority {
                gather_rights(authority.metrics());
            }
            self.api_log();
            self.calls();
            if let Some(archive) = (self.archive)() {
                self.gather_archive(archive);
            }
        });
        recorder.handle().render() + &self.calls.render() + &stages::render(&self.node.stage_times())
    }

    fn replicas(&self) {
        gauge("keevo_ready", "1 while every replica here knows a leader.", u64::from(self.not_ready().is_none()));
        for one in self.node.replicas() {
            let labels = [("shard", one.shard.to_string())];
            for (name, help, value) in [
                ("keevo_raft_last_log_index", "Index of the last entry in the log.", one.last_log),
                ("keevo_raft_committed_index", "Index of the last entry known to be committed.", one.committed),
                ("keevo_raft_applied_index", "Index of the last entry applied here.", one.applied),
                ("keevo_raft_purged_index", "Index of the last entry purged from the log.", one.purged),
                ("keevo_raft_term", "Raft term of the replica.", one.term),
                ("keevo_raft_is_leader", "1 where the replica leads its shard.", u64::from(one.role == "leader")),
                (
                    "keevo_raft_is_down",
                    "1 where the replica has stopped and is being restarted.",
                    u64::from(!one.fault.is_empty()),
                ),
            ] {
                metrics::describe_gauge!(name, help);
                metrics::gauge!(name, &labels).set(to_f64(value));
            }
        }
    }

    fn gather_archive(&self, archive: ArchiveMetrics) {
        for (name, help, value) in [
            ("keevo_archive_segments_total", "Segments of the log that this node archived.", archive.segments),
            ("keevo_archive_bytes_total", "Their bytes.", archive.bytes),
            ("keevo_archive_failures_total", "Rounds of a shard that could not be archived.", archive.failures),
            ("keevo_archive_gaps_total", "Times that the log was gone before it was archived.", archive.gaps),
        ] {
            counter(name, help, value);
        }
        let name = "keevo_archive_waiting_bytes";
        metrics::describe_gauge!(name, "Bytes of a shard's log that wait for the archive, at its leader.");
        for state in self.node.archive_states() {
            metrics::gauge!(name, "shard" => state.shard.to_string()).set(to_f64(state.waiting_bytes));
        }
    }

    fn calls(&self) {
        gauge("keevo_rpc_under_way", "Calls that are not answered yet.", self.calls.under_way());
        let (slow, unlogged) = self.calls.slow_counts();
        counter("keevo_slow_calls_total", "Calls that took longer than slow_call_ms.", slow);
        if let Some(traces) = self.calls.traces() {
            let counts = traces.counts();
            counter("keevo_traces_spans_total", "Spans that the collector has taken.", counts.sent);
            counter("keevo_traces_dropped_total", "Spans that found no room, or no collector.", counts.dropped);
        }
        counter("keevo_slow_calls_unlogged_total", "Those of them that no line of the log tells.", unlogged);
    }

    fn api_log(&self) {
        let (calls, refused, lost) = self.call_log.counts();
        for (name, help, value) in [
            ("keevo_api_log_calls_total", "Calls that change something, begun at the doors of this node.", calls),
            ("keevo_api_log_refused_total", "Those that were refused before anything was written.", refused),
            ("keevo_api_log_outcomes_lost_total", "Failures that the API log does not tell: too many waited.", lost),
        ] {
            counter(name, help, value);
        }
    }

    fn log(&self) {
        let log = self.log.counters();
        for (name, help, value) in [
            ("keevo_log_appends_total", "Appends that the log has made durable.", log.appends),
            ("keevo_log_entries_total", "Entries in them.", log.entries),
            ("keevo_log_syncs_total", "Syncs of the log to disk; one serves many groups.", log.syncs),
            ("keevo_log_bytes_total", "Bytes of entries written to the log.", log.bytes),
            ("keevo_log_batches_total", "Batches of calls that its writer has written, synced or not.", log.batches),
            ("keevo_log_disk_reads_total", "Reads of entries that memory did not hold.", log.disk_reads),
        ] {
            counter(name, help, value);
        }
        gauge("keevo_log_queued_calls", "Calls that wait for the log's writer.", log.queued);
        gauge("keevo_log_queued_bytes", "Their bytes.", log.queued_bytes);
        gauge("keevo_log_queued_bytes_max", "Bytes that may wait before callers do.", log.queued_bytes_max);
        gauge("keevo_log_cached_bytes", "Bytes of entries that the log holds in memory.", log.cached_bytes);
        let help = "The oldest key that entries of the log may be sealed with; 0 = some may not be sealed.";
        gauge("keevo_log_oldest_key", help, log.oldest_key.into());
    }

    fn store(&self) {
        let stats = match self.store.stats() {
            Ok(stats) => stats,
            Err(error) => {
                tracing::warn!(%error, "the store's statistics cannot be read");
                return;
            }
        };
        for (name, help, value) in [
            ("keevo_store_flush_bytes_total", "Bytes written by flushes of the data store.", stats.flush_bytes),
            ("keevo_store_compaction_bytes_total", "Bytes written by its compactions.", stats.compaction_bytes),
            ("keevo_store_stall_micros_total", "Microseconds for which it held writes up.", stats.stall_micros),
            ("keevo_store_cache_hits_total", "Reads that its block cache served.", stats.cache_hits),
            ("keevo_store_cache_misses_total", "Reads that its block cache did not serve.", stats.cache_misses),
            ("keevo_store_background_errors_total", "Errors of its background work.", stats.background_errors),
        ] {
            counter(name, help, value);
        }
        gauge("keevo_store_memtable_bytes", "Bytes in its write buffers.", stats.memtable_bytes);
        gauge("keevo_store_table_bytes", "Bytes in its tables on disk.", stats.table_bytes);
        let pending = stats.pending_compaction_bytes;
        gauge("keevo_store_pending_compaction_bytes", "Bytes that its compactions have yet to rewrite.", pending);
        counter("keevo_store_filter_hits_total", "Reads that a filter kept out of a table.", stats.filter_hits);
        gauge("keevo_store_cache_bytes", "Bytes in its block cache, write buffers included.", stats.cache_bytes);
        gauge("keevo_store_level0_files", "Tables that are not sorted into levels yet.", stats.level0_files);
        let waiting = stats.immutable_memtables;
        let help = "The oldest key that values may be sealed with; 0 = some may not be sealed.";
        gauge("keevo_store_oldest_key", help, self.store.key_ids().first().copied().unwrap_or_default().into());
        gauge("keevo_store_immutable_memtables", "Full write buffers that wait for their flush.", waiting);
    }

    /// How the node takes care of its disk, and what its last scrub found.
    fn storage(&self) {
        let (status, limits) = (self.node.storage(), self.node.storage_limits());
        for (name, help, value) in [
            ("keevo_disk_free_bytes", "Free bytes on the node's disk.", status.free_bytes),
            ("keevo_disk_low_water_bytes", "Free bytes below which writes are refused.", status.low_water_bytes),
            ("keevo_disk_ballast_bytes", "Bytes set aside for the time when the disk is full.", status.ballast_bytes),
            ("keevo_disk_is_full", "1 while writes are refused for want of space.", u64::from(status.disk_full)),
            (
                "keevo_store_pressure_permille",
                "How far it is behind; at 1000 writes are refused.",
                status.pressure_permille.into(),
            ),
            ("keevo_store_unflushed_bytes", "Bytes that no flush has made durable yet.", status.unflushed_bytes),
            ("keevo_store_unflushed_bytes_max", "So many of them, and writes are refused.", limits.unflushed_bytes_max),
            ("keevo_unapplied_bytes", "Bytes of writes under way or not applied yet.", status.unapplied_bytes),
            ("keevo_unapplied_bytes_max", "So many of them, and writes are refused.", limits.unapplied_bytes_max),
            ("keevo_scrub_damages", "Damages that the last scrub has found.", self.scrubs.damages()),
            ("keevo_scrub_is_running", "1 while a scrub runs.", u64::from(self.scrubs.is_running())),
        ] {
            gauge(name, help, value);
        }
        for (name, help, value) in [
            ("keevo_writes_refused_for_space_total", "Writes refused for want of space.", status.refused_for_space),
            (
                "keevo_writes_refused_for_load_total",
                "Writes refused because a store was behind.",
                status.refused_for_load,
            ),
            (
                "keevo_writes_delayed_micros_total",
                "Microseconds for which writes were held back.",
                status.delayed_micros,
            ),
            ("keevo_scrubs_total", "Scrubs that read everything.", self.scrubs.finished()),
            ("keevo_scrub_bytes_total", "Bytes that scrubs have verified.", self.scrubs.bytes()),
        ] {
            counter(name, help, value);
        }
    }
}

fn counter(name: &'static str, help: &'static str, value: u64) {
    metrics::describe_counter!(name, help);
    metrics::counter!(name).absolute(value);
}

fn gauge(name: &'static str, help: &'static str, value: u64) {
    metrics::describe_gauge!(name, help);
    metrics::gauge!(name).set(to_f64(value));
}

#[allow(clippy::cast_precision_loss, reason = "Prometheus knows floats only; 53 bits of an index are enough to plot")]
pub(crate) fn to_f64(value: u64) -> f64 {
    value as f64
}
