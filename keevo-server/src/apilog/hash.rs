//! A hash of what a keyspace holds, to be compared between clusters.
//!
//! Left out is what differs although nothing does: revisions, sessions, the ids of keyspaces, records that expire, and the
//! rows that [`is_left_out`] names.
//!
//! Invariant: the hash of a keyspace is the sum of those of its records, so that shards and nodes add up in any order.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;
use keevo_core::{CLASS_HASHED, CLASS_ORDERED, Engine, ErrorKind, Key, KeyspaceId, Record, Result, keyspaces};
use keevo_proto::admin::v1 as pb;
use keevo_raft::Node;

/// The sort key of the epoch of a channel's outbox, and the tag of the partitions with pointers, behind the app.
const CHAT_EPOCH: u8 = 0x72;
const CHAT_POINTERS: u8 = 0x03;
const APP_BYTES: usize = 4;
/// The tags of feeds' partitions with pointers, and with followers, whose rows hold the revisions of edges.
const FEEDS_LEFT_OUT: [u8; 2] = [b'o', b'r'];
/// Keyspaces that belong to a cluster and not to its users.
const OF_THE_CLUSTER: [&str; 2] = [super::KEYSPACE, keevo_gateway::META_KEYSPACE];

/// The layers' keyspaces here; `None` = there is none yet.
#[derive(Debug, Clone, Copy)]
struct Layers {
    feeds: Option<KeyspaceId>,
    chat: Option<KeyspaceId>,
}

/// The records and the hash of each keyspace.
type Hashes = BTreeMap<KeyspaceId, (u64, u64)>;

/// The keyspace of an encoded key, and what follows its id.
fn split(key: &[u8]) -> Option<(KeyspaceId, &[u8])> {
    let (class, rest) = key.split_first()?;
    let rest = match *class {
        CLASS_HASHED => rest.get(2..)?,
        CLASS_ORDERED => rest,
        _ => return None,
    };
    let (id, rest) = rest.split_first_chunk::<4>()?;
    Some((KeyspaceId(u32::from_be_bytes(*id)), rest))
}

/// Whether a row of a layer is its workers' own, or holds revisions.
fn is_left_out(layers: Layers, id: KeyspaceId, key: &[u8]) -> bool {
    let id = Some(id);
    if id != layers.feeds && id != layers.chat {
        return false;
    }
    let Ok(key) = Key::decode(&Bytes::copy_from_slice(key), |_| None) else { return false };
    if id == layers.feeds {
        return key.partition.first().is_some_and(|tag| FEEDS_LEFT_OUT.contains(tag));
    }
    key.partition.get(APP_BYTES) == Some(&CHAT_POINTERS) || key.sort.first() == Some(&CHAT_EPOCH)
}

fn add(layers: Layers, hashes: &mut Hashes, key: &[u8], record: &Record) {
    let Some((id, rest)) = split(key) else { return };
    if record.expires_at_ms.is_some() || is_left_out(layers, id, key) {
        return;
    }
    let mut context = Context::new(&SHA256);
    context.update(&u64::try_from(rest.len()).unwrap_or(u64::MAX).to_be_bytes());
    context.update(rest);
    context.update(&record.value);
    let hash = context.finish().as_ref().first_chunk::<8>().copied().unwrap_or_default();
    let (records, sum) = hashes.entry(id).or_default();
    *records += 1;
    *sum = sum.wrapping_add(u64::from_be_bytes(hash));
}

async fn id_of(engine: &impl Engine, name: &str) -> Result<Option<KeyspaceId>> {
    match engine.find_keyspace(name).await {
        Ok(keyspace) => Ok(Some(keyspace.id)),
        Err(error) if error.kind() == ErrorKind::UnknownKeyspace => Ok(None),
        Err(error) => Err(error),
    }
}

/// The hashes of all keyspaces in the shards that this node leads.
pub(crate) async fn of_node(node: &Node) -> Result<pb::HashKeyspacesResponse> {
    let engine = node.engine();
    let layers = Layers {
        feeds: id_of(&engine, keevo_feeds::KEYSPACE).await?,
        chat: id_of(&engine, keevo_chat::KEYSPACE).await?,
    };
    let gather = move |hashes: &mut Hashes, key: &[u8], record: &Record| add(layers, hashes, key, record);
    let hashes = node.gather(Hashes::new(), gather).await?;
    let mut told = Vec::with_capacity(hashes.len());
    for (id, (records, hash)) in hashes {
        let name = match keyspaces::keyspace_by_id(&engine.meta(), id).await {
            Ok((name, _)) => name,
            Err(error) if error.kind() == ErrorKind::UnknownKeyspace => continue,
            Err(error) => return Err(error),
        };
        if !OF_THE_CLUSTER.contains(&name.as_str()) {
            told.push(pb::KeyspaceHash { name, records, hash });
        }
    }
    told.sort_by(|left, right| left.name.cmp(&right.name));
    Ok(pb::HashKeyspacesResponse { keyspaces: told })
}

#[cfg(test)]
mod tests {
    use keevo_core::{Keyspace, KeyspaceKind, Revision};

    use super::*;

    const LAYERS: Layers = Layers { feeds: Some(KeyspaceId(1)), chat: Some(KeyspaceId(2)) };

    fn sum(id: u32, rows: &[(&[u8], &[u8], &'static str)], revision: u64, expires: Option<u64>) -> (u64, u64) {
        let mut hashes = Hashes::new();
        let keyspace = Keyspace { id: KeyspaceId(id), kind: KeyspaceKind::Hashed };
        for (partition, sort, value) in rows {
            let key = keyspace.key(partition.to_vec(), sort.to_vec()).encode();
            let record = Record { revision: Revision(revision), expires_at_ms: expires, value: (*value).into() };
            add(LAYERS, &mut hashes, &key, &record);
        }
        hashes.get(&KeyspaceId(id)).copied().unwrap_or_default()
    }

    #[test]
    fn only_what_users_wrote_counts() {
        let rows: &[(&[u8], &[u8], &str)] = &[(b"p", b"a", "1"), (b"q", b"b", "2")];
        let hash = sum(7, rows, 1, None);
        assert_eq!(hash.0, 2);
        assert_eq!(sum(8, &[rows[1], rows[0]], 9, None), hash, "neither order, revision nor the keyspace's id");
        assert_ne!(sum(7, &[(b"p", b"a", "2"), (b"q", b"b", "1")], 1, None), hash, "values");
        assert_ne!(sum(7, &[(b"pa", b"", "1"), rows[1]], 1, None).1, hash.1, "where a partition ends");
        assert_eq!(sum(7, rows, 1, Some(5)), (0, 0), "what expires");
    }

    #[test]
    fn rows_of_workers_are_left_out_of_their_layer_alone() {
        let pointer: &[(&[u8], &[u8], &str)] = &[(b"o\0\0\0\x01", b"p", "x"), (b"r\0\0\0\x01", b"f", "x")];
        assert_eq!((sum(1, pointer, 1, None).0, sum(7, pointer, 1, None).0), (0, 2));
        let chat: &[(&[u8], &[u8], &str)] = &[(b"\0\0\0\x01\x03b", b"c", ""), (b"\0\0\0\x01\x01c", b"\x72", "9")];
        assert_eq!((sum(2, chat, 1, None).0, sum(7, chat, 1, None).0), (0, 2));
        assert_eq!(sum(2, &[(b"\0\0\0\x01\x01c", b"\x70", "9")], 1, None).0, 1);
    }
}
