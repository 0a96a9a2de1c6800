//! A rolling upgrade, as an operator does it: three daemons, of which one is of an older release, while somebody writes.

#![allow(clippy::indexing_slicing, reason = "a test may panic where it is wrong")]

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use keevo_client::{ClientOptions, RemoteEngine};
use keevo_core::{Batch, Consistency, Engine, ErrorKind, Keyspace, KeyspaceKind, Levels, Result};
use keevo_server::config::{Config, Layers};
use keevo_server::daemon::Daemon;

const PATIENCE: Duration = Duration::from_mins(1);
/// What the release before this one knows.
const OLD: Levels = Levels { min: 1, max: 1 };
const NEW: Levels = Levels { min: 1, max: 2 };

/// Three nodes on loopback.
struct Cluster {
    folder: tempfile::TempDir,
    endpoints: Vec<String>,
    nodes: [Option<Daemon>; 3],
}

impl Cluster {
    fn config(&self, id: u64, levels: Levels) -> Config {
        let mut layers = Layers::defaults();
        let peers: Vec<String> = (1..).zip(&self.endpoints).map(|(id, address)| format!("{id}={address}")).collect();
        let grpc = &self.endpoints[usize::try_from(id - 1).expect("small")];
        for (name, value) in [
            ("node_id", id.to_string()),
            ("data_dir", self.folder.path().join(id.to_string()).display().to_string()),
            ("grpc", grpc.clone()),
            ("http", free_address()),
            ("peers", peers.join(",")),
            ("shards", "2".to_owned()),
            ("heartbeat_ms", "100".to_owned()),
            ("election_ms_min", "500".to_owned()),
            ("election_ms_max", "1000".to_owned()),
            ("block_cache_mib", "16".to_owned()),
            ("write_buffer_mib", "8".to_owned()),
            ("disk_low_water_mib", "0".to_owned()),
            ("disk_ballast_mib", "0".to_owned()),
        ] {
            layers.add_flag(name, &value);
        }
        Config { levels, ..Config::from_layers(&layers).expect("a good configuration") }
    }

    async fn start(&mut self, id: u64, levels: Levels) -> Result<()> {
        let daemon = Daemon::start(self.config(id, levels)).await?;
        self.nodes[usize::try_from(id - 1).expect("small")] = Some(daemon);
        Ok(())
    }

    async fn stop(&mut self, id: u64) {
        let daemon = self.nodes[usize::try_from(id - 1).expect("small")].take().expect("it runs");
        daemon.stop().await.expect("it stops");
    }

    async fn ready(&self) {
        for daemon in self.nodes.iter().flatten() {
            daemon.node().ready(PATIENCE).await.expect("every shard finds a leader");
        }
    }

    /// Runs the program against the first node: exit code, standard output, standard error.
    async fn cli(&self, args: &[&str]) -> (Option<i32>, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_keevo-cli"));
        command.env("KEEVO_ENDPOINTS", &self.endpoints[0]).args(args);
        let output = tokio::task::spawn_blocking(move || command.output()).await.expect("it runs").expect("it starts");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    }

    /// The first line of a node's file: the format of its folder.
    fn format(&self, id: u64) -> String {
        let path = self.folder.path().join(id.to_string()).join("node");
        let text = std::fs::read_to_string(path).expect("the node's file");
        text.lines().next().unwrap_or_default().to_owned()
    }
}

fn free_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound").to_string()
}

/// Somebody who writes one key after the other, each until it is acknowledged.
struct Writer {
    engine: RemoteEngine,
    keyspace: Keyspace,
    written: Arc<AtomicU32>,
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
}

