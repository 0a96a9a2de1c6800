//! `Follower` and `Stale` reads: to a near replica, or any, and to the leader when that one fails.

use std::time::Duration;

use keevo_client::{ClientOptions, RemoteEngine};
use keevo_core::{Batch, Consistency, Engine, Error, ErrorKind, Key, KeyspaceKind, Result, Scan};

use super::routing::{Nodes, calls, three_nodes_that};
use super::support::{Fault, options};

const STALE: Consistency = Consistency::Stale { max_age_ms: 1_000 };

fn addresses(nodes: &Nodes) -> Vec<String> {
    nodes.servers.iter().map(|server| server.address.to_string()).collect()
}

/// A key in shard 1, which node 1 leads.
async fn key(client: &RemoteEngine) -> Result<Key> {
    let keyspace = client.keyspace("users", KeyspaceKind::Hashed).await?;
    let in_shard_1 = |key: &Key| key.encode().starts_with(&[0x10]) && key.encode()[1] < 0x80;
    let key = (0..).map(|number| keyspace.key(format!("user{number}"), "n")).find(in_shard_1).expect("there is one");
    client.write(Batch::new().put(key.clone(), "there")).await?;
    Ok(key)
}

/// How many calls each node got during `what`.
async fn during(nodes: &Nodes, what: impl Future<Output = Result<()>>) -> Vec<usize> {
    let before = calls(nodes);
    what.await.expect("all is answered");
    calls(nodes).iter().zip(&before).map(|(after, before)| after - before).collect()
}

async fn read_often(client: &RemoteEngine, key: &Key, consistency: Consistency) -> Result<()> {
    for _ in 0..20 {
        assert!(client.get(key.clone(), consistency).await?.is_some());
        let found = client.multi_get(vec![key.clone(), key.clone()], consistency).await?;
        assert!(found.iter().all(Option::is_some));
        let scan = Scan { consistency, ..Scan::partition(key.keyspace, key.partition.clone(), 10) };
        assert_eq!(client.scan(scan).await?.records.len(), 1);
    }
    Ok(())
}

#[tokio::test]
async fn reads_that_any_replica_may_serve_spread_over_all() -> Result<()> {
    let (nodes, client) = three_nodes_that(true).await;
    let key = key(&client).await?;
    for consistency in [Consistency::Follower, STALE] {
        let calls = during(&nodes, read_often(&client, &key, consistency)).await;
        assert_eq!(calls.iter().sum::<usize>(), 60, "{consistency:?}: one attempt each: {calls:?}");
        assert!(calls.iter().all(|calls| *calls >= 5), "{consistency:?}: {calls:?}");
    }
    let calls = during(&nodes, read_often(&client, &key, Consistency::Linearizable)).await;
    assert_eq!(calls, [0, 60, 0], "the leader alone");
    Ok(())
}

#[tokio::test]
async fn a_near_replica_is_preferred_and_the_leader_stands_in_for_it() -> Result<()> {
    let (mut nodes, client) = three_nodes_that(true).await;
    let key = key(&client).await?;
    let addresses = addresses(&nodes);
    let near = vec!["nowhere:1".to_owned(), addresses[2].clone()];
    let hurried = ClientOptions { near, attempt_timeout: Duration::from_millis(300), ..options() };
    let client = RemoteEngine::connect(addresses, hurried).await?;
    for consistency in [Consistency::Follower, STALE] {
        assert_eq!(during(&nodes, read_often(&client, &key, consistency)).await, [0, 0, 60]);
    }
    assert_eq!(during(&nodes, read_often(&client, &key, Consistency::Linearizable)).await, [0, 60, 0]);
    // It refuses: the second attempt is the leader's.
    nodes.engines[2].script([Fault::Refuse(Error::new(ErrorKind::Unavailable, "it starts"))]);
    let one_read = async { client.get(key.clone(), Consistency::Follower).await.map(drop) };
    assert_eq!(during(&nodes, one_read).await, [0, 1, 1]);
    // It hangs.
    nodes.engines[2].stall(true);
    let one_read = async { client.get(key.clone(), STALE).await.map(drop) };
    assert_eq!(during(&nodes, one_read).await, [0, 1, 1]);
    nodes.engines[2].stall(false);
    // It is gone.
    nodes.servers.remove(2).stop().await;
    let one_read = async { client.get(key.clone(), Consistency::Follower).await.map(drop) };
    assert_eq!(during(&nodes, one_read).await, [0, 1, 0]);
    Ok(())
}
