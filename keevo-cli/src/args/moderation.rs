//! `keevo-cli moderation`: policies, blocklists, the review queue, labelled data.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::Sure;

/// Shown below the help.
pub(crate) const EXAMPLES: &str = "\
Examples:
  keevo-cli moderation status
  keevo-cli moderation blocklist set 1 swear --words swear.txt
  keevo-cli moderation blocklist show 1 swear
  keevo-cli moderation blocklist remove 1 swear
  keevo-cli moderation policy show 1 > policy.json
  keevo-cli moderation policy set 1 policy.json
  keevo-cli moderation queue 1
  keevo-cli moderation decide 1 ID remove --reviewer eve --label toxic --dry-run    # what becomes of which text
  keevo-cli moderation decide 1 ID remove --reviewer eve --label toxic --label insult --yes
  keevo-cli moderation verdicts 1 message team:general msg-7
  keevo-cli moderation export-labels 1 > labelled.csv    # for moderation/train/train.py";

/// Commands on moderation. Every node sees a change of a policy within a second or so.
#[derive(Debug, Subcommand)]
pub(crate) enum Moderation {
    /// Show the workers, and what the node that is asked has counted
    Status,
    /// Show and set policies
    #[command(subcommand)]
    Policy(Policy),
    /// Show, set and take away blocklists
    #[command(subcommand)]
    Blocklist(Blocklist),
    /// List what people are to look at, oldest first
    Queue {
        /// The app's id
        app: u32,
        /// The most entries
        #[arg(long, value_name = "N", default_value_t = 25, value_parser = clap::value_parser!(u32).range(1..=1_000))]
        limit: u32,
        /// Go on after this entry
        #[arg(long, value_name = "ID")]
        after: Option<String>,
    },
    /// Decide on an entry of the queue; the first decision holds
    Decide(Decide),
    /// Show the verdicts on all versions of a text
    Verdicts {
        /// The app's id
        app: u32,
        /// What says it
        kind: Kind,
        /// Its id; of a message its channel, type:id, and its id
        #[arg(required = true, num_args = 1..=2, value_name = "ID")]
        id: Vec<String>,
    },
    /// Write what people decided as CSV: the text, and a column a label
    ExportLabels {
        /// The app's id
        app: u32,
    },
}

/// Commands on policies.
#[derive(Debug, Subcommand)]
pub(crate) enum Policy {
    /// Show an app's policy as JSON, and the names of its blocklists
    Show {
        /// The app's id
        app: u32,
    },
    /// Set an app's policy
    Set {
        /// The app's id
        app: u32,
        /// The file with the policy as JSON; - = standard input
        file: PathBuf,
    },
}

/// Commands on blocklists.
#[derive(Debug, Subcommand)]
pub(crate) enum Blocklist {
    /// Show the terms of a blocklist
    Show {
        /// The app's id
        app: u32,
        /// Its name
        name: String,
    },
    /// Make a blocklist, or replace it
    Set {
        /// The app's id
        app: u32,
        /// Its name
        name: String,
        /// The file with terms that count as whole words, one a line
        #[arg(long, value_name = "FILE", required_unless_present = "parts")]
        words: Option<PathBuf>,
        /// The file with terms that count inside words too, one a line
        #[arg(long, value_name = "FILE")]
        parts: Option<PathBuf>,
    },
    /// Take a blocklist away
    Remove {
        /// The app's id
        app: u32,
        /// Its name
        name: String,
        #[command(flatten)]
        sure: Sure,
    },
}

/// A decision.
#[derive(Debug, Args)]
pub(crate) struct Decide {
    /// The app's id
    pub(crate) app: u32,
    /// The entry's id, as the queue shows it
    pub(crate) id: String,
    /// What follows
    pub(crate) decision: Decision,
    /// Who decides
    #[arg(long, value_name = "NAME")]
    pub(crate) reviewer: String,
    /// A label that holds of the text, for the next training; repeatable
    #[arg(long = "label", value_name = "LABEL")]
    pub(crate) labels: Vec<String>,
    /// Why
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) note: String,
    #[command(flatten)]
    pub(crate) sure: Sure,
}

/// What follows from a review.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Decision {
    /// The text may stand
    Allow,
    /// The text is taken away
    Remove,
    /// The message is taken away, and its author kept out of the channel
    Ban,
}

/// What says a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// A message of chat
    Message,
    /// An activity of feeds
    Activity,
    /// A reaction of feeds
    Reaction,
    /// A text of elsewhere, that came in by a queue
    Text,
}
