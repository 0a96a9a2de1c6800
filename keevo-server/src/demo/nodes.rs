//! The demo's nodes: child processes of this very program, and the moderation sidecar beside them.

use std::ffi::OsString;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;

use keevo_core::{Error, ErrorKind, Result};
use tempfile::TempDir;

use super::process::{Process, Program};

/// A node as a process.
#[derive(Debug)]
pub(super) struct NodeProcess {
    /// Its id.
    pub(super) id: u64,
    /// Where it serves gRPC.
    pub(super) grpc: SocketAddr,
    /// Where it serves HTTP.
    pub(super) http: SocketAddr,
    /// The process.
    pub(super) process: Process,
}

/// All nodes, the sidecar, and the folder they live in.
#[derive(Debug)]
pub(super) struct Cluster {
    /// The nodes, by id.
    pub(super) nodes: Vec<NodeProcess>,
    /// The moderation sidecar, not started yet; none where its program is not beside this one.
    pub(super) sidecar: Option<Process>,
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
        let Addresses { of_nodes, of_sidecar } = free_addresses(count)?;
        let path = std::env::current_exe()
            .map_err(|error| Error::new(ErrorKind::Io, "this program has no path").with_source(error))?;
        let sidecar = sidecar(&path, of_sidecar, folder);
        let peers = of_nodes.iter().map(|(id, grpc, _)| format!("{id}={grpc}")).collect::<Vec<_>>().join(",");
        let replicas = if count >= 3 { 3 } else { 1 };
        let mut nodes = Vec::new();
        for (id, grpc, http) in of_nodes {
            let data = folder.join(format!("node-{id}"));
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
            if sidecar.is_some() {
                let workers = format!("http://{of_sidecar}");
                arguments.extend(["--moderation-workers".into(), workers.into()]);
                arguments.extend(["--moderation-sources".into(), "chat".into()]);
            }
            let log = folder.join(format!("node-{id}.log"));
            let program =
                Program { name: format!("node {id}"), path: path.clone(), arguments, http, ready: "/ready", log };
            let mut process = Process::new(program);
            process.start()?;
            nodes.push(NodeProcess { id, grpc, http, process });
        }
        let mut cluster = Self { nodes, sidecar, replicas, _temporary: temporary };
        for node in &mut cluster.nodes {
            node.process.wait_ready().await?;
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

    /// Lets all processes end by themselves; one that takes too long is killed.
    pub(super) async fn stop(&mut self) {
        for process in self.processes() {
            process.ask_to_stop();
        }
        for process in self.processes() {
            process.wait_ended().await;
        }
    }

    fn processes(&mut self) -> impl Iterator<Item = &mut Process> {
        self.sidecar.iter_mut().chain(self.nodes.iter_mut().map(|node| &mut node.process))
    }
}

/// The moderation sidecar whose program lies beside this one at `path`.
fn sidecar(path: &Path, http: SocketAddr, folder: &Path) -> Option<Process> {
    let path = path.with_file_name("keevo-moderation");
    let program = || Program {
        name: "the moderation sidecar".to_owned(),
        arguments: ["serve", "--http", &http.to_string()].map(OsString::from).to_vec(),
        http,
        ready: "/health",
        log: folder.join("moderation.log"),
        path: path.clone(),
    };
    path.is_file().then(|| Process::new(program()))
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

/// Loopback addresses.
struct Addresses {
    /// For gRPC and HTTP, by node id.
    of_nodes: Vec<(u64, SocketAddr, SocketAddr)>,
    of_sidecar: SocketAddr,
}

/// Free loopback addresses. All are bound before any is released, so none comes twice.
fn free_addresses(count: u64) -> Result<Addresses> {
    let mut held = Vec::new();
    let mut bind = || -> Result<SocketAddr> {
        let no_port = |error: std::io::Error| Error::new(ErrorKind::Io, "no loopback port is free").with_source(error);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(no_port)?;
        let address = listener.local_addr().map_err(no_port)?;
        held.push(listener);
        Ok(address)
    };
    let of_nodes = (1..=count).map(|id| Ok((id, bind()?, bind()?))).collect::<Result<_>>()?;
    Ok(Addresses { of_nodes, of_sidecar: bind()? })
}
