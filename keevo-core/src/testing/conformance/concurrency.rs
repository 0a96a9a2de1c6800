//! Cases: what holds when many write at once.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Barrier;

use super::Factory;
use super::bench::Bench;
use crate::batch::{Batch, Check};
use crate::clock::{Random, SeededRandom};
use crate::engine::Engine;
use crate::error::{ErrorKind, Result};
use crate::key::{Key, Keyspace};
use crate::read::Consistency;
use crate::record::Record;
use crate::scan::Scan;

const WRITERS: u64 = 8;

fn number(record: &Record) -> i64 {
    i64::from_be_bytes(record.value.as_ref().try_into().expect("an integer has 8 bytes"))
}

fn bytes(number: i64) -> Bytes {
    Bytes::copy_from_slice(&number.to_be_bytes())
}

/// Adds one by reading and comparing the revision, until it succeeds; the number written. Between the read and the
/// write of the first attempt it waits at `met`, if one is given: then nobody writes before all have read.
async fn cas_increment(engine: &impl Engine, key: &Key, mut met: Option<&Barrier>) -> i64 {
    loop {
        let found = engine.get(key.clone(), Consistency::Linearizable).await.expect("a get is answered");
        let check = found.as_ref().map_or(Check::Absent, |record| Check::RevisionIs(record.revision));
        let next = found.as_ref().map_or(0, number) + 1;
        // Leave room for another writer between the read and the write.
        match met.take() {
            Some(met) => {
                met.wait().await;
            }
            None => tokio::task::yield_now().await,
        }
        match engine.write(Batch::new().put(key.clone(), bytes(next)).require(key.clone(), check)).await {
            Ok(_) => return next,
            Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error}"),
        }
    }
}

pub(super) async fn compare_and_set_loses_no_increment<F: Factory>(bench: Bench<'_, F>) {
    const INCREMENTS: i64 = 12;
    let key = bench.keyspace().await.key("p", "n");
    let met = Arc::new(Barrier::new(usize::try_from(WRITERS).expect("it is small")));
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..WRITERS {
        let (engine, key, met) = (bench.engine.clone(), key.clone(), Arc::clone(&met));
        writers.spawn(async move {
            let mut seen = Vec::new();
            for at in 0..INCREMENTS {
                seen.push(cas_increment(&engine, &key, (at == 0).then_some(&met)).await);
            }
            seen
        });
    }
    let mut all: Vec<i64> = writers.join_all().await.into_iter().flatten().collect();
    all.sort_unstable();
    let total = i64::try_from(WRITERS).expect("it is small") * INCREMENTS;
    assert_eq!(all, (1..=total).collect::<Vec<_>>(), "each number was written by exactly one writer");
    assert_eq!(bench.integer(&key).await, Some(total));
}

pub(super) async fn merges_lose_no_increment<F: Factory>(bench: Bench<'_, F>) {
    let key = bench.keyspace().await.key("p", "n");
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let (engine, key) = (bench.engine.clone(), key.clone());
        writers.spawn(async move {
            for _ in 0..20 {
                let delta = i64::try_from(writer).expect("it is small");
                engine.write(Batch::new().merge(key.clone(), delta)).await.expect("a merge is applied");
            }
        });
    }
    writers.join_all().await;
    let sum = i64::try_from((0..WRITERS).sum::<u64>()).expect("it is small");
    assert_eq!(bench.integer(&key).await, Some(20 * sum));
}

/// Moves an amount between two accounts of the bank's partition; `false` = somebody was faster.
async fn transfer(engine: &impl Engine, bank: Keyspace, from: u8, to: u8, amount: i64) -> Result<bool> {
    let (from, to) = (bank.key("bank", vec![from]), bank.key("bank", vec![to]));
    let found = engine.multi_get(vec![from.clone(), to.clone()], Consistency::Linearizable).await?;
    let [Some(source), Some(target)] = found.as_slice() else {
        panic!("an account is missing: {found:?}");
    };
    tokio::task::yield_now().await;
    let batch = Batch::new()
        .require(from.clone(), Check::RevisionIs(source.revision))
        .require(to.clone(), Check::RevisionIs(target.revision))
        .put(from, bytes(number(source) - amount))
        .put(to, bytes(number(target) + amount));
    match engine.write(batch).await {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::Conflict => Ok(false),
        Err(error) => Err(error),
    }
}

pub(super) async fn transfers_keep_the_sum<F: Factory>(bench: Bench<'_, F>) {
    const ACCOUNTS: u8 = 6;
    const SUM: i64 = 600;
    let bank = bench.keyspace().await;
    bench.write((0..ACCOUNTS).fold(Batch::new(), |batch, at| batch.put(bank.key("bank", vec![at]), bytes(100)))).await;
    let mut writers = tokio::task::JoinSet::new();
    for seed in 0..WRITERS {
        let engine = bench.engine.clone();
        writers.spawn(async move {
            let random = SeededRandom::new(seed);
            let mut done = 0_u32;
            while done < 10 {
                let pick =
                    |random: &SeededRandom| u8::try_from(random.next_u64() % u64::from(ACCOUNTS)).expect("small");
                let (from, to) = (pick(&random), pick(&random));
                let amount = i64::try_from(random.next_u64() % 50).expect("it is small");
                if from != to && transfer(&engine, bank, from, to, amount).await.expect("a transfer is answered") {
                    done += 1;
                }
            }
        });
    }
    while !writers.is_empty() {
        let page = bench.engine.scan(Scan::partition(bank, "bank", 100)).await.expect("a page is answered");
        let sum: i64 = page.records.iter().map(|(_, record)| number(record)).sum();
        assert_eq!((page.records.len(), sum), (usize::from(ACCOUNTS), SUM), "a scan saw half of a transfer");
        while let Some(writer) = writers.try_join_next() {
            writer.expect("the writer did not fail");
        }
        tokio::task::yield_now().await;
    }
}

pub(super) async fn a_write_is_seen_by_whoever_reads_later<F: Factory>(bench: Bench<'_, F>) {
    let keyspace = bench.keyspace().await;
    let (newest_tx, newest_rx) = tokio::sync::watch::channel(0_i64);
    let key = keyspace.key("p", "n");
    let (engine, reading) = (bench.engine.clone(), key.clone());
    let reader = tokio::spawn(async move {
        let mut reads = 0_u32;
        loop {
            let written = *newest_rx.borrow();
            let found = engine.get(reading.clone(), Consistency::Linearizable).await.expect("a get is answered");
            let seen = found.as_ref().map_or(0, number);
            assert!(seen >= written, "{written} was answered before the read, which saw {seen}");
            reads += 1;
            if written == 100 {
                return reads;
            }
            tokio::task::yield_now().await;
        }
    });
    for at in 1..=100 {
        bench.put(&key, bytes(at)).await;
        newest_tx.send_replace(at);
    }
    assert!(reader.await.expect("the reader did not fail") > 0);
}
