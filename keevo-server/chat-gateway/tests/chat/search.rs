//! Search: what is found, by whom, and that an index that lags gives nothing away.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, header};
use futures::FutureExt;
use jsonwebtoken::{EncodingKey, Header, encode};
use keevo_chat::AppId;
use keevo_chat_gateway::{ChatGatewayOptions, Gatekeeper};
use keevo_core::{AnyEngine, Engine, ManualClock, MemoryEngine, Scan};
use keevo_gateway::GatewayOptions;
use keevo_gateway::apps::Secret;
use keevo_search::{SearchIndex, SearchOptions, SearchParts};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::judged::Words;
use super::support::{Answer, Lab, server, user};

/// A node with an index that commits when its clock is moved.
struct Found {
    lab: Lab,
    index: SearchIndex,
    clock: Arc<ManualClock>,
    _folder: TempDir,
}

impl Found {
    async fn new() -> Self {
        let (engine, folder) = (MemoryEngine::new(), TempDir::new().expect("a folder"));
        let clock = Arc::new(ManualClock::new(1));
        let heads = engine.clone();
        let parts = SearchParts {
            engine: AnyEngine::new(engine.clone()),
            heads: Arc::new(move |keyspace| {
                let engine = heads.clone();
                async move { Ok(vec![engine.scan(Scan::partition(keyspace, "-", 1)).await?.as_of]) }.boxed()
            }),
            apps: Arc::new(|| futures::future::ready(Ok(vec![AppId(1)])).boxed()),
            room: Arc::new(|| true),
            clock: Arc::clone(&clock) as _,
        };
        let options = SearchOptions {
            heap_bytes: 16 << 20,
            quiet: Duration::from_millis(10),
            ..SearchOptions::new(folder.path())
        };
        let index = SearchIndex::new(parts, options);
        let gate: Option<Arc<dyn Gatekeeper>> = Some(Arc::new(Words::default()));
        let options = ChatGatewayOptions {
            user_per_minute: 100_000,
            search: Some(index.clone()),
            ..ChatGatewayOptions::default()
        };
        let lab = Lab::with(engine, GatewayOptions::default(), options, gate).await;
        tokio::spawn(index.clone().run(lab.stop.clone()));
        Self { lab, index, clock, _folder: folder }
    }

    /// Lets the index come to where so many messages are found.
    async fn holds(&self, documents: u64) {
        for _ in 0..1_000 {
            self.clock.advance_ms(2_000);
            tokio::time::sleep(Duration::from_millis(15)).await;
            let metrics = self.index.metrics();
            if metrics.documents == documents && !metrics.state.catching_up && metrics.lag_ms == 0 {
                return;
            }
        }
        panic!("it never held {documents}: {:?}", self.index.metrics());
    }

    async fn ask(&self, token: &str, body: Value) -> Answer {
        self.lab.post("search", token, body).await
    }

    /// The texts that a search finds, all pages of them.
    async fn texts(&self, token: &str, mut body: Value) -> Vec<String> {
        let mut texts = Vec::new();
        loop {
            let page = self.ask(token, body.clone()).await.good();
            for result in page["results"].as_array().expect("a list") {
                texts.push(result["message"]["text"].as_str().expect("a text").to_owned());
            }
            if page["next"].is_null() {
                return texts;
            }
            body["cursor"] = page["next"].clone();
        }
    }

    async fn found(&self, who: &str, query: &str) -> Vec<String> {
        self.texts(&user(who), json!({ "query": query, "sort": "created_at" })).await
    }
}

