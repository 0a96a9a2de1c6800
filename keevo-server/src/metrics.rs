//! What a node shows to Prometheus: gathered when it is asked, from the node, its log, its store and its services.
//!
//! Invariant: every answer is gathered anew, so that a replica that has moved away leaves no gauge behind; labels are
//! shards, methods and kinds of errors only.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use keevo_core::RocksStore;
use keevo_core::call::CallLog;
use keevo_feeds::FeedsMetrics;
use keevo_moderation_policy::{Action, ModerationMetrics, StoreMetrics};
use keevo_raft::Node;
use keevo_raft::log_store::LogStore;
use keevo_streams::Runner;
use keevo_tls::{ServerTls, TlsMetrics};
use metrics_exporter_prometheus::PrometheusBuilder;

use crate::archive::ArchiveMetrics;
use crate::auth::{Authority, AuthorityMetrics};
use crate::calls::Calls;
use crate::health;
use crate::stores::Scrubs;

/// What a node's feeds have counted; nothing before they are open.
pub(crate) type FeedsMeter = Arc<dyn Fn() -> Option<FeedsMetrics> + Send + Sync>;

/// What a node's moderation has counted, and its copy in PostgreSQL; nothing where no text is judged, or none is copied.
pub(crate) type ModerationMeter = Arc<dyn Fn() -> (Option<ModerationMetrics>, Option<StoreMetrics>) + Send + Sync>;

