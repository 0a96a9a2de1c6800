//! Compare-and-set: read a record, decide what becomes of it, write that unless others were faster.
//!
//! Invariant: what is written was decided on the very state that it replaces. A conflict is never told to the
//! caller as one: it is decided again, and after many times the answer is `Unavailable`.

use keevo_core::{Batch, Check, Consistency, Engine, ErrorKind, Key, Record, Result};

use crate::feeds::{ATTEMPTS, Feeds, contended};

/// What was decided on a record.
pub(crate) enum Change<T> {
    /// Write this; the caller gets the answer.
    Write(Batch, T),
    /// Leave it as it is.
    Keep(T),
}

/// What must still hold of a record that was read so.
pub(crate) fn unchanged(record: Option<&Record>) -> Check {
    record.map_or(Check::Absent, |record| Check::RevisionIs(record.revision))
}

impl<E: Engine> Feeds<E> {
    /// Decides on the record under `key` and writes the decision, as often as others get in between.
    /// The batch need not demand that the record is unchanged: that is added.
    pub(crate) async fn change<T: Send>(
        &self,
        key: &Key,
        what: &str,
        decide: impl Fn(Option<&Record>) -> Result<Change<T>> + Send + Sync,
    ) -> Result<T> {
        for _ in 0..ATTEMPTS {
            let record = self.engine().get(key.clone(), Consistency::Linearizable).await?;
            let (batch, answer) = match decide(record.as_ref())? {
                Change::Keep(answer) => return Ok(answer),
                Change::Write(batch, answer) => (batch, answer),
            };
            match self.engine().write(batch.require(key.clone(), unchanged(record.as_ref()))).await {
                Ok(_) => return Ok(answer),
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        Err(contended(what))
    }
}
