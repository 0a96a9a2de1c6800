//! The servers that are compared: child processes of this program, in a folder that goes with them.
//!
//! Invariant: a child lives no longer than its [`Cluster`]. [`stop_all`] asks the children to end and kills those
//! that don't; dropping a cluster, on whatever way out, kills them at once. The folder is removed after them.

mod etcd;
mod keevod;
mod metrics;
mod moderation;
mod nats;
mod postgres;
mod process;
pub(crate) mod programs;
mod redis;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use keevo_core::{Error, ErrorKind, Result};
use tempfile::TempDir;

use crate::output::note;
use process::{Process, Spec};

pub(crate) use etcd::start as start_etcd;
pub(crate) use keevod::start as start_keevo;
pub(crate) use metrics::Metrics;
pub(crate) use moderation::{start_flask, start_moderation};
pub(crate) use nats::start as start_nats;
pub(crate) use postgres::start as start_postgres;
pub(crate) use redis::start as start_redis;

/// How many nodes each cluster has.
pub(crate) const NODES: u16 = 3;
/// How long a node may take until it serves.
const READY_WITHIN: Duration = Duration::from_mins(1);
/// How long all nodes together may take to end by themselves.
const STOP_WITHIN: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(50);

/// How a cluster of Keevo is laid out, where it is not as by default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layout {
    /// How many nodes.
    pub(crate) nodes: u16,
    /// Further flags of keevod, each with its value.
    pub(crate) flags: Vec<(&'static str, String)>,
}

impl Default for Layout {
    fn default() -> Self {
        Self { nodes: NODES, flags: Vec::new() }
    }
}

/// The nodes of one system.
#[derive(Debug)]
pub(crate) struct Cluster {
    processes: Vec<Process>,
    addresses: Vec<String>,
    // Dropped after the processes.
    _folder: TempDir,
}

impl Cluster {
    /// Starts one process per specification; `addresses` are those that clients use.
    fn start(folder: TempDir, specs: Vec<Spec>, addresses: Vec<String>) -> Result<Self> {
        let mut cluster = Self { processes: Vec::new(), addresses, _folder: folder };
        for spec in specs {
            cluster.processes.push(Process::start(spec)?);
        }
        Ok(cluster)
    }

    /// Waits until every node serves. `Unavailable` when one ends first, or takes too long.
    pub(crate) async fn wait_ready(&mut self) -> Result<()> {
        self.wait_ready_within(READY_WITHIN).await
    }

    /// As [`Cluster::wait_ready`], for nodes that may take longer.
    pub(crate) async fn wait_ready_within(&mut self, within: Duration) -> Result<()> {
        for process in &mut self.processes {
            process.wait_ready(within).await?;
        }
        Ok(())
    }

    /// Kills every node at once, as SIGKILL does.
    pub(crate) fn kill(&mut self) {
        for process in &mut self.processes {
            process.kill();
        }
    }

    /// Starts the killed nodes again, on their folders.
    pub(crate) fn start_again(&mut self) -> Result<()> {
        self.processes.iter_mut().try_for_each(Process::start_again)
    }

    /// The sum over all nodes of each metric without labels, from their `/metrics`.
    pub(crate) async fn metrics(&self) -> Result<Metrics> {
        let mut sums = Metrics::default();
        for process in &self.processes {
            sums.add(&process.page("/metrics").await?);
        }
        Ok(sums)
    }

    /// Where clients reach the nodes, `host:port`.
    pub(crate) fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// Where the nodes serve HTTP, in the order of [`Cluster::pids`].
    pub(crate) fn http_addresses(&self) -> Vec<SocketAddr> {
        self.processes.iter().map(Process::http).collect()
    }

    /// Kills one node, by its place, as SIGKILL does.
    pub(crate) fn kill_node(&mut self, at: usize) {
        if let Some(process) = self.processes.get_mut(at) {
            process.kill();
        }
    }

    /// The ids of the processes.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.processes.iter().map(Process::pid).collect()
    }
}

/// Lets all nodes of all clusters end by themselves; one that takes too long is killed.
pub(crate) async fn stop_all(mut clusters: Vec<Cluster>) {
    for process in clusters.iter_mut().flat_map(|cluster| &mut cluster.processes) {
        process.ask_to_stop();
    }
    let all_ended = async {
        while clusters.iter_mut().flat_map(|cluster| &mut cluster.processes).any(Process::is_running) {
            tokio::time::sleep(POLL).await;
        }
    };
    if tokio::time::timeout(STOP_WITHIN, all_ended).await.is_err() {
        note("a server did not end in time and is killed");
    }
    drop(clusters);
}

/// The folder in which the servers' folders are made: `named`, or where temporary files go.
pub(crate) fn parent_folder(named: Option<&Path>) -> Result<PathBuf> {
    let folder = named.map_or_else(std::env::temp_dir, Path::to_owned);
    std::fs::create_dir_all(&folder).map_err(|error| {
        Error::new(ErrorKind::Io, format!("{} cannot be made", folder.display())).with_source(error)
    })?;
    Ok(folder)
}

/// A folder of its own for the nodes of `system`, in `parent`.
pub(crate) fn folder_of(system: &str, parent: &Path) -> Result<TempDir> {
    let prefix = format!("keevo-bench-{system}-");
    tempfile::Builder::new()
        .prefix(&prefix)
        .tempdir_in(parent)
        .map_err(|error| Error::new(ErrorKind::Io, "no folder can be made for the servers").with_source(error))
}

/// Two free loopback addresses for each node. All are bound before any is released, so none comes twice.
fn free_addresses(nodes: u16) -> Result<Vec<(u16, SocketAddr, SocketAddr)>> {
    let bind = || -> std::io::Result<(TcpListener, SocketAddr)> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    };
    let mut held = Vec::new();
    let mut addresses = Vec::new();
    for id in 1..=nodes {
        let both = bind().and_then(|first| Ok((first, bind()?)));
        let ((first_listener, first), (second_listener, second)) =
            both.map_err(|error| Error::new(ErrorKind::Io, "no loopback port is free").with_source(error))?;
        held.push((first_listener, second_listener));
        addresses.push((id, first, second));
    }
    Ok(addresses)
}
