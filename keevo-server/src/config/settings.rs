//! The table of settings: every name, default and explanation stands here and nowhere else.

/// One setting.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Its name in the file; `KEEVO_` and capitals in the environment; dashes as a flag.
    pub name: &'static str,
    /// What it is unless said otherwise.
    pub default: &'static str,
    /// What it does, in one line.
    pub help: &'static str,
}

const fn setting(name: &'static str, default: &'static str, help: &'static str) -> Setting {
    Setting { name, default, help }
}

/// Every setting, by name.
pub const SETTINGS: &[Setting] = &[
    setting("advertise", "", "Address that peers and clients are told (default: the gRPC address)"),
    setting(
        "api_log",
        "true",
        "Record every call that changes data in the log of its shard, for tail, search and replay",
    ),
    setting(
        "archive_every_ms",
        "2000",
        "Pause between two rounds of the log's archive, ms: what may be lost with all nodes",
    ),
    setting(
        "archive_key_file",
        "",
        "File with the keys that archive and backups are encrypted with, the same on all nodes; empty = they are not",
    ),
    setting("archive_mib_max", "1024", "Log of a shard that may wait for the archive, MiB"),
    setting(
        "archive_url",
        "",
        "Where the log is archived: a folder that all nodes share, or s3://BUCKET/PREFIX; empty = it is not",
    ),
    setting(
        "archive_when_full",
        "refuse",
        "What happens above archive_mib_max: refuse writes, or drop the log, and leave a gap in the archive",
    ),
    setting("auth", "false", "Ask callers of gRPC who they are: API keys, or certificates of tls_client_ca"),
    setting("auth_admin_key_file", "", "File with an API key of 32 bytes or more that may do everything"),
    setting("background_jobs", "auto", "Threads for flushes and compactions; auto = the processors, 2 to 8"),
    setting("background_mib_per_s", "256", "Most that flushes and compactions write, MiB a second; 0 = no limit"),
    setting(
        "backup_url",
        "",
        "Where backups are kept: a folder that all nodes share, or s3://… (default: archive_url)",
    ),
    setting("block_cache_mib", "auto", "Cache of blocks and write buffers, MiB; auto = memory_percent of the memory"),
    setting("data_dir", "keevo-data", "Folder of this node's stores"),
    setting(
        "data_key_file",
        "",
        "File with the keys that seal values and the log on disk, the same on all nodes; empty = nothing is sealed",
    ),
    setting("disk_ballast_mib", "64", "Space set aside for the time when the disk is full, MiB; 0 = none"),
    setting("disk_low_water_mib", "1024", "Free space below which writes are refused, MiB; 0 = never"),
    setting(
        "drift_ms_max",
        "200",
        "How far two nodes' clocks may drift apart during a lease, ms; the same on all nodes",
    ),
    setting("election_ms_max", "2000", "Longest time without a leader before an election, ms; the same on all nodes"),
    setting("election_ms_min", "1000", "Shortest time without a leader before an election, ms; the same on all nodes"),
    setting("files_dir", "", "Folder of uploaded files, shared by all nodes (default: files in data_dir)"),
    setting("files_url", "", "Where uploaded files are served, better not where the API is (default: there)"),
    setting("flush_every_ms", "5000", "Time between flushes of the data store, ms"),
    setting("grpc", "127.0.0.1:7101", "Address to serve gRPC on, for clients and peers"),
    setting("heartbeat_ms", "200", "Time between a leader's heartbeats, ms; the same on all nodes"),
    setting("http", "127.0.0.1:8101", "Address to serve the REST API, /metrics, /health and /ready on"),
    setting(
        "insecure",
        "false",
        "Listen beyond loopback without TLS or authentication too: whoever reaches it may do all",
    ),
    setting("join", "false", "Wait to be added to an existing cluster by `keevo-cli cluster join`"),
    setting("log_entries_kept", "10000", "Flushed log entries that each shard keeps for lagging followers"),
    setting("log_format", "text", "text or json"),
    setting("log_level", "info", "error, warn, info, debug, trace, or tracing filter directives"),
    setting("log_segment_mib", "64", "Size of a segment of the segmented log, MiB, 1 to 1024"),
    setting(
        "log_store",
        "auto",
        "segmented or rocksdb, chosen when the node is new; auto = what it has, segmented when new",
    ),
    setting("memory_percent", "20", "Share of the memory, or of the control group's limit, that auto sizes take, %"),
    setting("moderation_kafka_brokers", "", "Brokers of the topic whose texts are judged: host:port,…"),
    setting("moderation_kafka_ca", "", "PEM file of the CA of these brokers (default: what the system trusts)"),
    setting(
        "moderation_kafka_sasl_file",
        "",
        "File with MECHANISM:USER:PASSWORD for them: SCRAM-SHA-512, or PLAIN over TLS",
    ),
    setting("moderation_kafka_tls", "false", "Encrypt the connections to them"),
    setting("moderation_kafka_topic", "", "Topic whose texts are judged, as JSON: app, id, text, author, kind"),
    setting("moderation_key_file", "", "File with the API key that the moderation sidecars ask for"),
    setting(
        "moderation_postgres_url_file",
        "",
        "File with the URL of the PostgreSQL that verdicts are copied to (or KEEVO_MODERATION_POSTGRES_URL)",
    ),
    setting("moderation_sources", "chat,feeds", "Whose texts are judged: chat, feeds, kafka, or several of them"),
    setting("moderation_workers", "", "Sidecars that score texts: http://host:port,…; empty = no text is judged"),
    setting("node_id", "1", "Id of this node, unique in the cluster, from 1"),
    setting("peers", "", "Nodes that found the cluster, this one included: 1=host:port,2=host:port,…"),
    setting("private_fetches", "false", "Let webhooks and scraped pages lie at private and loopback addresses"),
    setting("replication_factor", "3", "Replicas of each shard of a new cluster: 1, 3, 5 or 7"),
    setting("search_heap_mib", "64", "Memory of the search index for new messages, MiB, 16 or more; 0 = no search"),
    setting("shards", "8", "Data shards of a new cluster, 1 to 4096"),
    setting(
        "sinks_dir",
        "",
        "Folder of the files of JSON lines that sinks write at this node (default: sinks in data_dir)",
    ),
    setting("slow_call_ms", "1000", "Calls that take so long are told in the log, with their stages, ms; 0 = none"),
    setting("snapshot_mib_per_s", "64", "Bound on what all snapshots to peers send together, MiB a second; 0 = none"),
    setting("tls_cert", "", "PEM file of this node's certificate; with it gRPC and HTTP are served over TLS"),
    setting("tls_client_ca", "", "PEM file of the CA whose clients are let in, by their certificates"),
    setting("tls_key", "", "PEM file of the key of tls_cert; all TLS files are read again when they change"),
    setting("tls_peer_ca", "", "PEM file of the CA of the nodes' certificates (default: tls_client_ca)"),
    setting(
        "traces_endpoint",
        "",
        "Collector that takes spans by OTLP over gRPC: http://host:port; empty = none are made",
    ),
    setting("traces_ratio", "0.01", "Share of the calls without a trace of their own that are traced, 0 to 1"),
    setting("unapplied_mib_max", "256", "Writes under way or not yet applied at which more are refused, MiB"),
    setting(
        "unflushed_mib_flush",
        "auto",
        "Unflushed data at which it is flushed early, MiB; auto = half the write buffers",
    ),
    setting(
        "unflushed_mib_max",
        "auto",
        "Unflushed data at which writes are refused, MiB; auto = twice the write buffers",
    ),
    setting("write_buffer_mib", "auto", "Write buffers, MiB; auto = a quarter of the block cache, 8 to 256"),
];

