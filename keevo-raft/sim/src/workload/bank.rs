//! A bank: transfers between the accounts of a partition, while others look at all accounts at once.

use std::time::Duration;

use bytes::Bytes;
use keevo_core::{Batch, Check, Engine, Error, Keyspace, KeyspaceKind, Result, Revision, Scan};

use super::{join_all, until_ok};
use crate::engine::SimEngine;
use crate::invariant::atomicity;
use crate::sim::{Sim, Violation};

const PARTITION: &str = "bank";
const CLIENTS: u64 = 3;

/// An account: its number, its balance, and when it changed last.
pub(crate) type Account = (u64, i64, Revision);

/// Runs until the faults are over, then looks once more.
pub(crate) async fn run(sim: Sim) -> std::result::Result<(), Violation> {
    let keyspace = until_ok(&sim, || async { sim.engine().keyspace("bank", KeyspaceKind::Hashed).await }).await?;
    until_ok(&sim, || open_accounts(&sim, keyspace)).await?;
    let clients = (0..CLIENTS).map(|_| {
        let sim = sim.clone();
        async move {
            while !sim.is_calm() {
                let engine = sim.engine();
                if let Ok(accounts) = look(&engine, keyspace).await {
                    if let Err(what) = atomicity::judge(&accounts) {
                        return sim.violate(what);
                    }
                    sim.checked("atomicity", 1);
                    let outcome = transfer(&sim, &engine, keyspace, &accounts).await;
                    sim.note(format_args!("a transfer: {:?}", outcome.err().map(|error| error.kind())));
                    sim.count("transfer");
                }
                sim.sleep(Duration::from_millis(sim.dice().between(2, 150))).await;
            }
        }
    });
    join_all(clients).await;
    sim.calm().await;
    let accounts = until_ok(&sim, || async { look(&sim.engine(), keyspace).await }).await?;
    atomicity::judge(&accounts)?;
    sim.checked("atomicity", 1);
    Ok(())
}

async fn open_accounts(sim: &Sim, keyspace: Keyspace) -> Result<()> {
    let engine = sim.engine();
    if !look(&engine, keyspace).await?.is_empty() {
        return Ok(());
    }
    let mut batch = Batch::new();
    for account in 0..atomicity::ACCOUNTS {
        let key = keyspace.key(PARTITION, account.to_be_bytes().to_vec());
        batch = batch.put(key.clone(), encode(atomicity::OPENING)).require(key, Check::Absent);
    }
    engine.write(batch).await.map(drop)
}

/// All accounts, in one read view.
async fn look(engine: &SimEngine, keyspace: Keyspace) -> Result<Vec<Account>> {
    let page = engine.scan(Scan::partition(keyspace, PARTITION, 100)).await?;
    let damaged = || Error::corrupt("an account is not a number");
    let account = |(key, record): &(keevo_core::Key, keevo_core::Record)| {
        let number = <[u8; 8]>::try_from(key.sort.as_ref()).map_err(|error| damaged().with_source(error))?;
        let balance = <[u8; 8]>::try_from(record.value.as_ref()).map_err(|error| damaged().with_source(error))?;
        Ok((u64::from_be_bytes(number), i64::from_be_bytes(balance), record.revision))
    };
    page.records.iter().map(account).collect()
}

/// Moves a little from one account to another, if neither has changed since they were looked at.
async fn transfer(sim: &Sim, engine: &SimEngine, keyspace: Keyspace, accounts: &[Account]) -> Result<()> {
    let (Some(from), Some(to)) = (sim.dice().pick(accounts), sim.dice().pick(accounts)) else { return Ok(()) };
    if from.0 == to.0 {
        return Ok(());
    }
    let amount = i64::try_from(sim.dice().between(1, 20)).unwrap_or(1);
    let mut batch = Batch::new();
    for ((number, balance, revision), change) in [(from, -amount), (to, amount)] {
        let key = keyspace.key(PARTITION, number.to_be_bytes().to_vec());
        batch = batch.put(key.clone(), encode(balance + change)).require(key, Check::RevisionIs(*revision));
    }
    engine.write(batch).await.map(drop)
}

fn encode(balance: i64) -> Bytes {
    Bytes::copy_from_slice(&balance.to_be_bytes())
}
