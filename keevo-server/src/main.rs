//! keevod: the Keevo daemon.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};
use keevo_core::{Error, ErrorKind, Result};
use keevo_gateway::apps::Secret;
use keevo_server::config::{Config, Layers, LogFormat, Machine, SETTINGS, raise_open_files_limit};
use keevo_server::daemon::Daemon;
use keevo_server::demo::{DemoOptions, demo};
use keevo_server::notify::Notifier;
use keevo_server::observe::RecentLog;
use tracing_subscriber::EnvFilter;

/// How long to wait between looks whether a node that is coming up takes writes.
const READY_EVERY: Duration = Duration::from_millis(100);

/// The fewest threads that requests are served on.
const WORKERS_MIN: usize = 4;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let matches = command().get_matches();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(workers()).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&Error::new(ErrorKind::Io, "the runtime cannot be started").with_source(error)),
    };
    match runtime.block_on(run(&matches)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

/// A thread a processor, but a few at least: with two, what keeps both for a millisecond keeps every request waiting,
/// where the kernel would share the processors out among more.
fn workers() -> usize {
    std::thread::available_parallelism().map_or(WORKERS_MIN, |count| count.get().max(WORKERS_MIN))
}

fn fail(error: &Error) -> ExitCode {
    // With standard error gone there is nobody to tell.
    drop(writeln!(std::io::stderr(), "keevod: {error}"));
    let mut cause = std::error::Error::source(error);
    while let Some(source) = cause {
        drop(writeln!(std::io::stderr(), "  because: {source}"));
        cause = source.source();
    }
    ExitCode::from(error.kind().row().exit_code)
}

fn command() -> Command {
    let mut run = Command::new("keevod")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Keevo: a sharded, replicated key-value database with feeds and chat")
        .after_help("Settings come from the file, then KEEVO_* variables, then flags; the last one wins.")
        .arg(
            Arg::new("config")
                .long("config")
                .value_name("FILE")
                .env("KEEVO_CONFIG")
                .value_parser(clap::value_parser!(PathBuf))
                .global(true)
                .help("TOML file with settings; `keevod config print` shows one"),
        );
    for setting in SETTINGS {
        let arg = Arg::new(setting.name).long(setting.flag()).value_name("VALUE").global(true).help(setting.help);
        // `--join` alone means true.
        let arg = if setting.default == "false" { arg.num_args(0..=1).default_missing_value("true") } else { arg };
        run = run.arg(arg);
    }
    run.subcommand(dev_command())
        .subcommand(Command::new("config").about("Show the configuration").subcommand_required(true).subcommand(
            Command::new("print").about("Print every setting as it would be used").arg(
                Arg::new("origin").long("origin").action(ArgAction::SetTrue).help("Also say where each comes from"),
            ),
        ))
        .subcommand(demo_command())
        .subcommand(
            Command::new("man").about("Write a man page for each command into a folder").arg(
                Arg::new("out")
                    .long("out")
                    .value_name("FOLDER")
                    .required(true)
                    .value_parser(clap::value_parser!(PathBuf))
                    .help("The folder; made if it is not there"),
            ),
        )
}

/// Writes a page for the program and one for each of its commands.
fn man_pages(folder: &Path) -> Result<()> {
    let written = std::fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(command(), folder));
    written.map_err(|error| {
        Error::new(ErrorKind::Io, format!("man pages cannot be written to {}", folder.display())).with_source(error)
    })
}

fn dev_command() -> Command {
    Command::new("dev")
        .about("Run one node with one replica of everything, without configuration")
        .arg(
            Arg::new("app")
                .long("app")
                .value_name("KEY:SECRET")
                .help("Have an app with this API key and the default feed groups; its id is printed"),
        )
        .arg(
            Arg::new("app_file")
                .long("app-file")
                .value_name("FILE")
                .value_parser(clap::value_parser!(PathBuf))
                .conflicts_with("app")
                .help("The same, with KEY:SECRET in a file, so that no list of processes shows the secret"),
        )
}

