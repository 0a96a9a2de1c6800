//! Nodes that are cut off between two steps, and replicas that fail.

mod bootstrap;
mod faults;
mod leftovers;
mod voting;

use std::time::Duration;

use keevo_core::{Batch, Consistency, Engine, KeyspaceKind};

use crate::ClusterEngine;

/// Waits until a condition holds.
async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(tokio::time::Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Writes to every data shard and reads it back.
async fn all_shards_work(engine: &ClusterEngine) {
    let keyspace = engine.keyspace("test", KeyspaceKind::Hashed).await.expect("a keyspace");
    for number in 0..20 {
        let key = keyspace.key(format!("p{number}"), "k");
        engine.write(Batch::new().put(key.clone(), "v")).await.expect("written");
        assert!(engine.get(key, Consistency::Linearizable).await.expect("read").is_some());
    }
}
