//! Moderation on this machine: the sidecar beside a traced model behind Flask, the classifier beside onnxruntime.
//!
//! The model has the shape of BERT-base and seeded random weights, which `moderation/bench/cases.py` makes; the peers are
//! Python, from Debian's packages and PyPI. See [`http`] and [`kernels`] for what each case measures.

mod http;
mod kernels;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use clap::{Args, ValueEnum};
use keevo_core::{Error, ErrorKind, Result};
use tempfile::TempDir;

use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::machine::{self, Machine};
use crate::output::{Output, note, print};
use crate::servers::{self, programs};

/// How often a script is looked after.
const POLL: Duration = Duration::from_millis(100);

/// The arguments of `keevo-bench moderation`.
#[derive(Debug, Args)]
pub(crate) struct ModerationArgs {
    /// What is measured.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [
        ModerationCase::HttpFlask, ModerationCase::Batch1Onnxruntime, ModerationCase::MixedOnnxruntime,
        ModerationCase::Int8Onnxruntime])]
    case: Vec<ModerationCase>,
    /// How many clients ask at once over HTTP, each one text at a time.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4_096))]
    clients: u32,
    /// Let texts be due at this rate a second over HTTP, whatever the servers do (open loop).
    #[arg(long, value_name = "RATE", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    open: Option<u32>,
    /// How long each run over HTTP is measured, in seconds.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// How long the load runs before it is measured, in seconds.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(0..=600))]
    warm_up_seconds: u64,
    /// How often each side runs over HTTP, in turns with the other.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rounds: u32,
    /// A Python with torch, flask, onnx and onnxruntime; `.ci/moderation-peers.sh` makes one and prints its path.
    #[arg(long, env = "KEEVO_BENCH_PYTHON", default_value = "python3")]
    python: PathBuf,
    /// The folder moderation/bench of Keevo's source tree.
    #[arg(long, value_name = "FOLDER", default_value = "moderation/bench")]
    scripts: PathBuf,
    /// The folder with keevo-moderation and examples/speed (default: that of this program).
    #[arg(long, value_name = "FOLDER")]
    programs: Option<PathBuf>,
    /// Where the model's folder is made, and removed afterwards (default: where temporary files go).
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
    /// Run both sides of `http_flask` on the GPU. For the other cases there is moderation/bench/gpu.py.
    #[arg(long)]
    cuda: bool,
    /// How the result looks.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ModerationCase {
    /// Texts over HTTP, one a request: the sidecar, and a traced model behind Flask.
    #[value(name = "http_flask")]
    HttpFlask,
    /// One text at a time in f32: the classifier, and onnxruntime.
    #[value(name = "batch1_onnxruntime")]
    Batch1Onnxruntime,
    /// 64 texts of 5 to 60 tokens in f32: the classifier, and onnxruntime.
    #[value(name = "mixed_onnxruntime")]
    MixedOnnxruntime,
    /// All of these in 8 bits: the classifier, and onnxruntime's dynamic quantisation.
    #[value(name = "int8_onnxruntime")]
    Int8Onnxruntime,
}

/// What is needed besides the arguments.
struct Parts {
    speed: PathBuf,
    sidecar: PathBuf,
    /// Holds `model` and `cases.safetensors`.
    folder: TempDir,
}

/// Measures and prints the result.
pub(crate) async fn run(args: &ModerationArgs) -> Result<(), Failure> {
    let beside = match &args.programs {
        Some(folder) => folder.clone(),
        None => std::env::current_exe()
            .map_err(|error| Error::new(ErrorKind::Io, "this program's own place is not known").with_source(error))?
            .parent()
            .map_or_else(PathBuf::new, Path::to_owned),
    };
    let sidecar = programs::built(&beside.join("keevo-moderation"), "-p keevo-moderation --bin keevo-moderation")?;
    let speed = programs::built(&beside.join("examples/speed"), "-p keevo-moderation --example speed")?;
    let with_kernels = args.case.iter().any(|case| *case != ModerationCase::HttpFlask);
    if with_kernels && args.cuda {
        let message =
            "--cuda is for the case http_flask; on a GPU the classifier is measured by moderation/bench/gpu.py";
        return Err(Failure::Missing(message.to_owned()));
    }
    let versions = versions(&args.python)?;
    let mut interrupt = Interrupt::catch()?;
    let parent = servers::parent_folder(args.dir.as_deref())?;
    let machine = Machine::look_and_warn(&parent)?;
    let parts = Parts { speed, sidecar, folder: servers::folder_of("moderation", &parent)? };
    let work = async {
        note("making the model");
        python(args, &["cases.py", path_text(parts.folder.path())?, "small"]).await?;
        machine::quiet_or_note();
        let mut tables = Vec::new();
        if args.case.contains(&ModerationCase::HttpFlask) {
            tables.push(http::run(args, &parts, &versions, &machine).await?);
        }
        if with_kernels {
            tables.push(kernels::run(args, &parts, &versions, &machine).await?);
        }
        Ok::<_, Error>(tables)
    };
    let tables = tokio::select! {
        tables = work => tables?,
        () = interrupt.arrived() => return Err(Failure::Interrupted),
    };
    if args.output == Output::Table {
        let (version, machine) = (env!("CARGO_PKG_VERSION"), machine.line());
        print(&format!("Keevo {version}, BERT-base with random weights\n{machine}\n\n{}", tables.join("\n\n")))?;
    }
    Ok(())
}

/// The versions of the peers.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
struct Versions {
    torch: String,
    flask: String,
    onnxruntime: String,
}

/// What the Python has. `Missing`: something is not there.
fn versions(python: &Path) -> Result<Versions, Failure> {
    let ask = "import json, torch, onnx, onnxruntime; from importlib.metadata import version; \
               print(json.dumps({'torch': torch.__version__, 'flask': version('flask'), \
               'onnxruntime': onnxruntime.__version__}))";
    let missing = |why: &str| {
        let python = python.display();
        Failure::Missing(format!(
            "{python} lacks torch, flask, onnx or onnxruntime ({why}): run .ci/moderation-peers.sh, and name the path that \
             it prints with --python"
        ))
    };
    let answer = Command::new(python).args(["-c", ask]).stdin(Stdio::null()).output();
    let answer = answer.map_err(|error| missing(&error.to_string()))?;
    let said = String::from_utf8_lossy(&answer.stderr);
    serde_json::from_slice(&answer.stdout).map_err(|_unreadable| missing(said.lines().last().unwrap_or("no answer")))
}

/// A script that runs; dropping it kills it.
struct Script(Child);

impl Drop for Script {
    fn drop(&mut self) {
        // Both fail only for a process that has ended already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Runs a script of moderation/bench to its end. It is killed when this is dropped.
async fn python(args: &ModerationArgs, arguments: &[&str]) -> Result<()> {
    let failed = |what: &str| Error::new(ErrorKind::Unavailable, format!("{} {what}", arguments.join(" ")));
    let mut command = Command::new(&args.python);
    let [script, rest @ ..] = arguments else { return Err(Error::invalid("no script is named")) };
    command.arg(args.scripts.join(script)).args(rest).stdin(Stdio::null()).stdout(Stdio::null());
    let cannot = |error| failed("cannot be started").with_source(error);
    let mut running = Script(command.spawn().map_err(cannot)?);
    loop {
        match running.0.try_wait().map_err(cannot)? {
            None => tokio::time::sleep(POLL).await,
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(failed(&format!("has failed ({status})"))),
        }
    }
}

fn path_text(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| Error::invalid(format!("{} is no text", path.display())))
}
