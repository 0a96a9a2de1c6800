//! The demo's nodes: child processes of this very program.
//!
//! Invariant: a child lives no longer than its [`NodeProcess`]; dropping that kills it.

use std::ffi::OsString;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use keevo_core::{Error, ErrorKind, Result};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long a node may take until it is ready.
const READY_WITHIN: Duration = Duration::from_mins(1);
/// How long a node may take to end by itself.
const STOP_WITHIN: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(50);

/// A node as a process.
#[derive(Debug)]
pub(super) struct NodeProcess {
    /// Its id.
    pub(super) id: u64,
    /// Where it serves gRPC.
    pub(super) grpc: SocketAddr,
    /// Where it serves HTTP.
    pub(super) http: SocketAddr,
    /// The file that its log goes to.
    pub(super) log: PathBuf,
    arguments: Vec<OsString>,
    child: Option<Child>,
}

/// All nodes, and the folder they live in.
#[derive(Debug)]
pub(super) struct Cluster {
    /// The nodes, by id.
    pub(super) nodes: Vec<NodeProcess>,
    /// How many replicas each shard has.
    pub(super) replicas: usize,
    // Dropped after the nodes: removes the folder if it is temporary.
    _temporary: Option<TempDir>,
}

impl Cluster {
    /// Starts `count` nodes in a folder that must be empty, or in a temporary one, and waits until all are ready.
    pub(super) async fn start(count: u64, folder: Option<&Path>) -> Result<Self> {
        let temporary =
            match folder {
                Some(_) => None,
                None => Some(tempfile::Builder::new().prefix("keevo-demo-").tempdir().map_err(|error| {
                    Error::new(ErrorKind::Io, "no temporary folder can be made").with_source(error)
                })?),
            };
        let folder = match (&temporary, folder) {
            (Some(temporary), _) => temporary.path(),
            (None, Some(folder)) => empty_folder(folder)?,
            (None, None) => return Err(Error::invalid("no folder")),
        };
        let addresses = free_addresses(count)?;
        let peers = addresses.iter().map(|(id, grpc, _)| format!("{id}={grpc}")).collect::<Vec<_>>().join(",");
        let replicas = if count >= 3 { 3 } else { 1 };
        let mut nodes = Vec::new();
        for (id, grpc, http) in addresses {
            let data = folder.join(format!("node-{id}"));
            let log = folder.join(format!("node-{id}.log"));
            let mut arguments: Vec<OsString> = vec!["--data-dir".into(), data.into()];
            for (flag, value) in [
                ("--node-id", id.to_string()),
                ("--grpc", grpc.to_string()),
                ("--http", http.to_string()),
                ("--peers", peers.clone()),
                ("--shards", super::SHARDS.to_string()),
                ("--replication-factor", replicas.to_string()),
            ] {
                arguments.extend([flag.into(), value.into()]);
            }
            let mut node = NodeProcess { id, grpc, http, log, arguments, child: None };
            node.start()?;
            nodes.push(node);
        }
        let mut cluster = Self { nodes, replicas, _temporary: temporary };
        for node in &mut cluster.nodes {
            node.wait_ready().await?;
        }
        Ok(cluster)
    }

    /// Where all nodes serve gRPC.
    pub(super) fn addresses(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.grpc.to_string()).collect()
    }

    /// The node with an id; `NotFound` if there is none.
    pub(super) fn node(&mut self, id: u64) -> Result<&mut NodeProcess> {
        let missing = || Error::new(ErrorKind::NotFound, format!("the cluster has no node {id}"));
        self.nodes.iter_mut().find(|node| node.id == id).ok_or_else(missing)
    }

    /// Lets all nodes end by themselves; one that takes too long is killed.
    pub(super) async fn stop(&mut self) {
        for node in &self.nodes {
            node.ask_to_stop();
        }
        for node in &mut self.nodes {
            node.wait_ended().await;
        }
    }
}

