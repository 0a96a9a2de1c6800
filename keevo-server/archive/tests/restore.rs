//! A cluster is backed up while it serves, goes on, and is lost; another one gets back what it was at a moment.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use keevo_archive::backup::{BackupCounts, back_up_shard, finish};
use keevo_archive::manifest::Manifest;
use keevo_archive::rebuild::Until;
use keevo_archive::restore::{RestoreCounts, Restorer, Source};
use keevo_archive::verify::{VerifyCounts, verify};
use keevo_archive::{Archive, ObjectStorage, Shipper, ShipperOptions, Storage};
use keevo_core::{
    Batch, Check, Clock, ClusterId, Consistency, Engine, ErrorKind, FanOut, FanOutAction, Hlc, Key, Keyspace,
    KeyspaceKind, MemoryStore, RestoreFence, Result, Revision, ShardId, SystemClock, Target,
};
use keevo_raft::ClusterEngine;
use keevo_raft::testing::cluster::TestCluster;

/// Values with the revisions that they were written at.
type Model = BTreeMap<(Bytes, Bytes), (Bytes, Revision)>;

struct Lab {
    cluster: TestCluster,
    storage: Arc<dyn Storage>,
    folder: PathBuf,
    space: Keyspace,
    model: Model,
}

impl Lab {
    async fn start(dir: &Path) -> Self {
        let cluster = TestCluster::start(&dir.join("source"), 1, 2).await;
        let folder = dir.join("storage");
        let storage = Arc::new(ObjectStorage::open(&folder.display().to_string()).expect("a folder"));
        let engine = cluster.engine(1);
        engine.keyspace("first", KeyspaceKind::Hashed).await.expect("made");
        let space = engine.keyspace("orders", KeyspaceKind::Hashed).await.expect("made");
        Self { cluster, storage, folder, space, model: Model::new() }
    }

    fn engine(&self) -> ClusterEngine {
        self.cluster.engine(1)
    }

    fn id(&self) -> ClusterId {
        self.cluster.node(1).cluster().expect("a cluster")
    }

    fn archive(&self) -> Archive {
        Archive::new(Arc::clone(&self.storage), self.id())
    }

    async fn put(&mut self, partition: &str, sort: &str, value: &str) {
        let key = self.space.key(partition.to_owned(), sort.to_owned());
        let written = self.engine().write(Batch::new().put(key.clone(), value.to_owned())).await.expect("written");
        self.model.insert((key.partition, key.sort), (value.to_owned().into(), written.revision));
    }

    async fn delete(&mut self, partition: &str, sort: &str) {
        let key = self.space.key(partition.to_owned(), sort.to_owned());
        self.engine().write(Batch::new().delete(key.clone())).await.expect("deleted");
        self.model.remove(&(key.partition, key.sort));
    }

    /// All kinds of changes, and some that are refused.
    async fn work(&mut self, round: u32) {
        let engine = self.engine();
        for number in 0..30 {
            self.put(&format!("p{number}"), &format!("s{}", (number + round) % 7), &format!("{round}-{number}")).await;
        }
        self.delete(&format!("p{}", round % 30), &format!("s{}", (round + round) % 7)).await;
        let counter = self.space.key("counter", "n");
        let refused = Batch::new().put(counter.clone(), "no").require(self.space.key("counter", "none"), Check::Exists);
        assert_eq!(engine.write(refused).await.expect_err("refused").kind(), ErrorKind::Conflict);
        let written = engine.write(Batch::new().merge(counter.clone(), 5)).await.expect("written");
        let value = Bytes::copy_from_slice(&written.assigned.first().expect("the sum").to_be_bytes());
        self.model.insert((counter.partition, counter.sort), (value, written.revision));
        self.fan_out(round).await;
    }

    /// A fan-out to two partitions, one of which has unfollowed.
    async fn fan_out(&mut self, round: u32) {
        let edge = |partition: &str| self.space.key(partition.to_owned(), "edge");
        let (stays, goes) = (edge("f1"), edge("f2"));
        let mut guards = Vec::new();
        for key in [&stays, &goes] {
            let written = self.engine().write(Batch::new().put(key.clone(), "e")).await.expect("written");
            guards.push(written.revision);
            self.model.insert((key.partition.clone(), key.sort.clone()), ("e".into(), written.revision));
        }
        self.delete("f2", "edge").await;
        let target = |key: &Key, guard| Target { partition: key.partition.clone(), guard: Some(guard) };
        let fan_out = FanOut {
            keyspace: self.space,
            sort: format!("post {round}").into(),
            action: FanOutAction::Put { value: "copy".into(), ttl_ms: None },
            guard_sort: Some("edge".into()),
            targets: [&stays, &goes].into_iter().zip(guards).map(|(key, guard)| target(key, guard)).collect(),
        };
        let done = self.engine().fan_out(fan_out.clone()).await.expect("fanned out");
        assert_eq!((done.applied, done.skipped), (1, 1));
        let found = self.get(&self.space.key("f1", fan_out.sort.clone())).await.expect("written");
        self.model.insert(("f1".into(), fan_out.sort), found);
    }

