//! What a durable append costs, in the segmented log and in RocksDB's, with one and with many groups that append at once.

use bytes::Bytes;
use criterion::{Criterion, Throughput};
use futures::future::join_all;
use keevo_raft::log_store::{
    LogStore, RocksLogOptions, SegmentedLogOptions, open_rocks_log_store, open_segmented_log_store,
};
use keevo_raft::types::{Entry, EntryPayload, LogId, Payload, log_id};
use std::sync::Arc;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

const ENTRY_BYTES: usize = 300;
/// So many entries stay in the log of each group, as behind a node that flushes its data now and then.
const KEPT: u64 = 10_000;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().expect("a runtime");
    let folder = tempfile::tempdir().expect("a folder for the logs");
    for groups in [1, 8, 64] {
        let path = folder.path().join(format!("segmented-{groups}"));
        let segmented = open_segmented_log_store(path, &SegmentedLogOptions::default()).expect("a new log");
        append(&mut criterion, &runtime, "segmented", &segmented, groups);
        let path = folder.path().join(format!("rocksdb-{groups}"));
        let rocks = open_rocks_log_store(path, &RocksLogOptions::default()).expect("a new log");
        append(&mut criterion, &runtime, "rocksdb", &rocks, groups);
    }
    criterion.final_summary();
}

fn append(criterion: &mut Criterion, runtime: &Runtime, name: &str, store: &Arc<dyn LogStore>, groups: u64) {
    let payload = Bytes::from(vec![0xa5; ENTRY_BYTES]);
    let mut index = 0;
    let mut group = criterion.benchmark_group("log_append");
    group.throughput(Throughput::Elements(groups));
    group.bench_function(format!("{groups} groups at once, {name}"), |bencher| {
        bencher.iter(|| {
            let one = |id| one_append(Arc::clone(store), id, log_id(1, 1, index), payload.clone());
            runtime.block_on(join_all((0..groups).map(one)));
            index += 1;
        });
    });
    group.finish();
}

async fn one_append(store: Arc<dyn LogStore>, group: u64, at: LogId, payload: Bytes) {
    let entry = Entry { log_id: at, payload: EntryPayload::Normal(Payload(payload)) };
    let (done_tx, done_rx) = oneshot::channel();
    let done = Box::new(move |result| drop(done_tx.send(result)));
    store.append(group, vec![entry], done).await.expect("there is room");
    done_rx.await.expect("the writer runs").expect("the disk is sound");
    if at.index.is_multiple_of(1_000) && at.index > KEPT {
        store.purge(group, log_id(1, 1, at.index - KEPT)).await.expect("there is room");
    }
}
