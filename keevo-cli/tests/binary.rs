//! The program as it is started from a shell: exit codes, what goes where, and calls to a node.

#![allow(clippy::indexing_slicing, reason = "a test may panic where it is wrong")]

use std::fmt::Write as _;
use std::net::TcpListener;
use std::process::{Command, Output};

use futures::StreamExt;
use futures::stream::BoxStream;
use keevo_core::{Error, ErrorKind};
use keevo_proto::admin::v1 as pb;
use keevo_proto::admin::v1::admin_server::{Admin, AdminServer};
use keevo_proto::status_from_error;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

fn keevo_cli(endpoints: &str, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keevo-cli"));
    command
        .env("KEEVO_ENDPOINTS", endpoints)
        .env("KEEVO_CONTEXT", "")
        .env("KEEVO_YES", "1")
        .args(args)
        .output()
        .expect("the program starts")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("UTF-8")
}

/// An address at which nobody listens.
fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound").to_string()
}

#[test]
fn an_unreachable_endpoint_is_named_and_the_advice_starts_a_node() {
    let address = nobody();
    for args in [&["cluster", "status"][..], &["kv", "get", "a/b"], &["chat", "unread", "c", "--user", "u"], &["info"]]
    {
        let output = keevo_cli(&address, args);
        assert_eq!(output.status.code(), Some(6), "{args:?}");
        assert_eq!(text(&output.stdout), "", "{args:?}");
        let said = text(&output.stderr);
        assert!(
            said.starts_with(&format!("keevo-cli: UNAVAILABLE: no node can be reached at {address} (")),
            "{args:?}: {said}"
        );
        assert!(said.contains("Start one with `keevod dev`"), "{args:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{args:?}: {said}");
    }
}

/// What bad input is told before, or instead of, a call to a node. `UPDATE_EXPECT=1` writes it anew.
#[test]
fn bad_input_is_told_as_the_golden_file_says() {
    let address = nobody();
    let mut golden = String::new();
    for (endpoints, args) in [
        (address.as_str(), &["kv", "get", "alice/name"][..]),
        (&address, &["kv", "put", "alice/name", "Alice"]),
        (&address, &["cluster", "status"]),
        (&address, &["feed", "get", "user:alice"]),
        (&address, &["chat", "history", "general"]),
        ("", &["info"]),
        ("localhost", &["info"]),
        ("127.0.0.1:99999", &["info"]),
        (&address, &["kv", "gte", "alice/name"]),
        (&address, &["kv", "get", "alice"]),
        (&address, &["kv", "get", "alice/name", "--timeout", "soon"]),
        (&address, &["kv", "scan", "alice", "--limit", "many"]),
        (&address, &["cluster", "remove", "one"]),
    ] {
        let output = keevo_cli(endpoints, args);
        let exit = output.status.code().expect("an exit code");
        assert_eq!(text(&output.stdout), "", "{args:?}");
        let said = text(&output.stderr).replace(&address, "ADDRESS");
        let name = said.split(": ").nth(1).unwrap_or_default();
        let kind = ErrorKind::from_name(name).unwrap_or_else(|| panic!("{args:?} names no kind: {said}"));
        assert_eq!(exit, i32::from(kind.row().exit_code), "{args:?}: {said}");
        let shown: Vec<String> =
            said.trim_end().lines().map(|line| format!("    {line}").trim_end().to_owned()).collect();
        writeln!(golden, "{name:<12} exit {exit}  keevo-cli {}\n{}", args.join(" "), shown.join("\n"))
            .expect("a string");
    }
    expect_test::expect_file!["testdata/bad-input.txt"].assert_eq(&golden);
}

