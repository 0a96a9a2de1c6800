//! What the codecs cost: keys, records, log entries.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput};
use keevo_core::ClientId;
use keevo_core::{
    Batch, Command, Entry, Hlc, Key, Keyspace, KeyspaceId, KeyspaceKind, Record, RequestId, Revision, StoredRecord,
};

const VALUE_BYTES: usize = 256;
const KEYSPACE: Keyspace = Keyspace { id: KeyspaceId(7), kind: KeyspaceKind::Hashed };

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    keys(&mut criterion);
    records(&mut criterion);
    entries(&mut criterion);
    criterion.final_summary();
}

fn value() -> Bytes {
    vec![0xa5; VALUE_BYTES].into()
}

fn key() -> Key {
    KEYSPACE.key("user:4711", "s00000042")
}

fn keys(criterion: &mut Criterion) {
    let (key, encoded) = (key(), key().encode());
    criterion.bench_function("key/encode", |bencher| bencher.iter(|| black_box(&key).encode()));
    criterion.bench_function("key/decode", |bencher| {
        bencher.iter(|| Key::decode(black_box(&encoded), |_| None).expect("it was encoded here"));
    });
}

fn records(criterion: &mut Criterion) {
    let encoded_key = key().encode();
    let record = StoredRecord::value(Record { revision: Revision(9), expires_at_ms: None, value: value() });
    let stored = record.encode(&encoded_key);
    let mut group = criterion.benchmark_group("record");
    group.throughput(Throughput::Bytes(VALUE_BYTES as u64));
    group.bench_function("encode", |bencher| bencher.iter(|| black_box(&record).encode(&encoded_key)));
    group.bench_function("decode", |bencher| {
        bencher.iter(|| StoredRecord::decode(&encoded_key, black_box(&stored)).expect("it was encoded here"));
    });
    group.finish();
}

fn entries(criterion: &mut Criterion) {
    let request = RequestId { client: ClientId(3), sequence: 17, acked_below: 16 };
    let batch = Batch::new().put(key(), value()).with_request(request);
    let entry = Entry { hlc: Hlc::from_ms(1_700_000_000_000), command: Command::Write(batch) };
    let encoded = entry.encode();
    let mut group = criterion.benchmark_group("entry");
    group.throughput(Throughput::Bytes(VALUE_BYTES as u64));
    group.bench_function("encode", |bencher| bencher.iter(|| black_box(&entry).encode()));
    group.bench_function("decode", |bencher| {
        bencher.iter(|| Entry::decode(black_box(&encoded)).expect("it was encoded here"));
    });
    group.finish();
}
