//! The configuration of keevod: one table of settings, four layers.
//!
//! Defaults, then the TOML file, then `KEEVO_*` variables, then flags; the last one that says something wins,
//! and `keevod config print --origin` shows which that was.
//!
//! Invariant: what nobody asked for is an error. An unknown key in the file or an unknown `KEEVO_*` variable is
//! refused, with the nearest name that exists.

mod archive;
mod layers;
mod machine;
mod moderation;
mod settings;
mod storage;
mod tls;
mod traces;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use keevo_core::{Error, ErrorKind, Levels, Result};
use keevo_raft::Timing;
use keevo_tls::ServerFiles;

pub use archive::ArchiveConfig;
pub use layers::{Layers, Origin, Value};
pub use machine::{Machine, raise_open_files_limit};
pub use moderation::{KafkaTexts, ModerationConfig};
pub use settings::{SETTINGS, Setting};
pub use storage::StorageConfig;
pub use traces::TracesConfig;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// How callers are asked who they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthConfig {
    /// The file with a key that may do everything.
    pub admin_key_file: Option<PathBuf>,
}

/// What a keevod runs with.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a setting of its own")]
pub struct Config {
    /// The node's id, unique in the cluster, from 1.
    pub node_id: u64,
    /// The folder with the node's stores.
    pub data_dir: PathBuf,
    /// Where gRPC is served, to clients and peers.
    pub grpc: SocketAddr,
    /// Where metrics and health are served over HTTP.
    pub http: SocketAddr,
    /// The address that peers and clients are told; the gRPC address unless set.
    pub advertise: String,
    /// The nodes that found the cluster, by id; empty = this node alone.
    pub peers: BTreeMap<u64, String>,
    /// Data shards of a new cluster.
    pub shards: u32,
    /// Replicas of each shard of a new cluster.
    pub replication_factor: u32,
    /// Waits to be added to an existing cluster.
    pub join: bool,
    /// Listens beyond loopback, even if nothing is encrypted or nobody is asked who they are.
    pub insecure: bool,
    /// The files of its TLS; `None` = nothing is encrypted.
    pub tls: Option<ServerFiles>,
    /// How callers of gRPC are asked who they are, and let do only what they may; `None` = they are not.
    pub auth: Option<AuthConfig>,
    /// What is logged: a level or tracing's filter directives.
    pub log_level: String,
    /// How it looks.
    pub log_format: LogFormat,
    /// Whether calls that change something are recorded in the API log.
    pub api_log: bool,
    /// How often the data store is flushed.
    pub flush_every: Duration,
    /// Heartbeats and elections.
    pub timing: Timing,
    /// Bytes a second that all snapshots to peers send together, at most; 0 = no bound.
    pub snapshot_bytes_per_second: u64,
    /// Sizes and limits of the stores.
    pub storage: StorageConfig,
    /// The folder of uploaded files, which all nodes share.
    pub files_dir: PathBuf,
    /// The folder of the files that sinks write here.
    pub sinks_dir: PathBuf,
    /// Where uploaded files are served; `None` = at the address of the request.
    pub files_url: Option<String>,
    /// Whether webhooks and scraped pages may lie at private addresses.
    pub private_fetches: bool,
    /// Memory of the search index for messages that are not on disk yet, in bytes; 0 = there is no index.
    pub search_heap_bytes: u64,
    /// Who scores texts, and whose.
    pub moderation: ModerationConfig,
    /// Where the log is archived, and backups are kept.
    pub archive: ArchiveConfig,
    /// Where the spans of calls go, and of which share of them; `None` = nowhere.
    pub traces: Option<TracesConfig>,
    /// From how long on a call is told in the log as slow; zero = never.
    pub slow_call: Duration,
    /// All settings as they were given, a line each with where it comes from, without secrets.
    pub shown: String,
    /// The levels that the node knows. No setting: those of the release; a test plays an older one.
    pub levels: Levels,
}

impl Config {
    /// Reads the layers into a configuration for this machine.
    pub fn from_layers(layers: &Layers) -> Result<Self> {
        Self::from_layers_on(layers, &Machine::this())
    }

