//! A cluster of three nodes is loaded and backed up while it serves, goes on, and is destroyed; a cluster of one node and
//! other shards gets back what it was at a moment, and is compared with a model, key by key.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use keevo_client::RemoteEngine;
use keevo_core::{Batch, Clock, Consistency, Engine, Keyspace, KeyspaceKind, Record, SystemClock};
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use super::lab::{self, Cluster, Found};

/// Keys that are written in rounds.
const KEYS: u32 = 120;
/// Writers that never pause.
const WRITERS: u32 = 4;

/// The pause of each between two writes.
const PAUSE: Duration = Duration::from_millis(8);
/// How many keys are read at once.
const PAGE: usize = 200;

/// A write of a writer that never pauses: when it was sent and answered, in milliseconds since the epoch.
#[derive(Debug, Clone)]
struct Write {
    key: String,
    sent_ms: u64,
    answered_ms: u64,
}

fn now_ms() -> u64 {
    SystemClock::new().now_ms()
}

fn key_of(number: u32) -> (String, String) {
    (format!("p{}", number % 50), format!("k{number}"))
}

/// Writes, overwrites and deletes keys, and brings the model along.
async fn round(engine: &RemoteEngine, space: Keyspace, round: u32, model: &mut BTreeMap<u32, String>) {
    for number in (0..KEYS).filter(|number| !(number + round).is_multiple_of(3)) {
        let (partition, sort) = key_of(number);
        let key = space.key(partition, sort);
        if (number + round).is_multiple_of(7) {
            engine.write(Batch::new().delete(key)).await.expect("deleted");
            model.remove(&number);
        } else {
            let value = format!("{round}/{number}");
            engine.write(Batch::new().put(key, value.clone())).await.expect("written");
            model.insert(number, value);
        }
    }
}

/// Writes key after key until `stop`.
async fn keep_writing(engine: RemoteEngine, space: Keyspace, writer: u32, stop: CancellationToken) -> Vec<Write> {
    let mut all = Vec::new();
    while !stop.is_cancelled() {
        let key = format!("w{writer}-{}", all.len());
        let sent_ms = now_ms();
        engine.write(Batch::new().put(space.key(key.clone(), "s"), key.clone())).await.expect("written");
        all.push(Write { key, sent_ms, answered_ms: now_ms() });
        tokio::time::sleep(PAUSE).await;
    }
    all
}

/// What lies at partitions and sort keys.
async fn values(engine: &RemoteEngine, space: Keyspace, places: Vec<(String, String)>) -> Vec<Option<String>> {
    let mut found = Vec::new();
    for page in places.chunks(PAGE) {
        let keys = page.iter().map(|(partition, sort)| space.key(partition.clone(), sort.clone())).collect();
        let records = engine.multi_get(keys, Consistency::Linearizable).await.expect("read");
        let text = |record: Record| String::from_utf8_lossy(&record.value).into_owned();
        found.extend(records.into_iter().map(|record| record.map(text)));
    }
    found
}

/// What was so at the moment, as the clients know it.
struct Model {
    keys: BTreeMap<u32, String>,
    sent: Vec<Write>,
    moment_ms: u64,
}

impl Model {
    async fn compare(&self, engine: &RemoteEngine) -> Found {
        let mut found = Found::default();
        let space = engine.find_keyspace("drill").await.expect("the keyspace came along");
        let numbers: Vec<u32> = (0..KEYS).collect();
        let places = numbers.iter().map(|number| key_of(*number)).collect();
        for (number, there) in numbers.iter().zip(values(engine, space, places).await) {
            let expected = self.keys.get(number).cloned();
            found.compared += 1;
            if expected != there {
                found.differences.push(format!("key {number} is {there:?}, not {expected:?}"));
            }
        }
        let places = self.sent.iter().map(|one| (one.key.clone(), "s".to_owned())).collect();
        for (one, there) in self.sent.iter().zip(values(engine, space, places).await) {
            // What was under way at the moment may be there or not.
            let must = one.answered_ms < self.moment_ms;
            let may = one.sent_ms <= self.moment_ms;
            found.compared += 1;
            let is_whole = there.as_ref().is_none_or(|value| *value == one.key);
            if (must && there.is_none()) || (!may && there.is_some()) || !is_whole {
                found.differences.push(format!("{one:?} is {there:?} at {}", self.moment_ms));
            }
        }
        found
    }
}

