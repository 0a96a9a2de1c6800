//! The cluster under test: its nodes, their network, and what it says of itself.
//!
//! Invariant: questions go only to nodes that run, and a node that does not answer in time does not keep the others
//! from being asked.

mod agreement;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use keevo_client::{ClientOptions, RemoteEngine};
use keevo_core::{Error, ErrorKind, Result};
use keevo_proto::admin::v1 as pb;
use keevo_proto::admin::v1::admin_client::AdminClient;
use keevo_proto::error_from_status;
use tonic::transport::{Channel, Endpoint};

use crate::network::Network;
use crate::node::{Node, POLL};

/// Data shards: few, since every group costs both processors of a small machine.
const SHARDS: u32 = 3;
/// Free space below which a node refuses writes, in MiB: the disks of some cases are small.
pub(crate) const LOW_WATER_MIB: u64 = 48;
/// How long a node may take until it is ready; a machine that compiles beside it is slow.
pub(crate) const READY_WITHIN: Duration = Duration::from_mins(1);
/// How long the cluster may take to have leaders again, and replicas to agree.
const LEADERS_WITHIN: Duration = Duration::from_secs(45);
/// How long an answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// How the nodes of a case run, apart from what all have in common.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settings {
    /// More settings of keevod, by flag.
    pub(crate) flags: Vec<(&'static str, String)>,
    /// Variables for every node.
    pub(crate) variables: Vec<(String, String)>,
}

/// The nodes.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) nodes: BTreeMap<u64, Node>,
    pub(crate) network: Network,
    keevod: PathBuf,
    folder: PathBuf,
    settings: Settings,
}

impl Cluster {
    /// Three nodes that are not started yet, in `folder`.
    pub(crate) fn new(keevod: &Path, folder: &Path, network: Network, settings: Settings) -> Result<Self> {
        std::fs::create_dir_all(folder).map_err(|error| {
            Error::new(ErrorKind::Io, format!("{} cannot be made", folder.display())).with_source(error)
        })?;
        let (keevod, folder) = (keevod.to_owned(), folder.to_owned());
        let mut cluster = Self { nodes: BTreeMap::new(), network, keevod, folder, settings };
        for id in 1..=3 {
            cluster.add(id, false)?;
        }
        let peers =
            cluster.nodes.values().map(|node| format!("{}={}", node.id, node.grpc)).collect::<Vec<_>>().join(",");
        for node in cluster.nodes.values_mut() {
            node.arguments.extend(["--peers".to_owned(), peers.clone()]);
        }
        Ok(cluster)
    }

    /// Adds a node that is not started; with `join` it waits to be taken in.
    pub(crate) fn add(&mut self, id: u64, join: bool) -> Result<&mut Node> {
        let (grpc, http) = self.network.addresses(id)?;
        let mut program = self.network.prefix(id);
        program.push(self.keevod.display().to_string());
        let mut node = Node::new(id, grpc, http, &self.folder, program);
        for (flag, value) in [
            ("data-dir", node.data.display().to_string()),
            ("node-id", id.to_string()),
            ("grpc", grpc.to_string()),
            ("http", http.to_string()),
            ("insecure", (!grpc.ip().is_loopback()).to_string()),
            ("join", join.to_string()),
            ("shards", SHARDS.to_string()),
            ("replication-factor", "3".to_owned()),
            ("heartbeat-ms", "100".to_owned()),
            ("election-ms-min", "700".to_owned()),
            ("election-ms-max", "1400".to_owned()),
            ("flush-every-ms", "1000".to_owned()),
            ("disk-low-water-mib", LOW_WATER_MIB.to_string()),
            ("disk-ballast-mib", "8".to_owned()),
            ("block-cache-mib", "16".to_owned()),
            ("write-buffer-mib", "16".to_owned()),
        ]
        .into_iter()
        .chain(self.settings.flags.iter().cloned())
        {
            node.arguments.push(format!("--{flag}={value}"));
        }
        node.variables.clone_from(&self.settings.variables);
        self.nodes.insert(id, node);
        self.node(id)
    }

    /// Starts all nodes and waits until they are ready.
    pub(crate) async fn start(&mut self) -> Result<()> {
        self.heal_network()?;
        for node in self.nodes.values_mut() {
            node.start(None)?;
        }
        self.wait_ready().await
    }

    /// Ends the faults of the network: a case before this one may have ended in the middle of one.
    pub(crate) fn heal_network(&self) -> Result<u64> {
        self.network.heal(&self.ids())
    }

    /// Waits until all nodes are ready.
    pub(crate) async fn wait_ready(&mut self) -> Result<()> {
        for node in self.nodes.values_mut() {
            node.wait_ready(READY_WITHIN).await?;
        }
        Ok(())
    }

