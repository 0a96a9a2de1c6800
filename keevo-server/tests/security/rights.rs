//! Roles against everything that can be done to keys, over single calls and over pipes; and what a revocation stops.

use std::time::Duration;

use futures::StreamExt;
use keevo_core::{
    Batch, ClientId, Consistency, Engine, Error, ErrorKind, FanOut, FanOutAction, Keyspace, KeyspaceKind, Scan,
    ScanRange, Target, WatchFrom, WatchRange,
};
use keevo_proto::admin::v1 as admin;
use keevo_proto::admin::v1::admin_client::AdminClient;
use keevo_proto::admin::v1::auth_client::AuthClient;
use keevo_proto::kv::v1 as pb;
use keevo_proto::kv::v1::kv_client::KvClient;
use keevo_proto::{error_from_status, id_bytes};
use tokio::time::{Instant, sleep};

use super::support::{ADMIN_KEY, Guarded, Keevod, connect, keyed, options};

/// What can be done to keys. `inside` = to partitions that begin with `eu-`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    Get { inside: bool },
    GetMany,
    Scan { inside: bool },
    ScanRange { inside: bool },
    Write { inside: bool },
    FanOut { inside: bool },
    Watch { inside: bool },
    WatchAll,
    Find,
    Make,
    OpenSession,
}

const DEEDS: [Deed; 17] = [
    Deed::Get { inside: true },
    Deed::Get { inside: false },
    Deed::GetMany,
    Deed::Scan { inside: true },
    Deed::Scan { inside: false },
    Deed::ScanRange { inside: true },
    Deed::ScanRange { inside: false },
    Deed::Write { inside: true },
    Deed::Write { inside: false },
    Deed::FanOut { inside: true },
    Deed::FanOut { inside: false },
    Deed::Watch { inside: true },
    Deed::Watch { inside: false },
    Deed::WatchAll,
    Deed::Find,
    Deed::Make,
    Deed::OpenSession,
];

/// Whether a role may do something.
type May<'a> = &'a dyn Fn(Deed) -> bool;

struct Keyspaces {
    hashed: Keyspace,
    ordered: Keyspace,
}

fn partition(inside: bool) -> &'static str {
    if inside { "eu-1" } else { "us-1" }
}

/// Does something as an engine does it, over a pipe.
async fn by_pipe(engine: &impl Engine, keyspaces: &Keyspaces, role: &str, deed: Deed) -> Result<(), Error> {
    let Keyspaces { hashed, ordered } = *keyspaces;
    match deed {
        Deed::Get { inside } => {
            engine.get(hashed.key(partition(inside), "s"), Consistency::Linearizable).await.map(drop)
        }
        Deed::GetMany => {
            let keys = vec![hashed.key("eu-1", "s"), hashed.key("us-1", "s")];
            engine.multi_get(keys, Consistency::Linearizable).await.map(drop)
        }
        Deed::Scan { inside } => engine.scan(Scan::partition(hashed, partition(inside), 10)).await.map(drop),
        Deed::ScanRange { inside } => {
            let (start, end) = if inside { ("eu-0", "eu-9") } else { ("eu-0", "us-9") };
            let range = ScanRange::Ordered { keyspace: ordered, start: start.into(), end: end.into() };
            engine.scan(Scan { range, ..Scan::partition(ordered, "----", 10) }).await.map(drop)
        }
        Deed::Write { inside } => {
            engine.write(Batch::new().put(hashed.key(partition(inside), "s"), "v")).await.map(drop)
        }
        Deed::FanOut { inside } => {
            let target = |partition: &'static str| Target { partition: partition.into(), guard: None };
            let targets = if inside { vec![target("eu-1")] } else { vec![target("eu-1"), target("us-1")] };
            let action = FanOutAction::Put { value: "v".into(), ttl_ms: None };
            let fan_out = FanOut { keyspace: hashed, sort: "f".into(), action, guard_sort: None, targets };
            engine.fan_out(fan_out).await.map(drop)
        }
        Deed::Watch { inside } => {
            let partition = partition(inside).into();
            let range = WatchRange::Partition { keyspace: hashed, partition, prefix: "".into() };
            engine.watch(range, WatchFrom::Now).await.map(drop)
        }
        Deed::WatchAll => engine.watch(WatchRange::Keyspace(hashed), WatchFrom::Now).await.map(drop),
        Deed::Find => engine.find_keyspace("orders").await.map(drop),
        Deed::Make => engine.keyspace(&format!("made-by-{role}"), KeyspaceKind::Hashed).await.map(drop),
        Deed::OpenSession => Ok(()),
    }
}

