//! Reading what a shard has applied: points, pages, its hash, and watches.
//!
//! Invariant: what is visible is judged by the shard clock, read before the records; the wall clock is never
//! asked. Every record passes its checksum before it leaves.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;

use super::page::PageRows;
use super::shared::{Place, Shared, closed};
use super::view::ShardView;
use super::watcher::Watcher;
use crate::command::{Hlc, Outcome};
use crate::error::{Error, ErrorKind, Result};
use crate::ids::{Revision, ShardId};
use crate::key::Key;
use crate::limits::{MULTI_GET_KEYS_MAX, SCAN_BYTES_MAX};
use crate::record::{Record, StoredRecord};
use crate::scan::{Direction, PageToken, Records, Scan, ScanPage};
use crate::store::{Column, Store, Visit};
use crate::system::{CHECKSUM, row_key};
use crate::watch::{Changes, Cursor, Watch, WatchRange};

/// The most keys that one page looks at, expired ones included.
const VISITED_MAX: usize = 100_000;

/// Reads what a shard has applied. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ShardReader<S: Store> {
    store: S,
    shared: Arc<Shared>,
}

impl<S: Store> ShardReader<S> {
    pub(super) fn new(store: S, shared: Arc<Shared>) -> Self {
        Self { store, shared }
    }

    /// The shard.
    pub fn shard(&self) -> ShardId {
        self.shared.place.shard
    }

    /// The record under `key`, if there is one. A key outside the shard is `ShardMoved`.
    pub fn get(&self, key: &Key) -> Result<Option<Record>> {
        let key = self.owned(key)?;
        let now_ms = self.shared.now_ms();
        visible(&key, self.store.get(Column::Data, &key)?, now_ms)
    }

    /// The records under `keys`, in their order. A key outside the shard is `ShardMoved`.
    pub fn multi_get(&self, keys: &[Key]) -> Result<Vec<Option<Record>>> {
        if keys.len() > MULTI_GET_KEYS_MAX {
            return Err(Error::new(
                ErrorKind::BatchTooLarge,
                format!("{} keys in one read, more than {MULTI_GET_KEYS_MAX}", keys.len()),
            ));
        }
        let keys = keys.iter().map(|key| self.owned(key)).collect::<Result<Vec<_>>>()?;
        let now_ms = self.shared.now_ms();
        let found = self.store.multi_get(Column::Data, &keys)?;
        keys.iter().zip(found).map(|(key, stored)| visible(key, stored, now_ms)).collect()
    }

    fn owned(&self, key: &Key) -> Result<Bytes> {
        key.validate()?;
        let encoded = key.encode();
        if self.shared.place.owns(&encoded) { Ok(encoded) } else { Err(self.shared.place.moved()) }
    }

    /// One page of a scan, of that part of its range that lies in the shard; `next` is `None` at the end of it.
    pub fn scan(&self, scan: &Scan) -> Result<ScanPage> {
        let (as_of, now_ms) = (self.now(), self.shared.now_ms());
        fill_page(
            &self.shared.place,
            scan,
            as_of,
            |stored| stored.is_visible(now_ms),
            |lower, upper, visit| self.store.scan(Column::Data, lower, upper, scan.direction, visit),
        )
    }

    /// The shard as it is now, to be scanned page by page. `wall_ms` is the time: what has expired by then does not
    /// show in it.
    pub fn view(&self, wall_ms: u64) -> Result<ShardView> {
        // In this order: the cursor and the clock may be behind the view, never ahead of it.
        let (as_of, now_ms) = (self.now(), self.shared.now_ms());
        Ok(ShardView::new(Arc::clone(&self.shared), self.store.view()?, as_of, (now_ms, wall_ms)))
    }

    /// Shows every record of the shard that has not expired, with its encoded key, in key order, as of one moment. Blocks.
    pub fn visit(&self, visit: &mut dyn FnMut(&[u8], &Record)) -> Result<()> {
        let (now_ms, view) = (self.shared.now_ms(), self.store.view()?);
        let Place { lower, upper, .. } = &self.shared.place;
        view.scan(lower, upper, Direction::Forward, &mut |key, row| {
            let stored = StoredRecord::decode(key, &Bytes::copy_from_slice(row))?;
            if stored.is_visible(now_ms) {
                visit(key, &stored.record);
            }
            Ok(ControlFlow::Continue(()))
        })
    }

    /// A cursor after everything applied so far.
    pub fn now(&self) -> Cursor {
        let place = &self.shared.place;
        Cursor { cluster: place.cluster, shard: place.shard, revision: self.applied(), offset: u32::MAX }
    }