/// Where the gauges and counters of one node come from.
pub(crate) struct Metrics {
    pub(crate) node: Node,
    pub(crate) log: Arc<dyn LogStore>,
    pub(crate) store: RocksStore,
    pub(crate) scrubs: Arc<Scrubs>,
    pub(crate) calls: Arc<Calls>,
    pub(crate) feeds: FeedsMeter,
    pub(crate) moderation: ModerationMeter,
    pub(crate) sinks: Runner,
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
            self.replicas();
            self.log();
            self.store();
            self.storage();
            if let Some(feeds) = (self.feeds)() {
                gather_feeds(&feeds);
            }
            let (moderation, store) = (self.moderation)();
            if let Some(moderation) = moderation {
                gather_moderation(&moderation);
            }
            if let Some(store) = store {
                gather_store(&store);
            }
            crate::streams::gather(&self.sinks.metrics());
            if let Some(tls) = &self.tls {
                gather_tls(&tls.metrics());
            }
            if let Some(authority) = &self.authority {
                gather_rights(authority.metrics());
            }
            self.api_log();
            if let Some(archive) = (self.archive)() {
                self.gather_archive(archive);
            }
        });
        recorder.handle().render() + &self.calls.render()
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
        ] {
            counter(name, help, value);
        }
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
        gauge("keevo_store_immutable_memtables", "Full write buffers that wait for their flush.", waiting);
    }

    /// How the node takes care of its disk, and what its last scrub found.
    fn storage(&self) {
        let status = self.node.storage();
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
            ("keevo_unapplied_bytes", "Bytes of writes under way or not applied yet.", status.unapplied_bytes),
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

fn gather_feeds(feeds: &FeedsMetrics) {
    for (name, help, value) in [
        ("keevo_feeds_activities_added_total", "Activities added or overwritten.", feeds.activities_added),
        ("keevo_feeds_activities_removed_total", "Activities removed from a feed.", feeds.activities_removed),
        ("keevo_feeds_entries_fanned_out_total", "Timeline rows written by fan-outs.", feeds.entries_fanned_out),
        ("keevo_feeds_entries_skipped_total", "Fan-out targets that were skipped.", feeds.entries_skipped),
        ("keevo_feeds_entries_copied_total", "Timeline rows copied by follows.", feeds.entries_copied),
        ("keevo_feeds_entries_withdrawn_total", "Timeline rows taken out by unfollows.", feeds.entries_withdrawn),
        ("keevo_feeds_follows_total", "Follow edges made.", feeds.follows),
        ("keevo_feeds_unfollows_total", "Follow edges deleted.", feeds.unfollows),
        ("keevo_feeds_jobs_finished_total", "Outbox jobs brought to their end.", feeds.jobs_finished),
        ("keevo_feeds_jobs_left_total", "Outbox jobs that a call left to the worker.", feeds.jobs_left),
        ("keevo_feeds_jobs_failed_total", "Attempts of the worker that failed.", feeds.jobs_failed),
        ("keevo_feeds_jobs_bulk_total", "Outbox jobs that turned out large.", feeds.jobs_bulk),
        ("keevo_feeds_entries_prompt_total", "Timeline rows written by the prompt lane.", feeds.entries_prompt),
        ("keevo_feeds_entries_bulk_total", "Timeline rows written by the lane of large jobs.", feeds.entries_bulk),
        ("keevo_feeds_pointers_dropped_total", "Outbox pointers that led to no job.", feeds.pointers_dropped),
    ] {
        counter(name, help, value);
    }
    gauge("keevo_feeds_jobs_pending", "Jobs that the last sweep of the outbox found waiting.", feeds.jobs_pending);
    gauge("keevo_feeds_lag_ms", "Age of the oldest of them, in milliseconds.", feeds.lag_ms);
    gauge("keevo_feeds_bulk_pending", "Large jobs that the last sweep for them found waiting.", feeds.bulk_pending);
    gauge("keevo_feeds_bulk_lag_ms", "Age of the oldest large one, in milliseconds.", feeds.bulk_lag_ms);
}

fn gather_moderation(moderation: &ModerationMetrics) {
    let name = "keevo_moderation_verdicts_total";
    metrics::describe_counter!(name, "Verdicts that this node stored first, by action.");
    for (action, count) in Action::ALL.iter().zip(moderation.verdicts) {
        metrics::counter!(name, "action" => action.name()).absolute(count);
    }
    for (name, help, value) in [
        ("keevo_moderation_late_total", "Texts whose callers did not hear in time.", moderation.late),
        ("keevo_moderation_caught_up_total", "Texts that came in past the callers.", moderation.caught_up),
        ("keevo_moderation_set_aside_total", "Texts that could not be judged.", moderation.set_aside),
        ("keevo_moderation_queued_total", "Records of queues of texts that were dealt with.", moderation.queued),
        ("keevo_moderation_unreadable_total", "Records of queues that are no texts.", moderation.unreadable),
        ("keevo_moderation_stalled_total", "Sweeps that ended since no worker answered.", moderation.stalled),
        ("keevo_moderation_gaps_total", "Times that changes were dropped before they were read.", moderation.gaps),
    ] {
        counter(name, help, value);
    }
    gauge("keevo_moderation_pending", "Texts that the last sweep here found waiting.", moderation.pending);
    gauge("keevo_moderation_lag_ms", "Age of the oldest of them, in milliseconds.", moderation.lag_ms);
}

fn gather_store(store: &StoreMetrics) {
    for (name, help, value) in [
        ("keevo_moderation_store_rows_total", "Rows written to PostgreSQL, or taken away there.", store.rows),
        ("keevo_moderation_store_failures_total", "Times that PostgreSQL failed or was not there.", store.failures),
        ("keevo_moderation_store_marked_total", "Texts noted on disk while it was not.", store.marked),
        ("keevo_moderation_store_refused_total", "Texts that PostgreSQL cannot hold.", store.refused),
        ("keevo_moderation_store_gaps_total", "Times that changes were dropped before they were read.", store.gaps),
    ] {
        counter(name, help, value);
    }
    gauge(
        "keevo_moderation_store_lag_ms",
        "Age of the oldest row that PostgreSQL lacks, in milliseconds.",
        store.lag_ms,
    );
}

fn gather_rights(rights: &AuthorityMetrics) {
    for (name, help, value) in [
        ("keevo_auth_unauthenticated_total", "Calls of callers that are not known.", &rights.unauthenticated),
        ("keevo_auth_denied_total", "Calls and requests that their callers may not make.", &rights.denied),
        ("keevo_auth_read_failures_total", "Times that roles and keys could not be read.", &rights.read_failures),
    ] {
        counter(name, help, value.load(Ordering::Relaxed));
    }
}

fn gather_tls(tls: &TlsMetrics) {
    for (name, help, value) in [
        ("keevo_tls_reloads_total", "Times that changed TLS files were taken.", tls.reloads),
        ("keevo_tls_reload_failures_total", "Times that they could not be used.", tls.reload_failures),
        ("keevo_tls_handshake_failures_total", "Handshakes that failed or took too long.", tls.handshake_failures),
    ] {
        counter(name, help, value);
    }
    gauge("keevo_tls_files_are_bad", "1 while the TLS files cannot be used and older ones are.", u64::from(tls.stale));
    let until = u64::try_from(tls.not_after_s).unwrap_or_default();
    gauge("keevo_tls_not_after_seconds", "Until when the certificate is valid, in seconds since 1970.", until);
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
