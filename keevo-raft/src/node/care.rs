//! The eye on disk and stores: it looks often, flushes before its time, and keeps the gate informed.

use std::sync::Arc;
use std::time::Duration;

use keevo_core::Store;
use tokio::time::Instant;

use super::NodeInner;

/// How often disk and store are looked at. Between two looks the gate counts for itself.
const EVERY: Duration = Duration::from_millis(100);
/// The pause between two flushes that are made because something is wrong.
const REPAIR_EVERY: Duration = Duration::from_millis(500);

/// Looks until the node stops.
pub(super) async fn run(node: Arc<NodeInner>) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut sparing = false;
    let mut repaired: Option<Instant> = None;
    loop {
        ticks.tick().await;
        let load = match node.parts.store.load() {
            Ok(load) => load,
            Err(error) => {
                tracing::warn!(%error, "the data store does not tell its load");
                continue;
            }
        };
        let full = node.gate.observe(load);
        let spare = node.gate.is_space_scarce();
        if spare != sparing {
            match node.parts.store.spare_disk(spare) {
                Ok(()) => sparing = spare,
                Err(error) => tracing::warn!(%error, spare, "compactions could not be held or resumed"),
            }
        }
        // On a full disk a flush lets the logs be purged, and tells whether a failed one is made good.
        let repairs = (full || load.failing) && repaired.is_none_or(|at| at.elapsed() >= REPAIR_EVERY);
        if repairs {
            repaired = Some(Instant::now());
        }
        if repairs || load.unflushed_bytes >= node.gate.limits().flush_bytes {
            node.flush_wanted.notify_one();
        }
    }
}
