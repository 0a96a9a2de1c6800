//! The load against an engine in memory, and against targets that misbehave.

use std::sync::{Arc, Mutex};

use keevo_core::MemoryEngine;

use super::*;
use crate::target::Keevo;

fn load(case: Case, round: u32) -> Load {
    let (warm_up, measure) = (Duration::from_millis(10), Duration::from_millis(200));
    Load { case, clients: 4, keys: 1_000, value_bytes: 16, warm_up, measure, round, open_per_s: None }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_counts_what_the_clients_did() {
    let target = Keevo::open(MemoryEngine::new()).await.expect("a keyspace");
    preload(&target, 0..1_000, 16).await.expect("every key");
    for case in [Case::Put, Case::Get] {
        let measured = drive(&target, &load(case, 0), &[std::process::id()]).await.expect("a run");
        assert!(measured.tally.ops > 100, "{case:?}: {}", measured.tally.ops);
        assert!(measured.tally.latency_us.len() >= measured.tally.ops);
        assert_eq!((measured.tally.failed, measured.elapsed), (0, Duration::from_millis(200)));
        assert!(measured.usage.rss_bytes_max > 1 << 20, "{:?}", measured.usage);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_not_there_or_too_short_is_a_failure() {
    let target = Keevo::open(MemoryEngine::new()).await.expect("a keyspace");
    let empty = drive(&target, &load(Case::Get, 0), &[]).await.expect("a run").tally;
    assert!(empty.ops == 0 && empty.failed > 0, "{empty:?}");
    assert_eq!(empty.first_failure.map(|error| error.kind()), Some(ErrorKind::NotFound));
    preload(&target, 0..1_000, 15).await.expect("every key");
    let short = drive(&target, &load(Case::Get, 0), &[]).await.expect("a run").tally;
    assert!(short.ops == 0 && short.failed > 0, "{short:?}");
    assert_eq!(short.first_failure.map(|error| error.kind()), Some(ErrorKind::Corrupt));
}

/// Notes what it is asked.
#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<Vec<(Bytes, Bytes)>>>);

impl Target for Recorder {
    async fn put(&self, key: Bytes, value: Bytes) -> Result<()> {
        self.0.lock().expect("unbroken").push((key, value));
        tokio::time::sleep(Duration::from_millis(1)).await;
        Ok(())
    }

    async fn get(&self, _: Bytes) -> Result<Option<Bytes>> {
        Ok(None)
    }
}

#[tokio::test]
async fn two_targets_meet_the_same_keys_and_values_and_rounds_differ() {
    let mut seen = Vec::new();
    for round in [0, 0, 1] {
        let target = Recorder::default();
        let load = Load { clients: 1, ..load(Case::Put, round) };
        drive(&target, &load, &[]).await.expect("a run");
        let asked = target.0.lock().expect("unbroken").clone();
        assert!(asked.len() > 10 && asked.iter().all(|(_, value)| value.len() == 16), "{}", asked.len());
        seen.push(asked[..10].to_vec());
    }
    assert_eq!(seen[0], seen[1]);
    assert_ne!(seen[0], seen[2]);
    assert!(seen[0].iter().all(|(key, _)| key.len() == 9 && key.as_ref() < b"k00001000".as_slice()));
}

/// Answers one request at a time, each after 5 ms: 200 a second.
#[derive(Clone, Default)]
struct Slow(Arc<tokio::sync::Mutex<()>>);

impl Target for Slow {
    async fn put(&self, _: Bytes, _: Bytes) -> Result<()> {
        let _turn = self.0.lock().await;
        tokio::time::sleep(Duration::from_millis(5)).await;
        Ok(())
    }

    async fn get(&self, _: Bytes) -> Result<Option<Bytes>> {
        Ok(None)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_loop_tells_of_the_queue_that_a_closed_one_hides() {
    let closed = Load { clients: 1, ..load(Case::Put, 0) };
    let open = Load { open_per_s: Some(1_000), ..closed.clone() };
    let closed = drive(&Slow::default(), &closed, &[]).await.expect("a run").tally;
    let open = drive(&Slow::default(), &open, &[]).await.expect("a run").tally;
    // Both are answered every 5 ms or a little more, but the last of 210 requests was due a second before its answer.
    assert!(closed.latency_us.value_at_quantile(0.5) < 50_000, "{}", closed.latency_us.value_at_quantile(0.5));
    assert!(open.latency_us.max() > 500_000, "{}", open.latency_us.max());
    assert!(open.latency_us.len() > 150, "every request that was due was asked for: {}", open.latency_us.len());
}
