//! One keevod: a child process that is started, stopped, paused and killed.
//!
//! Invariant: the process lives no longer than its [`Node`]; signals go to the process that was started here and to no
//! other.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use keevo_core::{Clock, Error, ErrorKind, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::tools;

pub(crate) const POLL: Duration = Duration::from_millis(20);
/// How long one question for its health may take.
const HEALTH_WITHIN: Duration = Duration::from_secs(2);
/// The signal by which `abort` ends a process.
const SIGABRT: i32 = 6;
const DAY_S: u64 = 86_400;

/// A node.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) id: u64,
    pub(crate) grpc: SocketAddr,
    pub(crate) http: SocketAddr,
    /// Its data folder.
    pub(crate) data: PathBuf,
    /// The file that its log goes to.
    pub(crate) log: PathBuf,
    /// The program and what comes before its arguments.
    pub(crate) program: Vec<String>,
    pub(crate) arguments: Vec<String>,
    /// More variables for the next starts.
    pub(crate) variables: Vec<(String, String)>,
    child: Option<Child>,
    paused: bool,
}

impl Node {
    pub(crate) fn new(id: u64, grpc: SocketAddr, http: SocketAddr, folder: &Path, program: Vec<String>) -> Self {
        Self {
            id,
            grpc,
            http,
            data: folder.join(format!("node-{id}")),
            log: folder.join(format!("node-{id}.log")),
            program,
            arguments: Vec::new(),
            variables: Vec::new(),
            child: None,
            paused: false,
        }
    }

