//! Several nodes: each key goes to its shard's leader, hints are followed, moved shards are found again.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use keevo_client::{ClientOptions, RemoteEngine};
use keevo_core::{
    Batch, Consistency, Engine, Error, ErrorKind, FanOut, FanOutAction, KeyspaceKind, MemoryEngine, Result, Scan,
    ScanRange, Target,
};
use keevo_proto::admin::v1 as admin;
use keevo_proto::id_bytes;
use tokio::net::TcpListener;

use super::support::{Fault, FaultyEngine, Owns, Server, TestHost, integer, options, single};

/// Where the shards begin. Hashed partitions are cut in two; the ordered keyspaces 1 to 3 are cut at partition "m".
fn cuts() -> Vec<Bytes> {
    let ordered = |id: u8| Bytes::from(vec![0x20, 0, 0, 0, id, b'm']);
    let mut cuts = vec![Bytes::from_static(&[0x08]), Bytes::from_static(&[0x10])];
    cuts.push(Bytes::from_static(&[0x10, 0x80]));
    cuts.extend((1..=3).map(ordered));
    cuts.push(Bytes::from_static(&[0x30]));
    cuts
}

/// Three nodes over one `MemoryEngine`; shard n is led by node n modulo 3, and the others refuse its keys.
pub(crate) struct Nodes {
    pub(crate) engines: Vec<FaultyEngine>,
    pub(crate) servers: Vec<Server>,
    pub(crate) map: Arc<Mutex<Option<admin::ShardMapResponse>>>,
}

fn position(cuts: &[Bytes], key: &[u8]) -> usize {
    cuts.partition_point(|cut| cut.as_ref() <= key) - 1
}

pub(crate) async fn three_nodes() -> (Nodes, RemoteEngine) {
    three_nodes_that(false).await
}

/// Three nodes; `follow` = those that do not lead a shard serve its reads too.
pub(crate) async fn three_nodes_that(follow: bool) -> (Nodes, RemoteEngine) {
    let base = FaultyEngine::new(MemoryEngine::new());
    let mut listeners = Vec::new();
    for _ in 0..3 {
        listeners.push(TcpListener::bind("127.0.0.1:0").await.expect("a free port"));
    }
    let addresses: Vec<String> = listeners.iter().map(|one| one.local_addr().expect("bound").to_string()).collect();
    let cuts = cuts();
    let shards = cuts.windows(2).enumerate().map(|(id, ends)| admin::ShardRoute {
        id: u64::try_from(id).expect("few"),
        start_key: ends[0].clone(),
        end_key: ends[1].clone(),
        epoch: None,
        leader_node_id: 1,
        leader_address: addresses[id % 3].clone(),
        replica_addresses: addresses.clone(),
    });
    let cluster_id = id_bytes(base.memory.cluster_id().0);
    let response = admin::ShardMapResponse { cluster_id, version: 1, shards: shards.collect() };
    let map = Arc::new(Mutex::new(Some(response)));
    let (mut engines, mut servers) = (Vec::new(), Vec::new());
    for (node, listener) in listeners.into_iter().enumerate() {
        let (cuts, addresses) = (cuts.clone(), addresses.clone());
        let owns: Owns = Arc::new(move |key| {
            let leader = position(&cuts, key) % 3;
            let refused =
                Error::new(ErrorKind::NotLeader, format!("node {node} follows")).with_leader(&addresses[leader]);
            if leader == node || follow { Ok(()) } else { Err(refused) }
        });
        let engine = base.node(owns);
        servers.push(Server::start_with(TestHost::of_map(engine.clone(), Arc::clone(&map)), listener));
        engines.push(engine);
    }
    let client = RemoteEngine::connect(addresses, options()).await.expect("connects");
    (Nodes { engines, servers, map }, client)
}

pub(crate) fn calls(nodes: &Nodes) -> Vec<usize> {
    nodes.engines.iter().map(|engine| engine.calls.load(Ordering::SeqCst)).collect()
}