    async fn get(&self, key: &Key) -> Option<(Bytes, Revision)> {
        let found = self.engine().get(key.clone(), Consistency::Linearizable).await.expect("read");
        found.map(|record| (record.value, record.revision))
    }

    async fn ship(&self) {
        let source = Arc::new(self.cluster.node(1).clone());
        let options = ShipperOptions { segment_bytes: 8 << 10, ..ShipperOptions::default() };
        Shipper::new(source, Arc::clone(&self.storage), options).round().await;
    }

    async fn back_up(&self, id: &str) -> (Manifest, BackupCounts) {
        let counts = Arc::new(BackupCounts::default());
        let shards = [ShardId(0), ShardId(1), ShardId(2)];
        for shard in shards {
            let copy = self.cluster.node(1).copy_shard(shard).await.expect("a view");
            let (storage, counts) = (Arc::clone(&self.storage), Arc::clone(&counts));
            back_up_shard(storage, self.id(), id, copy, counts).await.expect("backed up");
        }
        let manifest = finish(self.storage.as_ref(), self.id(), id, &shards, 1).await.expect("finished");
        (manifest, Arc::into_inner(counts).expect("nobody else has it"))
    }

    /// A moment that lies between two writes.
    async fn moment(&self) -> Hlc {
        tokio::time::sleep(Duration::from_millis(5)).await;
        let now_ms = SystemClock::new().now_ms();
        tokio::time::sleep(Duration::from_millis(5)).await;
        Hlc::from_ms(now_ms)
    }
}

/// Restore number `restore` into the cluster.
async fn restore_into(target: &TestCluster, source: Source, until: Until, restore: u64) -> Result<u64> {
    let numbered = |restore, take| Some(RestoreFence { restore, source: 0, take });
    let counts = RestoreCounts::default();
    let shards: Vec<ShardId> = source.manifest.shards.iter().map(|shard| shard.shard).rev().collect();
    let mut restorer = Restorer::new(source, until, target.engine(1)).await?.numbered(numbered(restore, 1));
    let mut revision = 0;
    for shard in shards {
        let done = restorer.shard(shard, MemoryStore::new().into(), &counts).await?;
        revision = revision.max(done.revision);
    }
    let restorer = restorer.numbered(numbered(restore + 1, 0));
    restorer.raise(revision).await?;
    let late =
        restorer.numbered(numbered(restore, 1)).raise(revision).await.expect_err("another restore counts by now");
    assert_eq!(late.kind(), ErrorKind::Conflict);
    Ok(revision)
}

