//! The loop that makes a node hold what the map says.
//!
//! Invariant: what goes wrong with one replica, one peer or one shard is noted, and the round goes on with the rest.

mod follow;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures::stream::{self, StreamExt};
use keevo_core::{Column, Error, ErrorKind, Result, ShardId, Store, system};
use tokio::time::Instant;

use super::{NodeInner, rows};
use crate::cluster_map;
use crate::group::Group;
use crate::shard_map::{ShardInfo, ShardMap};
use crate::types::PeerNode;

const ROUND: Duration = Duration::from_millis(250);
/// How many replicas are opened at a time; each holds a few MiB of its log meanwhile.
const OPENED_AT_ONCE: usize = 8;

/// Runs rounds until the node stops.
pub(super) async fn run(node: Arc<NodeInner>) {
    let mut last_error = String::new();
    let mut number = 0_u64;
    let mut told = false;
    while !node.is_closed() {
        match round(&node, number).await {
            Ok(()) => last_error.clear(),
            Err(error) => {
                let text = error.to_string();
                if text != last_error {
                    tracing::warn!(%error, "the node is not yet where the map wants it");
                    last_error = text;
                }
            }
        }
        if let Some(error) = node.removal().filter(|_| !told) {
            tracing::error!(%error, "this node is no part of the cluster any more; its replicas are dropped");
            told = true;
        }
        number += 1;
        // A round that is woken early is only a round more.
        drop(tokio::time::timeout(ROUND, node.wake.notified()).await);
    }
}

/// One round; the first error comes back when everything was tried.
async fn round(node: &Arc<NodeInner>, number: u64) -> Result<()> {
    if node.map().is_none() {
        node.try_found().await?;
    }
    let mut first_error = follow::newest_map(node, number).await;
    let mut note = |result: Result<()>| {
        if first_error.is_ok() {
            first_error = result;
        }
    };
    if let Some(map) = node.map() {
        node.close_stopped().await;
        node.open_groups(&map).await;
        note(node.drop_groups(&map).await);
        if map.version == 1 && map.nodes.keys().next() == Some(&node.options.node_id) {
            note(node.hand_out_first_map(&map).await);
        }
        note(node.start_groups(&map).await);
        note(cluster_map::write_first(node, &map).await);
    }
    first_error
}

impl NodeInner {
    /// Closes the replicas whose core has stopped, so that they are opened again from what the disk holds.
    async fn close_stopped(&self) {
        for group in self.groups() {
            if let Some(error) = group.fault() {
                self.close(&group, &error).await;
            }
        }
    }

    /// Closes a replica that has failed; it is opened again after a pause. It keeps its place until all of it has
    /// ended, so that nothing is opened over it.
    pub(super) async fn close(&self, group: &Arc<Group>, error: &Error) {
        group.shutdown().await;
        let mut groups = self.groups.write().unwrap_or_else(PoisonError::into_inner);
        if groups.get(&group.shard()).is_some_and(|open| Arc::ptr_eq(open, group)) {
            self.faults.failed(group.shard(), group.replica(), error, Instant::now());
            groups.remove(&group.shard());
        }
    }

    /// Opens the replicas that the map places here and that are not open yet. Each for itself: one that does not
    /// open is noted and tried again later. Several at once, since each has its log to apply again.
    pub(super) async fn open_groups(&self, map: &ShardMap) {
        let here = map.shards.iter().filter_map(|shard| {
            let replica = shard.replica_on(self.options.node_id)?.id;
            let open = self.group(shard.id).is_some_and(|group| group.replica() == replica);
            (!open && self.faults.may_open(shard.id, replica, Instant::now())).then_some((shard, replica))
        });
        let opened = stream::iter(here).for_each_concurrent(OPENED_AT_ONCE, async |(shard, replica)| {
            match self.open_group(map, shard, replica).await {
                Ok(()) => self.faults.opened(shard.id, Instant::now()),
                Err(error) => self.faults.failed(shard.id, replica, &error, Instant::now()),
            }
        });
        opened.await;
    }

