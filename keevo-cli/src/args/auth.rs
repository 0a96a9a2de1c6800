//! `keevo-cli auth` and `keevo-cli audit`.

use std::time::Duration;

use clap::Subcommand;

use super::Sure;
use crate::duration;

/// Shown below the help.
pub(crate) const EXAMPLES: &str = "\
Examples:
  keevo-cli auth whoami
  keevo-cli auth role set sales --allow 'read,watch kv:orders' --allow 'read,write kv:carts/eu-'
  keevo-cli auth role set shop --allow 'read,write feeds:2' --allow 'read,write,watch chat:1'
  keevo-cli auth role list
  keevo-cli auth role remove sales --dry-run
  keevo-cli auth key create --role sales --note 'nightly report' --expires 90d
  keevo-cli auth key list
  keevo-cli auth key revoke 3f62a0c4d1b89e75";

/// Shown below the help.
pub(crate) const AUDIT_EXAMPLES: &str = "\
Examples:
  keevo-cli audit list --after 100 --limit 20
  keevo-cli audit verify                                   # prints the head: note it where nobody of the cluster writes
  keevo-cli audit verify --head 118:5d41402abc4b2a76b9719d911017c5925d41402abc4b2a76b9719d911017c592";

/// Commands on rights. Every node sees a change within a second.
#[derive(Debug, Subcommand)]
pub(crate) enum Auth {
    /// Say who the caller is, and what it may do
    Whoami,
    /// Look at roles, and change them
    #[command(subcommand)]
    Role(Role),
    /// Make and revoke API keys
    #[command(subcommand)]
    Key(Key),
}

/// Commands on roles.
#[derive(Debug, Subcommand)]
pub(crate) enum Role {
    /// List all roles, and what each allows
    List,
    /// Make a role, or replace what it allows
    Set {
        /// Its name; a client's certificate of this name has it too
        name: String,
        /// Actions (read, write, watch, admin), a space, and where: kv:KEYSPACE, kv:KEYSPACE/PREFIX, feeds:APP, chat:APP,
        /// apilog or *; repeatable
        #[arg(long = "allow", value_name = "GRANT", required = true)]
        allow: Vec<String>,
    },
    /// Take a role away: who has it may do nothing from then on
    Remove {
        /// Its name
        name: String,
        #[command(flatten)]
        sure: Sure,
    },
}

/// Commands on keys.
#[derive(Debug, Subcommand)]
pub(crate) enum Key {
    /// Make a key, and show it this once
    Create {
        /// Its role
        #[arg(long, value_name = "ROLE")]
        role: String,
        /// What it is for
        #[arg(long, value_name = "TEXT", default_value = "")]
        note: String,
        /// When it ends, such as 12h or 90d (default: never)
        #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
        expires: Option<Duration>,
    },
    /// List all keys, without their texts
    List,
    /// Take a key away: it is refused from then on
    Revoke {
        /// Its id
        id: String,
        #[command(flatten)]
        sure: Sure,
    },
}

/// Commands on the audit log.
#[derive(Debug, Subcommand)]
pub(crate) enum Audit {
    /// Show what was administered: when, by whom, what, and how it ended
    List {
        /// Only entries after this number
        #[arg(long, value_name = "NUMBER", default_value_t = 0)]
        after: u64,
        /// At most so many entries
        #[arg(long, value_name = "N", default_value_t = 100)]
        #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000))]
        limit: u32,
    },
    /// Compute the chain of the log anew; exit code 8 where it is broken
    Verify {
        /// A head noted before, NUMBER:SHA256: the log must still hold it
        #[arg(long, value_name = "HEAD", value_parser = head)]
        head: Option<(u64, String)>,
    },
}

fn head(text: &str) -> Result<(u64, String), String> {
    let wrong = || "write NUMBER:SHA256, as `keevo-cli audit verify` prints it".to_owned();
    let (number, sha256) = text.split_once(':').ok_or_else(wrong)?;
    let number = number.parse().map_err(|_error: std::num::ParseIntError| wrong())?;
    let digits = sha256.len() == 64 && sha256.bytes().all(|byte| byte.is_ascii_hexdigit());
    if number > 0 && digits { Ok((number, sha256.to_ascii_lowercase())) } else { Err(wrong()) }
}
