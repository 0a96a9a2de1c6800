//! Watches: writers put ever new values, watchers follow the keyspace and resume wherever they were cut off. One comes when
//! all is over and follows from the beginning, so that it reads whole pages.

use std::time::Duration;

use futures::StreamExt;
use keevo_core::{Batch, Engine, Error, ErrorKind, Keyspace, KeyspaceKind, Result, Watch, WatchFrom, WatchRange};

use super::{join_all, until_ok};
use crate::invariant::watch_order::{Put, Record, Seen};
use crate::sim::{Sim, Violation};

const WRITERS: u64 = 2;
const WATCHERS: u64 = 2;
const KEYS: u64 = 4;
const WRITES_MAX: u64 = 200;
/// How long a watcher may take for what is left once the writers are done.
const CATCH_UP: Duration = Duration::from_mins(1);

/// Runs until the faults are over and the watchers have seen everything.
pub(crate) async fn run(sim: Sim) -> std::result::Result<(), Violation> {
    let keyspace = until_ok(&sim, || async { sim.engine().keyspace("watched", KeyspaceKind::Hashed).await }).await?;
    let record = Record::default();
    let watchers: Vec<Seen> = (0..WATCHERS).map(|_| Seen::default()).collect();
    let follow = |(number, seen): (usize, &Seen)| tokio::spawn(follow(sim.clone(), number, keyspace, seen.clone()));
    let mut following: Vec<_> = watchers.iter().enumerate().map(follow).collect();
    let late = Seen::default();
    let beginning = until_ok(&sim, || async {
        let began_ms = sim.now_ms();
        let cursors = sim.engine().watch_start(&WatchRange::Keyspace(keyspace)).await?;
        Ok((began_ms, cursors))
    });
    let (began_ms, cursors) = beginning.await?;
    late.begin(began_ms, cursors);
    let writers = (0..WRITERS).map(|writer| write(sim.clone(), keyspace, writer, record.clone()));
    join_all(writers).await;
    sim.calm().await;
    following.push(follow((watchers.len(), &late)));
    for (number, seen) in watchers.iter().chain([&late]).enumerate() {
        let complete = async {
            while seen.missing(&record).is_some() {
                sim.sleep(Duration::from_millis(50)).await;
            }
        };
        // What is still missing then is told by the judge.
        let _in_time = tokio::time::timeout(CATCH_UP, complete).await;
        let evaluated = seen.judge(number, &record)?;
        sim.checked("watch order and completeness", evaluated);
    }
    following.iter().for_each(tokio::task::JoinHandle::abort);
    Ok(())
}

async fn write(sim: Sim, keyspace: Keyspace, writer: u64, record: Record) {
    let mut after_calm = 0;
    for number in 0..WRITES_MAX {
        after_calm += u64::from(sim.is_calm());
        if after_calm > 5 {
            return;
        }
        let (key, value) = (sim.dice().below(KEYS), writer << 32 | number);
        let batch = Batch::new().put(keyspace.key(format!("k{key}"), "value"), value.to_be_bytes().to_vec());
        let began_ms = sim.now_ms();
        let outcome = sim.engine().write(batch).await;
        let told = outcome.as_ref().map(|written| written.revision).map_err(Error::kind);
        sim.note(format_args!("{value:#x} to k{key}: {told:?}"));
        sim.count("watched write");
        let revision = outcome.as_ref().ok().map(|written| written.revision);
        let unsure = outcome.as_ref().is_err_and(|error| error.kind() == ErrorKind::OutcomeUnknown);
        record.add(Put { partition: format!("k{key}"), value, began_ms, revision, unsure });
        sim.sleep(Duration::from_millis(sim.dice().between(5, 200))).await;
    }
}

/// Follows the keyspace for ever. A lost connection is resumed behind what was seen; a cursor that lies before what
/// is kept starts anew.
async fn follow(sim: Sim, number: usize, keyspace: Keyspace, seen: Seen) {
    let range = WatchRange::Keyspace(keyspace);
    loop {
        let error = match connect(&sim, &range, &seen).await {
            Err(error) => error,
            Ok(mut watch) => loop {
                match watch.next().await {
                    Some(Ok(event)) => {
                        let cursor = event.cursor;
                        let (shard, revision, offset) = (cursor.shard, cursor.revision, cursor.offset);
                        sim.note(format_args!("watcher {number} sees s{shard} {revision}.{offset}"));
                        seen.add(&event);
                    }
                    Some(Err(error)) => break error,
                    None => return,
                }
            },
        };
        sim.note(format_args!("watcher {number} ended: {:?}", error.kind()));
        if error.kind() == ErrorKind::CursorCompacted {
            seen.forget();
        }
        sim.sleep(Duration::from_millis(100)).await;
    }
}

async fn connect(sim: &Sim, range: &WatchRange, seen: &Seen) -> Result<Watch> {
    let engine = sim.engine();
    if seen.cursors().is_empty() {
        let cursors = engine.watch_start(range).await?;
        seen.begin(sim.now_ms(), cursors);
    }
    let watch = engine.watch(range.clone(), WatchFrom::After(seen.cursors())).await?;
    seen.connected();
    Ok(watch)
}