#[test]
fn help_completions_and_typing_errors_need_no_node() {
    let help = keevo_cli("", &["--help"]);
    assert_eq!(help.status.code(), Some(0));
    assert!(text(&help.stdout).contains("Exit codes:\n  0  done"), "{}", text(&help.stdout));
    assert!(text(&help.stdout).contains("\n  5  CONFLICT\n"), "{}", text(&help.stdout));
    let script = keevo_cli(&nobody(), &["completions", "bash"]);
    assert_eq!(script.status.code(), Some(0));
    assert!(text(&script.stdout).contains("keevo-cli"), "a script");
    let typo = keevo_cli(&nobody(), &["kv", "gte", "a/b"]);
    assert_eq!((typo.status.code(), text(&typo.stdout)), (Some(2), ""));
    assert!(text(&typo.stderr).starts_with("keevo-cli: INVALID: "), "{}", text(&typo.stderr));
    for group in ["kv", "cluster", "feed", "chat"] {
        let bare = keevo_cli(&nobody(), &[group]);
        assert_eq!((bare.status.code(), text(&bare.stdout)), (Some(2), ""), "{group}");
        let said = text(&bare.stderr);
        assert!(said.contains("Usage: keevo-cli") && !said.contains("INVALID"), "{group}: {said}");
    }
    let address = keevo_cli("localhost", &["info"]);
    assert_eq!(address.status.code(), Some(2));
}

/// A node with two copies of shard 1 that differ; it refuses to remove nodes and stops compacting half-way when its
/// version says so.
struct Fake {
    finishes: bool,
}

#[tonic::async_trait]
impl Admin for Fake {
    type CompactStream = BoxStream<'static, Result<pb::CompactProgress, Status>>;
    type ScrubStream = BoxStream<'static, Result<pb::ScrubProgress, Status>>;

    async fn cluster_status(
        &self,
        _: Request<pb::ClusterStatusRequest>,
    ) -> Result<Response<pb::ClusterStatusResponse>, Status> {
        let node = pb::NodeStatus { id: 1, address: "a:1".into(), reachable: true, ..Default::default() };
        Ok(Response::new(pb::ClusterStatusResponse { nodes: vec![node], ..Default::default() }))
    }

    async fn shard_map(&self, _: Request<pb::ShardMapRequest>) -> Result<Response<pb::ShardMapResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn join(&self, _: Request<pb::JoinRequest>) -> Result<Response<pb::JoinResponse>, Status> {
        futures::future::pending().await
    }

    async fn remove(&self, request: Request<pb::RemoveRequest>) -> Result<Response<pb::RemoveResponse>, Status> {
        let message = format!("there is no node {}", request.into_inner().node_id);
        Err(status_from_error(&Error::new(ErrorKind::NotFound, message)))
    }

    async fn transfer(&self, _: Request<pb::TransferRequest>) -> Result<Response<pb::TransferResponse>, Status> {
        Ok(Response::new(pb::TransferResponse {}))
    }

    async fn upgrade(&self, request: Request<pb::UpgradeRequest>) -> Result<Response<pb::UpgradeResponse>, Status> {
        let level = if request.into_inner().finalize { 2 } else { 1 };
        Ok(Response::new(pb::UpgradeResponse { level, newest: 2, ..pb::UpgradeResponse::default() }))
    }

    async fn checksum(&self, _: Request<pb::ChecksumRequest>) -> Result<Response<pb::ChecksumResponse>, Status> {
        let copy = |node_id| pb::ReplicaChecksum {
            shard: 1,
            replica_id: node_id,
            node_id,
            checksum: Some(pb::ShardChecksum { revision: 5, hash: node_id, records: 1 }),
        };
        Ok(Response::new(pb::ChecksumResponse { replicas: vec![copy(1), copy(2)] }))
    }

    async fn flush(&self, _: Request<pb::FlushRequest>) -> Result<Response<pb::FlushResponse>, Status> {
        Ok(Response::new(pb::FlushResponse {}))
    }

    async fn compact(&self, _: Request<pb::CompactRequest>) -> Result<Response<Self::CompactStream>, Status> {
        let last = if self.finishes { 2 } else { 1 };
        let steps = (0..=last).map(|done_steps| {
            let what = "data".into();
            Ok(pb::CompactProgress { done_steps, total_steps: 2, what, ..pb::CompactProgress::default() })
        });
        Ok(Response::new(futures::stream::iter(steps.collect::<Vec<_>>()).boxed()))
    }

