//! The archive of a real cluster: what the leaders ship is what they committed, whoever leads.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use keevo_archive::{Archive, ObjectStorage, Shipper, ShipperOptions, Storage};
use keevo_core::{Batch, Engine, KeyspaceKind, ShardId};
use keevo_raft::testing::cluster::TestCluster;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cluster_the_archive_holds_every_entry_once_whoever_leads() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut cluster = TestCluster::start(dir.path(), 3, 2).await;
    let storage: Arc<dyn Storage> = Arc::new(ObjectStorage::memory());
    let options = ShipperOptions { segment_bytes: 4 << 10, every: Duration::from_millis(50) };
    let ship = async |cluster: &TestCluster, ids: &[u64]| {
        for &id in ids {
            Shipper::new(Arc::new(cluster.node(id).clone()), Arc::clone(&storage), options).round().await;
        }
    };
    let space = cluster.engine(1).keyspace("orders", KeyspaceKind::Hashed).await.expect("a keyspace");
    let mut written = 0;
    let mut through = 1;
    for round in 0..3 {
        for number in 0..40 {
            let key = space.key(format!("p{number}"), format!("{round}"));
            cluster.engine(through).write(Batch::new().put(key, "value")).await.expect("written");
            written += 1;
        }
        let running: Vec<u64> = (1..=3).filter(|&id| round < 2 || id != 1).collect();
        ship(&cluster, &running).await;
        if round == 1 {
            through = 2;
            cluster.kill_node(1).await;
            cluster.ready().await;
        }
    }
    let archive = Archive::new(Arc::clone(&storage), cluster.node(2).cluster().expect("a cluster"));
    let mut commands = BTreeMap::new();
    for shard in [ShardId(0), ShardId(1), ShardId(2)] {
        let mut log = archive.log_from(shard, 0).await.expect("listed");
        let mut next = 0;
        while let Some(entries) = log.next_entries().await.expect("no gap, no difference") {
            for entry in entries {
                assert_eq!(entry.index, next, "each entry once, in order");
                next += 1;
                *commands.entry(shard).or_insert(0) += usize::from(!entry.payload.is_empty());
            }
        }
    }
    let of_data: usize = commands.iter().filter(|(shard, _)| shard.0 > 0).map(|(_, count)| count).sum();
    assert!(of_data >= written, "{of_data} entries for {written} writes");
    cluster.stop().await;
}
