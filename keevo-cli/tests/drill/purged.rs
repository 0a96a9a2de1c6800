//! More calls are made than a log keeps: those that it has purged are read from its archive, each once.

use std::path::Path;
use std::time::Duration;

use futures::StreamExt;
use keevo_core::{Batch, Engine, KeyspaceKind};
use serde_json::Value;

use super::lab::{Cluster, Found};

/// Writes, more than a shard keeps entries; how many are under way at once; the bytes of each.
const WRITES: u64 = 13_000;
const AT_ONCE: usize = 128;
const VALUE: [u8; 100] = [b'v'; 100];
/// How often and how many times it is looked whether the log was purged.
const LOOK_EVERY: Duration = Duration::from_millis(500);
const LOOKS_MAX: usize = 60;

/// How many calls of a method there are.
fn count(stats: &Value, method: &str) -> u64 {
    let methods = stats.get("methods").and_then(Value::as_array).cloned().unwrap_or_default();
    let of = |one: &Value| {
        let named = one.get("method").and_then(Value::as_str) == Some(method);
        named.then(|| one.get("calls").and_then(Value::as_u64)).flatten()
    };
    methods.iter().filter_map(of).sum()
}

/// Runs the case in a folder.
pub(crate) fn run(folder: &Path) -> Found {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let cluster = Cluster::start(&folder.join("node"), 1, 1, &folder.join("storage"));
    runtime.block_on(async {
        let engine = cluster.client().await;
        let space = engine.keyspace("purged", KeyspaceKind::Hashed).await.expect("made");
        let writes = (0..WRITES).map(|number| {
            let key = space.key(format!("p{}", number % 500), format!("k{number}"));
            engine.write(Batch::new().put(key, &VALUE[..]))
        });
        let written = futures::stream::iter(writes).buffer_unordered(AT_ONCE);
        written.for_each(async |written| drop(written.expect("written"))).await;
    });
    let mut found = Found::default();
    let mut purged = false;
    for _ in 0..LOOKS_MAX {
        let (_, _, said) = cluster.cli(&["apilog", "tail", "-n", "1"]);
        purged = said.contains("shard 1: the log begins at entry");
        if purged {
            break;
        }
        std::thread::park_timeout(LOOK_EVERY);
    }
    found.compare("whether the log was purged", &purged, &true);
    let stats = cluster.json(&["apilog", "stats"]);
    found.compare("the writes that the API log has", &count(&stats, "keevo.kv.v1.Kv/Write"), &WRITES);
    found.compare("the keyspaces that were made", &count(&stats, "keevo.kv.v1.Kv/Keyspace"), &1);
    let recent = cluster.json(&["apilog", "stats", "--from", "1h"]);
    found.compare("the writes of the last hour", &count(&recent, "keevo.kv.v1.Kv/Write"), &WRITES);
    found.figures.push(format!("{WRITES} calls found, though the log begins behind the first of them"));
    cluster.stop();
    found
}
