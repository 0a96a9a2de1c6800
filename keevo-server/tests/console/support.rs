//! A node in this process, keys of its roles, and a plain HTTP client.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use keevo_client::Access;
use keevo_proto::admin::v1 as pb;
use keevo_proto::admin::v1::auth_client::AuthClient;
use keevo_proto::chat::v1::chat_client::ChatClient;
use keevo_proto::chat::v1::chat_search_client::ChatSearchClient;
use keevo_server::config::{Config, Layers};
use keevo_server::daemon::Daemon;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The administrator's key of the nodes of these tests.
pub(super) const ADMIN_KEY: &str = "the-administrators-key-of-this-test-0123456789";

/// A node alone.
pub(super) struct Node {
    pub(super) daemon: Daemon,
    _dir: TempDir,
}

fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound").to_string()
}

impl Node {
    /// A node that asks callers who they are, or does not, with further settings.
    pub(super) async fn start(auth: bool, more: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let key = dir.path().join("admin.key");
        std::fs::write(&key, ADMIN_KEY).expect("written");
        let mut layers = Layers::defaults();
        for (name, value) in [
            ("data_dir", dir.path().join("data").display().to_string()),
            ("grpc", free_address()),
            ("http", free_address()),
            ("shards", "4".to_owned()),
            ("replication_factor", "1".to_owned()),
            ("heartbeat_ms", "100".to_owned()),
            ("election_ms_min", "500".to_owned()),
            ("election_ms_max", "1000".to_owned()),
            ("block_cache_mib", "16".to_owned()),
            ("write_buffer_mib", "16".to_owned()),
        ] {
            layers.add_flag(name, &value);
        }
        if auth {
            layers.add_flag("auth", "true");
            layers.add_flag("auth_admin_key_file", &key.display().to_string());
        }
        for (name, value) in more {
            layers.add_flag(name, value);
        }
        let config = Config::from_layers(&layers).expect("a good configuration");
        let daemon = Daemon::start(config).await.expect("it starts");
        daemon.node().ready(Duration::from_secs(30)).await.expect("every shard finds a leader");
        let node = Self { daemon, _dir: dir };
        // Until the table of roles and keys was read, nobody is let in by it.
        let knows = async || node.ask("keevo_0_0", "session").await.0 != 503;
        while !knows().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        node
    }

    pub(super) async fn stop(self) {
        self.daemon.stop().await.expect("it stops");
    }

    fn connection(&self, key: &str) -> keevo_client::Connection {
        let access = Access { tls: None, key: Some(key.parse().expect("a key")) };
        let endpoint = access.endpoint(&self.daemon.grpc().to_string()).expect("an address");
        access.connect_lazy(&endpoint)
    }

    fn auth(&self) -> AuthClient<keevo_client::Connection> {
        AuthClient::new(self.connection(ADMIN_KEY))
    }

    /// Chat, as a program reaches it.
    pub(super) fn chat(&self) -> ChatClient<keevo_client::Connection> {
        ChatClient::new(self.connection(ADMIN_KEY))
    }

    /// Search over gRPC, as the holder of a key reaches it.
    pub(super) fn search(&self, key: &str) -> ChatSearchClient<keevo_client::Connection> {
        ChatSearchClient::new(self.connection(key))
    }

    /// Makes a role and a key of it: the key's id and text.
    pub(super) async fn key(&self, role: &str, grants: &[&str]) -> (String, String) {
        let grants = grants.iter().map(|text| (*text).to_owned()).collect();
        self.auth().set_role(pb::SetRoleRequest { name: role.to_owned(), grants }).await.expect("a role");
        let made = self.auth().create_key(pb::CreateKeyRequest { role: role.to_owned(), ..Default::default() }).await;
        let made = made.expect("a key").into_inner();
        (made.key.expect("what is kept of it").id, made.secret)
    }

    pub(super) async fn revoke(&self, id: &str) {
        self.auth().revoke_key(pb::RevokeKeyRequest { id: id.to_owned() }).await.expect("revoked");
    }

    /// Asks for something with a key: the status and the answer.
    pub(super) async fn ask(&self, key: &str, path: &str) -> (u16, Value) {
        let bearer = format!("authorization: Bearer {key}");
        let answer = http(self.daemon.http(), "GET", &format!("/console/api/{path}"), &[&bearer], None).await;
        (answer.status, answer.json())
    }

    /// As [`Node::ask`], for what succeeds.
    pub(super) async fn get(&self, key: &str, path: &str) -> Value {
        let (status, body) = self.ask(key, path).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    /// Sends something with a key, as the page does.
    pub(super) async fn send(&self, key: &str, path: &str, body: &Value) -> (u16, Value) {
        let bearer = format!("authorization: Bearer {key}");
        let headers = [bearer.as_str(), "x-keevo-console: 1", "content-type: application/json"];
        let path = format!("/console/api/{path}");
        let answer = http(self.daemon.http(), "POST", &path, &headers, Some(&body.to_string())).await;
        (answer.status, answer.json())
    }
}

/// What a server has answered.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) status: u16,
    /// Names in small letters.
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Answered {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(found, _)| found == name).map_or("", |(_, value)| value)
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| json!(String::from_utf8_lossy(&self.body)))
    }
}

/// One request on a connection of its own.
pub(super) async fn http(at: SocketAddr, verb: &str, path: &str, headers: &[&str], body: Option<&str>) -> Answered {
    let mut head = vec![format!("{verb} {path} HTTP/1.1"), "Connection: close".to_owned()];
    if !headers.iter().any(|header| header.to_lowercase().starts_with("host:")) {
        head.push(format!("Host: {at}"));
    }
    let body = body.unwrap_or_default();
    head.push(format!("Content-Length: {}", body.len()));
    head.extend(headers.iter().map(|header| (*header).to_owned()));
    let request = format!("{}\r\n\r\n{body}", head.join("\r\n"));
    let mut socket = TcpStream::connect(at).await.expect("connects");
    socket.write_all(request.as_bytes()).await.expect("asked");
    let mut bytes = Vec::new();
    socket.read_to_end(&mut bytes).await.expect("answered");
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let status = head.split(' ').nth(1).expect("a status").parse().expect("a number");
    let headers = head.lines().skip(1).filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
    Answered { status, headers, body: bytes[end + 4..].to_vec() }
}
