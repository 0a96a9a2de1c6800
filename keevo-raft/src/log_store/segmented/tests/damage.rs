//! Changed bits, lost files and torn ends: damage to what was durable is said, never hidden.

use keevo_core::ErrorKind;

use super::super::recover;
use super::super::stream::{SEGMENT_HEADER_BYTES, segment_name};
use super::*;

const VOTE: Vote = Vote { leader_id: crate::types::LeaderId { term: 7, node_id: 1 }, committed: false };

/// Segments that hold all that these tests write.
fn small() -> SegmentedLogOptions {
    SegmentedLogOptions { segment_bytes: 4096, ..super::small() }
}

fn open_memory(folder: &Arc<MemoryFolder>) -> Arc<dyn LogStore> {
    open_in(Arc::new(Arc::clone(folder)), &small()).unwrap()
}

/// Ten entries and a vote for each of two groups, closed in good order.
async fn filled() -> Arc<MemoryFolder> {
    let folder = Arc::new(MemoryFolder::default());
    let store = open_memory(&folder);
    for group in [1, 2] {
        append(&store, group, (0..10).map(|index| entry(1, index, 50)).collect()).await.unwrap();
        store.save_vote(group, Vote::new(7, 1)).await.unwrap();
    }
    drop(store);
    folder
}

/// Where the records of a segment begin, and their headers.
fn records(bytes: &[u8], segment: u64) -> Vec<(usize, Header)> {
    let mut found = Vec::new();
    let mut at = SEGMENT_HEADER_BYTES;
    while let Some(header) =
        Header::read(&bytes[at..], record::Position { segment, offset: at.try_into().unwrap() }).unwrap()
    {
        found.push((at, header));
        at += header.record_bytes();
    }
    found
}

fn first_segment(folder: &MemoryFolder) -> Vec<u8> {
    folder.files()[&segment_name(1)].clone()
}

/// Opens what lies in `folder` with one byte of its first segment changed.
fn open_changed(folder: &MemoryFolder, at: usize) -> Result<Arc<dyn LogStore>> {
    let folder = Arc::new(folder.crash_by(0));
    let mut bytes = first_segment(&folder);
    bytes[at] ^= 0x10;
    folder.replace(&segment_name(1), bytes);
    open_in(Arc::new(folder), &small())
}

#[tokio::test]
async fn damage_in_an_entry_is_corrupt_and_spares_the_others() {
    let folder = filled().await;
    let bytes = first_segment(&folder);
    let (at, header) = records(&bytes, 1)
        .into_iter()
        .find(|(_, header)| (header.kind, header.group, header.index) == (Kind::Entry, 1, 4))
        .expect("written");
    for byte in [0, 20, 50] {
        assert!(byte < header.body_bytes as usize);
        let store = open_changed(&folder, at + HEADER_BYTES + byte).unwrap();
        let kind = |result: Result<Vec<Entry>>| result.map(|entries| entries.len()).map_err(|error| error.kind());
        assert_eq!(kind(store.read(1, 0..10, usize::MAX).await), Err(ErrorKind::Corrupt), "byte {byte}");
        assert_eq!(kind(store.read(1, 5..10, usize::MAX).await), Ok(5));
        assert_eq!(kind(store.read(2, 0..10, usize::MAX).await), Ok(10));
        let done = crate::log_store::scrub(store.as_ref(), 1, 0, usize::MAX).await.unwrap();
        let places: Vec<&str> = done.damages.iter().map(|(place, _)| place.as_str()).collect();
        assert_eq!((done.entries, places), (9, vec!["log entry 4 of shard 1"]));
    }
}

