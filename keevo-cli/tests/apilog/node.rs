//! A node alone in this process, the program against it, and requests over HTTP.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use jsonwebtoken::{EncodingKey, Header};
use keevo_server::config::{Config, Layers};
use keevo_server::daemon::Daemon;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

pub(crate) const KEY: &str = "shop-1";
pub(crate) const SECRET: &str = "a secret of the test";

/// A node alone, which leads everything, with an app.
pub(crate) struct Node {
    pub(crate) runtime: Runtime,
    daemon: Option<Daemon>,
    pub(crate) grpc: String,
    http: SocketAddr,
    _folder: TempDir,
}

impl Node {
    pub(crate) fn start(shards: u32) -> Self {
        Self::start_with(shards, |_folder| Vec::new())
    }

    /// One whose log is archived, of which it keeps little more than that, and which has a place for backups.
    pub(crate) fn start_archived(shards: u32) -> Self {
        Self::start_with(shards, |folder| {
            let storage = folder.join("storage").display().to_string();
            let [every_ms, kept] = ["200", "4"].map(str::to_owned);
            vec![("archive_url", storage), ("archive_every_ms", every_ms), ("log_entries_kept", kept)]
        })
    }

    fn start_with(shards: u32, more: impl FnOnce(&Path) -> Vec<(&'static str, String)>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut layers = Layers::defaults();
        for (name, value) in [
            ("data_dir", folder.path().join("data").display().to_string()),
            ("grpc", free_address()),
            ("http", free_address()),
            ("shards", shards.to_string()),
            ("replication_factor", "1".to_owned()),
            ("heartbeat_ms", "100".to_owned()),
            ("election_ms_min", "500".to_owned()),
            ("election_ms_max", "1000".to_owned()),
            ("block_cache_mib", "16".to_owned()),
            ("write_buffer_mib", "16".to_owned()),
        ]
        .into_iter()
        .chain(more(folder.path()))
        {
            layers.add_flag(name, &value);
        }
        let config = Config::from_layers(&layers).expect("a good configuration");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let daemon = runtime.block_on(async {
            let daemon = Daemon::start(config).await.expect("it starts");
            daemon.node().ready(Duration::from_secs(30)).await.expect("every shard finds a leader");
            daemon
        });
        let (grpc, http) = (daemon.grpc().to_string(), daemon.http());
        let node = Self { runtime, daemon: Some(daemon), grpc, http, _folder: folder };
        node.done(&["app", "create", "shop", "--key", KEY]);
        node
    }

    /// Runs the program: exit code, standard output, standard error.
    pub(crate) fn cli(&self, args: &[&str]) -> (Option<i32>, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_keevo-cli"));
        command.env("KEEVO_ENDPOINTS", &self.grpc).env("KEEVO_APP_SECRET", SECRET).env("KEEVO_YES", "1").args(args);
        let output = command.output().expect("the program starts");
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    }

    /// What a command that works writes.
    #[track_caller]
    pub(crate) fn done(&self, args: &[&str]) -> String {
        let (code, out, said) = self.cli(args);
        assert_eq!(code, Some(0), "{args:?}: {out} {said}");
        out
    }

    /// The JSON that a command writes.
    #[track_caller]
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let args: Vec<&str> = args.iter().copied().chain(["--output", "json"]).collect();
        serde_json::from_str(&self.done(&args)).expect("JSON")
    }

    /// Sends a request over HTTP, with a server's token or a user's: status and body.
    pub(crate) fn ask(&self, method: &str, path: &str, user: Option<&str>, body: &Value) -> (u16, Value) {
        let all = json!({ "resource": "*", "action": "*", "feed_id": "*" });
        let claims = user.map_or(all, |user| json!({ "user_id": user }));
        let token = jsonwebtoken::encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET.as_bytes()));
        let token = token.expect("a token");
        let mark = if path.contains('?') { '&' } else { '?' };
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let mut stream = TcpStream::connect(self.http).expect("connects");
        let request = format!(
            "{method} {path}{mark}api_key={KEY} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {}\r\n\
             Content-Type: application/json\r\nstream-auth-type: jwt\r\nAuthorization: {token}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("answered");
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        (status, serde_json::from_str(body).unwrap_or_default())
    }

    /// Sends a request that works.
    #[track_caller]
    pub(crate) fn did(&self, method: &str, path: &str, user: Option<&str>, body: &Value) -> Value {
        let (status, answer) = self.ask(method, path, user, body);
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
        answer
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            drop(self.runtime.block_on(daemon.stop()));
        }
    }
}

fn free_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound").to_string()
}
