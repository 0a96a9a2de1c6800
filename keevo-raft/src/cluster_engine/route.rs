//! Finding the leader of a shard and asking it, again and again until the deadline.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use keevo_core::trace;
use keevo_core::{Error, ErrorKind, Result, ShardId};
use tokio::time::Instant;

use super::ClusterEngine;
use crate::group::Group;
use crate::transport::{Peer, PeerCall, PeerHandler, PeerRequest, within};

/// The first pause between two tries.
const PAUSE_MIN: Duration = Duration::from_millis(10);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_millis(250);

/// Which node was last seen to lead each shard that has no replica here.
#[derive(Debug, Default)]
pub(super) struct Routes {
    leaders: Mutex<HashMap<ShardId, u64>>,
}

impl Routes {
    fn get(&self, shard: ShardId) -> Option<u64> {
        self.leaders.lock().unwrap_or_else(PoisonError::into_inner).get(&shard).copied()
    }

    fn set(&self, shard: ShardId, node: Option<u64>) {
        let mut leaders = self.leaders.lock().unwrap_or_else(PoisonError::into_inner);
        match node {
            Some(node) => drop(leaders.insert(shard, node)),
            None => drop(leaders.remove(&shard)),
        }
    }
}

/// Where a request goes.
pub(super) enum Place {
    Here(Arc<Group>),
    There(Peer),
}

/// Whether the tries of a call may leave something behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// They read.
    None,
    /// They write, and an unanswered one may have been applied.
    Changes,
}

/// What stays the same over the tries of one call.
pub(crate) struct Attempt {
    /// How much time it has.
    pub(crate) left: Duration,
    /// Counts from 0.
    pub(crate) number: u32,
}

impl ClusterEngine {
    /// Where the leader of the shard is thought to be; `number` turns to another replica with every try.
    pub(super) fn leader_of(&self, shard: ShardId, number: u32) -> Result<Place> {
        let inner = &self.node.inner;
        let group = inner.group(shard);
        if let Some(group) = &group
            && group.is_leader()
        {
            return Ok(Place::Here(Arc::clone(group)));
        }
        let map = inner.map_or_wait()?;
        let peer =
            |node_id: u64| map.nodes.get(&node_id).map(|info| Peer { node_id: info.id, address: info.address.clone() });
        let known = group.and_then(|group| group.leader_node()).map(|node| node.node_id);
        let hint = known.or_else(|| self.shared.routes.get(shard)).filter(|&node| node != inner.options.node_id);
        if let Some(peer) = hint.and_then(peer) {
            return Ok(Place::There(peer));
        }
        let replicas = map.shard(shard).map(|shard| shard.replicas.as_slice()).unwrap_or_default();
        let others: Vec<u64> =
            replicas.iter().map(|replica| replica.node_id).filter(|&id| id != inner.options.node_id).collect();
        usize::try_from(number)
            .ok()
            .and_then(|number| others.get(number % others.len().max(1)).copied())
            .and_then(peer)
            .map(Place::There)
            .ok_or_else(|| {
                Error::new(ErrorKind::NoQuorum, format!("shard {shard} has no leader that this node knows of"))
            })
    }

    /// Sends one request to a peer, which need not lead the shard.
    pub(super) async fn send(
        &self,
        peer: &Peer,
        call: PeerCall,
        shard: ShardId,
        body: Bytes,
        timeout: Duration,
    ) -> Result<Bytes> {
        let inner = &self.node.inner;
        let request = PeerRequest { call, cluster: inner.identity().cluster, shard, replica: 0, body };
        inner.parts.transport.call(peer, request, timeout).await
    }

    /// Sends one request to a peer on behalf of a client, and learns who leads the shard.
    pub(crate) async fn ask(
        &self,
        peer: &Peer,
        call: PeerCall,
        shard: ShardId,
        body: Bytes,
        timeout: Duration,
    ) -> Result<Bytes> {
        let began = Instant::now();
        let answer = self.send(peer, call, shard, body, timeout).await;
        if let Some(trace) = trace::current() {
            trace.part("leader", Some(shard), began, Instant::now());
        }
        match &answer {
            Ok(_) => self.shared.routes.set(shard, Some(peer.node_id)),
            Err(error) => {
                let map = self.node.inner.map();
                let hinted = error.leader().and_then(|address| {
                    map.as_ref()?.nodes.values().find(|info| info.address == address).map(|info| info.id)
                });
                self.shared.routes.set(shard, hinted);
            }
        }
        answer
    }

