//! `keevo-cli apilog`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use jiff::Timestamp;

use super::Sure;
use crate::duration;

/// Shown below the help.
pub(crate) const EXAMPLES: &str = "\
Examples:
  keevo-cli apilog tail --follow
  keevo-cli apilog search --from 1h --app 2 --method Feeds/AddActivity
  keevo-cli apilog search --from 2026-05-01T12:00:00Z --principal alice --failed
  keevo-cli apilog stats --from 1d
  keevo-cli apilog refused --limit 20
  keevo-cli apilog export --from 1d > calls.jsonl
  keevo-cli apilog replay --from 2026-05-01T12:00:00Z --into 10.0.0.9:7101 --dry-run
  keevo-cli apilog replay --file calls.jsonl --into 10.0.0.9:7101 --rate 500 --yes
  keevo-cli apilog erase --app 2 --user alice --dry-run
  keevo-cli apilog hash";

/// Commands on the API log: every call that changed data.
#[derive(Debug, Subcommand)]
pub(crate) enum ApiLog {
    /// Show the newest calls, and with --follow those that come
    Tail {
        #[command(flatten)]
        which: Which,
        /// Go on with calls as they come, until Ctrl-C
        #[arg(long, short)]
        follow: bool,
        /// How many calls to show first
        #[arg(long, short = 'n', value_name = "N", default_value_t = 20)]
        #[arg(value_parser = clap::value_parser!(u32).range(0..=10_000))]
        lines: u32,
    },
    /// Show the calls that match
    Search {
        #[command(flatten)]
        which: Which,
        /// At most so many calls
        #[arg(long, value_name = "N", default_value_t = 1_000)]
        #[arg(value_parser = clap::value_parser!(u32).range(1..=100_000))]
        limit: u32,
    },
    /// Count calls by app and method: how many, how many failed, how many bytes
    Stats {
        #[command(flatten)]
        which: Which,
    },
    /// Write the calls that match to standard output, a JSON object a line, as replay --file reads them
    Export {
        #[command(flatten)]
        which: Which,
    },
    /// Show the newest calls that the --endpoints refused before anything was written; each node keeps its own, in memory
    Refused {
        /// At most so many calls
        #[arg(long, value_name = "N", default_value_t = 100)]
        #[arg(value_parser = clap::value_parser!(u32).range(1..=4_096))]
        limit: u32,
    },
    /// Repeat calls at another cluster, in order; what was repeated before is skipped
    Replay(Replay),
    /// Erase the calls of a user, and those that name the user, from the archive of the log, as far as no backup needs it
    Erase(Erase),
    /// Compute a hash of what each keyspace holds, to be compared with another cluster's
    Hash,
}

/// Which calls.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Which {
    /// From this time on: 2026-05-01T12:00:00Z, or a duration before now such as 10m
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) from: Option<u64>,
    /// Up to this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) to: Option<u64>,
    /// Only calls of this app: its number, or kv for keys and values
    #[arg(long, value_name = "APP", value_parser = app)]
    pub(crate) app: Option<App>,
    /// Only calls whose method, or HTTP method and path, contains this
    #[arg(long, value_name = "TEXT")]
    pub(crate) method: Option<String>,
    /// Only calls of whoever's name contains this
    #[arg(long, value_name = "TEXT")]
    pub(crate) principal: Option<String>,
    /// Only calls whose request contains this
    #[arg(long, value_name = "TEXT")]
    pub(crate) text: Option<String>,
    /// Only calls that failed
    #[arg(long)]
    pub(crate) failed: bool,
}

/// What to repeat, and where.
#[derive(Debug, Args)]
pub(crate) struct Replay {
    #[command(flatten)]
    pub(crate) which: Which,
    /// Nodes of the cluster to repeat them at, host:port with commas between them
    #[arg(long, value_name = "HOST:PORT,…", value_delimiter = ',', required = true)]
    pub(crate) into: Vec<String>,
    /// Take the calls from a file that export wrote
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Names the replay: one of the same name goes on where the last one ended
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub(crate) name: String,
    /// Repeat at most so many calls a second
    #[arg(long, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) rate: Option<u32>,
    /// Repeat them even at the cluster that recorded them: they take place, and are recorded, once more
    #[arg(long)]
    pub(crate) into_source: bool,
    #[command(flatten)]
    pub(crate) sure: Sure,
}

/// Whose calls to erase.
#[derive(Debug, Args)]
pub(crate) struct Erase {
    /// The number of the user's app
    #[arg(long, value_name = "APP")]
    pub(crate) app: u32,
    /// The user's id
    #[arg(long, value_name = "ID")]
    pub(crate) user: String,
    #[command(flatten)]
    pub(crate) sure: Sure,
}

/// Calls of one app, or of keys and values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct App(pub(crate) Option<u32>);

fn app(text: &str) -> Result<App, String> {
    match text {
        "kv" => Ok(App(None)),
        number => number
            .parse()
            .map(|app| App(Some(app)))
            .map_err(|_no_number| "write the number of an app, or kv".to_owned()),
    }
}

/// A time in milliseconds since the epoch.
pub(crate) fn time(text: &str) -> Result<u64, String> {
    let wrong = || "write a time such as 2026-05-01T12:00:00Z, or a duration before now such as 10m".to_owned();
    if let Ok(before) = duration::parse(text) {
        return Ok(now_ms().saturating_sub(duration::millis(before)));
    }
    let stamp: Timestamp = text.parse().map_err(|_error: jiff::Error| wrong())?;
    u64::try_from(stamp.as_millisecond()).map_err(|_before_1970| wrong())
}

/// Now, in milliseconds since the epoch.
pub(crate) fn now_ms() -> u64 {
    let now = Timestamp::now().as_millisecond();
    u64::try_from(now).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_absolute_or_before_now() {
        assert_eq!(time("1970-01-01T00:00:07Z"), Ok(7_000));
        let ten = time("10m").expect("a duration");
        assert!(now_ms().abs_diff(ten).abs_diff(600_000) < 5_000);
        assert!(time("yesterday").is_err() && time("1960-01-01T00:00:00Z").is_err());
        assert_eq!((app("kv"), app("3")), (Ok(App(None)), Ok(App(Some(3)))));
        assert!(app("shop").is_err());
    }
}