/// Does the same by a call of its own. What has no other way is done over the pipe alone.
async fn by_call(
    client: &mut KvClient<keevo_client::Connection>,
    keyspaces: &Keyspaces,
    deed: Deed,
) -> Result<(), Error> {
    let wire = |inside| pb::Key::from(keyspaces.hashed.key(partition(inside), "s"));
    let done = match deed {
        Deed::Get { inside } => {
            client.get(pb::GetRequest { key: Some(wire(inside)), ..Default::default() }).await.map(drop)
        }
        Deed::GetMany => {
            let keys = vec![wire(true), wire(false)];
            client.multi_get(pb::MultiGetRequest { keys, ..Default::default() }).await.map(drop)
        }
        Deed::Write { inside } => {
            let batch = Batch::new().put(keyspaces.hashed.key(partition(inside), "s"), "v");
            client
                .write(pb::WriteRequest { batch: Some(batch.try_into().expect("a batch")), ..Default::default() })
                .await
                .map(drop)
        }
        Deed::Find => {
            let request = pb::KeyspaceRequest { name: "orders".to_owned(), ..Default::default() };
            client.keyspace(request).await.map(drop)
        }
        Deed::OpenSession => {
            let scope = Some(pb::open_session_request::Scope::Key(wire(true)));
            let client_id = id_bytes(ClientId(5).0);
            let request = pb::OpenSessionRequest { client: client_id, scope, ..Default::default() };
            client.open_session(request).await.map(drop)
        }
        _ => return Ok(()),
    };
    done.map_err(|status| error_from_status(&status))
}