    /// Sends a request to the shard's leader, over the network or, if it is here, straight to its handler.
    pub(crate) async fn ask_leader(
        &self,
        shard: ShardId,
        call: PeerCall,
        body: Bytes,
        attempt: Attempt,
    ) -> Result<Bytes> {
        match self.leader_of(shard, attempt.number)? {
            Place::Here(_) => {
                let cluster = self.node.inner.identity().cluster;
                let request = PeerRequest { call, cluster, shard, replica: 0, body };
                within(attempt.left, "the shard's leader", self.node.handle(request)).await
            }
            Place::There(peer) => self.ask(&peer, call, shard, body, attempt.left).await,
        }
    }

    /// Calls `attempt` until it gives something else than "not here, not now", or the deadline passes. Repeating it
    /// must be harmless. After an attempt to change something whose outcome is unknown every error but a `Conflict`,
    /// which the shard repeats, is `OutcomeUnknown`: no later "not applied" speaks for the attempt before it.
    pub(crate) async fn until_deadline<T, F>(&self, effect: Effect, attempt: impl Fn(Attempt) -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let mut doubt = None;
        let all = self.deadline;
        self.try_until_deadline(effect, all, attempt, &mut doubt).await.map_err(|error| in_doubt(error, doubt))
    }

    /// As [`Self::until_deadline`], for calls that another node may answer: an attempt gets no more time than the
    /// group needs to elect a new leader, so that one that hangs does not hold a call for its whole deadline.
    pub(super) async fn until_answered<T, F>(&self, effect: Effect, attempt: impl Fn(Attempt) -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let mut doubt = None;
        self.try_until_deadline(effect, self.attempt_limit(), attempt, &mut doubt)
            .await
            .map_err(|error| in_doubt(error, doubt))
    }

    /// How long an attempt that another node may answer gets.
    pub(super) fn attempt_limit(&self) -> Duration {
        Duration::from_millis(self.node.inner.options.timing.election_ms_max.saturating_mul(2))
    }

    async fn try_until_deadline<T, F>(
        &self,
        effect: Effect,
        longest: Duration,
        attempt: impl Fn(Attempt) -> F,
        doubt: &mut Option<Error>,
    ) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let end = Instant::now() + self.deadline;
        let mut pause = PAUSE_MIN;
        let mut number = 0;
        let mut no_quorum = None;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let error = match attempt(Attempt { left: left.min(longest), number }).await {
                Ok(value) => return Ok(value),
                // A read without an answer has changed nothing: it is late and no more.
                Err(error) if effect == Effect::None && error.kind() == ErrorKind::OutcomeUnknown => {
                    Error::new(ErrorKind::DeadlineExceeded, error.message().to_owned()).with_source(error)
                }
                Err(error) => error,
            };
            let unknown = matches!(error.kind(), ErrorKind::OutcomeUnknown | ErrorKind::DeadlineExceeded);
            let elsewhere = matches!(
                error.kind(),
                ErrorKind::NotLeader | ErrorKind::ShardMoved | ErrorKind::Unavailable | ErrorKind::NoQuorum
            );
            if unknown && effect == Effect::Changes {
                *doubt = Some(error.clone());
            }
            if !(unknown || elsewhere) || self.node.inner.is_closed() {
                return Err(error);
            }
            match error.kind() {
                ErrorKind::NoQuorum => no_quorum = Some(error.clone()),
                ErrorKind::NotLeader | ErrorKind::ShardMoved => no_quorum = None,
                _ => {}
            }
            let left = end.saturating_duration_since(Instant::now());
            if left <= pause {
                return Err(given_up(error, no_quorum));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
            number += 1;
        }
    }
}

/// An error after an attempt whose outcome is unknown.
fn in_doubt(error: Error, doubt: Option<Error>) -> Error {
    match doubt {
        Some(doubt) if !matches!(error.kind(), ErrorKind::Conflict | ErrorKind::OutcomeUnknown) => Error::new(
            ErrorKind::OutcomeUnknown,
            format!("an attempt was not answered ({}), and then: {}", doubt.message(), error.message()),
        )
        .with_source(error),
        _ => error,
    }
}

/// What a caller is told when the tries ran out: who leads is no news to it, that nobody does is. A last try that only
/// ran out of time hides no missing quorum that one before it met with.
fn given_up(error: Error, no_quorum: Option<Error>) -> Error {
    match error.kind() {
        ErrorKind::DeadlineExceeded => match no_quorum {
            Some(told) => {
                let message = format!("{}; then {}", told.message(), error.message());
                Error::new(ErrorKind::NoQuorum, message).with_source(error)
            }
            None => error,
        },
        ErrorKind::NotLeader | ErrorKind::ShardMoved | ErrorKind::Unavailable => {
            Error::new(ErrorKind::NoQuorum, format!("no leader was found in time: {}", error.message()))
        }
        _ => error,
    }
}
