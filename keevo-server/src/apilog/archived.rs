//! Calls that the log of a shard has purged, from its archive.
//!
//! Invariant: entries come in the order of their indexes; a gap of the archive shows in the first index of a page.

mod kept;

use std::sync::{Arc, Mutex, PoisonError};

use keevo_archive::{Archive, Storage, names};
use keevo_core::{ClusterId, ErrorKind, Hlc, Result, ShardId};
use keevo_proto::admin::v1 as pb;
use keevo_raft::{CallEntry, CallsPage, LoggedEntry, LoggedKind};

use kept::{Kept, Listing};

/// The most bytes of entries that one page is read from, but for its last entry.
const PAGE_BYTES: usize = 4 << 20;
/// Clocks of a shard may be out of order by as much as its leaders' clocks were apart.
const APART: Hlc = Hlc(60_000 << 16);

/// The archive of the log, for whoever reads calls.
#[derive(Debug)]
pub(crate) struct ArchivedCalls {
    storage: Arc<dyn Storage>,
    /// What was read and listed last: what comes behind it is asked for next.
    kept: Mutex<Kept>,
}

impl ArchivedCalls {
    pub(crate) fn new(storage: Arc<dyn Storage>) -> Self {
        Self { storage, kept: Mutex::default() }
    }

    /// Whether the archive may hold something that is asked for and is not in `held`, which is what the log has.
    pub(crate) fn is_needed(request: &pb::ReadCallsRequest, held: &CallsPage) -> bool {
        let begins = held.calls.first().map(|call| call.entry.hlc.0);
        let reaches = request.from_hlc > 0 && begins.is_some_and(|hlc| hlc.saturating_add(APART.0) <= request.from_hlc);
        !request.log_only && request.from_index < held.first && !reaches
    }

    /// What the archive says of calls from an index on, before those that the log has; `None` = nothing. The page ends where
    /// that of the log does.
    pub(crate) async fn page(
        &self,
        cluster: ClusterId,
        request: &pb::ReadCallsRequest,
        held: &CallsPage,
    ) -> Result<Option<CallsPage>> {
        let (archive, shard) = (Archive::new(Arc::clone(&self.storage), cluster), ShardId(request.shard));
        let known = self.kept.lock().unwrap_or_else(PoisonError::into_inner).listing(cluster, shard);
        if let Some(listing) = known {
            match self.page_by(&archive, (shard, listing), request, held).await {
                // More has come since, or what was there has gone.
                Ok(None) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                found => return found,
            }
        }
        let listing = Listing::new(cluster, shard, archive.firsts(shard).await?);
        self.page_by(&archive, (shard, listing), request, held).await
    }

    /// As [`ArchivedCalls::page`], by a listing, which is kept for the next page.
    async fn page_by(
        &self,
        archive: &Archive,
        (shard, mut listing): (ShardId, Listing),
        request: &pb::ReadCallsRequest,
        held: &CallsPage,
    ) -> Result<Option<CallsPage>> {
        let mut from = request.from_index;
        if request.from_hlc > 0 {
            let wanted = Hlc(request.from_hlc.saturating_sub(APART.0));
            let found = match listing.found {
                Some((moment, found)) if moment == wanted => found,
                _ => archive.find_in(shard, &listing.firsts, wanted).await?,
            };
            listing.found = Some((wanted, found));
            let Some(first) = found else { return Ok(None) };
            from = from.max(first);
        }
        let firsts = Arc::clone(&listing.firsts);
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).keep(listing);
        let begins = firsts.partition_point(|first| *first <= from).saturating_sub(1);
        for first in firsts.iter().skip(begins).take_while(|first| **first < held.first) {
            let entries = self.read(archive, names::segment(archive.cluster(), shard, *first)).await?;
            let wanted: Vec<_> =
                entries.iter().filter(|entry| entry.index >= from && entry.index < held.first).collect();
            if let Some(first) = wanted.first() {
                return read(first.index, held.end, &wanted).map(Some);
            }
        }
        Ok(None)
    }

    async fn read(&self, archive: &Archive, name: String) -> Result<Arc<Vec<LoggedEntry>>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).segment(&name);
        if let Some(entries) = kept {
            return Ok(entries);
        }
        let entries = Arc::new(archive.read(&name).await?.entries);
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).keep_segment(name, &entries);
        Ok(entries)
    }
}

