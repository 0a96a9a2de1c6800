//! A child process of the demo: started, killed, started again, waited for.
//!
//! Invariant: a child lives no longer than its [`Process`]; dropping that kills it.

use std::ffi::OsString;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use keevo_core::{Error, ErrorKind, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long a process may take until it is ready.
const READY_WITHIN: Duration = Duration::from_mins(1);
/// How long a process may take to end by itself.
const STOP_WITHIN: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(50);

/// How a process is started, and where it is told that it is ready.
#[derive(Debug)]
pub(super) struct Program {
    /// What messages call it.
    pub(super) name: String,
    /// The file.
    pub(super) path: PathBuf,
    /// Its arguments.
    pub(super) arguments: Vec<OsString>,
    /// Where it serves HTTP.
    pub(super) http: SocketAddr,
    /// The path that answers 200 once it is ready.
    pub(super) ready: &'static str,
    /// The file that its log goes to.
    pub(super) log: PathBuf,
}

/// A process.
#[derive(Debug)]
pub(super) struct Process {
    program: Program,
    child: Option<Child>,
}

impl Process {
    /// Not started yet.
    pub(super) fn new(program: Program) -> Self {
        Self { program, child: None }
    }

    /// The file that its log goes to.
    pub(super) fn log(&self) -> &Path {
        &self.program.log
    }

    /// Starts the process.
    pub(super) fn start(&mut self) -> Result<()> {
        let failed = |error: std::io::Error| {
            Error::new(ErrorKind::Io, format!("{} cannot be started", self.program.name)).with_source(error)
        };
        let log = File::options().create(true).append(true).open(&self.program.log).map_err(failed)?;
        let mut command = Command::new(&self.program.path);
        command.args(&self.program.arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        // The caller's settings are for a daemon of its own, not for these.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("KEEVO_")) {
            command.env_remove(name);
        }
        self.child = Some(command.spawn().map_err(failed)?);
        Ok(())
    }

    /// Kills the process with SIGKILL.
    pub(super) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Both fail only for a process that has ended already.
            drop(child.kill());
            drop(child.wait());
        }
    }

    /// Whether the process was started and not killed.
    pub(super) fn is_started(&self) -> bool {
        self.child.is_some()
    }

    /// Waits until it is ready. `Unavailable` when the process ends first, or takes too long.
    pub(super) async fn wait_ready(&mut self) -> Result<()> {
        let (name, log) = (self.program.name.clone(), self.program.log.display().to_string());
        let waiting = async {
            loop {
                if let Some(Ok(Some(status))) = self.child.as_mut().map(Child::try_wait) {
                    let tail = last_line(&self.program.log);
                    let message = format!("{name} ended ({status}): {tail} (see {log})");
                    return Err(Error::new(ErrorKind::Unavailable, message));
                }
                if is_ready(self.program.http, self.program.ready).await.unwrap_or(false) {
                    return Ok(());
                }
                tokio::time::sleep(POLL).await;
            }
        };
        tokio::time::timeout(READY_WITHIN, waiting).await.unwrap_or_else(|elapsed| {
            let message = format!("{name} is not ready after {} s (see {log})", READY_WITHIN.as_secs());
            Err(Error::new(ErrorKind::Unavailable, message).with_source(elapsed))
        })
    }

    /// Sends SIGTERM.
    pub(super) fn ask_to_stop(&self) {
        if let Some(child) = &self.child {
            // A shell's `kill` is the way to send a signal without unsafe code; if it fails, the wait below kills.
            drop(Command::new("kill").arg("-TERM").arg(child.id().to_string()).stderr(Stdio::null()).status());
        }
    }

    /// Waits until the process has ended; one that takes too long is killed.
    pub(super) async fn wait_ended(&mut self) {
        let ended = async {
            while let Some(Ok(None)) = self.child.as_mut().map(Child::try_wait) {
                tokio::time::sleep(POLL).await;
            }
        };
        if tokio::time::timeout(STOP_WITHIN, ended).await.is_err() {
            tracing::warn!(process = self.program.name, "the process did not end in time and is killed");
        }
        self.kill();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn is_ready(http: SocketAddr, path: &str) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(http).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    tokio::time::timeout(Duration::from_secs(2), stream.take(4_096).read_to_end(&mut answer)).await??;
    Ok(answer.starts_with(b"HTTP/1.1 200"))
}

fn last_line(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    String::from_utf8_lossy(&text).lines().last().unwrap_or("its log is empty").to_owned()
}
