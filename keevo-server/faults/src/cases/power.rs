//! Power cut of all nodes: what was acknowledged before the instant of the cut is there afterwards.

use std::time::Duration;

use keevo_core::{Clock, Result};

use super::Case;
use crate::cluster::{Cluster, Settings};
use crate::disks::PowerDisk;
use crate::lab::{CALLS, Lab, Round};
use crate::load::{Load, Outcome, PROGRESS_WITHIN};

pub(super) async fn run(lab: &mut Lab) -> Result<()> {
    let mut disk = PowerDisk::create(&lab.folder.join(Case::Power.name()))?;
    let mut cluster = lab.cluster_in(&disk.folder().join("nodes"), Settings::default())?;
    // Their logs are to outlive the cut.
    for node in cluster.nodes.values_mut() {
        node.log = lab.folder.join(format!("power-node-{}.log", node.id));
    }
    cluster.start().await?;
    for number in 0..lab.rounds(Case::Power) {
        if !lab.has_time() {
            break;
        }
        let began = lab.clock.monotonic();
        let wait = Duration::from_millis(lab.below(1_000));
        let (seed, name) = (lab.below(u64::MAX), format!("power-{number}"));
        let done = cut(&mut cluster, &mut disk, &name, seed, wait).await;
        let faults = [("power_cut", u64::from(done.is_ok()))].into();
        let what = Round { case: Case::Power, detail: "all nodes", damage: false };
        if !lab.note(&what, done, faults, began, &cluster) {
            break;
        }
    }
    drop(cluster);
    drop(disk);
    Ok(())
}

async fn cut(cluster: &mut Cluster, disk: &mut PowerDisk, name: &str, seed: u64, wait: Duration) -> Result<Outcome> {
    let load = Load::start(cluster, name, seed, false).await?;
    load.wait_for(CALLS, PROGRESS_WITHIN).await?;
    tokio::time::sleep(wait).await;
    // What is answered up to here is durable, or lost; what is answered from here on proves nothing.
    load.cut();
    disk.cut()?;
    for node in cluster.nodes.values_mut() {
        node.kill();
    }
    disk.restore()?;
    cluster.start().await?;
    let mut outcome = load.finish(cluster).await?;
    if let Err(error) = cluster.agree().await {
        outcome.complaints.push(error.to_string());
    }
    Ok(outcome)
}
