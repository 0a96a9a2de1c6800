//! A full disk: writes are refused and reads go on, and when space returns so do writes, without a restart.

use std::time::Duration;

use keevo_core::{Batch, Consistency, Engine, Error, ErrorKind, Result};

use super::Case;
use crate::cluster::{Cluster, LOW_WATER_MIB, Settings};
use crate::disks::SmallDisk;
use crate::lab::{Lab, Round};
use crate::node::POLL;

const MIB: u64 = 1 << 20;
const DISK_MIB: u64 = 384;
/// What somebody else's file leaves of the disk, in turn: so much that nothing is given back yet, and so little that the
/// nodes give back what they had set aside.
const LEFT: [(&str, u64); 2] = [
    ("two thirds of the low-water mark are left", LOW_WATER_MIB * 2 / 3 * MIB),
    ("a quarter of it is left", LOW_WATER_MIB / 4 * MIB),
];
const REFUSED_WITHIN: Duration = Duration::from_secs(20);
const LASTS: Duration = Duration::from_secs(3);

pub(super) async fn run(lab: &mut Lab) -> Result<()> {
    let disk = SmallDisk::create(&lab.folder.join("small-disk"), DISK_MIB)?;
    let mut cluster = lab.cluster_in(&disk.folder().join("nodes"), Settings::default())?;
    // Their logs are not to fill it.
    for node in cluster.nodes.values_mut() {
        node.log = lab.folder.join(format!("disk-full-node-{}.log", node.id));
    }
    cluster.start().await?;
    for number in 0..lab.rounds(Case::DiskFull) {
        if !lab.has_time() {
            break;
        }
        let (detail, left) = LEFT.get(number as usize % LEFT.len()).copied().unwrap_or_default();
        let what = Round { case: Case::DiskFull, detail, damage: false };
        let passed = lab
            .round(&what, &mut cluster, async |cluster, _, faults| {
                disk.fill(left)?;
                let refused = refused(cluster).await;
                tokio::time::sleep(LASTS).await;
                let read = read(cluster).await;
                // Whatever came of it, the next round finds space.
                disk.free()?;
                refused?;
                read?;
                *faults.entry("disk_full").or_default() += 1;
                for node in cluster.nodes.values_mut() {
                    if !node.is_running() {
                        let message = format!("node {} ended on a full disk: {}", node.id, node.last_line());
                        return Err(Error::new(ErrorKind::Io, message));
                    }
                }
                Ok(())
            })
            .await;
        if !passed {
            break;
        }
    }
    drop(cluster);
    drop(disk);
    Ok(())
}

/// Waits until a write is refused, and for that reason.
async fn refused(cluster: &Cluster) -> Result<()> {
    let engine = cluster.connect().await?.with_deadline(Duration::from_secs(2));
    let keyspace = engine.find_keyspace("faults").await?;
    let mut last = "nothing was refused".to_owned();
    let waiting = async {
        loop {
            let put = Batch::new().put(keyspace.key("full", "disk"), vec![7; 1_000]);
            match engine.write(put).await {
                Err(error) if error.kind() == ErrorKind::ResourceExhausted => return,
                Err(error) => last = error.to_string(),
                Ok(_) => {}
            }
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(REFUSED_WITHIN, waiting).await.map_err(|elapsed| {
        let message = format!("the disk is full for {} s and writes are not refused: {last}", REFUSED_WITHIN.as_secs());
        Error::new(ErrorKind::Invalid, message).with_source(elapsed)
    })
}

/// Reads go on.
async fn read(cluster: &Cluster) -> Result<()> {
    let engine = cluster.connect().await?.with_deadline(Duration::from_secs(10));
    let keyspace = engine.find_keyspace("faults").await?;
    engine.get(keyspace.key("full", "disk"), Consistency::Linearizable).await.map(drop)
}
