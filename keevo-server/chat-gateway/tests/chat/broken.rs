//! Watches of the engine that break: what happens meanwhile is not missed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::StreamExt;
use futures::stream;
use keevo_chat_gateway::ChatGatewayOptions;
use keevo_core::{
    Batch, Consistency, Engine, Error, ErrorKind, FanOut, FannedOut, Key, Keyspace, KeyspaceKind, MemoryEngine, Record,
    Result, Scan, ScanPage, Watch, WatchFrom, WatchRange, Written,
};
use keevo_gateway::GatewayOptions;
use serde_json::json;
use tokio::sync::watch;

use super::support::{Lab, Socket, server, user};

/// An engine whose watches break, and cannot be opened while they are broken.
#[derive(Clone)]
struct Breaking {
    inner: MemoryEngine,
    broken: Arc<watch::Sender<bool>>,
    /// Whether the next watch that goes on comes from too long ago.
    lost: Arc<AtomicBool>,
}

impl Engine for Breaking {
    async fn keyspace(&self, name: &str, kind: KeyspaceKind) -> Result<Keyspace> {
        self.inner.keyspace(name, kind).await
    }

    async fn find_keyspace(&self, name: &str) -> Result<Keyspace> {
        self.inner.find_keyspace(name).await
    }

    async fn get(&self, key: Key, consistency: Consistency) -> Result<Option<Record>> {
        self.inner.get(key, consistency).await
    }

    async fn multi_get(&self, keys: Vec<Key>, consistency: Consistency) -> Result<Vec<Option<Record>>> {
        self.inner.multi_get(keys, consistency).await
    }

    async fn scan(&self, scan: Scan) -> Result<ScanPage> {
        self.inner.scan(scan).await
    }

    async fn write(&self, batch: Batch) -> Result<Written> {
        self.inner.write(batch).await
    }

    async fn fan_out(&self, fan_out: FanOut) -> Result<FannedOut> {
        self.inner.fan_out(fan_out).await
    }

    async fn watch(&self, range: WatchRange, from: WatchFrom) -> Result<Watch> {
        let broke = || Error::new(ErrorKind::Unavailable, "the watch is broken");
        let mut broken = self.broken.subscribe();
        if *broken.borrow_and_update() {
            return Err(broke());
        }
        if !matches!(from, WatchFrom::Now) && self.lost.swap(false, Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::CursorCompacted, "the changes are not kept any more"));
        }
        let events = self.inner.watch(range, from).await?;
        let breaks = Box::pin(async move { broken.wait_for(|broken| *broken).await.is_ok() });
        Ok(events.take_until(breaks).chain(stream::once(async move { Err(broke()) })).boxed())
    }
}

async fn lab() -> (Lab, Arc<watch::Sender<bool>>, Arc<AtomicBool>) {
    let (broken, lost) = (Arc::new(watch::Sender::new(false)), Arc::new(AtomicBool::new(false)));
    let engine = Breaking { inner: MemoryEngine::new(), broken: Arc::clone(&broken), lost: Arc::clone(&lost) };
    let lab = Lab::with(engine, GatewayOptions::default(), ChatGatewayOptions::default(), None).await;
    (lab, broken, lost)
}

#[tokio::test]
async fn a_ban_while_nothing_is_heard_of_users_ends_their_sockets_afterwards() {
    for missed in [false, true] {
        banned_meanwhile(missed).await;
    }
}

/// What happens while the watch of users is broken is heard afterwards; where it is `missed`, users are looked at.
async fn banned_meanwhile(missed: bool) {
    let (lab, broken, lost) = lab().await;
    lab.channel("a", &["ann", "bob", "cat"]).await;
    let address = lab.serve().await;
    let (mut ann, mut bob, mut cat) =
        (Socket::to(address, "ann").await, Socket::to(address, "bob").await, Socket::to(address, "cat").await);
    broken.send_replace(true);
    tokio::time::sleep(Duration::from_millis(50)).await;
    lab.put("bans/bob?user_id=boss", &server(), json!({})).await.good();
    lab.post("users", &server(), json!({ "users": [{ "id": "cat", "role": "admin" }] })).await.good();
    lab.patch("users/ann", &user("ann"), json!({ "custom": { "x": 1 } })).await.good();
    lost.store(missed, Ordering::SeqCst);
    broken.send_replace(false);
    assert_eq!(bob.closed().await, 4003, "it is banned");
    assert_eq!(cat.closed().await, 4011, "what it may hear is judged anew");
    ann.until(if missed { "user.missed" } else { "user.updated" }).await;
    ann.say(json!({ "type": "ping", "id": 5 })).await;
    assert_eq!(ann.until("pong").await["id"], 5, "nothing was wrong with it");
}

#[tokio::test]
async fn what_is_said_while_watches_are_broken_comes_once_afterwards() {
    let (lab, broken, _) = lab().await;
    lab.channel("a", &["ann", "bob"]).await;
    let address = lab.serve().await;
    let mut bob = Socket::to(address, "bob").await;
    bob.subscribe(&["team:a"]).await;
    let mut expected = Vec::new();
    for round in 0..5 {
        broken.send_replace(round % 2 == 1);
        for number in 0..10 {
            let text = format!("{round} {number}");
            lab.post("channels/team/a/messages", &user("ann"), json!({ "text": text })).await.good();
            expected.push(text);
        }
    }
    broken.send_replace(false);
    assert_eq!(bob.texts(50).await, expected);
    bob.is_quiet().await;
}