impl Setting {
    /// The setting with this name.
    pub fn find(name: &str) -> Option<&'static Self> {
        SETTINGS.iter().find(|setting| setting.name == name)
    }

    /// Its variable in the environment.
    pub fn variable(&self) -> String {
        format!("KEEVO_{}", self.name.to_uppercase())
    }

    /// Its flag, without the dashes in front.
    pub fn flag(&self) -> String {
        self.name.replace('_', "-")
    }
}

/// The name of the setting that is nearest to a misspelled one, by edits.
pub(super) fn nearest(wrong: &str) -> &'static str {
    let closest = SETTINGS.iter().min_by_key(|setting| edits(wrong, setting.name));
    closest.map_or("", |setting| setting.name)
}

fn edits(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (line, left) in from.chars().enumerate() {
        let mut before = line;
        let mut last = line + 1;
        if let Some(first) = row.first_mut() {
            *first = last;
        }
        for (cell, right) in row.iter_mut().skip(1).zip(&to) {
            let cost = before + usize::from(left != *right);
            before = *cell;
            last = cost.min(before + 1).min(last + 1);
            *cell = last;
        }
    }
    row.last().copied().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_the_nearest_name_is_found() {
        assert!(SETTINGS.windows(2).all(|pair| pair[0].name < pair[1].name));
        assert_eq!(nearest("heartbeat"), "heartbeat_ms");
        assert_eq!(nearest("datadir"), "data_dir");
        assert_eq!((edits("kitten", "sitting"), edits("", "abc"), edits("abc", "abc")), (3, 3, 0));
    }
}
