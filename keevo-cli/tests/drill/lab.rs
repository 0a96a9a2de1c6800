//! Clusters of daemons in this process, and the program as it is called from a terminal.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use keevo_client::{ClientOptions, RemoteEngine};
use keevo_core::{CLASS_HASHED, CLASS_ORDERED, KeyspaceId, Record, keyspaces};
use keevo_server::config::{Config, Layers};
use keevo_server::daemon::Daemon;
use tokio::runtime::Runtime;

const PATIENCE: Duration = Duration::from_mins(1);
/// The secret of the apps that are made from the terminal.
pub(crate) const SECRET: &str = "a secret of the drill";

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// What was compared: keys, records, figures or calls.
    pub(crate) compared: usize,
    /// What differed.
    pub(crate) differences: Vec<String>,
    /// What was measured, in words.
    pub(crate) figures: Vec<String>,
}

impl Found {
    /// Compares two things; `what` says what they are where they differ.
    pub(crate) fn compare<T: PartialEq + std::fmt::Debug>(&mut self, what: &str, there: &T, expected: &T) {
        self.compared += 1;
        if there != expected {
            self.differences.push(format!("{what} is {there:?}, not {expected:?}"));
        }
    }

    /// Compares everything that two clusters hold, record by record.
    pub(crate) fn compare_records(&mut self, there: &Records, expected: &Records) {
        let keys: std::collections::BTreeSet<_> = there.keys().chain(expected.keys()).collect();
        for key in keys {
            let (keyspace, bytes) = key;
            let what = format!("the record {} of {keyspace}", bytes.escape_ascii());
            self.compare(&what, &there.get(key), &expected.get(key));
        }
    }
}

/// Records by keyspace and by the key's bytes behind the keyspace's id.
pub(crate) type Records = BTreeMap<(String, Bytes), Bytes>;

/// A node, which has a runtime of its own, so that it can be killed.
struct Node {
    runtime: Runtime,
    daemon: Option<Daemon>,
    config: Config,
}

impl Node {
    fn start(config: Config) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let daemon = runtime.block_on(Daemon::start(config.clone())).expect("it starts");
        Self { runtime, daemon: Some(daemon), config }
    }

    fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().expect("it runs")
    }

    fn wait_ready(&self) {
        self.runtime.block_on(self.daemon().node().ready(PATIENCE)).expect("every shard finds a leader");
    }

    fn stop(&mut self) {
        let daemon = self.daemon.take().expect("it runs");
        self.runtime.block_on(daemon.stop()).expect("it stops");
    }
}

/// A cluster.
pub(crate) struct Cluster {
    nodes: Vec<Node>,
    pub(crate) endpoints: Vec<String>,
    folder: PathBuf,
}

impl Cluster {
    /// Starts `nodes` nodes with `shards` data shards below `folder`, which keep archive and backups in `storage`.
    pub(crate) fn start(folder: &Path, nodes: usize, shards: u32, storage: &Path) -> Self {
        let more = [("archive_url", storage.display().to_string()), ("archive_every_ms", "200".to_owned())];
        Self::start_with(folder, nodes, shards, &more)
    }

    /// The same, with what they keep in `storage` encrypted by `keys`.
    pub(crate) fn start_encrypted(folder: &Path, nodes: usize, shards: u32, (storage, keys): (&Path, &Path)) -> Self {
        let more = [
            ("archive_url", storage.display().to_string()),
            ("archive_key_file", keys.display().to_string()),
            ("archive_every_ms", "200".to_owned()),
        ];
        Self::start_with(folder, nodes, shards, &more)
    }

