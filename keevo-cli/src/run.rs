//! Carrying out commands: a file a service.
//!
//! Invariant: an answer is shown once, when it is complete; only watches and progress show anything earlier.

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
pub(crate) mod doctor;
pub(crate) mod feed;
pub(crate) mod key;
pub(crate) mod kv;
pub(crate) mod man;
pub(crate) mod moderation;
pub(crate) mod nodes;
pub(crate) mod sink;
pub(crate) mod storage;

use std::future::Future;
use std::io::Read;

use bytes::Bytes;
use keevo_core::limits::VALUE_BYTES_MAX;
use keevo_core::{Error, ErrorKind};

use crate::args::Shell;
use crate::failure::Failure;
use crate::output::raw;

/// Prints the completion script of a shell.
pub(crate) fn completions(shell: Shell, command: &mut clap::Command) -> Result<(), Failure> {
    let shell = match shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, command, "keevo-cli", &mut script);
    raw(&script)
}

/// Runs a watch until it fails or Ctrl-C ends it, which is success.
async fn until_interrupted(watch: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    tokio::select! {
        result = watch => result,
        signal = tokio::signal::ctrl_c() => {
            signal.map_err(|error| Failure::io("Ctrl-C cannot be waited for", error))
        }
    }
}

/// All of standard input; `BatchTooLarge` when it is more than a value may have.
fn standard_input() -> Result<Bytes, Failure> {
    let mut value = Vec::new();
    let most = u64::try_from(VALUE_BYTES_MAX).unwrap_or(u64::MAX);
    let input = std::io::stdin().lock().take(most + 1).read_to_end(&mut value);
    input.map_err(|error| Failure::io("standard input cannot be read", error))?;
    if value.len() > VALUE_BYTES_MAX {
        let message = format!("standard input has more than {VALUE_BYTES_MAX} bytes, the most that a value may have");
        return Err(Error::new(ErrorKind::BatchTooLarge, message).into());
    }
    Ok(value.into())
}

/// What to say when a required part of an answer is missing.
fn incomplete(what: &str) -> Failure {
    let error = Error::corrupt(format!("the node's answer lacks {what}"));
    Failure::with_advice(error, "Use a keevo-cli of the node's version; `keevo-cli info` shows it.")
}
