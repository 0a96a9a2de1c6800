//! One server process: started, awaited, ended.

use std::ffi::OsString;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use keevo_core::{Error, ErrorKind, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::POLL;

/// How long one question for its health may take.
const HEALTH_WITHIN: Duration = Duration::from_secs(3);
/// The most bytes of a page that are read.
const PAGE_BYTES_MAX: u64 = 64 << 20;
/// How many lines of its log are told when it fails.
const LOG_LINES: usize = 5;

/// What to start.
#[derive(Debug)]
pub(super) struct Spec {
    /// What it is called in messages.
    pub(super) name: String,
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<OsString>,
    /// Variables that start with this are meant for a daemon of the caller's own, not for this one.
    pub(super) foreign_variables: &'static str,
    /// Where its log goes.
    pub(super) log: PathBuf,
    /// Where it serves.
    pub(super) http: SocketAddr,
    /// How it shows that it serves.
    pub(super) health: Health,
    /// The user and group that it runs as; `None` = those of this program.
    pub(super) user: Option<(u32, u32)>,
}

/// How a process shows that it serves.
#[derive(Debug, Clone, Copy)]
pub(super) enum Health {
    /// This path answers 200.
    Http(&'static str),
    /// Connections are accepted.
    Accepts,
}

/// A process that runs, or has ended by itself.
#[derive(Debug)]
pub(super) struct Process {
    spec: Spec,
    child: Child,
}

impl Process {
    pub(super) fn start(spec: Spec) -> Result<Self> {
        let child = spawn(&spec)?;
        Ok(Self { spec, child })
    }

    /// Starts it once more, after it was killed.
    pub(super) fn start_again(&mut self) -> Result<()> {
        self.kill();
        self.child = spawn(&self.spec)?;
        Ok(())
    }

    pub(super) fn http(&self) -> SocketAddr {
        self.spec.http
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits until its health is good. `Unavailable` when it ends first, or takes too long.
    pub(super) async fn wait_ready(&mut self, within: Duration) -> Result<()> {
        let healthy = async {
            loop {
                if !self.is_running() {
                    return false;
                }
                let asked = tokio::time::timeout(HEALTH_WITHIN, is_healthy(self.spec.http, self.spec.health)).await;
                if matches!(asked, Ok(Ok(true))) {
                    return true;
                }
                tokio::time::sleep(POLL).await;
            }
        };
        let what = match tokio::time::timeout(within, healthy).await {
            Ok(true) => return Ok(()),
            Ok(false) => "has ended".to_owned(),
            Err(_) => format!("does not serve after {} s", within.as_secs()),
        };
        let message = format!("{} {what}; its log ends with: {}", self.spec.name, last_lines(&self.spec.log));
        Err(Error::new(ErrorKind::Unavailable, message))
    }

    /// The page at `path`. `Unavailable`: it cannot be fetched.
    pub(super) async fn page(&self, path: &str) -> Result<String> {
        let failed = || Error::new(ErrorKind::Unavailable, format!("{} does not answer {path}", self.spec.name));
        let page = tokio::time::timeout(HEALTH_WITHIN, fetch(self.spec.http, path)).await;
        let page = page.map_err(|late| failed().with_source(late))?.map_err(|error| failed().with_source(error))?;
        let (head, body) = page.split_once("\r\n\r\n").ok_or_else(failed)?;
        if head.starts_with("HTTP/1.1 200") { Ok(body.to_owned()) } else { Err(failed()) }
    }

    /// Sends SIGTERM, or kills it where that is not possible.
    pub(super) fn ask_to_stop(&mut self) {
        if !self.is_running() {
            return;
        }
        // A shell's `kill` is the way to send a signal without unsafe code.
        let mut kill = Command::new("kill");
        kill.arg("-TERM").arg(self.child.id().to_string()).stdin(Stdio::null()).stderr(Stdio::null());
        if !kill.status().is_ok_and(|status| status.success()) {
            self.kill();
        }
    }

    pub(super) fn kill(&mut self) {
        // Both fail only for a process that has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn spawn(spec: &Spec) -> Result<Child> {
    let failed = |error: std::io::Error| {
        let message = format!("{} cannot be started from {}", spec.name, spec.program.display());
        Error::new(ErrorKind::Io, message).with_source(error)
    };
    let log = File::options().create(true).append(true).open(&spec.log).map_err(failed)?;
    let also = log.try_clone().map_err(failed)?;
    let mut command = Command::new(&spec.program);
    command.args(&spec.arguments).stdin(Stdio::null()).stdout(log).stderr(also);
    if let Some((user, group)) = spec.user {
        command.uid(user).gid(group);
    }
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with(spec.foreign_variables) {
            command.env_remove(name);
        }
    }
    command.spawn().map_err(failed)
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn is_healthy(address: SocketAddr, health: Health) -> std::io::Result<bool> {
    match health {
        Health::Http(path) => Ok(fetch(address, path).await?.starts_with("HTTP/1.1 200")),
        Health::Accepts => TcpStream::connect(address).await.map(|_| true),
    }
}

/// The answer to `GET path`, its head included, up to [`PAGE_BYTES_MAX`].
async fn fetch(http: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(http).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(PAGE_BYTES_MAX).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn last_lines(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let tail = lines.get(lines.len().saturating_sub(LOG_LINES)..).unwrap_or_default();
    if tail.is_empty() { "nothing".to_owned() } else { tail.join(" | ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(folder: &Path, script: &str, http: SocketAddr) -> Spec {
        Spec {
            name: "the server".to_owned(),
            program: "sh".into(),
            arguments: vec!["-c".into(), script.into()],
            foreign_variables: "NO_SUCH_VARIABLE_",
            log: folder.join("log"),
            http,
            health: Health::Http("/health"),
            user: None,
        }
    }

    fn nobody() -> SocketAddr {
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port")
    }

    fn exists(pid: u32) -> bool {
        Path::new("/proc").join(pid.to_string()).exists()
    }

    #[tokio::test]
    async fn one_that_ends_at_once_says_why() {
        let folder = tempfile::tempdir().expect("a folder");
        let spec = spec(folder.path(), "echo one; echo the port is taken >&2; exit 3", nobody());
        let mut process = Process::start(spec).expect("a shell");
        let error = process.wait_ready(Duration::from_secs(30)).await.expect_err("it has ended");
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert_eq!(error.message(), "the server has ended; its log ends with: one | the port is taken");
    }

    #[tokio::test]
    async fn one_that_never_serves_is_given_up_and_dropping_it_kills_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut process = Process::start(spec(folder.path(), "exec sleep 600", nobody())).expect("a shell");
        let error = process.wait_ready(Duration::from_millis(100)).await.expect_err("nobody serves");
        assert!(error.message().starts_with("the server does not serve after 0 s"), "{error}");
        let pid = process.pid();
        assert!(exists(pid));
        drop(process);
        assert!(!exists(pid), "a zombie would still be there");
    }

    #[tokio::test]
    async fn one_that_listens_to_sigterm_ends_by_itself() {
        let folder = tempfile::tempdir().expect("a folder");
        let script = "trap 'echo ending; exit 0' TERM; echo ready; while :; do sleep 0.01; done";
        let mut process = Process::start(spec(folder.path(), script, nobody())).expect("a shell");
        let log = folder.path().join("log");
        let said = |text: &str| fs::read_to_string(&log).unwrap_or_default().contains(text);
        while !said("ready") {
            tokio::time::sleep(POLL).await;
        }
        process.ask_to_stop();
        while process.is_running() {
            tokio::time::sleep(POLL).await;
        }
        assert!(said("ending"));
    }
}