#[tokio::test]
async fn a_group_with_a_damaged_vote_or_end_can_only_be_destroyed() {
    let folder = filled().await;
    let bytes = first_segment(&folder);
    for wanted in [(Kind::Vote, 1, 0), (Kind::Entry, 1, 9)] {
        let mut found = records(&bytes, 1).into_iter();
        let (at, _) = found.rfind(|(_, header)| (header.kind, header.group, header.index) == wanted).expect("written");
        let changed = Arc::new(folder.crash_by(0));
        let mut bytes = first_segment(&changed);
        bytes[at + HEADER_BYTES] ^= 1;
        changed.replace(&segment_name(1), bytes);
        // Twice, since the segment with the damage may be gone the second time.
        for _ in 0..2 {
            let store = open_memory(&changed);
            assert_eq!(store.groups().unwrap(), [1, 2], "a damaged group is not forgotten");
            assert_eq!(store.vote(1).unwrap_err().kind(), ErrorKind::Corrupt);
            assert_eq!(store.log_state(1).unwrap_err().kind(), ErrorKind::Corrupt);
            assert_eq!(store.save_vote(1, Vote::new(9, 1)).await.unwrap_err().kind(), ErrorKind::Corrupt);
            let next = store.log_state(2).unwrap().last_log_id.unwrap().index + 1;
            append(&store, 2, (next..next + 30).map(|index| entry(1, index, 300)).collect()).await.unwrap();
            store.purge(2, log_id(1, 1, next + 29)).await.unwrap();
            store.sync().await.unwrap();
        }
        let store = open_memory(&changed);
        store.destroy(1).await.unwrap();
        assert_eq!(store.vote(1).unwrap(), None);
        drop(store);
        let store = open_memory(&changed);
        assert_eq!(store.groups().unwrap(), [2]);
        append(&store, 1, vec![entry(1, 0, 1)]).await.unwrap();
    }
}

/// Whatever byte of what was durable changes, the store or the group says so, or the byte meant nothing.
#[tokio::test]
async fn no_changed_byte_hides_what_was_durable() {
    let folder = filled().await;
    let bytes = first_segment(&folder);
    let end = records(&bytes, 1).last().map(|(at, header)| at + header.record_bytes()).unwrap();
    let mark = records(&bytes, 1).last().map(|(at, _)| *at).unwrap();
    let mut refused = [0; 3];
    for at in 0..end {
        let store = match open_changed(&folder, at) {
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Corrupt, "byte {at}");
                refused[0] += 1;
                continue;
            }
            Ok(store) => store,
        };
        let mut is_damaged = false;
        for group in [1, 2] {
            match store.vote(group) {
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Corrupt);
                    is_damaged = true;
                    continue;
                }
                Ok(vote) => assert_eq!(vote, Some(VOTE), "byte {at}"),
            }
            match store.read(group, 0..10, usize::MAX).await {
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Corrupt);
                    is_damaged = true;
                }
                Ok(entries) => {
                    assert_eq!(entries, (0..10).map(|index| entry(1, index, 50)).collect::<Vec<_>>(), "byte {at}");
                }
            }
        }
        refused[if is_damaged { 1 } else { 2 }] += 1;
        assert!(is_damaged || at >= mark, "byte {at} changed and nobody noticed");
    }
    assert!(refused[0] > 100 && refused[1] > 100, "{refused:?}");
}

/// The marks at the beginning of a segment are the only ones when the segments before it are gone: they are never taken
/// for what a crash has torn.
#[tokio::test]
async fn damage_in_the_marks_of_an_idle_store_is_said() {
    let folder = filled().await;
    let store = open_memory(&folder);
    store.purge(1, log_id(1, 1, 9)).await.unwrap();
    store.purge(2, log_id(1, 1, 9)).await.unwrap();
    drop(store);
    drop(open_memory(&folder));
    // Killed while it was idle, so that nothing stands behind the marks.
    let idle = open_memory(&folder);
    let left = folder.crash_by(0);
    drop(idle);
    let name = left.files().into_keys().rfind(|name| is_a(".log", name)).unwrap();
    let number: u64 = name.trim_end_matches(".log").parse().unwrap();
    let bytes = left.files()[&name].clone();
    let marks = records(&bytes, number);
    assert!(marks.len() >= 5, "two votes, two purged marks, and the end: {marks:?}");
    for (at, header) in &marks[..marks.len() - 1] {
        for byte in *at..at + header.record_bytes() {
            let changed = Arc::new(left.crash_by(0));
            let mut bytes = bytes.clone();
            bytes[byte] ^= 4;
            changed.replace(&name, bytes);
            let Ok(store) = open_in(Arc::new(changed), &small()) else { continue };
            let votes = [store.vote(1), store.vote(2)].map(|vote| vote.map_err(|error| error.kind()));
            assert!(
                votes.iter().all(|vote| matches!(vote, Ok(Some(VOTE)) | Err(ErrorKind::Corrupt))),
                "byte {byte} of {header:?}: {votes:?}"
            );
        }
    }
}