#[tokio::test]
async fn every_key_goes_straight_to_its_leader() -> Result<()> {
    let (nodes, client) = three_nodes().await;
    let keyspace = client.keyspace("users", KeyspaceKind::Hashed).await?;
    for number in 0..40 {
        client.write(Batch::new().merge(keyspace.key(format!("user{number}"), "n"), 1)).await?;
    }
    let before = calls(&nodes);
    for number in 0..40 {
        assert_eq!(integer(&client, keyspace.key(format!("user{number}"), "n")).await, Some(1));
    }
    let after: Vec<usize> = calls(&nodes).iter().zip(&before).map(|(after, before)| after - before).collect();
    assert_eq!(after.iter().sum::<usize>(), 40, "no get needed a second attempt: {after:?}");
    assert!(after[1] > 5 && after[2] > 5, "both hashed shards are read: {after:?}");
    Ok(())
}

#[tokio::test]
async fn a_wrong_map_is_corrected_by_hints() -> Result<()> {
    let (nodes, _client) = three_nodes().await;
    // A map in which every shard is led by the wrong node.
    let addresses: Vec<String> = nodes.servers.iter().map(|server| server.address.to_string()).collect();
    for (id, shard) in nodes.map.lock().expect("not poisoned").as_mut().expect("set").shards.iter_mut().enumerate() {
        shard.leader_address.clone_from(&addresses[(id + 1) % 3]);
    }
    let client = RemoteEngine::connect(addresses, options()).await?;
    let keyspace = client.keyspace("users", KeyspaceKind::Hashed).await?;
    for number in 0..20 {
        let key = keyspace.key(format!("user{number}"), "n");
        assert_eq!(client.write(Batch::new().merge(key.clone(), 1)).await?.assigned, [1]);
        assert_eq!(integer(&client, key).await, Some(1));
    }
    Ok(())
}

#[tokio::test]
async fn fan_outs_reads_and_scans_span_the_shards() -> Result<()> {
    let (nodes, client) = three_nodes().await;
    let feeds = client.keyspace("feeds", KeyspaceKind::Hashed).await?;
    let partitions: Vec<Bytes> = (0..300).map(|number| Bytes::from(format!("feed{number}"))).collect();
    let fan_out = FanOut {
        keyspace: feeds,
        sort: Bytes::from("a"),
        action: FanOutAction::Put { value: Bytes::from("post"), ttl_ms: None },
        guard_sort: None,
        targets: partitions.iter().map(|one| Target { partition: one.clone(), guard: None }).collect(),
    };
    let before = calls(&nodes);
    assert_eq!(client.fan_out(fan_out).await?.applied, 300);
    let fanned: usize = calls(&nodes).iter().zip(&before).map(|(after, before)| after - before).sum();
    assert_eq!(fanned, 2, "one call a shard");
    let keys: Vec<_> = partitions.iter().map(|one| feeds.key(one.clone(), "a")).collect();
    let records = client.multi_get(keys, Consistency::Linearizable).await?;
    assert!(records.iter().all(|record| record.as_ref().is_some_and(|record| record.value == "post")));

    let sorted = client.keyspace("sorted", KeyspaceKind::Ordered { partition_bytes: 1 }).await?;
    assert_eq!(sorted.id.0, 2, "the keyspace that is cut at m");
    for letter in b'a'..=b'z' {
        client.write(Batch::new().put(sorted.key(vec![letter], "x"), vec![letter])).await?;
    }
    for backward in [false, true] {
        let range = ScanRange::Ordered { keyspace: sorted, start: Bytes::new(), end: Bytes::new() };
        let mut scan = Scan { range, ..Scan::partition(sorted, "", 5) };
        scan = if backward { scan.backward() } else { scan };
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = client.scan(scan.clone().after(after)).await?;
            found.extend(page.records.iter().flat_map(|(key, _)| key.partition.to_vec()));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        let mut expected: Vec<u8> = (b'a'..=b'z').collect();
        if backward {
            expected.reverse();
        }
        assert_eq!(found, expected, "backward: {backward}");
    }
    Ok(())
}

