//! `keevo-cli top`.

use std::time::Duration;

use clap::Args;

use crate::duration;

/// Shown below the help.
pub(crate) const EXAMPLES: &str = "\
Keys: q quits, h shows all keys, s sorts by the next column, r turns the order around, p pauses, + and - change the pace.

Examples:
  keevo-cli top                                    # the cluster of the node at 127.0.0.1:7101
  keevo-cli --endpoints 10.0.0.1:7101 top --interval 5s
  keevo-cli top --once                             # one picture as text
  keevo-cli top --once --output json | jq .nodes";

/// How the cluster is watched.
#[derive(Debug, Args)]
pub(crate) struct Top {
    /// Write one picture as text and end; rates are those of one interval
    #[arg(long)]
    pub(crate) once: bool,
    /// Time between two looks
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, default_value = "1s")]
    pub(crate) interval: Duration,
    /// How wide the picture of --once is, in characters
    #[arg(long, value_name = "COLUMNS", default_value_t = 120, requires = "once")]
    #[arg(value_parser = clap::value_parser!(u16).range(60..=500))]
    pub(crate) width: u16,
}
