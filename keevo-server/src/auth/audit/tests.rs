//! The chain, and what breaks it.

use keevo_core::{Consistency, Engine, KeyspaceKind, ManualClock, MemoryEngine};
use keevo_gateway::apps::EngineMeta;
use serde_json::json;

use super::*;

async fn audit(engine: &MemoryEngine) -> Audit {
    let meta = EngineMeta::open(engine.clone()).await.expect("a meta store");
    Audit::new(Rows::new(meta), 3, Arc::new(ManualClock::new(77)))
}

/// Whether the entries of a log follow from each other, up to its head.
async fn holds(audit: &Audit) -> bool {
    let page = audit.page(0, PAGE_MAX).await.expect("read");
    let mut before = NONE_BEFORE.to_owned();
    for (number, bytes) in (1..).zip(&page.entries) {
        let entry: Entry = serde_json::from_slice(bytes).expect("an entry");
        if entry.number != number || entry.before != before {
            return false;
        }
        before = hash(bytes);
    }
    before == page.last_sha256 && page.entries.len() as u64 == page.last
}

#[tokio::test]
async fn entries_form_a_chain_that_no_change_survives() {
    let engine = MemoryEngine::new();
    let audit = audit(&engine).await;
    assert!(holds(&audit).await, "an empty log");
    let first = audit.begin("key 1", "a.B/C", json!({ "name": "shop" })).await.expect("noted");
    let second = audit.end(first, "key 1", "a.B/C", "OK").await.expect("noted");
    audit.begin("key 2", "a.B/D", json!({})).await.expect("noted");
    assert_eq!((first, second), (1, 2));
    assert!(holds(&audit).await);
    let page = audit.page(1, 1).await.expect("read");
    let entry: Entry = serde_json::from_slice(&page.entries[0]).expect("an entry");
    assert_eq!((entry.number, entry.outcome_of, entry.outcome.as_deref()), (2, Some(1), Some("OK")));
    assert_eq!((entry.at_ms, entry.node, page.last), (77, 3, 3));
    // Somebody changes who it was.
    let keyspace = engine.keyspace("gateway.meta", KeyspaceKind::Hashed).await.expect("there");
    let key = keyspace.key("audit", entry_key(1).sort);
    let stored = engine.get(key.clone(), Consistency::Linearizable).await.expect("read").expect("there").value;
    let forged = String::from_utf8(stored.to_vec()).expect("JSON").replace("key 1", "key 9");
    engine.write(Batch::new().put(key.clone(), forged)).await.expect("written");
    assert!(!holds(&audit).await);
    engine.write(Batch::new().put(key.clone(), stored)).await.expect("written");
    assert!(holds(&audit).await);
    engine.write(Batch::new().delete(key)).await.expect("written");
    assert_eq!(audit.page(0, 10).await.expect_err("gone").kind(), keevo_core::ErrorKind::Corrupt);
}

#[tokio::test]
async fn entries_of_many_at_once_form_one_chain() {
    let audit = audit(&MemoryEngine::new()).await;
    let noted = (0..24).map(|number| {
        let audit = audit.clone();
        async move { audit.begin(&format!("key {number}"), "a.B/C", Value::Null).await }
    });
    let mut numbers: Vec<u64> =
        futures::future::join_all(noted).await.into_iter().map(|number| number.expect("noted")).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=24).collect::<Vec<_>>());
    assert!(holds(&audit).await);
}

#[tokio::test]
async fn of_a_huge_request_the_short_parts_and_a_hash_are_kept() {
    let audit = audit(&MemoryEngine::new()).await;
    let request = json!({ "name": "spam", "terms": "x".repeat(REQUEST_BYTES_MAX) });
    audit.begin("key 1", "a.B/C", request.clone()).await.expect("noted");
    let page = audit.page(0, 1).await.expect("read");
    let entry: Entry = serde_json::from_slice(&page.entries[0]).expect("an entry");
    assert_eq!(entry.request["parts"]["name"], "spam");
    assert_eq!(entry.request["sha256"], hash(request.to_string().as_bytes()));
    assert!(page.entries[0].len() < 1_024);
}
