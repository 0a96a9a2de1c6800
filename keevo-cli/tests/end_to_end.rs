//! The program against a node: apps as they are managed from a terminal and felt over HTTP, and feeds that are carried from
//! one cluster to another.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use jsonwebtoken::{EncodingKey, Header};
use keevo_server::config::{Config, Layers};
use keevo_server::daemon::Daemon;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

const SECRET: &str = "a secret of the test";

/// A node alone, which leads everything.
struct Node {
    runtime: Runtime,
    daemon: Option<Daemon>,
    grpc: String,
    http: SocketAddr,
    folder: TempDir,
}

impl Node {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut layers = Layers::defaults();
        for (name, value) in [
            ("data_dir", folder.path().join("data").display().to_string()),
            ("grpc", free_address()),
            ("http", free_address()),
            ("shards", "2".to_owned()),
            ("replication_factor", "1".to_owned()),
            ("heartbeat_ms", "100".to_owned()),
            ("election_ms_min", "500".to_owned()),
            ("election_ms_max", "1000".to_owned()),
            ("block_cache_mib", "16".to_owned()),
            ("write_buffer_mib", "16".to_owned()),
        ] {
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
        Self { runtime, daemon: Some(daemon), grpc, http, folder }
    }

    /// Waits a moment.
    fn wait(&self) {
        self.runtime.block_on(async { tokio::time::sleep(Duration::from_millis(100)).await });
    }

    /// Runs the program: exit code, standard output, standard error.
    fn cli(&self, args: &[&str]) -> (Option<i32>, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_keevo-cli"));
        command.env("KEEVO_ENDPOINTS", &self.grpc).env("KEEVO_APP_SECRET", SECRET).env("KEEVO_YES", "1").args(args);
        let output = command.output().expect("the program starts");
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    }

    /// What a command that works writes.
    #[track_caller]
    fn done(&self, args: &[&str]) -> String {
        let (code, out, said) = self.cli(args);
        assert_eq!(code, Some(0), "{args:?}: {said}");
        assert!(!out.contains(SECRET) && !said.contains(SECRET), "{args:?} shows the secret: {out} {said}");
        out
    }

