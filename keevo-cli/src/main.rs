//! `keevo-cli`: keys, feeds, chat and administration of a Keevo cluster from a terminal.
//!
//! ```text
//! args ─▶ run (one file a service) ─▶ connect ─▶ a node
//!                └─▶ render: a response becomes text or JSON, without I/O
//! ```
//!
//! Invariant: standard output carries answers only, so that it can be piped; all else goes to standard error. The
//! exit code is that of the error's kind in `keevo_core::ERROR_TABLE`.

mod args;
mod connect;
mod duration;
mod failure;
mod output;
mod render;
mod run;
mod text;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind as Usage;
use clap::{CommandFactory, FromArgMatches};
use keevo_core::{Error, ErrorKind};

use crate::args::{Cli, Command};
use crate::connect::Context;
use crate::failure::{Failure, exit_codes};
use crate::output::{complain, say};

fn main() -> ExitCode {
    let done = match parse(std::env::args_os()) {
        Ok(Ok(cli)) => execute(cli),
        Ok(Err(shown)) => return shown,
        Err(failure) => Err(failure),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            complain(&format!("keevo-cli: {failure}"));
            ExitCode::from(failure.exit_code())
        }
    }
}

/// The command line, with the table of exit codes in its help.
fn command() -> clap::Command {
    Cli::command().after_long_help(format!("{}\n\n{}", args::EXAMPLES, exit_codes()))
}

/// What was asked for; or how to end when help or the version was asked for or a command lacks its subcommand, for
/// which clap's own words are printed.
fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Result<Cli, ExitCode>, Failure> {
    match command().try_get_matches_from(args).and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => Ok(Ok(cli)),
        Err(error) if matches!(error.kind(), Usage::DisplayHelp | Usage::DisplayVersion) => {
            say(error.to_string().trim_end())?;
            Ok(Err(ExitCode::SUCCESS))
        }
        Err(error)
            if matches!(error.kind(), Usage::DisplayHelpOnMissingArgumentOrSubcommand | Usage::MissingSubcommand) =>
        {
            complain(error.to_string().trim_end());
            Ok(Err(ExitCode::from(ErrorKind::Invalid.row().exit_code)))
        }
        Err(error) => {
            let text = error.to_string();
            let text = text.strip_prefix("error: ").unwrap_or(&text).trim_end();
            Err(Failure::with_advice(Error::invalid(text), "Correct the command line."))
        }
    }
}

fn execute(cli: Cli) -> Result<(), Failure> {
    let context = match cli.command {
        Command::Cert(_) => Context::offline(cli.global.output),
        _ => Context::new(&cli.global)?,
    };
    let task = async {
        match cli.command {
            Command::Kv(kv) => run::kv::run(&context, kv).await,
            Command::Cluster(cluster) => run::cluster::run(&context, cluster).await,
            Command::Shard(shard) => run::cluster::shard(&context, shard).await,
            Command::Compact => run::nodes::compact(&context).await,
            Command::Flush => run::nodes::flush(&context).await,
            Command::Scrub { shard, mib_per_s } => run::storage::scrub(&context, shard, mib_per_s).await,
            Command::Backup(backup) => run::backup::run(&context, backup).await,
            Command::Checkpoint { folder } => run::storage::checkpoint(&context, folder).await,
            Command::Doctor => run::doctor::run(&context).await,
            Command::Info => run::nodes::info(&context).await,
            Command::Feed(feed) => run::feed::run(&context, feed).await,
            Command::App(app) => run::app::run(&context, app).await,
            Command::Moderation(moderation) => run::moderation::run(&context, moderation).await,
            Command::Auth(auth) => run::auth::run(&context, auth).await,
            Command::ApiLog(apilog) => run::apilog::run(&context, apilog).await,
            Command::Audit(audit) => run::auth::audit(&context, audit).await,
            Command::Cert(cert) => run::cert::run(&context, cert),
            Command::Chat(chat) => run::chat::run(&context, chat).await,
            Command::Completions { shell } => run::completions(shell, &mut command()),
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::io("the runtime cannot start", error))?;
    let result = runtime.block_on(Box::pin(task));
    runtime.shutdown_background();
    result
}
