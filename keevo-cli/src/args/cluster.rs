//! `keevo-cli cluster` and `keevo-cli shard`.

use clap::Subcommand;

use super::Sure;

/// Shown below the help.
pub(crate) const EXAMPLES: &str = "\
Examples:
  keevo-cli cluster status
  keevo-cli cluster join 10.0.0.4:7101     # the node was started with `keevod --join true`
  keevo-cli cluster transfer 3 2           # node 2 is to lead shard 3
  keevo-cli cluster remove 4 --dry-run     # how many replicas would move
  keevo-cli cluster remove 4 --yes
  keevo-cli cluster upgrade                # what stands in the way of the new release's level
  keevo-cli cluster upgrade --finalize     # when all nodes run it; there is no way back
  keevo-cli cluster checksum               # exit code 8 when copies differ";

/// Shown below the help.
pub(crate) const SHARD_EXAMPLES: &str = "\
Examples:
  keevo-cli shard list
  keevo-cli shard list --output jsonl";

/// Commands on the cluster.
#[derive(Debug, Subcommand)]
pub(crate) enum Cluster {
    /// Show nodes and, per shard, its replicas: role, applied index and hash
    Status,
    /// Take a node into the cluster
    Join {
        /// host:port at which the node listens
        address: String,
    },
    /// Move a node's replicas away and take it out of the cluster
    Remove {
        /// The node's id
        node: u64,
        #[command(flatten)]
        sure: Sure,
    },
    /// Make the replica on a node the leader of a shard
    Transfer {
        /// The shard's id
        shard: u64,
        /// The id of the node that is to lead it
        node: u64,
    },
    /// Show which releases the nodes run, and whether the cluster can go to the newest level that they know
    Upgrade {
        /// Go there: from then on no older release can take part
        #[arg(long)]
        finalize: bool,
        #[command(flatten)]
        sure: Sure,
    },
    /// Hash every copy of every shard at the same revision, and compare; exit code 8 when copies differ
    Checksum,
}

/// Commands on shards.
#[derive(Debug, Subcommand)]
pub(crate) enum Shard {
    /// List the shards: key range, leader and replicas
    List,
}
