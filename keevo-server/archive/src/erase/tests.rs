//! What is left of the archive when a user is erased, and who may still read it.

use futures::FutureExt;
use keevo_core::call::{CallDoor, CallLog, NewCall};
use keevo_core::{Batch, Hlc, Keyspace, KeyspaceId, KeyspaceKind, ManualClock, SeededRandom, ShardId};

use super::*;
use crate::chunk::ChunkId;
use crate::manifest::ShardSummary;
use crate::names;
use crate::storage::ObjectStorage;

const CLUSTER: ClusterId = ClusterId(7);
const SHARD: ShardId = ShardId(3);
const SPACE: Keyspace = Keyspace { id: KeyspaceId(9), kind: KeyspaceKind::Hashed };

/// What lies in each entry of the log of the lab.
fn entries() -> Vec<LoggedEntry> {
    let log = CallLog::new(1, true, Arc::new(ManualClock::new(1_000)), Arc::new(SeededRandom::new(7)));
    let call = |app, principal: &str, request: CallRequest| {
        let (door, principal) = (CallDoor::ChatHttp, principal.to_owned());
        let new = NewCall { door, app, principal, method: "POST /chat/v1/x".into(), request, redacted: false };
        log.begin(new).expect("it is on").note(SHARD).expect("the first")
    };
    let body = |text: &str| CallRequest::Body(Bytes::copy_from_slice(text.as_bytes()));
    let put = |index: u64, value: &'static str| {
        let command = Command::Write(Batch::new().put(SPACE.key("p", "s"), value));
        Entry { hlc: Hlc::from_ms(index * 1_000), command }.encode()
    };
    let payloads = [
        (LoggedKind::Blank, Bytes::new()),
        (LoggedKind::Command, call(Some(2), "user alice", body("dear diary")).append_to(&put(2, "dear diary"))),
        (LoggedKind::Command, put(3, "a worker's copy of dear diary")),
        (LoggedKind::Command, call(Some(2), "user bob", body("good morning")).append_to(&put(4, "good morning"))),
        (LoggedKind::Command, call(None, "nobody", CallRequest::Command).append_to(&put(5, "a value"))),
        (LoggedKind::Command, call(Some(2), "user alice", body("dear diary")).append_to(&put(6, "dear diary"))),
    ];
    (1..)
        .zip(payloads)
        .map(|(index, (kind, payload))| LoggedEntry { index, term: 1, replica: 1, kind, payload })
        .collect()
}

struct Lab {
    storage: Arc<ObjectStorage>,
    archive: Archive,
}

impl Lab {
    /// Segments of entries 1 to 3, 4 to 5, and 6.
    async fn new(storage: ObjectStorage) -> Self {
        let storage = Arc::new(storage);
        let all = entries();
        for part in [&all[..3], &all[3..5], &all[5..]] {
            let (head, bytes) = segment::encode(CLUSTER, SHARD, part).expect("a segment");
            let name = names::segment(CLUSTER, SHARD, head.first);
            assert!(storage.put_new(&name, bytes).await.expect("written"));
        }
        Self { archive: Archive::new(Arc::<ObjectStorage>::clone(&storage), CLUSTER), storage }
    }

    /// Erases alice, where a backup has the shard as of `index`. Segments looked at and rewritten, calls erased and left.
    async fn erase(&self, index: Option<u64>, dry_run: bool) -> [u64; 4] {
        let is_of: IsOf = Arc::new(|envelope| envelope.principal == "user alice");
        let summary = |index| ShardSummary {
            shard: SHARD,
            index,
            hlc: Hlc::default(),
            records: 0,
            bytes: 0,
            file: ChunkId([0; 32]),
        };
        let manifest = |index| Manifest {
            cluster: CLUSTER,
            id: "monday".into(),
            made_ms: 1,
            version: "0".into(),
            shards: vec![summary(index)],
        };
        let kept: Vec<Manifest> = index.into_iter().map(manifest).collect();
        let counts = EraseCounts::default();
        let fence: Fence = Arc::new(|| async { Ok(()) }.boxed());
        let places = (self.storage.as_ref() as &dyn Storage, &self.archive);
        erase(places, &kept, (&is_of, dry_run), &counts, &fence).await.expect("erased");
        [&counts.segments, &counts.rewritten, &counts.calls, &counts.calls_left]
            .map(|count| count.load(Ordering::Relaxed))
    }