    /// The node with an id; `NotFound` if there is none.
    pub(crate) fn node(&mut self, id: u64) -> Result<&mut Node> {
        let missing = || Error::new(ErrorKind::NotFound, format!("the cluster has no node {id}"));
        self.nodes.get_mut(&id).ok_or_else(missing)
    }

    /// The nodes' ids.
    pub(crate) fn ids(&self) -> Vec<u64> {
        self.nodes.keys().copied().collect()
    }

    /// Ends every fault that lasts: rules of the network, paused and dead processes. How many packets were dropped.
    pub(crate) fn heal(&mut self) -> Result<u64> {
        let dropped = self.heal_network()?;
        for node in self.nodes.values_mut() {
            node.resume()?;
            if !node.is_running() {
                node.kill();
                node.start(None)?;
            }
        }
        Ok(dropped)
    }

    /// A client of all nodes.
    pub(crate) async fn connect(&self) -> Result<RemoteEngine> {
        let options = ClientOptions {
            deadline: Duration::from_secs(3),
            attempt_timeout: Duration::from_secs(1),
            connect_timeout: Duration::from_millis(500),
            ..ClientOptions::default()
        };
        let addresses = self.nodes.values().map(|node| node.grpc.to_string()).collect();
        RemoteEngine::connect(addresses, options).await
    }

    /// The node that leads most data shards, once every shard has a leader.
    pub(crate) async fn leader(&mut self) -> Result<u64> {
        let ids = self.ids();
        let mut leads: BTreeMap<u64, usize> = BTreeMap::new();
        for (shard, node) in self.leaders_seen_by(&ids, 0).await? {
            if shard != 0 {
                *leads.entry(node).or_default() += 1;
            }
        }
        let most = leads.into_iter().max_by_key(|&(_, count)| count);
        most.map(|(node, _)| node).ok_or_else(|| Error::new(ErrorKind::NoQuorum, "no shard has a leader"))
    }

    /// The leader of every shard as `nodes` see it, once every shard has one that is not `not`.
    pub(crate) async fn leaders_seen_by(&mut self, nodes: &[u64], not: u64) -> Result<BTreeMap<u64, u64>> {
        let waiting = async {
            loop {
                if let Ok(status) = self.status_of(nodes).await
                    && let Some(leaders) = leaders_of(&status)
                    && leaders.values().all(|&leader| leader != not)
                {
                    return leaders;
                }
                tokio::time::sleep(POLL * 5).await;
            }
        };
        tokio::time::timeout(LEADERS_WITHIN, waiting).await.map_err(|elapsed| {
            let message = format!("not every shard has a leader after {} s", LEADERS_WITHIN.as_secs());
            Error::new(ErrorKind::NoQuorum, message).with_source(elapsed)
        })
    }

    /// What the first node that answers says of all.
    pub(crate) async fn status(&mut self) -> Result<pb::ClusterStatusResponse> {
        let ids = self.ids();
        self.status_of(&ids).await
    }

    async fn status_of(&mut self, nodes: &[u64]) -> Result<pb::ClusterStatusResponse> {
        let mut failure = Error::new(ErrorKind::Unavailable, "no node runs");
        let asked = self.nodes.values_mut().filter(|node| nodes.contains(&node.id));
        let addresses: Vec<_> = asked.filter_map(|node| node.answers().then(|| node.grpc.to_string())).collect();
        for address in addresses {
            match admin(&address)?.cluster_status(pb::ClusterStatusRequest {}).await {
                Ok(status) => return Ok(status.into_inner()),
                Err(status) => failure = error_from_status(&status),
            }
        }
        Err(failure)
    }

    /// Makes every node that runs flush its data, so that logs are purged.
    pub(crate) async fn flush(&mut self) -> Result<()> {
        for address in self.running() {
            admin(&address)?.flush(pb::FlushRequest {}).await.map_err(|status| error_from_status(&status))?;
        }
        Ok(())
    }

    /// What the replicas of a node have to complain of, as `others` see it.
    pub(crate) async fn faults_on(&mut self, node: u64, others: &[u64]) -> Vec<String> {
        let Ok(status) = self.status_of(others).await else { return Vec::new() };
        let replicas = status.shards.into_iter().flat_map(|shard| shard.replicas);
        replicas.filter(|replica| replica.node_id == node).map(|replica| replica.fault).collect()
    }

    /// Has every replica read all that it holds, for a checksum; asks the first of `nodes` that does it.
    pub(crate) async fn read_through(&mut self, nodes: &[u64]) {
        for id in nodes {
            let Some(address) = self.nodes.get(id).map(|node| node.grpc.to_string()) else { continue };
            let Ok(mut admin) = admin(&address) else { continue };
            // A replica that meets with damage stops, and then not all hashes come together.
            if admin.checksum(pb::ChecksumRequest {}).await.is_ok() {
                return;
            }
        }
    }

