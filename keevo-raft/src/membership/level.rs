//! Raising the level of the cluster: the end of a rolling upgrade.
//!
//! Invariant: the level is raised only to what every node of the map has said, just now, that it knows; a node that joins
//! meanwhile changes the map, and the question is asked again.

use keevo_core::{Batch, Error, ErrorKind, Result};

use crate::cluster_engine::ClusterEngine;
use crate::cluster_map;
use crate::node::NodeStatus;

/// How often the map may change underneath before the caller hears of it.
const TRIES_MAX: usize = 16;

/// What an upgrade finds, and what it did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upgrade {
    /// The level that the cluster is at.
    pub level: u32,
    /// The highest level that any node knows: the one to go to.
    pub newest: u32,
    /// What each node says of itself.
    pub nodes: Vec<NodeStatus>,
}

impl Upgrade {
    /// Why the cluster cannot go to the newest level yet; empty where it can, or is there.
    pub fn obstacles(&self) -> Vec<String> {
        let obstacle = |node: &NodeStatus| {
            let NodeStatus { node_id, version, levels, .. } = node;
            if !node.alive {
                return Some(format!("node {node_id} does not answer: start it, or remove it"));
            }
            let newest = self.newest;
            (levels.max < newest).then(|| {
                format!(
                    "node {node_id} runs {version}, which knows levels {levels}: restart it with the release that knows \
                     level {newest}"
                )
            })
        };
        self.nodes.iter().filter_map(obstacle).collect()
    }
}

impl ClusterEngine {
    /// What stands between the cluster and the newest level that a node of it knows.
    pub async fn upgrade_state(&self) -> Result<Upgrade> {
        let (_, nodes) = self.cluster_status().await?;
        let (map, _revision) = cluster_map::read(self).await?;
        let newest = nodes.iter().map(|node| node.levels.max).max().unwrap_or(0).max(map.level);
        Ok(Upgrade { level: map.level, newest, nodes })
    }

    /// Raises the level of the cluster to the newest that a node of it knows. There is no way back: from then on no
    /// older release can take part. Repeatable.
    ///
    /// Errors: `Conflict` while a node does not answer or does not know that level; the message names each.
    pub async fn finalize_upgrade(&self) -> Result<Upgrade> {
        for _ in 0..TRIES_MAX {
            let (old, revision) = cluster_map::read(self).await?;
            self.node.inner.adopt(old.clone()).await?;
            let mut found = self.upgrade_state().await?;
            if found.newest == old.level {
                return Ok(found);
            }
            let obstacles = found.obstacles();
            if !obstacles.is_empty() {
                let message = format!("the cluster stays at level {}: {}", old.level, obstacles.join("; "));
                return Err(Error::new(ErrorKind::Conflict, message));
            }
            // The nodes that were asked are those of this very map, or the write is refused.
            let mut map = old;
            map.level = found.newest;
            map.version += 1;
            match self.write_unchecked(cluster_map::replace(Batch::new(), &map, revision)).await {
                Ok(_) => {
                    tracing::info!(level = map.level, "the cluster's level was raised");
                    self.node.inner.adopt(map).await?;
                    found.level = found.newest;
                    return Ok(found);
                }
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::new(ErrorKind::Unavailable, "the shard map kept changing underneath; ask again"))
    }
}