fn read(first: u64, end: u64, entries: &[&LoggedEntry]) -> Result<CallsPage> {
    let mut page = CallsPage { calls: Vec::new(), first, next: first, end, hlc: Hlc::default() };
    let mut bytes = 0;
    for entry in entries {
        if bytes > PAGE_BYTES {
            break;
        }
        bytes += entry.payload.len();
        page.next = entry.index.saturating_add(1);
        if entry.kind == LoggedKind::Command {
            let (hlc, call) = CallEntry::read(entry.index, &entry.payload)?;
            page.hlc = page.hlc.max(hlc);
            page.calls.extend(call);
        }
    }
    Ok(page)
}

#[cfg(test)]
mod tests {
    use std::ops::Range;
    use std::sync::atomic::{AtomicU32, Ordering};

    use bytes::Bytes;
    use futures::future::BoxFuture;
    use keevo_archive::{Object, ObjectStorage, segment};
    use keevo_core::call::{CallDoor, CallLog, CallRequest, NewCall};
    use keevo_core::{Command, Entry, ManualClock, SeededRandom};

    use super::*;

    const CLUSTER: ClusterId = ClusterId(7);
    const SHARD: ShardId = ShardId(3);

    /// An entry of a call that was made at a second.
    fn entry(log: &CallLog, index: u64, second: u64) -> LoggedEntry {
        let new = NewCall {
            door: CallDoor::Grpc,
            app: None,
            principal: "nobody".to_owned(),
            method: format!("call {index}"),
            request: CallRequest::Body(Bytes::new()),
            redacted: false,
        };
        let note = log.begin(new).expect("it is on").note(SHARD).expect("the first");
        let payload = Entry { hlc: Hlc::from_ms(second * 1_000), command: Command::MoveClock }.encode();
        LoggedEntry { index, term: 1, replica: 1, kind: LoggedKind::Command, payload: note.append_to(&payload) }
    }

    /// A storage that counts how often it is listed, and how many objects are read, wholly or in part.
    #[derive(Debug)]
    struct Counted {
        inner: ObjectStorage,
        lists: AtomicU32,
        reads: AtomicU32,
    }

    impl Counted {
        fn counts(&self) -> (u32, u32) {
            (self.lists.load(Ordering::Relaxed), self.reads.load(Ordering::Relaxed))
        }
    }

    impl Storage for Counted {
        fn put_new<'a>(&'a self, name: &'a str, bytes: Bytes) -> BoxFuture<'a, Result<bool>> {
            self.inner.put_new(name, bytes)
        }

        fn replace<'a>(&'a self, name: &'a str, bytes: Bytes) -> BoxFuture<'a, Result<()>> {
            self.inner.replace(name, bytes)
        }

        fn get<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Bytes>>> {
            self.reads.fetch_add(1, Ordering::Relaxed);
            self.inner.get(name)
        }

        fn get_range<'a>(&'a self, name: &'a str, range: Range<u64>) -> BoxFuture<'a, Result<Option<Bytes>>> {
            self.reads.fetch_add(1, Ordering::Relaxed);
            self.inner.get_range(name, range)
        }

        fn size<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<u64>>> {
            self.inner.size(name)
        }

