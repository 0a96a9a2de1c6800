//! The program makes a CA, a node serves by it, and rights are managed and audited from the terminal.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use keevo_server::config::{Config, Layers};
use keevo_server::daemon::Daemon;
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Runtime;

fn free_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound").to_string()
}

/// Runs the program with nothing from the environment of the test: exit code, standard output, standard error.
fn run(variables: &[(&str, &str)], args: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keevo-cli"));
    let output = command.env_clear().envs(variables.iter().copied()).args(args).output().expect("the program starts");
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// A node alone that serves over TLS and asks callers who they are.
struct Node {
    runtime: Runtime,
    daemon: Option<Daemon>,
    endpoint: String,
    certs: PathBuf,
    _folder: TempDir,
}

impl Node {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let certs = folder.path().join("certs");
        let dir = certs.display().to_string();
        let (code, made, said) = run(&[], &["cert", "init", &dir, "--nodes", "1"]);
        assert_eq!(code, Some(0), "{said}");
        assert!(made.contains("ca.key") && made.contains("node-1.crt") && made.contains("admin.key"), "{made}");
        let path = |name: &str| certs.join(name).display().to_string();
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
            ("tls_cert", path("node-1.crt")),
            ("tls_key", path("node-1.key")),
            ("tls_client_ca", path("ca.crt")),
            ("auth", "true".to_owned()),
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
        let endpoint = format!("https://{}", daemon.grpc());
        Self { runtime, daemon: Some(daemon), endpoint, certs, _folder: folder }
    }

    fn path(&self, name: &str) -> String {
        self.certs.join(name).display().to_string()
    }

    /// Runs a command as the client with that certificate.
    fn as_client(&self, name: &str, args: &[&str]) -> (Option<i32>, String, String) {
        let (ca, cert, key) =
            (self.path("ca.crt"), self.path(&format!("{name}.crt")), self.path(&format!("{name}.key")));
        let variables = [
            ("KEEVO_ENDPOINTS", self.endpoint.as_str()),
            ("KEEVO_CA", &ca),
            ("KEEVO_CERT", &cert),
            ("KEEVO_CERT_KEY", &key),
            ("KEEVO_YES", "1"),
        ];
        run(&variables, args)
    }

    /// Runs a command with an API key and no certificate.
    fn with_key(&self, key: &str, args: &[&str]) -> (Option<i32>, String, String) {
        let ca = self.path("ca.crt");
        run(&[("KEEVO_ENDPOINTS", self.endpoint.as_str()), ("KEEVO_CA", &ca), ("KEEVO_API_KEY", key)], args)
    }

    #[track_caller]
    fn admin(&self, args: &[&str]) -> String {
        let (code, out, said) = self.as_client("admin", args);
        assert_eq!(code, Some(0), "{args:?}: {said}");
        out
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            drop(self.runtime.block_on(daemon.stop()));
        }
    }
}

#[test]
fn rights_are_managed_from_the_terminal_and_every_step_is_audited() {
    let node = Node::start();
    assert!(node.admin(&["auth", "whoami"]).contains("certificate admin, with the role admin"));
    node.admin(&["kv", "put", "eu-1/name", "Ann", "--keyspace", "orders"]);
    node.admin(&["kv", "put", "us-1/name", "Bob", "--keyspace", "orders"]);
    node.admin(&["auth", "role", "set", "sales", "--allow", "read kv:orders/eu-"]);
    let roles = node.admin(&["auth", "role", "list"]);
    assert!(roles.contains("read kv:orders/eu-") && roles.contains("built in"), "{roles}");
    let made = node.admin(&["auth", "key", "create", "--role", "sales", "--note", "report", "--output", "json"]);
    let made: Value = serde_json::from_str(&made).expect("JSON");
    let (id, key) = (made["id"].as_str().expect("an id"), made["secret"].as_str().expect("a key"));
    let get = |partition: &str| node.with_key(key, &["kv", "get", partition, "--keyspace", "orders", "--raw"]);
    let (code, name, said) = get("eu-1/name");
    assert_eq!((code, name.as_str()), (Some(0), "Ann"), "{said}");
    let (code, out, said) = get("us-1/name");
    assert_eq!((code, out.as_str()), (Some(3), ""), "{said}");
    assert!(said.starts_with("keevo-cli: PERMISSION_DENIED: the role sales may not read"), "{said}");
    let (code, _, said) = node.with_key(key, &["cluster", "status"]);
    assert_eq!(code, Some(3), "{said}");
    let listed = node.admin(&["auth", "key", "list"]);
    assert!(listed.contains(id) && listed.contains("report") && !listed.contains(key), "{listed}");
    node.admin(&["auth", "key", "revoke", id]);
    let (code, _, said) = get("eu-1/name");
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("UNAUTHENTICATED") && !said.contains(key), "{said}");
    // A client's certificate has the role of its name.
    let dir = node.certs.display().to_string();
    assert_eq!(run(&[], &["cert", "client", "sales", "--dir", &dir]).0, Some(0));
    let (code, name, said) = node.as_client("sales", &["kv", "get", "eu-1/name", "--keyspace", "orders", "--raw"]);
    assert_eq!((code, name.as_str()), (Some(0), "Ann"), "{said}");
    node.admin(&["auth", "role", "remove", "sales"]);
    node.admin(&["compact"]);
    let (code, _, said) = node.as_client("sales", &["compact"]);
    assert_eq!(code, Some(3), "{said}");
    let log = node.admin(&["audit", "list"]);
    for step in [
        "Kv/Keyspace",
        "Auth/SetRole",
        "Auth/CreateKey",
        "Auth/RevokeKey",
        "Auth/RemoveRole",
        "Admin/Compact",
        "ended: OK",
    ] {
        assert!(log.contains(step), "{step} is missing in\n{log}");
    }
    assert!(log.contains("certificate admin") && !log.contains(key), "{log}");
    let verified = node.admin(&["audit", "verify"]);
    let head = verified.trim().rsplit(' ').next().expect("a head").to_owned();
    node.admin(&["auth", "role", "set", "sales", "--allow", "read *"]);
    node.admin(&["audit", "verify", "--head", &head]);
    let (number, _) = head.split_once(':').expect("a number");
    let other = format!("{number}:{}", "0".repeat(64));
    let (code, _, said) = node.as_client("admin", &["audit", "verify", "--head", &other]);
    assert_eq!(code, Some(8), "{said}");
}

