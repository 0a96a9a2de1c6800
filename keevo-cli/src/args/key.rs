//! `keevo-cli key`: the keys that archive and backups, or the values on a node's disk, are encrypted with.

use std::path::PathBuf;

use clap::Subcommand;

use super::Sure;

/// Shown below the help.
pub(crate) const EXAMPLES: &str = "\
Examples:
  keevo-cli key new archive.keys                   # then archive_key_file = \"…/archive.keys\" on every node
  keevo-cli key new data.keys                      # then data_key_file = \"…/data.keys\" on every node
  keevo-cli key rotate archive.keys                # copy the file to every node within moments; no restart
  keevo-cli key list archive.keys
  keevo-cli key remove archive.keys 1 --yes        # once nothing needs it: no backup, no archive, no node's disk

Keep a copy of the file elsewhere: without it nothing can be read that it has encrypted.";

/// Commands on key files; none of them calls a node.
#[derive(Debug, Subcommand)]
pub(crate) enum Key {
    /// Make a file with one key
    New {
        /// The file, which must not be there yet
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Add a key, which encrypts from then on; what the older ones have encrypted stays readable
    Rotate {
        /// The file
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// List the numbers of the keys, never the keys
    List {
        /// The file
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Take an older key out: what it has encrypted cannot be read any more
    Remove {
        /// The file
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// The key's number
        #[arg(value_name = "KEY")]
        key: u32,
        #[command(flatten)]
        sure: Sure,
    },
}
