//! Writes into the log of the shards that calls have failed whose notes are there already.
//!
//! Best effort: what cannot be written is told by a warning and counted, and its calls then look as if they had gone well.
//! A replay of feeds or chat meets the same refusal again, as a rule; one of keys and values writes what was refused.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use keevo_core::ShardId;
use keevo_core::call::{CallId, CallLog, FailedCall, Outcomes};
use keevo_raft::ClusterEngine;
use tokio_util::sync::CancellationToken;

/// The most outcomes of one entry.
const ENTRY_MAX: usize = 256;
/// How long outcomes are gathered, so that many failures cost few entries.
const GATHER: Duration = Duration::from_millis(20);

/// Writes outcomes until `stop`, and then those that still wait.
pub(crate) async fn run(engine: ClusterEngine, log: Arc<CallLog>, stop: CancellationToken) {
    loop {
        let first = stop.run_until_cancelled(log.take_failed(1)).await;
        let stopped = first.is_none();
        // Also what the last calls before the end have left.
        tokio::time::sleep(GATHER).await;
        let mut failed = first.unwrap_or_default();
        failed.extend(log.take_failed_now(ENTRY_MAX - failed.len()));
        if stopped && failed.is_empty() {
            return;
        }
        write(&engine, failed).await;
    }
}

async fn write(engine: &ClusterEngine, failed: Vec<FailedCall>) {
    let mut by_shard: BTreeMap<ShardId, Vec<(CallId, String)>> = BTreeMap::new();
    for failed in failed {
        by_shard.entry(failed.shard).or_default().push((failed.id, failed.kind));
    }
    let writes = by_shard.into_iter().map(|(shard, failed)| async move {
        let count = failed.len();
        if let Err(error) = engine.note_outcomes(shard, Outcomes(failed)).await {
            tracing::warn!(%shard, count, %error, "calls have failed, and the API log cannot say so");
        }
    });
    futures::future::join_all(writes).await;
}
