//! The golden table of errors: how each kind is spelled everywhere, and what bad input is told.
//!
//! Clients and scripts rely on it. `UPDATE_EXPECT=1` writes it anew; read the difference before it is kept.

use std::fmt::Write as _;

use expect_test::expect_file;
use keevo_core::{
    Batch, Check, ClientId, ClusterId, Consistency, Cursor, ERROR_TABLE, Engine, Entry, Error, ErrorKind, FanOut,
    FanOutAction, Key, Keyspace, KeyspaceId, KeyspaceKind, MemoryEngine, PageToken, RequestId, Result, Revision, Scan,
    ScanRange, ShardId, StoredRecord, Target, WatchFrom, WatchRange, limits,
};

/// The cases of one run, as text.
#[derive(Debug, Default)]
struct Transcript {
    text: String,
    kinds: Vec<ErrorKind>,
}

impl Transcript {
    fn add<T: std::fmt::Debug>(&mut self, input: &str, answer: Result<T>) {
        let error = answer.expect_err(input);
        self.kinds.push(error.kind());
        writeln!(self.text, "{input}\n  {error}").expect("a string takes it");
    }
}

#[tokio::test]
async fn errors_are_as_documented() {
    let mut table = String::from("kind                 grpc  http  exit  advice\n");
    for row in ERROR_TABLE {
        let (name, grpc, http, exit, advice) = (row.name, row.grpc_code, row.http_status, row.exit_code, row.advice);
        writeln!(table, "{name:<20} {grpc:>4}  {http:>4}  {exit:>4}  {advice}").unwrap();
    }
    let engine = MemoryEngine::new();
    let keyspace = engine.keyspace("users", KeyspaceKind::Hashed).await.unwrap();
    let mut transcript = Transcript::default();
    batches(&mut transcript, &engine, keyspace).await;
    conflicts(&mut transcript, &engine, keyspace).await;
    reads(&mut transcript, &engine, keyspace).await;
    keyspaces(&mut transcript, &engine).await;
    fan_outs(&mut transcript, &engine, keyspace).await;
    watches(&mut transcript, &engine, keyspace).await;
    bytes(&mut transcript);
    for kind in [ErrorKind::Invalid, ErrorKind::KeySize, ErrorKind::CrossPartition, ErrorKind::OutcomeUnknown] {
        assert!(transcript.kinds.contains(&kind), "{kind} is reached");
    }
    expect_file!["testdata/errors.txt"].assert_eq(&format!("{table}\n{}", transcript.text));
}

async fn batches(transcript: &mut Transcript, engine: &MemoryEngine, keyspace: Keyspace) {
    let key = keyspace.key("alice", "name");
    let put = || Batch::new().put(key.clone(), "1");
    let ordered = Keyspace { id: KeyspaceId(9), kind: KeyspaceKind::Ordered { partition_bytes: 8 } };
    let posing = Keyspace { kind: ordered.kind, ..keyspace };
    let request = |client, sequence, acked_below| RequestId { client: ClientId(client), sequence, acked_below };
    let many = (0..=limits::BATCH_OPS_MAX).fold(Batch::new(), |batch, _| batch.delete(key.clone()));
    let heavy = (0..5).fold(Batch::new(), |batch, _| batch.put(key.clone(), vec![0; limits::VALUE_BYTES_MAX]));
    let cases = [
        ("an empty batch", Batch::new()),
        ("a batch over two partitions", put().put(keyspace.key("bob", "name"), "1")),
        ("a put into an empty partition", Batch::new().put(keyspace.key("", "name"), "1")),
        ("a put into a partition of 513 bytes", Batch::new().put(keyspace.key(vec![b'p'; 513], ""), "1")),
        ("a put under a sort key of 2,049 bytes", Batch::new().put(keyspace.key("alice", vec![b's'; 2_049]), "1")),
        ("a partition of another length than declared", Batch::new().put(ordered.key("four", ""), "1")),
        ("a value over 1 MiB", Batch::new().put(key.clone(), vec![0; limits::VALUE_BYTES_MAX + 1])),
        ("too many operations", many),
        ("a batch over 4 MiB", heavy),
        ("a time to live of zero", Batch::new().put_ttl(key.clone(), "1", 0)),
        ("a time to live over ten years", Batch::new().put_ttl(key.clone(), "1", limits::TTL_MS_MAX + 1)),
        ("a request that claims its own answer", put().with_request(request(1, 4, 5))),
        ("a request of a session that is not open", put().with_request(request(1, 4, 0))),
        ("a write to the cluster's own keyspace", Batch::new().put(Keyspace::META.key("p", "k"), "1")),
        ("a write to a keyspace that nobody made", Batch::new().put(ordered.key("8 bytes.", "k"), "1")),
        ("a write to a keyspace as another kind", Batch::new().put(posing.key("8 bytes.", "k"), "1")),
    ];
    for (input, batch) in cases {
        transcript.add(input, engine.write(batch).await);
    }
    engine.open_session(ClientId(2)).await.expect("a session opens");
    engine.write(put().with_request(request(2, 9, 9))).await.expect("a good batch is applied");
    transcript.add("a request before the session's window", engine.write(put().with_request(request(2, 8, 0))).await);
}

