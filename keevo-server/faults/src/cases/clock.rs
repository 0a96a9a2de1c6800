//! Wall clocks that jump: one node's forward by five seconds, another's back, while they run, and across a restart.
//!
//! By libfaketime, which leaves the monotonic clock alone. That the clocks have moved is read from what the nodes answer.

use std::path::{Path, PathBuf};
use std::time::Duration;

use keevo_core::{Error, ErrorKind, Result};

use super::Case;
use crate::cluster::{Cluster, Settings};
use crate::lab::{Lab, Round};
use crate::load::PROGRESS_WITHIN;
use crate::node::POLL;

const JUMP_S: i64 = 5;
/// A clock that is read to about a second, twice.
const TOLERANCE_S: i64 = 2;
const CALLS_MEANWHILE: u64 = 300;
const MOVES_WITHIN: Duration = Duration::from_secs(10);

/// The library, where Debian puts it.
pub(crate) fn library() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").ok()?;
    let candidates = folders.filter_map(|folder| Some(folder.ok()?.path().join("faketime/libfaketimeMT.so.1")));
    candidates.into_iter().find(|path| path.is_file())
}

fn file(folder: &Path, node: u64) -> PathBuf {
    folder.join(format!("clock-{node}"))
}

fn set(folder: &Path, node: u64, ahead_s: i64) -> Result<()> {
    // Renamed into place: it is read at any time.
    let (path, new) = (file(folder, node), folder.join(format!("clock-{node}.new")));
    std::fs::write(&new, format!("{ahead_s:+}s\n"))
        .and_then(|()| std::fs::rename(&new, &path))
        .map_err(|error| Error::new(ErrorKind::Io, "a clock cannot be set").with_source(error))
}

pub(super) async fn run(lab: &mut Lab) -> Result<()> {
    let library = library().ok_or_else(|| Error::new(ErrorKind::NotFound, "libfaketime is not installed"))?;
    let folder = lab.folder.clone();
    let mut cluster = lab.cluster_in(&folder.join(Case::Clock.name()), Settings::default())?;
    for node in cluster.nodes.values_mut() {
        set(&folder, node.id, 0)?;
        node.variables = [
            ("LD_PRELOAD", library.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", file(&folder, node.id).display().to_string()),
            ("FAKETIME_CACHE_DURATION", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("DONT_FAKE_MONOTONIC", "1".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec();
    }
    cluster.start().await?;
    for number in 0..lab.rounds(Case::Clock) {
        if !lab.has_time() {
            break;
        }
        // Once the leader's goes forward and a follower's back, once the other way round.
        let jump = if number % 2 == 0 { JUMP_S } else { -JUMP_S };
        let what = Round {
            case: Case::Clock,
            detail: if jump > 0 {
                "the leader's +5 s, a follower's -5 s"
            } else {
                "the leader's -5 s, a follower's +5 s"
            },
            damage: false,
        };
        let clock = lab.clock.clone();
        let passed = lab
            .round(&what, &mut cluster, async |cluster, load, faults| {
                let leader = cluster.leader().await?;
                let other = cluster.ids().into_iter().find(|&id| id != leader).unwrap_or(leader);
                for (node, ahead_s) in [(leader, jump), (other, -jump)] {
                    set(&folder, node, ahead_s)?;
                    moved(cluster, node, ahead_s, &clock).await?;
                    *faults.entry("clock_jump").or_default() += 1;
                }
                load.wait_for(CALLS_MEANWHILE, PROGRESS_WITHIN).await?;
                // A start with a clock that is wrong, and a new leader whose clock is another.
                let node = cluster.node(leader)?;
                node.kill();
                node.start(None)?;
                *faults.entry("kill").or_default() += 1;
                load.wait_for(CALLS_MEANWHILE, PROGRESS_WITHIN).await?;
                cluster.wait_ready().await?;
                moved(cluster, leader, jump, &clock).await?;
                // And back: every clock jumps once more.
                for node in [leader, other] {
                    set(&folder, node, 0)?;
                    moved(cluster, node, 0, &clock).await?;
                    *faults.entry("clock_jump").or_default() += 1;
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

/// Waits until a node's clock is that far ahead.
async fn moved(cluster: &mut Cluster, node: u64, ahead_s: i64, clock: &keevo_core::SystemClock) -> Result<()> {
    let node = cluster.node(node)?;
    let mut last = 0;
    let moving = async {
        loop {
            if let Ok(ahead) = node.clock_ahead_s(clock).await {
                last = ahead;
                if (ahead - ahead_s).abs() <= TOLERANCE_S {
                    return;
                }
            }
            tokio::time::sleep(POLL * 5).await;
        }
    };
    let moved = tokio::time::timeout(MOVES_WITHIN, moving).await;
    moved.map_err(|elapsed| {
        let message = format!("node {}'s clock is {last} s ahead, not {ahead_s} s", node.id);
        Error::new(ErrorKind::Invalid, message).with_source(elapsed)
    })
}
