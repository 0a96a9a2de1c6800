//! A node that lost its disk and is started again as if nothing had happened: it must not vote a second time.

use std::time::Duration;

use keevo_core::{Error, ErrorKind, Result};

use super::{Case, rebuild};
use crate::cluster::Settings;
use crate::lab::{Lab, Round};
use crate::load::PROGRESS_WITHIN;
use crate::node::POLL;

const CALLS_MEANWHILE: u64 = 300;
/// How long the empty node is watched.
const WATCHED: Duration = Duration::from_secs(5);
const REFUSED_WITHIN: Duration = Duration::from_secs(30);
/// What it says once it has met the others; the founder of the cluster says the second.
const REFUSALS: [&str; 2] = ["it was wiped or swapped", "the folder of this node is empty"];

pub(super) async fn run(lab: &mut Lab) -> Result<()> {
    let mut cluster = lab.cluster(Case::Wiped, Settings::default()).await?;
    for _ in 0..lab.rounds(Case::Wiped).min(3) {
        if !lab.has_time() {
            break;
        }
        let what = Round { case: Case::Wiped, detail: "the leader's disk is empty after a restart", damage: false };
        let passed = lab
            .round(&what, &mut cluster, async |cluster, load, faults| {
                let victim = cluster.leader().await?;
                let node = cluster.node(victim)?;
                node.kill();
                std::fs::remove_dir_all(&node.data)
                    .map_err(|error| Error::new(ErrorKind::Io, "a data folder cannot be removed").with_source(error))?;
                *faults.entry("wipe").or_default() += 1;
                node.start(None)?;
                load.wait_for(CALLS_MEANWHILE, PROGRESS_WITHIN).await?;
                refused(cluster.node(victim)?).await?;
                // It may not take part while it is there, empty as it is.
                tokio::time::sleep(WATCHED).await;
                let status = cluster.status().await?;
                let replicas = status.shards.iter().flat_map(|shard| &shard.replicas);
                if let Some(open) = replicas.filter(|one| one.node_id == victim).find(|one| one.fault.is_empty()) {
                    return Err(Error::corrupt(format!("the wiped node {victim} takes part again: {open:?}")));
                }
                rebuild::replace(cluster, victim).await?;
                *faults.entry("rebuild").or_default() += 1;
                Ok(())
            })
            .await;
        if !passed {
            break;
        }
    }
    Ok(())
}

async fn refused(node: &mut crate::node::Node) -> Result<()> {
    let id = node.id;
    let waiting = async {
        while !REFUSALS.iter().any(|refusal| node.log_text().contains(refusal)) {
            tokio::time::sleep(POLL * 5).await;
        }
    };
    tokio::time::timeout(REFUSED_WITHIN, waiting).await.map_err(|elapsed| {
        let message = format!("the wiped node {id} does not say that it is refused: {}", node.last_line());
        Error::new(ErrorKind::Invalid, message).with_source(elapsed)
    })
}