#[tokio::test]
async fn a_moved_shard_is_found_again() -> Result<()> {
    let (engine, _server, client) = single().await;
    let keyspace = client.keyspace("users", KeyspaceKind::Hashed).await?;
    let key = keyspace.key("alice", "n");
    client.write(Batch::new().merge(key.clone(), 1)).await?;
    let moved = || Fault::Refuse(Error::new(ErrorKind::ShardMoved, "the shard was split"));
    engine.script([moved(), moved()]);
    assert_eq!(integer(&client, key.clone()).await, Some(1));
    engine.script([moved(), moved()]);
    assert_eq!(client.write(Batch::new().merge(key.clone(), 1)).await?.assigned, [2]);
    engine.script([moved()]);
    let read = client.multi_get(vec![key.clone(), keyspace.key("bob", "n")], Consistency::Follower).await?;
    assert!(read[0].is_some() && read[1].is_none());
    // The one request for the keys of all shards is refused, and so is the first one for those of one shard.
    engine.script([moved(), moved()]);
    let read = client.multi_get(vec![key.clone(), keyspace.key("bob", "n")], Consistency::Linearizable).await?;
    assert!(read[0].is_some() && read[1].is_none());
    engine.script([moved()]);
    assert_eq!(client.scan(Scan::partition(keyspace, "alice", 9)).await?.records.len(), 1);
    engine.script([moved()]);
    let target = Target { partition: Bytes::from("alice"), guard: None };
    let action = FanOutAction::Put { value: Bytes::from("x"), ttl_ms: None };
    let fan_out = FanOut { keyspace, sort: Bytes::from("f"), action, guard_sort: None, targets: vec![target] };
    assert_eq!(client.fan_out(fan_out).await?.applied, 1);
    Ok(())
}

#[tokio::test]
async fn a_node_that_dies_is_left_for_another() -> Result<()> {
    let (mut nodes, client) = three_nodes().await;
    let keyspace = client.keyspace("users", KeyspaceKind::Hashed).await?;
    client.write(Batch::new().merge(keyspace.key("alice", "n"), 1)).await?;
    // Node 2 dies; what it led is led by node 1 from now on, and every node knows.
    nodes.servers.remove(2).stop().await;
    let heir = nodes.servers[1].address.to_string();
    {
        let mut map = nodes.map.lock().expect("not poisoned");
        let map = map.as_mut().expect("set");
        map.version = 2;
        for (id, shard) in map.shards.iter_mut().enumerate() {
            if id % 3 == 2 {
                shard.leader_address.clone_from(&heir);
            }
        }
    }
    let all: Owns = Arc::new(|_| Ok(()));
    let heir = nodes.servers.remove(1);
    let address = heir.address;
    heir.stop().await;
    let engine = nodes.engines[1].node(all);
    let _heir = Server::start_on(TestHost::of_map(engine, Arc::clone(&nodes.map)), address).await;
    for number in 0..20 {
        let key = keyspace.key(format!("user{number}"), "n");
        let written = client.write_within(Batch::new().merge(key, 1), Duration::from_secs(10)).await?;
        assert_eq!(written.assigned, [1]);
    }
    assert_eq!(client.shard_map().await?.version, 2);
    Ok(())
}

