//! Who does what one node at a time is to do: a row that runs out unless it is renewed.

use std::time::Duration;

use keevo_core::{Batch, Check, Engine, ErrorKind, Key, Result};

use crate::verdicts::{Verdicts, pipeline_key};

/// A node's claim to a piece of work.
pub(crate) struct Lease<E> {
    verdicts: Verdicts<E>,
    key: Key,
    holder: Vec<u8>,
    ttl_ms: u64,
}

impl<E: Engine> Lease<E> {
    pub(crate) fn new(verdicts: &Verdicts<E>, name: &str, instance: u64, lease: Duration) -> Self {
        let key = pipeline_key(verdicts.keyspace, name);
        let ttl_ms = u64::try_from(lease.as_millis()).unwrap_or(u64::MAX).max(1);
        Self { verdicts: verdicts.clone(), key, holder: instance.to_be_bytes().to_vec(), ttl_ms }
    }

    /// Takes or renews the lease; false where another node has it.
    pub(crate) async fn take(&self) -> Result<bool> {
        let check = match self.verdicts.get(self.key.clone()).await? {
            None => Check::Absent,
            Some(record) if record.value == self.holder => Check::RevisionIs(record.revision),
            Some(_) => return Ok(false),
        };
        let batch =
            Batch::new().require(self.key.clone(), check).put_ttl(self.key.clone(), self.holder.clone(), self.ttl_ms);
        match self.verdicts.engine.write(batch).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Renews the lease until it is lost.
    pub(crate) async fn hold(&self) {
        loop {
            tokio::time::sleep(Duration::from_millis(self.ttl_ms) / 3).await;
            match self.take().await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => tracing::debug!(%error, "a lease could not be renewed"),
            }
        }
    }

    /// Lets another node have it at once.
    pub(crate) async fn give_back(&self) -> Result<()> {
        let mine = Check::ValueIs(self.holder.clone().into());
        let batch = Batch::new().require(self.key.clone(), mine).delete(self.key.clone());
        match self.verdicts.engine.write(batch).await {
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(()),
            written => written.map(drop),
        }
    }
}
