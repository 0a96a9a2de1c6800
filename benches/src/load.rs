//! The load: clients in a closed loop over random keys.

use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use hdrhistogram::Histogram;
use keevo_core::{
    Batch, Clock, Consistency, Engine, Error, ErrorKind, KeyspaceKind, Random, Result, SeededRandom, SystemClock,
};

/// How many different keys are written and read.
const KEYS: u64 = 10_000;

/// What a client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Case {
    /// A durable put of one value.
    Put,
    /// A linearizable get of one value.
    Get,
}

/// One run.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    pub(crate) case: Case,
    pub(crate) clients: u32,
    pub(crate) value_bytes: usize,
    pub(crate) warm_up: Duration,
    pub(crate) measure: Duration,
}

/// What a run gave.
#[derive(Debug)]
pub(crate) struct Measured {
    /// Latencies in microseconds.
    pub(crate) latency_us: Histogram<u64>,
    /// How long it was measured.
    pub(crate) elapsed: Duration,
    /// Requests that failed.
    pub(crate) failed: u64,
}

fn histogram() -> Result<Histogram<u64>> {
    Histogram::new_with_bounds(1, 60_000_000, 3)
        .map_err(|error| Error::invalid("the histogram's bounds do not fit").with_source(error))
}

/// Drives the engine and measures it.
pub(crate) async fn drive<E: Engine>(engine: &E, load: &Load) -> Result<Measured> {
    let keyspace = engine.keyspace("bench", KeyspaceKind::Hashed).await?;
    if load.case == Case::Get {
        for number in 0..KEYS / 10 {
            let key = keyspace.key(format!("k{number}"), "v");
            engine.write(Batch::new().put(key, vec![b'x'; load.value_bytes])).await?;
        }
    }
    let clock = Arc::new(SystemClock::new());
    let start = clock.monotonic() + load.warm_up;
    let end = start + load.measure;
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..load.clients {
        let (engine, load, clock) = (engine.clone(), load.clone(), Arc::clone(&clock));
        clients.spawn(async move {
            let random = SeededRandom::new(u64::from(number) + 1);
            let mut latency_us = histogram()?;
            let mut failed = 0;
            loop {
                let began = clock.monotonic();
                if began >= end {
                    return Ok::<_, Error>((latency_us, failed));
                }
                let range = if load.case == Case::Get { KEYS / 10 } else { KEYS };
                let key = keyspace.key(format!("k{}", random.next_u64() % range), "v");
                let done = match load.case {
                    Case::Put => engine.write(Batch::new().put(key, vec![b'x'; load.value_bytes])).await.map(drop),
                    Case::Get => engine.get(key, Consistency::Linearizable).await.map(drop),
                };
                if began >= start {
                    match done {
                        Ok(()) => {
                            let micros = clock.monotonic().saturating_sub(began).as_micros();
                            latency_us.saturating_record(u64::try_from(micros).unwrap_or(u64::MAX));
                        }
                        Err(_error) => failed += 1,
                    }
                }
            }
        });
    }
    let mut all = Measured { latency_us: histogram()?, elapsed: load.measure, failed: 0 };
    while let Some(client) = clients.join_next().await {
        let (latency_us, failed) =
            client.map_err(|error| Error::new(ErrorKind::Closed, "a client ended badly").with_source(error))??;
        all.failed += failed;
        all.latency_us
            .add(&latency_us)
            .map_err(|error| Error::invalid("the clients' histograms do not add up").with_source(error))?;
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_run_counts_what_the_clients_did() {
        let engine = keevo_core::MemoryEngine::new();
        for case in [Case::Put, Case::Get] {
            let load = Load {
                case,
                clients: 4,
                value_bytes: 16,
                warm_up: Duration::from_millis(10),
                measure: Duration::from_millis(200),
            };
            let measured = drive(&engine, &load).await.expect("a run");
            assert!(measured.latency_us.len() > 100, "{case:?}: {}", measured.latency_us.len());
            assert_eq!(measured.failed, 0);
        }
    }
}