/// The target holds the model, key by key, and nothing else.
async fn assert_holds(target: &TestCluster, model: &Model) {
    let engine = target.engine(1);
    let space = engine.find_keyspace("orders").await.expect("the keyspace came along");
    for ((partition, sort), expected) in model {
        let key = space.key(partition.clone(), sort.clone());
        let found = engine.get(key, Consistency::Linearizable).await.expect("read");
        let found = found.map(|record| (record.value, record.revision));
        assert_eq!(found.as_ref(), Some(expected), "{partition:?}/{sort:?}");
    }
    let mut records = 0;
    for shard in target.node(1).map().expect("a map").shards.iter().filter(|shard| shard.id != ShardId::META) {
        records += engine.checksum(shard.id).await.expect("counted").2;
    }
    assert_eq!(records, u64::try_from(model.len()).expect("few"), "records that the model does not have");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cluster_a_moment_comes_back_key_by_key_in_a_cluster_of_other_nodes_and_shards() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut lab = Lab::start(dir.path()).await;
    for round in 0..3 {
        lab.work(round).await;
    }
    let (manifest, _) = lab.back_up("monday").await;
    let at_backup = lab.model.clone();
    let backed_up = lab.moment().await;
    for round in 3..6 {
        lab.work(round).await;
        lab.ship().await;
    }
    let (moment, at_moment) = (lab.moment().await, lab.model.clone());
    lab.work(6).await;
    let later = lab.engine().keyspace("later", KeyspaceKind::Hashed).await.expect("made");
    lab.engine().write(Batch::new().put(later.key("p", "s"), "v")).await.expect("written");
    lab.ship().await;
    let (archive, storage) = (lab.archive(), Arc::clone(&lab.storage));
    lab.cluster.stop().await;
    std::fs::remove_dir_all(dir.path().join("source")).expect("the cluster is lost");

    let source = Source { backups: storage, archive, manifest };
    let early = source.check_until(Until::Clock(Hlc::from_ms(1))).expect_err("before the backup");
    assert_eq!(early.kind(), ErrorKind::Invalid);
    assert!(source.reach(ShardId(1), Until::Clock(Hlc(u64::MAX))).await.expect("no gap").0 > moment);
    for (number, nodes, shards, until, expected) in [
        (1, 1, 5, Until::Clock(moment), &at_moment),
        (2, 3, 1, Until::Backup, &at_backup),
        (3, 1, 1, Until::Clock(backed_up), &at_backup),
    ] {
        let target = TestCluster::start(&dir.path().join(number.to_string()), nodes, shards).await;
        // Its ids of keyspaces are others.
        target.engine(1).keyspace("other", KeyspaceKind::Hashed).await.expect("made");
        let revision = restore_into(&target, source.clone(), until, 1).await.expect("restored");
        assert_holds(&target, expected).await;
        restore_into(&target, source.clone(), until, 2).await.expect("once more, to no effect");
        assert_holds(&target, expected).await;
        let space = target.engine(1).find_keyspace("orders").await.expect("it is there");
        let written = target.engine(1).write(Batch::new().put(space.key("new", "n"), "v")).await.expect("written");
        assert!(written.revision.0 > revision, "revisions never go back");
        let gone = target.engine(1).find_keyspace("later").await.expect_err("made after the moment");
        assert_eq!(gone.kind(), ErrorKind::UnknownKeyspace);
        target.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cluster_a_second_backup_writes_what_changed() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut lab = Lab::start(dir.path()).await;
    let filler = "x".repeat(1_000);
    for number in 0..60 {
        let mut batch = Batch::new();
        for sort in 0..60 {
            batch = batch.put(lab.space.key(format!("big{number}"), format!("{sort}")), filler.clone());
        }
        lab.engine().write(batch).await.expect("written");
    }
    let (_, first) = lab.back_up("one").await;
    lab.put("big7", "7", "changed").await;
    let (manifest, second) = lab.back_up("two").await;
    let (chunks, new) = (second.chunks.into_inner(), second.new_chunks.into_inner());
    assert!(first.new_chunks.into_inner() >= 6, "3.6 MB are several chunks");
    // The rows that each shard keeps about itself, the meta shard, and the one chunk that changed.
    assert!(new <= 6 && new < chunks, "{new} new chunks of {chunks}");
    let listed = Manifest::list(lab.storage.as_ref(), lab.id()).await.expect("listed");
    assert_eq!(listed.iter().map(|one| one.id.as_str()).collect::<Vec<_>>(), ["one", "two"]);
    assert_eq!(listed[1], manifest);
    let found = verify(Arc::clone(&lab.storage), lab.archive(), "two", &VerifyCounts::default()).await.expect("read");
    assert!(found.is_empty(), "{found:?}");
    lab.cluster.stop().await;
}

/// The files below a folder with an ending, or in a folder of a name.
fn files(folder: &Path, part: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path, part));
        } else if path.display().to_string().contains(part) {
            found.push(path);
        }
    }
    found.sort();
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cluster_a_flipped_byte_in_any_kind_of_file_is_named_and_nothing_is_restored_from_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut lab = Lab::start(dir.path()).await;
    lab.work(0).await;
    let (manifest, _) = lab.back_up("monday").await;
    lab.work(1).await;
    lab.ship().await;
    let target = TestCluster::start(&dir.path().join("target"), 1, 1).await;
    for part in ["manifest", ".shard", "/chunks/", ".seg"] {
        for path in files(&lab.folder, part) {
            let good = std::fs::read(&path).expect("read");
            let mut bad = good.clone();
            let middle = bad.len() / 2;
            bad[middle] ^= 0x10;
            std::fs::write(&path, &bad).expect("written");
            let name = path.strip_prefix(&lab.folder).expect("in the folder").display().to_string();
            let counts = VerifyCounts::default();
            let found = verify(Arc::clone(&lab.storage), lab.archive(), "monday", &counts).await.expect("read");
            let is_before = part == ".seg" && found.is_empty();
            assert!(
                is_before || (!found.is_empty() && found.iter().all(|text| text.contains(&name))),
                "{name}: {found:?}"
            );
            if !is_before {
                let source = Source::open(Arc::clone(&lab.storage), lab.archive(), "monday").await;
                let restored = match source {
                    Ok(source) => restore_into(&target, source, Until::Clock(Hlc(u64::MAX)), 1).await,
                    Err(error) => Err(error),
                };
                let error = restored.expect_err("it is damaged");
                assert!(error.kind() == ErrorKind::Corrupt && error.message().contains(&name), "{name}: {error}");
            }
            std::fs::write(&path, &good).expect("written");
        }
    }
    let source = Source { backups: Arc::clone(&lab.storage), archive: lab.archive(), manifest };
    restore_into(&target, source, Until::Clock(Hlc(u64::MAX)), 1).await.expect("intact again");
    assert_holds(&target, &lab.model).await;
    target.stop().await;
    lab.cluster.stop().await;
}
