//! The command line.

use std::path::PathBuf;

use clap::Parser;

use crate::cases::Case;

/// What to do.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "keevo-faults",
    version,
    about = "Starts three real keevod, breaks them in every way it can, and checks what they promised",
    after_help = "Ends with `faults: N passed, M failed, …`. As root everything happens in namespaces of its own, which \
                  vanish with the program, however it ends; without privileges it runs on plain loopback and says \
                  which faults are left out."
)]
pub(crate) struct Args {
    /// Rounds of each case, instead of the number that suits it
    #[arg(long, value_name = "N")]
    pub(crate) rounds: Option<u32>,
    /// Start no further round after this many seconds
    #[arg(long, value_name = "N", default_value_t = 540)]
    pub(crate) seconds: u64,
    /// Only these cases, separated by commas
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) only: Vec<Case>,
    /// Those who send in the case `chat`
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=400))]
    pub(crate) senders: u32,
    /// Those who watch in the case `chat`
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=400))]
    pub(crate) watchers: u32,
    /// How often a leader is killed in each round of the case `chat`
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) kills: u32,
    /// The plan of faults follows from it; the interleaving does not
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// The keevod to test; by default the one beside this program
    #[arg(long, value_name = "FILE")]
    pub(crate) keevod: Option<PathBuf>,
    /// Work here and keep everything; by default a temporary folder, kept only after a failure
    #[arg(long, value_name = "FOLDER")]
    pub(crate) dir: Option<PathBuf>,
    /// Use plain loopback even with privileges
    #[arg(long)]
    pub(crate) loopback: bool,
    /// Set by the program itself for its second start, in namespaces of its own
    #[arg(long, hide = true)]
    pub(crate) inside: Option<String>,
}
