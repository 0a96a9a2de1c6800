//! `keevo-cli chat`: channels and messages.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::apilog::time;
use super::{Sure, json_object};

/// Shown below the help.
pub(crate) const EXAMPLES: &str = "\
Examples:
  keevo-cli chat create lobby --by alice --member bob
  keevo-cli chat send lobby --user alice 'Hello'
  keevo-cli chat history lobby --limit 10
  keevo-cli chat search 'deploy kube* -windows' --from 7d --user alice
  keevo-cli chat watch lobby --user bob
  keevo-cli chat unread lobby --user bob
  keevo-cli chat read lobby --user bob
  keevo-cli chat channels bob
  keevo-cli chat add-member lobby carol dave
  keevo-cli chat export --all --users > chat.jsonl
  keevo-cli chat import chat.jsonl --position chat.position
  keevo-cli chat export-user alice > alice.jsonl
  keevo-cli chat erase-user alice --dry-run              # what of hers there is";

/// Commands on channels.
#[derive(Debug, Subcommand)]
pub(crate) enum Chat {
    /// Create a channel
    Create {
        /// Its id
        channel: String,
        /// Who creates it, and becomes a member
        #[arg(long, value_name = "USER")]
        by: String,
        /// A further first member; repeatable
        #[arg(long = "member", value_name = "USER")]
        members: Vec<String>,
        /// Further fields, a JSON object
        #[arg(long, value_name = "JSON", value_parser = json_object)]
        custom: Option<String>,
    },
    /// Send a message
    Send(Send),
    /// Read messages, newest first; after --after oldest first
    History(History),
    /// Find messages by what they say, in all channels of an app
    Search(Search),
    /// Show what happens in a channel, until Ctrl-C
    Watch {
        /// The channel
        channel: String,
        /// Who listens, a member
        #[arg(long)]
        user: String,
        /// Continue after the event with this cursor, as --output json shows it, or after a page of history
        #[arg(long, value_name = "HEX", value_parser = cursor)]
        resume: Option<bytes::Bytes>,
    },
    /// Move a user's read position forward
    Read {
        /// The channel
        channel: String,
        /// Whose
        #[arg(long)]
        user: String,
        /// Everything up to this message is read (default: everything)
        #[arg(long, value_name = "N")]
        sequence: Option<u64>,
    },
    /// Count a user's unread messages
    Unread {
        /// The channel
        channel: String,
        /// Whose
        #[arg(long)]
        user: String,
    },
    /// List a user's channels
    Channels {
        /// The user
        user: String,
        /// The most channels; they are fetched page by page
        #[arg(long, value_name = "N", default_value_t = 25, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
        limit: u32,
    },
    /// Load users, channels, members, messages, reactions and read states from a file, a JSON object a line; importing it
    /// again changes nothing
    Import(Import),
    /// Write channels with their history to standard output, as lines that an import takes
    Export(Export),
    /// Write everything of a user to standard output, a JSON object a line
    ExportUser {
        /// The user
        user: String,
    },
    /// Deactivate a user and erase everything of it; waits until that is done. Running it again goes on where it was
    EraseUser {
        /// The user
        user: String,
        /// Keep what it wrote, under the name of a stand-in
        #[arg(long)]
        keep_texts: bool,
        /// Come back at once: the nodes go on by themselves
        #[arg(long)]
        no_wait: bool,
        #[command(flatten)]
        sure: Sure,
    },
    /// Add members to a channel
    AddMember {
        /// The channel
        channel: String,
        /// Whom, at most 100
        #[arg(required = true, num_args = 1..=100)]
        users: Vec<String>,
    },
}

/// What to load.
#[derive(Debug, Args)]
pub(crate) struct Import {
    /// The file: {"user": {"id": …}}, {"channel": {"channel": …, "created_by": …}}, {"member": {"channel": …, "user": …}},
    /// {"message": {"channel": …, "id": …, "user": …, "text": …, "created_at_ms": …}}, {"reaction": {"channel": …, "message":
    /// …, "user": …, "type": …}} or {"read": {"channel": …, "user": …, "message": …}} a line, in any order of kinds; messages
    /// of a channel in theirs
    pub(crate) file: PathBuf,
    /// Where it is kept how far the import came, so that the same command goes on there
    #[arg(long, value_name = "FILE")]
    pub(crate) position: Option<PathBuf>,
    /// How many lines may be refused before the import stops
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub(crate) bad_lines: u32,
}

/// What to write.
#[derive(Debug, Args)]
pub(crate) struct Export {
    /// The channels, type:id
    pub(crate) channels: Vec<String>,
    /// All channels
    #[arg(long)]
    pub(crate) all: bool,
    /// All channels of a type
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) kind: Option<String>,
    /// All users, before the channels
    #[arg(long)]
    pub(crate) users: bool,
}

/// What to send.
#[derive(Debug, Args)]
pub(crate) struct Send {
    /// The channel
    pub(crate) channel: String,
    /// The text, or - to read it from standard input
    pub(crate) text: String,
    /// Who sends it, a member
    #[arg(long)]
    pub(crate) user: String,
    /// The message's id: sending it again under the same id sends it once (default: a random one)
    #[arg(long)]
    pub(crate) id: Option<String>,
    /// The id of the message that it replies to
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    pub(crate) parent: String,
    /// Further fields, a JSON object
    #[arg(long, value_name = "JSON", value_parser = json_object)]
    pub(crate) custom: Option<String>,
}

/// What to read.
#[derive(Debug, Args)]
pub(crate) struct History {
    /// The channel
    pub(crate) channel: String,
    /// The most messages, 1 to 300
    #[arg(long, value_name = "N", default_value_t = 25, value_parser = clap::value_parser!(u32).range(1..=300))]
    pub(crate) limit: u32,
    /// Only messages before this one, in the sequence of the channel or of the thread
    #[arg(long, value_name = "N")]
    pub(crate) before: Option<u64>,
    /// Only messages after this one, in the sequence of the channel or of the thread
    #[arg(long, value_name = "N")]
    pub(crate) after: Option<u64>,
    /// Only the replies to this message
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    pub(crate) thread: String,
    /// Who reads, a member: --output json then shows where `chat watch --resume` continues
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) user: String,
}

/// What to look for.
#[derive(Debug, Args)]
pub(crate) struct Search {
    /// What they say: words, "phrases", beginnings* and -exclusions (default: whatever; say --channel or --user then)
    #[arg(value_name = "QUERY", default_value = "", hide_default_value = true)]
    pub(crate) query: String,
    /// The app, by its number
    #[arg(long, value_name = "APP", default_value_t = 1)]
    pub(crate) app: u32,
    /// Only messages of this channel
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) channel: String,
    /// Only messages that this user sent
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) user: String,
    /// Sent at this time or later: 2026-05-01T12:00:00Z, or a duration before now such as 7d
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) from: Option<u64>,
    /// Sent before this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) to: Option<u64>,
    /// In which order (default: relevance, without a query newest)
    #[arg(long, value_name = "ORDER")]
    pub(crate) sort: Option<Sort>,
    /// The most messages; they are fetched page by page
    #[arg(long, value_name = "N", default_value_t = 25, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) limit: u32,
}

/// In which order messages are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sort {
    /// The best match first
    Relevance,
    /// The newest first
    Newest,
    /// The oldest first
    Oldest,
}

fn cursor(text: &str) -> Result<bytes::Bytes, String> {
    crate::text::parse_hex(text).ok_or_else(|| "a cursor is an even number of hexadecimal digits".to_owned())
}
