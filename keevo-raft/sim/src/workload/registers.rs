//! Registers: clients read, write and compare-and-set a few keys; the history must be linearizable.

use std::time::Duration;

use bytes::Bytes;
use keevo_core::{Batch, Check, Consistency, Engine, Error, ErrorKind, Key, KeyspaceKind, Result};

use super::{join_all, until_ok};
use crate::engine::SimEngine;
use crate::history::{Act, History, Operation};
use crate::invariant::lease_safety;
use crate::sim::{Sim, Violation};

const REGISTERS: u64 = 3;
const CLIENTS: u64 = 4;
/// The most operations on one register: the search for an order stays quick.
const OPERATIONS_MAX: u64 = 450;

/// Runs until the faults are over, and a little longer.
pub(crate) async fn run(sim: Sim) -> std::result::Result<(), Violation> {
    let keyspace = until_ok(&sim, || async { sim.engine().keyspace("registers", KeyspaceKind::Hashed).await }).await?;
    let registers: Vec<(Key, History)> =
        (0..REGISTERS).map(|n| (keyspace.key(format!("r{n}"), "value"), History::default())).collect();
    let clients = (1..=CLIENTS).map(|client| {
        let (sim, registers) = (sim.clone(), registers.clone());
        async move {
            let mut number = 0;
            let mut after_calm = 0;
            while after_calm < 10 && number < OPERATIONS_MAX * REGISTERS / CLIENTS {
                after_calm += u64::from(sim.is_calm());
                number += 1;
                if let Some((key, history)) = sim.dice().pick(&registers) {
                    operate(&sim, client, client << 32 | number, key, history).await;
                }
                sim.sleep(Duration::from_millis(sim.dice().between(2, 120))).await;
            }
        }
    });
    join_all(clients).await;
    sim.calm().await;
    for (key, history) in &registers {
        operate(&sim, 0, 0, key, history).await;
        let operations = history.operations();
        lease_safety::judge(&key.partition.escape_ascii().to_string(), &operations)?;
        sim.checked("lease safety", u64::try_from(operations.len()).unwrap_or(u64::MAX));
    }
    Ok(())
}

/// One operation, noted with what came of it.
async fn operate(sim: &Sim, client: u64, number: u64, key: &Key, history: &History) {
    let engine = sim.engine();
    let began_ms = sim.now_ms();
    let choice = if number == 0 { 0 } else { sim.dice().below(10) };
    let (act, outcome) = match choice {
        0..5 => {
            let consistency = if choice == 4 { Consistency::Follower } else { Consistency::Linearizable };
            match read(&engine, key, consistency).await {
                Ok(value) => (Act::Read(value), Ok(())),
                // Says nothing about the register.
                Err(error) => return note(sim, client, "read", &Err(error)),
            }
        }
        5..8 => (Act::Write(number), write(&engine, Batch::new().put(key.clone(), encode(number))).await),
        _ => {
            let Ok(Some(from)) = read(&engine, key, Consistency::Stale { max_age_ms: 2_000 }).await else { return };
            let batch =
                Batch::new().put(key.clone(), encode(number)).require(key.clone(), Check::ValueIs(encode(from)));
            match write(&engine, batch).await {
                Err(error) if error.kind() == ErrorKind::Conflict => (Act::SwapRefused(from), Ok(())),
                outcome => (Act::Swap(from, number), outcome),
            }
        }
    };
    note(sim, client, "operation", &outcome);
    let ended_ms = match &outcome {
        Ok(()) => Some(sim.now_ms()),
        Err(error) if error.kind() == ErrorKind::OutcomeUnknown => None,
        // Certainly not applied: as if it had not been asked for.
        Err(_) => return,
    };
    sim.count("register");
    history.add(Operation { client, began_ms, ended_ms, act });
}

fn note(sim: &Sim, client: u64, what: &str, outcome: &Result<()>) {
    let told = outcome.as_ref().map_or_else(|error| format!("{:?}", error.kind()), |()| "ok".to_owned());
    sim.note(format_args!("client {client}: {what}: {told}"));
}

async fn write(engine: &SimEngine, batch: Batch) -> Result<()> {
    engine.write(batch).await.map(drop)
}

async fn read(engine: &SimEngine, key: &Key, consistency: Consistency) -> Result<Option<u64>> {
    let record = engine.get(key.clone(), consistency).await?;
    record.map(|record| decode(&record.value)).transpose()
}

fn encode(number: u64) -> Bytes {
    Bytes::copy_from_slice(&number.to_be_bytes())
}

fn decode(value: &Bytes) -> Result<u64> {
    <[u8; 8]>::try_from(value.as_ref())
        .map(u64::from_be_bytes)
        .map_err(|error| Error::corrupt("a register does not hold a number").with_source(error))
}
