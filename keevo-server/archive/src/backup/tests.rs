//! Chunks are written once, and a damaged one is written anew.

use futures::FutureExt;
use keevo_core::Hlc;
use keevo_core::key_file::{KeyFile, SecretKey};

use super::*;
use crate::manifest::ShardSummary;
use crate::prune::{PruneCounts, Pruned, Retention, prune};
use crate::reader::Archive;
use crate::restore::Fence;
use crate::storage::{Encrypted, KeyRing, ObjectStorage};
use crate::{load, segment};
use keevo_raft::{LoggedEntry, LoggedKind};

const CLUSTER: ClusterId = ClusterId(7);
const SHARD: ShardId = ShardId(1);

fn chunk(text: &str) -> Chunk {
    let mut cutter = Cutter::default();
    for number in 0..20 {
        assert!(cutter.push(format!("{text}{number:02}").as_bytes(), b"value").is_none());
    }
    cutter.finish().expect("some rows")
}

/// Makes a backup of one shard with these chunks, as of an index.
async fn make(storage: &dyn Storage, id: &str, texts: &[&str], index: u64, finishes: bool) -> Vec<ChunkRef> {
    let counts = BackupCounts::default();
    let mut records = Vec::new();
    for text in texts {
        records.push(write_chunk((storage, CLUSTER), chunk(text), &Known::new(), &counts).await.expect("written"));
    }
    let range = (Bytes::new(), Bytes::from_static(b"~"));
    let system = Vec::new();
    let file = ShardFile { shard: SHARD, range, term: 1, index, hlc: Hlc(index), system, records: records.clone() };
    let sealed = sealed::seal(Kind::Shard, &file.encode()).expect("small");
    assert!(storage.put_new(&names::shard_file(CLUSTER, id, SHARD), sealed).await.expect("written"));
    if finishes {
        let manifest = finish(storage, CLUSTER, id, &[SHARD], index).await.expect("finished");
        assert!(matches!(manifest.shards.as_slice(), [ShardSummary { index: at, .. }] if *at == index));
    }
    records
}

async fn reads(storage: &dyn Storage, chunks: &[ChunkRef]) -> bool {
    for chunk in chunks {
        if load::chunk(storage, CLUSTER, chunk).await.is_err() {
            return false;
        }
    }
    true
}

#[tokio::test]
async fn a_chunk_that_is_there_is_not_written_again_unless_it_is_damaged() {
    let storage = ObjectStorage::memory();
    let counts = BackupCounts::default();
    let unknown = Known::new();
    let write = || write_chunk((&storage, CLUSTER), chunk("a"), &unknown, &counts);
    let written = || counts.new_chunks.load(Ordering::Relaxed);
    let reference = write().await.expect("written");
    assert_eq!((write().await.expect("there"), written()), (reference.clone(), 1));
    let name = names::chunk(CLUSTER, &reference.id);
    let good = storage.get(&name).await.expect("read").expect("there");
    let flipped = |at: usize| {
        let mut bytes = good.to_vec();
        bytes[at] ^= 1;
        Bytes::from(bytes)
    };
    let longer = Bytes::from([&good[..], b"x"].concat());
    let damages = [good.slice(..9), good.slice(..good.len() - 1), longer, flipped(good.len() - 2), Bytes::new()];
    for (before, damaged) in (1_u64..).zip(damages) {
        storage.delete(&name).await.expect("gone");
        storage.put_new(&name, damaged).await.expect("written");
        write().await.expect("written anew");
        assert_eq!(written(), before + 1);
        assert!(reads(&storage, std::slice::from_ref(&reference)).await);
    }
}

