//! Values that are not sealed with the newest key are sealed with it, in place.
//!
//! Rows are looked through while writers go on; of those that are found, a few at a time are read again and written while no
//! writer comes in between, so that nothing newer is overwritten. What a reader sees does not change.

use std::ops::ControlFlow;

use bytes::Bytes;
use rocksdb::WriteBatch;

use super::errors::translate;
use super::seals::Seals;
use super::{RocksStore, view};
use crate::error::{ErrorKind, Result};
use crate::scan::Direction;
use crate::store::{Column, Durability, Store};

/// How many rows are sealed at once, and of how many bytes: writers wait meanwhile.
const ROWS_MAX: usize = 256;
const BYTES_MAX: usize = 256 << 10;

impl RocksStore {
    /// The numbers of the keys that values in this store may be sealed with; 0 where some may not be sealed. Empty = the store
    /// has no keys.
    pub fn key_ids(&self) -> Vec<u32> {
        self.seals().map(|seals| seals.named().iter().map(|used| used.id).collect()).unwrap_or_default()
    }

    pub(super) fn begin_resealing(&self, part: u8) -> Result<()> {
        self.seals().map_or(Ok(()), |seals| seals.begin_part(part))
    }

    pub(super) fn end_resealing(&self, part: u8, parts: u8) -> Result<()> {
        self.seals().map_or(Ok(()), |seals| seals.end_part(part, parts))
    }

    /// Seals the values of keys from `start` up to `end` with the newest key; empty = no bound.
    pub(super) fn reseal(&self, column: Column, start: &[u8], end: &[u8]) -> Result<()> {
        let Some(seals) = self.seals() else { return Ok(()) };
        let newest = seals.newest()?;
        if !seals.may_be_stale(newest.used()) {
            return Ok(());
        }
        let flush_bytes = self.shared.settings.write_buffer_bytes / 4;
        let mut written = 0;
        let mut from = start.to_vec();
        loop {
            let (mut keys, mut bytes) = (Vec::new(), 0);
            let Some(mut how) = view::bounded(&from, end) else { break };
            how.fill_cache(false);
            let rows = self.shared.db.raw_iterator_cf_opt(self.family(column)?, how);
            view::walk(rows, Direction::Forward, &mut |key, stored| {
                if Seals::is_stale(column, key, stored, newest.used()) {
                    bytes += key.len() + stored.len();
                    keys.push(Bytes::copy_from_slice(key));
                }
                let is_full = keys.len() >= ROWS_MAX || bytes >= BYTES_MAX;
                Ok(if is_full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
            })?;
            let Some(last) = keys.last() else { break };
            // The key after it.
            from = [last.as_ref(), &[0]].concat();
            self.reseal_rows(column, &keys)?;
            written += bytes;
            if written >= flush_bytes {
                self.flush()?;
                written = 0;
            }
        }
        Ok(())
    }

    /// Reads some rows again, and writes those that are still to be sealed, while nobody else writes.
    fn reseal_rows(&self, column: Column, keys: &[Bytes]) -> Result<()> {
        let Some(seals) = self.seals() else { return Ok(()) };
        // Before the others are kept out: the key may have to be written down first.
        let key = seals.writing()?.key();
        let family = self.family(column)?;
        let _alone = seals.alone();
        let mut batch = WriteBatch::default();
        for row in keys {
            let found = self.shared.db.get_pinned_cf_opt(family, row, &self.shared.reads);
            let Some(stored) = found.map_err(|source| translate("read a row to be sealed", source))? else { continue };
            if !Seals::is_stale(column, row, &stored, key.used()) {
                continue;
            }
            match seals.open_value(column, row, &stored) {
                Ok(value) => batch.put_cf(family, row, seals.seal(&key, column, row, &value)?),
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    tracing::error!(%error, "a row cannot be sealed anew: its key stays in use");
                    seals.spoil_pass();
                }
                Err(error) => return Err(error),
            }
        }
        if batch.is_empty() {
            return Ok(());
        }
        self.commit(batch, keys.len(), Durability::Unlogged)
    }
}
