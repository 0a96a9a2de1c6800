//! What reads cost above the store: a get, and a page of 25 records, over the store in memory and over RocksDB's tables.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput};
use keevo_core::machine::{Machine, ShardReader};
use keevo_core::{
    Batch, ClusterId, Command, Durability, Entry, Hlc, Keyspace, KeyspaceId, KeyspaceKind, MemoryStore, RocksOptions,
    RocksStore, Scan, ShardId, Store,
};

const PARTITIONS: u64 = 100;
const RECORDS: u64 = 100;
const PAGE: usize = 25;
const KEYSPACE: Keyspace = Keyspace { id: KeyspaceId(7), kind: KeyspaceKind::Hashed };

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    reads(&mut criterion, "memory", &filled(MemoryStore::new()));
    let folder = tempfile::tempdir().expect("a folder for the store");
    let store = RocksStore::open(folder.path().join("data"), RocksOptions::without_wal()).expect("a new store");
    let machine = filled(store.clone());
    store.flush().expect("the store is writable");
    reads(&mut criterion, "rocksdb", &machine);
    criterion.final_summary();
}

fn partition(number: u64) -> String {
    format!("p{number:04}")
}

/// A machine with all records.
fn filled<S: Store>(store: S) -> Machine<S> {
    let everything = (Bytes::new(), Bytes::new());
    let mut machine = Machine::open(store, ClusterId(1), ShardId(1), everything).expect("an empty store");
    let value = Bytes::from(vec![0xa5; 256]);
    for number in 0..PARTITIONS {
        let batch = (0..RECORDS).fold(Batch::new(), |batch, sort| {
            batch.put(KEYSPACE.key(partition(number), format!("s{sort:04}")), value.clone())
        });
        let entry = Entry { hlc: Hlc::from_ms(1_700_000_000_000), command: Command::Write(batch) };
        machine.apply(vec![(number + 1, entry)], Vec::new(), Durability::Unlogged).expect("the puts are sound");
    }
    machine
}

fn reads<S: Store>(criterion: &mut Criterion, name: &str, machine: &Machine<S>) {
    let reader: ShardReader<S> = machine.reader();
    let mut turn = 0;
    let mut next = move || {
        turn += 1;
        (turn * 37 % PARTITIONS, turn * 11 % RECORDS)
    };
    criterion.bench_function(&format!("get, {name}"), |bencher| {
        bencher.iter(|| {
            let (number, sort) = next();
            let found = reader.get(&KEYSPACE.key(partition(number), format!("s{sort:04}"))).expect("a sound store");
            black_box(found).expect("every key is there")
        });
    });
    let mut group = criterion.benchmark_group("scan");
    group.throughput(Throughput::Elements(PAGE as u64));
    group.bench_function(format!("{PAGE} records, {name}"), |bencher| {
        bencher.iter(|| {
            let (number, _) = next();
            let page = reader.scan(&Scan::partition(KEYSPACE, partition(number), PAGE)).expect("a sound store");
            assert_eq!(page.records.len(), PAGE, "every page is full");
            page
        });
    });
    group.finish();
}