    async fn scrub(&self, request: Request<pb::ScrubRequest>) -> Result<Response<Self::ScrubStream>, Status> {
        // Shard 2 is damaged, the others are sound; a scrub of all is cut off where the fake does not finish.
        let damaged = request.into_inner().shard == Some(2);
        let damage = pb::Damage { shard: Some(2), place: "key user/7".into(), detail: "fails its checksum".into() };
        let half = pb::ScrubProgress { done_bytes: 5, total_bytes: 10, records: 3, ..Default::default() };
        let whole = pb::ScrubProgress {
            done_bytes: 10,
            total_bytes: 10,
            records: 7,
            entries: 4,
            damages: if damaged { vec![damage] } else { Vec::new() },
            finished: true,
            ..Default::default()
        };
        let steps = if self.finishes { vec![Ok(half), Ok(whole)] } else { vec![Ok(half)] };
        Ok(Response::new(futures::stream::iter(steps).boxed()))
    }

    async fn checkpoint(
        &self,
        request: Request<pb::CheckpointRequest>,
    ) -> Result<Response<pb::CheckpointResponse>, Status> {
        let folder = format!("{}/node-7", request.into_inner().folder);
        Ok(Response::new(pb::CheckpointResponse { folder, node_id: 7, bytes: 3 << 20 }))
    }

    async fn list_keyspaces(
        &self,
        request: Request<pb::ListKeyspacesRequest>,
    ) -> Result<Response<pb::ListKeyspacesResponse>, Status> {
        // One a page.
        let after = request.into_inner().after;
        let (name, partition_bytes) = [("default", 0), ("times", 8)][after as usize];
        let keyspaces = vec![pb::KeyspaceInfo { id: after + 1, name: name.into(), partition_bytes }];
        Ok(Response::new(pb::ListKeyspacesResponse { keyspaces, more: after == 0 }))
    }

    async fn diagnose(&self, _: Request<pb::DiagnoseRequest>) -> Result<Response<pb::DiagnoseResponse>, Status> {
        Err(status_from_error(&Error::new(ErrorKind::Io, "the disk is gone")))
    }

    async fn info(&self, _: Request<pb::InfoRequest>) -> Result<Response<pb::InfoResponse>, Status> {
        let cluster_id = vec![0xab; 16].into();
        Ok(Response::new(pb::InfoResponse { version: "0.1.0".into(), node_id: 7, cluster_id }))
    }
}

/// Runs the program against a fake node.
fn against(fake: Fake, args: &[&str]) -> (Option<i32>, String, String) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let entered = runtime.enter();
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
    let address = incoming.local_addr().expect("bound").to_string();
    let server = tonic::transport::Server::builder().add_service(AdminServer::new(fake));
    drop(runtime.spawn(server.serve_with_incoming(incoming)));
    drop(entered);
    // The first endpoint is dead, so every call also shows that the next one is tried.
    let each = ["info", "compact", "scrub", "checkpoint"];
    let dead = if each.iter().any(|one| args.first() == Some(one)) { String::new() } else { nobody() + "," };
    let output = keevo_cli(&format!("{dead}{address}"), args);
    let shown = |bytes: &[u8]| text(bytes).replace(&address, "NODE");
    (output.status.code(), shown(&output.stdout), shown(&output.stderr))
}

#[test]
fn a_node_answers_and_its_errors_keep_their_kind() {
    let (code, out, _) = against(Fake { finishes: true }, &["cluster", "status", "--output", "json"]);
    let json: serde_json::Value = serde_json::from_str(&out).expect("one JSON document");
    assert_eq!((code, &json["nodes"][0]["address"]), (Some(0), &"a:1".into()));

    let (code, out, said) = against(Fake { finishes: true }, &["cluster", "remove", "9"]);
    assert_eq!((code, out.as_str()), (Some(4), ""));
    assert_eq!(said, "keevo-cli: NOT_FOUND: there is no node 9. Check the name or id.\n");

    let (code, out, said) = against(Fake { finishes: true }, &["cluster", "checksum"]);
    assert_eq!(code, Some(8));
    assert!(out.contains("!! HASH DIFFERS"), "{out}");
    assert!(said.starts_with("keevo-cli: CORRUPT: copies differ at the same revision: shard 1."), "{said}");
}

