//! The door before a service that says yes to everything.

use std::convert::Infallible;
use std::net::SocketAddr;

use keevo_core::{ManualClock, MemoryEngine, SeededRandom};
use keevo_gateway::apps::EngineMeta;
use tonic::Code;

use super::*;
use crate::auth::rules::RULES;

const ADMIN_KEY: &str = "an admin key of thirty-two bytes or more";

/// Answers everything with `OK`, and says with whose pass.
#[derive(Clone)]
struct Yes;

impl Service<Request<Body>> for Yes {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let mut response = Response::new(Body::empty());
        if let Some(pass) = request.extensions().get::<Pass>() {
            response.extensions_mut().insert(pass.principal());
        }
        std::future::ready(Ok(response))
    }
}

struct Fixture {
    door: Door<Yes>,
    authority: Arc<Authority>,
}

async fn fixture(on: bool, proven: bool) -> Fixture {
    let meta = EngineMeta::open(MemoryEngine::new()).await.expect("a meta store");
    let (clock, random) = (Arc::new(ManualClock::new(1)), Arc::new(SeededRandom::new(3)));
    let authority = Authority::new(meta, 1, Some(ADMIN_KEY), clock, random).expect("a long key");
    authority.refresh().await.expect("read");
    let layer = DoorLayer { authority: on.then(|| Arc::clone(&authority)), proven };
    Fixture { door: layer.layer(Yes), authority }
}

impl Fixture {
    /// Calls a method as somebody: `None` = it got through.
    async fn call(
        &mut self,
        method: &str,
        key: Option<&str>,
        caller: Option<Caller>,
        app: Option<&str>,
    ) -> Option<Code> {
        let mut request = Request::builder().uri(format!("/{method}"));
        if let Some(key) = key {
            request = request.header(header::AUTHORIZATION, format!("Bearer {key}"));
        }
        if let Some(app) = app {
            request = request.header("keevo-app", app);
        }
        let mut request = request.body(Body::empty()).expect("a request");
        if let Some(caller) = caller {
            request.extensions_mut().insert(caller);
        }
        let response = self.door.call(request).await.expect("infallible");
        Status::from_header_map(response.headers()).map(|status| {
            assert!(response.extensions().get::<String>().is_none(), "a refused call reached the service");
            status.code()
        })
    }
}

fn node(node: Option<u64>) -> Caller {
    Caller { address: SocketAddr::from(([127, 0, 0, 1], 1)), name: None, node }
}

#[tokio::test]
async fn nobody_gets_through_unless_the_rule_says_so() {
    let mut door = fixture(true, true).await;
    for row in RULES {
        let expected = match row.rule {
            Rule::Open => None,
            Rule::Node => Some(Code::PermissionDenied),
            _ => Some(Code::Unauthenticated),
        };
        assert_eq!(door.call(row.method, None, None, None).await, expected, "{}", row.method);
        assert_eq!(door.call(row.method, Some("wrong"), None, None).await, expected, "{}", row.method);
        let admin = if row.rule == Rule::Node { Some(Code::PermissionDenied) } else { None };
        assert_eq!(door.call(row.method, Some(ADMIN_KEY), None, None).await, admin, "{}", row.method);
        let as_node = match row.rule {
            Rule::Open | Rule::Node => None,
            _ => Some(Code::Unauthenticated),
        };
        assert_eq!(door.call(row.method, None, Some(node(Some(2))), None).await, as_node, "{}", row.method);
    }
    for method in ["", "keevo.kv.v1.Kv/None", "keevo.admin.v1.Admin/", "KEEVO.kv.v1.Kv/Get"] {
        assert_eq!(door.call(method, Some(ADMIN_KEY), None, None).await, Some(Code::PermissionDenied), "{method}");
    }
}

