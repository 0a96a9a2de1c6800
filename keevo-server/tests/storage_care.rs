//! Daemons that take care of their disks: a small tmpfs that fills up, a scrub that finds a flipped bit, a checkpoint
//! that is started on.

use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use futures::StreamExt;
use keevo_core::{Batch, Consistency, Disk, Engine, Error, ErrorKind, FolderDisk, Keyspace, KeyspaceKind};
use keevo_proto::admin::v1 as pb;
use keevo_proto::admin::v1::admin_client::AdminClient;
use keevo_proto::error_from_status;
use keevo_raft::{ClusterEngine, StorageStatus};
use keevo_server::config::{Config, Layers};
use keevo_server::daemon::Daemon;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::transport::Channel;

const MIB: u64 = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(60);

/// A file system of its own, in memory, that is gone with this.
struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    /// `None` where this process may not mount; then it says so.
    fn mount(mib: u64) -> Option<Self> {
        let dir = tempfile::tempdir().expect("a folder");
        let size = format!("size={mib}m");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(dir.path()).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self(dir));
        }
        let note = "skipped: this test mounts a tmpfs, which takes root's privileges";
        writeln!(std::io::stderr(), "{note}").expect("standard error");
        None
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn free_bytes(&self) -> u64 {
        FolderDisk::new(vec![self.path().to_owned()], PathBuf::new()).free_bytes().expect("a figure")
    }

    /// Fills it with a file, but for so many bytes.
    fn fill(&self, but_bytes: u64) -> PathBuf {
        let path = self.path().join("filler");
        let mut file = std::fs::File::create(&path).expect("a file");
        while self.free_bytes() > but_bytes {
            file.write_all(&[7; 1 << 16]).expect("filled");
        }
        path
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let gone = Command::new("umount").arg("-l").arg(self.path()).status();
        assert!(gone.is_ok_and(|status| status.success()), "the tmpfs stays mounted");
    }
}

fn config(dir: &Path, more: &[(&str, &str)]) -> Config {
    let address = || {
        let held = TcpListener::bind("127.0.0.1:0").expect("a free port");
        (held.local_addr().expect("an address").to_string(), held)
    };
    let ((grpc, _one), (http, _other)) = (address(), address());
    let data_dir = dir.display().to_string();
    let mut layers = Layers::defaults();
    for (name, value) in [
        ("data_dir", data_dir.as_str()),
        ("grpc", &grpc),
        ("http", &http),
        ("shards", "2"),
        ("replication_factor", "1"),
        ("heartbeat_ms", "100"),
        ("election_ms_min", "500"),
        ("election_ms_max", "1000"),
        ("flush_every_ms", "500"),
        ("block_cache_mib", "16"),
        ("write_buffer_mib", "8"),
        ("disk_low_water_mib", "0"),
        ("disk_ballast_mib", "0"),
    ] {
        layers.add_flag(name, value);
    }
    for (name, value) in more {
        layers.add_flag(name, value);
    }
    Config::from_layers(&layers).expect("a good configuration")
}

async fn start(config: &Config) -> Daemon {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        match Daemon::start(config.clone()).await {
            Ok(daemon) => {
                daemon.node().ready(PATIENCE).await.expect("every shard finds a leader");
                return daemon;
            }
            // The tasks of one that has just stopped may still let go of the folder.
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
                assert!(tokio::time::Instant::now() < deadline, "the folder is not let go of: {error}");
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn admin(daemon: &Daemon) -> AdminClient<Channel> {
    let endpoint = Channel::from_shared(format!("http://{}", daemon.grpc())).expect("an address");
    AdminClient::new(endpoint.connect().await.expect("connects"))
}

async fn put(engine: &ClusterEngine, keyspace: Keyspace, number: u32, bytes: usize) -> Result<(), Error> {
    engine.write(Batch::new().put(keyspace.key(format!("p{number}"), "s"), noise(number, bytes))).await.map(drop)
}

/// Bytes that follow from a number, and that no compression makes fewer.
fn noise(number: u32, bytes: usize) -> Vec<u8> {
    let mut state = number;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes().first().copied()
    };
    std::iter::from_fn(next).take(bytes).collect()
}

async fn check(engine: &ClusterEngine, keyspace: Keyspace, acked: &[u32]) {
    for &number in acked {
        let found = engine.get(keyspace.key(format!("p{number}"), "s"), Consistency::Linearizable).await;
        let record = found.expect("reads go on").unwrap_or_else(|| panic!("the acknowledged write {number} is gone"));
        assert!(record.value == noise(number, record.value.len()), "{number} holds another value");
    }
}

async fn until(daemon: &Daemon, wanted: impl Fn(&StorageStatus) -> bool) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !wanted(&daemon.node().storage()) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("it stays at {:?}", daemon.node().storage()));
}

