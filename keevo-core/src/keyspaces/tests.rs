//! Tests of keyspace creation: rows, races, refusals.

use std::sync::Mutex;

use super::*;
use crate::ids::Revision;

/// A meta keyspace that lets another creator in before each of the first writes.
#[derive(Default)]
struct Racing {
    rows: Mutex<std::collections::BTreeMap<Bytes, Record>>,
    rivals: Mutex<Vec<Batch>>,
}

impl Racing {
    fn apply(&self, batch: &Batch) -> Result<Written> {
        let mut rows = self.rows.lock().unwrap();
        for precondition in &batch.preconditions {
            let found = rows.get(&precondition.key.sort).map(|record| record.revision);
            let holds = match &precondition.check {
                Check::Absent => found.is_none(),
                Check::RevisionIs(revision) => found == Some(*revision),
                other => panic!("not used here: {other:?}"),
            };
            if !holds {
                return Err(Error::new(ErrorKind::Conflict, "lost the race"));
            }
        }
        let revision = Revision(rows.values().map(|record| record.revision.0).max().unwrap_or(0) + 1);
        for op in &batch.ops {
            let crate::batch::Op::Put { key, value, .. } = op else { panic!("only puts: {op:?}") };
            rows.insert(key.sort.clone(), Record { revision, expires_at_ms: None, value: value.clone() });
        }
        Ok(Written { revision, assigned: Vec::new() })
    }
}

impl MetaStore for Racing {
    async fn get(&self, key: Key) -> Result<Option<Record>> {
        assert!(key.same_partition(&name_key("any")), "all rows lie in one partition");
        Ok(self.rows.lock().unwrap().get(&key.sort).cloned())
    }

    async fn write(&self, batch: Batch) -> Result<Written> {
        batch.validate()?;
        let rival = self.rivals.lock().unwrap().pop();
        if let Some(rival) = rival {
            self.apply(&rival)?;
        }
        self.apply(&batch)
    }
}

fn created(name: &str, id: u32, kind: KeyspaceKind) -> Batch {
    Batch::new()
        .put(name_key(name), encode(id, kind))
        .put(id_key(KeyspaceId(id)), name.to_owned())
        .put(key(b"next"), Bytes::copy_from_slice(&(id + 1).to_be_bytes()))
}

#[tokio::test]
async fn ids_count_up_and_names_are_found_again() {
    let meta = Racing::default();
    let ordered = KeyspaceKind::Ordered { partition_bytes: 8 };
    let first = ensure_keyspace(&meta, "a", KeyspaceKind::Hashed).await.unwrap();
    let second = ensure_keyspace(&meta, "b", ordered).await.unwrap();
    assert_eq!((first.id.0, second.id.0), (1, 2));
    assert_eq!(ensure_keyspace(&meta, "b", ordered).await.unwrap(), second);
    assert_eq!(find_keyspace(&meta, "a").await.unwrap(), first);
    assert_eq!(keyspace_by_id(&meta, second.id).await.unwrap(), ("b".to_owned(), second));
    let other_kind = ensure_keyspace(&meta, "a", ordered).await.expect_err("another kind");
    assert_eq!(other_kind.kind(), ErrorKind::Conflict);
    assert_eq!(find_keyspace(&meta, "c").await.expect_err("unknown").kind(), ErrorKind::UnknownKeyspace);
    assert_eq!(keyspace_by_id(&meta, KeyspaceId(9)).await.expect_err("unknown").kind(), ErrorKind::UnknownKeyspace);
}

#[tokio::test]
async fn the_loser_of_a_race_takes_the_next_id_or_the_winners() {
    let meta = Racing::default();
    *meta.rivals.lock().unwrap() =
        vec![created("mine", 2, KeyspaceKind::Hashed), created("rival", 1, KeyspaceKind::Hashed)];
    let keyspace = ensure_keyspace(&meta, "mine", KeyspaceKind::Hashed).await.unwrap();
    assert_eq!(keyspace.id.0, 2, "what the winner of the second race wrote");
    assert_eq!(find_keyspace(&meta, "rival").await.unwrap().id.0, 1);
    assert_eq!(ensure_keyspace(&meta, "third", KeyspaceKind::Hashed).await.unwrap().id.0, 3);
}

#[test]
fn bad_names_are_refused() {
    let long = "x".repeat(KEYSPACE_NAME_BYTES_MAX + 1);
    for name in ["", "A", "a b", "ä", "a/b", long.as_str()] {
        assert_eq!(validate_name(name).expect_err(name).kind(), ErrorKind::Invalid);
    }
    for name in ["a", "feeds.timeline-1_x", &long[1..]] {
        validate_name(name).unwrap();
    }
}

#[test]
fn rows_of_another_layout_are_refused() {
    let row = encode(7, KeyspaceKind::Ordered { partition_bytes: 8 });
    assert_eq!(decode_keyspace(&row).unwrap().id.0, 7);
    for bytes in [&row[..5], &[row.as_ref(), &[0]].concat(), &[], &[1, 0, 0, 0, 7, 65], &[0, 0, 0, 0, 7, 1]] {
        assert_eq!(decode_keyspace(bytes).expect_err("broken").kind(), ErrorKind::Corrupt, "{bytes:?}");
    }
    assert_eq!(decode_keyspace(&[2, 1]).expect_err("newer").kind(), ErrorKind::NewerFormat);
}