async fn conflicts(transcript: &mut Transcript, engine: &MemoryEngine, keyspace: Keyspace) {
    let key = |sort: &'static str| keyspace.key("carol", sort);
    engine
        .write(Batch::new().put(key("name"), "Carol").put(key("full"), i64::MAX.to_be_bytes().to_vec()))
        .await
        .expect("a good batch is applied");
    let require = |sort, check| Batch::new().require(key(sort), check);
    let cases = [
        ("a key that had to be absent", require("name", Check::Absent)),
        ("a key that had to exist", require("none", Check::Exists)),
        ("a key at another revision", require("name", Check::RevisionIs(Revision(1)))),
        ("a key with another value", require("name", Check::ValueIs("Eve".into()))),
        ("a merge into text", Batch::new().merge(key("name"), 1)),
        ("a merge that overflows", Batch::new().merge(key("full"), 1)),
        ("an append to a negative counter", Batch::new().merge(key("n"), -9).append(key("n"), "m/", "", None)),
    ];
    for (input, batch) in cases {
        transcript.add(input, engine.write(batch).await);
    }
}

async fn reads(transcript: &mut Transcript, engine: &MemoryEngine, keyspace: Keyspace) {
    let many = vec![keyspace.key("p", "k"); limits::MULTI_GET_KEYS_MAX + 1];
    transcript.add("a read of too many keys", engine.multi_get(many, Consistency::Linearizable).await);
    transcript.add("a get in an empty partition", engine.get(keyspace.key("", ""), Consistency::Linearizable).await);
    let scan = Scan::partition(keyspace, "p", 10);
    transcript.add("a scan of nothing a page", engine.scan(Scan { limit: 0, ..scan.clone() }).await);
    let range = ScanRange::Ordered { keyspace, start: "".into(), end: "".into() };
    transcript.add("a scan across hashed partitions", engine.scan(Scan { range, ..scan.clone() }).await);
    let foreign = PageToken(Keyspace { id: KeyspaceId(99), ..keyspace }.key("p", "k").encode());
    transcript.add("a page token of another scan", engine.scan(scan.after(Some(foreign))).await);
}

async fn keyspaces(transcript: &mut Transcript, engine: &MemoryEngine) {
    let eight = KeyspaceKind::Ordered { partition_bytes: 8 };
    let zero = KeyspaceKind::Ordered { partition_bytes: 0 };
    transcript.add("an unknown keyspace", engine.find_keyspace("orders").await);
    transcript.add("a keyspace of another kind", engine.keyspace("users", eight).await);
    transcript.add("a keyspace with a bad name", engine.keyspace("Users/1", KeyspaceKind::Hashed).await);
    transcript.add("an ordered keyspace with partitions of no bytes", engine.keyspace("zero", zero).await);
}

async fn fan_outs(transcript: &mut Transcript, engine: &MemoryEngine, keyspace: Keyspace) {
    let target = Target { partition: "p".into(), guard: None };
    let put = |bytes: usize| FanOutAction::Put { value: vec![0; bytes].into(), ttl_ms: None };
    let good = FanOut { keyspace, sort: "k".into(), action: put(1), guard_sort: None, targets: vec![target.clone()] };
    let many = vec![target.clone(); limits::FAN_OUT_TARGETS_MAX + 1];
    let heavy = vec![target.clone(); 17];
    let guarded = vec![Target { guard: Some(Revision(1)), ..target }];
    let remove = FanOutAction::Remove { tombstone_ttl_ms: 0 };
    let cases = [
        ("a fan-out to nobody", FanOut { targets: Vec::new(), ..good.clone() }),
        ("a fan-out to too many", FanOut { targets: many, ..good.clone() }),
        ("a fan-out that expands to 17 MiB", FanOut { targets: heavy, action: put(1 << 20), ..good.clone() }),
        ("a guard without its sort key", FanOut { targets: guarded, ..good.clone() }),
        ("a removal without a time", FanOut { action: remove, ..good.clone() }),
        ("a fan-out into the cluster's own keyspace", FanOut { keyspace: Keyspace::META, ..good }),
    ];
    for (input, fan_out) in cases {
        transcript.add(input, engine.fan_out(fan_out).await);
    }
}

async fn watches(transcript: &mut Transcript, engine: &MemoryEngine, keyspace: Keyspace) {
    let here = Cursor { cluster: engine.cluster_id(), shard: ShardId::LOCAL, revision: Revision(1), offset: 0 };
    let watch = |cursor| engine.watch(WatchRange::Keyspace(keyspace), WatchFrom::After(vec![cursor]));
    let ahead = watch(Cursor { revision: Revision(1 << 40), ..here }).await.map(|_| ());
    transcript.add("a cursor ahead of the shard", ahead);
    let foreign = watch(Cursor { cluster: ClusterId(7), ..here }).await.map(|_| ());
    let hidden = engine.cluster_id().to_string();
    let foreign = foreign.map_err(|error| Error::new(error.kind(), error.message().replace(&hidden, "[this cluster]")));
    transcript.add("a cursor of another cluster", foreign);
}

fn bytes(transcript: &mut Transcript) {
    let decode = |bytes: &'static [u8]| Key::decode(&bytes.into(), |_| None);
    transcript.add("a key of no bytes", decode(b""));
    transcript.add("a key that is cut short", decode(b"\x10\x00\x00"));
    transcript.add("a key of an unknown class", decode(b"\x77key"));
    transcript.add("a key under another partition's hash", decode(b"\x10\x00\x00\x00\x00\x00\x07p\x00\x00k"));
    transcript.add("a key of a keyspace that is not ordered", decode(b"\x20\x00\x00\x00\x07partition"));
    transcript.add("a record that is cut short", StoredRecord::decode(b"k", &b"\x01".as_slice().into()));
    transcript.add("a record of a newer format", StoredRecord::decode(b"k", &b"\x02\x00".as_slice().into()));
    transcript.add("a record with a flipped bit", StoredRecord::decode(b"k", &vec![1_u8; 30].into()));
    transcript.add("an entry of a newer format", Entry::decode(&vec![0x7f_u8; 4].into()));
}
