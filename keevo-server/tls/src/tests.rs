//! Handshakes on loopback: who gets in, as whom, and what a change of the files does.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use keevo_core::{Clock, ErrorKind, SystemClock};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tonic::codegen::Service;
use tonic::codegen::http::Uri;

use crate::make::{Authority, Life, Pair};
use crate::{Caller, ClientFiles, ClientTls, Dialer, Protocol, ServerFiles, ServerTls, TlsIncoming, describe};

fn life() -> Life {
    Life { now_ms: SystemClock::new().now_ms(), days: 30 }
}

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn put(&self, name: &str, pair: &Pair) -> (PathBuf, PathBuf) {
        let (cert, key) = (self.path(&format!("{name}.crt")), self.path(&format!("{name}.key")));
        std::fs::write(&cert, &pair.cert).expect("written");
        std::fs::write(&key, &pair.key).expect("written");
        (cert, key)
    }
}

fn ca() -> (Pair, Authority) {
    Authority::create("a CA of the test", life()).expect("a CA")
}

fn hosts() -> Vec<String> {
    vec!["127.0.0.1".to_owned()]
}

/// A node's TLS with one CA for all, in `folder`.
fn node(folder: &Folder, ca: &(Pair, Authority), id: u64, client_required: bool) -> Arc<ServerTls> {
    let (authority, _) = folder.put("ca", &ca.0);
    let (cert, key) = folder.put(&format!("node-{id}"), &ca.1.node(id, &hosts(), life()).expect("a node"));
    let (client_ca, peer_ca) = (Some(authority.clone()), Some(authority));
    ServerTls::open(ServerFiles { cert, key, client_ca, peer_ca, client_required, node_id: id }).expect("good files")
}

fn client(ca: &Path, identity: Option<(PathBuf, PathBuf)>) -> Dialer {
    Dialer::client(ClientTls::open(ClientFiles { ca: ca.to_owned(), identity }).expect("good files"))
}

/// Dials `tls` once: who the node says it was, or why it failed.
async fn meet(tls: &Arc<ServerTls>, mut dialer: Dialer) -> io::Result<Caller> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let uri: Uri = format!("https://{}", listener.local_addr()?).parse().map_err(io::Error::other)?;
    let mut incoming = TlsIncoming::start(listener, Arc::clone(tls), Protocol::Grpc)?;
    // In TLS 1.3 the client hears of a refusal only when it reads.
    let accepting = tokio::spawn(async move {
        let mut connection = incoming.next().await;
        let mut heard = [0; 5];
        connection.read_exact(&mut heard).await?;
        connection.write_all(&heard).await?;
        connection.flush().await?;
        Ok::<_, io::Error>(connection)
    });
    let talking = async {
        let mut stream = dialer.call(uri).await?.into_inner();
        stream.write_all(b"hello").await?;
        stream.flush().await?;
        stream.read_exact(&mut [0; 5]).await
    };
    if let Err(error) = talking.await {
        accepting.abort();
        return Err(error);
    }
    Ok(accepting.await.map_err(io::Error::other)??.caller().clone())
}

fn said(error: &io::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}

#[tokio::test]
async fn callers_are_who_their_certificates_say() {
    let (folder, ca) = (Folder::new(), ca());
    let tls = node(&folder, &ca, 1, false);
    let authority = folder.path("ca.crt");
    let nobody = meet(&tls, client(&authority, None)).await.expect("no certificate is needed");
    assert_eq!((nobody.name, nobody.node), (None, None));
    let reporter = folder.put("reporter", &ca.1.client("reporter", life()).expect("a client"));
    let known = meet(&tls, client(&authority, Some(reporter))).await.expect("known");
    assert_eq!((known.name.as_deref(), known.node), (Some("reporter"), None));
    let peer = node(&folder, &ca, 2, false);
    let met = meet(&tls, Dialer::peer(Arc::clone(&peer), 1)).await.expect("a peer");
    assert_eq!(met.node, Some(2));
    let wrong = meet(&tls, Dialer::peer(peer, 3)).await.expect_err("node 1 is not node 3");
    assert!(
        said(&wrong).contains("NotValidForName") || said(&wrong).contains("not valid for name"),
        "{}",
        said(&wrong)
    );
}

#[tokio::test]
async fn strangers_are_turned_away() {
    let (folder, ca, other) = (Folder::new(), ca(), ca());
    let tls = node(&folder, &ca, 1, true);
    let authority = folder.path("ca.crt");
    assert!(meet(&tls, client(&authority, None)).await.is_err(), "a certificate is required");
    let stranger = folder.put("stranger", &other.1.client("admin", life()).expect("a client"));
    assert!(meet(&tls, client(&authority, Some(stranger))).await.is_err(), "of another CA");
    let (other_ca, _) = folder.put("other", &other.0);
    let error = meet(&tls, client(&other_ca, None)).await.expect_err("the client trusts another CA");
    assert!(said(&error).contains("invalid peer certificate"), "{}", said(&error));
    let good = folder.put("good", &ca.1.client("good", life()).expect("a client"));
    assert!(meet(&tls, client(&authority, Some(good.clone()))).await.is_ok());
    let expired = Life { now_ms: life().now_ms - 100 * 86_400_000, days: 1 };
    let late = folder.put("late", &ca.1.client("late", expired).expect("a client"));
    assert!(meet(&tls, client(&authority, Some(late))).await.is_err(), "an expired certificate");
    // The last one is counted a moment after the client has heard of it.
    while tls.metrics().handshake_failures < 4 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(tls.metrics().handshake_failures, 4);
}

