//! Watches across restarts: no gap, no repeat.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use keevo_client::ClientOptions;
use keevo_core::{
    Batch, Change, Engine, ErrorKind, Keyspace, KeyspaceKind, MemoryEngine, Result, ShardId, Watch, WatchFrom,
    WatchRange,
};
use keevo_proto::id_bytes;
use keevo_server::host::one_shard_map;

use super::proxy::Proxy;
use super::support::{FaultyEngine, Server, TestHost, connect, options, single};

async fn next_value(watch: &mut Watch) -> String {
    let event = tokio::time::timeout(Duration::from_secs(20), watch.next()).await.expect("in time");
    match event.expect("it goes on").expect("an event").change {
        Change::Put { value, .. } => String::from_utf8(value.to_vec()).expect("text"),
        other => panic!("not a put: {other:?}"),
    }
}

fn range(keyspace: Keyspace) -> WatchRange {
    WatchRange::Partition { keyspace, partition: "p".into(), prefix: "".into() }
}

#[tokio::test]
async fn a_watch_outlives_its_server_without_a_gap() -> Result<()> {
    let (engine, server, client) = single().await;
    let keyspace = client.keyspace("events", KeyspaceKind::Hashed).await?;
    let put = |value: String| Batch::new().put(keyspace.key("p", "k"), value);
    // One has seen an event before the server goes, the other has only its header.
    let mut seen = client.watch(range(keyspace), WatchFrom::Now).await?;
    client.write(put("0".to_owned())).await?;
    assert_eq!(next_value(&mut seen).await, "0");
    let mut unseen = client.watch(WatchRange::Keyspace(keyspace), WatchFrom::Now).await?;
    let address = server.address;
    server.stop().await;
    for value in 1..=5 {
        engine.memory.write(put(value.to_string())).await?;
    }
    let resumed = tokio::spawn(async move {
        let mut values = Vec::new();
        for _ in 1..=5 {
            values.push((next_value(&mut seen).await, next_value(&mut unseen).await));
        }
        values
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let _server = Server::start_on(TestHost::new(engine), address).await;
    let values = resumed.await.expect("no panic");
    let expected: Vec<_> = (1..=5).map(|value| (value.to_string(), value.to_string())).collect();
    assert_eq!(values, expected);
    Ok(())
}

#[tokio::test]
async fn a_watch_that_loses_connections_repeats_nothing() -> Result<()> {
    let engine = FaultyEngine::new(MemoryEngine::new());
    let server = Server::start(TestHost::new(engine.clone())).await;
    let proxy = Proxy::before(server.address).await;
    let client = connect(proxy.address, options()).await;
    let keyspace = client.keyspace("events", KeyspaceKind::Hashed).await?;
    let mut watch = client.watch(range(keyspace), WatchFrom::Now).await?;
    for value in 0..300 {
        if value % 50 == 25 {
            proxy.lose_next_answer();
        }
        engine.memory.write(Batch::new().put(keyspace.key("p", "k"), value.to_string())).await?;
        if value % 3 == 0 {
            tokio::task::yield_now().await;
        }
    }
    for value in 0..300 {
        assert_eq!(next_value(&mut watch).await, value.to_string());
    }
    assert!(proxy.dropped() >= 1, "connections were lost");
    Ok(())
}

#[tokio::test]
async fn a_watch_ends_when_nobody_comes_back() -> Result<()> {
    let engine = FaultyEngine::new(MemoryEngine::new());
    let server = Server::start(TestHost::new(engine)).await;
    let impatient = ClientOptions { watch_resume: Duration::from_millis(200), ..options() };
    let client = connect(server.address, impatient).await;
    let keyspace = client.keyspace("events", KeyspaceKind::Hashed).await?;
    let mut watch = client.watch(range(keyspace), WatchFrom::Now).await?;
    server.stop().await;
    let ended = tokio::time::timeout(Duration::from_secs(10), watch.next()).await.expect("in time");
    assert_eq!(ended.expect("an error first").expect_err("an error").kind(), ErrorKind::Unavailable);
    assert!(watch.next().await.is_none());
    Ok(())
}

#[tokio::test]
async fn a_lone_watch_leaves_a_leader_that_hangs() -> Result<()> {
    let hung = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let hung_address = hung.local_addr().expect("bound").to_string();
    let engine = FaultyEngine::new(MemoryEngine::new());
    let map = Arc::new(Mutex::new(None));
    let server = Server::start(TestHost::of_map(engine.clone(), Arc::clone(&map))).await;
    let live = server.address.to_string();
    let quick = ClientOptions { attempt_timeout: Duration::from_millis(200), ..options() };
    let client = connect(server.address, quick).await;
    let keyspace = client.keyspace("events", KeyspaceKind::Hashed).await?;
    // From now on the map says that the hung node leads; after a while, that the live one does.
    let mut told = one_shard_map(id_bytes(engine.memory.cluster_id().0), ShardId::LOCAL);
    told.version = 2;
    told.shards[0].replica_addresses = vec![hung_address.clone(), live.clone()];
    told.shards[0].leader_address = hung_address;
    *map.lock().expect("not poisoned") = Some(told);
    let lone =
        connect(server.address, ClientOptions { attempt_timeout: Duration::from_millis(200), ..options() }).await;
    let watching = tokio::spawn(async move { lone.watch(range(keyspace), WatchFrom::Now).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    {
        let mut map = map.lock().expect("not poisoned");
        let told = map.as_mut().expect("set");
        told.version = 3;
        told.shards[0].leader_address = live;
    }
    let in_place = tokio::time::timeout(Duration::from_secs(5), watching).await.expect("it is found in time");
    let mut watch = in_place.expect("no panic")?;
    client.write(Batch::new().put(keyspace.key("p", "k"), "seen")).await?;
    assert_eq!(next_value(&mut watch).await, "seen");
    Ok(())
}

#[tokio::test]
async fn a_watch_of_other_data_is_refused() -> Result<()> {
    let (_engine, server, client) = single().await;
    let keyspace = client.keyspace("events", KeyspaceKind::Hashed).await?;
    let mut watch = client.watch(range(keyspace), WatchFrom::Now).await?;
    let address = server.address;
    server.stop().await;
    let other = FaultyEngine::new(MemoryEngine::new());
    let _server = Server::start_on(TestHost::new(other.clone()), address).await;
    other.keyspace("events", KeyspaceKind::Hashed).await?;
    let ended = tokio::time::timeout(Duration::from_secs(20), watch.next()).await.expect("in time");
    assert_eq!(ended.expect("an error first").expect_err("an error").kind(), ErrorKind::WrongCluster);
    Ok(())
}