    /// Starts the process; the failpoint, if there is one, is armed.
    pub(crate) fn start(&mut self, failpoint: Option<&str>) -> Result<()> {
        let failed = |error: std::io::Error| {
            Error::new(ErrorKind::Io, format!("node {} cannot be started", self.id)).with_source(error)
        };
        let log = File::options().create(true).append(true).open(&self.log).map_err(failed)?;
        let (program, before) = self.program.split_first().ok_or_else(|| Error::invalid("no program"))?;
        let mut command = Command::new(program);
        command.args(before).args(&self.arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).env("PATH", tools::path());
        // The caller's settings are for a daemon of its own, not for these.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("KEEVO_")) {
            command.env_remove(name);
        }
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        if let Some(name) = failpoint {
            command.env("KEEVO_FAILPOINT", name);
        }
        self.child = Some(command.spawn().map_err(failed)?);
        self.paused = false;
        Ok(())
    }

    /// Kills the process with SIGKILL and waits for its end. Works on a paused one too.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Both fail only for a process that has ended already.
            drop(child.kill());
            drop(child.wait());
        }
        self.paused = false;
    }

    /// Whether the process was started, and has neither ended nor been killed.
    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.child.as_mut().map(Child::try_wait), Some(Ok(None)))
    }

    /// Whether it runs and is not paused.
    pub(crate) fn answers(&mut self) -> bool {
        !self.paused && self.is_running()
    }

    /// Stops the process where it is (SIGSTOP). `Closed` if it does not run.
    pub(crate) fn pause(&mut self) -> Result<()> {
        tools::signal("STOP", self.pid()?)?;
        self.paused = true;
        Ok(())
    }

    /// Lets it go on (SIGCONT).
    pub(crate) fn resume(&mut self) -> Result<()> {
        if std::mem::take(&mut self.paused) {
            tools::signal("CONT", self.pid()?)?;
        }
        Ok(())
    }

    /// Waits until the kernel says that the process stands still: the signal takes a moment to reach every thread.
    pub(crate) async fn stands_still(&self) -> Result<()> {
        let pid = self.pid()?;
        let waiting = async {
            loop {
                let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
                if status.lines().any(|line| line.starts_with("State:") && line.contains('T')) {
                    return;
                }
                tokio::time::sleep(POLL).await;
            }
        };
        tokio::time::timeout(HEALTH_WITHIN, waiting).await.map_err(|elapsed| {
            let message = format!("node {} does not stand still after SIGSTOP", self.id);
            Error::new(ErrorKind::Invalid, message).with_source(elapsed)
        })
    }

    fn pid(&self) -> Result<u32> {
        let closed = || Error::new(ErrorKind::Closed, format!("node {} does not run", self.id));
        self.child.as_ref().map(Child::id).ok_or_else(closed)
    }

    /// How the process has ended by itself, once it has.
    pub(crate) async fn ended(&mut self, within: Duration) -> Result<ExitStatus> {
        let id = self.id;
        let Some(child) = self.child.as_mut() else {
            return Err(Error::new(ErrorKind::Closed, format!("node {id} does not run")));
        };
        let waiting = async {
            loop {
                if let Ok(Some(status)) = child.try_wait() {
                    return status;
                }
                tokio::time::sleep(POLL).await;
            }
        };
        let ended = tokio::time::timeout(within, waiting).await;
        ended.map_err(|elapsed| {
            let message = format!("node {id} has not ended by itself after {} s", within.as_secs());
            Error::new(ErrorKind::DeadlineExceeded, message).with_source(elapsed)
        })
    }

    /// How often its log says that it has ended at this failpoint.
    pub(crate) fn died_at(&self, failpoint: &str) -> usize {
        let line = format!("failpoint {failpoint}");
        self.log_text().lines().filter(|one| *one == line).count()
    }

    /// What it has logged so far, in all its lives.
    pub(crate) fn log_text(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Waits until `/ready` answers 200. `Unavailable` when the process ends first, or takes too long.
    pub(crate) async fn wait_ready(&mut self, within: Duration) -> Result<()> {
        let id = self.id;
        let mut said = String::new();
        let waiting = async {
            loop {
                if !self.is_running() {
                    return Err(Error::new(ErrorKind::Unavailable, format!("node {id} has ended")));
                }
                match tokio::time::timeout(HEALTH_WITHIN, readiness(self.http)).await {
                    Ok(Ok(answer)) if answer.starts_with("HTTP/1.1 200") => return Ok(()),
                    Ok(Ok(answer)) => answer.lines().last().unwrap_or_default().clone_into(&mut said),
                    _ => {}
                }
                tokio::time::sleep(POLL * 5).await;
            }
        };
        let ready = tokio::time::timeout(within, waiting).await.unwrap_or_else(|elapsed| {
            let message = format!("node {id} is not ready after {} s: {said}", within.as_secs());
            Err(Error::new(ErrorKind::Unavailable, message).with_source(elapsed))
        });
        ready.map_err(|error| {
            Error::new(error.kind(), format!("{}; its log ends with: {}", error.message(), self.last_line()))
        })
    }

    /// How far its clock is ahead of this program's, in seconds, to about one: what it writes into an answer's `Date`.
    pub(crate) async fn clock_ahead_s(&self, clock: &dyn Clock) -> Result<i64> {
        let unread = |text: &str| Error::new(ErrorKind::Unavailable, format!("node {} tells no date: {text}", self.id));
        let answer = tokio::time::timeout(HEALTH_WITHIN, readiness(self.http)).await;
        let answer = answer.ok().and_then(std::result::Result::ok).unwrap_or_default();
        let date = answer.lines().find(|line| line.to_ascii_lowercase().starts_with("date:"));
        let theirs = date.and_then(second_of_day).ok_or_else(|| unread(&answer))?;
        let ours = i64::try_from(clock.now_ms() / 1_000 % DAY_S).unwrap_or(0);
        // Midnight may lie between the two.
        let (day, half) = (DAY_S.cast_signed(), DAY_S.cast_signed() / 2);
        Ok((theirs - ours + half).rem_euclid(day) - half)
    }

    /// The last line of its log.
    pub(crate) fn last_line(&self) -> String {
        self.log_text().lines().last().unwrap_or("nothing").to_owned()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The seconds since midnight of `date: Fri, 27 Nov 2026 00:32:49 GMT`.
fn second_of_day(date: &str) -> Option<i64> {
    let time = date.split_whitespace().find(|word| word.matches(':').count() == 2)?;
    time.split(':').try_fold(0_i64, |sum, part| part.parse::<i64>().ok().map(|part| sum * 60 + part))
}

/// Whether a process ended by `abort`, as a failpoint does it.
pub(crate) fn is_abort(status: ExitStatus) -> bool {
    status.signal() == Some(SIGABRT)
}

async fn readiness(http: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(http).await?;
    stream.write_all(b"GET /ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
    let mut answer = Vec::new();
    stream.take(4_096).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_day_is_read_from_a_date() {
        assert_eq!(second_of_day("date: Fri, 27 Nov 2026 01:02:03 GMT"), Some(3_723));
        assert_eq!(second_of_day("date: yesterday"), None);
    }
}
