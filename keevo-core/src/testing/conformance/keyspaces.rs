//! Cases: keyspaces are created once, found by name, and never change their kind.

use std::collections::BTreeSet;

use super::Factory;
use super::bench::Bench;
use crate::engine::Engine;
use crate::error::ErrorKind;
use crate::key::{Keyspace, KeyspaceKind};
use crate::limits::{KEYSPACE_NAME_BYTES_MAX, ORDERED_PARTITION_BYTES_MAX};

pub(super) async fn a_keyspace_is_created_once<F: Factory>(bench: Bench<'_, F>) {
    let (plain, ordered) = (bench.name("plain"), bench.name("ordered"));
    let eight = KeyspaceKind::Ordered { partition_bytes: 8 };
    let first = bench.engine.keyspace(&plain, KeyspaceKind::Hashed).await.expect("it is new");
    assert_eq!(first.kind, KeyspaceKind::Hashed);
    assert_ne!(first.id, Keyspace::META.id, "id 0 is the cluster's");
    assert_eq!(bench.engine.keyspace(&plain, KeyspaceKind::Hashed).await.expect("it exists"), first);
    assert_eq!(bench.engine.find_keyspace(&plain).await.expect("it exists"), first);
    let second = bench.engine.keyspace(&ordered, eight).await.expect("it is new");
    assert_eq!(second.kind, eight);
    assert_ne!(second.id, first.id);
    assert_eq!(bench.engine.find_keyspace(&ordered).await.expect("it exists"), second);
}

pub(super) async fn an_unknown_keyspace<F: Factory>(bench: Bench<'_, F>) {
    let name = bench.name("none");
    let error = bench.engine.find_keyspace(&name).await.expect_err("nobody created it");
    assert_eq!(error.kind(), ErrorKind::UnknownKeyspace);
    assert!(error.message().contains(&name), "the message names it: {error}");
    let again = bench.engine.find_keyspace(&name).await.expect_err("looking for it creates nothing");
    assert_eq!(again.kind(), ErrorKind::UnknownKeyspace);
}

pub(super) async fn another_kind_is_a_conflict<F: Factory>(bench: Bench<'_, F>) {
    let name = bench.name("kind");
    let eight = KeyspaceKind::Ordered { partition_bytes: 8 };
    let first = bench.engine.keyspace(&name, eight).await.expect("it is new");
    for kind in [KeyspaceKind::Hashed, KeyspaceKind::Ordered { partition_bytes: 9 }] {
        let error = bench.engine.keyspace(&name, kind).await.expect_err("it has another kind");
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    }
    assert_eq!(bench.engine.find_keyspace(&name).await.expect("it is unchanged"), first);
}

pub(super) async fn keyspace_names<F: Factory>(bench: Bench<'_, F>) {
    let longest = format!("{:.<width$}", bench.name("l"), width = KEYSPACE_NAME_BYTES_MAX);
    for name in [longest.clone(), bench.name("a-b_c.0-9")] {
        let made = bench.engine.keyspace(&name, KeyspaceKind::Hashed).await.expect("the name is allowed");
        assert_eq!(bench.engine.find_keyspace(&name).await.expect("it exists"), made);
    }
    let bad =
        [String::new(), format!("{longest}x"), "Upper".into(), "a b".into(), "a/b".into(), "é".into(), "a\0".into()];
    for name in bad {
        let error = bench.engine.keyspace(&name, KeyspaceKind::Hashed).await.expect_err("the name is not allowed");
        assert_eq!(error.kind(), ErrorKind::Invalid, "{name:?}");
        let error = bench.engine.find_keyspace(&name).await.expect_err("the name is not allowed");
        assert!(matches!(error.kind(), ErrorKind::Invalid | ErrorKind::UnknownKeyspace), "{name:?}: {error}");
    }
    for partition_bytes in [0, ORDERED_PARTITION_BYTES_MAX + 1] {
        let kind = KeyspaceKind::Ordered { partition_bytes };
        let error = bench.engine.keyspace(&bench.name("wide"), kind).await.expect_err("the length is out of range");
        assert_eq!(error.kind(), ErrorKind::Invalid, "{partition_bytes}");
    }
}

pub(super) async fn keyspaces_created_at_once<F: Factory>(bench: Bench<'_, F>) {
    let names: Vec<String> = (0..4).map(|number| bench.name(&format!("c{number}"))).collect();
    let calls = (0..24).map(|call| {
        let name = names.get(call % names.len()).cloned().expect("the remainder is in range");
        let engine = bench.engine.clone();
        tokio::spawn(async move { engine.keyspace(&name, KeyspaceKind::Hashed).await.map(|made| (name, made.id)) })
    });
    let mut made = BTreeSet::new();
    for call in futures::future::join_all(calls).await {
        made.insert(call.expect("no panic").expect("creating at once is no error"));
    }
    assert_eq!(made.len(), names.len(), "one id a name: {made:?}");
    let ids: BTreeSet<_> = made.iter().map(|(_, id)| *id).collect();
    assert_eq!(ids.len(), names.len(), "no id twice: {made:?}");
}