#[tokio::test]
async fn the_clients_ca_makes_no_nodes() {
    let (folder, nodes, clients) = (Folder::new(), ca(), ca());
    let (peer_ca, _) = folder.put("peers", &nodes.0);
    let (client_ca, _) = folder.put("clients", &clients.0);
    let (cert, key) = folder.put("node-1", &nodes.1.node(1, &hosts(), life()).expect("a node"));
    let files = ServerFiles {
        cert,
        key,
        client_ca: Some(client_ca),
        peer_ca: Some(peer_ca.clone()),
        client_required: true,
        node_id: 1,
    };
    let tls = ServerTls::open(files).expect("good files");
    let false_node = folder.put("false", &clients.1.node(2, &hosts(), life()).expect("it says it is node 2"));
    let met = meet(&tls, client(&peer_ca, Some(false_node))).await.expect("a client it is");
    assert_eq!(met.node, None, "but no node");
    let true_node = folder.put("true", &nodes.1.node(2, &hosts(), life()).expect("a node"));
    assert_eq!(meet(&tls, client(&peer_ca, Some(true_node))).await.expect("a node").node, Some(2));
}

#[tokio::test]
async fn changed_files_count_for_the_next_connection() {
    let (folder, old) = (Folder::new(), ca());
    let tls = node(&folder, &old, 1, false);
    let authority = folder.path("ca.crt");
    let dialer = client(&authority, None);
    assert!(meet(&tls, dialer.clone()).await.is_ok());
    let new = ca();
    let pair = new.1.node(1, &hosts(), life()).expect("a node");
    std::fs::write(folder.path("node-1.key"), &pair.key).expect("written");
    tls.check();
    assert!(tls.metrics().stale, "the key is not the certificate's yet");
    assert!(meet(&tls, dialer.clone()).await.is_ok(), "the old pair stays in use");
    std::fs::write(folder.path("node-1.crt"), &pair.cert).expect("written");
    std::fs::write(&authority, &new.0.cert).expect("written");
    tls.check();
    let metrics = tls.metrics();
    assert_eq!((metrics.reloads, metrics.reload_failures, metrics.stale), (1, 1, false));
    assert!(meet(&tls, dialer).await.is_ok(), "the client has read its CA anew");
    let (old_ca, _) = folder.put("old", &old.0);
    assert!(meet(&tls, client(&old_ca, None)).await.is_err(), "the old CA knows this node no more");
}

#[test]
fn a_node_whose_peers_would_refuse_it_does_not_start() {
    let (folder, ca, other) = (Folder::new(), ca(), ca());
    let (authority, _) = folder.put("ca", &ca.0);
    let open = |(cert, key): (PathBuf, PathBuf), node_id| {
        let files = ServerFiles {
            cert,
            key,
            client_ca: None,
            peer_ca: Some(authority.clone()),
            client_required: false,
            node_id,
        };
        ServerTls::open(files).map(drop).map_err(|error| {
            assert_eq!(error.kind(), ErrorKind::Config, "{error}");
            error.message().to_owned()
        })
    };
    let second = folder.put("second", &ca.1.node(2, &hosts(), life()).expect("a node"));
    assert_eq!(open(second.clone(), 2), Ok(()));
    let error = open(second.clone(), 1).expect_err("it is node 2's");
    assert!(error.contains("must name node-1.keevo"), "{error}");
    let stranger = folder.put("stranger", &other.1.node(1, &hosts(), life()).expect("a node"));
    let error = open(stranger, 1).expect_err("of another CA");
    assert!(error.contains("is not accepted by peers"), "{error}");
    let client = folder.put("client", &ca.1.client("node", life()).expect("a client"));
    assert!(open(client.clone(), 1).is_err(), "a client's certificate");
    assert!(open((second.0.clone(), client.1), 2).expect_err("another's key").contains("cannot be used"));
    assert!(open((second.0.clone(), folder.path("no.key")), 2).expect_err("missing").contains("no.key"));
    let shown = open((second.1.clone(), second.1), 2).expect_err("a key is no certificate");
    assert!(!shown.contains("PRIVATE"), "{shown}");
}

#[test]
fn what_is_made_says_what_was_asked_for() {
    let (pair, ca) = ca();
    let described = |pem: &str| describe(pem.as_bytes()).expect("readable").remove(0);
    let now = life();
    let (authority, node) = (described(&pair.cert), described(&ca.node(7, &hosts(), now).expect("a node").cert));
    assert!(authority.is_ca && !node.is_ca);
    assert_eq!(node.nodes, [7]);
    assert_eq!(node.hosts, ["node-7.keevo", "127.0.0.1"]);
    assert_eq!(node.issuer, "CN=a CA of the test");
    assert_eq!(node.not_after_s, i64::try_from(now.now_ms / 1_000).expect("small") + 30 * 86_400);
    let client = described(&ca.client("ann", life()).expect("a client").cert);
    assert_eq!((client.name.as_str(), client.nodes.len(), client.sha256.len()), ("ann", 0, 64));
    assert!(ca.client("node-1.keevo", life()).is_err(), "a client that passes for a node");
    assert!(ca.node(1, &["node-2.keevo".to_owned()], life()).is_err(), "a node that passes for another");
    assert!(ca.node(0, &hosts(), life()).is_err() && ca.client("", life()).is_err());
    assert!(ca.client("ann", Life { days: 0, ..life() }).is_err());
    assert!(!format!("{:?}", ca.client("ann", life())).contains("PRIVATE"), "keys are not shown");
    let again = Authority::open(&pair.cert, &pair.key).expect("opened");
    assert_eq!(described(&again.client("bob", life()).expect("a client").cert).issuer, "CN=a CA of the test");
    assert!(Authority::open(&pair.key, &pair.key).is_err() && describe(b"nothing").is_err());
}
