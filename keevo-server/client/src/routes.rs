//! The shard map a client goes by, and how it is kept up to date.
//!
//! Invariant: a map is replaced by one of the same or a later version only. A leader is a guess: what nodes answer
//! corrects it. A node that is cut off from the others goes on naming itself, so who leads is asked of others first.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use keevo_core::{Error, ErrorKind, Result, ShardId};
use keevo_proto::admin::v1::ShardMapRequest;
use keevo_proto::{KIND_METADATA, error_from_status};
use tokio::time::Instant;

use crate::node::Nodes;
use crate::options::ClientOptions;
use crate::pipe::Fault;
use crate::shard_map::{Shard, ShardMap};

/// How long one address is asked alone before the next is asked as well.
const ALONE: Duration = Duration::from_millis(50);
/// How long the others are asked for a leader's successor.
const ASK_OTHERS: Duration = Duration::from_millis(500);

/// What a failed attempt asks for before the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lesson {
    /// Nothing.
    GoOn,
    /// A fresh map.
    FetchMap,
    /// To hear of the others whether there is a new leader: [`Routes::ask_others`].
    AskOthers,
}

/// The shard map, and the addresses to ask for a newer one.
#[derive(Debug)]
pub(crate) struct Routes {
    options: Arc<ClientOptions>,
    nodes: Arc<Nodes>,
    /// The addresses that the client was given.
    seeds: Vec<String>,
    map: RwLock<Option<Arc<ShardMap>>>,
    /// One fetch at a time; those who waited for it use what it brought.
    fetching: tokio::sync::Mutex<()>,
}

impl Routes {
    pub(crate) fn new(options: Arc<ClientOptions>, nodes: Arc<Nodes>, seeds: Vec<String>) -> Self {
        Self { options, nodes, seeds, map: RwLock::default(), fetching: tokio::sync::Mutex::default() }
    }

