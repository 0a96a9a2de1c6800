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
pub(crate) mod compact;
pub(crate) mod context;
pub(crate) mod debug;
pub(crate) mod feed;
pub(crate) mod key;
pub(crate) mod kv;
pub(crate) mod moderation;
pub(crate) mod sink;
pub(crate) mod top;

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
  keevo-cli context add prod --endpoints 10.0.0.1:7101 --ca ca.crt --use
  keevo-cli shell

With --output json an answer is one JSON document, with --output jsonl a list is one object a line; a watch
writes one object a line with both. Bytes that are no UTF-8 are written as hexadecimal digits, with a field
NAME_encoding = \"hex\" beside NAME. Colours are for terminals alone, and never where NO_COLOR is set.";

const FLUSH_EXAMPLES: &str = "\
Examples:
  keevo-cli --endpoints 10.0.0.1:7101,10.0.0.2:7101 flush";

const INFO_EXAMPLES: &str = "\
Examples:
  keevo-cli info";

const DOCTOR_EXAMPLES: &str = "\
Examples:
  keevo-cli doctor
  keevo-cli doctor --output json";

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  keevo-cli completions bash > ~/.local/share/bash-completion/completions/keevo-cli
  keevo-cli completions zsh > ~/.zfunc/_keevo-cli";

const MAN_EXAMPLES: &str = "\
Examples:
  keevo-cli man --out ~/.local/share/man/man1";

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

/// What every command takes. What is left out comes from the environment, the context, or is a default: `settings`.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Global {
    /// The context to work with, of those that `context list` shows; '' = none (variable KEEVO_CONTEXT)
    #[arg(long, value_name = "NAME", global = true)]
    pub(crate) context: Option<String>,
    /// Nodes to call, host:port with commas between them: the first that can be reached is used (default:
    /// 127.0.0.1:7101; variable KEEVO_ENDPOINTS)
    #[arg(long, value_name = "HOST:PORT,…", value_delimiter = ',', global = true)]
    pub(crate) endpoints: Option<Vec<String>>,
    /// PEM file of the CA of the nodes; with it they are called over TLS (variable KEEVO_CA)
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) ca: Option<PathBuf>,
    /// PEM file of the certificate to show them (variable KEEVO_CERT)
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) cert: Option<PathBuf>,
    /// PEM file of the key of --cert (variable KEEVO_CERT_KEY)
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) cert_key: Option<PathBuf>,
    /// File with the API key to send; the variable KEEVO_API_KEY may hold the key itself (variable KEEVO_API_KEY_FILE)
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) api_key_file: Option<PathBuf>,
    /// How to write answers (default: table)
    #[arg(long, value_enum, value_name = "FORMAT", global = true)]
    pub(crate) output: Option<Format>,
    /// How long a call may take, such as 500ms, 5s or 2m (default: 5s; 1m where data is moved)
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, global = true)]
    pub(crate) timeout: Option<Duration>,
}

impl Global {
    /// These flags, and `outer`'s where there are none.
    pub(crate) fn within(self, outer: &Self) -> Self {
        Self {
            context: self.context.or_else(|| outer.context.clone()),
            endpoints: self.endpoints.or_else(|| outer.endpoints.clone()),
            ca: self.ca.or_else(|| outer.ca.clone()),
            cert: self.cert.or_else(|| outer.cert.clone()),
            cert_key: self.cert_key.or_else(|| outer.cert_key.clone()),
            api_key_file: self.api_key_file.or_else(|| outer.api_key_file.clone()),
            output: self.output.or(outer.output),
            timeout: self.timeout.or(outer.timeout),
        }
    }
}

/// How sure the caller is of what cannot be taken back.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(crate) struct Sure {
    /// Only say what would happen
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Do it without being asked; needed where there is no terminal to ask at (variable KEEVO_YES=1)
    #[arg(long, conflicts_with = "dry_run")]
    pub(crate) yes: bool,
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
    #[command(subcommand, after_help = cluster::SHARD_EXAMPLES)]
    Shard(cluster::Shard),
    /// Compact the data store of each of the --endpoints, or a part of it, and say what was reclaimed
    #[command(after_help = compact::EXAMPLES)]
    Compact(compact::Compact),
    /// Make everything written so far durable on each of the --endpoints
    #[command(after_help = FLUSH_EXAMPLES)]
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
    #[command(after_help = INFO_EXAMPLES)]
    Info,
    /// Look for what is wrong, or soon will be: disks, syncs, clocks, limits, versions, certificates; exit code 2 if so
    #[command(after_help = DOCTOR_EXAMPLES)]
    Doctor,
    /// Collect what helps to find a fault
    #[command(subcommand, after_help = debug::EXAMPLES)]
    Debug(debug::Debug),
    /// Watch the cluster live: nodes, shards, throughput and latency
    #[command(after_help = top::EXAMPLES)]
    Top(top::Top),
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
    /// Make and rotate the keys that archive and backups, or values on disk, are encrypted with
    #[command(subcommand, after_help = key::EXAMPLES)]
    Key(key::Key),
    /// Write to channels, and read and watch them
    #[command(subcommand, after_help = chat::EXAMPLES)]
    Chat(chat::Chat),
    /// Manage moderation: policies, blocklists, the review queue, labelled data
    #[command(subcommand, after_help = moderation::EXAMPLES)]
    Moderation(moderation::Moderation),
    /// Name clusters, how to reach them and as whom, and switch between them
    #[command(subcommand, after_help = context::EXAMPLES)]
    Context(context::ContextCommand),
    /// Type commands one after the other, with completion and history; reads them from standard input if it is no terminal
    #[command(after_help = context::SHELL_EXAMPLES)]
    Shell {
        /// End at the first command that fails, with its exit code
        #[arg(long)]
        stop_on_error: bool,
    },
    /// Tell changes to Kafka or as JSON lines, as they are committed
    #[command(subcommand, after_help = sink::EXAMPLES)]
    Sink(sink::Sink),
    /// Print a script that completes this command line
    #[command(after_help = COMPLETIONS_EXAMPLES)]
    Completions {
        /// For which shell
        shell: Shell,
    },
    /// Write a man page for each command into a folder
    #[command(after_help = MAN_EXAMPLES)]
    Man {
        /// The folder; made if it is not there
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
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
