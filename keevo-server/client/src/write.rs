//! Writes: applied once, however often they are sent.
//!
//! ```text
//!            ┌── refused for certain (Conflict, Invalid …) ───────────────▶ that error
//! attempt ───┼── answered ─────────────────────────────────────────────────▶ Written
//!            ├── certainly not applied (NotLeader, Unavailable …) ─┐
//!            └── no answer, or OutcomeUnknown: "in doubt" ─────────┴─ again, under the same request id
//! ```
//!
//! Invariant: once an attempt is in doubt, only an answer under the same request id ends the doubt: `Written` or
//! `Conflict`, which the server repeats. Everything else is `OutcomeUnknown`.

use std::sync::Arc;

use keevo_core::sessions::Ticket;
use keevo_core::{Batch, Error, ErrorKind, Result, Written};
use keevo_proto::kv::v1 as pb;

use crate::engine::{RemoteEngine, unexpected};
use crate::pipe::{Answer, Ask, Fault};
use crate::retry::{Retry, may_retry};
use crate::shard_map::Shard;

impl RemoteEngine {
    pub(crate) async fn remote_write(&self, batch: Batch) -> Result<Written> {
        batch.validate()?;
        let key = batch.partition_key().map(keevo_core::Key::encode).unwrap_or_default();
        let named_by_caller = batch.request.is_some();
        let mut call = Write {
            engine: self,
            key,
            named_by_caller,
            wire: batch.try_into()?,
            ticket: None,
            doubt: None,
            retry: self.retry(),
        };
        let result = call.run().await;
        result.map_err(|error| match (&call.doubt, error.kind()) {
            (None, _) | (Some(_), ErrorKind::Conflict | ErrorKind::OutcomeUnknown) => error,
            (Some(doubt), _) => Error::new(
                ErrorKind::OutcomeUnknown,
                format!("an attempt was not answered ({}), and then: {}", doubt.message(), error.message()),
            )
            .with_source(error),
        })
    }
}

/// One call of `write`.
struct Write<'a> {
    engine: &'a RemoteEngine,
    key: bytes::Bytes,
    wire: pb::Batch,
    /// The caller chose the request id and opened its session.
    named_by_caller: bool,
    ticket: Option<(keevo_core::ShardId, Ticket)>,
    /// Why an attempt may have been applied.
    doubt: Option<Error>,
    retry: Retry<'a>,
}

impl Write<'_> {
    async fn run(&mut self) -> Result<Written> {
        loop {
            let map = self.engine.map_by(&mut self.retry).await?;
            let fault = match map.locate(&self.key) {
                Err(error) => {
                    self.engine.refresh(&map).await;
                    Fault::NotSent(error)
                }
                Ok(shard) => {
                    match self.name_request(shard).await {
                        Ok(()) => {}
                        Err(error) if error.kind() == ErrorKind::ShardMoved => {
                            self.judge(Fault::NotSent(error)).await?;
                            continue;
                        }
                        Err(error) => return Err(error),
                    }
                    let ask =
                        |deadline_ms| Ask::Write(pb::WriteRequest { batch: Some(self.wire.clone()), deadline_ms });
                    match self.engine.attempt(&map, shard, false, &self.retry, ask).await {
                        None => return Err(self.retry.too_late()),
                        Some(Ok(Answer::Write(written))) => return Ok(written.into()),
                        Some(Ok(other)) => return Err(unexpected(&other)),
                        Some(Err(fault)) => fault,
                    }
                }
            };
            self.judge(fault).await?;
        }
    }

    /// Sees to it that the batch names its request on this shard. A request in doubt keeps its name: sessions move
    /// with their keys.
    async fn name_request(&mut self, shard: &Shard) -> Result<()> {
        if self.named_by_caller {
            return Ok(());
        }
        let named_here = self.ticket.as_ref().is_some_and(|(id, _)| *id == shard.id);
        if !named_here && self.doubt.is_none() {
            self.ticket = None;
            self.ticket = Some((shard.id, self.begin(shard).await?));
        }
        self.wire.request = self.ticket.as_ref().map(|(_, ticket)| ticket.request().into());
        Ok(())
    }

    /// A sequence of the shard's session, which is opened first if need be.
    async fn begin(&self, shard: &Shard) -> Result<Ticket> {
        let (inner, deadline) = (&self.engine.inner, self.retry.deadline());
        let session = inner.sessions.of(shard.id, inner.options.random.as_ref());
        let open = || self.engine.open_session_on(shard.id, shard.start.clone(), session.client, deadline);
        session.opened.get_or_try_init(open).await?;
        tokio::time::timeout_at(deadline, Arc::clone(&session).begin()).await.map_err(|elapsed| {
            Error::new(ErrorKind::ResourceExhausted, "too many writes to the shard wait for their answers")
                .with_source(elapsed)
        })
    }

    /// Decides whether a failed attempt is followed by another; waits if so.
    async fn judge(&mut self, fault: Fault) -> Result<()> {
        let error = fault.error().clone();
        match &fault {
            Fault::Refused(_) if error.is_session_not_open() => {
                let Some((shard, ticket)) = self.ticket.take() else { return Err(error) };
                self.engine.inner.sessions.forget(shard, &ticket.session);
                if self.doubt.is_some() {
                    return Err(error);
                }
            }
            Fault::Refused(_) if error.is_request_forgotten() => return Err(error),
            Fault::Refused(_) if error.kind() == ErrorKind::OutcomeUnknown => self.doubt = Some(error.clone()),
            Fault::Lost(_) => self.doubt = Some(error.clone()),
            _ if may_retry(&fault) => {}
            _ => return Err(error),
        }
        self.retry.pause(&error).await
    }
}
