//! The second start of the program, in namespaces of its own.
//!
//! ```text
//! keevo-faults ─▶ unshare: new mount, network and process namespaces ─▶ keevo-faults --inside
//! ```
//!
//! Invariant: whatever the inner program starts, mounts or sets up lives in those namespaces. When it ends, in whatever
//! way, the kernel ends its processes and takes network, mounts and loop devices away with them.

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use keevo_core::{Error, ErrorKind, Result};

use crate::interrupt::Interrupt;
use crate::tools;

/// How long the inner program may take to end by itself once it was asked to.
const END_WITHIN: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(50);
const UNSHARE: &[&str] = &["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"];

/// With which privileges the inner program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Privileges {
    /// Root: networks, mounts and loop devices.
    Root,
    /// Root of a user namespace: networks and tmpfs, no loop devices.
    User,
    /// None: plain loopback.
    None,
}

impl Privileges {
    /// How `--inside` names them.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::User => "user",
            Self::None => "none",
        }
    }

    /// The reverse of [`Self::name`]; anything else is none.
    pub(crate) fn named(name: &str) -> Self {
        [Self::Root, Self::User].into_iter().find(|one| one.name() == name).unwrap_or(Self::None)
    }

    /// The most that this machine grants.
    pub(crate) fn probe() -> Self {
        let grants = |privileges: Self| {
            let arguments: Vec<&str> = privileges.unshare().chain(["--", "true"]).collect();
            tools::run("unshare", &arguments).is_ok()
        };
        [Self::Root, Self::User].into_iter().find(|&one| grants(one)).unwrap_or(Self::None)
    }

    fn unshare(self) -> impl Iterator<Item = &'static str> {
        let user = (self == Self::User).then_some("--map-root-user");
        user.into_iter().chain(UNSHARE.iter().copied())
    }
}

/// Starts this program again, inside, and gives the code it ends with. A signal is passed on; what does not end then is
/// killed with everything in it.
pub(crate) async fn run_inside(privileges: Privileges, dir: &Path, arguments: &[String]) -> Result<ExitCode> {
    let failed = |error: std::io::Error| Error::new(ErrorKind::Io, "unshare cannot be started").with_source(error);
    let mut interrupt = Interrupt::catch()?;
    let program = std::env::current_exe().map_err(failed)?;
    let mut command = Command::new("unshare");
    command.env("PATH", tools::path()).args(privileges.unshare()).arg("--").arg(program).args(arguments);
    command.args(["--inside", privileges.name(), "--dir"]).arg(dir);
    // Nothing is written to it: it ends when this program does, even by SIGKILL.
    command.stdin(Stdio::piped());
    let mut child = command.spawn().map_err(failed)?;
    let ended = tokio::select! {
        code = wait(&mut child) => Some(code),
        () = interrupt.arrived() => None,
    };
    if let Some(code) = ended {
        return Ok(ExitCode::from(code));
    }
    // The terminal has told the inner program too; a lone SIGTERM has not.
    let outer = child.id();
    let children = std::fs::read_to_string(format!("/proc/{outer}/task/{outer}/children")).unwrap_or_default();
    for inner in children.split_whitespace().filter_map(|pid| pid.parse().ok()) {
        // It may have ended by itself.
        drop(tools::signal("INT", inner));
    }
    // Whatever it says: the run was stopped. What does not end is ended below.
    drop(tokio::time::timeout(END_WITHIN, wait(&mut child)).await);
    // Kills what is left, with all that it started: it is the first process of its namespace.
    drop(child.kill());
    drop(child.wait());
    Ok(stopped())
}

/// The code of a run that a signal has stopped, as shells have it.
pub(crate) fn stopped() -> ExitCode {
    ExitCode::from(130)
}

/// Inside: returns when the outer program has ended.
pub(crate) async fn outer_ended() {
    let (ended_tx, ended_rx) = tokio::sync::oneshot::channel();
    // Reading blocks, and is no reason for the program to stay.
    std::thread::spawn(move || {
        let read = std::io::stdin().lock().read_to_end(&mut Vec::new());
        drop(ended_tx.send(read.is_ok()));
    });
    drop(ended_rx.await);
}

async fn wait(child: &mut Child) -> u8 {
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1),
            Ok(None) => tokio::time::sleep(POLL).await,
            Err(_) => return 1,
        }
    }
}
