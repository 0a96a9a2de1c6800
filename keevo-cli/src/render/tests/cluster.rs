//! The state of a cluster, its hashes and its shards, as they are shown.

use bytes::Bytes;
use expect_test::expect;
use keevo_proto::admin::v1 as admin;

use super::check;
use crate::output::Answer;
use crate::render::cluster::differing_shards;

fn replica(node_id: u64, role: admin::Role, applied_index: u64, revision: u64, hash: u64) -> admin::ReplicaStatus {
    admin::ReplicaStatus {
        replica_id: node_id + 10,
        node_id,
        role: role.into(),
        applied_index,
        committed_index: 41,
        last_log_index: 41,
        term: 2,
        checksum: Some(admin::ShardChecksum { revision, hash, records: 5 }),
        fault: String::new(),
    }
}

fn status(third_hash: u64) -> admin::ClusterStatusResponse {
    let node = |id: u64, reachable, version: &str| admin::NodeStatus {
        id,
        address: format!("127.0.0.1:{}", 7100 + id),
        reachable,
        version: version.to_owned(),
        storage: None,
    };
    let shard = |id, replicas| admin::ShardStatus {
        id,
        start_key: Bytes::from_static(&[0x10]),
        end_key: Bytes::new(),
        epoch: Some(admin::Epoch { version: 1, conf_version: 2 }),
        replicas,
    };
    let silent = admin::ReplicaStatus { node_id: 3, fault: "its node does not answer".into(), ..Default::default() };
    admin::ClusterStatusResponse {
        cluster_id: Bytes::from_static(&[0xab; 16]),
        nodes: vec![node(1, true, "0.1.0"), node(2, true, "0.1.0"), node(3, false, "")],
        shards: vec![
            shard(
                0,
                vec![
                    replica(1, admin::Role::Leader, 41, 40, 0xfeed),
                    replica(2, admin::Role::Follower, 41, 40, third_hash),
                    // Hashed at another revision: not comparable.
                    replica(3, admin::Role::Follower, 39, 38, 0x1234),
                ],
            ),
            shard(1, vec![silent]),
        ],
    }
}

