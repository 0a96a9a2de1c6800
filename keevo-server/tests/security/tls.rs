//! Nodes and clients that show each other who they are.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use keevo_client::{Access, RemoteEngine};
use keevo_core::{Batch, Consistency, Engine, ErrorKind, KeyspaceKind, Levels};
use keevo_proto::raft::v1 as raft;
use keevo_proto::raft::v1::raft_client::RaftClient;
use keevo_tls::{Dialer, ServerFiles, ServerTls};
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

use super::support::{Certs, cluster, connect, free_addresses, https_get, keevod, options, patiently};

/// Says hello to the nodes' own service: why that was refused.
async fn hello(channel: Channel, node_id: u64) -> Option<Code> {
    let (level_min, level_max) = (Levels::OURS.min, Levels::OURS.max);
    let hello = raft::Hello { node_id, level_min, level_max, ..raft::Hello::default() };
    let frames = raft::Frames { hello: Some(hello), frames: Vec::new() };
    let frames = futures::StreamExt::chain(futures::stream::iter([frames]), futures::stream::pending());
    RaftClient::new(channel).link(frames).await.err().map(|status| status.code())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_serve_over_tls_and_strangers_are_turned_away() {
    let (certs, others, dir) = (Certs::new(), Certs::new(), tempfile::tempdir().expect("a folder"));
    let nodes = cluster(&certs, dir.path(), &[]);
    let engine = connect(&nodes, certs.access(Some("ann"))).await;
    let keyspace = patiently("a keyspace", || engine.keyspace("things", KeyspaceKind::Hashed)).await;
    for number in 0..50 {
        let key = keyspace.key(format!("p{number}"), "s");
        patiently("a write", || engine.write(Batch::new().put(key.clone(), "v"))).await;
        let found = engine.get(key, Consistency::Linearizable).await.expect("a read");
        assert_eq!(found.expect("there").value, "v");
    }
    // Clients: without TLS, without a certificate, with one of another CA, with another CA in mind.
    let address = nodes[0].grpc.to_string();
    let refused = async |access: Access| {
        let mut options = options(access);
        options.deadline = Duration::from_secs(2);
        RemoteEngine::connect(vec![address.clone()], options).await.map(drop).map_err(|error| error.kind())
    };
    assert_eq!(refused(Access::default()).await, Err(ErrorKind::Unavailable), "no TLS");
    assert_eq!(refused(certs.access(None)).await, Err(ErrorKind::Unavailable), "no certificate");
    assert_eq!(refused(others.access(Some("ann"))).await, Err(ErrorKind::Unavailable), "another CA");
    assert_eq!(refused(certs.access(Some("bob"))).await, Ok(()), "any client of the CA");
    // Peers: a client is none, and no node passes for another.
    let endpoint = Endpoint::from_shared(format!("https://{address}")).expect("an address");
    let as_client = Dialer::client(certs.access(Some("ann")).tls.expect("TLS"));
    let code = hello(endpoint.connect_with_connector_lazy(as_client), 2).await;
    assert_eq!(code, Some(Code::PermissionDenied), "a client's certificate");
    let as_node = |id: u64| {
        let (cert, key) = certs.node(id);
        let ca = Some(certs.path("ca.crt"));
        let files = ServerFiles { cert, key, client_ca: ca.clone(), peer_ca: ca, client_required: false, node_id: id };
        let tls = ServerTls::open(files).expect("good files");
        endpoint.connect_with_connector_lazy(Dialer::peer(tls, 1))
    };
    assert_eq!(hello(as_node(2), 3).await, Some(Code::PermissionDenied), "node 2 says that it is node 3");
    assert_eq!(hello(as_node(2), 2).await, None, "node 2");
    // HTTP is served over TLS too, with the metrics of it.
    let metrics = https_get(nodes[0].http, &certs.path("ca.crt"), "/metrics").await.expect("answered");
    assert!(metrics.starts_with("HTTP/1.1 200"), "{metrics}");
    for name in ["keevo_tls_not_after_seconds ", "keevo_tls_handshake_failures_total ", "keevo_tls_files_are_bad 0"] {
        assert!(metrics.contains(name), "{name}");
    }
    assert!(https_get(nodes[0].http, &others.path("ca.crt"), "/health").await.is_err(), "another CA");
}

#[tokio::test]
async fn a_node_that_cannot_be_known_or_may_be_overheard_does_not_start() {
    let (certs, dir) = (Certs::new(), tempfile::tempdir().expect("a folder"));
    let addresses = free_addresses(2);
    let refusal_at = |grpc: SocketAddr, http: SocketAddr, more: &[String]| {
        let mut command = keevod(grpc, http, &dir.path().join("data"), more);
        let output = command.stderr(Stdio::piped()).output().expect("keevod starts");
        (output.status.code(), String::from_utf8(output.stderr).expect("text"))
    };
    let refusal = |more: &[String]| refusal_at(addresses[0], addresses[1], more);
    let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let second = certs.settings(2);
    let (code, said) = refusal(&second);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("must name node-1.keevo") && said.contains("keevo-cli cert node"), "{said}");
    let (code, said) = refusal(&owned(&["--tls-cert", "nowhere.crt", "--tls-key", "nowhere.key"]));
    assert!(code == Some(2) && said.contains("nowhere.crt"), "{said}");
    let far = SocketAddr::from(([0, 0, 0, 0], 0));
    for (grpc, http) in [(far, addresses[1]), (addresses[0], far)] {
        let (code, said) = refusal_at(grpc, http, &[]);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains("tls_cert") && said.contains("--insecure"), "{said}");
    }
}
