//! Feeds and chat, unchanged, on a cluster of three and over the network: the layers' own suites. And three daemons
//! behind `RemoteEngine`: their errors, their rejoining, equal hashes.

#![allow(clippy::indexing_slicing, reason = "a test may panic where it is wrong")]

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use keevo_client::{ClientOptions, RemoteEngine};
use keevo_core::{Batch, Consistency, Engine, ErrorKind, KeyspaceKind};
use keevo_raft::testing::cluster::TestCluster;
use keevo_server::config::{Config, Layers};
use keevo_server::daemon::Daemon;

/// Free addresses on loopback, all different.
fn free_addresses(count: usize) -> Vec<SocketAddr> {
    let held: Vec<TcpListener> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
    held.iter().map(|listener| listener.local_addr().expect("an address")).collect()
}

fn config(dir: &Path, id: usize, grpc: &[SocketAddr], http: &[SocketAddr]) -> Config {
    let peers: Vec<String> = grpc.iter().enumerate().map(|(at, address)| format!("{}={address}", at + 1)).collect();
    let mut layers = Layers::defaults();
    for (name, value) in [
        ("node_id", id.to_string()),
        ("data_dir", dir.join(id.to_string()).display().to_string()),
        ("grpc", grpc[id - 1].to_string()),
        ("http", http[id - 1].to_string()),
        ("peers", peers.join(",")),
        ("shards", "4".to_owned()),
        ("heartbeat_ms", "100".to_owned()),
        ("election_ms_min", "500".to_owned()),
        ("election_ms_max", "1000".to_owned()),
        ("block_cache_mib", "16".to_owned()),
        ("write_buffer_mib", "16".to_owned()),
    ] {
        layers.add_flag(name, &value);
    }
    Config::from_layers(&layers).expect("a good configuration")
}

/// Three daemons in this process.
struct Trio {
    daemons: Vec<Option<Daemon>>,
    configs: Vec<Config>,
    grpc: Vec<SocketAddr>,
}

impl Trio {
    async fn start(dir: &Path) -> Self {
        let (grpc, http) = (free_addresses(3), free_addresses(3));
        let configs: Vec<Config> = (1..=3).map(|id| config(dir, id, &grpc, &http)).collect();
        let mut daemons = Vec::new();
        for config in &configs {
            daemons.push(Some(Daemon::start(config.clone()).await.expect("the daemon starts")));
        }
        let trio = Self { daemons, configs, grpc };
        trio.ready().await;
        trio
    }

    async fn ready(&self) {
        for daemon in self.daemons.iter().flatten() {
            daemon.node().ready(Duration::from_secs(30)).await.expect("every shard finds a leader");
        }
    }

    async fn client(&self) -> RemoteEngine {
        let addresses = self.grpc.iter().map(ToString::to_string).collect();
        RemoteEngine::connect(addresses, ClientOptions::default()).await.expect("connected")
    }

    async fn stop(mut self) {
        for daemon in self.daemons.drain(..).flatten() {
            daemon.stop().await.expect("the daemon stops");
        }
    }
}

/// Starts a daemon on the folder of one that has just stopped in this process: its last tasks may still let go of it.
async fn start_again(config: &Config) -> Daemon {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        match Daemon::start(config.clone()).await {
            Ok(daemon) => return daemon,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
                assert!(tokio::time::Instant::now() < deadline, "the folder is not let go of: {error}");
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cluster_feeds_suite_on_three_nodes() {
    let dir = tempfile::tempdir().expect("a folder");
    let cluster = TestCluster::start(dir.path(), 3, 4).await;
    keevo_feeds::testing::suite(cluster.engine(1)).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cluster_chat_suite_on_three_nodes() {
    let dir = tempfile::tempdir().expect("a folder");
    let cluster = TestCluster::start(dir.path(), 3, 4).await;
    keevo_chat::testing::suite(cluster.engine(2)).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cluster_feeds_suite_over_the_network() {
    let dir = tempfile::tempdir().expect("a folder");
    let trio = Trio::start(dir.path()).await;
    keevo_feeds::testing::suite(trio.client().await).await;
    trio.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cluster_chat_suite_over_the_network() {
    let dir = tempfile::tempdir().expect("a folder");
    let trio = Trio::start(dir.path()).await;
    keevo_chat::testing::suite(trio.client().await).await;
    trio.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cluster_goes_on_without_a_node_which_comes_back_equal() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut trio = Trio::start(dir.path()).await;
    let engine = trio.client().await.with_deadline(Duration::from_secs(20));
    let keyspace = engine.keyspace("counters", KeyspaceKind::Hashed).await.expect("a keyspace");
    let count = |number: u32| Batch::new().merge(keyspace.key(format!("p{}", number % 20), "sum"), 1);
    for number in 0..100 {
        engine.write(count(number)).await.expect("written");
    }
    trio.daemons[0].take().expect("it runs").stop().await.expect("it stops");
    for number in 0..100 {
        engine.write(count(number)).await.expect("written by the other two");
    }
    trio.daemons[0] = Some(start_again(&trio.configs[0]).await);
    trio.ready().await;
    let mut total = 0;
    for partition in 0..20 {
        let key = keyspace.key(format!("p{partition}"), "sum");
        let record = engine.get(key, Consistency::Linearizable).await.expect("read").expect("there");
        total += i64::from_be_bytes(record.value.as_ref().try_into().expect("8 bytes"));
    }
    assert_eq!(total, 200, "every acknowledged write once");
    let mut admin = engine.admin().await.expect("an admin client");
    let answer =
        admin.checksum(keevo_proto::admin::v1::ChecksumRequest::default()).await.expect("checksums").into_inner();
    assert_eq!(answer.replicas.len(), 15, "five shards, three replicas each");
    for shard in 0..=4 {
        let hashes: std::collections::BTreeSet<u64> = answer
            .replicas
            .iter()
            .filter(|one| one.shard == shard)
            .map(|one| one.checksum.as_ref().expect("a checksum").hash)
            .collect();
        assert_eq!(hashes.len(), 1, "shard {shard}: {:?}", answer.replicas);
    }
    trio.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cluster_daemon_refuses_a_taken_port_and_a_foreign_folder() {
    let dir = tempfile::tempdir().expect("a folder");
    let trio = Trio::start(dir.path()).await;
    let taken = Daemon::start(trio.configs[0].clone()).await.expect_err("the port is taken");
    assert_eq!(taken.kind(), ErrorKind::AddressInUse);
    let (grpc, http) = (free_addresses(3), free_addresses(3));
    let mut foreign = config(dir.path(), 2, &grpc, &http);
    foreign.data_dir = dir.path().join("3");
    let refused = Daemon::start(foreign).await.expect_err("the folder of another node");
    assert_eq!(refused.kind(), ErrorKind::WrongCluster);
    trio.stop().await;
}
