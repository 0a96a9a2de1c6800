//! The flush that moves the durable point forward: data first, then openraft is told, then the logs shrink.

use std::sync::Arc;

use keevo_core::{Error, ErrorKind, Result, Store, failpoint};

use super::NodeInner;

/// Flushes from time to time until the node stops.
pub(super) async fn run(node: Arc<NodeInner>) {
    let mut ticks = tokio::time::interval(node.options.flush_every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        if let Err(error) = once(&node).await {
            tracing::error!(%error, "the data store could not be flushed; its logs are kept");
        }
    }
}

/// One flush of all shards at one point, and the word to every group that its log may go. A group that has stopped
/// is closed, to be opened again; the others' logs go on to shrink.
pub(super) async fn once(node: &Arc<NodeInner>) -> Result<()> {
    let store = node.parts.store.clone();
    failpoint("flush.before");
    tokio::task::spawn_blocking(move || store.flush())
        .await
        .map_err(|error| Error::new(ErrorKind::Io, "the flush did not run").with_source(error))??;
    failpoint("flush.after");
    for group in node.groups() {
        if let Err(error) = group.mark_flushed().await {
            node.close(&group, &error).await;
        }
    }
    Ok(())
}
