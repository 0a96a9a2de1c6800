//! `keevo-cli feed`: activity feeds. A feed is named `slug:id`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Sure, json_object};

/// Shown below the help.
pub(crate) const EXAMPLES: &str = "\
Examples:
  keevo-cli feed follow timeline:bob user:alice
  keevo-cli feed add user:alice --actor alice --verb like --object photo:1
  keevo-cli feed get timeline:bob --limit 10
  keevo-cli feed followers user:alice
  keevo-cli feed following timeline:bob
  keevo-cli feed unfollow timeline:bob user:alice --keep-history
  keevo-cli feed remove user:alice 00000000-0000-1000-8000-000000000001 --dry-run
  keevo-cli feed groups notification:alice --mark-seen
  keevo-cli feed ranked user:alice --ranking '{\"score\": \"decay_linear(time)\"}'
  keevo-cli feed stats user:alice
  keevo-cli feed react 00000000-0000-1000-8000-000000000001 like --user bob
  keevo-cli feed reactions 00000000-0000-1000-8000-000000000001
  keevo-cli feed user alice --data '{\"name\": \"Alice\"}'
  keevo-cli feed export user:alice timeline:bob --social > feeds.jsonl
  keevo-cli feed import feeds.jsonl --position feeds.position
  keevo-cli feed verify user:alice --followers";

/// Commands on feeds, and whose feeds they are.
#[derive(Debug, Args)]
pub(crate) struct FeedArgs {
    /// The app, by its number
    #[arg(long, value_name = "APP", default_value_t = 1, global = true)]
    pub(crate) app: u32,
    #[command(subcommand)]
    pub(crate) command: Feed,
}

/// Commands on feeds.
#[derive(Debug, Subcommand)]
pub(crate) enum Feed {
    /// Publish an activity to a feed and to all that follow it
    Add(Add),
    /// Read a feed, newest first
    Get {
        /// The feed, slug:id
        feed: String,
        /// The most activities, 1 to 1000
        #[arg(long, value_name = "N", default_value_t = 25, value_parser = clap::value_parser!(u32).range(1..=1_000))]
        limit: u32,
        /// Only activities older than the one with this id
        #[arg(long, value_name = "ID")]
        before: Option<String>,
        /// Only activities newer than the one with this id
        #[arg(long, value_name = "ID")]
        after: Option<String>,
        /// Replace references by what they name, and show counts and the newest reactions; as JSON alone
        #[arg(long)]
        enrich: bool,
    },
    /// Read an aggregated or notification feed, the newest group first
    Groups {
        /// The feed, slug:id
        feed: String,
        /// The most groups, 1 to 1000
        #[arg(long, value_name = "N", default_value_t = 25, value_parser = clap::value_parser!(u32).range(1..=1_000))]
        limit: u32,
        /// Only groups older than the one with this id
        #[arg(long, value_name = "ID")]
        before: Option<String>,
        /// Mark all groups that are there as seen
        #[arg(long)]
        mark_seen: bool,
        /// Mark all groups that are there as read
        #[arg(long)]
        mark_read: bool,
    },
    /// Read the newest 1000 activities of a flat feed in the order of an expression
    Ranked {
        /// The feed, slug:id
        feed: String,
        /// The expression: {"score": …, "defaults": {…}, "functions": {…}}
        #[arg(long, value_name = "JSON", value_parser = json_object)]
        ranking: String,
        /// The most activities, 1 to 1000
        #[arg(long, value_name = "N", default_value_t = 25, value_parser = clap::value_parser!(u32).range(1..=1_000))]
        limit: u32,
        /// How many to leave out first
        #[arg(long, value_name = "N", default_value_t = 0)]
        offset: u32,
    },
    /// Count the followers of a feed, and the feeds that it follows
    Stats {
        /// The feed, slug:id
        feed: String,
    },
    /// React to an activity, or with --parent to a reaction
    React(React),
    /// List the reactions to an activity, newest first
    Reactions {
        /// The activity's id
        activity: String,
        /// Only of this kind
        #[arg(long)]
        kind: Option<String>,
        /// The most reactions, 1 to 25
        #[arg(long, value_name = "N", default_value_t = 25, value_parser = clap::value_parser!(u32).range(1..=25))]
        limit: u32,
    },
    /// Show a user, or with --data add or replace it
    User {
        /// The user's id
        id: String,
        /// Its new data, a JSON object
        #[arg(long, value_name = "JSON", value_parser = json_object)]
        data: Option<String>,
    },
    /// Remove an activity everywhere it went
    Remove {
        /// The feed it was published to
        feed: String,
        /// The activity's id
        #[arg(required_unless_present = "foreign_id", conflicts_with = "foreign_id")]
        id: Option<String>,
        /// The caller's own id of the activity, with --time
        #[arg(long, value_name = "ID", requires = "time")]
        foreign_id: Option<String>,
        /// The activity's time
        #[arg(long, value_name = "RFC3339", requires = "foreign_id")]
        time: Option<String>,
        #[command(flatten)]
        sure: Sure,
    },
    /// Make a feed follow another
    Follow {
        /// The feed that follows
        feed: String,
        /// The feed that it follows
        target: String,
        /// How many of the newest activities to copy at once, 0 to 1000
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(0..=1_000))]
        copy: u32,
    },
    /// End a follow relation
    Unfollow {
        /// The feed that follows
        feed: String,
        /// The feed that it follows
        target: String,
        /// Keep the activities that came through the relation
        #[arg(long)]
        keep_history: bool,
    },
    /// List the feeds that follow a feed, newest relation first
    Followers(Relations),
    /// List the feeds that a feed follows, newest relation first
    Following(Relations),
    /// Load activities, follows, users, entries of collections and reactions from a file, a JSON object a line; importing
    /// it again changes nothing
    Import(Import),
    /// Write what feeds hold and follow to standard output, as lines that an import takes
    Export(Export),
    /// Recompute feeds from follows and activities, and print every difference: exact while nobody writes
    Verify(Verify),
}

