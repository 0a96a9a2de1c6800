//! Counters that are raised by one under request ids of the caller's own, until each request is answered.
//!
//! One client raises one counter, so every answer must be the one before plus one, whatever was sent twice on the way.

use std::sync::Arc;

use keevo_core::{
    Batch, ClientId, Consistency, Engine, Error, Key, Keyspace, Random, RequestId, Result, SeededRandom, Written,
};

use super::{Client as Remote, Shared, number, patiently};

/// Clients, each with a counter of its own.
pub(crate) const CLIENTS: usize = 2;

/// One client.
#[derive(Debug)]
pub(crate) struct Client {
    shared: Arc<Shared>,
    engine: Remote,
    ledger: Ledger,
}

/// What a client knows of its counter.
#[derive(Debug)]
pub(crate) struct Ledger {
    key: Key,
    client: ClientId,
    /// Requests answered; the next one may have been sent already.
    answered: u64,
    sent: u64,
}

impl Ledger {
    fn request(&self, sequence: u64) -> Batch {
        let request = RequestId { client: self.client, sequence, acked_below: sequence };
        Batch::new().merge(self.key.clone(), 1).with_request(request)
    }
}

impl Client {
    pub(crate) async fn open(
        shared: &Arc<Shared>,
        engine: Remote,
        keyspace: Keyspace,
        name: &str,
        number: usize,
        seed: u64,
    ) -> Result<Self> {
        let client = ClientId(SeededRandom::new(seed.rotate_left(16) ^ number as u64).next_u128());
        patiently(|| engine.open_session(client)).await?;
        let key = keyspace.key(format!("{name}-counter-{number}"), "count");
        Ok(Self { shared: Arc::clone(shared), engine, ledger: Ledger { key, client, answered: 0, sent: 0 } })
    }

    pub(crate) async fn run(mut self) -> Ledger {
        while self.shared.goes_on() {
            self.ledger.sent = self.ledger.answered + 1;
            let written = self.engine.write(self.ledger.request(self.ledger.sent)).await;
            let verdict = self.shared.judge("a count", written);
            let failed = verdict.is_err();
            if let Ok(written) = verdict {
                self.ledger.answered = self.ledger.sent;
                judge_answer(&self.shared, &self.ledger, &written);
            }
            self.shared.pause(failed).await;
        }
        self.ledger
    }
}

fn judge_answer(shared: &Shared, ledger: &Ledger, written: &Written) {
    if written.assigned != [ledger.answered.cast_signed()] {
        let (is, should) = (&written.assigned, ledger.answered);
        shared.complain(format!("the counter {:?} answered {is:?} to request {should}", ledger.key.partition));
    }
}

/// Sends what is in doubt once more, and counts.
pub(crate) async fn check(shared: &Shared, engine: &Remote, mut ledger: Ledger) -> Result<()> {
    if ledger.sent > ledger.answered {
        let written = patiently(|| engine.write(ledger.request(ledger.sent))).await?;
        ledger.answered = ledger.sent;
        judge_answer(shared, &ledger, &written);
    }
    let record = patiently(|| engine.get(ledger.key.clone(), Consistency::Linearizable)).await?;
    let count = record.map_or(Ok(0), |record| number(&record.value))?;
    if count != ledger.answered {
        let message = format!("the counter {:?} is {count} after {} requests", ledger.key.partition, ledger.answered);
        return Err(Error::corrupt(message));
    }
    Ok(())
}
