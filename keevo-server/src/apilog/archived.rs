//! Calls that the log of a shard has purged, from its archive.
//!
//! Invariant: entries come in the order of their indexes; a gap of the archive shows in the first index of a page.

use std::sync::{Arc, Mutex, PoisonError};

use keevo_archive::{Archive, Storage, names};
use keevo_core::{ClusterId, Hlc, Result, ShardId};
use keevo_proto::admin::v1 as pb;
use keevo_raft::{CallEntry, CallsPage, LoggedEntry, LoggedKind};

/// The most bytes of entries that one page is read from, but for its last entry.
const PAGE_BYTES: usize = 4 << 20;
/// Clocks of a shard may be out of order by as much as its leaders' clocks were apart.
const APART: Hlc = Hlc(60_000 << 16);

/// A segment by its name.
type Kept = (String, Arc<Vec<LoggedEntry>>);

/// The archive of the log, for whoever reads calls.
#[derive(Debug)]
pub(crate) struct ArchivedCalls {
    storage: Arc<dyn Storage>,
    /// The segment that was read last: its next part is asked for next.
    last: Mutex<Option<Kept>>,
}

impl ArchivedCalls {
    pub(crate) fn new(storage: Arc<dyn Storage>) -> Self {
        Self { storage, last: Mutex::default() }
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
        let mut from = request.from_index;
        if request.from_hlc > 0 {
            let wanted = Hlc(request.from_hlc.saturating_sub(APART.0));
            let Some(first) = archive.find(shard, wanted).await? else { return Ok(None) };
            from = from.max(first);
        }
        let segments = archive.segments(shard, None).await?;
        let begins = segments.iter().rposition(|one| names::first_of(&one.name).is_ok_and(|first| first <= from));
        for object in segments.iter().skip(begins.unwrap_or_default()) {
            if names::first_of(&object.name)? >= held.first {
                break;
            }
            let entries = self.read(&archive, &object.name).await?;
            let wanted: Vec<_> =
                entries.iter().filter(|entry| entry.index >= from && entry.index < held.first).collect();
            if let Some(first) = wanted.first() {
                return read(first.index, held.end, &wanted).map(Some);
            }
        }
        Ok(None)
    }

    async fn read(&self, archive: &Archive, name: &str) -> Result<Arc<Vec<LoggedEntry>>> {
        let kept = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((_, entries)) = kept.filter(|(kept, _)| kept == name) {
            return Ok(entries);
        }
        let entries = Arc::new(archive.read(name).await?.entries);
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((name.to_owned(), Arc::clone(&entries)));
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
    use bytes::Bytes;
    use keevo_archive::{ObjectStorage, segment};
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

    /// Segments of entries 1 to 4, 5 to 8 and 11 to 12, one entry every 100 seconds.
    async fn archived() -> ArchivedCalls {
        let log = CallLog::new(1, true, Arc::new(ManualClock::new(1_000)), Arc::new(SeededRandom::new(7)));
        let storage: Arc<dyn Storage> = Arc::new(ObjectStorage::memory());
        for range in [1..5, 5..9, 11..13] {
            let entries: Vec<_> = range.map(|index| entry(&log, index, index * 100)).collect();
            let (head, bytes) = segment::encode(CLUSTER, SHARD, &entries).expect("a segment");
            assert!(storage.put_new(&names::segment(CLUSTER, SHARD, head.first), bytes).await.expect("written"));
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
