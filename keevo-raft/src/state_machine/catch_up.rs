//! What a replica does before it runs: applies again what is committed in its log and was not flushed.
//!
//! Openraft would do so when it starts, in steps of 64 entries on the task that starts it. Here the steps are larger and
//! run where they may block, so that the replicas of a node catch up beside each other, on all processors.

use keevo_core::Result;

use super::{GroupMachine, next_batch};
use crate::blocking;
use crate::log_store::LogStore;

/// Bytes of entries that are read, and then applied, in one step.
const STEP_BYTES: usize = 4 << 20;
/// The bytes after which a store batch takes no further entry, counted as they are written: nobody waits for the thread.
const BATCH_BYTES: usize = 8 << 20;

impl GroupMachine {
    /// Applies the entries up to the log's note of what is committed. Where the log lacks one of them it stops:
    /// openraft judges, with the same rows at hand, what that means.
    pub(crate) async fn catch_up(mut self, log: &dyn LogStore) -> Result<Self> {
        let group = self.shared.shard.0;
        let end = log.committed(group)?.map_or(0, |committed| committed.index.saturating_add(1));
        loop {
            let next = self.applied.map_or(0, |applied| applied.index.saturating_add(1));
            if next >= end {
                return Ok(self);
            }
            let entries = log.read(group, next..end, STEP_BYTES).await?;
            if entries.first().is_none_or(|first| first.log_id.index != next) {
                return Ok(self);
            }
            self.shared.has_space().await;
            let store = self.shared.store.clone();
            let step = move || {
                let entries: Vec<_> = entries.into_iter().map(|entry| (entry, None)).collect();
                let mut entries = entries.into_iter();
                while entries.len() > 0 {
                    let (batch, _) = next_batch(&mut entries, BATCH_BYTES, false)?;
                    self.apply_batch(batch)?;
                }
                Ok(self)
            };
            self = blocking::run(&store, "applying the log again", step).await?;
        }
    }
}