fn demo_command() -> Command {
    let flag = |name: &'static str, help: &'static str| Arg::new(name).long(name).action(ArgAction::SetTrue).help(help);
    Command::new("demo")
        .about("Run a cluster on loopback, load real data into it, kill a leader, and show that nothing is lost")
        .arg(
            Arg::new("nodes")
                .long("nodes")
                .default_value("3")
                .value_parser(clap::value_parser!(u64).range(1..=9))
                .help("How many nodes, each a process of its own"),
        )
        .arg(
            Arg::new("dir")
                .long("dir")
                .value_name("FOLDER")
                .value_parser(clap::value_parser!(PathBuf))
                .help("Keep the nodes' data here instead of in a temporary folder"),
        )
        .arg(
            Arg::new("data")
                .long("data")
                .value_name("FOLDER")
                .value_parser(clap::value_parser!(PathBuf))
                .help("Folder with downloaded data; without it the bundled extract is loaded"),
        )
        .arg(flag("check", "Verify every figure against a recomputation from the input, then stop"))
}

fn layers(matches: &ArgMatches) -> Result<Layers> {
    let mut layers = Layers::defaults();
    if let Some(path) = matches.get_one::<PathBuf>("config") {
        let text = std::fs::read_to_string(path).map_err(|error| {
            Error::new(ErrorKind::Config, format!("{} cannot be read", path.display())).with_source(error)
        })?;
        layers.add_toml(&text, path)?;
    }
    layers.add_env(std::env::vars_os())?;
    for setting in SETTINGS {
        if let Some(value) = matches.get_one::<String>(setting.name) {
            layers.add_flag(setting.name, value);
        }
    }
    Ok(layers)
}

async fn run(matches: &ArgMatches) -> Result<()> {
    match matches.subcommand() {
        Some(("config", sub)) => {
            let print = sub.subcommand_matches("print").ok_or_else(|| Error::invalid("say `config print`"))?;
            let layers = layers(print)?;
            let machine = Machine::this();
            let config = Config::from_layers_on(&layers, &machine)?;
            let text = layers.print(print.get_flag("origin")) + &config.explain(&layers, &machine);
            say(&text)
        }
        Some(("man", sub)) => {
            let folder = sub.get_one::<PathBuf>("out").ok_or_else(|| Error::invalid("say `man --out FOLDER`"))?;
            man_pages(folder)?;
            say(&format!("wrote man pages to {}\n", folder.display()))
        }
        Some(("demo", sub)) => {
            refuse_settings(sub)?;
            start_logging("warn", LogFormat::Text)?;
            demo(DemoOptions {
                nodes: sub.get_one::<u64>("nodes").copied().unwrap_or(3),
                dir: sub.get_one::<PathBuf>("dir").cloned(),
                data: sub.get_one::<PathBuf>("data").cloned(),
                check: sub.get_flag("check"),
            })
            .await
        }
        Some(("dev", sub)) => {
            let mut layers = layers(sub)?;
            for (name, value) in [("replication_factor", "1"), ("peers", "")] {
                layers.add_flag(name, value);
            }
            serve(Config::from_layers(&layers)?, dev_app(sub)?, true).await
        }
        _ => serve(Config::from_layers(&layers(matches)?)?, None, false).await,
    }
}

/// The key and secret of the app that `dev` is to have.
fn dev_app(matches: &ArgMatches) -> Result<Option<(String, Secret)>> {
    let text = match (matches.get_one::<String>("app"), matches.get_one::<PathBuf>("app_file")) {
        (Some(text), _) => text.clone(),
        (None, Some(path)) => std::fs::read_to_string(path).map_err(|error| {
            Error::new(ErrorKind::Config, format!("{} cannot be read", path.display())).with_source(error)
        })?,
        (None, None) => return Ok(None),
    };
    match text.trim().split_once(':') {
        Some((key, secret)) if !key.is_empty() && !secret.is_empty() => Ok(Some((key.to_owned(), Secret::new(secret)))),
        _ => Err(Error::new(ErrorKind::Config, "an app is given as KEY:SECRET")),
    }
}

/// Makes the app of `dev`, or finds it in a folder that was used before, and prints its id once it can be used.
async fn ready_app(daemon: &Daemon, key: String, secret: Secret) -> Result<()> {
    let apps = daemon.gateway().apps();
    let app = loop {
        match apps.ensure("dev", key.clone(), secret.clone()).await {
            Ok(app) => break app,
            // The node is still coming up.
            Err(error) if error.kind().is_retryable() => tokio::time::sleep(READY_EVERY).await,
            Err(error) => return Err(error),
        }
    };
    say(&format!("app {} is ready: key {key}, http://{}\n", app.id, daemon.http()))
}

fn say(text: &str) -> Result<()> {
    std::io::stdout()
        .write_all(text.as_bytes())
        .map_err(|error| Error::new(ErrorKind::Io, "the output is closed").with_source(error))
}

