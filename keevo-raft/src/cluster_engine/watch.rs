//! Watches: from the replica here where there is one, else by pages from a node that has one.

use futures::StreamExt;
use keevo_core::{
    Changes, CommitEvent, Cursor, Error, ErrorKind, Keyspace, KeyspaceKind, Result, ShardId, Watch, WatchFrom,
    WatchRange, watches_nothing,
};

use super::ClusterEngine;
use super::route::{Effect, Place};
use crate::node::{ChangesPage, ChangesRequest, page_of};
use crate::transport::PeerCall;

impl ClusterEngine {
    pub(super) async fn watch_range(&self, range: WatchRange, from: WatchFrom) -> Result<Watch> {
        let mut shards = self.watched_shards(&range)?;
        let (after, only) = match from {
            WatchFrom::Now => (Vec::new(), false),
            WatchFrom::After(cursors) => (cursors, false),
            WatchFrom::Only(cursors) if cursors.is_empty() => return Err(watches_nothing()),
            WatchFrom::Only(cursors) => (cursors, true),
        };
        let cluster = self.node.inner.map_or_wait()?.cluster;
        if let Some(stranger) = after.iter().find(|cursor| cursor.cluster != cluster) {
            return Err(Error::new(
                ErrorKind::WrongCluster,
                format!("the cursor belongs to cluster {}, not to {cluster}", stranger.cluster),
            ));
        }
        if only {
            if let Some(other) = after.iter().find(|cursor| !shards.contains(&cursor.shard)) {
                let message = format!("shard {} has nothing of what is watched", other.shard);
                return Err(Error::new(ErrorKind::CursorCompacted, message));
            }
            shards.retain(|shard| after.iter().any(|cursor| cursor.shard == *shard));
        }
        let mut watches = Vec::new();
        for shard in shards {
            let cursor = match after.iter().find(|cursor| cursor.shard == shard) {
                Some(cursor) => *cursor,
                None => self.now_cursor(shard).await?,
            };
            watches.push(self.watch_shard(shard, range.clone(), cursor)?);
        }
        Ok(futures::stream::select_all(watches).boxed())
    }

    /// A cursor after everything acknowledged so far, for each shard of the range.
    pub async fn watch_start(&self, range: &WatchRange) -> Result<Vec<Cursor>> {
        self.watch_start_of(range, |_| true).await
    }

    /// As [`ClusterEngine::watch_start`], of those of the range's shards that are `wanted`; the others are not asked.
    pub async fn watch_start_of(
        &self,
        range: &WatchRange,
        wanted: impl Fn(ShardId) -> bool + Send,
    ) -> Result<Vec<Cursor>> {
        let mut shards = self.watched_shards(range)?;
        shards.retain(|shard| wanted(*shard));
        let mut cursors = Vec::new();
        for shard in shards {
            cursors.push(self.now_cursor(shard).await?);
        }
        Ok(cursors)
    }

    /// The changes of one shard within `range`, after the cursor, and how far they reach. Waits a few seconds for the first
    /// one, and then says how far the shard has come without one.
    pub async fn changes(&self, range: &WatchRange, after: Cursor) -> Result<Changes> {
        let cluster = self.node.inner.map_or_wait()?.cluster;
        if after.cluster != cluster {
            let message = format!("the cursor belongs to cluster {}, not to {cluster}", after.cluster);
            return Err(Error::new(ErrorKind::WrongCluster, message));
        }
        let Some(group) = self.node.inner.group(after.shard) else {
            return self.changes_elsewhere(range, after).await;
        };
        match page_of(&group, range, after).await {
            // A replica that took a snapshot lacks what came before it; its leader may have that.
            Err(error) if error.kind() == ErrorKind::CursorCompacted && !group.is_leader() => {
                self.changes_elsewhere(range, after).await.map_err(|_also| error)
            }
            page => page,
        }
    }

    async fn changes_elsewhere(&self, range: &WatchRange, after: Cursor) -> Result<Changes> {
        let page = self.changes_page(after.shard, range, after).await?;
        Ok(Changes { events: page.events, reached: page.reached })
    }

    fn watched_shards(&self, range: &WatchRange) -> Result<Vec<ShardId>> {
        let map = self.node.inner.map_or_wait()?;
        match range {
            WatchRange::Partition { keyspace, partition, prefix } => {
                keevo_core::validate_partition(*keyspace, partition)?;
                keevo_core::validate_sort(prefix)?;
                let start = keevo_core::encode_partition(*keyspace, partition, 0);
                Ok(vec![map.locate(&start)?.id])
            }
            WatchRange::Keyspace(keyspace) if keyspace.id == Keyspace::META.id => Ok(vec![ShardId::META]),
            WatchRange::Keyspace(Keyspace { kind: KeyspaceKind::Hashed, .. }) => {
                Ok(map.shards.iter().map(|shard| shard.id).filter(|id| *id != ShardId::META).collect())
            }
            WatchRange::Keyspace(keyspace) => {
                let start = keevo_core::encode_ordered_prefix(keyspace.id).freeze();
                let end = keevo_core::prefix_end(&start);
                let touched = map.shards.iter().filter(|shard| shard.end > start && shard.start < end);
                Ok(touched.map(|shard| shard.id).collect())
            }
        }
    }

    fn watch_shard(&self, shard: ShardId, range: WatchRange, after: Cursor) -> Result<Watch> {
        if let Some(group) = self.node.inner.group(shard) {
            return group.reader().watch(range, Some(after));
        }
        let state = (self.clone(), range, after, Vec::<CommitEvent>::new().into_iter());
        let pages = futures::stream::unfold(Some(state), move |state| async move {
            let (engine, range, mut after, mut ready) = state?;
            loop {
                if let Some(event) = ready.next() {
                    after = event.cursor;
                    return Some((Ok(event), Some((engine, range, after, ready))));
                }
                match engine.changes_page(shard, &range, after).await {
                    Ok(page) => ready = page.events.into_iter(),
                    Err(error) => return Some((Err(error), None)),
                }
            }
        });
        Ok(pages.boxed())
    }

    async fn changes_page(&self, shard: ShardId, range: &WatchRange, after: Cursor) -> Result<ChangesPage> {
        self.until_deadline(Effect::None, |attempt| async move {
            let Place::There(peer) = self.leader_of(shard, attempt.number)? else {
                return Err(Error::new(ErrorKind::ShardMoved, format!("shard {shard} has come to this node")));
            };
            let body = ChangesRequest { range: range.clone(), after }.encode();
            let body = self.ask(&peer, PeerCall::Changes, shard, body, self.deadline).await?;
            ChangesPage::decode(&body, &after)
        })
        .await
    }
}