#[tokio::test]
async fn a_chunk_that_does_not_decrypt_is_not_removed() {
    let (dir, open) = (tempfile::tempdir().expect("a folder"), ObjectStorage::memory());
    let with_key = |byte: u8| {
        let path = dir.path().join(byte.to_string());
        std::fs::write(&path, KeyFile::new(SecretKey([byte; 32])).text()).expect("written");
        Encrypted::new(Arc::new(open.clone()), KeyRing::open("archive_key_file", &path).expect("a key file"))
    };
    let (right, wrong, counts) = (with_key(1), with_key(2), BackupCounts::default());
    let known = Known::new();
    let reference = write_chunk((&right, CLUSTER), chunk("a"), &known, &counts).await.expect("written");
    let name = names::chunk(CLUSTER, &reference.id);
    let good = open.get(&name).await.expect("read").expect("there");
    let error = write_chunk((&wrong, CLUSTER), chunk("a"), &known, &counts).await.expect_err("another key");
    assert_eq!(error.kind(), ErrorKind::Config);
    assert_eq!(open.get(&name).await.expect("read").as_ref(), Some(&good));
    write_chunk((&right, CLUSTER), chunk("a"), &known, &counts).await.expect("there");

    // Without a check value it cannot be told from damage.
    let mut unknown = good.to_vec();
    unknown[9..12].fill(0);
    open.delete(&name).await.expect("gone");
    open.put_new(&name, unknown.into()).await.expect("written");
    let error = write_chunk((&right, CLUSTER), chunk("a"), &known, &counts).await.expect_err("it does not decrypt");
    assert!(error.kind() == ErrorKind::Corrupt && error.message().contains("remove that object"), "{error}");
    assert!(open.get(&name).await.expect("read").is_some());

    // What says that it is of this key is damaged, and written anew: in its last frame, and cut short.
    let mut flipped = good.to_vec();
    *flipped.last_mut().expect("a tag") ^= 1;
    for damaged in [Bytes::from(flipped), good.slice(..good.len() - 1), good.slice(..20)] {
        open.replace(&name, damaged.clone()).await.expect("written");
        let again = write_chunk((&right, CLUSTER), chunk("a"), &known, &counts).await.expect("written anew");
        assert!(reads(&right, &[again]).await && open.get(&name).await.expect("read") != Some(damaged));
    }
    assert_eq!(counts.new_chunks.load(Ordering::Relaxed), 4);
}

#[tokio::test]
async fn what_the_last_backup_names_is_known_again_by_its_end_alone() {
    let storage = ObjectStorage::memory();
    make(&storage, "monday", &["a", "b"], 10, true).await;
    make(&storage, "under-way", &["c"], 20, false).await;
    let known = known(&storage, CLUSTER, SHARD).await;
    let ids: BTreeSet<ChunkId> = ["a", "b"].map(|text| ChunkId::of(&chunk(text).contents)).into();
    assert_eq!(known.keys().copied().collect::<BTreeSet<_>>(), ids, "what is not finished may go");
    let counts = BackupCounts::default();
    let written = || counts.new_chunks.load(Ordering::Relaxed);
    let of_known = write_chunk((&storage, CLUSTER), chunk("a"), &known, &counts).await.expect("there");
    let packed_anew = write_chunk((&storage, CLUSTER), chunk("a"), &Known::new(), &counts).await.expect("there");
    assert_eq!((of_known.clone(), written()), (packed_anew, 0));
    // It is not taken on trust: what is gone or damaged since is written anew.
    let name = names::chunk(CLUSTER, &of_known.id);
    let good = storage.get(&name).await.expect("read").expect("there");
    for damaged in [Some(good.slice(..good.len() - 1)), None] {
        match damaged {
            Some(damaged) => storage.replace(&name, damaged).await.expect("written"),
            None => storage.delete(&name).await.expect("gone"),
        }
        let before = written();
        write_chunk((&storage, CLUSTER), chunk("a"), &known, &counts).await.expect("written anew");
        assert_eq!((written(), storage.get(&name).await.expect("read")), (before + 1, Some(good.clone())));
    }
}