    /// Reads the layers into a configuration for a machine.
    pub fn from_layers_on(layers: &Layers, machine: &Machine) -> Result<Self> {
        let grpc: SocketAddr = layers.parse("grpc", "an address like 127.0.0.1:7101")?;
        let advertise = layers.text("advertise");
        let node_id: u64 = layers.parse("node_id", "a number from 1")?;
        let advertise = if advertise.is_empty() { grpc.to_string() } else { advertise.to_owned() };
        let mut peers = parse_peers(layers)?;
        let join: bool = layers.parse("join", "true or false")?;
        if peers.is_empty() {
            peers.insert(node_id, advertise.clone());
        }
        let alone = peers.len() == 1 && !join;
        let auth: bool = layers.parse("auth", "true or false")?;
        let path = |name: &str| Some(layers.text(name)).filter(|path| !path.is_empty()).map(PathBuf::from);
        let config = Self {
            node_id,
            data_dir: PathBuf::from(layers.text("data_dir")),
            grpc,
            http: layers.parse("http", "an address like 127.0.0.1:8101")?,
            advertise,
            peers,
            shards: layers.parse("shards", "a number from 1 to 4096")?,
            replication_factor: layers.parse("replication_factor", "an odd number, 1, 3 or 5")?,
            join,
            insecure: layers.parse("insecure", "true or false")?,
            tls: tls::from_layers(layers, node_id, auth, alone)?,
            auth: auth.then(|| AuthConfig { admin_key_file: path("auth_admin_key_file") }),
            log_level: layers.text("log_level").to_owned(),
            log_format: match layers.text("log_format") {
                "text" => LogFormat::Text,
                "json" => LogFormat::Json,
                _ => return Err(layers.refuse("log_format", "text or json")),
            },
            api_log: layers.parse("api_log", "true or false")?,
            flush_every: Duration::from_millis(layers.parse("flush_every_ms", "a number of milliseconds")?),
            timing: Timing {
                heartbeat_ms: layers.parse("heartbeat_ms", "a number of milliseconds")?,
                election_ms_min: layers.parse("election_ms_min", "a number of milliseconds")?,
                election_ms_max: layers.parse("election_ms_max", "a number of milliseconds")?,
                drift_ms_max: layers.parse("drift_ms_max", "a number of milliseconds")?,
                log_entries_kept: layers.parse("log_entries_kept", "a number of entries")?,
            },
            snapshot_bytes_per_second: layers
                .parse::<u64>("snapshot_mib_per_s", "a number of MiB a second, or 0")?
                .saturating_mul(1 << 20),
            storage: StorageConfig::from_layers(layers, machine)?,
            files_dir: match layers.text("files_dir") {
                "" => PathBuf::from(layers.text("data_dir")).join("files"),
                folder => PathBuf::from(folder),
            },
            sinks_dir: match layers.text("sinks_dir") {
                "" => PathBuf::from(layers.text("data_dir")).join("sinks"),
                folder => PathBuf::from(folder),
            },
            files_url: Some(layers.text("files_url").to_owned()).filter(|url| !url.is_empty()),
            private_fetches: layers.parse("private_fetches", "true or false")?,
            search_heap_bytes: layers.parse::<u64>("search_heap_mib", "a number of MiB, or 0")?.saturating_mul(1 << 20),
            moderation: ModerationConfig::from_layers(layers)?,
            archive: ArchiveConfig::from_layers(layers)?,
            traces: TracesConfig::from_layers(layers)?,
            slow_call: Duration::from_millis(layers.parse("slow_call_ms", "a number of milliseconds, or 0")?),
            shown: layers.shown(),
            levels: Levels::OURS,
        };
        config.check(layers)?;
        Ok(config)
    }

    /// What every size that is left to the machine comes to, as comments below the settings.
    pub fn explain(&self, layers: &Layers, machine: &Machine) -> String {
        self.storage.explain(layers, machine)
    }

