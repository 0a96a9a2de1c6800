//! The program looks at a running node: one picture of `top`, and the archive of `debug zip`, in which no secret may be.

use std::fs::File;
use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;

use keevo_server::config::{Config, Layers};
use keevo_server::daemon::Daemon;
use keevo_server::observe::RecentLog;
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use zip::ZipArchive;

const PASSWORD: &str = "hunter2hunter2";
const ADMIN_KEY: &str = "an-admin-key-of-the-test-with-32-bytes";
const APP_SECRET: &str = "app-secret-of-the-test";
const TOKEN: &str = "eyJhbGciOiJIUzI1NiJ9.eyJ1c2VyX2lkIjoiYWxpY2UifQ.c2lnbmF0dXJl";
const VALUE: &str = "a-value-that-nobody-else-may-see";

fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound").to_string()
}

/// A node alone that asks callers who they are.
struct Node {
    runtime: Runtime,
    daemon: Option<Daemon>,
    endpoint: String,
    folder: TempDir,
}

impl Node {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let key = folder.path().join("admin.key");
        std::fs::write(&key, ADMIN_KEY).expect("written");
        let mut layers = Layers::defaults();
        for (name, value) in [
            ("data_dir", folder.path().join("data").display().to_string()),
            ("grpc", free_address()),
            ("http", free_address()),
            ("shards", "2".to_owned()),
            ("replication_factor", "1".to_owned()),
            ("heartbeat_ms", "100".to_owned()),
            ("election_ms_min", "500".to_owned()),
            ("election_ms_max", "1000".to_owned()),
            ("block_cache_mib", "16".to_owned()),
            ("write_buffer_mib", "16".to_owned()),
            ("auth", "true".to_owned()),
            ("auth_admin_key_file", key.display().to_string()),
            ("files_url", format!("https://files:{PASSWORD}@files.example.org/a")),
        ] {
            layers.add_flag(name, &value);
        }
        let config = Config::from_layers(&layers).expect("a good configuration");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let daemon = runtime.block_on(async {
            let daemon = Daemon::start(config).await.expect("it starts");
            daemon.node().ready(Duration::from_secs(30)).await.expect("every shard finds a leader");
            daemon
        });
        let endpoint = daemon.grpc().to_string();
        Self { runtime, daemon: Some(daemon), endpoint, folder }
    }

    /// Runs the program with a key, or without: exit code, standard output, standard error.
    fn cli(&self, key: Option<&str>, args: &[&str]) -> (Option<i32>, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_keevo-cli"));
        command.env_clear().env("KEEVO_ENDPOINTS", &self.endpoint).env("KEEVO_APP_SECRET", APP_SECRET).args(args);
        if let Some(key) = key {
            command.env("KEEVO_API_KEY", key);
        }
        let output = command.output().expect("the program starts");
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    }

    #[track_caller]
    fn done(&self, args: &[&str]) -> String {
        let (code, out, said) = self.cli(Some(ADMIN_KEY), args);
        assert_eq!(code, Some(0), "{args:?}: {said}");
        out
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            drop(self.runtime.block_on(daemon.stop()));
        }
    }
}

#[test]
fn cluster_top_takes_one_picture_as_text_and_as_json() {
    let node = Node::start();
    node.done(&["kv", "put", "user/alice", VALUE]);
    let text = node.done(&["top", "--once", "--interval", "500ms", "--width", "140"]);
    for part in ["1/1 nodes up", " nodes, by id ", " shards ", node.endpoint.as_str(), "q quit"] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    assert!(!text.contains("NONE") && !text.contains('\u{1b}'), "{text}");
    let json = node.done(&["top", "--once", "--interval", "100ms", "--output", "json"]);
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["nodes"][0]["state"], "up");
    assert_eq!(json["shards"].as_array().map(Vec::len), Some(3), "the meta group and two");
    assert!(json["nodes"][0]["memory_bytes"].as_f64().is_some_and(|bytes| bytes > 1e6), "{json}");
    assert!(json["shards"][1]["entries_per_s"]["flushed"].is_number(), "{json}");
    // Without a terminal there is no live view, and without rights there is no view at all.
    let (code, _, said) = node.cli(Some(ADMIN_KEY), &["top"]);
    assert!(code == Some(2) && said.contains("--once"), "{code:?} {said}");
    let (code, _, said) = node.cli(None, &["top", "--once"]);
    assert!(code != Some(0) && said.contains("UNAUTHENTICATED"), "{code:?} {said}");
}