    /// The shard's changes within `range`, after the cursor; without one from now on.
    ///
    /// A cursor of another cluster is `WrongCluster`, of another shard `Invalid`, before the retained changes
    /// `CursorCompacted`; the watch itself ends so when it falls behind, and with `Closed` when the machine is
    /// dropped.
    pub fn watch(&self, range: WatchRange, after: Option<Cursor>) -> Result<Watch> {
        self.watcher(range, after.unwrap_or_else(|| self.now())).map(Watcher::into_stream)
    }

    /// The shard's changes within `range` that are there already, after the cursor: at most `max` of them, and about
    /// `bytes_max` bytes. Errors are those of [`Self::watch`].
    pub fn changes(&self, range: WatchRange, after: Cursor, max: usize, bytes_max: usize) -> Result<Changes> {
        self.watcher(range, after)?.read(after, max, bytes_max)
    }

    fn watcher(&self, range: WatchRange, after: Cursor) -> Result<Watcher<S>> {
        let place = &self.shared.place;
        if after.cluster != place.cluster {
            return Err(Error::new(
                ErrorKind::WrongCluster,
                format!("the cursor is of cluster {}, this is {}", after.cluster, place.cluster),
            ));
        }
        if after.shard != place.shard {
            return Err(Error::invalid(format!("the cursor is of shard {}, this is {}", after.shard, place.shard)));
        }
        Watcher::new(self.store.clone(), Arc::clone(&self.shared), range, after)
    }

    /// The shard clock: the latest clock of any applied entry.
    pub fn clock(&self) -> Hlc {
        self.shared.clock()
    }

    /// The revision of the last applied entry.
    pub fn applied(&self) -> Revision {
        self.shared.applied()
    }

    /// Waits until `revision` is applied; `Closed` when the machine is dropped first.
    pub async fn wait_applied(&self, revision: Revision) -> Result<()> {
        let mut applied_rx = self.shared.applied_rx();
        let waited = applied_rx.wait_for(|applied| *applied >= revision).await;
        waited.map(drop).map_err(|gone| closed(&self.shared.place).with_source(gone))
    }

    /// The result of the last `Checksum` command: revision, hash and number of records.
    pub fn checksum(&self) -> Result<Option<(Revision, u64, u64)>> {
        let Some(row) = self.store.get(Column::Data, &row_key(self.shard(), CHECKSUM))? else { return Ok(None) };
        match Outcome::decode(&row)? {
            Outcome::Checksum { revision, hash, records } => Ok(Some((revision, hash, records))),
            _ => Err(Error::corrupt("the checksum row holds another outcome")),
        }
    }
}

/// One page of a scan, of what `is_visible` of that part of its range that lies in the shard, told of each record without
/// its value. `walk` scans encoded bounds.
pub(super) fn fill_page(
    place: &Place,
    scan: &Scan,
    as_of: Cursor,
    mut is_visible: impl FnMut(&StoredRecord) -> bool,
    walk: impl FnOnce(&[u8], &[u8], Visit<'_>) -> Result<()>,
) -> Result<ScanPage> {
    scan.validate()?;
    let (lower, upper) = scan.encoded_bounds();
    let (lower, upper) = (lower.max(place.lower.clone()), upper.min(place.upper.clone()));
    let mut page = ScanPage { records: Records::default(), next: None, as_of };
    if lower >= upper {
        return Ok(page);
    }
    let mut rows = PageRows::new(&scan.range, scan.limit);
    let mut visited = 0;
    // The last key, where it is not that of the last row.
    let mut left_out: Option<Vec<u8>> = None;
    walk(&lower, &upper, &mut |key, stored| {
        if rows.len() == scan.limit || rows.bytes() >= SCAN_BYTES_MAX || visited == VISITED_MAX {
            let last = left_out.as_deref().or_else(|| rows.last_key()).unwrap_or_default();
            page.next = Some(PageToken(Bytes::copy_from_slice(last)));
            return Ok(ControlFlow::Break(()));
        }
        visited += 1;
        if rows.add(key, stored, &mut is_visible)? {
            left_out = None;
        } else {
            let last = left_out.get_or_insert_default();
            last.clear();
            last.extend_from_slice(key);
        }
        Ok(ControlFlow::Continue(()))
    })?;
    page.records = rows.into_records()?;
    Ok(page)
}

fn visible(key: &[u8], stored: Option<Bytes>, now_ms: u64) -> Result<Option<Record>> {
    let stored = stored.map(|stored| StoredRecord::decode_owned(key, stored)).transpose()?;
    Ok(stored.filter(|stored| stored.is_visible(now_ms)).map(|stored| stored.record))
}
