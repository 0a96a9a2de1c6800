//! A copy of a node: its data store as of now, and of its logs what the copy has yet to apply.
//!
//! ```text
//! hold purges ─▶ note what is applied ─▶ copy the data (at least that far) ─▶ copy the logs from there on
//! ```
//!
//! Invariant: the copied log begins at or before the end of the copied data, and holds all that this node has ever
//! told its leader to be durable. Writes go on meanwhile; they wait for nothing but the data store's own checkpoint.

use std::collections::BTreeMap;

use keevo_core::{Column, Error, ErrorKind, Result, ShardId, Store, encode_system, system};

use super::Node;
use crate::log_store::{LogStore, copy_group};
use crate::state_machine::decode_position;

impl Node {
    /// Copies the node: `copy_data`, which may block, copies the data store; the empty store `log` gets the logs.
    /// Everything in `log` is durable when this returns. One at a time; flushes wait meanwhile.
    ///
    /// Errors: those of `copy_data` and of the stores; `Corrupt` if a log is damaged where it is still needed.
    pub async fn checkpoint(
        &self,
        copy_data: impl FnOnce() -> Result<()> + Send + 'static,
        log: &dyn LogStore,
    ) -> Result<()> {
        let parts = &self.inner.parts;
        let _no_purge = self.inner.flushing.lock().await;
        let mut applied = BTreeMap::new();
        for group in parts.log.groups()? {
            let row = parts.store.get(Column::Data, &encode_system(ShardId(group), system::APPLIED).freeze())?;
            applied.insert(group, decode_position(row, None)?.0);
        }
        tokio::task::spawn_blocking(copy_data)
            .await
            .map_err(|error| Error::new(ErrorKind::Io, "the data store was not copied").with_source(error))??;
        for (group, applied) in applied {
            copy_group(parts.log.as_ref(), log, group, applied).await?;
        }
        if let Some(stamp) = parts.log.stamp()? {
            log.save_stamp(stamp).await?;
        }
        log.sync().await
    }
}