#[test]
fn who_is_not_known_or_knows_not_the_node_is_told_so() {
    let node = Node::start();
    let ca = node.path("ca.crt");
    let status = |variables: &[(&str, &str)]| {
        let (code, _, said) = run(&[&[("KEEVO_ENDPOINTS", node.endpoint.as_str())], variables].concat(), &["info"]);
        (code, said)
    };
    let (code, said) = status(&[]);
    assert!(code == Some(2) && said.contains("--ca"), "{said}");
    let (code, said) = status(&[("KEEVO_CA", &ca)]);
    assert!(code == Some(3) && said.contains("UNAUTHENTICATED"), "{said}");
    // A node that has just started may not have read its keys yet.
    let mut asked = (0..200).map(|_| status(&[("KEEVO_CA", &ca), ("KEEVO_API_KEY", "keevo_0_0")]));
    let (code, said) = asked.find(|(code, _)| *code != Some(6)).expect("it reads them");
    assert!(code == Some(3) && said.contains("the API key is not known"), "{said}");
    let (code, said) = status(&[("KEEVO_CA", &ca), ("KEEVO_CERT", &ca)]);
    assert!(code == Some(2) && said.contains("without its key"), "{said}");
    let other = tempfile::tempdir().expect("a folder");
    let dir = other.path().display().to_string();
    assert_eq!(run(&[], &["cert", "init", &dir]).0, Some(0));
    let foreign = other.path().join("ca.crt").display().to_string();
    let (code, said) = status(&[("KEEVO_CA", &foreign)]);
    assert!(code == Some(6) && said.contains("invalid peer certificate"), "{said}");
}

#[test]
fn certificates_are_made_shown_and_not_overwritten() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("certs").display().to_string();
    let made = |args: &[&str]| run(&[("KEEVO_CA", "nowhere.crt")], args);
    assert_eq!(made(&["cert", "init", &dir, "--nodes", "2", "--host", "node.example.org"]).0, Some(0));
    let path = |name: &str| Path::new(&dir).join(name);
    let (code, _, said) = made(&["cert", "init", &dir]);
    assert!(code == Some(5) && said.contains("is there already"), "{said}");
    let before = std::fs::read(path("node-2.crt")).expect("there");
    let (code, _, said) = made(&["cert", "node", "2", "--dir", &dir]);
    assert_eq!(code, Some(5), "{said}");
    assert_eq!(std::fs::read(path("node-2.crt")).expect("there"), before);
    assert_eq!(made(&["cert", "node", "2", "--dir", &dir, "--replace"]).0, Some(0));
    assert_ne!(std::fs::read(path("node-2.crt")).expect("there"), before);
    let files = ["ca.crt", "node-1.crt", "admin.crt"].map(|name| path(name).display().to_string());
    let shown = [&["cert", "show", "--output", "json"], &files.each_ref().map(String::as_str)[..]].concat();
    let (code, shown, said) = made(&shown);
    assert_eq!(code, Some(0), "{said}");
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    let field = |at: usize, name: &str| shown["certificates"][at][name].clone();
    assert_eq!((field(0, "ca"), field(1, "ca")), (true.into(), false.into()));
    assert_eq!(field(1, "nodes"), serde_json::json!([1]));
    assert_eq!(field(1, "hosts"), serde_json::json!(["node-1.keevo", "node.example.org"]));
    assert_eq!((field(2, "name"), field(2, "state")), ("admin".into(), "valid".into()));
    for name in ["ca.key", "node-1.key", "admin.key"] {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(path(name)).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name} is its owner's alone");
    }
    for bad in [&["cert", "client", "../x", "--dir", &dir][..], &["cert", "client", "node-1.keevo", "--dir", &dir]] {
        let (code, _, said) = made(bad);
        assert_eq!(code, Some(2), "{said}");
    }
    let (code, _, said) = made(&["cert", "show", &path("ca.key").display().to_string()]);
    assert!(code == Some(2) && !said.contains("PRIVATE"), "{said}");
    let (code, _, said) = made(&["cert", "client", "x", "--dir", &folder.path().display().to_string()]);
    assert!(code.is_some_and(|code| code != 0) && said.contains("cert init"), "{said}");
}