async fn metrics(daemon: &Daemon) -> String {
    let mut socket = tokio::net::TcpStream::connect(daemon.http()).await.expect("connects");
    socket.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.expect("asked");
    let mut text = String::new();
    socket.read_to_string(&mut text).await.expect("answered");
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tmpfs_that_fills_up_stops_writes_not_reads_and_loses_nothing() {
    let Some(disk) = Tmpfs::mount(160) else { return };
    let config = config(&disk.path().join("node"), &[("disk_low_water_mib", "32"), ("disk_ballast_mib", "8")]);
    let daemon = start(&config).await;
    let engine = daemon.node().engine();
    let keyspace = engine.keyspace("k", KeyspaceKind::Hashed).await.expect("a keyspace");
    let mut acked = Vec::new();
    for number in 0..100 {
        put(&engine, keyspace, number, 10_000).await.expect("there is space");
        acked.push(number);
    }
    // Somebody else fills the disk.
    let filler = disk.fill(4 * MIB);
    until(&daemon, |status| status.disk_full && status.ballast_bytes == 0).await;
    let refused = put(&engine, keyspace, 100, 10_000).await.expect_err("the disk is full");
    assert_eq!(refused.kind(), ErrorKind::ResourceExhausted, "{refused}");
    check(&engine, keyspace, &acked).await;
    assert!(metrics(&daemon).await.contains("\nkeevo_disk_is_full 1\n"));
    let status = admin(&daemon).await.cluster_status(pb::ClusterStatusRequest {}).await.expect("a status").into_inner();
    let storage = status.nodes.first().and_then(|node| node.storage.clone()).expect("the node tells of its disk");
    assert!(storage.disk_full && storage.refusal.contains("nearly full"), "{storage:?}");
    // There is space again.
    std::fs::remove_file(filler).expect("the filler goes");
    until(&daemon, |status| !status.disk_full && status.ballast_bytes == 8 * MIB).await;
    put(&engine, keyspace, 100, 10_000).await.expect("writes are taken again, without a restart");
    acked.push(100);
    // Now the node fills it by itself, as fast as it can: it must stop before there is nothing left.
    let mut next = 101;
    loop {
        let writes = (next..next + 8).map(|number| put(&engine, keyspace, number, 200_000));
        let results = futures::future::join_all(writes).await;
        let mut full = false;
        for (number, result) in (next..).zip(results) {
            match result {
                Ok(()) => acked.push(number),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{error}");
                    full = full || daemon.node().storage().disk_full;
                }
            }
        }
        next += 8;
        if full {
            break;
        }
        assert!(next < 10_000, "the disk never fills");
    }
    assert!(acked.len() > 150, "{} writes were taken", acked.len());
    assert!(disk.free_bytes() > 4 * MIB, "{} bytes are left of the reserve", disk.free_bytes());
    check(&engine, keyspace, &acked).await;
    let faults: Vec<String> = daemon.node().replicas().into_iter().map(|one| one.fault).collect();
    assert!(faults.iter().all(String::is_empty), "{faults:?}");
    drop(engine);
    daemon.stop().await.expect("it stops in order, with its data flushed into the reserve");
    let daemon = start(&config).await;
    check(&daemon.node().engine(), keyspace, &acked).await;
    daemon.stop().await.expect("it stops");
}