#[tokio::test]
async fn what_goes_is_named_by_nobody_who_stays() {
    let storage = ObjectStorage::memory();
    let archive = Archive::new(Arc::new(storage.clone()), CLUSTER);
    let monday = make(&storage, "monday", &["a", "b"], 10, true).await;
    let tuesday = make(&storage, "tuesday", &["b", "c"], 20, true).await;
    let wednesday = make(&storage, "wednesday", &["c", "d"], 30, true).await;
    let under_way = make(&storage, "under-way", &["a", "e"], 40, false).await;
    for first in [1, 11, 21, 31] {
        let entry = |index| LoggedEntry { index, term: 1, replica: 1, kind: LoggedKind::Blank, payload: Bytes::new() };
        let entries: Vec<_> = (first..first + 10).map(entry).collect();
        let (_, bytes) = segment::encode(CLUSTER, SHARD, &entries).expect("a segment");
        storage.put_new(&names::segment(CLUSTER, SHARD, first), bytes).await.expect("written");
    }
    let run = async |keep: usize, log: bool, dry_run: bool| {
        let counts = PruneCounts::default();
        let fence: Fence = Arc::new(|| async { Ok(()) }.boxed());
        let pruned = prune(&storage, (&storage, &archive), Retention { keep, log, dry_run }, &counts, &fence).await;
        let [chunks, segments] = [&counts.chunks, &counts.segments].map(|count| count.load(Ordering::Relaxed));
        pruned.map(|pruned| (pruned, chunks, segments))
    };
    assert_eq!(run(0, true, false).await.expect_err("nothing would stay").kind(), ErrorKind::Invalid);
    let names_of = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
    let expected = Pruned { removed: names_of(&["monday", "tuesday"]), kept: names_of(&["wednesday"]) };
    let before = storage.list("", None).await.expect("listed");
    assert_eq!(run(1, true, true).await.expect("a dry run"), (expected.clone(), 1, 3));
    assert_eq!(storage.list("", None).await.expect("listed"), before, "nothing is gone");
    assert_eq!(run(1, false, false).await.expect("pruned"), (expected, 1, 0), "b alone is named by nobody");
    assert!(reads(&storage, &wednesday).await && reads(&storage, &under_way).await);
    assert!(!reads(&storage, &monday[1..]).await && reads(&storage, &tuesday[1..]).await);
    let kept = || async { Manifest::list(&storage, CLUSTER).await.expect("listed").len() };
    assert_eq!((kept().await, archive.segments(SHARD, None).await.expect("listed").len()), (1, 4));
    let again = run(1, true, false).await.expect("pruned");
    assert_eq!((again.0.removed.len(), again.1, again.2), (0, 0, 3), "entry 31 begins the last one");
    assert_eq!(
        archive.log_from(SHARD, 31).await.expect("listed").next_entries().await.expect("there").map(|e| e.len()),
        Some(10)
    );
    finish(&storage, CLUSTER, "under-way", &[SHARD], 40).await.expect("nothing of it is gone");
}

#[tokio::test]
async fn a_backup_that_was_never_finished_goes_when_it_would_have_gone() {
    let storage = ObjectStorage::memory();
    let archive = Archive::new(Arc::new(storage.clone()), CLUSTER);
    let cut_off = make(&storage, "cut-off", &["a", "b"], 10, false).await;
    let monday = make(&storage, "monday", &["b", "c"], 20, true).await;
    let fence: Fence = Arc::new(|| async { Ok(()) }.boxed());
    let run = async |keep: usize| {
        let (counts, retention) = (PruneCounts::default(), Retention { keep, log: false, dry_run: false });
        let pruned = prune(&storage, (&storage, &archive), retention, &counts, &fence).await.expect("pruned");
        (pruned.removed, counts.chunks.load(Ordering::Relaxed))
    };
    assert_eq!(run(2).await, (Vec::new(), 0), "it may yet be one of the two that stay");
    assert!(reads(&storage, &cut_off).await);
    assert_eq!(run(1).await, (vec!["cut-off".to_owned()], 1));
    assert!(reads(&storage, &monday).await && !reads(&storage, &cut_off[..1]).await);
    assert!(ShardFile::read(&storage, CLUSTER, "cut-off", SHARD).await.expect("read").is_none());
    assert_eq!(run(1).await, (Vec::new(), 0));
}

#[tokio::test]
async fn nothing_goes_where_what_stays_cannot_be_read_and_a_backup_without_a_chunk_is_not_finished() {
    let storage = ObjectStorage::memory();
    let archive = Archive::new(Arc::new(storage.clone()), CLUSTER);
    make(&storage, "monday", &["a"], 10, true).await;
    make(&storage, "tuesday", &["b"], 20, true).await;
    let file = names::shard_file(CLUSTER, "tuesday", SHARD);
    let good = storage.get(&file).await.expect("read").expect("there");
    storage.delete(&file).await.expect("gone");
    let retention = Retention { keep: 1, log: true, dry_run: false };
    let counts = PruneCounts::default();
    let fence: Fence = Arc::new(|| async { Ok(()) }.boxed());
    let before = storage.list("", None).await.expect("listed").len();
    prune(&storage, (&storage, &archive), retention, &counts, &fence).await.expect_err("a file is gone");
    assert_eq!(storage.list("", None).await.expect("listed").len(), before);
    storage.put_new(&file, good).await.expect("written");
    let stop: Fence = Arc::new(|| async { Err(Error::new(ErrorKind::Conflict, "somebody else prunes")) }.boxed());
    prune(&storage, (&storage, &archive), retention, &counts, &stop).await.expect_err("told to stop");
    assert_eq!(storage.list("", None).await.expect("listed").len(), before + 1);

    let late = make(&storage, "late", &["x"], 30, false).await;
    storage.delete(&names::chunk(CLUSTER, &late[0].id)).await.expect("gone");
    let error = finish(&storage, CLUSTER, "late", &[SHARD], 30).await.expect_err("a chunk is gone");
    assert_eq!(error.kind(), ErrorKind::NotFound);
}
