//! Packets that do not arrive.

use std::time::Duration;

use keevo_core::Result;

use super::Case;
use crate::cluster::{Cluster, Settings};
use crate::lab::{Lab, Round};
use crate::load::PROGRESS_WITHIN;
use crate::tally::Faults;

/// The kinds, in turn.
const KINDS: [&str; 6] = [
    "the leader cut off from both others, and not from clients",
    "the leader hears nobody",
    "nobody hears the leader",
    "a follower cut off",
    "a bridge: two nodes that hear only the third",
    "30% of all packets lost",
];
/// How long a fault lasts: several elections.
const LASTS: Duration = Duration::from_secs(6);
const CALLS_MEANWHILE: u64 = 100;
const LOST_PERCENT: u8 = 30;

pub(super) async fn run(lab: &mut Lab) -> Result<()> {
    let mut cluster = lab.cluster(Case::Partition, Settings::default()).await?;
    for number in 0..lab.rounds(Case::Partition) {
        if !lab.has_time() {
            break;
        }
        let kind = number as usize % KINDS.len();
        let chosen = lab.pick(2);
        let what = Round { case: Case::Partition, detail: KINDS.get(kind).copied().unwrap_or_default(), damage: false };
        let passed = lab
            .round(&what, &mut cluster, async |cluster, load, faults| {
                let leader = cluster.leader().await?;
                let others: Vec<u64> = cluster.ids().into_iter().filter(|&id| id != leader).collect();
                make(cluster, kind, leader, &others, chosen, faults)?;
                tokio::time::sleep(LASTS).await;
                if kind == 0 {
                    cluster.leaders_seen_by(&others, leader).await?;
                    *faults.entry("leader_in_minority").or_default() += 1;
                }
                if kind != 5 {
                    load.wait_for(CALLS_MEANWHILE, PROGRESS_WITHIN).await?;
                }
                Ok(())
            })
            .await;
        if !passed {
            break;
        }
    }
    Ok(())
}

fn make(cluster: &Cluster, kind: usize, leader: u64, others: &[u64], chosen: usize, faults: &mut Faults) -> Result<()> {
    let network = cluster.network;
    let follower = others.get(chosen).copied().unwrap_or(leader);
    let both = |one: u64, other: u64| network.cut(one, other).and_then(|()| network.cut(other, one));
    let name = match kind {
        0 => {
            others.iter().try_for_each(|&other| both(leader, other))?;
            "partition_symmetric"
        }
        1 => {
            others.iter().try_for_each(|&other| network.cut(other, leader))?;
            "partition_one_way"
        }
        2 => {
            others.iter().try_for_each(|&other| network.cut(leader, other))?;
            "partition_one_way"
        }
        3 => {
            cluster.ids().into_iter().filter(|&id| id != follower).try_for_each(|id| both(follower, id))?;
            "partition_symmetric"
        }
        4 => {
            both(leader, follower)?;
            "partition_bridge"
        }
        _ => {
            network.lose(&cluster.ids(), LOST_PERCENT)?;
            "packet_loss"
        }
    };
    *faults.entry(name).or_default() += 1;
    Ok(())
}
