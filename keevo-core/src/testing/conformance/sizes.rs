//! Cases: the largest keys, values, batches and fan-outs that the limits allow go through.

use bytes::Bytes;

use super::Factory;
use super::bench::Bench;
use crate::batch::Batch;
use crate::engine::Engine;
use crate::fan_out::{FanOut, FanOutAction, Target};
use crate::limits::{
    BATCH_BYTES_MAX, BATCH_OPS_MAX, FAN_OUT_EXPANDED_BYTES_MAX, PARTITION_BYTES_MAX, SORT_BYTES_MAX, VALUE_BYTES_MAX,
};
use crate::scan::Scan;

pub(super) async fn largest_keys_and_values<F: Factory>(bench: Bench<'_, F>) {
    let keyspace = bench.keyspace().await;
    for fill in [0x00_u8, 0x61, 0xff] {
        let key = keyspace.key(vec![fill; PARTITION_BYTES_MAX], vec![fill; SORT_BYTES_MAX]);
        let value = Bytes::from(vec![fill; VALUE_BYTES_MAX]);
        bench.put(&key, value.clone()).await;
        assert!(bench.value(&key).await == Some(value), "a value of 1 MiB comes back");
        let found = bench.sorts(Scan::partition(keyspace, key.partition.clone(), 10).backward()).await;
        assert!(found == [key.sort], "the longest key comes back");
    }
    let wide = bench.ordered(64).await;
    let key = wide.key(vec![0xff; 64], vec![0xff; SORT_BYTES_MAX]);
    bench.put(&key, "1").await;
    assert_eq!(bench.collect(Scan::partition(wide, key.partition.clone(), 10)).await.len(), 1);
}

pub(super) async fn largest_batches<F: Factory>(bench: Bench<'_, F>) {
    let keyspace = bench.keyspace().await;
    let count = u16::try_from(BATCH_OPS_MAX).expect("the limit is below 2^16");
    let many = (0..count).fold(Batch::new(), |batch, at| {
        batch.put(keyspace.key("many", Bytes::copy_from_slice(&at.to_be_bytes())), "1")
    });
    let revision = bench.write(many).await.revision;
    let found = bench.collect(Scan::partition(keyspace, "many", 1_000)).await;
    assert_eq!(found.len(), BATCH_OPS_MAX);
    assert!(found.iter().all(|(_, record)| record.revision == revision), "one batch, one revision");
    // Each put counts its value, its partition "heavy" and a sort key of one byte.
    let value = vec![7; BATCH_BYTES_MAX / 4 - 6];
    let heavy = (0..4_u8).fold(Batch::new(), |batch, at| batch.put(keyspace.key("heavy", vec![at]), value.clone()));
    bench.write(heavy).await;
    for at in 0..4_u8 {
        assert!(bench.value(&keyspace.key("heavy", vec![at])).await.as_deref() == Some(&value), "value {at}");
    }
}

pub(super) async fn largest_fan_outs<F: Factory>(bench: Bench<'_, F>) {
    let keyspace = bench.keyspace().await;
    // Each target counts its partition of 2 bytes, the sort key of one and the value.
    let value = Bytes::from(vec![9; FAN_OUT_EXPANDED_BYTES_MAX / 64 - 3]);
    let targets: Vec<Target> = (0..64_u8).map(|at| Target { partition: vec![b't', at].into(), guard: None }).collect();
    let put = FanOut {
        keyspace,
        sort: "s".into(),
        action: FanOutAction::Put { value: value.clone(), ttl_ms: None },
        guard_sort: None,
        targets: targets.clone(),
    };
    let done = bench.engine.fan_out(put).await.expect("a fan-out of 16 MiB is applied");
    assert_eq!((done.applied, done.skipped), (64, 0));
    for target in targets {
        let found = bench.value(&keyspace.key(target.partition.clone(), "s")).await;
        assert!(found.as_ref() == Some(&value), "{}", target.partition.escape_ascii());
    }
}
