//! `keevo-cli debug`.

use std::path::PathBuf;

use clap::Subcommand;

/// Shown below the help.
pub(crate) const EXAMPLES: &str = "\
Examples:
  keevo-cli debug zip                      # makes keevo-debug-TIME.zip here
  keevo-cli debug zip /tmp/outage.zip

The archive holds what the doctor says, the state of the cluster, and of each node its version, settings, metrics and
the newest lines of its log. Keys, values and messages are not in it, and secrets are taken out by the nodes.";

/// What helps to find a fault.
#[derive(Debug, Subcommand)]
pub(crate) enum Debug {
    /// Collect what a person who looks for a fault asks for first, into one zip file
    Zip {
        /// The file to make; there must be none of that name
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
    },
}
