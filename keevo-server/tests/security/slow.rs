//! The log of slow calls, as a node writes it: one line a call, with its stages, and nothing of what the call was about.

use keevo_client::Access;
use keevo_core::{Batch, Engine, KeyspaceKind};
use tokio::time::{Instant, sleep};

use super::support::{Keevod, PATIENCE, connect, patiently};

const VALUE: &str = "nobody-else-may-see-this-value";
const PARTITION: &str = "nobody-else-may-see-this-key";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_calls_are_told_with_their_stages_and_without_keys_and_values() {
    let nodes = [Keevod::alone(&["--slow-call-ms".to_owned(), "1".to_owned()])];
    let engine = connect(&nodes, Access::default()).await;
    let keyspace = patiently("a keyspace", || engine.keyspace("slow", KeyspaceKind::Hashed)).await;
    // Half a megabyte each, many at once: some of them take more than a few milliseconds on any disk.
    let large = VALUE.repeat(16 << 10);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let put = |number: u64| {
            engine.write(Batch::new().put(keyspace.key(format!("{PARTITION}-{number}"), "s"), large.clone()))
        };
        for done in futures::future::join_all((0..16).map(put)).await {
            done.expect("written");
        }
        let log = nodes[0].log();
        let told = |line: &&str| line.contains("slow call") && line.contains("Pipe.Write") && line.contains("flush@");
        if let Some(line) = log.lines().find(told) {
            for part in ["WARN", "took_ms=", "outcome=\"OK\"", "trace=\"", "gate@", "commit@", "apply@", "unlogged="] {
                assert!(line.contains(part), "{part} is missing in {line}");
            }
            assert!(!log.contains(VALUE) && !log.contains(PARTITION), "{log}");
            return;
        }
        assert!(Instant::now() < deadline, "no slow call is told: {log}");
        sleep(std::time::Duration::from_millis(50)).await;
    }
}
