//! What a node does that the cluster has removed: it says so, holds nothing, and never comes back under its id.

use keevo_core::{Error, ErrorKind};

use super::NodeInner;
use crate::shard_map::ShardMap;

/// Whether the map says that the node was removed.
pub(super) fn is_removed(map: &ShardMap, node_id: u64) -> bool {
    map.removed.contains_key(&node_id)
}

/// What a caller of a removed node is told.
pub(super) fn error(map: &ShardMap, node_id: u64) -> Error {
    let others: Vec<&str> = map.nodes.values().map(|info| info.address.as_str()).collect();
    Error::new(
        ErrorKind::Unavailable,
        format!(
            "node {node_id} was removed from cluster {}: ask another node of it ({}); to use this machine again, stop \
             the node, empty its folder and let it join under a new id",
            map.cluster,
            others.join(", ")
        ),
    )
}

impl NodeInner {
    /// Why the node may not serve any more, if it was removed.
    pub(super) fn removal(&self) -> Option<Error> {
        let map = self.map()?;
        is_removed(&map, self.options.node_id).then(|| error(&map, self.options.node_id))
    }
}