#[test]
fn top_names_a_node_that_is_away() {
    let address = free_address();
    let mut command = Command::new(env!("CARGO_BIN_EXE_keevo-cli"));
    let output = command.env("KEEVO_ENDPOINTS", &address).args(["top", "--once"]).output().expect("it starts");
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(6), "{said}");
    assert!(said.contains(&format!("no node can be reached at {address}")), "{said}");
}

#[test]
fn cluster_debug_zip_holds_what_helps_and_no_secret() {
    let node = Node::start();
    node.done(&["kv", "put", "user/alice", VALUE]);
    let app = node.done(&["app", "create", "shop", "--key", "shop-1"]);
    node.done(&["auth", "role", "set", "looker", "--allow", "read kv:default"]);
    let made = node.done(&["auth", "key", "create", "--role", "looker", "--output", "json"]);
    let made: Value = serde_json::from_str(&made).expect("JSON");
    let secret = made.as_object().and_then(|made| made.values().find_map(|one| one.as_str()?.strip_prefix("keevo_")));
    let secret = format!("keevo_{}", secret.expect("a key"));
    // Careless lines: nothing in Keevo writes such.
    let log = RecentLog::of_process();
    log.push(&format!("a caller came with authorization: Bearer {TOKEN} and left"));
    log.push(&format!("a caller came with {secret}, which is good"));
    let path = node.folder.path().join("out.zip");
    let said = node.done(&["debug", "zip", &path.display().to_string()]);
    assert!(said.contains("parts") && !said.contains("could not"), "{app} {said}");
    let mut archive = ZipArchive::new(File::open(&path).expect("there")).expect("an archive");
    let mut all = Vec::new();
    for index in 0..archive.len() {
        let file = archive.by_index(index).expect("in it");
        let name = file.name().expect("UTF-8").into_owned();
        all.push((name, std::io::read_to_string(file).expect("text")));
    }
    let part = |name: &str| {
        let found = all.iter().find(|(path, _)| path == name);
        found.map_or_else(|| panic!("{name} is missing"), |(_, text)| text.as_str())
    };
    let manifest: Value = serde_json::from_str(part("manifest.json")).expect("JSON");
    assert_eq!(manifest["missing"], serde_json::json!([]));
    assert_eq!(manifest["files"].as_array().map(Vec::len), Some(all.len() - 1), "all but itself");
    assert!(part("nodes/1/settings.txt").contains("auth_admin_key_file"));
    assert!(part("nodes/1/settings.txt").contains("https://[redacted]@files.example.org/a"));
    assert!(part("nodes/1/metrics.txt").contains("keevo_ready 1"));
    assert!(part("nodes/1/log.txt").contains("a caller came with"));
    assert!(part("doctor.txt").contains("Sync median"));
    assert!(part("cluster.json").contains("applied_index") && part("shards.json").contains("start_key"));
    let key = std::fs::read_to_string(node.folder.path().join("admin.key")).expect("there");
    for (name, text) in &all {
        for secret in [key.as_str(), secret.as_str(), PASSWORD, APP_SECRET, TOKEN, VALUE] {
            assert!(!text.contains(secret), "{name} holds {secret}:\n{text}");
        }
    }
    let (code, _, again) = node.cli(Some(ADMIN_KEY), &["debug", "zip", &path.display().to_string()]);
    assert!(code == Some(2) && again.contains("is there already"), "{code:?} {again}");
}
