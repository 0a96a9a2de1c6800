//! Everything that happens in the partitions of an app, in all shards, for its hooks.
//!
//! Invariant: how far it has come moves with what the hub reads, whatever that is about: an app in which nothing happens is not
//! taken for one that was away.

use std::sync::PoisonError;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{SelectAll, select_all};
use keevo_core::{CommitEvent, Cursor, Engine, Keyspace, Result, Watch};

use super::{Follower, Interest, Seen, SharedWatches};

/// The changes of all partitions that begin alike.
pub(crate) struct AppWatch<E: Engine> {
    changes: SelectAll<Watch>,
    seen: Vec<Seen<E>>,
}

impl<E: Engine> SharedWatches<E> {
    /// Follows all partitions that begin with `prefix`, in the shards of the cursors, from there on.
    pub(crate) async fn follow_prefix(
        &self,
        keyspace: Keyspace,
        prefix: &Bytes,
        cursors: Vec<Cursor>,
    ) -> Result<AppWatch<E>> {
        let (mut changes, mut seen) = (Vec::with_capacity(cursors.len()), Vec::with_capacity(cursors.len()));
        for after in cursors {
            let follower = Follower::begin(self, keyspace, Interest::Prefix(prefix.clone()), after).await?;
            seen.push(Seen::clone(&follower.seen));
            changes.push(follower.into_stream());
        }
        Ok(AppWatch { changes: select_all(changes), seen })
    }
}

impl<E: Engine> AppWatch<E> {
    /// The next change; in order within a shard. `None` where there are no shards, or behind an error. Dropping the future loses
    /// nothing.
    pub(crate) async fn next(&mut self) -> Option<Result<CommitEvent>> {
        self.changes.next().await
    }

    /// Up to where everything was given, by shard, as far as that is known.
    pub(crate) fn reached(&self) -> Vec<Cursor> {
        let places = self.seen.iter().filter_map(|seen| seen.lock().unwrap_or_else(PoisonError::into_inner).clone());
        places.filter_map(|place| place.reached()).collect()
    }
}
