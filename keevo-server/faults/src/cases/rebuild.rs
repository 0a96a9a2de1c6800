//! A node whose disk is lost is taken out, and another takes its place under an id that nobody had.

use keevo_core::Result;

use crate::cluster::{Cluster, READY_WITHIN};

/// Ends a node for good and lets a new, empty one join. Gives the new id.
pub(super) async fn replace(cluster: &mut Cluster, old: u64) -> Result<u64> {
    let new = cluster.highest_id() + 1;
    cluster.remove(old).await?;
    cluster.add(new, true)?.start(None)?;
    cluster.join(new).await?;
    cluster.node(new)?.wait_ready(READY_WITHIN).await?;
    Ok(new)
}
