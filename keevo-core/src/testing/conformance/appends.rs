//! Cases: gapless sequences, assigned where the write is ordered.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::Factory;
use super::bench::Bench;
use crate::batch::{Batch, Check};
use crate::engine::Engine;
use crate::error::ErrorKind;
use crate::scan::Scan;

pub(super) async fn append_numbers_and_indexes<F: Factory>(bench: Bench<'_, F>) {
    let keyspace = bench.keyspace().await;
    let key = |sort: Bytes| keyspace.key("channel", sort);
    let number = |number: u64| Bytes::copy_from_slice(&number.to_be_bytes());
    let place = |at: u64| key([b"m/".as_ref(), &number(at)].concat().into());
    let counter = key("n".into());
    let first = bench.write(Batch::new().append(counter.clone(), "m/", "one", Some("id/a".into()))).await;
    assert_eq!(first.assigned, [1]);
    let both = Batch::new().append(counter.clone(), "m/", "two", None).append(
        counter.clone(),
        "m/",
        "three",
        Some("id/c".into()),
    );
    assert_eq!(bench.write(both).await.assigned, [2, 3]);
    for (at, value) in [(1, "one"), (2, "two"), (3, "three")] {
        assert_eq!(bench.value(&place(at)).await, Some(Bytes::from(value)));
    }
    assert_eq!(bench.value(&key("id/a".into())).await, Some(number(1)));
    assert_eq!(bench.value(&key("id/c".into())).await, Some(number(3)));
    assert_eq!(bench.integer(&counter).await, Some(3), "the counter holds the last number");
    let revision = bench.record(&place(1)).await.expect("it is there").revision;
    assert_eq!(revision, first.revision);
    assert_eq!(bench.write(Batch::new().merge(counter.clone(), 10)).await.assigned, [13]);
    assert_eq!(bench.write(Batch::new().append(counter.clone(), "m/", "", None)).await.assigned, [14]);
    assert_eq!(bench.collect(Scan::prefix(keyspace, "channel", "m/", 2)).await.len(), 4);
}

pub(super) async fn a_refused_append_takes_no_number<F: Factory>(bench: Bench<'_, F>) {
    let keyspace = bench.keyspace().await;
    let (counter, id) = (keyspace.key("p", "n"), keyspace.key("p", "id/a"));
    let send =
        || Batch::new().append(counter.clone(), "m/", "hello", Some("id/a".into())).require(id.clone(), Check::Absent);
    assert_eq!(bench.write(send()).await.assigned, [1]);
    assert_eq!(bench.refused(send()).await, ErrorKind::Conflict, "the same id again");
    let spoiled = Batch::new().append(counter.clone(), "m/", "x", None).merge(keyspace.key("p", "m/bad"), i64::MAX);
    let spoiled = spoiled.merge(keyspace.key("p", "m/bad"), 1);
    assert_eq!(bench.refused(spoiled).await, ErrorKind::Conflict);
    assert_eq!(bench.integer(&counter).await, Some(1));
    assert_eq!(bench.collect(Scan::prefix(keyspace, "p", "m/", 10)).await.len(), 1);
    bench.put(&counter, Bytes::copy_from_slice(&i64::MAX.to_be_bytes())).await;
    let full = Batch::new().append(counter.clone(), "m/", "x", None);
    assert_eq!(bench.refused(full.clone()).await, ErrorKind::Conflict, "the counter would overflow");
    bench.put(&counter, Bytes::copy_from_slice(&(-2_i64).to_be_bytes())).await;
    assert_eq!(bench.refused(full).await, ErrorKind::Conflict, "no number is below zero");
    assert_eq!(bench.integer(&counter).await, Some(-2));
}

pub(super) async fn appends_at_once_leave_no_gap<F: Factory>(bench: Bench<'_, F>) {
    const WRITERS: u8 = 16;
    const APPENDS: u8 = 8;
    let keyspace = bench.keyspace().await;
    let counter = keyspace.key("p", "n");
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let (engine, counter) = (bench.engine.clone(), counter.clone());
        writers.spawn(async move {
            let mut numbers = Vec::new();
            for round in 0..APPENDS {
                let batch = Batch::new().append(counter.clone(), "m/", vec![writer, round], None);
                let written = engine.write(batch).await.expect("an append is applied");
                numbers.push((written.assigned, vec![writer, round]));
            }
            numbers
        });
    }
    let mut expected = BTreeMap::new();
    for numbers in writers.join_all().await {
        assert!(numbers.is_sorted(), "a writer's numbers grow: {numbers:?}");
        expected.extend(numbers);
    }
    let assigned: Vec<i64> = expected.keys().flatten().copied().collect();
    let all = i64::from(WRITERS) * i64::from(APPENDS);
    assert_eq!(assigned, (1..=all).collect::<Vec<_>>(), "each number once, and no gap");
    let found = bench.collect(Scan::prefix(keyspace, "p", "m/", 50)).await;
    let values: Vec<Vec<u8>> = found.into_iter().map(|(_, record)| record.value.to_vec()).collect();
    assert_eq!(values, expected.into_values().collect::<Vec<_>>(), "each value lies at its writer's number");
}
