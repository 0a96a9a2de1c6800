//! The flush that moves the durable point forward: data first, then openraft is told, then the logs shrink.

use std::sync::Arc;

use keevo_core::mutants::{self, Mutant};
use keevo_core::{Result, Store, failpoint};

use super::NodeInner;
use crate::blocking;

/// Flushes from time to time, and whenever that is wanted, until the node stops.
pub(super) async fn run(node: Arc<NodeInner>) {
    let mut ticks = tokio::time::interval(node.options.flush_every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    ticks.tick().await;
    let mut told = String::new();
    loop {
        tokio::select! {
            biased;
            _ = ticks.tick() => {}
            () = node.flush_wanted.notified() => ticks.reset(),
        }
        match once(&node).await {
            Ok(()) => told.clear(),
            Err(error) => {
                let text = error.to_string();
                if text != told {
                    tracing::error!(%error, "the data store could not be flushed; its logs are kept");
                    told = text;
                }
            }
        }
    }
}

/// One flush of all shards at one point, and the word to every group that its log may go. A group that has stopped
/// is closed, to be opened again; the others' logs go on to shrink. One at a time, and none while a copy is made.
pub(super) async fn once(node: &Arc<NodeInner>) -> Result<()> {
    let _one = node.flushing.lock().await;
    node.views.sweep();
    failpoint("flush.before");
    if !mutants::is_on(Mutant::PurgePastFlush) {
        let store = node.parts.store.clone();
        blocking::run(&node.parts.store, "the flush", move || store.flush()).await?;
    }
    failpoint("flush.after");
    let groups = node.groups();
    node.parts.store.set_expiry(groups.iter().filter_map(|group| group.expiry_clock()).collect());
    for group in groups {
        if let Err(error) = group.mark_flushed().await {
            node.close(&group, &error).await;
        }
    }
    if node.gate.is_disk_full() {
        node.parts.log.reclaim(node.gate.status().free_bytes).await?;
    }
    Ok(())
}
