//! Search over HTTP on three nodes: each finds the messages of all shards, also after a stop, and after its index was lost.

#![allow(clippy::indexing_slicing, reason = "a test may panic where it is wrong")]

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keevo_gateway::apps::Secret;
use keevo_server::config::{Config, Layers};
use keevo_server::daemon::Daemon;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const SECRET: &str = "a secret of the tests";
const CHANNELS: usize = 24;

fn free_addresses(count: usize) -> Vec<SocketAddr> {
    let held: Vec<TcpListener> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
    held.iter().map(|listener| listener.local_addr().expect("an address")).collect()
}

fn config(dir: &Path, id: usize, grpc: &[SocketAddr], http: &[SocketAddr]) -> Config {
    let peers: Vec<String> = grpc.iter().enumerate().map(|(at, address)| format!("{}={address}", at + 1)).collect();
    let mut layers = Layers::defaults();
    for (name, value) in [
        ("node_id", id.to_string()),
        ("data_dir", dir.join(id.to_string()).display().to_string()),
        ("grpc", grpc[id - 1].to_string()),
        ("http", http[id - 1].to_string()),
        ("peers", peers.join(",")),
        ("shards", "4".to_owned()),
        ("heartbeat_ms", "100".to_owned()),
        ("election_ms_min", "500".to_owned()),
        ("election_ms_max", "1000".to_owned()),
        ("block_cache_mib", "16".to_owned()),
        ("write_buffer_mib", "16".to_owned()),
        ("search_heap_mib", "16".to_owned()),
    ] {
        layers.add_flag(name, &value);
    }
    Config::from_layers(&layers).expect("a good configuration")
}

fn token(claims: &Value) -> String {
    let signed = [json!({ "alg": "HS256", "typ": "JWT" }), claims.clone()];
    let text = signed.map(|value| URL_SAFE_NO_PAD.encode(value.to_string())).join(".");
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes()), text.as_bytes());
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(tag))
}

/// One request on a connection of its own: the status and the answer.
async fn post(at: SocketAddr, path: &str, token: &str, body: &Value) -> (u16, Value) {
    let body = body.to_string();
    let request = format!(
        "POST /chat/v1/{path}?api_key=key HTTP/1.1\r\nHost: {at}\r\nAuthorization: {token}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut socket = TcpStream::connect(at).await.expect("connects");
    socket.write_all(request.as_bytes()).await.expect("asked");
    let mut bytes = Vec::new();
    socket.read_to_end(&mut bytes).await.expect("answered");
    let answer = String::from_utf8_lossy(&bytes).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).expect("a status").parse().expect("a number");
    (status, serde_json::from_str(body).expect("JSON"))
}

async fn good(at: SocketAddr, path: &str, token: &str, body: Value) -> Value {
    // A shard may be between two leaders.
    for _ in 0..100 {
        match post(at, path, token, &body).await {
            (200, answer) => return answer,
            (503, _) => tokio::time::sleep(Duration::from_millis(100)).await,
            (status, answer) => panic!("{path}: {status} {answer}"),
        }
    }
    panic!("{path}: it never answered");
}

/// Waits until a node finds so many messages, and gives the page.
async fn finds(at: SocketAddr, token: &str, query: &str, count: usize) -> Value {
    let mut last = Value::Null;
    for _ in 0..300 {
        last = good(at, "search", token, json!({ "query": query, "limit": 100 })).await;
        if last["results"].as_array().map(Vec::len) == Some(count) {
            return last;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{at} never found {count} for {query}: {last}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cluster_every_node_finds_the_messages_of_all_shards() {
    let dir = tempfile::tempdir().expect("a folder");
    let (grpc, http) = (free_addresses(3), free_addresses(3));
    let configs: Vec<Config> = (1..=3).map(|id| config(dir.path(), id, &grpc, &http)).collect();
    let mut daemons = Vec::new();
    for config in &configs {
        daemons.push(Some(Daemon::start(config.clone()).await.expect("the daemon starts")));
    }
    for daemon in daemons.iter().flatten() {
        daemon.node().ready(Duration::from_secs(30)).await.expect("every shard finds a leader");
    }
    let apps = daemons[0].as_ref().expect("runs").gateway().apps().clone();
    apps.ensure("test", "key".to_owned(), Secret::new(SECRET)).await.expect("an app");
    let (ann, bob) = (token(&json!({ "user_id": "ann" })), token(&json!({ "user_id": "bob" })));
    for number in 0..CHANNELS {
        let at = http[number % 3];
        good(at, "channels", &ann, json!({ "type": "team", "id": format!("c{number}") })).await;
        let body = json!({ "id": "m", "text": format!("the marmalade of channel number{number}") });
        good(at, &format!("channels/team/c{number}/messages"), &ann, body).await;
    }
    for at in &http {
        let page = finds(*at, &ann, "marmalade", CHANNELS).await;
        let shards = page["index"]["applied"].as_object().expect("an object");
        assert_eq!(shards.len(), 4, "the place in every shard is told: {page}");
        finds(*at, &ann, "number7", 1).await;
        finds(*at, &bob, "marmalade", 0).await;
    }

    // A node goes on from where it was, and one whose index is lost makes it anew.
    for lost in [false, true] {
        daemons[2].take().expect("runs").stop().await.expect("it stops");
        let word = format!("quince{lost}");
        good(http[0], "channels/team/c0/messages", &ann, json!({ "text": format!("{word} jam") })).await;
        if lost {
            std::fs::remove_dir_all(dir.path().join("3/search")).expect("removed");
        }
        let again = Daemon::start(configs[2].clone()).await.expect("it starts again");
        again.node().ready(Duration::from_secs(30)).await.expect("every shard finds a leader");
        daemons[2] = Some(again);
        finds(http[2], &ann, &word, 1).await;
        finds(http[2], &ann, "marmalade", CHANNELS).await;
    }
    let (status, metrics) = get(http[2], "/metrics").await;
    assert_eq!(status, 200);
    let documents = format!("keevo_search_documents {}", CHANNELS + 2);
    assert!(metrics.lines().any(|line| line == documents), "{metrics}");
    for daemon in daemons.into_iter().flatten() {
        daemon.stop().await.expect("the daemon stops");
    }
}

async fn get(at: SocketAddr, path: &str) -> (u16, String) {
    let mut socket = TcpStream::connect(at).await.expect("connects");
    let request = format!("GET {path} HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.expect("asked");
    let mut bytes = Vec::new();
    socket.read_to_end(&mut bytes).await.expect("answered");
    let answer = String::from_utf8_lossy(&bytes).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    (head.split(' ').nth(1).expect("a status").parse().expect("a number"), body.to_owned())
}