/// Every role against every kind of method; the key-value service decides for itself.
#[tokio::test]
async fn each_role_calls_what_it_may_and_nothing_else() {
    let mut door = fixture(true, true).await;
    for (role, grants) in [
        ("a-reader", &["read feeds:7", "read chat:*"][..]),
        ("a-writer", &["write feeds:7"]),
        ("a-watcher", &["watch chat:1"]),
        ("a-owner", &["read,write,watch,admin feeds:7"]),
        ("a-other", &["read,write,watch,admin feeds:8", "read,write,watch,admin chat:2", "read kv:x"]),
    ] {
        let grants: Vec<String> = grants.iter().map(|text| (*text).to_owned()).collect();
        door.authority.set_role(role, &grants).await.expect("a role");
    }
    for role in ["a-reader", "a-writer", "a-watcher", "a-owner", "a-other", "admin", "writer", "reader"] {
        let (_, _, key) = door.authority.create_key(role, "", 0).await.expect("a key");
        for row in RULES {
            let may = match (role, row.rule) {
                (_, Rule::Node) => false,
                (_, Rule::Open | Rule::Known | Rule::Keys) | ("admin", _) | ("a-owner", Rule::Feeds(_)) => true,
                ("writer", Rule::Feeds(action) | Rule::Chat(action)) => action != Action::Admin,
                ("reader", Rule::Feeds(action) | Rule::Chat(action)) => [Action::Read, Action::Watch].contains(&action),
                ("a-reader", Rule::Feeds(action) | Rule::Chat(action)) => action == Action::Read,
                ("a-writer", Rule::Feeds(action)) => action == Action::Write,
                ("a-watcher", Rule::Chat(action)) => action == Action::Watch,
                _ => false,
            };
            let expected = (!may).then_some(Code::PermissionDenied);
            assert_eq!(door.call(row.method, Some(&key), None, Some("7")).await, expected, "{role} {}", row.method);
        }
        assert_eq!(
            door.call("keevo.feeds.v1.Feeds/GetFeed", Some(&key), None, Some("x")).await,
            Some(Code::InvalidArgument),
            "an app that is none"
        );
    }
    let counted = door.authority.metrics().denied.load(Ordering::Relaxed);
    assert!(counted > 100, "{counted}");
}

#[tokio::test]
async fn without_authentication_everything_passes_untouched() {
    let mut door = fixture(false, false).await;
    for row in RULES {
        assert_eq!(door.call(row.method, None, None, None).await, None, "{}", row.method);
    }
    assert_eq!(door.authority.audit().page(0, 10).await.expect("read").last, 0);
}

#[tokio::test]
async fn what_administers_is_noted_before_and_after() {
    let mut door = fixture(true, false).await;
    assert_eq!(door.call("keevo.raft.v1.Raft/Link", None, None, None).await, None, "nodes need not show that they are");
    door.call("keevo.admin.v1.Admin/Join", Some("wrong"), None, None).await;
    door.call("keevo.admin.v1.Admin/ClusterStatus", Some(ADMIN_KEY), None, None).await;
    assert_eq!(door.authority.audit().page(0, 10).await.expect("read").last, 0, "refused, or only read");
    assert_eq!(door.call("keevo.admin.v1.Admin/Join", Some(ADMIN_KEY), None, None).await, None);
    let page = door.authority.audit().page(0, 10).await.expect("read");
    let entry = |at: usize| serde_json::from_slice::<serde_json::Value>(&page.entries[at]).expect("JSON");
    assert_eq!((page.last, entry(0)["method"].as_str()), (2, Some("keevo.admin.v1.Admin/Join")));
    assert_eq!((entry(1)["outcome"].as_str(), entry(1)["outcome_of"].as_u64()), (Some("OK"), Some(1)));
    assert_eq!(entry(0)["who"].as_str(), Some("key of auth_admin_key_file"));
}

#[tokio::test]
async fn a_second_message_hides_nothing_from_the_log() {
    let mut door = fixture(true, false).await;
    let body = b"\0\0\0\0\x02\x08\x04\0\0\0\0\0";
    for (bytes, expected) in [(&body[..], Some(Code::InvalidArgument)), (&body[..7], None)] {
        let request = Request::builder()
            .uri("/keevo.admin.v1.Admin/Remove")
            .header(header::AUTHORIZATION, format!("Bearer {ADMIN_KEY}"))
            .body(Body::new(Full::new(bytes::Bytes::copy_from_slice(bytes))))
            .expect("a request");
        let response = door.door.call(request).await.expect("infallible");
        assert_eq!(Status::from_header_map(response.headers()).map(|status| status.code()), expected);
    }
    let page = door.authority.audit().page(0, 10).await.expect("read");
    assert_eq!(page.last, 2, "what was refused is not noted as done");
    let entry: serde_json::Value = serde_json::from_slice(&page.entries[0]).expect("JSON");
    assert_eq!(entry["request"], serde_json::json!({ "node_id": 4 }));
}
