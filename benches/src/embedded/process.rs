//! A side as its parent sees it: a child process that is asked for runs and answers them.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use keevo_core::{Error, ErrorKind, Result};
use serde::de::DeserializeOwned;
use tempfile::TempDir;

use super::System;
use super::wire::{Answer, Ready, Run};
use crate::load::Measured;
use crate::servers::folder_of;

/// A running side. Dropping it kills the process and removes its folder.
#[derive(Debug)]
pub(crate) struct SideProcess {
    system: System,
    child: Child,
    requests: ChildStdin,
    answers: Arc<Mutex<BufReader<ChildStdout>>>,
    folder: TempDir,
}

impl SideProcess {
    /// Starts a side whose folder is made in `parent`. It opens its store and writes `keys` keys meanwhile.
    pub(crate) fn start(system: System, parent: &Path, keys: u64, value_bytes: usize) -> Result<Self> {
        let name = system.name();
        let failed = |error| Error::new(ErrorKind::Io, format!("side {name} cannot be started")).with_source(error);
        let folder = folder_of(name, parent)?;
        let mut child = Command::new(std::env::current_exe().map_err(failed)?)
            .args(["side", name, "--keys", &keys.to_string(), "--value-bytes", &value_bytes.to_string(), "--dir"])
            .arg(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let (Some(requests), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Error::new(ErrorKind::Io, format!("side {name} has no pipes")));
        };
        let answers = Arc::new(Mutex::new(BufReader::new(answers)));
        Ok(Self { system, child, requests, answers, folder })
    }

    /// Waits until it has written the keys.
    pub(crate) async fn wait_ready(&mut self) -> Result<()> {
        self.answer::<Ready>().await.map(drop)
    }

    /// Has it run once.
    pub(crate) async fn run(&mut self, run: &Run) -> Result<Measured> {
        let line = serde_json::to_string(run).unwrap_or_default() + "\n";
        let sent = self.requests.write_all(line.as_bytes()).and_then(|()| self.requests.flush());
        sent.map_err(|error| self.ended().with_source(error))?;
        self.answer::<Answer>().await?.measured()
    }

    /// The folder with its data.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    async fn answer<T: DeserializeOwned>(&self) -> Result<T> {
        let answers = Arc::clone(&self.answers);
        let read = move || {
            let mut line = String::new();
            answers.lock().unwrap_or_else(PoisonError::into_inner).read_line(&mut line).map(|_| line)
        };
        let line = tokio::task::spawn_blocking(read).await.map_err(|error| self.ended().with_source(error))?;
        let line = line.map_err(|error| self.ended().with_source(error))?;
        serde_json::from_str(&line).map_err(|error| self.ended().with_source(error))
    }

    fn ended(&self) -> Error {
        Error::new(ErrorKind::Unavailable, format!("side {} has ended; its last words stand above", self.system.name()))
    }
}

impl Drop for SideProcess {
    fn drop(&mut self) {
        // Both fail only for a process that has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
