//! `keevo-cli sink`: changes, told to Kafka or as JSON lines.

use std::path::PathBuf;

use bytes::Bytes;
use clap::{Args, Subcommand, ValueEnum};

use super::Sure;
use crate::text;

/// Shown below the help.
pub(crate) const EXAMPLES: &str = "\
Examples:
  keevo-cli sink create orders --keyspace orders --kafka kafka1:9092,kafka2:9092 --topic orders
  keevo-cli sink create eu --keyspace orders --prefix eu- --kafka kafka1:9093 --topic eu --tls --sasl-user keevo --sasl-password-file password.txt
  keevo-cli sink create audit --keyspace orders --file --rotate-mib 256 --node 2 --from beginning
  keevo-cli sink list
  keevo-cli sink show orders
  keevo-cli sink pause orders
  keevo-cli sink resume orders
  keevo-cli sink delete orders --dry-run           # how far it is, and how many changes it has not told

A password comes from --sasl-password-file or the variable KEEVO_SASL_PASSWORD; it is never shown.";

/// Commands on sinks.
#[derive(Debug, Subcommand)]
pub(crate) enum Sink {
    /// Make a sink
    Create(Box<Create>),
    /// List all sinks, and how far they are behind
    List,
    /// Show a sink, what it promises, and how far it is behind in each shard
    Show {
        /// Its name
        name: String,
    },
    /// Let a sink stand still; what it does not tell meanwhile waits, as long as changes are kept
    Pause {
        /// Its name
        name: String,
    },
    /// Let a sink go on
    Resume {
        /// Its name
        name: String,
        /// Go on without the changes that are gone before they were told
        #[arg(long)]
        skip_gap: bool,
    },
    /// Delete a sink; what it told stays where it is
    Delete {
        /// Its name
        name: String,
        #[command(flatten)]
        sure: Sure,
    },
}

/// A new sink.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("to").required(true).args(["kafka", "file", "stdout"]))]
pub(crate) struct Create {
    /// Its name, of a-z 0-9 _ -
    pub(crate) name: String,
    /// The keyspace whose changes it tells
    #[arg(long, value_name = "NAME")]
    pub(crate) keyspace: String,
    /// Only changes of partitions that start with this
    #[arg(long, value_parser = text::parse_bytes, default_value = "")]
    pub(crate) prefix: Bytes,
    /// Where it begins: now, beginning (the oldest change that is kept), or a revision
    #[arg(long, value_name = "WHERE", value_parser = from, default_value = "now")]
    pub(crate) from: Begin,
    /// In which form: json, or raw (Kafka alone: the stored value, the rest in headers)
    #[arg(long, value_enum, default_value = "json")]
    pub(crate) format: Format,
    /// The only node that may run it (default: any)
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) node: Option<u64>,
    /// Tell a topic at these brokers of Kafka: host:port,…
    #[arg(long, value_name = "BROKERS", requires = "topic_name")]
    pub(crate) kafka: Option<String>,
    #[command(flatten)]
    pub(crate) topic: Topic,
    /// Write files of JSON lines into the folder sinks_dir of the node that runs it
    #[arg(long)]
    pub(crate) file: bool,
    /// The size at which a new file is begun, MiB
    #[arg(long, value_name = "MIB", default_value_t = 64, requires = "file")]
    pub(crate) rotate_mib: u32,
    /// How many files are kept, from 2; 0 = all
    #[arg(long, value_name = "N", default_value_t = 0, requires = "file")]
    pub(crate) keep: u32,
    /// Write JSON lines to the standard output of the keevod that runs it
    #[arg(long)]
    pub(crate) stdout: bool,
}

/// A topic of Kafka.
#[derive(Debug, Args)]
pub(crate) struct Topic {
    /// The topic, which must exist
    #[arg(id = "topic_name", long = "topic", value_name = "TOPIC", requires = "kafka")]
    pub(crate) name: Option<String>,
    /// Do without transactions: a change may come more than once, with the same dedup key
    #[arg(long, requires = "kafka")]
    pub(crate) at_least_once: bool,
    /// Encrypt the connections
    #[arg(long, requires = "kafka")]
    pub(crate) tls: bool,
    /// PEM file of the CA of the brokers (default: what the nodes' systems trust)
    #[arg(long, value_name = "FILE", requires = "tls")]
    pub(crate) kafka_ca: Option<PathBuf>,
    /// The user, where the brokers ask for one
    #[arg(long, value_name = "NAME", requires = "kafka")]
    pub(crate) sasl_user: Option<String>,
    /// How user and password are proven: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512
    #[arg(long, value_name = "MECHANISM", default_value = "SCRAM-SHA-512", requires = "sasl_user")]
    pub(crate) sasl_mechanism: String,
    /// File with the password; - = standard input (default: the variable KEEVO_SASL_PASSWORD)
    #[arg(long, value_name = "FILE", requires = "sasl_user")]
    pub(crate) sasl_password_file: Option<PathBuf>,
}

/// In which form changes are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// One JSON object a change
    Json,
    /// The stored value
    Raw,
}

/// Where a sink begins: a revision, 0 = the beginning, or now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Begin(pub(crate) Option<u64>);

fn from(text: &str) -> Result<Begin, String> {
    match text {
        "now" => Ok(Begin(None)),
        "beginning" => Ok(Begin(Some(0))),
        _ => match text.parse() {
            Ok(revision) if revision > 0 => Ok(Begin(Some(revision))),
            _ => Err("write now, beginning, or a revision from 1".to_owned()),
        },
    }
}
