//! Clusters of daemons in this process, and the program as it is called from a terminal.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use keevo_client::{ClientOptions, RemoteEngine};
use keevo_server::config::{Config, Layers};
use keevo_server::daemon::Daemon;
use tokio::runtime::Runtime;

const PATIENCE: Duration = Duration::from_mins(1);

/// A cluster, each of whose nodes has a runtime of its own, so that it can be killed.
pub(crate) struct Cluster {
    nodes: Vec<(Runtime, Daemon)>,
    pub(crate) endpoints: Vec<String>,
    folder: PathBuf,
}

impl Cluster {
    /// Starts `nodes` nodes with `shards` data shards below `folder`, which keep archive and backups in `storage`.
    pub(crate) fn start(folder: &Path, nodes: usize, shards: u32, storage: &Path) -> Self {
        let endpoints: Vec<String> = (0..nodes).map(|_| free_address()).collect();
        let peers: Vec<String> = (1..).zip(&endpoints).map(|(id, address)| format!("{id}={address}")).collect();
        let nodes: Vec<(Runtime, Daemon)> = (1..)
            .zip(&endpoints)
            .map(|(id, grpc)| {
                let config = config(&folder.join(id.to_string()), id, grpc, &peers.join(","), shards, storage);
                let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
                let runtime = runtime.expect("a runtime");
                let daemon = runtime.block_on(Daemon::start(config)).expect("it starts");
                (runtime, daemon)
            })
            .collect();
        for (runtime, daemon) in &nodes {
            runtime.block_on(daemon.node().ready(PATIENCE)).expect("every shard finds a leader");
        }
        Self { nodes, endpoints, folder: folder.to_owned() }
    }

    /// A client of the cluster.
    pub(crate) async fn client(&self) -> RemoteEngine {
        let options = ClientOptions { deadline: Duration::from_secs(20), ..ClientOptions::default() };
        RemoteEngine::connect(self.endpoints.clone(), options).await.expect("connected")
    }

    /// Runs the program: exit code, standard output, standard error.
    pub(crate) fn cli(&self, args: &[&str]) -> (Option<i32>, String, String) {
        let mut command = Command::new(program());
        command.env("KEEVO_ENDPOINTS", self.endpoints.join(",")).env("KEEVO_YES", "1").args(args);
        let output = command.output().expect("the program starts");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    }

    /// What a command that works writes.
    #[track_caller]
    pub(crate) fn done(&self, args: &[&str]) -> String {
        let (code, out, said) = self.cli(args);
        assert_eq!(code, Some(0), "{args:?}: {out} {said}");
        out
    }

    /// Stops everything at once, and removes what it had on its disks.
    pub(crate) fn destroy(self) {
        for (runtime, daemon) in self.nodes {
            runtime.shutdown_background();
            // Its parts let go of their files when their tasks have ended; the files are removed under them.
            drop(daemon);
        }
        let gone = std::fs::remove_dir_all(&self.folder);
        // What still writes there makes it fail; nobody reads it again.
        drop(gone);
    }

    /// Stops it in order.
    pub(crate) fn stop(self) {
        for (runtime, daemon) in self.nodes {
            runtime.block_on(daemon.stop()).expect("it stops");
        }
    }
}

/// The program, which lies beside the folder of what runs this.
fn program() -> PathBuf {
    let this = std::env::current_exe().expect("a path");
    let built = this.parent().and_then(Path::parent).expect("the folder of the build");
    built.join("keevo-cli")
}

fn config(dir: &Path, id: u64, grpc: &str, peers: &str, shards: u32, storage: &Path) -> Config {
    let mut layers = Layers::defaults();
    for (name, value) in [
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
        ("archive_url", storage.display().to_string()),
        ("archive_every_ms", "200".to_owned()),
    ] {
        layers.add_flag(name, &value);
    }
    Config::from_layers(&layers).expect("a good configuration")
}

fn free_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound").to_string()
}