        fn list<'a>(&'a self, folder: &'a str, after: Option<&'a str>) -> BoxFuture<'a, Result<Vec<Object>>> {
            self.lists.fetch_add(1, Ordering::Relaxed);
            self.inner.list(folder, after)
        }

        fn folders<'a>(&'a self, folder: &'a str) -> BoxFuture<'a, Result<Vec<String>>> {
            self.inner.folders(folder)
        }

        fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<()>> {
            self.inner.delete(name)
        }
    }

    async fn add(storage: &dyn Storage, range: Range<u64>) {
        let log = CallLog::new(1, true, Arc::new(ManualClock::new(1_000)), Arc::new(SeededRandom::new(7)));
        let entries: Vec<_> = range.map(|index| entry(&log, index, index * 100)).collect();
        let (head, bytes) = segment::encode(CLUSTER, SHARD, &entries).expect("a segment");
        assert!(storage.put_new(&names::segment(CLUSTER, SHARD, head.first), bytes).await.expect("written"));
    }

    /// Segments of entries 1 to 4, 5 to 8 and 11 to 12, one entry every 100 seconds.
    async fn archived() -> ArchivedCalls {
        let storage: Arc<dyn Storage> = Arc::new(ObjectStorage::memory());
        for range in [1..5, 5..9, 11..13] {
            add(storage.as_ref(), range).await;
        }
        ArchivedCalls::new(storage)
    }

    fn asked(from_index: u64, from_s: u64) -> pb::ReadCallsRequest {
        let from_hlc = Hlc::from_ms(from_s * 1_000).0;
        pb::ReadCallsRequest { shard: SHARD.0, from_index, from_hlc, log_only: false }
    }

    #[tokio::test]
    async fn what_the_log_has_purged_comes_from_the_archive() {
        let archived = archived().await;
        let held = CallsPage { calls: Vec::new(), first: 12, next: 12, end: 20, hlc: Hlc::default() };
        for (from, from_s, first, next) in
            [(0, 0, 1, 5), (3, 0, 3, 5), (5, 0, 5, 9), (9, 0, 11, 12), (0, 700, 5, 9), (0, 1_150, 11, 12)]
        {
            let page = archived.page(CLUSTER, &asked(from, from_s), &held).await.expect("read").expect("there");
            assert_eq!((page.first, page.next, page.end), (first, next, 20), "from {from}, {from_s} s");
            let indexes: Vec<u64> = page.calls.iter().map(|call| call.index).collect();
            assert_eq!(indexes, (first..next).collect::<Vec<_>>());
        }
        for (from, from_s) in [(12, 0), (0, 9_000)] {
            assert!(archived.page(CLUSTER, &asked(from, from_s), &held).await.expect("read").is_none(), "{from}");
        }
        let other = pb::ReadCallsRequest { shard: 9, ..asked(0, 0) };
        assert!(archived.page(CLUSTER, &other, &held).await.expect("read").is_none());
    }

    #[tokio::test]
    async fn the_archive_is_listed_once_for_many_pages_and_anew_when_it_has_changed() {
        let storage = ObjectStorage::memory();
        let storage = Arc::new(Counted { inner: storage, lists: AtomicU32::default(), reads: AtomicU32::default() });
        for first in (1..41).step_by(2) {
            add(storage.as_ref(), first..first + 2).await;
        }
        let archived = ArchivedCalls::new(Arc::<Counted>::clone(&storage));
        let held = CallsPage { calls: Vec::new(), first: 1_000, next: 1_000, end: 1_000, hlc: Hlc::default() };
        let (mut from, mut calls) = (0, 0);
        while from < 41 {
            let page = archived.page(CLUSTER, &asked(from, 1_150), &held).await.expect("read").expect("there");
            calls += page.calls.len();
            from = page.next;
        }
        let (lists, reads) = storage.counts();
        assert_eq!((lists, calls), (1, 30), "from entry 11 on");
        assert!(reads <= 15 + 5, "each of 15 segments once, and the place to begin at by halves, not {reads}");

        // What came later is found, and what retention has removed is passed over.
        add(storage.as_ref(), 41..43).await;
        let page = archived.page(CLUSTER, &asked(41, 0), &held).await.expect("read").expect("there");
        assert_eq!((page.first, storage.counts().0), (41, 2));
        storage.delete(&names::segment(CLUSTER, SHARD, 1)).await.expect("removed");
        let page = archived.page(CLUSTER, &asked(0, 0), &held).await.expect("read").expect("there");
        assert_eq!((page.first, storage.counts().0), (3, 3));
    }

    #[tokio::test]
    async fn the_archive_is_asked_only_for_what_the_log_lacks() {
        let archived = archived().await;
        let held = CallsPage { calls: Vec::new(), first: 100, next: 100, end: 200, hlc: Hlc::default() };
        let all = archived.page(CLUSTER, &asked(1, 0), &held).await.expect("read").expect("there");
        let held = CallsPage { first: 3, calls: all.calls.into_iter().skip(2).collect(), ..held };
        let needed = |request: &pb::ReadCallsRequest| ArchivedCalls::is_needed(request, &held);
        assert!(needed(&asked(0, 0)) && needed(&asked(2, 0)) && needed(&asked(0, 350)));
        assert!(!needed(&asked(3, 0)), "the log has it");
        assert!(!needed(&asked(0, 400)), "the log begins before that time");
        assert!(!needed(&pb::ReadCallsRequest { log_only: true, ..asked(0, 0) }));
    }
}
