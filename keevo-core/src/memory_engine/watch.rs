//! How the model watches: a reader's position in the retained changes, woken when a write is applied.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use futures::StreamExt;
use futures::stream;
use tokio::sync::watch::Receiver;

use super::changes::Position;
use super::state::State;
use super::{Handle, lock};
use crate::error::{Error, ErrorKind, Result};
use crate::ids::{ClusterId, Revision, ShardId};
use crate::key::{Key, prefix_end, validate_partition, validate_sort};
use crate::watch::{Change, CommitEvent, Cursor, Watch, WatchFrom, WatchRange, watches_nothing};

/// The most events that a reader takes from the state at once.
const EVENTS_A_PULL: usize = 256;

/// Opens a watch; it is in place when this returns.
pub(super) fn open(handle: &Handle, range: WatchRange, from: WatchFrom) -> Result<Watch> {
    if let WatchRange::Partition { keyspace, partition, prefix } = &range {
        validate_partition(*keyspace, partition)?;
        validate_sort(prefix)?;
    }
    let applied_rx = handle.applied_tx.subscribe();
    let position = start(&lock(&handle.state), handle.cluster, from)?;
    let state = Arc::clone(&handle.state);
    let reader = Reader { cluster: handle.cluster, state, applied_rx, range, position, ready: VecDeque::new() };
    let events = stream::unfold(Some(reader), |reader| async move {
        let mut reader = reader?;
        match reader.next().await {
            Ok(event) => Some((Ok(event), Some(reader))),
            Err(error) => Some((Err(error), None)),
        }
    });
    Ok(events.boxed())
}

fn start(state: &State, cluster: ClusterId, from: WatchFrom) -> Result<Position> {
    let now = (state.revision, u32::MAX);
    let cursors = match from {
        WatchFrom::Now => return Ok(now),
        WatchFrom::Only(cursors) if cursors.is_empty() => return Err(watches_nothing()),
        WatchFrom::After(cursors) | WatchFrom::Only(cursors) => cursors,
    };
    let mut position = now;
    for cursor in cursors {
        if cursor.cluster != cluster {
            return Err(Error::new(
                ErrorKind::WrongCluster,
                format!("the cursor belongs to cluster {}, this is {cluster}", cursor.cluster),
            ));
        }
        if cursor.shard != ShardId::LOCAL || cursor.revision > state.revision {
            return Err(Error::new(
                ErrorKind::CursorCompacted,
                format!("shard {} has no change at revision {}", cursor.shard, cursor.revision),
            ));
        }
        position = position.min((cursor.revision, cursor.offset));
    }
    state.changes.check(position)?;
    Ok(position)
}

/// A watch's place: what it has read, and what it has not delivered yet.
struct Reader {
    cluster: ClusterId,
    state: Arc<Mutex<State>>,
    applied_rx: Receiver<Revision>,
    range: WatchRange,
    position: Position,
    ready: VecDeque<CommitEvent>,
}

impl Reader {
    async fn next(&mut self) -> Result<CommitEvent> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(event);
            }
            self.applied_rx.borrow_and_update();
            self.pull()?;
            if self.ready.is_empty() && self.applied_rx.changed().await.is_err() {
                return Err(Error::new(ErrorKind::Closed, "the engine was dropped"));
            }
        }
    }

    /// Takes the next events of the range; without any, moves to the end of the changes.
    fn pull(&mut self) -> Result<()> {
        let state = lock(&self.state);
        state.changes.check(self.position)?;
        let matching = state.changes.after(self.position).filter(|(_, key, change)| covers(&self.range, key, change));
        self.ready.extend(matching.take(EVENTS_A_PULL).map(|((revision, offset), key, change)| CommitEvent {
            cursor: Cursor { cluster: self.cluster, shard: ShardId::LOCAL, revision, offset },
            key: key.clone(),
            change: change.clone(),
        }));
        self.position = match self.ready.back() {
            Some(last) => (last.cursor.revision, last.cursor.offset),
            None => (state.revision, u32::MAX),
        };
        Ok(())
    }
}

/// Whether a change touches the range.
fn covers(range: &WatchRange, key: &Key, change: &Change) -> bool {
    match range {
        WatchRange::Keyspace(keyspace) => key.keyspace.id == keyspace.id,
        WatchRange::Partition { keyspace, partition, prefix } => {
            let in_prefix = match change {
                Change::Put { .. } | Change::Delete => key.sort.starts_with(prefix),
                Change::DeleteRange { end } => {
                    let prefix_end = prefix_end(prefix);
                    (prefix_end.is_empty() || key.sort < prefix_end) && (end.is_empty() || end > prefix)
                }
            };
            key.keyspace.id == keyspace.id && key.partition == *partition && in_prefix
        }
    }
}