#[tokio::test]
async fn one_finds_what_one_may_read() {
    let node = Found::new().await;
    let lab = &node.lab;
    lab.channel("a", &["ann", "bob"]).await;
    lab.channel("b", &["bob"]).await;
    lab.say("a", "ann", "😀 the Zeppelin lands").await;
    lab.say("a", "bob", "zeppelins and a zeppelin").await;
    let parent = lab.say("b", "bob", "a zeppelin of bob's").await;
    let reply = json!({ "text": "zeppelin in a thread", "parent_id": parent["id"] });
    lab.post("channels/team/b/messages", &user("bob"), reply).await.good();
    node.holds(4).await;

    assert_eq!(node.found("ann", "zeppelin").await, ["😀 the Zeppelin lands", "zeppelins and a zeppelin"]);
    assert_eq!(node.found("bob", "zeppelin").await.len(), 4);
    assert_eq!(node.found("bob", "zeppelin -bob -thread").await.len(), 2);
    assert_eq!(node.found("cem", "zeppelin").await, Vec::<String>::new());
    assert_eq!(node.texts(&server(), json!({ "query": "zeppelin" })).await.len(), 4, "all of the app");
    let named = json!({ "query": "zeppelin", "cids": ["team:b"] });
    assert_eq!(node.ask(&user("ann"), named.clone()).await.denied(), "not-a-member");
    let of_bob = node.ask(&user("bob"), named).await.good();
    assert_eq!(of_bob["results"].as_array().map(Vec::len), Some(2));
    assert_eq!(of_bob["results"][0]["message"]["cid"], "team:b");
    assert_eq!((&of_bob["partial"], &of_bob["index"]["catching_up"]), (&json!(false), &json!(false)));
    assert!(of_bob["index"]["applied"].as_object().is_some_and(|applied| !applied.is_empty()), "{of_bob}");

    let body = json!({ "query": "zepp* lands", "limit": 1 });
    let marked = node.ask(&user("ann"), body).await.good();
    let highlights = json!([{ "text": "😀 the Zeppelin lands", "start": 0, "ranges": [[7, 15], [16, 21]] }]);
    assert_eq!(marked["results"][0]["highlights"], highlights, "in UTF-16 code units");

    for sort in ["relevance", "-created_at", "created_at"] {
        let body = |limit: u64| json!({ "query": "zeppelin", "sort": sort, "limit": limit });
        let whole = node.texts(&user("bob"), body(10)).await;
        assert_eq!(node.texts(&user("bob"), body(1)).await, whole, "{sort}: page by page");
    }
    let server = server();
    let filtered = |body: Value| node.texts(&server, body);
    assert_eq!(filtered(json!({ "author_id": "ann" })).await, ["😀 the Zeppelin lands"]);
    assert_eq!(filtered(json!({ "query": "zeppelin", "created_before": 1 })).await.len(), 0);
    assert_eq!(filtered(json!({ "query": "zeppelin", "created_after": 1 })).await.len(), 4);
}

#[tokio::test]
async fn an_index_that_lags_gives_nothing_away() {
    let node = Found::new().await;
    let lab = &node.lab;
    lab.channel("a", &["ann", "bob"]).await;
    let mut ids = Vec::new();
    for text in ["plum one", "plum two", "plum three", "plum four", "plum five"] {
        ids.push(lab.say("a", "ann", text).await["id"].as_str().expect("an id").to_owned());
    }
    node.holds(5).await;
    assert_eq!(node.found("bob", "plum").await.len(), 5);
    // From here on the index stands still.
    let at = |id: &str| format!("channels/team/a/messages/{id}");
    lab.patch(&at(&ids[4]), &user("ann"), json!({ "text": "pear" })).await.good();
    assert_eq!(node.found("bob", "plum").await, ["plum one", "plum two", "plum three", "plum four"]);
    assert_eq!(node.found("bob", "five").await, Vec::<String>::new());
    lab.delete(&at(&ids[3]), &user("ann")).await.good();
    assert_eq!(node.found("bob", "plum").await, ["plum one", "plum two", "plum three"]);
    lab.delete(&format!("{}?erase=true", at(&ids[2])), &user("ann")).await.good();
    assert_eq!(node.found("bob", "plum").await, ["plum one", "plum two"]);
    lab.post("channels/team/a/truncate", &user("ann"), json!({ "up_to": 1 })).await.good();
    assert_eq!(node.found("bob", "plum").await, ["plum two"]);
    lab.delete("channels/team/a/members/bob", &user("ann")).await.good();
    assert_eq!(node.found("bob", "plum").await, Vec::<String>::new());
    assert_eq!(node.found("ann", "plum").await, ["plum two"]);
    assert_eq!(node.index.metrics().documents, 5, "it stood still");
    node.holds(2).await;
    assert_eq!(node.found("ann", "pear").await, ["pear"]);
    lab.post("users/ann/erasure", &server(), json!({})).await.good();
    node.holds(0).await;
    assert_eq!(node.texts(&server(), json!({ "query": "plum" })).await, Vec::<String>::new());
}

