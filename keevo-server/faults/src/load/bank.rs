//! A bank: money moves between the accounts of one partition, and none appears or vanishes.

use std::sync::Arc;

use keevo_core::{
    Batch, Check, Consistency, Engine, Error, ErrorKind, Key, Keyspace, Random, Record, Result, Scan, SeededRandom,
};

use super::{Client as Remote, Shared, below, number, patiently};

/// Two tellers move money, the third looks.
pub(crate) const CLIENTS: usize = 3;
const ACCOUNTS: u64 = 8;
const EACH: u64 = 1_000;

fn partition(name: &str) -> String {
    format!("{name}-bank")
}

fn account(keyspace: Keyspace, name: &str, number: u64) -> Key {
    keyspace.key(partition(name), format!("account-{number}"))
}

/// Opens the accounts.
pub(crate) async fn open(engine: &Remote, keyspace: Keyspace, name: &str) -> Result<()> {
    let batch = (0..ACCOUNTS)
        .fold(Batch::new(), |batch, number| batch.put(account(keyspace, name, number), EACH.to_be_bytes().to_vec()));
    patiently(|| engine.write(batch.clone())).await.map(drop)
}

/// Somebody who moves money or looks at all of it.
#[derive(Debug)]
pub(crate) struct Teller {
    shared: Arc<Shared>,
    engine: Remote,
    keyspace: Keyspace,
    name: String,
    number: usize,
    random: SeededRandom,
}

impl Teller {
    pub(crate) fn new(
        shared: &Arc<Shared>,
        engine: Remote,
        keyspace: Keyspace,
        name: &str,
        number: usize,
        seed: u64,
    ) -> Self {
        let random = SeededRandom::new(seed.rotate_left(8) ^ number as u64);
        Self { shared: Arc::clone(shared), engine, keyspace, name: name.to_owned(), number, random }
    }

    pub(crate) async fn run(self) {
        while self.shared.goes_on() {
            let failed = match self.number {
                0 => self.merge().await,
                1 => self.exchange().await,
                _ => self.look().await,
            };
            self.shared.pause(failed).await;
        }
    }

    fn two_accounts(&self) -> (Key, Key) {
        let from = below(&self.random, ACCOUNTS);
        let to = (from + 1 + below(&self.random, ACCOUNTS - 1)) % ACCOUNTS;
        (account(self.keyspace, &self.name, from), account(self.keyspace, &self.name, to))
    }

    /// Moves money by adding and taking away.
    async fn merge(&self) -> bool {
        let (from, to) = self.two_accounts();
        let batch = Batch::new().merge(from, -1).merge(to, 1);
        self.shared.judge("a transfer", self.engine.write(batch).await).is_err()
    }

    /// Moves money by reading both accounts and writing them if neither has changed.
    async fn exchange(&self) -> bool {
        let (from, to) = self.two_accounts();
        let read = self.engine.multi_get(vec![from.clone(), to.clone()], Consistency::Linearizable).await;
        let Ok(read) = self.shared.judge("a look at two accounts", read) else { return true };
        let [Some(left), Some(right)] = read.as_slice() else {
            self.shared.complain(format!("an account of {} is gone", self.name));
            return true;
        };
        let (Ok(has), Ok(gets)) = (number(&left.value), number(&right.value)) else { return true };
        let amount = (self.random.next_u64() % 5).min(has);
        let batch = Batch::new()
            .require(from.clone(), Check::RevisionIs(left.revision))
            .require(to.clone(), Check::RevisionIs(right.revision))
            .put(from, (has - amount).to_be_bytes().to_vec())
            .put(to, (gets + amount).to_be_bytes().to_vec());
        let written = match self.engine.write(batch).await {
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(()),
            written => written.map(drop),
        };
        self.shared.judge("an exchange", written).is_err()
    }

    /// Looks at all accounts, on the leader or on a follower.
    async fn look(&self) -> bool {
        let consistency =
            if self.random.next_u64() & 1 == 0 { Consistency::Linearizable } else { Consistency::Follower };
        let scan = Scan { consistency, ..Scan::partition(self.keyspace, partition(&self.name), 100) };
        let Ok(page) = self.shared.judge("a look at the bank", self.engine.scan(scan).await) else { return true };
        judge_sum(&self.shared, &self.name, &page.records);
        false
    }
}

fn judge_sum(shared: &Shared, name: &str, records: &[(Key, Record)]) {
    let sum = records.iter().map(|(_, record)| number(&record.value).map(u64::cast_signed)).sum::<Result<i64>>();
    let right = (ACCOUNTS * EACH).cast_signed();
    if sum.as_ref().ok() != Some(&right) {
        shared.complain(format!("the bank of {name} holds {sum:?}, not {right}"));
    }
}

/// Looks a last time.
pub(crate) async fn check(shared: &Shared, engine: &Remote, keyspace: Keyspace, name: &str) -> Result<()> {
    let page = patiently(|| engine.scan(Scan::partition(keyspace, partition(name), 100))).await?;
    if u64::try_from(page.records.len()) != Ok(ACCOUNTS) {
        return Err(Error::corrupt(format!("the bank of {name} has {} accounts", page.records.len())));
    }
    judge_sum(shared, name, &page.records);
    Ok(())
}
