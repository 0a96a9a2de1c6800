//! `keevo-cli backup`.

use clap::Subcommand;
use jiff::Timestamp;

use super::Sure;
use crate::text::parse_hex;

/// Shown below the help.
pub(crate) const EXAMPLES: &str = "\
Examples:
  keevo-cli backup create                                  # prints the backup's id
  keevo-cli backup list
  keevo-cli backup verify 20261128t071500z
  keevo-cli backup prune --keep 7 --log --dry-run
  keevo-cli backup restore 20261128t071500z --dry-run
  keevo-cli backup restore 20261128t071500z                # as it is in the backup
  keevo-cli backup restore 20261128t071500z --to-time 2026-11-28T09:30:00Z
  keevo-cli backup restore 20261128t071500z --to-time latest

Backups lie where the nodes' backup_url says. Commands that were cut off go on when they are run again.";

/// Commands on backups.
#[derive(Debug, Subcommand)]
pub(crate) enum Backup {
    /// Back up the cluster while it serves; only what no earlier backup has is written
    Create {
        /// The backup's id, of a-z 0-9 - (default: the time); that of one that was cut off finishes it
        #[arg(long, value_name = "ID")]
        id: Option<String>,
    },
    /// List the finished backups, of this cluster and of others that keep theirs in the same place
    List,
    /// Read every byte of a backup and of the log's archive after it; exit code 8 on damage
    Verify {
        /// The backup's id
        id: String,
        /// The cluster that was backed up, where several have a backup of this id
        #[arg(long, value_name = "HEX", value_parser = cluster)]
        cluster: Option<ClusterHex>,
    },
    /// Remove all but the newest backups of this cluster, and what no other one needs
    Prune {
        /// How many of the newest backups stay
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        keep: u32,
        /// Remove the archive of the log before the oldest of them too, and with it the calls of the API log of before
        #[arg(long)]
        log: bool,
        #[command(flatten)]
        sure: Sure,
    },
    /// Restore a backup into this cluster, which must be empty, whatever its nodes and shards
    Restore {
        /// The backup's id
        id: String,
        /// The cluster that was backed up, where several have a backup of this id
        #[arg(long, value_name = "HEX", value_parser = cluster)]
        cluster: Option<ClusterHex>,
        /// Up to and with this moment, such as 2026-11-28T09:30:00.250Z, or latest: from the archive of the log
        #[arg(long, value_name = "TIME", value_parser = moment)]
        to_time: Option<u64>,
        #[command(flatten)]
        sure: Sure,
        /// Restore into a cluster that holds records: those of the backup replace them, others stay
        #[arg(long)]
        over_records: bool,
    },
}

/// A cluster's id, 16 bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClusterHex(pub(crate) bytes::Bytes);

fn cluster(text: &str) -> Result<ClusterHex, String> {
    let id = parse_hex(text).filter(|id| id.len() == 16);
    id.map(ClusterHex).ok_or_else(|| "write the 32 hexadecimal digits that `backup list` shows".to_owned())
}

/// A moment in milliseconds since the epoch.
fn moment(text: &str) -> Result<u64, String> {
    if text == "latest" {
        return Ok(u64::MAX);
    }
    let time: Timestamp = text.parse().map_err(|error| format!("write a time like 2026-11-28T09:30:00Z: {error}"))?;
    u64::try_from(time.as_millisecond()).map_err(|_before| "it is before 1970".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_and_clusters_are_read() {
        assert_eq!(moment("2026-11-28T09:30:00.250Z"), Ok(1_795_858_200_250));
        assert_eq!(moment("latest"), Ok(u64::MAX));
        assert!(moment("yesterday").is_err() && moment("1950-01-01T00:00:00Z").is_err());
        assert!(cluster(&"0c".repeat(16)).is_ok() && cluster("0c").is_err() && cluster("x").is_err());
    }
}