    async fn open_group(&self, map: &ShardMap, shard: &ShardInfo, replica: u64) -> Result<()> {
        let kept = rows::load_replica(&self.parts.store, shard.id)?;
        if let Some(kept) = kept.filter(|&kept| kept > replica) {
            // Ids only grow, so this map is an old one: what it does not know of must not be destroyed for it.
            return Err(Error::new(
                ErrorKind::Unavailable,
                format!(
                    "the data of shard {} belongs to replica {kept}, but the map names the older replica {replica}: \
                     waiting for a newer map",
                    shard.id
                ),
            ));
        }
        if let Some(old) = self.take_group(shard.id) {
            old.shutdown().await;
        }
        let restarted = kept == Some(replica);
        if restarted {
            self.check_log(shard.id)?;
        } else {
            // Whatever a replica before it left here, be it half destroyed, must not become this one's.
            self.parts.log.destroy(shard.id.0).await?;
            rows::begin(&self.parts.store, shard, replica)?;
        }
        let store = self.parts.store.clone();
        let group = Group::open(self.context(map.cluster), store, shard, replica, restarted).await?;
        tracing::info!(shard = %shard.id, replica, restarted, "a replica is open");
        self.insert_group(group);
        Ok(())
    }

    /// Refuses data whose log has been lost: the replica could vote twice in a term, and forget what it has
    /// acknowledged. Whoever has applied an entry has a vote, which was durable before.
    fn check_log(&self, shard: ShardId) -> Result<()> {
        let applied = self.parts.store.get(Column::Data, &system::row_key(shard, system::APPLIED))?;
        if applied.is_none() || self.parts.log.vote(shard.0)?.is_some() {
            return Ok(());
        }
        Err(Error::corrupt(format!(
            "shard {shard} has data here, but its log is lost: remove the node and let it join under a new id with \
             empty folders"
        )))
    }

    /// Ends the replicas that the map no longer places here, and removes their data. The rows say which there are:
    /// a removal that was cut off is found again.
    async fn drop_groups(&self, map: &ShardMap) -> Result<()> {
        let here = |shard: &ShardInfo| shard.replica_on(self.options.node_id).is_some();
        self.faults.keep(|id| map.shard(id).is_some_and(here));
        let mut outcome = Ok(());
        for (id, replica) in rows::replicas(&self.parts.store)? {
            let Some(shard) = map.shard(id) else { continue };
            if here(shard) {
                continue;
            }
            if let Some(group) = self.take_group(id) {
                group.shutdown().await;
            }
            match self.destroy(shard).await {
                Ok(()) => tracing::info!(shard = %id, replica, "a replica was removed"),
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
        outcome
    }

    async fn destroy(&self, shard: &ShardInfo) -> Result<()> {
        self.parts.log.destroy(shard.id.0).await?;
        rows::destroy(&self.parts.store, shard)
    }

    /// Starts the groups of a new cluster: each by its first replica alone.
    async fn start_groups(&self, map: &ShardMap) -> Result<()> {
        let mut outcome = Ok(());
        for shard in map.shards.iter().filter(|shard| shard.epoch.conf_version == 1) {
            let here = shard.replicas.first().is_some_and(|first| first.node_id == self.options.node_id);
            let Some(group) = self.group(shard.id).filter(|_| here) else { continue };
            outcome = outcome.and(group.initialize(members(map, shard)).await);
        }
        outcome
    }
}

/// The voters of a shard as its group knows them.
fn members(map: &ShardMap, shard: &ShardInfo) -> BTreeMap<u64, PeerNode> {
    let node = |replica: &crate::shard_map::Replica| {
        let info = map.nodes.get(&replica.node_id)?;
        Some((replica.id, PeerNode { node_id: info.id, address: info.address.clone() }))
    };
    shard.voters().filter_map(node).collect()
}