/// A leader that is cut off from the other nodes, but not from clients, goes on naming itself and answers `NO_QUORUM`. A
/// client once took that as the last word and asked it again and again, though the others had a new leader and everything
/// but this client went on; and any of its calls that fetched the shard map anew might get the map of the lonely node,
/// which sent all its other calls there too. Found by `make faults`, in the case `partition`.
#[tokio::test]
async fn a_leader_that_is_cut_off_is_left_for_its_successor() -> Result<()> {
    let (mut nodes, client) = three_nodes().await;
    let keyspace = client.keyspace("users", KeyspaceKind::Hashed).await?;
    for number in 0..20 {
        client.write(Batch::new().merge(keyspace.key(format!("user{number}"), "n"), 1)).await?;
    }
    // Node 2 is cut off. Node 1 leads what it led: nodes 0 and 1 say so from now on, node 2 names itself as before.
    let heir = nodes.servers[1].address.to_string();
    let others = nodes.map.lock().expect("not poisoned").clone();
    let others = Arc::new(Mutex::new(others));
    for (id, shard) in others.lock().expect("not poisoned").as_mut().expect("set").shards.iter_mut().enumerate() {
        if id % 3 == 2 {
            shard.leader_address.clone_from(&heir);
        }
    }
    let first_leads: Owns = Arc::new(|_| Ok(()));
    for (node, owns) in [(1, Arc::clone(&first_leads)), (0, refuses_what_it_does_not_lead(&heir))] {
        let server = nodes.servers.remove(node);
        let address = server.address;
        server.stop().await;
        let engine = nodes.engines[node].node(owns);
        nodes.servers.insert(node, Server::start_on(TestHost::of_map(engine, Arc::clone(&others)), address).await);
    }
    let lonely = || Fault::Refuse(Error::new(ErrorKind::NoQuorum, "the shard did not confirm its leader"));
    nodes.engines[2].script(std::iter::repeat_with(lonely).take(100_000));
    for number in 0..20 {
        let key = keyspace.key(format!("user{number}"), "n");
        let written = client.write_within(Batch::new().merge(key.clone(), 1), Duration::from_secs(10)).await?;
        assert_eq!(written.assigned, [2]);
        assert_eq!(integer(&client, key).await, Some(2));
    }
    let asked = nodes.engines[2].calls.load(Ordering::SeqCst);
    for number in 0..20 {
        integer(&client, keyspace.key(format!("user{number}"), "n")).await;
    }
    assert_eq!(nodes.engines[2].calls.load(Ordering::SeqCst), asked, "nobody asks the lonely node any more");
    Ok(())
}

/// A read of many keys asks each node once for all that it leads. It once learned nothing from a node that did not answer,
/// and asked it again for every shard.
#[tokio::test]
async fn a_read_of_many_keys_asks_a_silent_leader_once() -> Result<()> {
    let (nodes, _patient) = three_nodes_that(true).await;
    let addresses: Vec<String> = nodes.servers.iter().map(|server| server.address.to_string()).collect();
    let hurried = ClientOptions { attempt_timeout: Duration::from_millis(200), ..options() };
    let client = RemoteEngine::connect(addresses.clone(), hurried).await?;
    let keyspace = client.keyspace("users", KeyspaceKind::Hashed).await?;
    let keys: Vec<_> = (0..40).map(|number| keyspace.key(format!("user{number}"), "n")).collect();
    client.write(Batch::new().merge(keys[0].clone(), 1)).await?;
    // Node 2 falls silent, and node 1 leads what it led. The client has not heard of it.
    {
        let mut map = nodes.map.lock().expect("not poisoned");
        let map = map.as_mut().expect("set");
        map.version = 2;
        for shard in map.shards.iter_mut().filter(|shard| shard.leader_address == addresses[2]) {
            shard.leader_address.clone_from(&addresses[1]);
        }
    }
    nodes.engines[2].stall(true);
    let before = calls(&nodes);
    let found = client.multi_get(keys, Consistency::Linearizable).await?;
    assert!(found[0].is_some() && found.iter().skip(1).all(Option::is_none));
    let asked = calls(&nodes)[2] - before[2];
    assert_eq!(asked, 1, "once, for all that it was thought to lead");
    nodes.engines[2].stall(false);
    Ok(())
}

/// Node 0 after node 1 has taken over from node 2: it leads what it led before.
fn refuses_what_it_does_not_lead(heir: &str) -> Owns {
    let (cuts, heir) = (cuts(), heir.to_owned());
    Arc::new(move |key| {
        let refused = Error::new(ErrorKind::NotLeader, "node 0 follows").with_leader(&heir);
        if position(&cuts, key).is_multiple_of(3) { Ok(()) } else { Err(refused) }
    })
}
