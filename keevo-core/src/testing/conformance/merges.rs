//! Cases: integer merges.

use bytes::Bytes;

use super::Factory;
use super::bench::Bench;
use crate::batch::{Batch, Check};
use crate::error::ErrorKind;

pub(super) async fn merge_adds<F: Factory>(bench: Bench<'_, F>) {
    let key = bench.keyspace().await.key("p", "n");
    let merge = |delta: i64| Batch::new().merge(key.clone(), delta);
    assert_eq!(bench.write(merge(5)).await.assigned, [5], "absent counts as 0");
    assert_eq!(bench.value(&key).await, Some(Bytes::from_static(&[0, 0, 0, 0, 0, 0, 0, 5])), "8 bytes, big-endian");
    assert_eq!(bench.write(merge(-7)).await.assigned, [-2]);
    assert_eq!(bench.write(merge(0)).await.assigned, [-2]);
    let last = bench.write(merge(i64::MAX)).await;
    assert_eq!(last.assigned, [i64::MAX - 2]);
    let record = bench.record(&key).await.expect("it is there");
    assert_eq!((record.revision, record.expires_at_ms), (last.revision, None));
    bench.put(&key, Bytes::copy_from_slice(&i64::MIN.to_be_bytes())).await;
    assert_eq!(bench.write(merge(1)).await.assigned, [i64::MIN + 1], "a put of 8 bytes is an integer");
    bench.write(Batch::new().delete(key.clone())).await;
    assert_eq!(bench.write(merge(1)).await.assigned, [1], "a delete starts again at 0");
    let written = bench.write(Batch::new().put(key.clone(), "x").delete(key.clone())).await;
    assert!(written.assigned.is_empty(), "only merges and appends are assigned numbers");
}

pub(super) async fn merge_refuses_overflow<F: Factory>(bench: Bench<'_, F>) {
    let keyspace = bench.keyspace().await;
    let (key, beside) = (keyspace.key("p", "n"), keyspace.key("p", "beside"));
    for (start, delta) in [(i64::MAX, 1), (i64::MIN, -1), (-2, i64::MIN)] {
        bench.put(&key, Bytes::copy_from_slice(&start.to_be_bytes())).await;
        let batch =
            Batch::new().put(beside.clone(), "1").merge(key.clone(), delta).put(keyspace.key("p", "later"), "1");
        assert_eq!(bench.refused(batch).await, ErrorKind::Conflict, "{start} + {delta}");
        assert_eq!(bench.integer(&key).await, Some(start));
        assert_eq!(bench.value(&beside).await, None, "the put before the overflow is undone");
        assert_eq!(bench.value(&keyspace.key("p", "later")).await, None);
    }
    let twice = Batch::new().merge(keyspace.key("p", "m"), i64::MAX).merge(keyspace.key("p", "m"), 1);
    assert_eq!(bench.refused(twice).await, ErrorKind::Conflict, "it overflows within the batch");
    bench.write(Batch::new().require(keyspace.key("p", "m"), Check::Absent)).await;
}

pub(super) async fn merge_refuses_other_values<F: Factory>(bench: Bench<'_, F>) {
    let keyspace = bench.keyspace().await;
    let key = keyspace.key("p", "n");
    for value in ["", "1234567", "123456789"] {
        bench.put(&key, value).await;
        let batch = Batch::new().delete(keyspace.key("p", "n2")).merge(key.clone(), 1);
        assert_eq!(bench.refused(batch).await, ErrorKind::Conflict, "{} bytes", value.len());
        let append = Batch::new().append(key.clone(), "seq/", "value", None);
        assert_eq!(bench.refused(append).await, ErrorKind::Conflict, "{} bytes", value.len());
        assert_eq!(bench.value(&key).await, Some(Bytes::from(value)));
    }
    assert_eq!(bench.collect(crate::scan::Scan::partition(keyspace, "p", 10)).await.len(), 1);
}