/// What to load.
#[derive(Debug, Args)]
pub(crate) struct Import {
    /// The file: {"activity": {"feed": …, "actor": …, "verb": …, "object": …, "time": …}}, {"follow": {"feed": …,
    /// "target": …}}, {"user": {"id": …, "data": …}}, {"collection": {"collection": …, "id": …, "data": …}} or {"reaction":
    /// {"id": …, "kind": …, "activity_id": …, "user_id": …}} a line, in any order; activities are loaded first, reactions to
    /// reactions last and in their order
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
    #[command(flatten)]
    pub(crate) feeds: Feeds,
    /// Also write the reactions to these activities, and the users and entries that activities and reactions name
    #[arg(long)]
    pub(crate) social: bool,
}

/// What to recompute.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    #[command(flatten)]
    pub(crate) feeds: Feeds,
    /// The followers of these feeds too
    #[arg(long)]
    pub(crate) followers: bool,
}

/// Feeds, by their names.
#[derive(Debug, Args)]
pub(crate) struct Feeds {
    /// The feeds, slug:id
    pub(crate) feeds: Vec<String>,
    /// A file that names further feeds, one a line
    #[arg(long, value_name = "FILE")]
    pub(crate) feeds_from: Option<PathBuf>,
}

/// A reaction.
#[derive(Debug, Args)]
pub(crate) struct React {
    /// The activity's id
    pub(crate) activity: String,
    /// Such as like or comment
    pub(crate) kind: String,
    /// Who reacts
    #[arg(long)]
    pub(crate) user: String,
    /// The reaction that it is to
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    pub(crate) parent: String,
    /// Your own id of it; the same again is refused
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    pub(crate) id: String,
    /// Further fields, a JSON object
    #[arg(long, value_name = "JSON", value_parser = json_object)]
    pub(crate) data: Option<String>,
    /// A feed that gets an activity of it; repeatable
    #[arg(long, value_name = "FEED")]
    pub(crate) to: Vec<String>,
}

/// What to publish.
#[derive(Debug, Args)]
pub(crate) struct Add {
    /// The feed, slug:id
    pub(crate) feed: String,
    /// Who
    #[arg(long)]
    pub(crate) actor: String,
    /// Did what
    #[arg(long)]
    pub(crate) verb: String,
    /// With what
    #[arg(long)]
    pub(crate) object: String,
    /// For whom, or where
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) target: String,
    /// When, in UTC, such as 2026-01-31T12:00:00Z (default: now). The same activity at the same time is one activity,
    /// so that adding it again is harmless
    #[arg(long, value_name = "RFC3339", default_value = "", hide_default_value = true)]
    pub(crate) time: String,
    /// Your own id; with --time it names the activity, so that sending it again replaces it
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    pub(crate) foreign_id: String,
    /// A further feed that receives it; repeatable
    #[arg(long, value_name = "FEED")]
    pub(crate) to: Vec<String>,
    /// Further fields, a JSON object
    #[arg(long, value_name = "JSON", value_parser = json_object)]
    pub(crate) custom: Option<String>,
}

/// Whose relations to list.
#[derive(Debug, Args)]
pub(crate) struct Relations {
    /// The feed, slug:id
    pub(crate) feed: String,
    /// The most relations; they are fetched page by page
    #[arg(long, value_name = "N", default_value_t = 25, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) limit: u32,
}