    /// The map as it is known.
    pub(crate) fn known(&self) -> Option<Arc<ShardMap>> {
        self.map.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The map, fetched before `deadline` if there is none yet.
    pub(crate) async fn map(&self, deadline: Instant) -> Result<Arc<ShardMap>> {
        match self.known() {
            Some(map) => Ok(map),
            None => self.refresh(None, None, deadline).await,
        }
    }

    /// A map fetched after `stale` was, of the node at `failed` only if no other answers; waits for a fetch that is
    /// under way. `Unavailable` at the deadline.
    pub(crate) async fn refresh(
        &self,
        stale: Option<&Arc<ShardMap>>,
        failed: Option<&str>,
        deadline: Instant,
    ) -> Result<Arc<ShardMap>> {
        let mut last = Error::new(ErrorKind::Unavailable, "no node gave the shard map in time");
        let fetched = tokio::time::timeout_at(deadline, async {
            let _fetching = self.fetching.lock().await;
            let known = self.known();
            match known.filter(|map| stale.is_none_or(|stale| !Arc::ptr_eq(map, stale))) {
                Some(map) => Ok(map),
                None => self.fetch_any(self.addresses(failed), &mut last).await.map(|map| self.install(map)),
            }
        });
        match fetched.await {
            Ok(fetched) => fetched,
            Err(elapsed) => Err(last.with_source(elapsed)),
        }
    }

    /// Asks one address after the other, without waiting long for one that does not answer; the first map wins.
    /// `last` is kept at what was met with last.
    async fn fetch_any(&self, addresses: Vec<String>, last: &mut Error) -> Result<ShardMap> {
        let mut addresses = addresses.into_iter();
        let mut asked = FuturesUnordered::new();
        loop {
            match addresses.next() {
                Some(address) => asked.push(self.fetch(address)),
                None if asked.is_empty() => return Err(last.clone()),
                None => {}
            }
            match tokio::time::timeout(ALONE, asked.next()).await {
                Ok(Some(Ok(map))) => return Ok(map),
                Ok(Some(Err(error))) => *last = error,
                // None was asked yet, or none of them has answered so far: the next one is asked as well.
                Ok(None) | Err(_) => {}
            }
        }
    }

    /// Every address worth asking, in an order that changes from call to call; one that has just failed comes last.
    fn addresses(&self, failed: Option<&str>) -> Vec<String> {
        let mut all: BTreeSet<String> = self.seeds.iter().cloned().collect();
        if let Some(map) = self.known() {
            all.extend(map.shards.iter().flat_map(|shard| shard.replicas.iter().cloned()));
        }
        let mut all: Vec<String> = all.into_iter().collect();
        let turn = self.pick(all.len());
        all.rotate_left(turn);
        all.sort_by_key(|address| Some(address.as_str()) == failed);
        all
    }

    /// Asks the others who leads shards whose supposed leader, at `was`, has found no majority: it may be cut off from
    /// them and know of no successor. Whoever comes while that is asked already goes on with what is known.
    pub(crate) async fn ask_others(&self, shards: &[ShardId], was: &str, deadline: Instant) {
        let Ok(_fetching) = self.fetching.try_lock() else { return };
        let mut others = self.addresses(None);
        others.retain(|address| address != was);
        let mut last = Error::new(ErrorKind::Unavailable, "no other node gave the shard map in time");
        let limit = deadline.min(Instant::now() + ASK_OTHERS);
        let asked = tokio::time::timeout_at(limit, self.fetch_any(others, &mut last)).await;
        let Ok(Ok(map)) = asked else { return };
        for shard in map.shards.into_iter().filter(|one| shards.contains(&one.id)) {
            if let Some(heir) = shard.leader.filter(|heir| heir != was) {
                self.set_leader(shard.id, was, Some(&heir));
            }
        }
    }

    async fn fetch(&self, address: String) -> Result<ShardMap> {
        let limit = self.options.connect_timeout + Duration::from_secs(1);
        let mut admin = self.nodes.at(&address)?.admin();
        match tokio::time::timeout(limit, admin.shard_map(ShardMapRequest {})).await {
            Ok(Ok(response)) => ShardMap::from_wire(response.into_inner(), &address),
            Ok(Err(status)) if status.metadata().contains_key(KIND_METADATA) => Err(error_from_status(&status)),
            Ok(Err(status)) => {
                Err(Error::new(ErrorKind::Unavailable, format!("{address} cannot be reached: {}", status.message())))
            }
            Err(elapsed) => {
                Err(Error::new(ErrorKind::Unavailable, format!("{address} does not answer")).with_source(elapsed))
            }
        }
    }

    /// Puts `fetched` in place unless a later version is known. Of the same version, leaders that have not failed are
    /// kept: the node that was asked may be the one that knows least.
    fn install(&self, mut fetched: ShardMap) -> Arc<ShardMap> {
        let mut map = self.map.write().unwrap_or_else(PoisonError::into_inner);
        match map.as_ref() {
            Some(known) if known.cluster == fetched.cluster && known.version > fetched.version => Arc::clone(known),
            Some(known) if known.cluster == fetched.cluster && known.version == fetched.version => {
                for shard in &mut fetched.shards {
                    let before = known.shards.iter().find(|one| one.id == shard.id);
                    if let Some(leader) = before.and_then(|one| one.leader.as_ref()) {
                        shard.leader = Some(leader.clone());
                    }
                }
                Arc::clone(map.insert(Arc::new(fetched)))
            }
            _ => Arc::clone(map.insert(Arc::new(fetched))),
        }
    }

    /// Where to send the next attempt, after `failed` ones.
    ///
    /// What only the leader serves goes to it, and to one replica after the other while it is not known. What any
    /// replica may serve goes to a near one ([`ClientOptions::near`]), or, where none is, to one at random, so that
    /// many clients spread over all; when that fails, to the leader, which can serve it for certain; and then to any
    /// again.
    pub(crate) fn address_of(&self, shard: &Shard, any_replica: bool, failed: usize) -> Result<String> {
        if let Some(leader) = &shard.leader
            && (!any_replica || failed == 1)
        {
            return Ok(leader.clone());
        }
        let near = |address: &&String| any_replica && failed == 0 && self.options.near.contains(address);
        let mut choice: Vec<&String> = shard.replicas.iter().filter(near).collect();
        if choice.is_empty() {
            choice = shard.replicas.iter().collect();
        }
        let turn = (self.pick(choice.len()) + failed) % choice.len().max(1);
        let address = choice.get(turn).map(|address| (*address).clone());
        address.ok_or_else(|| Error::new(ErrorKind::Unavailable, format!("shard {} has no replica", shard.id)))
    }

    fn pick(&self, count: usize) -> usize {
        let count = u64::try_from(count).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.options.random.next_u64() % count).unwrap_or(0)
    }

    /// Learns from a failed attempt at `address`, and says what the next one should wait for.
    pub(crate) fn learn(&self, shard: ShardId, address: &str, fault: &Fault) -> Lesson {
        match (fault, fault.error().kind(), fault.error().leader()) {
            (Fault::Refused(_), ErrorKind::NotLeader, Some(leader)) if leader != address => {
                self.set_leader(shard, address, Some(leader));
                Lesson::GoOn
            }
            // It is the leader that says so, or was when it last heard of the others.
            (Fault::Refused(_), ErrorKind::NoQuorum, _) => Lesson::AskOthers,
            (Fault::Refused(_), ErrorKind::ResourceExhausted, _) => Lesson::GoOn,
            _ => {
                self.set_leader(shard, address, None);
                Lesson::FetchMap
            }
        }
    }

    /// Replaces the leader of a shard, if it is still thought to be at `was` or nowhere.
    fn set_leader(&self, shard: ShardId, was: &str, leader: Option<&str>) {
        let mut map = self.map.write().unwrap_or_else(PoisonError::into_inner);
        let Some(known) = map.as_mut() else { return };
        let current = known.shards.iter().find(|one| one.id == shard);
        let believed = current.is_some_and(|one| one.leader.as_deref().is_none_or(|leader| leader == was));
        if !believed {
            return;
        }
        if let Some(one) = Arc::make_mut(known).shards.iter_mut().find(|one| one.id == shard) {
            one.leader = leader.map(str::to_owned);
        }
    }
}
