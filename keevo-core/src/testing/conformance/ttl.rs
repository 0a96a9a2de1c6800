//! Cases: what has expired is absent for reads, scans, checks and merges alike.
//!
//! Expiry follows the shard's clock, which moves with writes, and with reads that meet something expired.

use bytes::Bytes;

use super::Factory;
use super::bench::Bench;
use crate::batch::{Batch, Check};
use crate::engine::Engine;
use crate::error::ErrorKind;
use crate::key::Key;
use crate::scan::Scan;

const SHORT_MS: u64 = 300;
const HOUR_MS: u64 = 3_600_000;

/// Writes until `key` has expired; it may not go before its time.
async fn expire<F: Factory>(bench: &Bench<'_, F>, key: &Key) {
    bench.poke_until(key, "it expires", async || bench.record(key).await.is_none()).await;
}

pub(super) async fn ttl_expires<F: Factory>(bench: Bench<'_, F>) {
    let keyspace = bench.keyspace().await;
    let (short, long, never) = (keyspace.key("p", "short"), keyspace.key("p", "long"), keyspace.key("p", "never"));
    let started = tokio::time::Instant::now();
    let batch =
        Batch::new().put_ttl(short.clone(), "1", SHORT_MS).put_ttl(long.clone(), "2", HOUR_MS).put(never.clone(), "3");
    bench.write(batch).await;
    let found = bench.record(&short).await;
    assert!(found.is_some() || started.elapsed().as_millis() >= SHORT_MS.into(), "it went before its time");
    expire(&bench, &short).await;
    assert!(started.elapsed().as_millis() + 20 >= SHORT_MS.into(), "it went after {:?}", started.elapsed());
    let long = bench.record(&long).await.expect("an hour has not passed");
    assert!(long.expires_at_ms.is_some());
    assert_eq!(bench.record(&never).await.expect("it never expires").expires_at_ms, None);
    let both = bench.engine.multi_get(vec![short.clone(), never], crate::Consistency::Linearizable).await;
    assert_eq!(both.expect("it is answered").iter().map(Option::is_some).collect::<Vec<_>>(), [false, true]);
    for scan in [Scan::partition(keyspace, "p", 1), Scan::partition(keyspace, "p", 1).backward()] {
        let sorts = bench.sorts(scan).await;
        assert!(!sorts.contains(&short.sort) && sorts.contains(&Bytes::from("long")), "{sorts:?}");
    }
}

/// Nothing is written after the record: reading alone shows that it is gone.
pub(super) async fn ttl_expires_at_rest<F: Factory>(bench: Bench<'_, F>) {
    let keyspace = bench.keyspace().await;
    let key = |name: &str| keyspace.key("idle", name.to_owned());
    for (name, way) in [("get", 0), ("multi", 1), ("scan", 2)] {
        bench.write(Batch::new().put_ttl(key(name), "1", SHORT_MS).put(key("stays"), "2")).await;
        let started = tokio::time::Instant::now();
        loop {
            let seen = match way {
                0 => bench.record(&key(name)).await.is_some(),
                1 => {
                    let keys = vec![key(name), key("stays")];
                    let found = bench.engine.multi_get(keys, crate::Consistency::Linearizable).await.expect("answered");
                    assert!(found.last().is_some_and(Option::is_some), "the other record stays");
                    found.first().is_some_and(Option::is_some)
                }
                _ => bench.sorts(Scan::partition(keyspace, "idle", 10)).await.contains(&Bytes::from(name)),
            };
            if !seen {
                break;
            }
            assert!(started.elapsed().as_secs() < 10, "{name}: what has expired is still read after 10 s");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        assert!(started.elapsed().as_millis() + 20 >= SHORT_MS.into(), "{name}: it went before its time");
    }
}

pub(super) async fn expired_is_absent_for_writes<F: Factory>(bench: Bench<'_, F>) {
    let keyspace = bench.keyspace().await;
    let (key, count) = (keyspace.key("p", "k"), keyspace.key("p", "n"));
    let five = Bytes::copy_from_slice(&5_i64.to_be_bytes());
    let batch = Batch::new().put_ttl(key.clone(), "1", SHORT_MS).put_ttl(count.clone(), five, SHORT_MS);
    let revision = bench.write(batch).await.revision;
    expire(&bench, &key).await;
    for check in [Check::Exists, Check::RevisionIs(revision), Check::ValueIs(Bytes::from("1"))] {
        let batch = Batch::new().put(keyspace.key("p", "x"), "1").require(key.clone(), check);
        assert_eq!(bench.refused(batch).await, ErrorKind::Conflict);
    }
    let merged = bench.write(Batch::new().merge(count.clone(), 1)).await;
    assert_eq!(merged.assigned, [1], "an expired integer counts as 0");
    assert_eq!(bench.record(&count).await.expect("just written").expires_at_ms, None, "and its expiry is gone");
    bench.write(Batch::new().put(key.clone(), "2").require(key.clone(), Check::Absent)).await;
    assert_eq!(bench.value(&key).await, Some(Bytes::from("2")));
}

pub(super) async fn put_replaces_an_expiry_and_merge_keeps_it<F: Factory>(bench: Bench<'_, F>) {
    let keyspace = bench.keyspace().await;
    let key = keyspace.key("p", "n");
    let seven = Bytes::copy_from_slice(&7_i64.to_be_bytes());
    bench.write(Batch::new().put_ttl(key.clone(), seven.clone(), HOUR_MS)).await;
    let before = bench.record(&key).await.expect("just written").expires_at_ms;
    assert!(before.is_some());
    assert_eq!(bench.write(Batch::new().merge(key.clone(), 1)).await.assigned, [8]);
    assert_eq!(bench.record(&key).await.expect("it is there").expires_at_ms, before, "a merge keeps the expiry");
    bench.write(Batch::new().append(key.clone(), "m/", "1", None)).await;
    assert_eq!(bench.record(&key).await.expect("it is there").expires_at_ms, before, "so does an append");
    bench.write(Batch::new().put_ttl(key.clone(), seven.clone(), 2 * HOUR_MS)).await;
    let later = bench.record(&key).await.expect("it is there").expires_at_ms;
    assert!(later > before, "a put sets its own expiry: {later:?} and {before:?}");
    bench.put(&key, seven).await;
    assert_eq!(bench.record(&key).await.expect("it is there").expires_at_ms, None, "a put without one removes it");
}
