//! `keevo-cli`: keys, feeds, chat and administration of a Keevo cluster from a terminal.
//!
//! ```text
//! args ─▶ settings ─▶ run (one file a service) ─▶ connect ─▶ a node
//!   ▲                    └─▶ render: a response becomes text or JSON, without I/O
//! shell: a line each
//! top: the cluster live, on a screen of its own
//! ```
//!
//! Invariant: standard output carries answers only, so that it can be piped; all else goes to standard error. The
//! exit code is that of the error's kind in `keevo_core::ERROR_TABLE`.

mod args;
mod confirm;
mod connect;
mod contexts;
mod duration;
mod examples;
mod failure;
mod files;
mod output;
mod progress;
mod render;
mod run;
mod settings;
mod shell;
mod text;
mod top;

use std::ffi::OsString;
use std::io::IsTerminal;
use std::process::ExitCode;

use clap::error::ErrorKind as Usage;
use clap::{CommandFactory, FromArgMatches};
use keevo_core::{Error, ErrorKind};

use crate::args::{Cli, Command};
use crate::connect::Context;
use crate::contexts::Contexts;
use crate::failure::{Failure, exit_codes};
use crate::files::environment;
use crate::output::{complain, complain_of, has_colours, say};
use crate::settings::Settings;

fn main() -> ExitCode {
    let done = match parse(std::env::args_os()) {
        Ok(Ok(Cli { global, command: Command::Shell { stop_on_error } })) => shell::run(&global, stop_on_error),
        Ok(Ok(cli)) => execute(cli, false),
        Ok(Err(shown)) => return ExitCode::from(shown),
        Err(failure) => Err(failure),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.is_told() {
                complain_of("keevo-cli", &failure);
            }
            ExitCode::from(failure.exit_code())
        }
    }
}

/// The command line, with examples at each command and the table of exit codes in its help.
fn command() -> clap::Command {
    examples::shared(Cli::command().after_long_help(format!("{}\n\n{}", args::EXAMPLES, exit_codes())))
}

/// What was asked for; or the exit code when help or the version was asked for or a command lacks its subcommand, for
/// which clap's own words are printed.
fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Result<Cli, u8>, Failure> {
    match command().try_get_matches_from(args).and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => Ok(Ok(cli)),
        Err(error) if matches!(error.kind(), Usage::DisplayHelp | Usage::DisplayVersion) => {
            say(styled(&error, &std::io::stdout()).trim_end())?;
            Ok(Err(0))
        }
        Err(error)
            if matches!(error.kind(), Usage::DisplayHelpOnMissingArgumentOrSubcommand | Usage::MissingSubcommand) =>
        {
            complain(styled(&error, &std::io::stderr()).trim_end());
            Ok(Err(ErrorKind::Invalid.row().exit_code))
        }
        Err(error) => {
            let text = error.to_string();
            let text = text.strip_prefix("error: ").unwrap_or(&text).trim_end();
            Err(Failure::with_advice(Error::invalid(text), "Correct the command line."))
        }
    }
}

/// Clap's own words, in colours where the stream takes them.
fn styled(error: &clap::Error, stream: &impl IsTerminal) -> String {
    let text = error.render();
    if has_colours(stream) { text.ansi().to_string() } else { text.to_string() }
}

/// Carries out a command. `within` = in a shell, which Ctrl-C does not end.
fn execute(cli: Cli, within: bool) -> Result<(), Failure> {
    let Cli { global, command } = cli;
    let context = match command {
        Command::Context(of_contexts) => return run::context::run(&global, &environment, of_contexts),
        Command::Man { out } => return run::man::run(&out, global.output.unwrap_or_default()),
        Command::Completions { shell } => return run::completions(shell, &mut self::command()),
        Command::Cert(_) | Command::Key(_) | Command::Shell { .. } => {
            Context::offline(global.output.unwrap_or_default())
        }
        _ => Context::new(Settings::resolve(&global, &environment, &Contexts::load(&environment)?)?)?,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::io("the runtime cannot start", error))?;
    let result = runtime.block_on(async {
        let task = Box::pin(carry_out(&context, command));
        if !within {
            return task.await;
        }
        // What waits for Ctrl-C itself has the first word.
        tokio::select! {
            biased;
            done = task => done,
            signal = tokio::signal::ctrl_c() => {
                signal.map_err(|error| Failure::io("Ctrl-C cannot be waited for", error))?;
                let error = Error::new(ErrorKind::DeadlineExceeded, "the command was interrupted");
                Err(Failure::with_advice(error, "A change that it had begun may have been made."))
            }
        }
    });
    runtime.shutdown_background();
    progress::ended();
    result
}

async fn carry_out(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::Kv(kv) => run::kv::run(context, kv).await,
        Command::Cluster(cluster) => run::cluster::run(context, cluster).await,
        Command::Shard(shard) => run::cluster::shard(context, shard).await,
        Command::Compact(compact) => run::compact::run(context, compact).await,
        Command::Flush => run::nodes::flush(context).await,
        Command::Scrub { shard, mib_per_s } => run::storage::scrub(context, shard, mib_per_s).await,
        Command::Backup(backup) => run::backup::run(context, backup).await,
        Command::Checkpoint { folder } => run::storage::checkpoint(context, folder).await,
        Command::Doctor => run::doctor::run(context).await,
        Command::Info => run::nodes::info(context).await,
        Command::Feed(feed) => run::feed::run(context, feed).await,
        Command::App(app) => run::app::run(context, app).await,
        Command::Debug(debug) => run::debug::run(context, debug).await,
        Command::Top(options) => top::run(context, options).await,
        Command::Sink(sink) => run::sink::run(context, sink).await,
        Command::Moderation(moderation) => run::moderation::run(context, moderation).await,
        Command::Auth(auth) => run::auth::run(context, auth).await,
        Command::ApiLog(apilog) => run::apilog::run(context, apilog).await,
        Command::Audit(audit) => run::auth::audit(context, audit).await,
        Command::Cert(cert) => run::cert::run(context, cert),
        Command::Key(key) => run::key::run(context, key).await,
        Command::Chat(chat) => run::chat::run(context, chat).await,
        // These need no node, and were carried out before.
        Command::Context(_) | Command::Shell { .. } | Command::Completions { .. } | Command::Man { .. } => Ok(()),
    }
}
