//! What applying a group of puts costs: over the store in memory, and over RocksDB as a node of a cluster uses it.

use bytes::Bytes;
use criterion::{Criterion, Throughput};
use keevo_core::machine::Machine;
use keevo_core::{
    Batch, ClusterId, Command, Durability, Entry, Hlc, Keyspace, KeyspaceId, KeyspaceKind, MemoryStore, RocksOptions,
    RocksStore, ShardId, Store,
};

const GROUP: u64 = 64;
const KEYS: u64 = 10_000;
const KEYSPACE: Keyspace = Keyspace { id: KeyspaceId(7), kind: KeyspaceKind::Hashed };

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    apply(&mut criterion, "memory", MemoryStore::new());
    let folder = tempfile::tempdir().expect("a folder for the store");
    let store = RocksStore::open(folder.path().join("data"), RocksOptions::without_wal()).expect("a new store");
    apply(&mut criterion, "rocksdb", store);
    criterion.final_summary();
}

fn apply(criterion: &mut Criterion, name: &str, store: impl Store) {
    let everything = (Bytes::new(), Bytes::new());
    let mut machine = Machine::open(store, ClusterId(1), ShardId(1), everything).expect("an empty store");
    let value = Bytes::from(vec![0xa5; 256]);
    let mut index = 0;
    let mut group = criterion.benchmark_group("apply");
    group.throughput(Throughput::Elements(GROUP));
    group.bench_function(format!("{GROUP} puts, {name}"), |bencher| {
        bencher.iter(|| {
            let entries = (0..GROUP).map(|_| {
                index += 1;
                // A step that is coprime to the number of keys visits all of them, in no order.
                let key = KEYSPACE.key(format!("k{:08}", index * 7_919 % KEYS), "");
                let command = Command::Write(Batch::new().put(key, value.clone()));
                (index, Entry { hlc: Hlc::from_ms(1_700_000_000_000 + index), command })
            });
            let entries = entries.collect();
            machine.apply(entries, Vec::new(), Durability::Unlogged).expect("the puts are sound")
        });
    });
    group.finish();
}