    /// Starts `nodes` nodes with `shards` data shards below `folder`, and with more settings.
    pub(crate) fn start_with(folder: &Path, nodes: usize, shards: u32, more: &[(&'static str, String)]) -> Self {
        let endpoints: Vec<String> = (0..nodes).map(|_| free_address()).collect();
        let peers: Vec<String> = (1..).zip(&endpoints).map(|(id, address)| format!("{id}={address}")).collect();
        let nodes: Vec<Node> = (1..)
            .zip(&endpoints)
            .map(|(id, grpc)| {
                let dir = folder.join(id.to_string());
                Node::start(config(&dir, id, grpc, &peers.join(","), shards, more))
            })
            .collect();
        nodes.iter().for_each(Node::wait_ready);
        Self { nodes, endpoints, folder: folder.to_owned() }
    }

    /// How many nodes there are.
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Where a node serves HTTP.
    pub(crate) fn http(&self, at: usize) -> SocketAddr {
        self.nodes.get(at).expect("a node").daemon().http()
    }

    /// Stops a node in order and starts it again; ends when it has found every leader.
    pub(crate) fn restart(&mut self, at: usize) {
        let mut node = self.nodes.remove(at);
        node.stop();
        // What ran on the node goes with its runtime, as it goes with a process.
        node.runtime.shutdown_timeout(PATIENCE);
        let node = Node::start(node.config);
        node.wait_ready();
        self.nodes.insert(at, node);
    }

    /// A client of the cluster.
    pub(crate) async fn client(&self) -> RemoteEngine {
        let options = ClientOptions { deadline: Duration::from_secs(20), ..ClientOptions::default() };
        RemoteEngine::connect(self.endpoints.clone(), options).await.expect("connected")
    }

    /// Everything that the cluster holds and that does not expire, each shard as its leader has it.
    pub(crate) fn records(&self) -> Records {
        let mut records = Records::new();
        for Node { runtime, daemon, .. } in &self.nodes {
            let node = daemon.as_ref().expect("it runs").node();
            let gathered: Vec<(KeyspaceId, Bytes, Bytes)> =
                runtime.block_on(node.gather(Vec::new(), gather)).expect("it is read");
            let mut names: BTreeMap<KeyspaceId, String> = BTreeMap::new();
            for (id, key, value) in gathered {
                let name = names.entry(id).or_insert_with(|| {
                    let meta = node.engine().meta();
                    runtime.block_on(keyspaces::keyspace_by_id(&meta, id)).expect("a keyspace").0
                });
                records.insert((name.clone(), key), value);
            }
        }
        records
    }

    /// The records once they have stood still for a while: the workers of feeds and chat are done.
    pub(crate) fn settled(&self) -> Records {
        let mut last = self.records();
        for _ in 0..60 {
            std::thread::park_timeout(Duration::from_millis(800));
            let next = self.records();
            if next == last {
                return next;
            }
            last = next;
        }
        panic!("the records do not stand still");
    }

    /// Runs the program: exit code, standard output, standard error.
    pub(crate) fn cli(&self, args: &[&str]) -> (Option<i32>, String, String) {
        call(&[("KEEVO_ENDPOINTS", &self.endpoints.join(",")), ("KEEVO_APP_SECRET", SECRET), ("KEEVO_YES", "1")], args)
    }

    /// What a command that works writes.
    #[track_caller]
    pub(crate) fn done(&self, args: &[&str]) -> String {
        let (code, out, said) = self.cli(args);
        assert_eq!(code, Some(0), "{args:?}: {out} {said}");
        out
    }

    /// The JSON that a command which works writes.
    #[track_caller]
    pub(crate) fn json(&self, args: &[&str]) -> serde_json::Value {
        let args: Vec<&str> = args.iter().copied().chain(["--output", "json"]).collect();
        serde_json::from_str(&self.done(&args)).expect("JSON")
    }

    /// Stops everything at once, and removes what it had on its disks.
    pub(crate) fn destroy(self) {
        for Node { runtime, daemon, .. } in self.nodes {
            runtime.shutdown_background();
            // Its parts let go of their files when their tasks have ended; the files are removed under them.
            drop(daemon);
        }
        let gone = std::fs::remove_dir_all(&self.folder);
        // What still writes there makes it fail; nobody reads it again.
        drop(gone);
    }

    /// Stops it in order.
    pub(crate) fn stop(mut self) {
        self.nodes.iter_mut().for_each(Node::stop);
    }
}

fn call(variables: &[(&str, &str)], args: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(program());
    let output = command.envs(variables.iter().copied()).args(args).output().expect("the program starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// Runs a command of the program that calls no node, and works.
#[track_caller]
pub(crate) fn cli(args: &[&str]) -> String {
    let (code, out, said) = call(&[], args);
    assert_eq!(code, Some(0), "{args:?}: {out} {said}");
    out
}

/// Keeps a record that does not expire, by keyspace.
fn gather(all: &mut Vec<(KeyspaceId, Bytes, Bytes)>, key: &[u8], record: &Record) {
    let rest = match key.split_first() {
        Some((&CLASS_HASHED, rest)) => rest.get(2..),
        Some((&CLASS_ORDERED, rest)) => Some(rest),
        _ => None,
    };
    let Some((id, rest)) = rest.and_then(<[u8]>::split_first_chunk::<4>) else { return };
    if record.expires_at_ms.is_none() {
        all.push((KeyspaceId(u32::from_be_bytes(*id)), Bytes::copy_from_slice(rest), record.value.clone()));
    }
}

/// The program, which lies beside the folder of what runs this.
fn program() -> PathBuf {
    let this = std::env::current_exe().expect("a path");
    let built = this.parent().and_then(Path::parent).expect("the folder of the build");
    built.join("keevo-cli")
}

fn config(dir: &Path, id: u64, grpc: &str, peers: &str, shards: u32, more: &[(&'static str, String)]) -> Config {
    let mut layers = Layers::defaults();
    let settings = [
        ("node_id", id.to_string()),
        ("data_dir", dir.display().to_string()),
        ("grpc", grpc.to_owned()),
        ("http", free_address()),
        ("peers", peers.to_owned()),
        ("shards", shards.to_string()),
        ("replication_factor", "3".to_owned()),
        ("heartbeat_ms", "100".to_owned()),
        ("election_ms_min", "500".to_owned()),
        ("election_ms_max", "1000".to_owned()),
        ("flush_every_ms", "500".to_owned()),
        ("block_cache_mib", "16".to_owned()),
        ("write_buffer_mib", "8".to_owned()),
        ("disk_low_water_mib", "0".to_owned()),
        ("disk_ballast_mib", "0".to_owned()),
    ];
    for (name, value) in settings.iter().chain(more) {
        layers.add_flag(name, value);
    }
    Config::from_layers(&layers).expect("a good configuration")
}

fn free_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound").to_string()
}
