//! Sinks end to end: three daemons, a broker that speaks Kafka's protocol, and the program as it is called from a terminal.

#![allow(clippy::indexing_slicing, reason = "a test may panic where it is wrong")]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use keevo_client::{ClientOptions, RemoteEngine};
use keevo_core::{Batch, Engine, KeyspaceKind};
use keevo_server::config::{Config, Layers};
use keevo_server::daemon::Daemon;
use krafka::testing::FakeBroker;
use serde_json::Value;
use tokio::runtime::Runtime;

const PASSWORD: &str = "hush-hush";
const PATIENCE: Duration = Duration::from_mins(1);

/// A cluster, each of whose nodes has a runtime of its own, so that it can be killed.
struct Cluster {
    nodes: Vec<Option<(Runtime, Daemon)>>,
    endpoints: Vec<String>,
}

fn free_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound").to_string()
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

impl Cluster {
    fn start(folder: &Path) -> Self {
        let endpoints: Vec<String> = (0..3).map(|_| free_address()).collect();
        let peers: Vec<String> = (1..).zip(&endpoints).map(|(id, address)| format!("{id}={address}")).collect();
        let start = |(id, grpc): (u64, &String)| {
            let mut layers = Layers::defaults();
            for (name, value) in [
                ("node_id", id.to_string()),
                ("data_dir", folder.join(id.to_string()).display().to_string()),
                ("sinks_dir", folder.join("lines").display().to_string()),
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
            let runtime = runtime();
            let config = Config::from_layers(&layers).expect("a good configuration");
            let daemon = runtime.block_on(Daemon::start(config)).expect("it starts");
            Some((runtime, daemon))
        };
        let nodes: Vec<_> = (1..).zip(&endpoints).map(start).collect();
        for (runtime, daemon) in nodes.iter().flatten() {
            runtime.block_on(daemon.node().ready(PATIENCE)).expect("every shard finds a leader");
        }
        Self { nodes, endpoints }
    }

    /// Ends a node at once, as a lost process does.
    fn kill(&mut self, id: usize) {
        if let Some((runtime, daemon)) = self.nodes[id - 1].take() {
            runtime.shutdown_background();
            drop(daemon);
        }
    }

    fn stop(self) {
        for (runtime, daemon) in self.nodes.into_iter().flatten() {
            drop(runtime.block_on(daemon.stop()));
        }
    }

    fn cli(&self, args: &[&str]) -> (Option<i32>, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_keevo-cli"));
        command.env("KEEVO_ENDPOINTS", self.endpoints.join(",")).env("KEEVO_SASL_PASSWORD", PASSWORD).args(args);
        let output = command.output().expect("the program starts");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    }

    /// What a command that works writes.
    #[track_caller]
    fn done(&self, args: &[&str]) -> String {
        let (code, out, said) = self.cli(args);
        assert_eq!(code, Some(0), "{args:?}: {out} {said}");
        assert!(!out.contains(PASSWORD) && !said.contains(PASSWORD), "{args:?} shows the password: {out} {said}");
        out
    }

    fn show(&self, name: &str) -> Value {
        serde_json::from_str(&self.done(&["sink", "show", name, "--output", "json"])).expect("JSON")
    }

    /// Waits until a sink is as wanted; nodes may be electing meanwhile.
    #[track_caller]
    fn until(&self, name: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let waiting = runtime();
        let mut last = Value::Null;
        for _ in 0..200 {
            let (code, out, _) = self.cli(&["sink", "show", name, "--output", "json"]);
            if code == Some(0) {
                last = serde_json::from_str(&out).expect("JSON");
                if wanted(&last) {
                    return last;
                }
            }
            waiting.block_on(async { tokio::time::sleep(Duration::from_millis(200)).await });
        }
        panic!("waited in vain until {what}: {last:#}");
    }
}

async fn write(client: &RemoteEngine, numbers: std::ops::Range<usize>) {
    let keyspace = client.keyspace("orders", KeyspaceKind::Hashed).await.expect("a keyspace");
    for number in numbers {
        let key = keyspace.key(format!("p{}", number % 11), number.to_string());
        client.write(Batch::new().put(key, format!("v{number}"))).await.expect("written");
    }
}

/// The values of records or lines, each once; and how many there were.
fn values<'a>(lines: impl Iterator<Item = &'a [u8]>) -> (BTreeSet<usize>, usize) {
    let mut all = 0;
    let mut seen = BTreeSet::new();
    for line in lines {
        let line: Value = serde_json::from_slice(line).expect("JSON");
        all += 1;
        seen.insert(line["value"].as_str().expect("text").trim_start_matches('v').parse().expect("a number"));
    }
    (seen, all)
}

