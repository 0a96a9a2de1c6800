//! `kill -9` at random times.

use std::time::Duration;

use keevo_core::Result;

use super::Case;
use crate::cluster::Settings;
use crate::lab::{Lab, Round};
use crate::load::PROGRESS_WITHIN;

/// Whom it meets, in turn.
const WHOM: [&str; 4] = ["the leader", "a follower", "the leader and then its successor", "all nodes at once"];
/// Calls that must be answered while one node is dead.
const CALLS_MEANWHILE: u64 = 100;

pub(super) async fn run(lab: &mut Lab) -> Result<()> {
    let mut cluster = lab.cluster(Case::Kill, Settings::default()).await?;
    for number in 0..lab.rounds(Case::Kill) {
        if !lab.has_time() {
            break;
        }
        let whom = WHOM.get(number as usize % WHOM.len()).copied().unwrap_or_default();
        let (wait, follower) = (Duration::from_millis(lab.below(1_500)), lab.pick(2));
        let what = Round { case: Case::Kill, detail: whom, damage: false };
        let passed = lab
            .round(&what, &mut cluster, async |cluster, load, faults| {
                let leader = cluster.leader().await?;
                let victims = match number % 4 {
                    0 | 2 => vec![leader],
                    1 => cluster.ids().into_iter().filter(|&id| id != leader).skip(follower).take(1).collect(),
                    _ => cluster.ids(),
                };
                for &victim in &victims {
                    cluster.node(victim)?.kill();
                    *faults.entry("kill").or_default() += 1;
                }
                tokio::time::sleep(wait).await;
                if victims.len() == 1 {
                    load.wait_for(CALLS_MEANWHILE, PROGRESS_WITHIN).await?;
                }
                for &victim in &victims {
                    cluster.node(victim)?.start(None)?;
                }
                if number % 4 == 2 {
                    cluster.wait_ready().await?;
                    let successor = cluster.leader().await?;
                    cluster.node(successor)?.kill();
                    *faults.entry("kill").or_default() += 1;
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
