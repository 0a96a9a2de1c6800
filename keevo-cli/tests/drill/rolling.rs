//! Three nodes are restarted one after the other under load: no client sees an error, and all that was answered is there.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use keevo_client::RemoteEngine;
use keevo_core::{Batch, Clock, Consistency, Engine, Keyspace, KeyspaceKind, SystemClock};
use tokio_util::sync::CancellationToken;

use super::lab::{Cluster, Found};

/// Clients that write and read in turns, each keys of its own.
const CLIENTS: u32 = 6;
const KEYS: u64 = 50;
/// The pause of each between two writes, and between two restarts.
const PAUSE: Duration = Duration::from_millis(5);
const BETWEEN: Duration = Duration::from_secs(2);

/// What a client did.
#[derive(Default)]
struct Client {
    calls: u64,
    errors: Vec<String>,
    /// The last value that was acknowledged, by key.
    acknowledged: BTreeMap<String, String>,
    slowest_ms: u128,
}

/// Writes a key, and reads it again, until it is told to stop.
async fn work(engine: RemoteEngine, space: Keyspace, client: u32, stop: CancellationToken) -> Client {
    let clock = SystemClock::new();
    let mut done = Client::default();
    let mut number = 0_u64;
    while !stop.is_cancelled() {
        let name = format!("c{client}-{}", number % KEYS);
        let (key, value) = (space.key(name.clone(), "s"), number.to_string());
        let sent = clock.monotonic();
        match engine.write(Batch::new().put(key.clone(), value.clone())).await {
            Ok(_) => {
                done.acknowledged.insert(name, value.clone());
                match engine.get(key, Consistency::Linearizable).await {
                    Ok(Some(record)) if record.value == value => {}
                    Ok(other) => done.errors.push(format!("client {client} wrote {value} and read {other:?}")),
                    Err(error) => done.errors.push(format!("client {client} cannot read: {error}")),
                }
            }
            Err(error) => done.errors.push(format!("client {client} cannot write: {error}")),
        }
        done.slowest_ms = done.slowest_ms.max(clock.monotonic().saturating_sub(sent).as_millis());
        done.calls += 2;
        number += 1;
        tokio::time::sleep(PAUSE).await;
    }
    done
}

/// Runs the case in a folder.
pub(crate) fn run(folder: &Path) -> Found {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let mut cluster = Cluster::start_with(folder, 3, 4, &[]);
    let engine = runtime.block_on(cluster.client());
    let space = runtime.block_on(engine.keyspace("rolling", KeyspaceKind::Hashed)).expect("made");
    let stop = CancellationToken::new();
    let clients: Vec<_> =
        (0..CLIENTS).map(|client| runtime.spawn(work(engine.clone(), space, client, stop.clone()))).collect();
    for at in 0..cluster.len() {
        std::thread::park_timeout(BETWEEN);
        cluster.restart(at);
    }
    std::thread::park_timeout(BETWEEN);
    stop.cancel();
    let mut found = Found::default();
    let (mut calls, mut errors, mut slowest_ms) = (0, 0, 0);
    for client in clients {
        let done = runtime.block_on(client).expect("it works");
        calls += done.calls;
        errors += done.errors.len();
        slowest_ms = slowest_ms.max(done.slowest_ms);
        found.differences.extend(done.errors);
        for (name, value) in done.acknowledged {
            let there = runtime.block_on(engine.get(space.key(name.clone(), "s"), Consistency::Linearizable));
            let there = there.expect("read").map(|record| String::from_utf8_lossy(&record.value).into_owned());
            found.compare(&format!("the key {name}"), &there, &Some(value));
        }
    }
    found.compare("whether clients worked all the time", &(calls > 200), &true);
    found.figures.push(format!(
        "3 restarts; {calls} calls, {errors} errors that a client saw, the slowest write and read took {slowest_ms} ms"
    ));
    cluster.stop();
    found
}