#[test]
fn a_cluster_whose_copies_are_equal() {
    check(
        &status(0xfeed),
        &expect![[r#"
        cluster abababababababababababababababab
        ┌──────┬────────────────┬─────────────┬─────────┐
        │ Node ┆ Address        ┆ State       ┆ Version │
        ╞══════╪════════════════╪═════════════╪═════════╡
        │ 1    ┆ 127.0.0.1:7101 ┆ up          ┆ 0.1.0   │
        │ 2    ┆ 127.0.0.1:7102 ┆ up          ┆ 0.1.0   │
        │ 3    ┆ 127.0.0.1:7103 ┆ UNREACHABLE ┆         │
        └──────┴────────────────┴─────────────┴─────────┘
        ┌───────┬──────┬──────────┬──────┬─────────┬───────────┬───────────────────────┬──────────────────────────┐
        │ Shard ┆ Node ┆ Role     ┆ Term ┆ Applied ┆ Committed ┆ Hash                  ┆ Note                     │
        ╞═══════╪══════╪══════════╪══════╪═════════╪═══════════╪═══════════════════════╪══════════════════════════╡
        │ 0     ┆ 1    ┆ leader   ┆ 2    ┆ 41      ┆ 41        ┆ 000000000000feed @ 40 ┆                          │
        │       ┆ 2    ┆ follower ┆ 2    ┆ 41      ┆ 41        ┆ 000000000000feed @ 40 ┆                          │
        │       ┆ 3    ┆ follower ┆ 2    ┆ 39      ┆ 41        ┆ 0000000000001234 @ 38 ┆                          │
        │ 1     ┆ 3    ┆ unknown  ┆ 0    ┆ 0       ┆ 0         ┆ -                     ┆ its node does not answer │
        └───────┴──────┴──────────┴──────┴─────────┴───────────┴───────────────────────┴──────────────────────────┘
        3 nodes, 2 shards, 4 replicas; no leader known: shard 1
    "#]],
        &expect![[r#"
        {
          "cluster": "abababababababababababababababab",
          "nodes": [
            {
              "address": "127.0.0.1:7101",
              "id": 1,
              "reachable": true,
              "storage": null,
              "version": "0.1.0"
            },
            {
              "address": "127.0.0.1:7102",
              "id": 2,
              "reachable": true,
              "storage": null,
              "version": "0.1.0"
            },
            {
              "address": "127.0.0.1:7103",
              "id": 3,
              "reachable": false,
              "storage": null,
              "version": ""
            }
          ],
          "shards": [
            {
              "end_key": "",
              "epoch": {
                "conf_version": 2,
                "version": 1
              },
              "hashes_differ": false,
              "id": 0,
              "replicas": [
                {
                  "applied_index": 41,
                  "checksum": {
                    "hash": "000000000000feed",
                    "records": 5,
                    "revision": 40
                  },
                  "committed_index": 41,
                  "fault": null,
                  "last_log_index": 41,
                  "node": 1,
                  "replica": 11,
                  "role": "leader",
                  "term": 2
                },
                {
                  "applied_index": 41,
                  "checksum": {
                    "hash": "000000000000feed",
                    "records": 5,
                    "revision": 40
                  },
                  "committed_index": 41,
                  "fault": null,
                  "last_log_index": 41,
                  "node": 2,
                  "replica": 12,
                  "role": "follower",
                  "term": 2
                },
                {
                  "applied_index": 39,
                  "checksum": {
                    "hash": "0000000000001234",
                    "records": 5,
                    "revision": 38
                  },
                  "committed_index": 41,
                  "fault": null,
                  "last_log_index": 41,
                  "node": 3,
                  "replica": 13,
                  "role": "follower",
                  "term": 2
                }
              ],
              "start_key": "10"
            },
            {
              "end_key": "",
              "epoch": {
                "conf_version": 2,
                "version": 1
              },
              "hashes_differ": false,
              "id": 1,
              "replicas": [
                {
                  "applied_index": 0,
                  "checksum": null,
                  "committed_index": 0,
                  "fault": "its node does not answer",
                  "last_log_index": 0,
                  "node": 3,
                  "replica": 0,
                  "role": "unknown",
                  "term": 0
                }
              ],
              "start_key": "10"
            }
          ]
        }
    "#]],
    );
}

#[test]
fn copies_that_differ_are_marked() {
    expect![[r#"
        cluster abababababababababababababababab
        ┌──────┬────────────────┬─────────────┬─────────┐
        │ Node ┆ Address        ┆ State       ┆ Version │
        ╞══════╪════════════════╪═════════════╪═════════╡
        │ 1    ┆ 127.0.0.1:7101 ┆ up          ┆ 0.1.0   │
        │ 2    ┆ 127.0.0.1:7102 ┆ up          ┆ 0.1.0   │
        │ 3    ┆ 127.0.0.1:7103 ┆ UNREACHABLE ┆         │
        └──────┴────────────────┴─────────────┴─────────┘
        ┌───────┬──────┬──────────┬──────┬─────────┬───────────┬───────────────────────┬──────────────────────────┐
        │ Shard ┆ Node ┆ Role     ┆ Term ┆ Applied ┆ Committed ┆ Hash                  ┆ Note                     │
        ╞═══════╪══════╪══════════╪══════╪═════════╪═══════════╪═══════════════════════╪══════════════════════════╡
        │ 0     ┆ 1    ┆ leader   ┆ 2    ┆ 41      ┆ 41        ┆ 000000000000feed @ 40 ┆ !! HASH DIFFERS          │
        │       ┆ 2    ┆ follower ┆ 2    ┆ 41      ┆ 41        ┆ 0000000000000bad @ 40 ┆ !! HASH DIFFERS          │
        │       ┆ 3    ┆ follower ┆ 2    ┆ 39      ┆ 41        ┆ 0000000000001234 @ 38 ┆                          │
        │ 1     ┆ 3    ┆ unknown  ┆ 0    ┆ 0       ┆ 0         ┆ -                     ┆ its node does not answer │
        └───────┴──────┴──────────┴──────┴─────────┴───────────┴───────────────────────┴──────────────────────────┘
        3 nodes, 2 shards, 4 replicas; no leader known: shard 1
        !! HASH DIFFERS at the same revision: shard 0. A copy is damaged: restore it from its peers.
    "#]]
    .assert_eq(&(status(0xbad).table() + "\n"));
    assert_eq!(status(0xbad).json()["shards"][0]["hashes_differ"], true);
    assert_eq!(status(0xfeed).json()["shards"][0]["hashes_differ"], false);
}

#[test]
fn checksums() {
    let copy = |shard, node_id, hash: Option<u64>| admin::ReplicaChecksum {
        shard,
        replica_id: node_id,
        node_id,
        checksum: hash.map(|hash| admin::ShardChecksum { revision: 9, hash, records: 2 }),
    };
    let replicas = vec![copy(1, 1, Some(u64::MAX)), copy(1, 2, Some(1)), copy(2, 1, Some(3)), copy(2, 2, None)];
    let response = admin::ChecksumResponse { replicas };
    assert_eq!(differing_shards(&response), [1]);
    check(
        &response,
        &expect![[r#"
        ┌───────┬──────┬──────────────────────┬─────────┬────────────────────────┐
        │ Shard ┆ Node ┆ Hash                 ┆ Records ┆ Note                   │
        ╞═══════╪══════╪══════════════════════╪═════════╪════════════════════════╡
        │ 1     ┆ 1    ┆ ffffffffffffffff @ 9 ┆ 2       ┆ !! HASH DIFFERS        │
        │       ┆ 2    ┆ 0000000000000001 @ 9 ┆ 2       ┆ !! HASH DIFFERS        │
        │ 2     ┆ 1    ┆ 0000000000000003 @ 9 ┆ 2       ┆                        │
        │       ┆ 2    ┆ -                    ┆ -       ┆ not reached, or behind │
        └───────┴──────┴──────────────────────┴─────────┴────────────────────────┘
        !! HASH DIFFERS at the same revision: shard 1. A copy is damaged: restore it from its peers.
    "#]],
        &expect![[r#"
        {
          "differing_shards": [
            1
          ],
          "replicas": [
            {
              "checksum": {
                "hash": "ffffffffffffffff",
                "records": 2,
                "revision": 9
              },
              "node": 1,
              "replica": 1,
              "shard": 1
            },
            {
              "checksum": {
                "hash": "0000000000000001",
                "records": 2,
                "revision": 9
              },
              "node": 2,
              "replica": 2,
              "shard": 1
            },
            {
              "checksum": {
                "hash": "0000000000000003",
                "records": 2,
                "revision": 9
              },
              "node": 1,
              "replica": 1,
              "shard": 2
            },
            {
              "checksum": null,
              "node": 2,
              "replica": 2,
              "shard": 2
            }
          ]
        }
    "#]],
    );
}

#[test]
fn shards() {
    let route = admin::ShardRoute {
        id: 1,
        start_key: Bytes::from_static(&[0x10]),
        end_key: Bytes::from_static(&[0x10, 0x20, 0x00]),
        epoch: Some(admin::Epoch { version: 1, conf_version: 3 }),
        leader_node_id: 2,
        leader_address: "b:7101".into(),
        replica_addresses: vec!["a:7101".into(), "b:7101".into()],
    };
    let alone = admin::ShardRoute { id: 2, start_key: Bytes::from_static(&[0x20]), ..Default::default() };
    let map =
        admin::ShardMapResponse { cluster_id: Bytes::from_static(&[1; 16]), version: 4, shards: vec![route, alone] };
    check(
        &map,
        &expect![[r#"
        ┌───────┬───────────┬──────────┬────────────────┬────────────────┬───────┐
        │ Shard ┆ Start key ┆ End key  ┆ Leader         ┆ Replicas       ┆ Epoch │
        ╞═══════╪═══════════╪══════════╪════════════════╪════════════════╪═══════╡
        │ 1     ┆ 10        ┆ 102000   ┆ node 2, b:7101 ┆ a:7101, b:7101 ┆ 1.3   │
        │ 2     ┆ 20        ┆ (no end) ┆ -              ┆                ┆ 0.0   │
        └───────┴───────────┴──────────┴────────────────┴────────────────┴───────┘
        shard map version 4
    "#]],
        &expect![[r#"
        {
          "cluster": "01010101010101010101010101010101",
          "shards": [
            {
              "end_key": "102000",
              "epoch": {
                "conf_version": 3,
                "version": 1
              },
              "id": 1,
              "leader_address": "b:7101",
              "leader_node": 2,
              "replicas": [
                "a:7101",
                "b:7101"
              ],
              "start_key": "10"
            },
            {
              "end_key": "",
              "epoch": {
                "conf_version": 0,
                "version": 0
              },
              "id": 2,
              "leader_address": null,
              "leader_node": null,
              "replicas": [],
              "start_key": "20"
            }
          ],
          "version": 4
        }
    "#]],
    );
}

#[test]
fn a_node_that_refuses_writes_says_why() {
    let shown = |reachable, disk_full, refusal: &str| {
        let storage = admin::StorageStatus { disk_full, refusal: refusal.to_owned(), ..Default::default() };
        let node = admin::NodeStatus { id: 4, reachable, storage: Some(storage), ..Default::default() };
        admin::ClusterStatusResponse { nodes: vec![node], ..Default::default() }.table()
    };
    assert!(shown(true, false, "").contains(" up "));
    assert!(shown(true, true, "9 MiB are free").contains("DISK FULL: 9 MiB are free"));
    assert!(shown(true, false, "too many files").contains("REFUSES WRITES: too many files"));
    assert!(shown(false, true, "9 MiB are free").contains("UNREACHABLE"));
}