fn has_call(deed: Deed) -> bool {
    matches!(deed, Deed::Get { .. } | Deed::GetMany | Deed::Write { .. } | Deed::Find | Deed::OpenSession)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_role_does_what_it_may_and_nothing_else() {
    use Deed::{FanOut, Find, Get, GetMany, Make, OpenSession, Scan, ScanRange, Watch, WatchAll, Write};
    let guarded = Guarded::start(&[]).await;
    let hashed = guarded.admin.keyspace("orders", KeyspaceKind::Hashed).await.expect("made");
    let kind = KeyspaceKind::Ordered { partition_bytes: 4 };
    let ordered = guarded.admin.keyspace("sorted", kind).await.expect("made");
    let keyspaces = Keyspaces { hashed, ordered };
    let reads_inside = |deed| matches!(deed, Get { inside: true } | Scan { inside: true } | ScanRange { inside: true });
    let reads = |deed| matches!(deed, Get { .. } | GetMany | Scan { .. } | ScanRange { .. });
    let writes_inside = |deed| matches!(deed, Write { inside: true } | FanOut { inside: true } | OpenSession);
    let writes = |deed| matches!(deed, Write { .. } | FanOut { .. } | OpenSession);
    let watches = |deed| matches!(deed, Watch { .. } | WatchAll);
    let roles: [(&str, &[&str], May<'_>); 9] = [
        ("admin", &[], &|_| true),
        ("writer", &[], &|deed| deed != Make),
        ("reader", &[], &|deed| reads(deed) || watches(deed) || deed == Find),
        ("in-reader", &["read kv:orders/eu-", "read kv:sorted/eu-"], &|deed| reads_inside(deed) || deed == Find),
        ("in-writer", &["write kv:orders/eu-"], &|deed| writes_inside(deed) || deed == Find),
        ("in-watcher", &["watch kv:orders/eu-"], &|deed| deed == Watch { inside: true } || deed == Find),
        ("all", &["read,write,watch kv:orders", "read kv:sorted", "admin kv:made-by-all"], &|_| true),
        ("all-writer", &["write kv:*"], &|deed| writes(deed) || deed == Find),
        ("other", &["read,write,watch,admin kv:others", "read feeds:*"], &|deed| deed == OpenSession),
    ];
    for (role, grants, may) in roles {
        let (_, key) = guarded.key(role, grants).await;
        let engine = guarded.engine(&key).await;
        let mut client = KvClient::new(guarded.connection(&key));
        for deed in DEEDS {
            let expected = (!may(deed)).then_some(ErrorKind::PermissionDenied);
            if deed != OpenSession {
                // A caller that may not open a session is refused there, before its write.
                let found = by_pipe(&engine, &keyspaces, role, deed).await.err();
                assert_eq!(found.as_ref().map(Error::kind), expected, "{role} {deed:?} over a pipe: {found:?}");
            }
            if has_call(deed) {
                let found = by_call(&mut client, &keyspaces, deed).await.err();
                assert_eq!(found.as_ref().map(Error::kind), expected, "{role} {deed:?} by a call: {found:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_key_stops_what_is_open_within_a_second_or_so() {
    let guarded = Guarded::start(&[]).await;
    let keyspace = guarded.admin.keyspace("orders", KeyspaceKind::Hashed).await.expect("made");
    let (id, key) = guarded.key("sales", &["read,watch kv:orders"]).await;
    let engine = guarded.engine(&key).await;
    engine.get(keyspace.key("p", "s"), Consistency::Linearizable).await.expect("it may");
    let mut client = KvClient::new(guarded.connection(&key));
    let range = Some(pb::watch_request::Range::Keyspace(keyspace.into()));
    let watch = client.watch(pb::WatchRequest { range, ..Default::default() }).await.expect("it may");
    let mut watch = watch.into_inner();
    assert!(watch.message().await.expect("the header").is_some());
    let mut auth = AuthClient::new(guarded.connection(ADMIN_KEY));
    auth.revoke_key(admin::RevokeKeyRequest { id }).await.expect("revoked");
    let began = Instant::now();
    let refused = engine.get(keyspace.key("p", "s"), Consistency::Linearizable).await.expect_err("over the open pipe");
    assert_eq!(refused.kind(), ErrorKind::Unauthenticated, "{refused}");
    let ended =
        tokio::time::timeout(Duration::from_secs(10), watch.next()).await.expect("it ends").expect("with an error");
    assert_eq!(error_from_status(&ended.expect_err("not an event")).kind(), ErrorKind::Unauthenticated);
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    let again = keevo_client::RemoteEngine::connect(vec![guarded.node.grpc.to_string()], options(keyed(&key))).await;
    assert_eq!(again.expect_err("a new connection").kind(), ErrorKind::Unauthenticated);
    // A role that loses a grant stops too.
    let (_, key) = guarded.key("sales", &["read kv:orders"]).await;
    let engine = guarded.engine(&key).await;
    engine.get(keyspace.key("p", "s"), Consistency::Linearizable).await.expect("it may");
    guarded.key("sales", &["read kv:others"]).await;
    let refused = engine.get(keyspace.key("p", "s"), Consistency::Linearizable).await.expect_err("no more");
    assert_eq!(refused.kind(), ErrorKind::PermissionDenied, "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_authentication_nobody_is_asked_and_keys_can_be_made_for_later() {
    let nodes = [Keevod::alone(&[])];
    let engine = connect(&nodes, keevo_client::Access::default()).await;
    let keyspace = super::support::patiently("a keyspace", || engine.keyspace("any", KeyspaceKind::Hashed)).await;
    engine.write(Batch::new().put(keyspace.key("p", "s"), "v")).await.expect("written");
    let address = format!("http://{}", nodes[0].grpc);
    let mut auth = AuthClient::connect(address.clone()).await.expect("connects");
    let who = auth.who_am_i(admin::WhoAmIRequest {}).await.expect("answered").into_inner();
    assert_eq!((who.principal.as_str(), who.role.as_str()), ("nobody", ""));
    let request = admin::CreateKeyRequest { role: "reader".to_owned(), ..Default::default() };
    let made = auth.create_key(request).await.expect("made").into_inner();
    assert!(made.secret.starts_with("keevo_"));
    let mut client = AdminClient::connect(address).await.expect("connects");
    assert!(client.cluster_status(admin::ClusterStatusRequest {}).await.is_ok());
    sleep(Duration::from_millis(10)).await;
    let audit = auth.list_audit(admin::ListAuditRequest::default()).await.expect("answered").into_inner();
    assert_eq!(audit.last, 0, "nothing is audited where nobody is known");
}
