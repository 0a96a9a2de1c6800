//! The command line.
//!
//! Invariant: what can be checked without a node is checked here, so that a typing error costs no connection.

pub(crate) mod apilog;
pub(crate) mod app;
pub(crate) mod auth;
pub(crate) mod backup;
pub(crate) mod cert;
pub(crate) mod chat;
pub(crate) mod cluster;
pub(crate) mod feed;
pub(crate) mod kv;
pub(crate) mod moderation;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::duration;
use crate::output::Format;

/// Shown below the long help.
pub(crate) const EXAMPLES: &str = "\
Examples:
  keevo-cli kv put user/alice '{\"name\":\"Alice\"}'
  keevo-cli kv scan user --output json
  keevo-cli --endpoints 10.0.0.1:7101,10.0.0.2:7101 cluster status
  keevo-cli feed add user:alice --actor alice --verb like --object photo:1
  keevo-cli chat send lobby --user alice 'Hello'
  keevo-cli completions bash > ~/.local/share/bash-completion/completions/keevo-cli

With --output json an answer is one JSON document; a watch writes one object a line. Bytes that are
no UTF-8 are written as hexadecimal digits, with a field NAME_encoding = \"hex\" beside NAME.";

const SCRUB_EXAMPLES: &str = "\
Examples:
  keevo-cli scrub                                        # the node at 127.0.0.1:7101
  keevo-cli --endpoints 10.0.0.1:7101,10.0.0.2:7101 scrub --shard 3 --mib-per-s 200";

const CHECKPOINT_EXAMPLES: &str = "\
Examples:
  keevo-cli checkpoint /backup/monday                    # makes /backup/monday/node-1
  keevod --data-dir /backup/monday/node-1 …              # only where the node itself is gone for good";

/// Keys, feeds, chat and administration of a Keevo cluster.
#[derive(Debug, Parser)]
#[command(name = "keevo-cli", version, propagate_version = true, arg_required_else_help = false)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Nodes to call, host:port with commas between them: the first that can be reached is used
    #[arg(
        long,
        env = "KEEVO_ENDPOINTS",
        value_name = "HOST:PORT,…",
        value_delimiter = ',',
        default_value = "127.0.0.1:7101",
        global = true
    )]
    pub(crate) endpoints: Vec<String>,
    /// PEM file of the CA of the nodes; with it they are called over TLS
    #[arg(long, env = "KEEVO_CA", value_name = "FILE", global = true)]
    pub(crate) ca: Option<PathBuf>,
    /// PEM file of the certificate to show them
    #[arg(long, env = "KEEVO_CERT", value_name = "FILE", global = true)]
    pub(crate) cert: Option<PathBuf>,
    /// PEM file of the key of --cert
    #[arg(long, env = "KEEVO_CERT_KEY", value_name = "FILE", global = true)]
    pub(crate) cert_key: Option<PathBuf>,
    /// File with the API key to send (default: the variable KEEVO_API_KEY)
    #[arg(long, env = "KEEVO_API_KEY_FILE", value_name = "FILE", global = true)]
    pub(crate) api_key_file: Option<PathBuf>,
    /// How to write answers
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "table", global = true)]
    pub(crate) output: Format,
    /// How long a call may take, such as 500ms, 5s or 2m (default: 5s; 1m where data is moved)
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, global = true)]
    pub(crate) timeout: Option<Duration>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Read and write keys
    #[command(subcommand, after_help = kv::EXAMPLES)]
    Kv(kv::Kv),
    /// Look at the cluster, and change it
    #[command(subcommand, after_help = cluster::EXAMPLES)]
    Cluster(cluster::Cluster),
    /// Look at the shards
    #[command(subcommand)]
    Shard(cluster::Shard),
    /// Compact the data store of each of the --endpoints, with a progress bar
    Compact,
    /// Make everything written so far durable on each of the --endpoints
    Flush,
    /// Verify every checksum on each of the --endpoints, and compare the copies of each shard; exit code 8 on damage
    #[command(after_help = SCRUB_EXAMPLES)]
    Scrub {
        /// Verify this shard alone
        #[arg(long, value_name = "SHARD")]
        shard: Option<u64>,
        /// Read at most so many MiB a second on each node
        #[arg(long, value_name = "MIB", default_value_t = 64)]
        #[arg(value_parser = clap::value_parser!(u64).range(1..=65_536))]
        mib_per_s: u64,
    },
    /// Make backups of the cluster, verify them, and restore the cluster as it was at a moment
    #[command(subcommand, after_help = backup::EXAMPLES)]
    Backup(backup::Backup),
    /// Make each of the --endpoints write a copy of itself into a new folder node-ID in DIR, on its own machine
    #[command(after_help = CHECKPOINT_EXAMPLES)]
    Checkpoint {
        /// An absolute path
        #[arg(value_name = "DIR")]
        folder: String,
    },
    /// Say who each of the --endpoints is
    Info,
    /// Look for what is wrong, or soon will be: disks, syncs, clocks, limits, versions, certificates; exit code 2 if so
    Doctor,
    /// Publish to feeds, follow and read them
    #[command(after_help = feed::EXAMPLES)]
    Feed(feed::FeedArgs),
    /// Manage the apps of the feeds REST API: keys, feed groups, policies, limits, webhooks
    #[command(subcommand, after_help = app::EXAMPLES)]
    App(app::App),
    /// Say who may do what: roles, and API keys for them
    #[command(subcommand, after_help = auth::EXAMPLES)]
    Auth(auth::Auth),
    /// Look at the log of calls that changed data, and replay them
    #[command(name = "apilog", subcommand, after_help = apilog::EXAMPLES)]
    ApiLog(apilog::ApiLog),
    /// Read the log of what was administered, and verify its chain
    #[command(subcommand, after_help = auth::AUDIT_EXAMPLES)]
    Audit(auth::Audit),
    /// Make a development CA and certificates, and show certificates
    #[command(subcommand, after_help = cert::EXAMPLES)]
    Cert(cert::Cert),
    /// Write to channels, and read and watch them
    #[command(subcommand, after_help = chat::EXAMPLES)]
    Chat(chat::Chat),
    /// Manage moderation: policies, blocklists, the review queue, labelled data
    #[command(subcommand, after_help = moderation::EXAMPLES)]
    Moderation(moderation::Moderation),
    /// Print a script that completes this command line
    #[command(after_help = "Example:\n  keevo-cli completions zsh > ~/.zfunc/_keevo-cli")]
    Completions {
        /// For which shell
        shell: Shell,
    },
}

/// The shells that completions exist for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    /// Bourne again
    Bash,
    /// Z
    Zsh,
    /// Friendly interactive
    Fish,
}

/// Checks that an argument is a JSON object.
pub(crate) fn json_object(text: &str) -> Result<String, String> {
    match serde_json::from_str(text) {
        Ok(serde_json::Value::Object(_)) => Ok(text.to_owned()),
        Ok(_) => Err("it is JSON, but no object: write {\"name\": …}".to_owned()),
        Err(error) => Err(format!("it is no JSON: {error}")),
    }
}

#[cfg(test)]
mod tests;
