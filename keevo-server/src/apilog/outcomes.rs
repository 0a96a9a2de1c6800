//! Writes into the log of the shards that calls have failed whose notes are there already.
//!
//! What failed within a few milliseconds is written together, however much it is, so that the writer keeps up with the doors. What
//! cannot be written is tried again for a while, then told by a warning and counted; its calls then look as if they had gone
//! well. A replay of feeds or chat meets the same refusal again, as a rule; one of keys and values writes what was refused.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use keevo_core::call::{CallId, CallLog, FAILED_MAX, FailedCall, Outcomes};
use keevo_core::{Result, ShardId};
use keevo_raft::ClusterEngine;
use tokio_util::sync::CancellationToken;

/// The most outcomes of one entry: some 160 KiB.
const ENTRY_MAX: usize = 4_096;
/// How long outcomes are gathered, so that many failures cost few entries.
const GATHER: Duration = Duration::from_millis(20);
/// How often an entry is tried, and the pause before the second time; each further one is twice as long.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(100);

/// Writes outcomes until `stop`, and then those that still wait.
pub(crate) async fn run(engine: ClusterEngine, log: Arc<CallLog>, stop: CancellationToken) {
    run_with(&log, &stop, |shard, outcomes| engine.note_outcomes(shard, outcomes)).await;
}

async fn run_with<F: Future<Output = Result<()>>>(
    log: &CallLog,
    stop: &CancellationToken,
    note: impl Fn(ShardId, Outcomes) -> F,
) {
    loop {
        let first = stop.run_until_cancelled(log.take_failed(1)).await;
        let stopped = first.is_none();
        // Also what the last calls before the end have left.
        tokio::time::sleep(GATHER).await;
        let mut failed = first.unwrap_or_default();
        failed.extend(log.take_failed_now(FAILED_MAX));
        if stopped && failed.is_empty() {
            return;
        }
        write(log, failed, &note).await;
    }
}

async fn write<F: Future<Output = Result<()>>>(
    log: &CallLog,
    failed: Vec<FailedCall>,
    note: &impl Fn(ShardId, Outcomes) -> F,
) {
    let mut by_shard: BTreeMap<ShardId, Vec<(CallId, String)>> = BTreeMap::new();
    for failed in failed {
        by_shard.entry(failed.shard).or_default().push((failed.id, failed.kind));
    }
    let writes = by_shard.into_iter().map(|(shard, failed)| async move {
        for failed in failed.chunks(ENTRY_MAX) {
            if let Err(error) = persist(shard, failed, note).await {
                let count = failed.len();
                log.lose(u64::try_from(count).unwrap_or(u64::MAX));
                tracing::warn!(%shard, count, %error, "calls have failed, and the API log cannot say so");
            }
        }
    });
    futures::future::join_all(writes).await;
}

/// Writes one entry, which may stand in the log twice then: a reader takes what it says once.
async fn persist<F: Future<Output = Result<()>>>(
    shard: ShardId,
    failed: &[(CallId, String)],
    note: &impl Fn(ShardId, Outcomes) -> F,
) -> Result<()> {
    let mut pause = PAUSE;
    for _ in 1..TRIES {
        match note(shard, Outcomes(failed.to_vec())).await {
            Ok(()) => return Ok(()),
            Err(error) => tracing::debug!(%shard, %error, "the outcomes of calls are written again"),
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
    note(shard, Outcomes(failed.to_vec())).await
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Mutex;

    use keevo_core::call::{CallDoor, CallRequest, NewCall};
    use keevo_core::{Error, ErrorKind, ManualClock, SeededRandom};

    use super::*;

    fn log() -> Arc<CallLog> {
        CallLog::new(1, true, Arc::new(ManualClock::new(1_000)), Arc::new(SeededRandom::new(7)))
    }

    /// Lets so many calls fail that have left a note.
    fn fail(log: &CallLog, count: u64) {
        for number in 0..count {
            let new = NewCall {
                door: CallDoor::Grpc,
                app: None,
                principal: "nobody".to_owned(),
                method: "a.B/C".to_owned(),
                request: CallRequest::Command,
                redacted: false,
            };
            let call = log.begin(new).expect("it is on");
            assert!(call.note(ShardId(1 + number % 3)).is_some());
            log.failed(&call, &Error::new(ErrorKind::Conflict, "too late"));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_of_failures_is_told_whole_and_at_once() {
        let (log, stop) = (log(), CancellationToken::new());
        fail(&log, 60_000);
        let (told, entries) = (&Mutex::new(BTreeSet::new()), &Mutex::new(0));
        let note = |_shard, Outcomes(failed): Outcomes| async move {
            assert!(failed.len() <= ENTRY_MAX);
            *entries.lock().expect("free") += 1;
            told.lock().expect("free").extend(failed.into_iter().map(|(id, _)| (id.node, id.stamp_us)));
            tokio::time::sleep(Duration::from_millis(5)).await;
            Ok(())
        };
        let began = tokio::time::Instant::now();
        let ended = async {
            tokio::time::sleep(Duration::from_millis(80)).await;
            stop.cancel();
        };
        tokio::join!(run_with(&log, &stop, note), ended);
        assert_eq!((told.lock().expect("free").len(), log.counts().2), (60_000, 0), "none is lost");
        assert!(began.elapsed() < Duration::from_millis(300), "{:?}: far above 12,800 a second", began.elapsed());
        assert_eq!(*entries.lock().expect("free"), 15, "5 entries for each of 3 shards");
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_written_is_tried_again_and_counted_in_the_end() {
        let (log, stop) = (log(), CancellationToken::new());
        stop.cancel();
        fail(&log, 9);
        let tries = &Mutex::new(BTreeMap::<ShardId, u32>::new());
        let note = |shard: ShardId, _outcomes| async move {
            let mut tries = tries.lock().expect("free");
            let count = tries.entry(shard).or_default();
            *count += 1;
            // One shard comes back, one never does.
            let there = shard == ShardId(1) || (shard == ShardId(2) && *count == 3);
            if there { Ok(()) } else { Err(Error::new(ErrorKind::NoQuorum, "nobody")) }
        };
        run_with(&log, &stop, note).await;
        let tries: Vec<u32> = tries.lock().expect("free").values().copied().collect();
        assert_eq!((tries, log.counts().2), (vec![1, 3, TRIES], 3));
    }
}
