//! Writes into the log of the shards that calls have failed whose notes are there already.
//!
//! Best effort: what cannot be written is told by a warning, and its calls then look as if they had gone well. A replay
//! meets the same refusal again, as a rule.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use keevo_core::ShardId;
use keevo_core::call::{CallId, CallLog, Outcomes};
use keevo_raft::ClusterEngine;
use tokio_util::sync::CancellationToken;

/// The most outcomes of one entry.
const ENTRY_MAX: usize = 256;
/// How long outcomes are gathered, so that many failures cost few entries.
const GATHER: Duration = Duration::from_millis(20);

/// Writes outcomes until `stop`, and then those that still wait.
pub(crate) async fn run(engine: ClusterEngine, log: Arc<CallLog>, stop: CancellationToken) {
    let work = async {
        loop {
            let first = log.take_failed(1).await;
            tokio::time::sleep(GATHER).await;
            write(&engine, &log, first).await;
        }
    };
    stop.run_until_cancelled(work).await;
}

async fn write(engine: &ClusterEngine, log: &CallLog, first: Vec<keevo_core::call::FailedCall>) {
    let mut by_shard: BTreeMap<ShardId, Vec<(CallId, String)>> = BTreeMap::new();
    let more = log.take_failed_now(ENTRY_MAX - 1);
    for failed in first.into_iter().chain(more) {
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
