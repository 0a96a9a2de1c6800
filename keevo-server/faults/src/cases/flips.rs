//! Flipped bits in the files of a stopped node: detected or refused, never served; then the replica is rebuilt.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use keevo_core::{Error, ErrorKind, Result};

use super::{Case, backlog, rebuild};
use crate::cluster::{Cluster, READY_WITHIN, Settings};
use crate::lab::{Lab, Round};
use crate::load::PROGRESS_WITHIN;
use crate::node::POLL;

/// Which files, in turn.
const FILES: [&str; 3] = ["data files (SST)", "log files", "files of a snapshot that has arrived"];
const SECTOR_BYTES: usize = 512;
const DETECTED_WITHIN: Duration = Duration::from_secs(45);
const CALLS_MEANWHILE: u64 = 300;

pub(super) async fn run(lab: &mut Lab) -> Result<()> {
    let settings = Settings { flags: vec![("log-entries-kept", "100".to_owned())], ..Settings::default() };
    let mut cluster = lab.cluster(Case::Flips, settings).await?;
    let files = if lab.failpoints { 3 } else { 2 };
    for number in 0..(lab.rounds(Case::Flips) * files).min(6) {
        if !lab.has_time() {
            break;
        }
        let turn = number % files;
        let detail = FILES.get(turn as usize).copied().unwrap_or_default();
        let what = Round { case: Case::Flips, detail, damage: true };
        let passed = lab
            .round(&what, &mut cluster, async |cluster, load, faults| {
                if turn == 2 {
                    return staged(cluster, faults).await;
                }
                let leader = cluster.leader().await?;
                let victim = cluster.ids().into_iter().find(|&id| id != leader).unwrap_or(leader);
                cluster.flush().await?;
                let node = cluster.node(victim)?;
                node.kill();
                let flipped = if turn == 0 { flip_data(&node.data)? } else { flip_log(&node.data)? };
                *faults.entry("bit_flip").or_default() += flipped;
                node.start(None)?;
                load.wait_for(CALLS_MEANWHILE, PROGRESS_WITHIN).await?;
                detected(cluster, victim).await?;
                *faults.entry("damage_detected").or_default() += 1;
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

/// Lets a follower die with a snapshot that has arrived, damages that, and sees that it is fetched again.
async fn staged(cluster: &mut Cluster, faults: &mut crate::tally::Faults) -> Result<()> {
    let victim = backlog::dies_with_a_snapshot(cluster, "snapshot.staged").await?;
    let node = cluster.node(victim)?;
    let mut flipped = 0;
    for path in files_below(&node.data.join("staging"))? {
        flipped += u64::from(flip(&path, &MIDDLE)?);
    }
    *faults.entry("bit_flip").or_default() += flipped;
    *faults.entry("failpoint_kill").or_default() += 1;
    if flipped == 0 {
        return Err(Error::invalid("no staged file was there to be damaged"));
    }
    let node = cluster.node(victim)?;
    node.start(None)?;
    node.wait_ready(READY_WITHIN).await
}

/// Flips a bit in the middle of every data file.
fn flip_data(data: &Path) -> Result<u64> {
    let mut flipped = 0;
    for path in files_below(&data.join("data"))? {
        if path.extension().is_some_and(|extension| extension == "sst") {
            flipped += u64::from(flip(&path, &MIDDLE)?);
        }
    }
    if flipped == 0 {
        return Err(Error::invalid("no data file was there to be damaged"));
    }
    Ok(flipped)
}

/// Flips a bit in every sector of what the largest file of the log holds. One bit could strike the body of an entry that is
/// purged, which nobody reads any more and nobody must miss.
fn flip_log(data: &Path) -> Result<u64> {
    let mut largest: Option<(u64, PathBuf)> = None;
    for path in files_below(&data.join("log"))? {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if ["LOG", "MANIFEST", "OPTIONS"].iter().any(|other| name.starts_with(other)) {
            continue;
        }
        let bytes = fs::metadata(&path).map_or(0, |meta| meta.len());
        if largest.as_ref().is_none_or(|(most, _)| bytes > *most) {
            largest = Some((bytes, path));
        }
    }
    match largest {
        Some((_, path)) if flip(&path, &every_sector)? => Ok(1),
        _ => Err(Error::invalid("no log file was there to be damaged")),
    }
}

/// Which of so many bytes are struck: the one in the middle.
const MIDDLE: fn(usize) -> Vec<usize> = |used| vec![used / 2];

/// Which of so many bytes are struck: one in each sector.
fn every_sector(used: usize) -> Vec<usize> {
    ((used / 2).min(SECTOR_BYTES / 2)..used).step_by(SECTOR_BYTES).collect()
}

/// Flips a bit in those bytes of what a file holds, less the zeros at its end; whether it holds anything.
fn flip(path: &Path, places: &dyn Fn(usize) -> Vec<usize>) -> Result<bool> {
    let failed = |error: std::io::Error| {
        Error::new(ErrorKind::Io, format!("{} cannot be damaged", path.display())).with_source(error)
    };
    let mut bytes = fs::read(path).map_err(failed)?;
    let used = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    if used == 0 {
        return Ok(false);
    }
    for place in places(used) {
        if let Some(byte) = bytes.get_mut(place) {
            *byte ^= 0x10;
        }
    }
    fs::write(path, &bytes).map_err(failed)?;
    Ok(true)
}

fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let failed = |error: std::io::Error| {
        Error::new(ErrorKind::Io, format!("{} cannot be listed", folder.display())).with_source(error)
    };
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    Ok(found)
}

fn names_damage(text: &str) -> bool {
    text.contains("CORRUPT") || text.contains("orrupt")
}

/// Waits until the damage is known: the node has refused to start, or a replica of it reports a fault. Meanwhile every
/// shard is read through by its checksum.
async fn detected(cluster: &mut Cluster, victim: u64) -> Result<()> {
    let waiting = async {
        loop {
            if !cluster.node(victim)?.is_running() {
                let said = cluster.node(victim)?.log_text();
                let tail: Vec<&str> = said.lines().rev().take(4).collect();
                if tail.iter().any(|line| names_damage(line)) {
                    return Ok(());
                }
                let message = format!("the damaged node {victim} ended without naming damage: {}", tail.join(" | "));
                return Err(Error::invalid(message));
            }
            let others: Vec<u64> = cluster.ids().into_iter().filter(|&id| id != victim).collect();
            if cluster.faults_on(victim, &others).await.iter().any(|fault| names_damage(fault)) {
                return Ok(());
            }
            cluster.read_through(&others).await;
            tokio::time::sleep(POLL * 10).await;
        }
    };
    tokio::time::timeout(DETECTED_WITHIN, waiting).await.unwrap_or_else(|elapsed| {
        Err(Error::corrupt(format!("nobody noticed the damage of node {victim}")).with_source(elapsed))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bit_of_what_a_file_holds_is_flipped() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        fs::write(&path, [1, 2, 3, 4, 5, 0, 0, 0]).expect("written");
        assert!(flip(&path, &MIDDLE).expect("flipped"));
        assert_eq!(fs::read(&path).expect("read"), [1, 2, 3 ^ 0x10, 4, 5, 0, 0, 0]);
        fs::write(&path, [0; 8]).expect("written");
        assert!(!flip(&path, &MIDDLE).expect("nothing in it"));
        assert_eq!((every_sector(1_000), every_sector(3)), (vec![256, 768], vec![1]));
        fs::create_dir(folder.path().join("below")).expect("made");
        fs::write(folder.path().join("below/other"), "x").expect("written");
        assert_eq!(files_below(folder.path()).expect("listed").len(), 2);
    }
}
