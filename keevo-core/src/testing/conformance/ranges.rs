//! Cases: range deletes keep to their bounds and to their partition.

use bytes::Bytes;

use super::Factory;
use super::bench::Bench;
use crate::batch::{Batch, Check};
use crate::error::ErrorKind;
use crate::key::Keyspace;
use crate::scan::Scan;

async fn fill<F: Factory>(bench: &Bench<'_, F>, keyspace: Keyspace, partition: &'static str, sorts: &[&'static [u8]]) {
    let batch = sorts.iter().fold(Batch::new(), |batch, sort| batch.put(keyspace.key(partition, *sort), "1"));
    bench.write(batch).await;
}

pub(super) async fn delete_range_keeps_to_its_bounds<F: Factory>(bench: Bench<'_, F>) {
    let keyspace = bench.keyspace().await;
    let all: [&'static [u8]; 8] = [b"", b"\x00", b"a", b"a\x00", b"a\xff", b"b", b"b\x00", b"\xff\xff"];
    let cases: [(&'static [u8], &'static [u8], &[usize]); 8] = [
        (b"a", b"b", &[0, 1, 5, 6, 7]),
        (b"a", b"a\x00", &[0, 1, 3, 4, 5, 6, 7]),
        (b"a\x00", b"", &[0, 1, 2]),
        (b"", b"a", &[2, 3, 4, 5, 6, 7]),
        (b"", b"", &[]),
        (b"b", b"a", &[0, 1, 2, 3, 4, 5, 6, 7]),
        (b"a", b"a", &[0, 1, 2, 3, 4, 5, 6, 7]),
        (b"\xff", b"\xff\xff", &[0, 1, 2, 3, 4, 5, 6, 7]),
    ];
    for (start, end, left) in cases {
        fill(&bench, keyspace, "p", &all).await;
        let batch = Batch::new().delete_range(keyspace.key("p", start), Bytes::from_static(end));
        bench.write(batch).await;
        let expected: Vec<&[u8]> = left.iter().filter_map(|at| all.get(*at).copied()).collect();
        let found = bench.sorts(Scan::partition(keyspace, "p", 3)).await;
        assert_eq!(found, expected, "[{}, {})", start.escape_ascii(), end.escape_ascii());
    }
}

pub(super) async fn delete_range_keeps_to_its_partition<F: Factory>(bench: Bench<'_, F>) {
    let hashed = bench.keyspace().await;
    for partition in ["a", "aa", "b", "a\u{0}"] {
        fill(&bench, hashed, partition, &[b"", b"k"]).await;
    }
    bench.write(Batch::new().delete_range(hashed.key("a", ""), "")).await;
    for (partition, left) in [("a", 0), ("aa", 2), ("b", 2), ("a\u{0}", 2)] {
        assert_eq!(bench.collect(Scan::partition(hashed, partition, 10)).await.len(), left, "{partition:?}");
    }
    let ordered = bench.ordered(1).await;
    for partition in ["a", "b", "c"] {
        fill(&bench, ordered, partition, &[b"", b"\xff\xff"]).await;
    }
    bench.write(Batch::new().delete_range(ordered.key("b", ""), "")).await;
    for (partition, left) in [("a", 2), ("b", 0), ("c", 2)] {
        assert_eq!(bench.collect(Scan::partition(ordered, partition, 10)).await.len(), left, "{partition:?}");
    }
}

pub(super) async fn delete_range_among_other_operations<F: Factory>(bench: Bench<'_, F>) {
    let keyspace = bench.keyspace().await;
    let key = |sort: &'static str| keyspace.key("p", sort);
    fill(&bench, keyspace, "p", &[b"a", b"b", b"c"]).await;
    let spoiled = Batch::new().delete_range(key(""), "").put(key("z"), "1").require(key("b"), Check::Absent);
    assert_eq!(bench.refused(spoiled).await, ErrorKind::Conflict);
    assert_eq!(
        bench.sorts(Scan::partition(keyspace, "p", 10)).await,
        ["a", "b", "c"],
        "a refused batch removes nothing"
    );
    let overflow = Batch::new().delete_range(key(""), "").merge(key("n"), i64::MAX).merge(key("n"), 1);
    assert_eq!(bench.refused(overflow).await, ErrorKind::Conflict);
    assert_eq!(
        bench.sorts(Scan::partition(keyspace, "p", 10)).await,
        ["a", "b", "c"],
        "a failed merge undoes the range"
    );
    let replace = Batch::new().merge(key("c"), 0);
    assert_eq!(bench.refused(replace).await, ErrorKind::Conflict, "c holds one byte");
    let after = Batch::new().delete_range(key("b"), "").merge(key("c"), 7).put(key("d"), "1");
    assert_eq!(bench.write(after).await.assigned, [7], "the merge sees that the range is gone");
    assert_eq!(bench.sorts(Scan::partition(keyspace, "p", 10)).await, ["a", "c", "d"]);
    bench.write(Batch::new().delete_range(key("x"), "y")).await;
    assert_eq!(bench.sorts(Scan::partition(keyspace, "p", 10)).await, ["a", "c", "d"], "an empty range is no error");
}