/// Loads the cluster, backs it up meanwhile, goes on; gives the backup's id and the model.
fn load(runtime: &Runtime, cluster: &Cluster, keys: &Path) -> (String, Model) {
    let mut keys_now = BTreeMap::new();
    let engine = runtime.block_on(cluster.client());
    let space = runtime.block_on(engine.keyspace("drill", KeyspaceKind::Hashed)).expect("made");
    runtime.block_on(round(&engine, space, 0, &mut keys_now));
    let stop = CancellationToken::new();
    let writers: Vec<_> =
        (0..WRITERS).map(|writer| runtime.spawn(keep_writing(engine.clone(), space, writer, stop.clone()))).collect();
    let made = cluster.json(&["backup", "create", "--id", "drill"]);
    // What the archive gets from now on has another key.
    cluster.done(&["key", "rotate", &keys.display().to_string()]);
    let id = made.pointer("/backup/id").and_then(Value::as_str).expect("an id").to_owned();
    let (keys_at, moment_ms) = runtime.block_on(async {
        for number in 1..4 {
            round(&engine, space, number, &mut keys_now).await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        let moment_ms = now_ms();
        let keys_at = keys_now.clone();
        tokio::time::sleep(Duration::from_millis(20)).await;
        for number in 4..6 {
            round(&engine, space, number, &mut keys_now).await;
        }
        // The archive follows every 200 ms.
        tokio::time::sleep(Duration::from_millis(800)).await;
        (keys_at, moment_ms)
    });
    stop.cancel();
    let sent = writers.into_iter().flat_map(|writer| runtime.block_on(writer).expect("it wrote")).collect();
    (id, Model { keys: keys_at, sent, moment_ms })
}

/// Runs the case in a folder.
pub(crate) fn run(folder: &Path) -> Found {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let (storage, keys) = (folder.join("storage"), folder.join("archive.keys"));
    lab::cli(&["key", "new", &keys.display().to_string()]);
    let lost = Cluster::start_encrypted(&folder.join("lost"), 3, 4, (&storage, &keys));
    let (id, model) = load(&runtime, &lost, &keys);
    lost.destroy();
    let (sealed, open) = objects(&storage);
    assert!(sealed > 10 && open == 0, "{sealed} objects are encrypted, {open} are not");

    let target = Cluster::start_encrypted(&folder.join("target"), 1, 7, (&storage, &keys));
    let listed = target.done(&["backup", "list"]);
    assert!(listed.contains(&id), "{listed}");
    target.done(&["backup", "verify", &id]);
    let time = jiff::Timestamp::from_millisecond(i64::try_from(model.moment_ms).expect("small")).expect("a time");
    let time = time.to_string();
    let dry = target.done(&["backup", "restore", &id, "--to-time", &time, "--dry-run"]);
    assert!(dry.contains("dry run"), "{dry}");
    let restored = target.done(&["backup", "restore", &id, "--to-time", &time]);
    assert!(restored.contains("restored"), "{restored}");
    let (code, _, said) = target.cli(&["backup", "restore", &id]);
    assert!(code == Some(5) && said.contains("not empty"), "{code:?} {said}");
    let mut found = runtime.block_on(async { model.compare(&target.client().await).await });
    prune(&target, &mut found);
    target.stop();
    found
}

/// Removes the older of two backups; the newer one is whole.
fn prune(cluster: &Cluster, found: &mut Found) {
    for id in ["older", "newer"] {
        cluster.done(&["kv", "put", "drill/p1", id]);
        cluster.done(&["backup", "create", "--id", id]);
    }
    let prune = ["backup", "prune", "--keep", "1", "--log"];
    let would = cluster.json(&[&prune[..], &["--dry-run"]].concat());
    let done = cluster.json(&prune);
    for pruned in [&would, &done] {
        let ids = |name: &str| pruned.get(name).map(Value::to_string).unwrap_or_default();
        found.compare("the backups that go", &ids("removed"), &"[\"older\"]".to_owned());
        found.compare("the backups that stay", &ids("kept"), &"[\"newer\"]".to_owned());
    }
    let chunks = |pruned: &Value| pruned.get("chunks").and_then(Value::as_u64);
    found.compare("whether a chunk goes", &chunks(&done).is_some_and(|chunks| chunks > 0), &true);
    found.compare("the chunks that a dry run names", &chunks(&would), &chunks(&done));
    cluster.done(&["backup", "verify", "newer"]);
    let (code, _, said) = cluster.cli(&["backup", "verify", "older"]);
    found.compare("the exit code for a backup that is gone", &code, &Some(4));
    assert!(said.contains("older"), "{said}");
    found
        .figures
        .push(format!("{} chunks of the older backup are gone, the newer one is whole", chunks(&done).unwrap_or(0)));
}

/// How many files below a folder are encrypted objects, and how many are not.
fn objects(folder: &Path) -> (usize, usize) {
    let (mut sealed, mut open) = (0, 0);
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            let inner = objects(&path);
            sealed += inner.0;
            open += inner.1;
        } else if path.to_string_lossy().contains('#') {
            // What was being written when the cluster was destroyed; it has no name of an object.
        } else if std::fs::read(&path).expect("read").starts_with(b"KEEVOENC") {
            sealed += 1;
        } else {
            open += 1;
        }
    }
    (sealed, open)
}
