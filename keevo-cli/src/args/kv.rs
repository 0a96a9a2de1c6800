//! `keevo-cli kv`: keys and values.

use std::ffi::OsString;
use std::time::Duration;

use bytes::Bytes;
use clap::{Args, Subcommand};

use super::Sure;
use crate::{duration, text};

/// Shown below the help.
pub(crate) const EXAMPLES: &str = "\
Examples:
  keevo-cli kv put user/alice Alice
  keevo-cli kv put user/alice - < alice.json
  keevo-cli kv put session/4711 token --ttl 30m --if-absent
  keevo-cli kv get user/alice --raw
  keevo-cli kv scan user --prefix al --limit 20 --reverse
  keevo-cli kv delete user/alice --if-revision 12
  keevo-cli kv delete-range user --prefix al --dry-run    # how many keys, and how many bytes
  keevo-cli kv delete-range user --prefix al --yes
  keevo-cli kv watch user
  keevo-cli kv keyspaces

A KEY is partition/sort: the first slash divides. Write \\n \\t \\r \\\\ or \\xNN for other bytes, \\x2f for
a slash in the partition.";

/// Commands on keys.
#[derive(Debug, Subcommand)]
pub(crate) enum Kv {
    /// Read one key; exit code 4 when there is none
    Get {
        #[command(flatten)]
        at: At,
        /// Write the value alone, byte for byte
        #[arg(long)]
        raw: bool,
    },
    /// Store a value; creates the keyspace if it is new
    Put(Put),
    /// Remove a key; removing one that is absent is no error
    Delete {
        #[command(flatten)]
        at: At,
        /// Only if the key was last written at this revision; exit code 5 otherwise
        #[arg(long, value_name = "REVISION")]
        if_revision: Option<u64>,
    },
    /// Remove the keys of a partition, all or those with a prefix, at once
    DeleteRange(DeleteRange),
    /// List the keys of a partition, or of a whole ordered keyspace
    Scan(Scan),
    /// List the keyspaces
    Keyspaces,
    /// Show changes as they happen, until Ctrl-C
    Watch(Watch),
}

/// A key of a keyspace.
#[derive(Debug, Args)]
pub(crate) struct At {
    /// The key: partition/sort
    #[arg(value_parser = text::parse_key)]
    pub(crate) key: (Bytes, Bytes),
    #[command(flatten)]
    pub(crate) keyspace: KeyspaceName,
}

/// The name of a keyspace.
#[derive(Debug, Args)]
pub(crate) struct KeyspaceName {
    /// The keyspace (default: the context's, or default; variable KEEVO_KEYSPACE)
    #[arg(long = "keyspace", value_name = "NAME")]
    pub(crate) name: Option<String>,
}

/// What to store.
#[derive(Debug, Args)]
pub(crate) struct Put {
    #[command(flatten)]
    pub(crate) at: At,
    /// The value, or - to read it from standard input
    pub(crate) value: OsString,
    /// Remove it after this time, such as 30s, 10m or 7d
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub(crate) ttl: Option<Duration>,
    /// Only if the key is absent; exit code 5 otherwise
    #[arg(long, conflicts_with = "if_revision")]
    pub(crate) if_absent: bool,
    /// Only if the key was last written at this revision; exit code 5 otherwise
    #[arg(long, value_name = "REVISION")]
    pub(crate) if_revision: Option<u64>,
}

/// What to remove.
#[derive(Debug, Args)]
pub(crate) struct DeleteRange {
    /// The partition
    #[arg(value_parser = text::parse_bytes)]
    pub(crate) partition: Bytes,
    #[command(flatten)]
    pub(crate) keyspace: KeyspaceName,
    /// Only keys whose sort key starts with this
    #[arg(long, value_parser = text::parse_bytes, default_value = "")]
    pub(crate) prefix: Bytes,
    #[command(flatten)]
    pub(crate) sure: Sure,
}

/// What to list.
#[derive(Debug, Args)]
pub(crate) struct Scan {
    /// The partition; needed unless the keyspace is ordered
    #[arg(value_parser = text::parse_bytes)]
    pub(crate) partition: Option<Bytes>,
    #[command(flatten)]
    pub(crate) keyspace: KeyspaceName,
    /// Only keys whose sort key (without a partition: partition and sort key) starts with this
    #[arg(long, value_parser = text::parse_bytes, default_value = "")]
    pub(crate) prefix: Bytes,
    /// The most records to list; they are fetched page by page
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) limit: u32,
    /// From the largest key down
    #[arg(long)]
    pub(crate) reverse: bool,
    /// Show one state of each shard, whatever is written while its pages are fetched
    #[arg(long)]
    pub(crate) consistent: bool,
}

/// What to watch.
#[derive(Debug, Args)]
pub(crate) struct Watch {
    /// The partition; without it the whole keyspace
    #[arg(value_parser = text::parse_bytes)]
    pub(crate) partition: Option<Bytes>,
    #[command(flatten)]
    pub(crate) keyspace: KeyspaceName,
    /// Only sort keys that start with this
    #[arg(long, value_parser = text::parse_bytes, default_value = "", requires = "partition")]
    pub(crate) prefix: Bytes,
}
