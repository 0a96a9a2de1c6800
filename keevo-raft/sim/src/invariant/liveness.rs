//! Liveness: once the faults are over, the cluster serves again, every node of it, within a time.
//!
//! ```text
//! faults are over at t  ⇒  ∀ node n of the cluster, shard s:  a write to s through n succeeds by t + WITHIN
//!                       ∧  every change of the members that was asked for is done by then
//! ```
//!
//! The time is long, since a replica that failed several times waits up to a minute before it is opened again.

use std::time::Duration;

use keevo_core::{Batch, Engine, Keyspace, KeyspaceKind};

use crate::sim::{Sim, Violation};
use crate::workload::until_ok;

const WITHIN: Duration = Duration::from_secs(150);

/// Waits for the end of the faults, and then for the cluster.
pub(crate) async fn run(sim: Sim) -> Result<(), Violation> {
    let keyspace = until_ok(&sim, || async { sim.engine().keyspace("liveness", KeyspaceKind::Hashed).await }).await?;
    sim.calm().await;
    let began_ms = sim.now_ms();
    let late = |what: String| Violation::new(format!("liveness: {} s after the faults {what}", WITHIN.as_secs()));
    let changed = async {
        while sim.with_members(|members| members.changing > 0) {
            sim.sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(WITHIN, changed)
        .await
        .map_err(|_elapsed| late("the members are still changing".to_owned()))?;
    for node in sim.nodes() {
        let left = WITHIN.saturating_sub(Duration::from_millis(sim.now_ms() - began_ms));
        let served = tokio::time::timeout(left, serve(&sim, keyspace, node)).await;
        served.map_err(|_elapsed| late(format!("node {node} does not serve")))?;
    }
    sim.note(format_args!("every node serves {} ms after the faults", sim.now_ms() - began_ms));
    Ok(())
}

async fn serve(sim: &Sim, keyspace: Keyspace, node: u64) {
    let engine = sim.engine_at(node);
    // Enough partitions that every shard owns some.
    for partition in 0..8 {
        let key = keyspace.key(format!("{partition}"), format!("{node}"));
        while let Err(error) = engine.write(Batch::new().put(key.clone(), "served")).await {
            sim.note(format_args!("n{node} does not serve yet: {error}"));
            sim.sleep(Duration::from_millis(200)).await;
        }
        sim.checked("liveness", 1);
    }
}
