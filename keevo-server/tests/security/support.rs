//! A CA of the test, keevods as processes, and what talks to them.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use keevo_client::{Access, ClientOptions, Connection, RemoteEngine};
use keevo_core::{Clock, Engine, KeyspaceKind, Result, SystemClock};
use keevo_proto::admin::v1 as pb;
use keevo_proto::admin::v1::auth_client::AuthClient;
use keevo_tls::make::{Authority, Life, Pair};
use keevo_tls::{ClientFiles, ClientTls};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

/// How long a daemon may take to serve, or to end.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) fn life() -> Life {
    Life { now_ms: SystemClock::new().now_ms(), days: 30 }
}

/// Free addresses on loopback, all different.
pub(crate) fn free_addresses(count: usize) -> Vec<SocketAddr> {
    let held: Vec<TcpListener> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
    held.iter().map(|listener| listener.local_addr().expect("an address")).collect()
}

/// A CA and a folder with what it has signed.
pub(crate) struct Certs {
    pub(crate) dir: TempDir,
    pub(crate) pair: Pair,
    pub(crate) authority: Authority,
}

impl Certs {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let (pair, authority) = Authority::create("a CA of the test", life()).expect("a CA");
        std::fs::write(dir.path().join("ca.crt"), &pair.cert).expect("written");
        Self { dir, pair, authority }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a certificate and its key, whole at any time: the key first, each by a rename.
    pub(crate) fn put(&self, name: &str, pair: &Pair) -> (PathBuf, PathBuf) {
        let (cert, key) = (self.path(&format!("{name}.crt")), self.path(&format!("{name}.key")));
        for (path, text) in [(&key, &pair.key), (&cert, &pair.cert)] {
            let new = path.with_extension("new");
            std::fs::write(&new, text).expect("written");
            std::fs::rename(&new, path).expect("renamed");
        }
        (cert, key)
    }

    pub(crate) fn node(&self, id: u64) -> (PathBuf, PathBuf) {
        let hosts = ["127.0.0.1".to_owned()];
        self.put(&format!("node-{id}"), &self.authority.node(id, &hosts, life()).expect("a node"))
    }

    /// A client that trusts this CA, and shows a certificate of that name.
    pub(crate) fn access(&self, name: Option<&str>) -> Access {
        let identity = name.map(|name| self.put(name, &self.authority.client(name, life()).expect("a client")));
        let tls = ClientTls::open(ClientFiles { ca: self.path("ca.crt"), identity }).expect("good files");
        Access { tls: Some(tls), key: None }
    }

    /// The settings of node `id` with this CA for everybody.
    pub(crate) fn settings(&self, id: u64) -> Vec<String> {
        let (cert, key) = self.node(id);
        let shown = |path: &Path| path.display().to_string();
        [
            "--tls-cert".to_owned(),
            shown(&cert),
            "--tls-key".to_owned(),
            shown(&key),
            "--tls-client-ca".to_owned(),
            shown(&self.path("ca.crt")),
        ]
        .to_vec()
    }
}

/// A keevod that runs. It is killed when this is dropped.
pub(crate) struct Keevod {
    child: Child,
    pub(crate) grpc: SocketAddr,
    pub(crate) http: SocketAddr,
    log: PathBuf,
    _dir: Option<TempDir>,
}

/// A keevod with small caches, short elections, and nothing from the environment of the test.
pub(crate) fn keevod(grpc: SocketAddr, http: SocketAddr, dir: &Path, more: &[String]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keevod"));
    command.env_clear().stdin(Stdio::null()).stdout(Stdio::null());
    command.args(["--block-cache-mib", "8", "--write-buffer-mib", "8", "--shards", "2"]);
    command.args(["--heartbeat-ms", "100", "--election-ms-min", "1000", "--election-ms-max", "2000"]);
    command.args(["--grpc", &grpc.to_string(), "--http", &http.to_string()]);
    command.arg("--data-dir").arg(dir).args(more);
    command
}

impl Keevod {
    pub(crate) fn spawn(grpc: SocketAddr, http: SocketAddr, dir: &Path, more: &[String]) -> Self {
        Self::start(grpc, http, dir, more, None)
    }

    fn start(grpc: SocketAddr, http: SocketAddr, dir: &Path, more: &[String], own: Option<TempDir>) -> Self {
        let log = dir.with_extension("log");
        let child = keevod(grpc, http, dir, more).stderr(File::create(&log).expect("a file")).spawn();
        Self { child: child.expect("keevod starts"), grpc, http, log, _dir: own }
    }