/// A bit rots in an old entry, which is then copied to the end, and the power fails. The entries copied after it are
/// there still, and it is damaged still.
#[tokio::test]
async fn damage_that_is_copied_to_the_end_is_not_taken_for_a_torn_end() {
    let folder = filled().await;
    let bytes = first_segment(&folder);
    let wanted = |header: &Header| (header.kind, header.group, header.index) == (Kind::Entry, 2, 3);
    let (at, _) = records(&bytes, 1).into_iter().find(|(_, header)| wanted(header)).expect("written");
    let mut changed = bytes.clone();
    changed[at + HEADER_BYTES + 9] ^= 1;
    folder.replace(&segment_name(1), changed);
    let store = open_memory(&folder);
    let mut index = 10;
    while folder.files().contains_key(&segment_name(1)) {
        append(&store, 1, vec![entry(1, index, 300)]).await.unwrap();
        store.purge(1, log_id(1, 1, index)).await.unwrap();
        index += 1;
        assert!(index < 500, "the first segment is never given up");
    }
    let left = Arc::new(folder.crash_by(0));
    drop(store);
    let store = open_memory(&left);
    let kind = |result: Result<Vec<Entry>>| result.map(|entries| entries.len()).map_err(|error| error.kind());
    assert_eq!(kind(store.read(2, 0..3, usize::MAX).await), Ok(3));
    assert_eq!(kind(store.read(2, 3..4, usize::MAX).await), Err(ErrorKind::Corrupt));
    assert_eq!(kind(store.read(2, 4..10, usize::MAX).await), Ok(6));
}

#[tokio::test]
async fn a_segment_that_is_newer_than_the_manifest_and_has_entries_is_not_thrown_away() {
    let folder = Arc::new(MemoryFolder::default());
    let store = open_memory(&folder);
    let old = folder.files()["MANIFEST"].clone();
    append(&store, 1, (0..30).map(|index| entry(1, index, 300)).collect()).await.unwrap();
    drop(store);
    folder.replace("MANIFEST", old);
    assert_eq!(open_in(Arc::new(folder), &small()).unwrap_err().kind(), ErrorKind::Corrupt);
}

#[tokio::test]
async fn a_torn_end_is_dropped() {
    let folder = Arc::new(MemoryFolder::default());
    let store = open_memory(&folder);
    for index in 0..10 {
        append(&store, 1, vec![entry(1, index, 50)]).await.unwrap();
    }
    // As it is before the store is closed, which would say up to where it is durable.
    let left = folder.crash_by(0);
    let bytes = first_segment(&left);
    let (last, header) = *records(&bytes, 1).last().unwrap();
    assert_eq!((header.kind, header.index), (Kind::Entry, 9));
    for cut in [last, last + 5, last + HEADER_BYTES, last + header.record_bytes() - 1] {
        let torn = Arc::new(left.crash_by(0));
        let mut bytes = bytes.clone();
        bytes[cut..].fill(0);
        torn.replace(&segment_name(1), bytes);
        let store = open_memory(&torn);
        assert_eq!(store.read(1, 0..u64::MAX, usize::MAX).await.unwrap().len(), 9, "cut at {cut}");
        append(&store, 1, vec![entry(2, 9, 50)]).await.unwrap();
        drop(store);
        let last = open_memory(&torn).log_state(1).unwrap().last_log_id;
        assert_eq!(last, Some(log_id(2, 1, 9)), "what was torn does not come back");
    }
}

#[tokio::test]
async fn a_lost_file_is_not_an_empty_store() {
    let folder = Arc::new(MemoryFolder::default());
    let store = open_memory(&folder);
    append(&store, 1, (0..30).map(|index| entry(1, index, 500)).collect()).await.unwrap();
    drop(store);
    let names: Vec<String> = folder.files().into_keys().collect();
    assert!(names.len() > 4, "{names:?}");
    for name in names {
        let left = Arc::new(folder.crash_by(0));
        left.lose(&name);
        let error = open_in(Arc::new(left), &small()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "without {name}: {error}");
    }
}

#[tokio::test]
async fn a_segment_of_a_newer_version_is_told_apart_from_damage() {
    let folder = filled().await;
    let mut bytes = first_segment(&folder);
    bytes[11] = 2;
    let crc = crc32fast::hash(&bytes[..20]).to_be_bytes();
    bytes[20..24].copy_from_slice(&crc);
    folder.replace(&segment_name(1), bytes);
    let folder: Arc<dyn Folder> = Arc::new(folder);
    assert_eq!(recover::recover(&folder, &EntrySeals::default()).unwrap_err().kind(), ErrorKind::NewerFormat);
}
