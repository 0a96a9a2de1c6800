//! keevo-moderation: the moderation sidecar.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use keevo_core::{Error, ErrorKind, Result};
use keevo_moderation::serve::{ApiKeys, Certificate, Load, ServeOptions, Sidecar, SidecarConfig};
use keevo_moderation::{Device, Load as How, Precision, load};
use tracing_subscriber::EnvFilter;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Judges texts: a BERT classifier behind the interfaces of OpenAI, TEI and Perspective, and gRPC.
#[derive(Parser)]
#[command(version)]
struct Program {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve until SIGTERM or SIGINT.
    Serve(Box<Serve>),
}

#[derive(Args)]
struct Serve {
    /// Address for HTTP, or HTTPS with --tls-cert.
    #[arg(long, env = "KEEVO_MODERATION_HTTP", default_value = "127.0.0.1:8201")]
    http: SocketAddr,
    /// Address for gRPC (keevo.moderation.v1), over TLS with --tls-cert. Without it gRPC is not served.
    #[arg(long, env = "KEEVO_MODERATION_GRPC")]
    grpc: Option<SocketAddr>,
    /// Folder of a model: config.json, tokenizer.json, model.safetensors. Without it the bundled model is served.
    #[arg(long)]
    model: Option<PathBuf>,
    /// Where the model runs; auto takes a GPU where there is one.
    #[arg(long, env = "KEEVO_MODERATION_DEVICE", default_value = "auto")]
    device: DeviceName,
    /// The model's arithmetic; auto picks what suits the device.
    #[arg(long, env = "KEEVO_MODERATION_PRECISION", default_value = "auto")]
    precision: PrecisionName,
    /// Threads that the model computes with; 0 = one a core.
    #[arg(long, env = "KEEVO_MODERATION_THREADS", default_value_t = 0)]
    threads: usize,
    /// The most tokens in one batch.
    #[arg(long, env = "KEEVO_MODERATION_BATCH_TOKENS", default_value_t = 4_096)]
    batch_tokens: usize,
    /// How long the first text of a batch waits for company, in microseconds, while there is any about.
    #[arg(long, env = "KEEVO_MODERATION_BATCH_WAIT_US", default_value_t = 1_000)]
    batch_wait_us: u64,
    /// The most texts that may wait; beyond it requests are answered 429.
    #[arg(long, env = "KEEVO_MODERATION_QUEUE_TEXTS", default_value_t = 4_096)]
    queue_texts: usize,
    /// The most tokens that may wait.
    #[arg(long, env = "KEEVO_MODERATION_QUEUE_TOKENS", default_value_t = 131_072)]
    queue_tokens: usize,
    /// The longest that a request may take, in milliseconds.
    #[arg(long, env = "KEEVO_MODERATION_TIMEOUT_MS", default_value_t = 10_000)]
    timeout_ms: u64,
    /// From which probability on a label is flagged.
    #[arg(long, env = "KEEVO_MODERATION_THRESHOLD", default_value_t = 0.5)]
    threshold: f32,
    /// The same of one label, as toxic=0.8; may be repeated.
    #[arg(long = "label-threshold", value_name = "LABEL=VALUE", value_parser = label_threshold)]
    label_thresholds: Vec<(String, f32)>,
    /// File of API keys, one a line. Keys may also stand in KEEVO_MODERATION_API_KEYS, separated by commas.
    #[arg(long, env = "KEEVO_MODERATION_API_KEYS_FILE")]
    api_keys_file: Option<PathBuf>,
    /// Certificate chain in PEM form: serves HTTPS, and gRPC over TLS.
    #[arg(long, env = "KEEVO_MODERATION_TLS_CERT", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Private key of the certificate in PEM form.
    #[arg(long, env = "KEEVO_MODERATION_TLS_KEY", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Serve beyond loopback although there are no API keys.
    #[arg(long)]
    insecure: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum DeviceName {
    Auto,
    Cpu,
    Gpu,
}

#[derive(Clone, Copy, ValueEnum)]
enum PrecisionName {
    Auto,
    F32,
    Int8,
}

fn label_threshold(text: &str) -> Result<(String, f32), String> {
    let (label, value) = text.split_once('=').ok_or("say LABEL=VALUE, as toxic=0.8")?;
    let value = value.parse::<f32>().map_err(|error| format!("{value} is no number: {error}"))?;
    Ok((label.to_owned(), value))
}

fn main() -> ExitCode {
    let Command::Serve(serve) = Program::parse().command;
    let level = EnvFilter::try_from_env("KEEVO_MODERATION_LOG").unwrap_or_else(|_unset| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(level).with_writer(std::io::stderr).init();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&Error::new(ErrorKind::Io, "the runtime cannot be started").with_source(error)),
    };
    match runtime.block_on(run(*serve)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn fail(error: &Error) -> ExitCode {
    // With standard error gone there is nobody to tell.
    drop(writeln!(std::io::stderr(), "keevo-moderation: {error}"));
    let mut cause = std::error::Error::source(error);
    while let Some(source) = cause {
        drop(writeln!(std::io::stderr(), "  because: {source}"));
        cause = source.source();
    }
    ExitCode::from(error.kind().row().exit_code)
}

fn keys(serve: &Serve) -> Result<ApiKeys> {
    match &serve.api_keys_file {
        Some(path) => ApiKeys::read(path),
        None => ApiKeys::parse(&std::env::var("KEEVO_MODERATION_API_KEYS").unwrap_or_default()),
    }
}

async fn run(serve: Serve) -> Result<()> {
    let keys = keys(&serve)?;
    let beyond = std::iter::once(serve.http).chain(serve.grpc).any(|address| !address.ip().is_loopback());
    if keys.is_empty() && beyond && !serve.insecure {
        let message = "without API keys only loopback is served: give --api-keys-file, or --insecure in a network where \
                       everybody may ask";
        return Err(Error::new(ErrorKind::Config, message));
    }
    let tls = serve.tls_cert.zip(serve.tls_key).map(|(chain, key)| Certificate { chain, key });
    let options = ServeOptions {
        batch_tokens_max: serve.batch_tokens,
        batch_wait: Duration::from_micros(serve.batch_wait_us),
        queue_texts_max: serve.queue_texts,
        queue_tokens_max: serve.queue_tokens,
        timeout: Duration::from_millis(serve.timeout_ms),
        threshold: serve.threshold,
        thresholds: serve.label_thresholds.into_iter().collect::<BTreeMap<_, _>>(),
        ..ServeOptions::default()
    };
    let how = How {
        device: match serve.device {
            DeviceName::Auto => Device::Auto,
            DeviceName::Cpu => Device::Cpu,
            DeviceName::Gpu => Device::Gpu,
        },
        precision: match serve.precision {
            PrecisionName::Auto => Precision::Auto,
            PrecisionName::F32 => Precision::F32,
            PrecisionName::Int8 => Precision::Int8,
        },
        threads: serve.threads,
    };
    let folder = serve.model;
    let loader: Load = Box::new(move || load(folder.as_deref(), &how));
    let config = SidecarConfig { http: serve.http, grpc: serve.grpc, tls, keys, options };
    let mut sidecar = Sidecar::start(config, loader).await?;
    let grpc = sidecar.grpc().map(tracing::field::display);
    tracing::info!(http = %sidecar.http(), grpc, "keevo-moderation listens; it is not ready yet");
    let ended = tokio::select! {
        ready = sidecar.ready() => match ready {
            Ok(()) => stop_signal().await,
            Err(error) => Err(error),
        },
        signal = stop_signal() => signal,
    };
    tracing::info!("keevo-moderation stops");
    sidecar.stop().await;
    ended
}

async fn stop_signal() -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let failed = |error| Error::new(ErrorKind::Io, "signals cannot be listened for").with_source(error);
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