    /// Who leads and where every replica is, as each node sees it: for the reader of a failure.
    pub(crate) async fn describe(&mut self) -> String {
        let mut text = String::new();
        for id in self.ids() {
            let seen = self.status_of(&[id]).await;
            let seen = seen.map(|status| status.shards.iter().map(line_of).collect::<Vec<_>>().join(", "));
            let seen = seen.unwrap_or_else(|error| error.to_string());
            text = format!("{text}\n        node {id} sees {seen}");
        }
        text
    }

    /// Asks every shard to be led by a node, as far as that is possible now.
    pub(crate) async fn hand_leadership_to(&mut self, node: u64) {
        for shard in 0..=u64::from(SHARDS) {
            let Some(address) = self.running().into_iter().next() else { return };
            let Ok(mut admin) = admin(&address) else { return };
            // Whether it follows or not: the case is more telling if it does.
            drop(admin.transfer(pb::TransferRequest { shard, to_node_id: node }).await);
        }
    }

    /// The highest id that a node has.
    pub(crate) fn highest_id(&self) -> u64 {
        self.nodes.keys().next_back().copied().unwrap_or(0)
    }

    fn running(&mut self) -> Vec<String> {
        self.nodes.values_mut().filter_map(|node| node.answers().then(|| node.grpc.to_string())).collect()
    }

    /// Takes a node out of the cluster; it must not run any more.
    pub(crate) async fn remove(&mut self, id: u64) -> Result<()> {
        self.node(id)?.kill();
        self.nodes.remove(&id);
        self.ask_until_done(format!("node {id} cannot be removed"), |mut admin| async move {
            admin.remove(pb::RemoveRequest { node_id: id }).await.map(drop)
        })
        .await
    }

    /// Takes in a node that runs and waits for it.
    pub(crate) async fn join(&mut self, id: u64) -> Result<()> {
        let address = self.node(id)?.grpc.to_string();
        self.ask_until_done(format!("node {id} cannot join"), |mut admin| {
            let address = address.clone();
            async move { admin.join(pb::JoinRequest { address }).await.map(drop) }
        })
        .await
    }

    /// Asks one node after the other until one does it: the cluster may still be healing.
    async fn ask_until_done<F>(&mut self, what: String, ask: impl Fn(AdminClient<Channel>) -> F) -> Result<()>
    where
        F: Future<Output = Result<(), tonic::Status>>,
    {
        let mut failure = String::new();
        let asking = async {
            loop {
                for address in self.running() {
                    match ask(patient_admin(&address)?).await {
                        Ok(()) => return Ok(()),
                        Err(status) => status.message().clone_into(&mut failure),
                    }
                }
                tokio::time::sleep(POLL * 10).await;
            }
        };
        tokio::time::timeout(LEADERS_WITHIN * 2, asking).await.unwrap_or_else(|elapsed| {
            Err(Error::new(ErrorKind::Unavailable, format!("{what}: {failure}")).with_source(elapsed))
        })
    }
}

/// The leader of every shard as the replicas themselves say; nothing while a shard has none. Of two that both say they
/// lead, the one with the higher term does.
fn leaders_of(status: &pb::ClusterStatusResponse) -> Option<BTreeMap<u64, u64>> {
    let leads = |replica: &&pb::ReplicaStatus| replica.role() == pb::Role::Leader && replica.fault.is_empty();
    let mut leaders = BTreeMap::new();
    for shard in &status.shards {
        let leader = shard.replicas.iter().filter(leads).max_by_key(|replica| replica.term)?;
        leaders.insert(shard.id, leader.node_id);
    }
    (!leaders.is_empty()).then_some(leaders)
}

fn line_of(shard: &pb::ShardStatus) -> String {
    let replica = |one: &pb::ReplicaStatus| {
        let (role, fault) = (one.role().as_str_name(), &one.fault);
        format!(
            "{} {role} term {} applied {} last {} {fault}",
            one.node_id, one.term, one.applied_index, one.last_log_index
        )
    };
    format!("shard {} [{}]", shard.id, shard.replicas.iter().map(replica).collect::<Vec<_>>().join("; "))
}

fn admin(address: &str) -> Result<AdminClient<Channel>> {
    client(address, ANSWER_WITHIN)
}

/// For changes of membership, which take as long as the data takes to travel.
fn patient_admin(address: &str) -> Result<AdminClient<Channel>> {
    client(address, LEADERS_WITHIN)
}

fn client(address: &str, within: Duration) -> Result<AdminClient<Channel>> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|error| Error::invalid(format!("{address} is no address")).with_source(error))?;
    let endpoint = endpoint.connect_timeout(Duration::from_secs(1)).timeout(within);
    Ok(AdminClient::new(endpoint.connect_lazy()))
}
