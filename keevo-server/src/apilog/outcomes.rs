//! Writes into the log of the shards that calls have failed whose notes are there already.
//!
//! What failed within a few milliseconds is written together, however much it is, so that the writer keeps up with the doors. What
//! cannot be written is tried again for a while, then told by a warning and counted; its calls then look as if they had gone
//! well. A replay of feeds or chat meets the same refusal again, as a rule; one of keys and values writes what was refused.
//!
//! Invariant: a shard that cannot be written keeps no other one waiting, nor the end of the node for long.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use keevo_core::call::{CallId, CallLog, FAILED_MAX, FailedCall, Outcomes};
use keevo_core::{Error, ErrorKind, Result, ShardId};
use keevo_raft::ClusterEngine;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The most outcomes of one entry: some 160 KiB.
const ENTRY_MAX: usize = 4_096;
/// How long outcomes are gathered, so that many failures cost few entries.
const GATHER: Duration = Duration::from_millis(20);
/// How often an entry is tried, and the pause before the second time; each further one is twice as long.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(100);
/// The most outcomes that wait for one shard.
const WAITING_MAX: usize = FAILED_MAX / 2;
/// How long outcomes are written after the end was asked for.
const DRAIN: Duration = Duration::from_secs(5);

/// Writes outcomes until `stop`, and then those that still wait.
pub(crate) async fn run(engine: ClusterEngine, log: Arc<CallLog>, stop: CancellationToken) {
    run_with(&log, &stop, |shard, outcomes| engine.note_outcomes(shard, outcomes)).await;
}

async fn run_with<F: Future<Output = Result<()>> + Send>(
    log: &CallLog,
    stop: &CancellationToken,
    note: impl Fn(ShardId, Outcomes) -> F + Sync,
) {
    let (mut work, mut queues, mut deadline) = (FuturesUnordered::new(), Queues::default(), None);
    work.push(gather(log, stop).boxed());
    loop {
        let done = match deadline {
            None => work.next().await,
            Some(deadline) => tokio::time::timeout_at(deadline, work.next()).await.unwrap_or_default(),
        };
        match done {
            Some(Done::Gathered { failed, stopped }) => {
                if stopped && failed.is_empty() && queues.are_empty() {
                    return;
                }
                if stopped && deadline.is_none() {
                    deadline = Some(Instant::now() + DRAIN);
                }
                queues.add(failed, log);
                work.push(gather(log, stop).boxed());
            }
            Some(Done::Written(shard)) => {
                queues.busy.remove(&shard);
            }
            // The time is over: something is gathered all the while.
            None => {
                let left = queues.count() + log.take_failed_now(FAILED_MAX).len();
                lose(log, left, &Error::new(ErrorKind::DeadlineExceeded, "this node stops"));
                return;
            }
        }
        for (shard, failed) in queues.ready() {
            work.push(write(log, shard, failed, &note).boxed());
        }
    }
}

/// What has ended.
enum Done {
    /// These calls have failed, some of them maybe after the end was asked for.
    Gathered { failed: Vec<FailedCall>, stopped: bool },
    /// A shard has an entry more, or its outcomes are lost.
    Written(ShardId),
}

/// The outcomes that wait, by shard: one entry of each is written at a time, and no shard waits for another one.
#[derive(Default)]
struct Queues {
    waiting: BTreeMap<ShardId, Vec<(CallId, String)>>,
    /// How many are being written.
    busy: BTreeMap<ShardId, usize>,
}

impl Queues {
    fn add(&mut self, failed: Vec<FailedCall>, log: &CallLog) {
        let mut lost = 0;
        for failed in failed {
            let waiting = self.waiting.entry(failed.shard).or_default();
            if waiting.len() < WAITING_MAX {
                waiting.push((failed.id, failed.kind));
            } else {
                lost += 1;
            }
        }
        if lost > 0 {
            lose(log, lost, &Error::new(ErrorKind::ResourceExhausted, "too many wait for one shard"));
        }
    }

    /// The next entries, of shards of which none is being written.
    fn ready(&mut self) -> Vec<(ShardId, Vec<(CallId, String)>)> {
        let mut ready = Vec::new();
        for (&shard, waiting) in &mut self.waiting {
            if let Entry::Vacant(busy) = self.busy.entry(shard) {
                let rest = waiting.split_off(waiting.len().min(ENTRY_MAX));
                let entry = std::mem::replace(waiting, rest);
                busy.insert(entry.len());
                ready.push((shard, entry));
            }
        }
        self.waiting.retain(|_, waiting| !waiting.is_empty());
        ready
    }

    fn are_empty(&self) -> bool {
        self.waiting.is_empty() && self.busy.is_empty()
    }

    fn count(&self) -> usize {
        self.waiting.values().map(Vec::len).chain(self.busy.values().copied()).sum()
    }
}

/// Waits for calls that fail, and a little longer, since many fail together.
async fn gather(log: &CallLog, stop: &CancellationToken) -> Done {
    let first = stop.run_until_cancelled(log.take_failed(1)).await;
    let stopped = first.is_none();
    // Also what the last calls before the end have left.
    tokio::time::sleep(GATHER).await;
    let mut failed = first.unwrap_or_default();
    failed.extend(log.take_failed_now(FAILED_MAX));
    Done::Gathered { failed, stopped }
}

async fn write<F: Future<Output = Result<()>> + Send>(
    log: &CallLog,
    shard: ShardId,
    failed: Vec<(CallId, String)>,
    note: &(impl Fn(ShardId, Outcomes) -> F + Sync),
) -> Done {
    if let Err(error) = persist(shard, &failed, note).await {
        lose(log, failed.len(), &error);
    }
    Done::Written(shard)
}

fn lose(log: &CallLog, count: usize, error: &Error) {
    log.lose(u64::try_from(count).unwrap_or(u64::MAX));
    tracing::warn!(count, %error, "calls have failed, and the API log cannot say so");
}

/// Writes one entry, which may stand in the log twice then: a reader takes what it says once.
async fn persist<F: Future<Output = Result<()>> + Send>(
    shard: ShardId,
    failed: &[(CallId, String)],
    note: &(impl Fn(ShardId, Outcomes) -> F + Sync),
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
    use keevo_core::{ManualClock, SeededRandom};

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
        let began = Instant::now();
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

    #[tokio::test(start_paused = true)]
    async fn a_shard_without_a_quorum_holds_up_no_other_one_and_no_end() {
        let (log, stop) = (log(), CancellationToken::new());
        let told = &Mutex::new(0);
        let note = |shard: ShardId, Outcomes(failed): Outcomes| async move {
            if shard == ShardId(1) {
                std::future::pending::<()>().await;
            }
            *told.lock().expect("free") += failed.len();
            Ok(())
        };
        let began = Instant::now();
        let goes_on = async {
            for round in 1..=3 {
                fail(&log, 9);
                tokio::time::sleep(Duration::from_millis(100)).await;
                assert_eq!(*told.lock().expect("free"), 6 * round, "those of the other two shards");
            }
            stop.cancel();
        };
        tokio::join!(run_with(&log, &stop, note), goes_on);
        assert_eq!(log.counts().2, 9, "what could not be written is counted");
        assert!(began.elapsed() < DRAIN + Duration::from_secs(1), "{:?}", began.elapsed());
    }
}