impl NodeProcess {
    /// Starts the process.
    pub(super) fn start(&mut self) -> Result<()> {
        let failed = |error: std::io::Error| {
            Error::new(ErrorKind::Io, format!("node {} cannot be started", self.id)).with_source(error)
        };
        let program = std::env::current_exe().map_err(failed)?;
        let log = File::options().create(true).append(true).open(&self.log).map_err(failed)?;
        let mut command = Command::new(program);
        command.args(&self.arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
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

    /// Waits until `/ready` answers 200. `Unavailable` when the process ends first, or takes too long.
    pub(super) async fn wait_ready(&mut self) -> Result<()> {
        let (id, log) = (self.id, self.log.display().to_string());
        let waiting = async {
            loop {
                if let Some(Ok(Some(status))) = self.child.as_mut().map(Child::try_wait) {
                    let tail = last_line(&self.log);
                    let message = format!("node {id} ended ({status}): {tail} (see {log})");
                    return Err(Error::new(ErrorKind::Unavailable, message));
                }
                if is_ready(self.http).await.unwrap_or(false) {
                    return Ok(());
                }
                tokio::time::sleep(POLL).await;
            }
        };
        tokio::time::timeout(READY_WITHIN, waiting).await.unwrap_or_else(|elapsed| {
            let message = format!("node {id} is not ready after {} s (see {log})", READY_WITHIN.as_secs());
            Err(Error::new(ErrorKind::Unavailable, message).with_source(elapsed))
        })
    }

    /// Sends SIGTERM.
    fn ask_to_stop(&self) {
        if let Some(child) = &self.child {
            // A shell's `kill` is the way to send a signal without unsafe code; if it fails, the wait below kills.
            drop(Command::new("kill").arg("-TERM").arg(child.id().to_string()).stderr(Stdio::null()).status());
        }
    }

    async fn wait_ended(&mut self) {
        let ended = async {
            while let Some(Ok(None)) = self.child.as_mut().map(Child::try_wait) {
                tokio::time::sleep(POLL).await;
            }
        };
        if tokio::time::timeout(STOP_WITHIN, ended).await.is_err() {
            tracing::warn!(node = self.id, "the node did not end in time and is killed");
        }
        self.kill();
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Makes the folder if it is not there; `Invalid` if something lies in it, since a cluster's addresses are its own.
fn empty_folder(folder: &Path) -> Result<&Path> {
    let io = |error: std::io::Error| {
        Error::new(ErrorKind::Io, format!("{} cannot be used", folder.display())).with_source(error)
    };
    fs::create_dir_all(folder).map_err(io)?;
    if fs::read_dir(folder).map_err(io)?.next().is_some() {
        return Err(Error::invalid(format!("{} is not empty: the demo needs a folder of its own", folder.display())));
    }
    Ok(folder)
}

/// Free loopback addresses for gRPC and HTTP, by node id. All are bound before any is released, so none comes twice.
fn free_addresses(count: u64) -> Result<Vec<(u64, SocketAddr, SocketAddr)>> {
    let bind = || -> std::io::Result<(TcpListener, SocketAddr)> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    };
    let mut held = Vec::new();
    let mut addresses = Vec::new();
    for id in 1..=count {
        let both = bind().and_then(|grpc| Ok((grpc, bind()?)));
        let ((grpc_listener, grpc), (http_listener, http)) =
            both.map_err(|error| Error::new(ErrorKind::Io, "no loopback port is free").with_source(error))?;
        held.push((grpc_listener, http_listener));
        addresses.push((id, grpc, http));
    }
    Ok(addresses)
}

async fn is_ready(http: SocketAddr) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(http).await?;
    stream.write_all(b"GET /ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
    let mut answer = Vec::new();
    tokio::time::timeout(Duration::from_secs(2), stream.take(4_096).read_to_end(&mut answer)).await??;
    Ok(answer.starts_with(b"HTTP/1.1 200"))
}

fn last_line(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    String::from_utf8_lossy(&text).lines().last().unwrap_or("its log is empty").to_owned()
}