impl Writer {
    async fn start(endpoints: Vec<String>) -> Self {
        let options = ClientOptions { deadline: Duration::from_secs(20), ..ClientOptions::default() };
        let engine = RemoteEngine::connect(endpoints, options).await.expect("connected");
        let keyspace = engine.keyspace("upgrade", KeyspaceKind::Hashed).await.expect("a keyspace");
        let (written, stop) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicBool::new(false)));
        let (writes, count, end) = (engine.clone(), Arc::clone(&written), Arc::clone(&stop));
        let task = tokio::spawn(async move {
            for number in 0.. {
                if end.load(Ordering::Relaxed) {
                    return;
                }
                let key = keyspace.key(format!("p{}", number % 16), number.to_string());
                writes.write(Batch::new().put(key, number.to_string())).await.expect("no write fails");
                count.store(number + 1, Ordering::Relaxed);
            }
        });
        Self { engine, keyspace, written, stop, task }
    }

    /// Waits until it has written so many keys more.
    async fn goes_on(&self, more: u32) {
        let goal = self.written.load(Ordering::Relaxed) + more;
        let wait = async {
            while self.written.load(Ordering::Relaxed) < goal {
                assert!(!self.task.is_finished(), "a write has failed");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("writes go on");
    }

    /// Ends it, and reads back all that was acknowledged.
    async fn end(self) -> u32 {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("no write has failed");
        let written = self.written.load(Ordering::Relaxed);
        for number in 0..written {
            let key = self.keyspace.key(format!("p{}", number % 16), number.to_string());
            let read = self.engine.get(key, Consistency::Linearizable).await.expect("read").expect("it is there");
            assert_eq!(read.value, number.to_string());
        }
        written
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn cluster_a_rolling_upgrade_under_load_ends_by_finalize_and_shuts_the_old_release_out() {
    let endpoints: Vec<String> = (0..3).map(|_| free_address()).collect();
    let folder = tempfile::tempdir().expect("a folder");
    let mut cluster = Cluster { folder, endpoints, nodes: [None, None, None] };
    for id in 1..=3 {
        cluster.start(id, OLD).await.expect("it starts");
    }
    cluster.ready().await;
    let writer = Writer::start(cluster.endpoints.clone()).await;
    writer.goes_on(20).await;
    let (code, out, _) = cluster.cli(&["cluster", "upgrade"]).await;
    assert!(code == Some(0) && out.contains("at level 1, the newest that its nodes know"), "{out}");

    // Node after node comes back with the new release; until the last one has, nothing can be finalized.
    for id in 1..=2 {
        cluster.stop(id).await;
        cluster.start(id, NEW).await.expect("it starts");
        cluster.ready().await;
        writer.goes_on(20).await;
    }
    let (code, out, _) = cluster.cli(&["cluster", "upgrade"]).await;
    assert!(code == Some(0) && out.contains("in the way: node 3 runs"), "{out}");
    let (code, _, said) = cluster.cli(&["cluster", "upgrade", "--finalize", "--yes"]).await;
    assert_eq!(code, Some(5), "{said}");
    assert!(said.contains("CONFLICT: the cluster stays at level 1: node 3 runs"), "{said}");
    assert_eq!(cluster.format(1), "keevo node 1", "an older release can still be put back");

    cluster.stop(3).await;
    let (code, _, said) = cluster.cli(&["cluster", "upgrade", "--finalize", "--yes"]).await;
    assert!(code == Some(5) && said.contains("node 3 does not answer"), "{said}");
    cluster.start(3, NEW).await.expect("it starts");
    cluster.ready().await;
    let (code, _, said) = cluster.cli(&["cluster", "upgrade", "--finalize"]).await;
    assert!(code == Some(2) && said.contains("no terminal to ask at"), "{said}");
    let (code, out, _) = cluster.cli(&["cluster", "upgrade", "--finalize", "--dry-run"]).await;
    assert!(code == Some(0) && out.contains("raise the cluster from level 1 to 2 for good"), "{out}");
    assert_eq!(cluster.format(1), "keevo node 1", "nothing was done");
    let (code, out, said) = cluster.cli(&["cluster", "upgrade", "--finalize", "--yes"]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(out.contains("at level 2, the newest"), "{out}");
    writer.goes_on(20).await;

    // Every folder says so soon, and an older release opens none of them.
    let noted = async {
        while (1..=3).any(|id| cluster.format(id) != "keevo node 2") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, noted).await.expect("every node hears of the level");
    cluster.stop(3).await;
    let refused = cluster.start(3, OLD).await.expect_err("it is too old");
    assert_eq!(refused.kind(), ErrorKind::NewerFormat);
    assert!(refused.message().contains("it is too old; install the release that the other nodes run"), "{refused}");

    let written = writer.end().await;
    assert!(written >= 80, "{written}");
    for daemon in cluster.nodes.into_iter().flatten() {
        daemon.stop().await.expect("it stops");
    }
}