    fn check(&self, layers: &Layers) -> Result<()> {
        if self.node_id == 0 {
            return Err(layers.refuse("node_id", "a number from 1"));
        }
        if !self.join && !self.peers.contains_key(&self.node_id) {
            return Err(layers.refuse("peers", &format!("a list that names this node, {}", self.node_id)));
        }
        self.check_exposure(layers)?;
        self.check_auth(layers)?;
        if self.files_url.as_ref().is_some_and(|url| !url.starts_with("http://") && !url.starts_with("https://")) {
            return Err(layers.refuse("files_url", "an address like https://files.example.org"));
        }
        if self.data_dir.as_os_str().is_empty() {
            return Err(layers.refuse("data_dir", "a folder"));
        }
        if self.search_heap_bytes != 0 && self.search_heap_bytes < 16 << 20 {
            return Err(layers.refuse("search_heap_mib", "16 or more, or 0"));
        }
        if self.shards == 0 || self.shards > keevo_raft::shard_map::SHARDS_MAX {
            return Err(layers.refuse("shards", "a number from 1 to 4096"));
        }
        if !matches!(self.replication_factor, 1 | 3 | 5 | 7) {
            return Err(layers.refuse("replication_factor", "1, 3, 5 or 7"));
        }
        if self.flush_every < Duration::from_millis(100) {
            return Err(layers.refuse("flush_every_ms", "at least 100"));
        }
        let timing = &self.timing;
        if timing.heartbeat_ms < 10 || timing.election_ms_min < 3 * timing.heartbeat_ms {
            return Err(layers.refuse("election_ms_min", "at least three heartbeats, of 10 ms or more each"));
        }
        if timing.election_ms_max <= timing.election_ms_min {
            return Err(layers.refuse("election_ms_max", "more than election_ms_min"));
        }
        Ok(())
    }

    /// Authentication that locks everybody out, or leaves a door open, is refused.
    fn check_auth(&self, layers: &Layers) -> Result<()> {
        let Some(auth) = &self.auth else { return Ok(()) };
        let certificates = self.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
        if !certificates && auth.admin_key_file.is_none() {
            let means = "true together with auth_admin_key_file or tls_client_ca: else nobody could make the first key";
            return Err(layers.refuse("auth", means));
        }
        let alone = self.peers.len() == 1 && !self.join;
        if self.tls.is_none() && !alone && !self.insecure {
            let means = "set, since there are peers and auth is on: without TLS nodes do not know each other, so whoever \
                         reaches one may pass for a node and do everything";
            return Err(layers.refuse("tls_cert", means));
        }
        Ok(())
    }

    /// Whoever reaches a node beyond loopback must be told from others, over a wire that nobody can read.
    fn check_exposure(&self, layers: &Layers) -> Result<()> {
        let asks = self.tls.as_ref().is_some_and(|tls| self.auth.is_some() || tls.client_ca.is_some());
        for (name, address) in [("grpc", self.grpc), ("http", self.http)] {
            if self.insecure || address.ip().is_loopback() || asks {
                continue;
            }
            let lacks = match self.tls {
                None => "TLS: set tls_cert, tls_key and tls_client_ca (`keevo-cli cert init` makes them)",
                Some(_) => "to ask clients who they are: set auth = true, or tls_client_ca",
            };
            return Err(layers.refuse(
                name,
                &format!(
                    "a loopback address, since this node lacks {lacks}. In a network where everybody may read and write \
                     all data, say --insecure"
                ),
            ));
        }
        Ok(())
    }
}

/// Reads `1=host:port,2=host:port`.
fn parse_peers(layers: &Layers) -> Result<BTreeMap<u64, String>> {
    let text = layers.text("peers");
    let mut peers = BTreeMap::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let wrong = || layers.refuse("peers", "a list like 1=127.0.0.1:7101,2=127.0.0.1:7102");
        let (id, address) = part.split_once('=').ok_or_else(wrong)?;
        let id: u64 = id.trim().parse().map_err(|error: std::num::ParseIntError| wrong().with_source(error))?;
        let has_port = address.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        if id == 0 || !has_port || peers.insert(id, address.trim().to_owned()).is_some() {
            return Err(wrong());
        }
    }
    Ok(peers)
}