/// What a scrub of a node tells: its last message, with the damage of all.
async fn scrub(daemon: &Daemon, request: pb::ScrubRequest) -> pb::ScrubProgress {
    let mut stream = admin(daemon).await.scrub(request).await.expect("it begins").into_inner();
    let (mut last, mut damages) = (pb::ScrubProgress::default(), Vec::new());
    while let Some(step) = stream.next().await {
        last = step.expect("a scrub ends without an error");
        damages.append(&mut last.damages);
    }
    assert!(last.finished);
    pb::ScrubProgress { damages, ..last }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scrub_reads_everything_and_names_a_table_with_a_flipped_bit() {
    let dir = tempfile::tempdir().expect("a folder");
    // One table a column, which nothing compacts.
    let config = config(&dir.path().join("node"), &[("flush_every_ms", "60000")]);
    let daemon = start(&config).await;
    let engine = daemon.node().engine();
    let keyspace = engine.keyspace("k", KeyspaceKind::Hashed).await.expect("a keyspace");
    for number in 0..200 {
        put(&engine, keyspace, number, 2_000).await.expect("written");
    }
    let sound = scrub(&daemon, pb::ScrubRequest::default()).await;
    assert_eq!(sound.damages, []);
    assert!(sound.records > 200 && sound.entries > 200 && sound.done_bytes > 600_000, "{sound:?}");
    let one = scrub(&daemon, pb::ScrubRequest { shard: Some(1), bytes_per_s_max: 0 }).await;
    assert!(one.records > 0 && one.records < sound.records && one.entries < sound.entries, "{one:?}");
    let stranger = admin(&daemon).await.scrub(pb::ScrubRequest { shard: Some(99), bytes_per_s_max: 0 }).await;
    assert_eq!(error_from_status(&stranger.expect_err("no such shard")).kind(), ErrorKind::NotFound);
    daemon.node().flush().await.expect("flushed");
    let mut flipped = 0;
    for entry in
        std::fs::read_dir(dir.path().join("node/data/db")).expect("the store").map(|entry| entry.expect("a file"))
    {
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == "sst") {
            let mut bytes = std::fs::read(&path).expect("a table");
            if let Some(byte) = bytes.get_mut(200) {
                *byte ^= 1;
                flipped += 1;
            }
            std::fs::write(&path, bytes).expect("damaged");
        }
    }
    assert!(flipped > 0);
    let damaged = scrub(&daemon, pb::ScrubRequest::default()).await;
    assert!(!damaged.damages.is_empty(), "{damaged:?}");
    assert!(damaged.damages.iter().any(|one| one.place.ends_with(".sst")), "{damaged:?}");
    assert!(damaged.entries > 200, "the logs are read all the same: {damaged:?}");
    let told = metrics(&daemon).await;
    assert!(!told.contains("\nkeevo_scrub_damages 0\n") && told.contains("\nkeevo_scrubs_total 3\n"), "{told}");
    drop(engine);
    daemon.stop().await.expect("the damage stops nothing that does not meet it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_opens_as_a_node_with_everything_that_was_acknowledged() {
    let dir = tempfile::tempdir().expect("a folder");
    let config_of_node = config(&dir.path().join("node"), &[("flush_every_ms", "60000")]);
    let daemon = start(&config_of_node).await;
    let engine = daemon.node().engine();
    let keyspace = engine.keyspace("k", KeyspaceKind::Hashed).await.expect("a keyspace");
    let mut acked = Vec::new();
    for number in 0..150 {
        put(&engine, keyspace, number, 3_000).await.expect("written");
        acked.push(number);
    }
    // Writers go on while the copy is made.
    let writer = {
        let engine = engine.clone();
        tokio::spawn(async move {
            for number in 150..400 {
                put(&engine, keyspace, number, 3_000).await.expect("written during the checkpoint");
            }
        })
    };
    let folder = dir.path().join("copies");
    let request = pb::CheckpointRequest { folder: folder.display().to_string() };
    let made = admin(&daemon).await.checkpoint(request.clone()).await.expect("a checkpoint").into_inner();
    assert_eq!((made.node_id, PathBuf::from(&made.folder)), (1, folder.join("node-1")));
    assert!(made.bytes > 300_000, "{made:?}");
    writer.await.expect("the writer ends");
    for (wrong, kind) in
        [(request, ErrorKind::Invalid), (pb::CheckpointRequest { folder: "here".into() }, ErrorKind::Invalid)]
    {
        let refused = admin(&daemon).await.checkpoint(wrong).await.expect_err("refused");
        assert_eq!(error_from_status(&refused).kind(), kind);
    }
    drop(engine);
    daemon.stop().await.expect("it stops");
    std::fs::remove_dir_all(dir.path().join("node")).expect("the node is lost");
    let copy = Config { data_dir: folder.join("node-1"), ..config_of_node };
    let daemon = start(&copy).await;
    let engine = daemon.node().engine();
    check(&engine, keyspace, &acked).await;
    put(&engine, keyspace, 500, 3_000).await.expect("it takes writes");
    check(&engine, keyspace, &[500]).await;
    let sound = scrub(&daemon, pb::ScrubRequest::default()).await;
    assert_eq!(sound.damages, []);
    drop(engine);
    daemon.stop().await.expect("it stops");
}
