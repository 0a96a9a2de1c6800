//! Cases: every precondition, held and failed, and that a failed one leaves nothing behind.

use bytes::Bytes;

use super::Factory;
use super::bench::Bench;
use crate::batch::{Batch, Check};
use crate::error::ErrorKind;
use crate::ids::Revision;
use crate::key::Key;

/// Writes `mark` under a key beside `key` if the check holds; whether it did.
async fn holds<F: Factory>(bench: &Bench<'_, F>, key: &Key, check: Check) -> bool {
    let mark = Key { sort: Bytes::from_static(b"mark"), ..key.clone() };
    bench.write(Batch::new().put(mark.clone(), "old")).await;
    let batch = Batch::new().put(mark.clone(), "new").require(key.clone(), check);
    let shown = format!("{batch:?}");
    match crate::engine::Engine::write(&bench.engine, batch).await {
        Ok(_) => {
            assert_eq!(bench.value(&mark).await, Some(Bytes::from("new")), "{shown}");
            true
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Conflict, "{shown}");
            assert_eq!(bench.value(&mark).await, Some(Bytes::from("old")), "a failed batch wrote: {shown}");
            false
        }
    }
}

pub(super) async fn check_absent<F: Factory>(bench: Bench<'_, F>) {
    let key = bench.keyspace().await.key("p", "k");
    assert!(holds(&bench, &key, Check::Absent).await);
    bench.put(&key, "").await;
    assert!(!holds(&bench, &key, Check::Absent).await, "an empty value is present");
    bench.write(Batch::new().delete(key.clone())).await;
    assert!(holds(&bench, &key, Check::Absent).await);
}

pub(super) async fn check_exists<F: Factory>(bench: Bench<'_, F>) {
    let key = bench.keyspace().await.key("p", "k");
    assert!(!holds(&bench, &key, Check::Exists).await);
    bench.put(&key, "").await;
    assert!(holds(&bench, &key, Check::Exists).await);
    bench.write(Batch::new().delete_range(key.clone(), "")).await;
    assert!(!holds(&bench, &key, Check::Exists).await);
}

pub(super) async fn check_revision<F: Factory>(bench: Bench<'_, F>) {
    let key = bench.keyspace().await.key("p", "k");
    assert!(!holds(&bench, &key, Check::RevisionIs(Revision(0))).await, "absent has no revision");
    let first = bench.put(&key, "1").await;
    assert!(holds(&bench, &key, Check::RevisionIs(first)).await);
    let second = bench.put(&key, "1").await;
    assert!(!holds(&bench, &key, Check::RevisionIs(first)).await, "the same value at another revision");
    assert!(holds(&bench, &key, Check::RevisionIs(second)).await);
    assert!(!holds(&bench, &key, Check::RevisionIs(Revision(second.0 + 1))).await);
    bench.write(Batch::new().delete(key.clone())).await;
    assert!(!holds(&bench, &key, Check::RevisionIs(second)).await);
}

pub(super) async fn check_value<F: Factory>(bench: Bench<'_, F>) {
    let key = bench.keyspace().await.key("p", "k");
    assert!(!holds(&bench, &key, Check::ValueIs(Bytes::new())).await, "absent is not empty");
    bench.put(&key, "abc").await;
    assert!(holds(&bench, &key, Check::ValueIs(Bytes::from("abc"))).await);
    assert!(!holds(&bench, &key, Check::ValueIs(Bytes::from("ab"))).await);
    assert!(!holds(&bench, &key, Check::ValueIs(Bytes::from("abcd"))).await);
    assert!(!holds(&bench, &key, Check::ValueIs(Bytes::new())).await);
}

pub(super) async fn all_checks_must_hold<F: Factory>(bench: Bench<'_, F>) {
    let keyspace = bench.keyspace().await;
    let key = |sort: &'static str| keyspace.key("p", sort);
    let revision = bench.put(&key("a"), "1").await;
    let batch = Batch::new()
        .require(key("a"), Check::RevisionIs(revision))
        .require(key("a"), Check::ValueIs(Bytes::from("1")))
        .require(key("b"), Check::Absent);
    bench.write(batch.clone().put(key("c"), "1")).await;
    let spoiled = batch.require(key("d"), Check::Exists).put(key("c"), "2").delete(key("a")).merge(key("n"), 1);
    assert_eq!(bench.refused(spoiled).await, ErrorKind::Conflict);
    assert_eq!(bench.value(&key("c")).await, Some(Bytes::from("1")));
    assert_eq!(bench.value(&key("a")).await, Some(Bytes::from("1")));
    assert_eq!(bench.value(&key("n")).await, None);
}

pub(super) async fn checks_see_the_state_before<F: Factory>(bench: Bench<'_, F>) {
    let keyspace = bench.keyspace().await;
    let key = keyspace.key("p", "k");
    let batch = Batch::new().put(key.clone(), "1").require(key.clone(), Check::Absent);
    bench.write(batch.clone()).await;
    assert_eq!(bench.refused(batch).await, ErrorKind::Conflict);
    let exists_after = Batch::new().put(keyspace.key("p", "new"), "1").require(keyspace.key("p", "new"), Check::Exists);
    assert_eq!(bench.refused(exists_after).await, ErrorKind::Conflict, "its own put does not count");
    let gone_after = Batch::new().delete(key.clone()).require(key.clone(), Check::Absent);
    assert_eq!(bench.refused(gone_after).await, ErrorKind::Conflict, "its own delete does not count");
    assert_eq!(bench.value(&key).await, Some(Bytes::from("1")));
}

pub(super) async fn checks_without_operations<F: Factory>(bench: Bench<'_, F>) {
    let key = bench.keyspace().await.key("p", "k");
    bench.write(Batch::new().require(key.clone(), Check::Absent)).await;
    assert_eq!(bench.refused(Batch::new().require(key.clone(), Check::Exists)).await, ErrorKind::Conflict);
    assert_eq!(bench.record(&key).await, None);
}

pub(super) async fn a_conflict_does_not_stop_what_follows<F: Factory>(bench: Bench<'_, F>) {
    let keyspace = bench.keyspace().await;
    let key = keyspace.key("p", "k");
    let first = bench.put(&key, "1").await;
    let writes = (0..20_u8).map(|number| {
        let check = if number % 2 == 0 { Check::Exists } else { Check::Absent };
        let put = Batch::new().put(keyspace.key("p", vec![number]), "1").require(key.clone(), check);
        crate::engine::Engine::write(&bench.engine, put)
    });
    let answers = futures::future::join_all(writes).await;
    for (number, answer) in answers.into_iter().enumerate() {
        match answer {
            Ok(written) => assert!(number % 2 == 0 && written.revision > first, "write {number}: {written:?}"),
            Err(error) => assert!(number % 2 == 1 && error.kind() == ErrorKind::Conflict, "write {number}: {error}"),
        }
    }
    assert_eq!(bench.collect(crate::scan::Scan::partition(keyspace, "p", 100)).await.len(), 11);
}