#[tokio::test]
async fn what_is_held_or_shadowed_is_found_by_nobody_else() {
    let node = Found::new().await;
    let lab = &node.lab;
    lab.channel("a", &["ann", "bob"]).await;
    for text in ["shadow", "hold", "fine"] {
        lab.say("a", "ann", text).await;
    }
    node.holds(2).await;
    assert_eq!(node.found("ann", "shadow").await, ["shadow"], "its author is not told");
    for query in ["shadow", "hold"] {
        assert_eq!(node.found("bob", query).await, Vec::<String>::new());
    }
    assert_eq!(node.found("bob", "fine").await, ["fine"]);
    assert_eq!(node.texts(&server(), json!({ "query": "hold" })).await, Vec::<String>::new());
}

/// Hits that are not shown once left room for fewer than the index was asked for at least, and the search died of it.
#[tokio::test]
async fn a_search_ends_where_its_hits_are_not_shown() {
    let node = Found::new().await;
    node.lab.channel("a", &["ann", "bob"]).await;
    for _ in 0..505 {
        node.lab.say("a", "ann", "shadow").await;
    }
    node.holds(505).await;
    let page = node.ask(&user("bob"), json!({ "query": "shadow", "limit": 11 })).await.good();
    assert_eq!(page["results"], json!([]));
    assert!(page["next"].is_string(), "it goes on behind what was looked at: {page}");
    assert_eq!(node.found("bob", "shadow").await, Vec::<String>::new());
}

#[tokio::test]
async fn a_search_meets_nothing_of_another_app() {
    let node = Found::new().await;
    let lab = &node.lab;
    lab.gateway.apps().ensure("other", "other".to_owned(), Secret::new("another secret")).await.expect("an app");
    lab.channel("a", &["ann"]).await;
    lab.say("a", "ann", "quince of the first").await;
    let token = |claims: Value| {
        let key = EncodingKey::from_secret(b"another secret");
        encode(&Header::default(), &claims, &key).expect("a token")
    };
    let ask = async |path: &str, token: &str, body: Value| {
        let request = Request::builder()
            .method("POST")
            .uri(format!("/chat/v1/{path}?api_key=other"))
            .header(header::AUTHORIZATION, token)
            .body(Body::from(body.to_string()));
        lab.send(request.expect("a request")).await.good()
    };
    let (ann, all) = (token(json!({ "user_id": "ann" })), token(json!({ "resource": "*", "action": "*" })));
    ask("channels", &ann, json!({ "type": "team", "id": "a" })).await;
    ask("channels/team/a/messages", &ann, json!({ "text": "quince of the second" })).await;
    node.holds(2).await;
    for (token, body) in [
        (&ann, json!({ "query": "quince" })),
        (&all, json!({ "query": "quin*" })),
        (&all, json!({ "author_id": "ann" })),
        (&ann, json!({ "query": "-nothing", "cids": ["team:a"] })),
    ] {
        let page = ask("search", token, body).await;
        let texts: Vec<&Value> =
            page["results"].as_array().expect("a list").iter().map(|one| &one["message"]["text"]).collect();
        assert_eq!(texts, ["quince of the second"]);
    }
    assert_eq!(node.found("ann", "quince").await, ["quince of the first"]);
}

#[tokio::test]
async fn bad_searches_are_refused() {
    let node = Found::new().await;
    node.lab.channel("a", &["ann"]).await;
    node.holds(0).await;
    let ann = user("ann");
    for bad in [
        json!({}),
        json!({ "query": "" }),
        json!({ "query": " … " }),
        json!({ "query": "x".repeat(1_001) }),
        json!({ "query": "ab ".repeat(17) }),
        json!({ "query": "a*" }),
        json!({ "query": 7 }),
        json!({ "query": "x", "sort": "best" }),
        json!({ "query": "x", "limit": 0 }),
        json!({ "query": "x", "limit": 101 }),
        json!({ "query": "x", "cursor": "nonsense" }),
        json!({ "query": "x", "cursor": "" }),
        json!({ "query": "x", "cids": [] }),
        json!({ "query": "x", "cids": ["nonsense"] }),
        json!({ "query": "x", "cids": vec!["team:a"; 101] }),
        json!({ "query": "x", "more": 1 }),
    ] {
        assert_eq!(node.ask(&ann, bad.clone()).await.refused(), (400, 4), "{bad}");
    }
    let quota = node.ask(&ann, json!({ "query": "x" })).await;
    assert_eq!(quota.headers["x-ratelimit-limit"], "1200");
    let off = Lab::new().await;
    assert_eq!(off.post("search", &ann, json!({ "query": "x" })).await.refused(), (503, -1));
}