#[test]
fn a_change_that_was_not_answered_may_have_been_made() {
    let (code, out, said) = against(Fake { finishes: true }, &["cluster", "join", "b:1", "--timeout", "200ms"]);
    assert_eq!((code, out.as_str()), (Some(7), ""));
    assert!(said.starts_with("keevo-cli: OUTCOME_UNKNOWN: the node did not answer within 200 ms."), "{said}");
}

#[test]
fn a_compaction_is_done_when_its_last_step_says_so() {
    let (code, out, _) = against(Fake { finishes: true }, &["compact"]);
    assert_eq!((code, out.as_str()), (Some(0), "compacted NODE\n"));
    let (code, out, said) = against(Fake { finishes: false }, &["compact"]);
    assert_eq!((code, out.as_str()), (Some(6), ""));
    assert!(said.contains("stopped reporting before its compaction was done"), "{said}");
}

#[test]
fn a_scrub_tells_damage_compares_copies_and_is_never_half_a_scrub() {
    let (code, out, said) = against(Fake { finishes: true }, &["scrub", "--shard", "2"]);
    assert_eq!(code, Some(8), "{out}{said}");
    assert!(out.contains("fails its checksum") && out.contains("user/7"), "{out}");
    assert!(out.contains("not compared"), "the copies of a damaged store are not hashed: {out}");
    assert!(said.starts_with("keevo-cli: CORRUPT: 1 damage was found on node 7. "), "{said}");
    assert!(said.contains("cluster remove 7"), "what to do is said: {said}");

    let (code, out, said) = against(Fake { finishes: true }, &["scrub"]);
    assert_eq!(code, Some(8), "{out}{said}");
    assert!(out.contains("HASH DIFFERS"), "{out}");
    assert!(said.starts_with("keevo-cli: CORRUPT: copies differ at the same revision: shard 1. "), "{said}");

    let (code, out, said) = against(Fake { finishes: true }, &["scrub", "--shard", "5", "--output", "json"]);
    let json: serde_json::Value = serde_json::from_str(&out).expect("one JSON document");
    assert_eq!(code, Some(8), "{said}");
    assert_eq!((&json["nodes"][0]["records"], &json["nodes"][0]["log_entries"]), (&7.into(), &4.into()));
    assert_eq!(json["differing_shards"], serde_json::json!([1]));

    let (code, out, said) = against(Fake { finishes: false }, &["scrub"]);
    assert_eq!((code, out.as_str()), (Some(6), ""));
    assert!(said.starts_with("keevo-cli: UNAVAILABLE: NODE stopped reporting before its scrub was done."), "{said}");
}

#[test]
fn a_checkpoint_says_where_it_lies_and_takes_no_relative_path() {
    let (code, out, said) = against(Fake { finishes: true }, &["checkpoint", "/backup/monday"]);
    assert_eq!((code, out.as_str()), (Some(0), "node 7: 3 MiB in /backup/monday/node-7\n"), "{said}");
    let (code, out, said) = against(Fake { finishes: true }, &["checkpoint", "backup"]);
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert!(said.contains("absolute path"), "{said}");
}

#[test]
fn keyspaces_are_listed_page_by_page() {
    let (code, out, said) = against(Fake { finishes: true }, &["kv", "keyspaces", "--output", "jsonl"]);
    assert_eq!(code, Some(0), "{said}");
    let rows: Vec<serde_json::Value> = out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let found: Vec<_> = rows.iter().map(|row| (row["name"].as_str(), row["ordered"].as_bool())).collect();
    assert_eq!(found, [(Some("default"), Some(false)), (Some("times"), Some(true))]);
}
