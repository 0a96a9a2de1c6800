//! A full disk makes writes wait, and a log that is reclaimed takes less of it.

use futures::FutureExt;
use std::time::Duration;

use super::*;

#[tokio::test]
async fn writes_wait_for_space_and_reads_go_on() {
    let folder = Arc::new(MemoryFolder::default());
    let store = open_memory(&folder);
    append(&store, 1, vec![entry(1, 0, 100)]).await.unwrap();
    folder.faults().set_full(true);
    let mut waiting = append(&store, 1, (1..12).map(|index| entry(1, index, 500)).collect()).boxed();
    while folder.faults().refused() < 2 {
        assert!((&mut waiting).now_or_never().is_none(), "nothing is confirmed on a full disk");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(store.read(1, 0..12, usize::MAX).await.unwrap().len(), 12);
    folder.faults().set_full(false);
    waiting.await.unwrap();
    drop(store);
    assert_eq!(open_memory(&folder).read(1, 0..12, usize::MAX).await.unwrap().len(), 12);
}

#[tokio::test]
async fn a_store_on_a_full_disk_can_be_closed() {
    let folder = Arc::new(MemoryFolder::default());
    let store = open_memory(&folder);
    append(&store, 1, vec![entry(1, 0, 100)]).await.unwrap();
    folder.faults().set_full(true);
    let (done_tx, done_rx) = futures::channel::oneshot::channel();
    let done = Box::new(move |result| drop(done_tx.send(result)));
    store.append(1, vec![entry(1, 1, 100)], done).await.unwrap();
    drop(store);
    assert_eq!(done_rx.await.unwrap().unwrap_err().kind(), keevo_core::ErrorKind::Io);
    folder.faults().set_full(false);
    assert_eq!(open_memory(&folder).read(1, 0..12, usize::MAX).await.unwrap().len(), 1);
}

/// Entries that are copied to the end are read where they lay until the copy is written: here the disk is full just then.
#[tokio::test]
async fn entries_under_way_to_the_end_can_be_read() {
    let folder = Arc::new(MemoryFolder::default());
    let store = open_memory(&folder);
    let quiet: Vec<Entry> = (0..20).map(|index| entry(1, index, 100)).collect();
    append(&store, 2, quiet.clone()).await.unwrap();
    let mut waited = 0;
    for index in 0..200 {
        let before = folder.faults().refused();
        folder.faults().fill_after(1);
        append(&store, 1, vec![entry(1, index, 300)]).boxed().now_or_never();
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_millis(1)).await;
            assert_eq!(store.read(2, 0..20, usize::MAX).await.unwrap(), quiet, "after {index} appends");
        }
        waited += u64::from(folder.faults().refused() > before);
        folder.faults().set_full(false);
        store.sync().await.unwrap();
        store.purge(1, log_id(1, 1, index)).await.unwrap();
        if waited > 12 {
            break;
        }
    }
    assert!(waited > 3, "no write ever waited");
}

/// A reclaim that fails half-way stops the store: it would go on in a segment that nobody finds again.
#[tokio::test]
async fn a_failed_reclaim_is_followed_by_no_success() {
    let mut failed = 0;
    for calls in 0..40 {
        let folder = Arc::new(MemoryFolder::default());
        let options = SegmentedLogOptions { segment_bytes: 8 << 20, ..small() };
        let store = open_in(Arc::new(Arc::clone(&folder)), &options).unwrap();
        append(&store, 1, (0..20).map(|index| entry(1, index, 100_000)).collect()).await.unwrap();
        store.purge(1, log_id(1, 1, 17)).await.unwrap();
        store.sync().await.unwrap();
        folder.faults().fail_after(calls);
        let reclaimed = store.reclaim(1 << 30).await;
        folder.faults().fail_after(u64::MAX - 1);
        let appended = append(&store, 1, vec![entry(2, 20, 10)]).await;
        let last = if appended.is_ok() { 20 } else { 19 };
        assert!(reclaimed.is_ok() || appended.is_err(), "a success after call {calls} of the disk had failed");
        failed += u32::from(reclaimed.is_err());
        let left = Arc::new(folder.crash_by(calls));
        drop(store);
        let state = open_memory(&left).log_state(1).unwrap();
        assert!(state.last_log_id.is_some_and(|id| id.index >= last), "{state:?} after call {calls} failed");
    }
    assert!(failed > 3, "{failed}: reclaiming never failed");
}

#[tokio::test]
async fn a_reclaimed_log_has_what_it_had_and_takes_less_of_the_disk() {
    let root = TempDir::new().unwrap();
    let store =
        open_segmented_log_store(root.path(), &SegmentedLogOptions { segment_bytes: 1 << 20, ..small() }).unwrap();
    append(&store, 1, (0..2_000).map(|index| entry(1, index, 2_000)).collect()).await.unwrap();
    store.purge(1, log_id(1, 1, 1_997)).await.unwrap();
    store.sync().await.unwrap();
    append(&store, 2, (0..100).map(|index| entry(1, index, 2_000)).collect()).await.unwrap();
    store.purge(2, log_id(1, 1, 97)).await.unwrap();
    let size = || {
        let files = std::fs::read_dir(root.path()).unwrap().map(|file| file.unwrap());
        files.map(|file| file.metadata().unwrap().len()).sum::<u64>()
    };
    store.reclaim(1_000).await.unwrap();
    let before = size();
    store.reclaim(1_000).await.unwrap();
    assert_eq!(size(), before, "there is no room to do it");
    store.reclaim(100 << 20).await.unwrap();
    assert!(size() < before, "{before} bytes before, {} after", size());
    assert!(size() <= 2 << 20, "{} bytes for 8 KiB of entries", size());
    for (group, end) in [(1, 2_000), (2, 100)] {
        assert_eq!(store.read_stored(group, end - 2..end, usize::MAX).await.unwrap().len(), 2);
    }
    drop(store);
    let store = open_segmented_log_store(root.path(), &small()).unwrap();
    assert_eq!(store.log_state(1).unwrap().last_log_id, Some(log_id(1, 1, 1_999)));
}
