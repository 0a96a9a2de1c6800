//! `keevo-cli app`: apps of the feeds REST API.

use std::path::PathBuf;

use clap::{ArgAction, Args, Subcommand, ValueEnum};

use super::{Sure, json_object};

/// Shown below the help.
pub(crate) const EXAMPLES: &str = "\
Examples:
  keevo-cli app create shop                              # makes up a key and a secret, and shows them once
  keevo-cli app create shop --key shop-1 --secret-file secret.txt
  keevo-cli app list
  keevo-cli app show 1
  keevo-cli app group set 1 boards --kind aggregated --others-read true
  keevo-cli app group remove 1 boards
  keevo-cli app key add 1 --key shop-2 --secret-file secret.txt
  keevo-cli app key revoke 1 shop-1
  keevo-cli app policy 1 '{\"activities_read\": true, \"og_read\": false}'
  keevo-cli app rate 1 read 5000
  keevo-cli app suspend 1
  keevo-cli app resume 1
  keevo-cli app delete 1 --dry-run
  keevo-cli app webhook set 1 https://example.org/hook --secret-file secret.txt
  keevo-cli app webhook remove 1 https://example.org/hook";

/// Commands on apps. Every node sees a change within a second or so.
#[derive(Debug, Subcommand)]
pub(crate) enum App {
    /// Make an app with the default feed groups and a key
    Create {
        /// What people call it
        name: String,
        #[command(flatten)]
        key: NewKey,
    },
    /// List all apps
    List,
    /// Show an app: keys, feed groups, policies, limits, webhooks; never a secret
    Show {
        /// The app's id
        app: u32,
    },
    /// Take an app away: its keys are refused from then on; its data stays
    Delete {
        /// The app's id
        app: u32,
        #[command(flatten)]
        sure: Sure,
    },
    /// Refuse an app's keys for the time being
    Suspend {
        /// The app's id
        app: u32,
    },
    /// Take an app's keys again
    Resume {
        /// The app's id
        app: u32,
    },
    /// Say what users' tokens may do
    Policy {
        /// The app's id
        app: u32,
        /// All policies, such as {"activities_read": true, "files_write": false, "og_read": false}
        #[arg(value_name = "JSON", value_parser = json_object)]
        policies: String,
    },
    /// Limit an app's requests of a kind
    Rate {
        /// The app's id
        app: u32,
        /// The limit: add, collection, file, follow, open_graph, other, reaction, read, update or user
        limit: String,
        /// Requests a minute, on each node; 0 = the default again
        per_minute: u32,
    },
    /// Add and revoke API keys
    #[command(subcommand)]
    Key(Key),
    /// Make and take away feed groups
    #[command(subcommand)]
    Group(Group),
    /// Set and take away webhooks
    #[command(subcommand)]
    Webhook(Webhook),
}

/// A key to add.
#[derive(Debug, Args)]
pub(crate) struct NewKey {
    /// The key, of letters, digits, - and _ (default: made up, with its secret)
    #[arg(long, value_name = "KEY")]
    pub(crate) key: Option<String>,
    #[command(flatten)]
    pub(crate) secret: SecretSource,
}

/// Where a secret comes from: never from an argument, which every list of processes shows.
#[derive(Debug, Args)]
pub(crate) struct SecretSource {
    /// The file with the secret, of 6 to 255 bytes; - = standard input (default: the variable KEEVO_APP_SECRET)
    #[arg(long, value_name = "FILE")]
    pub(crate) secret_file: Option<PathBuf>,
}

/// Commands on keys.
#[derive(Debug, Subcommand)]
pub(crate) enum Key {
    /// Give an app another key
    Add {
        /// The app's id
        app: u32,
        #[command(flatten)]
        key: NewKey,
    },
    /// Take a key from an app: its tokens are refused from then on
    Revoke {
        /// The app's id
        app: u32,
        /// The key
        key: String,
        #[command(flatten)]
        sure: Sure,
    },
}

/// Commands on feed groups.
#[derive(Debug, Subcommand)]
pub(crate) enum Group {
    /// Make a feed group, or change what is given of it
    Set(Box<GroupSet>),
    /// Take a feed group away: its feeds are refused from then on, and stay
    Remove {
        /// The app's id
        app: u32,
        /// The group's slug
        slug: String,
        #[command(flatten)]
        sure: Sure,
    },
}

/// What is said of a feed group; what is left out stays as it is.
#[derive(Debug, Args)]
pub(crate) struct GroupSet {
    /// The app's id
    pub(crate) app: u32,
    /// The group's slug
    pub(crate) slug: String,
    /// How it shows its activities
    #[arg(long, value_enum)]
    pub(crate) kind: Option<Kind>,
    /// The template that groups activities, such as '{{ verb }}_{{ time.strftime("%Y-%m-%d") }}'
    #[arg(long, value_name = "TEMPLATE")]
    pub(crate) aggregation: Option<String>,
    /// A ranking as NAME={"score": …, "defaults": {…}}; NAME= takes it away; repeatable
    #[arg(long, value_name = "NAME=JSON")]
    pub(crate) ranking: Vec<String>,
    /// The most activities that a feed keeps; 0 = all
    #[arg(long, value_name = "N")]
    pub(crate) timeline_max: Option<u32>,
    /// Above how many followers a feed is merged by its readers; 0 = never
    #[arg(long, value_name = "N")]
    pub(crate) read_merge_above: Option<u64>,
    /// Whether users read each other's feeds
    #[arg(long, action = ArgAction::Set, value_name = "BOOL")]
    pub(crate) others_read: Option<bool>,
    /// Whether users write to each other's feeds, through targets
    #[arg(long, action = ArgAction::Set, value_name = "BOOL")]
    pub(crate) others_write: Option<bool>,
}

/// How a feed group shows its activities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// One by one
    Flat,
    /// In groups, by the template
    Aggregated,
    /// In groups that are seen and read
    Notification,
}

/// Commands on webhooks.
#[derive(Debug, Subcommand)]
pub(crate) enum Webhook {
    /// Send changes of feeds to an address
    Set {
        /// The app's id
        app: u32,
        /// An http or https address
        url: String,
        /// Only changes of feeds of this group; repeatable (default: all)
        #[arg(long = "group", value_name = "SLUG")]
        groups: Vec<String>,
        #[command(flatten)]
        secret: SecretSource,
    },
    /// Send nothing more to an address
    Remove {
        /// The app's id
        app: u32,
        /// The address
        url: String,
        #[command(flatten)]
        sure: Sure,
    },
}