    async fn all(&self) -> Vec<LoggedEntry> {
        let mut all = Vec::new();
        for object in self.archive.segments(SHARD, None).await.expect("listed") {
            all.extend(self.archive.read(&object.name).await.expect("intact").entries);
        }
        all
    }
}

fn says(entry: &LoggedEntry, word: &str) -> bool {
    entry.payload.windows(word.len()).any(|part| part == word.as_bytes())
}

async fn nothing_is_left_of_the_user_and_all_of_the_others(storage: ObjectStorage) {
    let lab = Lab::new(storage).await;
    let before = entries();
    assert_eq!(lab.erase(Some(5), true).await, [3, 2, 1, 1], "a dry run");
    assert_eq!(lab.all().await, before, "nothing was done");
    assert_eq!(lab.erase(Some(5), false).await, [3, 2, 1, 1]);
    assert_eq!(lab.erase(Some(5), false).await, [3, 0, 0, 1], "it can be repeated");

    let after = lab.all().await;
    for word in ["alice", "diary"] {
        let with = |entries: &[LoggedEntry]| entries.iter().map(|entry| says(entry, word)).collect::<Vec<_>>();
        assert!(with(&before)[1] && with(&before)[5]);
        assert_eq!(with(&after), [false, false, false, false, false, true], "{word}: the backup needs the last one");
    }
    let note = |entry: &LoggedEntry| match EntryNote::of_entry(&entry.payload).expect("a note") {
        Some(EntryNote::Call { envelope, .. }) => envelope,
        other => panic!("no call: {other:?}"),
    };
    let (erased, was) = (note(&after[1]), note(&before[1]));
    assert!(erased.erased && erased.id == was.id && erased.method == "POST");
    assert_eq!(note(&after[3]), note(&before[3]), "another user's call");
    assert_eq!(after[4], before[4], "a call of keys and values, whose request is its command");
    for (entry, was) in after.iter().zip(&before) {
        assert_eq!((entry.index, entry.term, segment::hlc_of(entry)), (was.index, was.term, segment::hlc_of(was)));
    }
}

#[tokio::test]
async fn a_user_is_erased_from_the_archive_where_no_backup_needs_it() {
    nothing_is_left_of_the_user_and_all_of_the_others(ObjectStorage::memory()).await;
    let dir = tempfile::tempdir().expect("a folder");
    let address = dir.path().display().to_string();
    nothing_is_left_of_the_user_and_all_of_the_others(ObjectStorage::open(&address).expect("a folder")).await;
}

#[tokio::test]
async fn a_reduced_segment_is_never_applied_and_without_a_backup_none_is_reduced() {
    let lab = Lab::new(ObjectStorage::memory()).await;
    assert_eq!(lab.erase(None, false).await, [3, 0, 0, 2], "all of it may be needed");
    assert_eq!(lab.erase(Some(5), false).await, [3, 2, 1, 1]);
    let refused = lab.archive.log_from(SHARD, 4).await.expect("listed").next_entries().await.expect_err("reduced");
    assert!(refused.kind() == ErrorKind::NotFound && refused.message().contains("restore a later backup"), "{refused}");
    let mut rest = lab.archive.log_from(SHARD, 6).await.expect("listed");
    assert_eq!(rest.next_entries().await.expect("whole").map(|entries| entries.len()), Some(1));
    assert_eq!(lab.erase(Some(6), false).await, [3, 0, 0, 1], "the last segment is the one in which the shard goes on");
}
