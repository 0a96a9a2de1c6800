//! A node with `data_key_file`: nothing in its folder shows a value, keys are rotated while it serves, and a missing one stops
//! its start.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use keevo_client::{Access, RemoteEngine};
use keevo_core::key_file::{KeyFile, SecretKey};
use keevo_core::{Batch, Consistency, Engine, Keyspace, KeyspaceKind};
use keevo_proto::admin::v1 as pb;
use keevo_proto::admin::v1::admin_client::AdminClient;
use tokio::time::sleep;

use super::support::{Keevod, connect, free_addresses, keevod, patiently};

const SECRET: &str = "this-is-what-nobody-may-read";

/// Whether a file below a folder shows the secret.
fn shows(folder: &Path) -> bool {
    std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("read").path()).any(|path| {
        if path.is_dir() {
            return shows(&path);
        }
        std::fs::read(&path).expect("read").windows(SECRET.len()).any(|part| part == SECRET.as_bytes())
    })
}

async fn fill(engine: &RemoteEngine, keyspace: Keyspace, numbers: std::ops::Range<u32>) {
    for number in numbers {
        let batch = || Batch::new().put(keyspace.key(format!("p{number}"), "s"), format!("{SECRET} {number}"));
        patiently("a write", || engine.write(batch())).await;
    }
}

async fn check(engine: &RemoteEngine, keyspace: Keyspace, numbers: std::ops::Range<u32>) {
    for number in numbers {
        let read = || engine.get(keyspace.key(format!("p{number}"), "s"), Consistency::Linearizable);
        let record = patiently("a read", read).await.expect("it was written");
        assert_eq!(record.value, format!("{SECRET} {number}"));
    }
}

/// Compacts the whole data store of a node.
async fn compact(node: &Keevod) {
    let channel =
        Access::default().connect_lazy(&Access::default().endpoint(&node.grpc.to_string()).expect("an address"));
    let mut told = AdminClient::new(channel).compact(pb::CompactRequest::default()).await.expect("begun").into_inner();
    while told.message().await.expect("it goes on").is_some() {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_file_of_a_node_shows_a_value_and_a_missing_key_stops_its_start() {
    let (addresses, dir) = (free_addresses(2), tempfile::tempdir().expect("a folder"));
    let (keys, data): (PathBuf, PathBuf) = (dir.path().join("data.keys"), dir.path().join("data"));
    let mut file = KeyFile::new(SecretKey([1; 32]));
    let write = |file: &KeyFile| std::fs::write(&keys, file.text()).expect("written");
    let open = ["--replication-factor", "1", "--flush-every-ms", "200"].map(str::to_owned);
    let sealed = [&open[..], &["--data-key-file".to_owned(), keys.display().to_string()]].concat();
    write(&file);
    let start = |settings: &[String]| [Keevod::spawn(addresses[0], addresses[1], &data, settings)];

    let nodes = start(&sealed);
    let engine = connect(&nodes, Access::default()).await;
    let keyspace = patiently("a keyspace", || engine.keyspace("k", KeyspaceKind::Hashed)).await;
    fill(&engine, keyspace, 0..100).await;
    let log = nodes[0].log();
    assert!(log.contains("there is no search over messages"), "{log}");
    file.add(SecretKey([2; 32])).expect("room");
    write(&file);
    fill(&engine, keyspace, 100..200).await;
    check(&engine, keyspace, 0..200).await;
    sleep(Duration::from_secs(1)).await;
    drop(nodes);
    assert!(!shows(&data), "after it was killed");

    // Each of the two stores misses a key, whoever is opened first.
    let whole = file.clone();
    file.remove(1).expect("there");
    write(&file);
    let refusal = |settings: &[String]| {
        let mut command = keevod(addresses[0], addresses[1], &data, settings);
        let output = command.stderr(Stdio::piped()).output().expect("keevod starts");
        (output.status.code(), String::from_utf8(output.stderr).expect("text"))
    };
    let (code, said) = refusal(&sealed);
    assert!(code == Some(2) && said.contains("key 1") && said.contains(&keys.display().to_string()), "{said}");
    let (code, said) = refusal(&open);
    assert!(code == Some(2) && said.contains("data_key_file"), "{said}");

    // With all keys it goes on; a restart, a compaction and some writes later the old one is not needed.
    write(&whole);
    let nodes = start(&sealed);
    let engine = connect(&nodes, Access::default()).await;
    check(&engine, keyspace, 0..200).await;
    compact(&nodes[0]).await;
    fill(&engine, keyspace, 200..260).await;
    sleep(Duration::from_secs(1)).await;
    drop(nodes);
    write(&file);
    let nodes = start(&sealed);
    let engine = connect(&nodes, Access::default()).await;
    check(&engine, keyspace, 0..260).await;
    drop(nodes);
    assert!(!shows(&data), "at the end");
}
