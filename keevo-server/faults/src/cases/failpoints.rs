//! `kill -9` at every failpoint: the process ends itself there, and what it left must be enough to go on.

use std::path::Path;

use keevo_core::{Error, FAILPOINTS, Result};

use super::{Case, backlog};
use crate::cluster::{Cluster, READY_WITHIN, Settings};
use crate::lab::{Lab, Round};
use crate::load::Load;
use crate::node::{Node, is_abort};
use crate::output::say;
use crate::tally::Faults;

const KIND: &str = "failpoint_kill";

pub(super) async fn run(lab: &mut Lab) -> Result<()> {
    let folder = lab.folder.join(Case::Failpoints.name());
    for number in 0..lab.rounds(Case::Failpoints) {
        let folder = folder.join(number.to_string());
        let mut hit = 0;
        for (name, node) in [("bootstrap.handing", 1), ("bootstrap.saved", 1), ("bootstrap.saved", 2)] {
            hit += u64::from(found(lab, &folder, name, node).await?);
        }
        let settings = Settings { flags: vec![("log-entries-kept", "100".to_owned())], ..Settings::default() };
        let mut cluster = lab.cluster_in(&folder, settings)?;
        cluster.start().await?;
        for (name, _) in FAILPOINTS.iter().filter(|(name, _)| !name.starts_with("bootstrap.")) {
            if !lab.has_time() {
                say("left out the other failpoints: the time is over");
                return Ok(());
            }
            let passes = 1 + lab.below(passes_max(name));
            let which = lab.pick(3);
            let what = Round { case: Case::Failpoints, detail: name, damage: false };
            let passed = lab
                .round(&what, &mut cluster, async |cluster, _, faults| match *name {
                    "snapshot.exported" => exported(cluster, name, faults).await,
                    "snapshot.staged" | "snapshot.installed" => arrived(cluster, name, faults).await,
                    _ => passed_by(cluster, name, passes, which, faults).await,
                })
                .await;
            if !passed {
                return Ok(());
            }
            hit += 1;
        }
        if hit <= FAILPOINTS.len() as u64 {
            return Err(Error::invalid(format!("only {hit} of {} failpoints were hit", FAILPOINTS.len() + 1)));
        }
    }
    Ok(())
}

/// How often a failpoint may be passed before it is the end: more where a busy node passes all the time, so that the
/// node leads by then.
fn passes_max(name: &str) -> u64 {
    match name {
        "flush.before" | "flush.after" => 3,
        // A batch that needs no sync is rare on a node that is written to.
        "log.before_write" | "log.after_write" => 1,
        _ => 600,
    }
}

/// A node that dies while the cluster is founded: it is started again, and the cluster comes about.
async fn found(lab: &mut Lab, folder: &Path, name: &'static str, armed: u64) -> Result<bool> {
    let mut cluster = lab.cluster_in(&folder.join(format!("{name}-{armed}")), Settings::default())?;
    cluster.heal_network()?;
    for node in cluster.nodes.values_mut() {
        node.start((node.id == armed).then_some(name))?;
    }
    died(cluster.node(armed)?, name).await?;
    cluster.node(armed)?.start(None)?;
    cluster.wait_ready().await?;
    let detail = format!("{name} on node {armed}");
    let what = Round { case: Case::Failpoints, detail: &detail, damage: false };
    let note = async |_: &mut Cluster, _: &Load, faults: &mut Faults| {
        *faults.entry(KIND).or_default() += 1;
        Ok(())
    };
    Ok(lab.round(&what, &mut cluster, note).await)
}

/// A node that works dies at a failpoint that it passes from time to time; it leads by then, if it lives that long.
async fn passed_by(
    cluster: &mut Cluster,
    name: &'static str,
    passes: u64,
    which: usize,
    faults: &mut Faults,
) -> Result<()> {
    let ids = cluster.ids();
    let victim = ids.get(which % ids.len()).copied().unwrap_or(1);
    let node = cluster.node(victim)?;
    node.kill();
    node.start(Some(&format!("{name}:{passes}")))?;
    if node.wait_ready(READY_WITHIN).await.is_ok() {
        cluster.hand_leadership_to(victim).await;
    }
    died(cluster.node(victim)?, name).await?;
    *faults.entry(KIND).or_default() += 1;
    Ok(())
}

/// A follower that was away for too long dies with a snapshot that has just arrived.
async fn arrived(cluster: &mut Cluster, name: &'static str, faults: &mut Faults) -> Result<()> {
    backlog::dies_with_a_snapshot(cluster, name).await?;
    *faults.entry(KIND).or_default() += 1;
    Ok(())
}

/// A leader dies while it prepares a snapshot for a follower that was away for too long.
async fn exported(cluster: &mut Cluster, name: &'static str, faults: &mut Faults) -> Result<()> {
    let victim = backlog::leave_behind(cluster).await?;
    let leaders: Vec<u64> = cluster.ids().into_iter().filter(|&id| id != victim).collect();
    // All at once: whichever of them leads first meets a follower that needs a snapshot, and that may be the other one.
    for &leader in &leaders {
        cluster.node(leader)?.kill();
    }
    for &leader in &leaders {
        cluster.node(leader)?.start(Some(name))?;
    }
    cluster.node(victim)?.start(None)?;
    let ended = async {
        loop {
            for &leader in &leaders {
                if !cluster.node(leader)?.is_running() {
                    return Ok(leader);
                }
            }
            tokio::time::sleep(crate::node::POLL).await;
        }
    };
    let dead = tokio::time::timeout(READY_WITHIN, ended)
        .await
        .unwrap_or_else(|elapsed| Err(Error::invalid("no leader has prepared a snapshot").with_source(elapsed)))?;
    died(cluster.node(dead)?, name).await?;
    *faults.entry(KIND).or_default() += 1;
    // The others are not to die later.
    for &leader in &leaders {
        let node = cluster.node(leader)?;
        node.kill();
        node.start(None)?;
    }
    Ok(())
}

/// Waits for the end of a node and sees that it was the failpoint's.
async fn died(node: &mut Node, name: &str) -> Result<()> {
    let status = node.ended(READY_WITHIN).await?;
    node.kill();
    if is_abort(status) && node.died_at(name) > 0 {
        return Ok(());
    }
    let (id, line) = (node.id, node.last_line());
    Err(Error::invalid(format!("node {id} ended with {status}, not at the failpoint {name}: {line}")))
}