/// The demo starts nodes of its own and configures them itself: a setting would be ignored, so it is refused.
fn refuse_settings(matches: &ArgMatches) -> Result<()> {
    let names = SETTINGS.iter().map(|setting| setting.name).chain(["config"]);
    let given = |name: &&str| matches.value_source(name) == Some(ValueSource::CommandLine);
    match names.into_iter().find(given) {
        None => Ok(()),
        Some(name) => Err(Error::new(
            ErrorKind::Config,
            format!("the demo configures its nodes itself and takes no --{}", name.replace('_', "-")),
        )),
    }
}

fn start_logging(level: &str, format: LogFormat) -> Result<()> {
    // A bare level is meant for Keevo: openraft's own steps are told from debug on.
    let quiet = if matches!(level, "info" | "warn" | "error") { ",openraft=warn" } else { "" };
    let filter = EnvFilter::try_new(format!("{level}{quiet}")).map_err(|error| {
        Error::new(ErrorKind::Config, format!("log_level '{level}' is no filter")).with_source(error)
    })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(RecentLog::of_process());
    let started = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    started.map_err(|error| Error::new(ErrorKind::Config, format!("logging cannot be started: {error}")))
}

async fn serve(config: Config, app: Option<(String, Secret)>, dev: bool) -> Result<()> {
    start_logging(&config.log_level, config.log_format)?;
    raise_open_files_limit();
    let notifier = Notifier::from_env();
    let mut daemon = Daemon::start(config).await?;
    notifier.ready();
    if dev {
        say(&format!("the console is at {}\n", daemon.console()))?;
    }
    if let Some((key, secret)) = app {
        let ready = tokio::select! {
            ready = ready_app(&daemon, key, secret) => ready,
            asked = stop_signal() => return asked.and(daemon.stop().await),
        };
        if ready.is_err() {
            return ready.and(daemon.stop().await);
        }
    }
    let node = daemon.node().clone();
    let why = tokio::select! {
        asked = stop_signal() => asked,
        error = daemon.failed() => Err(error),
        () = notifier.follow(&node) => Ok(()),
    };
    notifier.stopping();
    match &why {
        Ok(()) => tracing::info!("stopping"),
        Err(error) => tracing::error!(%error, "stopping, since the daemon cannot go on"),
    }
    why.and(daemon.stop().await)
}

/// Waits for Ctrl-C or SIGTERM.
async fn stop_signal() -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let no_handler =
        |error: std::io::Error| Error::new(ErrorKind::Io, "no signal handler can be set").with_source(error);
    let mut terminate = signal(SignalKind::terminate()).map_err(no_handler)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(no_handler)?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn man_pages_are_of_all_commands_and_can_be_formatted() {
        let folder = tempfile::tempdir().expect("a folder");
        man_pages(folder.path()).expect("written");
        let pages: Vec<PathBuf> = ["keevod", "keevod-dev", "keevod-config-print", "keevod-demo", "keevod-man"]
            .map(|name| folder.path().join(format!("{name}.1")))
            .into();
        let text = std::fs::read_to_string(&pages[0]).expect("the first page");
        for setting in SETTINGS {
            let flag = setting.flag().replace('-', "\\-");
            assert!(text.contains(&flag), "{flag} is not explained");
        }
        // With a formatter at hand.
        if std::process::Command::new("groff").arg("--version").output().is_ok() {
            let formatted = std::process::Command::new("groff")
                .args(["-Kutf8", "-man", "-Tutf8", "-ww", "-z"])
                .args(&pages)
                .output();
            let said = formatted.expect("it starts").stderr;
            assert!(said.is_empty(), "{}", String::from_utf8_lossy(&said));
        }
        assert!(pages.iter().all(|page| page.exists()));
    }

    #[test]
    fn the_demo_takes_no_setting_that_it_would_ignore() {
        let demo = |arguments: &[&str]| {
            let all = ["keevod", "demo"].iter().chain(arguments);
            let matches = command().try_get_matches_from(all).expect("a command line");
            refuse_settings(matches.subcommand_matches("demo").expect("the demo")).map_err(|error| error.kind())
        };
        assert_eq!(demo(&["--check", "--nodes", "1"]), Ok(()));
        assert_eq!(demo(&["--shards", "16"]), Err(ErrorKind::Config));
        assert_eq!(demo(&["--config", "x.toml"]), Err(ErrorKind::Config));
    }
}
