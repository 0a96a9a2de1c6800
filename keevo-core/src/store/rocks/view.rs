//! Read views of RocksDB that live as long as who holds them.
//!
//! A RocksDB snapshot borrows the database; `self_cell` keeps the two in one value, the database alive for as long as
//! the snapshot.

use std::fmt;
use std::ops::ControlFlow;

use rocksdb::{DB, DBRawIteratorWithThreadMode, ReadOptions, Snapshot};
use self_cell::self_cell;

use super::errors::translate;
use super::expiry::ExpiryHold;
use super::seals::visiting;
use super::{Column, RocksStore, StoreView, Visit};
use crate::error::Result;
use crate::scan::Direction;

self_cell!(
    struct Held {
        owner: RocksStore,
        #[covariant]
        dependent: Snapshot,
    }
);

/// One state of the database.
pub(super) struct RocksView {
    held: Held,
    /// Compactions do not see snapshots: what has expired since this one was taken must stay while it is held.
    _expiry: ExpiryHold,
}

impl RocksView {
    pub(super) fn new(store: &RocksStore) -> Self {
        // Before the snapshot, so that no compaction begins in between with later clocks than the snapshot shows.
        let expiry = store.shared.built.expiry.hold();
        Self { held: Held::new(store.clone(), |store| store.shared.db.snapshot()), _expiry: expiry }
    }
}

impl fmt::Debug for RocksView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RocksView").field(self.held.borrow_owner()).finish()
    }
}

impl StoreView for RocksView {
    fn scan(&self, lower: &[u8], upper: &[u8], direction: Direction, visit: Visit<'_>) -> Result<()> {
        let Some(how) = bounded(lower, upper) else { return Ok(()) };
        self.held.with_dependent(|store, snapshot| {
            let rows = snapshot.raw_iterator_cf_opt(store.family(Column::Data)?, how);
            visiting(store.seals(), Column::Data, visit, |visit| walk(rows, direction, visit))
        })
    }
}

/// The options for a scan of `[lower, upper)`; an empty `upper` means no end. `None` when there is nothing in it.
pub(super) fn bounded(lower: &[u8], upper: &[u8]) -> Option<ReadOptions> {
    if !upper.is_empty() && lower >= upper {
        return None;
    }
    let mut how = ReadOptions::default();
    how.set_iterate_lower_bound(lower);
    if !upper.is_empty() {
        how.set_iterate_upper_bound(upper);
    }
    Some(how)
}

/// Visits what an iterator with bounds covers.
pub(super) fn walk(
    mut iterator: DBRawIteratorWithThreadMode<'_, DB>,
    direction: Direction,
    visit: Visit<'_>,
) -> Result<()> {
    match direction {
        Direction::Forward => iterator.seek_to_first(),
        Direction::Backward => iterator.seek_to_last(),
    }
    while let Some((key, value)) = iterator.item() {
        if let ControlFlow::Break(()) = visit(key, value)? {
            return Ok(());
        }
        match direction {
            Direction::Forward => iterator.next(),
            Direction::Backward => iterator.prev(),
        }
    }
    iterator.status().map_err(|source| translate("scan a range", source))
}