    /// Reads over HTTP with a key and a token: status and code.
    fn get(&self, path: &str, key: &str, claims: &Value) -> (u16, i64) {
        let token = jsonwebtoken::encode(&Header::default(), claims, &EncodingKey::from_secret(SECRET.as_bytes()));
        let token = token.expect("a token");
        let mark = if path.contains('?') { '&' } else { '?' };
        let mut stream = TcpStream::connect(self.http).expect("connects");
        let request = format!(
            "GET /api/v1.0/{path}{mark}api_key={key} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\
             stream-auth-type: jwt\r\nAuthorization: {token}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("answered");
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        let body: Value = serde_json::from_str(body).unwrap_or_default();
        (status, body.get("code").and_then(Value::as_i64).unwrap_or(0))
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

fn server() -> Value {
    json!({ "resource": "*", "action": "*", "feed_id": "*" })
}

#[test]
fn an_app_is_managed_from_the_terminal_and_each_change_is_felt_over_http() {
    let node = Node::start();
    let made = node.done(&["app", "create", "shop", "--key", "shop-1", "--output", "json"]);
    let app = serde_json::from_str::<Value>(&made).expect("JSON")["app"].to_string();
    let app = app.as_str();
    let (code, _, said) = node.cli(&["app", "create", "other", "--key", "shop-1"]);
    assert_eq!(code, Some(5), "{said}");
    let feed = |path: &str| node.get(path, "shop-1", &server());
    let ann = json!({ "user_id": "ann" });
    assert_eq!(feed("feed/user/ann/"), (200, 0));
    assert_eq!(node.get("feed/user/ann/", "nobody", &server()), (401, 2));

    assert_eq!(feed("feed/boards/1/"), (400, 6), "there is no such group");
    node.done(&["app", "group", "set", app, "boards", "--kind", "aggregated", "--others-read", "true"]);
    assert_eq!((feed("feed/boards/1/"), node.get("feed/boards/1/", "shop-1", &ann)), ((200, 0), (200, 0)));
    node.done(&["app", "group", "set", app, "boards", "--others-read", "false"]);
    assert_eq!(node.get("feed/boards/1/", "shop-1", &ann), (403, 17));
    node.done(&["app", "group", "remove", app, "boards"]);
    assert_eq!(feed("feed/boards/1/"), (400, 6));
    let (code, _, said) = node.cli(&["app", "group", "set", app, "boards", "--aggregation", "{{ verb"]);
    assert_eq!(code, Some(2), "{said}");

    let by_ids = "activities/?ids=3e4b1b80-5c1a-11ef-8000-000000000000";
    assert_eq!(node.get(by_ids, "shop-1", &ann), (200, 0));
    node.done(&["app", "policy", app, r#"{"activities_read": false}"#]);
    assert_eq!(node.get(by_ids, "shop-1", &ann), (403, 17));
    let (code, _, said) = node.cli(&["app", "policy", app, r#"{"fly": true}"#]);
    assert_eq!(code, Some(2), "{said}");

    // Over all windows: more reads than a minute's, though one may end in between.
    node.done(&["app", "rate", app, "read", "1"]);
    assert!((0..3).any(|_| feed("feed/user/ann/") == (429, 9)), "one read a minute");
    node.done(&["app", "rate", app, "read", "0"]);
    assert_eq!(feed("feed/user/ann/"), (200, 0), "the default again");

    node.done(&["app", "key", "add", app, "--key", "shop-2"]);
    assert_eq!(node.get("feed/user/ann/", "shop-2", &server()), (200, 0));
    node.done(&["app", "key", "revoke", app, "shop-1"]);
    assert_eq!(feed("feed/user/ann/"), (401, 2));
    node.done(&["app", "suspend", app]);
    assert_eq!(node.get("feed/user/ann/", "shop-2", &server()), (401, 7));
    node.done(&["app", "resume", app]);
    assert_eq!(node.get("feed/user/ann/", "shop-2", &server()), (200, 0));

    node.done(&["app", "webhook", "set", app, "https://example.org/hook", "--group", "user"]);
    let shown = node.done(&["app", "show", app, "--output", "json"]);
    assert!(shown.contains("https://example.org/hook") && shown.contains("shop-2"), "{shown}");
    node.done(&["app", "webhook", "remove", app, "https://example.org/hook"]);
    assert!(!node.done(&["app", "show", app]).contains("example.org"));
    assert!(node.done(&["app", "list"]).contains("shop"));
    node.done(&["app", "delete", app]);
    assert_eq!(node.get("feed/user/ann/", "shop-2", &server()), (401, 2));
    let (code, _, said) = node.cli(&["app", "show", app]);
    assert_eq!(code, Some(4), "{said}");
}

#[test]
fn feeds_and_what_lies_around_them_are_carried_to_another_cluster() {
    let node = Node::start();
    let activity = |object: &str, time: &str| {
        node.done(&[
            "feed",
            "add",
            "user:ann",
            "--actor",
            "SU:ann",
            "--verb",
            "eat",
            "--object",
            object,
            "--time",
            time,
            "--custom",
            r#"{"n":1}"#,
            "--output",
            "json",
        ])
    };
    let users = [r#"{"user":{"id":"ann","data":{"name":"Ann"}}}"#, r#"{"user":{"id":"bob"}}"#].join("\n");
    let entry = r#"{"collection":{"collection":"food","id":"brie","data":{"fat":45},"user_id":"ann"}}"#;
    let first = node.folder.path().join("first.jsonl");
    std::fs::write(&first, format!("{users}\n{entry}\n")).expect("written");
    node.done(&["feed", "import", first.to_str().expect("UTF-8")]);
    activity("SO:food:brie", "2026-01-31T12:00:00Z");
    let last = activity("SO:food:none", "2026-01-31T13:00:00Z");
    let id = serde_json::from_str::<Value>(&last).expect("JSON")["id"].as_str().expect("an id").to_owned();
    node.done(&["feed", "follow", "timeline:bob", "user:ann"]);
    let note = r#"{"text":"yum"}"#;
    let react =
        ["feed", "react", &id, "comment", "--user", "bob", "--id", "r1", "--data", note, "--to", "notification:ann"];
    node.done(&react);
    assert_eq!(node.cli(&react).0, Some(5), "the same id is refused");
    node.done(&["feed", "react", &id, "like", "--user", "ann", "--id", "r2", "--parent", "r1"]);

    let told = node.done(&["feed", "groups", "notification:ann", "--mark-seen", "--output", "json"]);
    let told: Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!((&told["unseen"], &told["groups"][0]["verb"]), (&json!(1), &json!("comment")), "{told}");
    let told = node.done(&["feed", "groups", "notification:ann"]);
    assert!(told.contains("0 not seen, 1 not read"), "{told}");
    let told = node.done(&["feed", "get", "user:ann", "--limit", "1", "--enrich", "--output", "json"]);
    let told: Value = serde_json::from_str(&told).expect("JSON");
    let shown = &told["activities"][0];
    assert_eq!((&shown["actor"]["data"]["name"], &shown["reaction_counts"]["comment"]), (&json!("Ann"), &json!(1)));
    assert!(node.done(&["feed", "stats", "user:ann"]).contains("1 follower and follows 0"));
    assert!(node.done(&["feed", "reactions", &id]).contains("yum"));
    assert!(node.done(&["feed", "user", "ann"]).contains("Ann"));
    assert_eq!(node.cli(&["feed", "user", "carl"]).0, Some(4));
    let ranked = node.done(&["feed", "ranked", "user:ann", "--ranking", r#"{"score": "n"}"#, "--output", "json"]);
    assert_eq!(serde_json::from_str::<Value>(&ranked).expect("JSON")["activities"][0]["score"], json!(1.0));

    let export = |node: &Node| node.done(&["feed", "export", "user:ann", "timeline:bob", "--social"]);
    let exported = export(&node);
    assert_eq!(exported.lines().count(), 8, "two activities, users and reactions, an entry, a follow: {exported}");
    let other = Node::start();
    let file = other.folder.path().join("feeds.jsonl");
    std::fs::write(&file, &exported).expect("written");
    let imported = "imported 2 activities, 1 follow, 2 users, 1 entry, 1 reaction and 1 reply\n";
    for _ in 0..2 {
        assert_eq!(other.done(&["feed", "import", file.to_str().expect("UTF-8")]), imported);
        assert_eq!(export(&other), exported, "it is what it was");
    }
    let reached = other.done(&["feed", "get", "timeline:bob", "--output", "json"]);
    assert_eq!(serde_json::from_str::<Value>(&reached).expect("JSON")["activities"].as_array().map(Vec::len), Some(2));
    assert!(other.done(&["feed", "groups", "notification:ann"]).contains("1 not seen"), "the reaction's target too");
}

#[test]
fn messages_are_found_by_what_they_say() {
    let node = Node::start();
    node.done(&["chat", "create", "team:kitchen", "--by", "ann", "--member", "bob"]);
    node.done(&["chat", "create", "team:garden", "--by", "bob"]);
    for (channel, user, id, text) in [
        ("team:kitchen", "ann", "m1", "the marmalade is done"),
        ("team:kitchen", "bob", "m2", "is the marmalade bitter?"),
        ("team:garden", "bob", "m3", "oranges for marmalade"),
    ] {
        node.done(&["chat", "send", channel, "--user", user, "--id", id, text]);
    }
    node.done(&["chat", "send", "team:kitchen", "--user", "ann", "--id", "r1", "--parent", "m2", "not the marmalade"]);
    // The index is a moment behind.
    let found = |args: &[&str]| -> Value {
        for _ in 0..200 {
            let (code, out, said) = node.cli(&[&["chat", "search", "--output", "json"], args].concat());
            match code {
                Some(0) => {}
                Some(_) if said.contains("is not open yet") => {
                    node.wait();
                    continue;
                }
                _ => panic!("{args:?}: {out}{said}"),
            }
            return serde_json::from_str(&out).expect("JSON");
        }
        panic!("the index is never open");
    };
    let ids = |args: &[&str]| -> Vec<String> {
        let found = found(args);
        let id = |one: &Value| one["id"].as_str().expect("an id").to_owned();
        found["messages"].as_array().expect("a list").iter().map(id).collect()
    };
    let all = ["marmalade", "--sort", "oldest"];
    for round in 0.. {
        if ids(&all).len() == 4 {
            break;
        }
        assert!(round < 200, "they are never found");
        node.wait();
    }
    assert_eq!(ids(&all), ["m1", "m2", "m3", "r1"]);
    assert_eq!(ids(&["marmalade", "--sort", "newest", "--limit", "2"]), ["r1", "m3"]);
    assert_eq!(found(&["marmalade", "--limit", "2"])["more"], json!(true));
    assert_eq!(ids(&["marm* -bitter", "--channel", "team:kitchen", "--sort", "oldest"]), ["m1", "r1"]);
    assert_eq!(ids(&["--user", "bob", "--sort", "oldest"]), ["m2", "m3"]);
    assert_eq!(ids(&["marmalade", "--to", "2020-01-01T00:00:00Z"]).len(), 0);
    assert_eq!(ids(&["\"marmalade is\"", "--from", "1h"]), ["m1"]);
    let table = node.done(&["chat", "search", "oranges"]);
    assert!(table.contains("team:garden") && table.contains("oranges for marmalade"), "{table}");
    assert_eq!(node.done(&["chat", "search", "turnip"]), "nothing is found\n");
    let lines = node.done(&["chat", "search", "marmalade", "--output", "jsonl"]);
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert!(lines.len() == 4 && lines.iter().all(|one| one["text"].is_string()), "{lines:?}");
    let refused = |args: &[&str]| node.cli(&[&["chat", "search"], args].concat());
    let (code, _, said) = refused(&[]);
    assert!(code == Some(2) && said.contains("say words to look for"), "{said}");
    assert_eq!(refused(&["x", "--channel", "team:nowhere"]).0, Some(4));
    assert_eq!(refused(&["x", "--app", "77"]).0, Some(4));
}

#[test]
fn chat_is_carried_to_another_cluster_and_a_user_leaves_it() {
    let node = Node::start();
    let mut lines = vec![
        r#"{"read":{"channel":"team:red","user":"bob","message":"m10","read_at_ms":1700000009000}}"#.to_owned(),
        r#"{"reaction":{"channel":"team:red","message":"m0","user":"bob","type":"like","created_at_ms":1700000000500}}"#
            .to_owned(),
        // Before what it replies to, and of a channel that comes later.
        r#"{"message":{"channel":"team:red","id":"r1","user":"bob","text":"re","parent":"m0","created_at_ms":1700000000400}}"#
            .to_owned(),
        "no JSON".to_owned(),
    ];
    for number in 0..1_200 {
        lines.push(format!(
            r#"{{"message":{{"channel":"team:red","id":"m{number}","user":"ann","text":"text {number}","created_at_ms":{}}}}}"#,
            1_700_000_000_000_u64 + number
        ));
    }
    for user in ["ann", "bob"] {
        lines.push(format!(r#"{{"member":{{"channel":"team:red","user":"{user}","joined_at_ms":1700000000000}}}}"#));
        lines.push(format!(r#"{{"user":{{"id":"{user}","role":"user"}}}}"#));
    }
    lines.push(r#"{"channel":{"channel":"team:red","created_by":"ann","created_at_ms":1700000000000}}"#.to_owned());
    let file = node.folder.path().join("chat.jsonl");
    std::fs::write(&file, lines.join("\n")).expect("written");
    let (file, position) = (file.to_str().expect("UTF-8"), node.folder.path().join("position"));
    let position = position.to_str().expect("UTF-8");
    let (code, out, said) = node.cli(&["chat", "import", file, "--position", position]);
    assert_eq!(code, Some(2), "{said}");
    let counted = "imported 2 users, 1 channel, 2 members, 1200 messages, 1 reply, 1 reaction, 1 read\n";
    assert_eq!(out, counted, "{said}");
    assert!(said.lines().any(|line| line.starts_with("line 4: it is no JSON")), "{said}");
    assert_eq!(node.done(&["chat", "import", file, "--position", position]), "imported 0 messages\n", "it is done");
    assert_eq!(node.cli(&["chat", "import", file]).1, counted, "again from the start changes nothing");
    assert!(node.done(&["chat", "unread", "team:red", "--user", "bob"]).starts_with("1189 unread"));
    let history = node.done(&["chat", "history", "team:red", "--limit", "2", "--output", "json"]);
    let history: Value = serde_json::from_str(&history).expect("JSON");
    assert_eq!(history["messages"][0]["created_at_ms"], json!(1_700_000_001_199_u64), "its own time: {history}");

    let export = |node: &Node, args: &[&str]| {
        let all = node.done(&[&["chat", "export"], args].concat());
        let mut lines: Vec<String> = all.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let exported = export(&node, &["--all", "--users"]);
    assert_eq!(exported.len(), 2 + 1 + 2 + 1_201 + 1 + 1);
    assert_eq!(export(&node, &["--type", "messaging"]).len(), 0);
    assert_eq!(node.cli(&["chat", "export"]).0, Some(2), "nothing was named");
    let other = Node::start();
    let carried = other.folder.path().join("carried.jsonl");
    std::fs::write(&carried, exported.join("\n")).expect("written");
    assert_eq!(other.done(&["chat", "import", carried.to_str().expect("UTF-8")]), counted);
    assert_eq!(export(&other, &["team:red", "--users"]), exported, "it is what it was");

    let of_ann = other.done(&["chat", "export-user", "ann"]);
    assert_eq!(of_ann.lines().filter(|line| line.starts_with("{\"message\"")).count(), 1_200);
    let told = other.done(&["chat", "erase-user", "ann"]);
    assert!(told.starts_with("erased ann: 1 channels, 1200 messages"), "{told}");
    assert!(!export(&other, &["--all", "--users"]).join("\n").contains("\"ann\""), "nothing names her");
    assert!(!export(&other, &["--all"]).join("\n").contains("text 7"));
    assert!(
        other.done(&["chat", "unread", "team:red", "--user", "bob"]).starts_with("0 unread"),
        "what is erased is not unread"
    );
}
