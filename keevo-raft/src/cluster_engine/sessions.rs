//! This engine's sessions: one in each shard, with the sequence of its requests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use keevo_core::{ClientId, Error, ErrorKind, RequestId, Result, ShardId, limits::SESSION_WINDOW};

#[derive(Debug)]
pub(super) struct Sessions {
    client: ClientId,
    shards: Mutex<BTreeMap<ShardId, ShardSession>>,
}

#[derive(Debug, Default)]
struct ShardSession {
    /// Open once the shard has acknowledged it.
    open: bool,
    /// Counts the sessions that were lost and opened anew; part of the client id.
    generation: u64,
    next: u64,
    under_way: BTreeSet<u64>,
    opening: Arc<tokio::sync::Mutex<()>>,
}

/// A request that is under way; when dropped it counts as answered.
#[derive(Debug)]
pub(super) struct Ticket<'a> {
    sessions: &'a Sessions,
    shard: ShardId,
    generation: u64,
    pub(super) request: RequestId,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        if let Some(session) = self.sessions.lock().get_mut(&self.shard)
            && session.generation == self.generation
        {
            session.under_way.remove(&self.request.sequence);
        }
    }
}

impl Sessions {
    pub(super) fn new(client: ClientId) -> Self {
        Self { client, shards: Mutex::new(BTreeMap::new()) }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ShardId, ShardSession>> {
        self.shards.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn client_of(&self, generation: u64) -> ClientId {
        ClientId(self.client.0.wrapping_add(u128::from(generation)))
    }

    /// A new request in the shard, once its session is open; `open` asks the shard to open it.
    pub(super) async fn begin<F>(&self, shard: ShardId, open: impl FnOnce(ClientId) -> F) -> Result<Ticket<'_>>
    where
        F: Future<Output = Result<()>>,
    {
        let (opening, generation) = {
            let mut shards = self.lock();
            let session = shards.entry(shard).or_default();
            if session.open {
                return self.ticket(session, shard);
            }
            (Arc::clone(&session.opening), session.generation)
        };
        let _one_at_a_time = opening.lock().await;
        let is_open = self.lock().get(&shard).is_some_and(|session| session.open);
        if !is_open {
            open(self.client_of(generation)).await?;
        }
        let mut shards = self.lock();
        let session = shards.entry(shard).or_default();
        session.open = true;
        self.ticket(session, shard)
    }

    fn ticket(&self, session: &mut ShardSession, shard: ShardId) -> Result<Ticket<'_>> {
        let acked_below = session.under_way.first().copied().unwrap_or(session.next);
        if session.next - acked_below >= SESSION_WINDOW {
            return Err(Error::new(
                ErrorKind::ResourceExhausted,
                format!("{SESSION_WINDOW} writes to shard {shard} are under way from here"),
            ));
        }
        let sequence = session.next;
        session.next += 1;
        session.under_way.insert(sequence);
        let request = RequestId { client: self.client_of(session.generation), sequence, acked_below };
        Ok(Ticket { sessions: self, shard, generation: session.generation, request })
    }

    /// The shard no longer knows the session: the next request opens a new one.
    pub(super) fn lost(&self, ticket: &Ticket<'_>) {
        if let Some(session) = self.lock().get_mut(&ticket.shard)
            && session.generation == ticket.generation
        {
            *session = ShardSession { generation: session.generation + 1, ..ShardSession::default() };
        }
    }
}