    /// A node for itself, in a folder of its own.
    pub(crate) fn alone(more: &[String]) -> Self {
        let (addresses, dir) = (free_addresses(2), tempfile::tempdir().expect("a folder"));
        let more = [&["--replication-factor".to_owned(), "1".to_owned()], more].concat();
        let data = dir.path().join("data");
        Self::start(addresses[0], addresses[1], &data, &more, Some(dir))
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).expect("text")
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Keevod {
    fn drop(&mut self) {
        // One that has ended already is fine too.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Three nodes that know each other by the certificates in `certs`, with more settings for all.
pub(crate) fn cluster(certs: &Certs, dir: &Path, more: &[String]) -> Vec<Keevod> {
    let addresses = free_addresses(6);
    let peers: Vec<String> = (1..=3).map(|id| format!("{id}={}", addresses[id - 1])).collect();
    let node = |id: u64, at: usize| {
        let mut settings = certs.settings(id);
        settings.extend(["--node-id".to_owned(), id.to_string(), "--peers".to_owned(), peers.join(",")]);
        settings.extend_from_slice(more);
        Keevod::spawn(addresses[at], addresses[at + 3], &dir.join(format!("node-{id}")), &settings)
    };
    vec![node(1, 0), node(2, 1), node(3, 2)]
}

pub(crate) fn options(access: Access) -> ClientOptions {
    let deadline = Duration::from_secs(20);
    ClientOptions { deadline, attempt_timeout: Duration::from_secs(5), access, ..ClientOptions::default() }
}

/// Connects as soon as the nodes serve.
pub(crate) async fn connect(nodes: &[Keevod], access: Access) -> RemoteEngine {
    let addresses: Vec<String> = nodes.iter().map(|node| node.grpc.to_string()).collect();
    let deadline = Instant::now() + PATIENCE;
    loop {
        match RemoteEngine::connect(addresses.clone(), options(access.clone())).await {
            Ok(engine) => return engine,
            Err(error) => {
                let logs: Vec<String> = nodes.iter().map(Keevod::log).collect();
                assert!(Instant::now() < deadline, "{error}\n{}", logs.join("\n"));
            }
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// Tries until something works.
pub(crate) async fn patiently<T, F: Future<Output = Result<T>>>(what: &str, call: impl Fn() -> F) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match call().await {
            Ok(done) => return done,
            Err(error) => assert!(Instant::now() < deadline, "{what}: {error}"),
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// `GET` over TLS: the answer, head and body.
pub(crate) async fn https_get(at: SocketAddr, ca: &Path, path: &str) -> std::io::Result<String> {
    let mut roots = rustls::RootCertStore::empty();
    for one in CertificateDer::pem_file_iter(ca).expect("a file") {
        roots.add(one.expect("a certificate")).expect("a CA");
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.expect("versions").with_root_certificates(roots).with_no_client_auth();
    let tcp = TcpStream::connect(at).await?;
    let name = ServerName::try_from("127.0.0.1").expect("a name");
    let mut stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").as_bytes()).await?;
    let mut text = String::new();
    // The server may end the stream without a word of TLS.
    drop(stream.read_to_string(&mut text).await);
    Ok(text)
}

/// The administrator's key of the nodes of a test.
pub(crate) const ADMIN_KEY: &str = "the-administrators-key-of-this-test-0123456789";

/// A node alone that asks callers who they are, and who administers it.
pub(crate) struct Guarded {
    pub(crate) node: Keevod,
    pub(crate) admin: RemoteEngine,
    _dir: TempDir,
}

impl Guarded {
    pub(crate) async fn start(more: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let key = dir.path().join("admin.key");
        std::fs::write(&key, format!("{ADMIN_KEY}\n")).expect("written");
        let mut settings =
            ["--auth", "true", "--auth-admin-key-file", &key.display().to_string()].map(str::to_owned).to_vec();
        settings.extend(more.iter().map(|word| (*word).to_owned()));
        let node = Keevod::alone(&settings);
        let nodes = [node];
        let admin = connect(&nodes, keyed(ADMIN_KEY)).await;
        let [node] = nodes;
        patiently("a keyspace", || admin.keyspace("of-the-admin", KeyspaceKind::Hashed)).await;
        Self { node, admin, _dir: dir }
    }

    /// A connection of somebody with a key.
    pub(crate) fn connection(&self, key: &str) -> Connection {
        let access = keyed(key);
        let endpoint = access.endpoint(&self.node.grpc.to_string()).expect("an address");
        access.connect_lazy(&endpoint)
    }

    /// Makes a role and a key of it: the key's id and text.
    pub(crate) async fn key(&self, role: &str, grants: &[&str]) -> (String, String) {
        let mut auth = AuthClient::new(self.connection(ADMIN_KEY));
        if !grants.is_empty() {
            let grants = grants.iter().map(|text| (*text).to_owned()).collect();
            auth.set_role(pb::SetRoleRequest { name: role.to_owned(), grants }).await.expect("a role");
        }
        let made = auth.create_key(pb::CreateKeyRequest { role: role.to_owned(), ..Default::default() }).await;
        let made = made.expect("a key").into_inner();
        (made.key.expect("what is kept of it").id, made.secret)
    }

    /// An engine of somebody with a key.
    pub(crate) async fn engine(&self, key: &str) -> RemoteEngine {
        let options = ClientOptions { deadline: Duration::from_secs(5), ..options(keyed(key)) };
        RemoteEngine::connect(vec![self.node.grpc.to_string()], options).await.expect("let in")
    }
}

/// Somebody with a key.
pub(crate) fn keyed(key: &str) -> Access {
    Access { tls: None, key: Some(key.parse().expect("a key")) }
}