/// A setting that says something impossible.
fn config_error(message: String) -> Error {
    Error::new(ErrorKind::Config, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layered(file: &str, env: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Layers> {
        let mut layers = Layers::defaults();
        if !file.is_empty() {
            layers.add_toml(file, std::path::Path::new("keevod.toml"))?;
        }
        layers.add_env(env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))?;
        for (name, value) in flags {
            layers.add_flag(name, value);
        }
        Ok(layers)
    }

    #[test]
    fn later_layers_win_and_say_where_they_come_from() {
        let layers = layered("shards = 16\nnode_id = 2", &[("KEEVO_SHARDS", "32")], &[("node_id", "1")]).expect("good");
        let config = Config::from_layers(&layers).expect("good");
        assert_eq!((config.shards, config.node_id), (32, 1));
        expect_test::expect![[r#"
            advertise            = ""                  default
            api_log              = "true"              default
            archive_every_ms     = "2000"              default
            archive_key_file     = ""                  default
            archive_mib_max      = "1024"              default
            archive_url          = ""                  default
            archive_when_full    = "refuse"            default
            auth                 = "false"             default
            auth_admin_key_file  = ""                  default
            background_jobs      = "auto"              default
            background_mib_per_s = "256"               default
            backup_url           = ""                  default
            block_cache_mib      = "auto"              default
            data_dir             = "keevo-data"        default
            data_key_file        = ""                  default
            disk_ballast_mib     = "64"                default
            disk_low_water_mib   = "1024"              default
            drift_ms_max         = "200"               default
            election_ms_max      = "2000"              default
            election_ms_min      = "1000"              default
            files_dir            = ""                  default
            files_url            = ""                  default
            flush_every_ms       = "5000"              default
            grpc                 = "127.0.0.1:7101"    default
            heartbeat_ms         = "200"               default
            http                 = "127.0.0.1:8101"    default
            insecure             = "false"             default
            join                 = "false"             default
            log_entries_kept     = "10000"             default
            log_format           = "text"              default
            log_level            = "info"              default
            log_segment_mib      = "64"                default
            log_store            = "auto"              default
            memory_percent       = "20"                default
            moderation_kafka_brokers = ""                  default
            moderation_kafka_ca  = ""                  default
            moderation_kafka_sasl_file = ""                  default
            moderation_kafka_tls = "false"             default
            moderation_kafka_topic = ""                  default
            moderation_key_file  = ""                  default
            moderation_postgres_url_file = ""                  default
            moderation_sources   = "chat,feeds"        default
            moderation_workers   = ""                  default
            node_id              = "1"                 flag --node-id
            peers                = ""                  default
            private_fetches      = "false"             default
            replication_factor   = "3"                 default
            search_heap_mib      = "64"                default
            shards               = "32"                environment KEEVO_SHARDS
            sinks_dir            = ""                  default
            slow_call_ms         = "1000"              default
            snapshot_mib_per_s   = "64"                default
            tls_cert             = ""                  default
            tls_client_ca        = ""                  default
            tls_key              = ""                  default
            tls_peer_ca          = ""                  default
            traces_endpoint      = ""                  default
            traces_ratio         = "0.01"              default
            unapplied_mib_max    = "256"               default
            unflushed_mib_flush  = "auto"              default
            unflushed_mib_max    = "auto"              default
            write_buffer_mib     = "auto"              default
        "#]]
        .assert_eq(&layers.print(true));
    }

    #[test]
    fn only_the_insecure_listen_beyond_loopback() {
        let config = |flags: &[(&str, &str)]| layered("", &[], flags).and_then(|layers| Config::from_layers(&layers));
        for name in ["grpc", "http"] {
            let open = (name, "192.0.2.1:7000");
            let error = config(&[open]).expect_err("refused");
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.message().contains("--insecure"), "{error}");
            assert!(config(&[open, ("insecure", "true")]).is_ok_and(|config| config.insecure));
        }
        assert!(config(&[("grpc", "[::1]:7000")]).is_ok_and(|config| !config.insecure));
        let open = ("grpc", "192.0.2.1:7000");
        let tls = [open, ("tls_cert", "c"), ("tls_key", "k"), ("tls_peer_ca", "p")];
        let error = config(&tls).expect_err("nobody is asked who they are");
        assert!(error.message().contains("tls_client_ca"), "{error}");
        assert!(config(&[&tls[..], &[("tls_client_ca", "c")]].concat()).is_ok());
        assert!(config(&[&tls[..], &[("auth", "true"), ("auth_admin_key_file", "k")]].concat()).is_ok());
    }

    #[test]
    fn authentication_locks_nobody_out_and_leaves_no_door_open() {
        let config = |flags: &[(&str, &str)]| layered("", &[], flags).and_then(|layers| Config::from_layers(&layers));
        let on = ("auth", "true");
        let error = config(&[on]).expect_err("nobody could make the first key");
        assert!(error.message().contains("auth_admin_key_file"), "{error}");
        let key = ("auth_admin_key_file", "key");
        assert!(config(&[on, key]).is_ok_and(|config| config.auth.is_some()));
        let peers = ("peers", "1=127.0.0.1:7101,2=127.0.0.1:7102");
        for more in [peers, ("join", "true")] {
            let error = config(&[on, key, more]).expect_err("peers without TLS");
            assert!(error.message().starts_with("tls_cert"), "{error}");
            assert!(config(&[on, key, more, ("insecure", "true")]).is_ok());
            let tls = [("tls_cert", "c"), ("tls_key", "k"), ("tls_client_ca", "a")];
            assert!(config(&[&[on, more][..], &tls].concat()).is_ok(), "certificates will do");
        }
    }

    #[test]
    fn variables_of_others_may_hold_any_bytes_and_ones_of_ours_may_not() {
        use std::ffi::OsString;
        use std::os::unix::ffi::OsStringExt;
        let noise = || OsString::from_vec(vec![b'a', 0xff]);
        let mut layers = Layers::defaults();
        let shards = (OsString::from("KEEVO_SHARDS"), OsString::from("8"));
        layers.add_env([(OsString::from("FOO"), noise()), (noise(), noise()), shards]).expect("not ours");
        assert_eq!(layers.text("shards"), "8");
        let value = layers.add_env([(OsString::from("KEEVO_SHARDS"), noise())]).expect_err("ours");
        assert_eq!(value.kind(), ErrorKind::Config);
        assert!(value.message().contains("KEEVO_SHARDS"), "{value}");
        let name = OsString::from_vec([b"KEEVO_".as_slice(), &[0xff]].concat());
        assert_eq!(layers.add_env([(name, OsString::new())]).expect_err("ours").kind(), ErrorKind::Config);
    }

    #[test]
    fn what_nobody_asked_for_is_refused_with_the_nearest_name() {
        let error = |result: Result<Layers>| {
            let error = result.and_then(|layers| Config::from_layers(&layers)).expect_err("refused");
            assert_eq!(error.kind(), ErrorKind::Config);
            error.message().to_owned()
        };
        assert_eq!(
            error(layered("shardz = 4", &[], &[])),
            "keevod.toml has an unknown key 'shardz'; the nearest is 'shards'"
        );
        assert_eq!(
            error(layered("", &[("KEEVO_HTPP", "x")], &[])),
            "the environment has an unknown variable KEEVO_HTPP; the nearest is KEEVO_HTTP"
        );
        assert_eq!(
            error(layered("", &[], &[("grpc", "nowhere")])),
            "grpc is 'nowhere' (flag --grpc), but must be an address like 127.0.0.1:7101"
        );
        assert_eq!(
            error(layered("peers = \"1:a\"", &[], &[])),
            "peers is '1:a' (file keevod.toml), but must be a list like 1=127.0.0.1:7101,2=127.0.0.1:7102"
        );
        assert_eq!(
            error(layered("", &[], &[("peers", "2=127.0.0.1:1")])),
            "peers is '2=127.0.0.1:1' (flag --peers), but must be a list that names this node, 1"
        );
    }
}
