//! SIGSTOP: a leader that sleeps through its lease must not answer from it when it wakes.

use std::time::Duration;

use keevo_core::Result;

use super::Case;
use crate::cluster::Settings;
use crate::lab::{Lab, Round};
use crate::load::PROGRESS_WITHIN;

const WHOM: [&str; 3] = ["the leader, past its lease", "a follower", "both followers"];
/// Longer than the lease and the election that follows it.
const ASLEEP: Duration = Duration::from_secs(3);
const CALLS_MEANWHILE: u64 = 100;

pub(super) async fn run(lab: &mut Lab) -> Result<()> {
    let mut cluster = lab.cluster(Case::Pause, Settings::default()).await?;
    for number in 0..lab.rounds(Case::Pause) {
        if !lab.has_time() {
            break;
        }
        let turn = number as usize % WHOM.len();
        let what = Round { case: Case::Pause, detail: WHOM.get(turn).copied().unwrap_or_default(), damage: false };
        let passed = lab
            .round(&what, &mut cluster, async |cluster, load, faults| {
                let leader = cluster.leader().await?;
                let followers: Vec<u64> = cluster.ids().into_iter().filter(|&id| id != leader).collect();
                let victims = match turn {
                    0 => vec![leader],
                    1 => followers.iter().copied().take(1).collect(),
                    _ => followers.clone(),
                };
                for &victim in &victims {
                    let node = cluster.node(victim)?;
                    node.pause()?;
                    node.stands_still().await?;
                    *faults.entry("pause").or_default() += 1;
                }
                tokio::time::sleep(ASLEEP).await;
                if turn == 0 {
                    let leaders = cluster.leaders_seen_by(&followers, leader).await?;
                    *faults.entry("leader_slept_through_lease").or_default() += leaders.len() as u64;
                }
                if turn < 2 {
                    load.wait_for(CALLS_MEANWHILE, PROGRESS_WITHIN).await?;
                }
                for &victim in &victims {
                    cluster.node(victim)?.resume()?;
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