#[test]
fn cluster_a_sink_tells_each_change_once_although_its_node_is_killed() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut cluster = Cluster::start(folder.path());
    let ours = runtime();
    let broker = ours.block_on(FakeBroker::start()).expect("a broker");
    broker.create_topic("orders", 3);
    broker.require_sasl_plain("keevo", PASSWORD);
    let options = ClientOptions { deadline: Duration::from_secs(20), ..ClientOptions::default() };
    let client = ours.block_on(RemoteEngine::connect(cluster.endpoints.clone(), options)).expect("connected");
    ours.block_on(write(&client, 0..50));

    let brokers = broker.bootstrap_servers();
    let kafka = ["--kafka", &brokers, "--topic", "orders", "--sasl-user", "keevo", "--sasl-mechanism", "PLAIN"];
    let create = ["sink", "create", "kafka", "--keyspace", "orders", "--from", "beginning"];
    let shown = cluster.done(&[&create[..], &kafka].concat());
    assert!(shown.contains("exactly once (transactions)"), "{shown}");
    cluster.done(&["sink", "create", "lines", "--keyspace", "orders", "--file"]);
    let (code, _, said) = cluster.cli(&["sink", "create", "lines", "--keyspace", "orders", "--stdout"]);
    assert_eq!(code, Some(5), "{said}");
    let (code, _, said) = cluster.cli(&["sink", "create", "none", "--keyspace", "nothing", "--stdout"]);
    assert!(code != Some(0) && said.contains("nothing"), "{said}");
    let status = cluster.until("kafka", "what was there is told", |sink| sink["told"] == 50);

    // The node that runs it is lost, with whatever it was doing.
    ours.block_on(write(&client, 50..120));
    let lost = usize::try_from(status["node"].as_u64().expect("a node")).expect("small");
    cluster.kill(lost);
    ours.block_on(write(&client, 120..200));
    let status = cluster.until("kafka", "the others go on", |sink| sink["told"] == 200 && sink["state"] == "running");
    assert!(status["node"].as_u64().is_some_and(|node| node != u64::try_from(lost).expect("small")), "{status:#}");
    let records = broker.committed_records("orders").expect("read");
    let (seen, all) = values(records.iter().filter_map(|record| record.value.as_deref()));
    assert_eq!((seen.len(), all), (200, 200), "each change once");

    // The broker is away: the lag is seen, and nothing is lost.
    broker.crash(0);
    ours.block_on(write(&client, 200..260));
    let status = cluster.until("kafka", "the failure is told", |sink| sink["failure"].is_object());
    assert!(status["lag"].as_u64().is_some_and(|lag| lag >= 60), "{status:#}");
    broker.restart(0);
    cluster.until("kafka", "it has caught up", |sink| sink["told"] == 260);
    let records = broker.committed_records("orders").expect("read");
    assert_eq!(values(records.iter().filter_map(|record| record.value.as_deref())), ((0..260).collect(), 260));

    cluster.until("lines", "the lines are written", |sink| sink["told"] == 210);
    let mut text = Vec::new();
    let mut folders = std::fs::read_dir(folder.path().join("lines")).expect("a folder");
    let lies = folders.next().expect("that of the sink").expect("an entry").path();
    assert!(lies.file_name().is_some_and(|name| name.to_string_lossy().starts_with("lines-")), "{lies:?}");
    for file in std::fs::read_dir(lies).expect("a folder") {
        text.extend(std::fs::read(file.expect("a file").path()).expect("read"));
    }
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    assert_eq!(values(lines), ((50..260).collect(), 210), "all nodes share the folder here");

    cluster.done(&["sink", "pause", "kafka"]);
    cluster.until("kafka", "it stands still", |sink| sink["state"] == "paused" && sink["node"].is_null());
    ours.block_on(write(&client, 260..270));
    assert_eq!(cluster.show("kafka")["told"], 260);
    cluster.done(&["sink", "resume", "kafka"]);
    cluster.until("kafka", "it goes on", |sink| sink["told"] == 270);
    let list = cluster.done(&["sink", "list"]);
    assert!(list.contains("kafka") && list.contains("lines") && list.contains("running"), "{list}");
    let planned = cluster.done(&["sink", "delete", "kafka", "--dry-run"]);
    assert!(planned.contains("would delete the sink kafka, which has told 270 changes"), "{planned}");
    cluster.done(&["sink", "delete", "kafka", "--yes"]);
    let (code, _, said) = cluster.cli(&["sink", "show", "kafka"]);
    assert!(code == Some(4) && said.contains("kafka"), "{said}");
    cluster.stop();
}
