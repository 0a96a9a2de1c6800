//! A shard as it was at one moment, scanned page by page.
//!
//! Invariant: all pages of a view show one state, judged by one clock: the shard's when the view was made, or the time
//! then, where the shard's had stood still. Whoever is told that the latter mattered moves the shard's clock there, so
//! that no later read shows what the view did not.

use std::sync::Arc;

use super::reader::{ShardReader, fill_page};
use super::shared::Shared;
use crate::error::Result;
use crate::record::StoredRecord;
use crate::scan::{PageToken, Scan, ScanPage};
use crate::store::{Store, StoreView};
use crate::views::Views;
use crate::watch::Cursor;

/// One state of a shard, for as long as it is held.
#[derive(Debug)]
pub struct ShardView {
    shared: Arc<Shared>,
    store: Arc<dyn StoreView>,
    as_of: Cursor,
    /// The shard clock, in milliseconds.
    now_ms: u64,
    /// The time, in milliseconds.
    wall_ms: u64,
}

impl ShardView {
    pub(super) fn new(
        shared: Arc<Shared>,
        store: Arc<dyn StoreView>,
        as_of: Cursor,
        (now_ms, wall_ms): (u64, u64),
    ) -> Self {
        Self { shared, store, as_of, now_ms, wall_ms }
    }

    /// One page, whose token is that of a scan without a view; and whether something is left out that had expired while
    /// the shard's clock stood.
    fn page(&self, scan: &Scan) -> Result<(ScanPage, bool)> {
        let mut has_expired = false;
        let is_visible = |stored: &StoredRecord| {
            let shows = stored.is_visible(self.now_ms.max(self.wall_ms));
            has_expired |= !shows && stored.is_visible(self.now_ms);
            shows
        };
        let page = fill_page(&self.shared.place, scan, self.as_of, is_visible, |lower, upper, visit| {
            self.store.scan(lower, upper, scan.direction, visit)
        })?;
        Ok((page, has_expired))
    }
}

/// One page of a consistent scan, of that part of its range that lies in the shard: of the view that its token names,
/// or of a new one, which is held in `views` if the page is not its last. `wall_ms` is the time.
///
/// Also tells whether the caller has to move the shard's clock to `wall_ms` at least before it answers: something is
/// left out that had expired while the clock stood. Errors: `ScanExpired`, `ResourceExhausted`, those of the store.
pub fn scan_in_view<S: Store>(
    views: &Views<ShardView>,
    reader: &ShardReader<S>,
    scan: &Scan,
    wall_ms: u64,
) -> Result<(ScanPage, bool)> {
    scan.validate()?;
    let shard = reader.shard();
    let in_view = |id| move |PageToken(last): PageToken| PageToken::in_view(id, &last);
    let Some(id) = scan.view() else {
        let view = reader.view(wall_ms)?;
        let (mut page, has_expired) = view.page(scan)?;
        if page.next.is_some() {
            page.next = page.next.map(in_view(views.hold(shard, view)?));
        }
        return Ok((page, has_expired));
    };
    let (mut page, has_expired) = views.get(id, shard)?.page(scan)?;
    page.next = page.next.map(in_view(id));
    if page.next.is_none() {
        views.end(id);
    }
    Ok((page, has_expired))
}
