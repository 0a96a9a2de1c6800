//! A sidecar over real sockets: the three shapes, refusals, readiness, drain and TLS.

use std::sync::mpsc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::serve::testing::{Gate, WordModel};

struct Reply {
    status: u16,
    head: String,
    body: Value,
}

async fn exchange(address: SocketAddr, request: &[u8]) -> Reply {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    stream.write_all(request).await.expect("it reads");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("it answers");
    parse(&answer)
}

fn parse(answer: &[u8]) -> Reply {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    let body = serde_json::from_str(body).unwrap_or_else(|_| Value::from(body));
    Reply { status, head: head.to_lowercase(), body }
}

fn request(method: &str, path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}content-length: {length}\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

async fn post(sidecar: &Sidecar, path: &str, body: &Value) -> Reply {
    exchange(sidecar.http, &request("POST", path, "", body.to_string().as_bytes())).await
}

async fn get(sidecar: &Sidecar, path: &str) -> Reply {
    exchange(sidecar.http, &request("GET", path, "", b"")).await
}

fn config(options: ServeOptions) -> SidecarConfig {
    SidecarConfig { http: ([127, 0, 0, 1], 0).into(), grpc: None, tls: None, keys: ApiKeys::default(), options }
}

async fn start(config: SidecarConfig) -> (Sidecar, Arc<Gate>) {
    let model = WordModel::new();
    let gate = Arc::clone(&model.gate);
    let mut sidecar = Sidecar::start(config, Box::new(move || Ok(Box::new(model)))).await.expect("it starts");
    sidecar.ready().await.expect("it becomes ready");
    (sidecar, gate)
}

async fn plain() -> (Sidecar, Arc<Gate>) {
    start(config(ServeOptions { body_bytes_max: 4_096, window_overlap: 4, ..ServeOptions::default() })).await
}

#[tokio::test]
async fn openai_clients_are_answered_in_their_shape() {
    let (sidecar, _) = plain().await;
    let reply = post(&sidecar, "/v1/moderations", &json!({"input": ["hello", "you idiot"], "model": "words"})).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    let results = reply.body["results"].as_array().expect("results");
    assert_eq!(results.len(), 2);
    assert_eq!((&results[0]["flagged"], &results[1]["flagged"]), (&json!(false), &json!(true)));
    let bad = &results[1];
    assert_eq!(bad["categories"]["harassment"], true);
    assert_eq!(bad["categories"]["toxic"], true);
    assert_eq!(bad["categories"]["sexual/minors"], false);
    assert_eq!(bad["category_applied_input_types"]["self-harm"], json!([]));
    assert!(bad["category_scores"]["harassment"].as_f64().expect("a score") > 0.9);
    let parts = json!({"input": [{"type": "text", "text": "hello"}, {"type": "text", "text": "idiot"}]});
    let reply = post(&sidecar, "/v1/moderations", &parts).await;
    assert_eq!(reply.body["results"].as_array().map(Vec::len), Some(1), "{}", reply.body);
    assert_eq!(reply.body["results"][0]["flagged"], true);
    sidecar.stop().await;
}

#[tokio::test]
async fn tei_clients_are_answered_in_their_shape() {
    let (sidecar, _) = plain().await;
    let reply = post(&sidecar, "/predict", &json!({"inputs": "you idiot"})).await;
    assert_eq!(reply.body[0]["label"], "toxic", "{}", reply.body);
    let reply = post(&sidecar, "/predict", &json!({"inputs": ["kill", "it"], "raw_scores": true})).await;
    assert_eq!(reply.body[0], json!({"score": 4.0, "label": "threat"}), "a pair: {}", reply.body);
    let reply = post(&sidecar, "/predict", &json!({"inputs": [["a"], ["b", "idiot"]]})).await;
    assert_eq!(reply.body.as_array().map(Vec::len), Some(2), "a batch: {}", reply.body);
    let long = "w ".repeat(40);
    let reply = post(&sidecar, "/predict", &json!({"inputs": long})).await;
    assert_eq!((reply.status, &reply.body["error_type"]), (413, &json!("Validation")));
    assert_eq!(post(&sidecar, "/predict", &json!({"inputs": long, "truncate": true})).await.status, 200);
    let reply = get(&sidecar, "/info").await;
    assert_eq!(reply.body["model_type"]["classifier"]["id2label"]["1"], "threat", "{}", reply.body);
    sidecar.stop().await;
}

#[tokio::test]
async fn perspective_clients_are_answered_in_their_shape() {
    let (sidecar, _) = plain().await;
    let path = "/v1alpha1/comments:analyze?key=anything";
    let ask = json!({
        "comment": {"text": "you idiot"}, "languages": ["en"], "clientToken": "t", "spanAnnotations": true,
        "requestedAttributes": {"TOXICITY": {}, "THREAT_EXPERIMENTAL": {"scoreThreshold": 0.5}},
    });
    let reply = post(&sidecar, path, &ask).await;
    let toxicity = &reply.body["attributeScores"]["TOXICITY"];
    assert!(toxicity["summaryScore"]["value"].as_f64().expect("a score") > 0.9, "{}", reply.body);
    assert_eq!(toxicity["spanScores"][0]["end"], 9);
    assert!(reply.body["attributeScores"].get("THREAT_EXPERIMENTAL").is_none(), "below its threshold");
    assert_eq!(reply.body["clientToken"], "t");
    for (ask, reason) in [
        (json!({"comment": {"text": ""}, "requestedAttributes": {"TOXICITY": {}}}), "COMMENT_EMPTY"),
        (
            json!({"comment": {"text": "a"}, "languages": ["fr"], "requestedAttributes": {"TOXICITY": {}}}),
            "LANGUAGE_NOT_SUPPORTED_BY_ATTRIBUTE",
        ),
    ] {
        let reply = post(&sidecar, path, &ask).await;
        assert_eq!((reply.status, &reply.body["error"]["details"][0]["errorType"]), (400, &json!(reason)));
    }
    sidecar.stop().await;
}

#[tokio::test]
async fn whatever_is_sent_is_answered_and_never_with_a_500() {
    let (sidecar, _) = plain().await;
    let paths = ["/v1/moderations", "/predict", "/v1alpha1/comments:analyze"];
    let huge = json!({"input": "x".repeat(5_000)}).to_string();
    let bodies: [&[u8]; 16] = [
        b"",
        b"{",
        b"null",
        b"[]",
        b"42",
        b"{}",
        b"\xff\xfe\x00",
        b"{\"input\": 5}",
        b"{\"input\": []}",
        b"{\"input\": [\"a\", 5]}",
        b"{\"input\": \"\"}",
        b"{\"inputs\": [[]], \"truncate\": \"yes\"}",
        b"{\"inputs\": [[\"a\", \"b\", \"c\"]]}",
        b"{\"comment\": \"a\", \"requestedAttributes\": 1}",
        b"{\"input\": [{\"type\": \"image_url\", \"image_url\": {\"url\": \"u\"}}]}",
        huge.as_bytes(),
    ];
    for path in paths {
        for body in bodies {
            let reply = exchange(sidecar.http, &request("POST", path, "", body)).await;
            let shown = String::from_utf8_lossy(body);
            assert!((400..500).contains(&reply.status), "{path} {shown}: {} {}", reply.status, reply.body);
            assert!(!reply.body["error"].is_null(), "{path} {shown}: {}", reply.body);
        }
        let reply = get(&sidecar, path).await;
        assert_eq!(reply.status, 405, "{path}");
        for (name, value) in [("x-keevo-priority", "soon"), ("x-keevo-timeout-ms", "0"), ("x-keevo-timeout-ms", "-1")] {
            let headers = format!("{name}: {value}\r\n");
            let reply = exchange(sidecar.http, &request("POST", path, &headers, b"{}")).await;
            assert!((400..500).contains(&reply.status), "{path} {name}: {value}");
        }
    }
    let nested = "[".repeat(4_000);
    assert_eq!(exchange(sidecar.http, &request("POST", "/predict", "", nested.as_bytes())).await.status, 422);
    assert_eq!(get(&sidecar, "/elsewhere").await.status, 404);
    let reply = post(&sidecar, "/v1/moderations", &json!({"input": "a", "model": "gpt-4"})).await;
    assert_eq!((reply.status, &reply.body["error"]["code"]), (404, &json!("model_not_found")));
    let reply = post(&sidecar, "/v1/moderations", &json!({"input": "nan"})).await;
    assert_eq!(reply.status, 500, "a score that is no number is never a 200: {}", reply.body);
    assert_eq!(post(&sidecar, "/predict", &json!({"inputs": "nan"})).await.status, 424);
    let reply = post(&sidecar, "/v1/moderations", &json!({"input": "😀 مرحبا \u{202e}abc"})).await;
    assert_eq!(reply.status, 200);
    sidecar.stop().await;
}

#[tokio::test]
async fn a_full_queue_says_when_to_come_again() {
    let options = ServeOptions { queue_texts_max: 2, batch_texts_max: 1, ..ServeOptions::default() };
    let (sidecar, gate) = start(config(options)).await;
    let (address, before) = (sidecar.http, gate.met.load(Ordering::SeqCst));
    gate.shut();
    let body = request("POST", "/v1/moderations", "", b"{\"input\": \"hello\"}");
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let body = body.clone();
        waiting.spawn(async move { exchange(address, &body).await.status });
    }
    let refused = loop {
        let reply =
            exchange(address, &request("POST", "/v1/moderations", "x-keevo-timeout-ms: 50\r\n", b"{\"input\": \"a\"}"))
                .await;
        if reply.status == 429 {
            break reply;
        }
        assert_eq!(reply.status, 504, "the queue was not full yet");
    };
    assert!(refused.head.contains("retry-after: "), "{}", refused.head);
    assert_eq!(get(&sidecar, "/health").await.status, 200, "HTTP is not blocked by a model that is");
    assert!(gate.met.load(Ordering::SeqCst) > before);
    gate.open();
    while let Some(status) = waiting.join_next().await {
        assert!(matches!(status, Ok(200 | 429)), "{status:?}");
    }
    let shown = get(&sidecar, "/metrics").await.body;
    assert!(shown.as_str().is_some_and(|text| !text.contains("queue_refusals_total 0\n")), "{shown}");
    sidecar.stop().await;
}

#[tokio::test]
async fn it_is_ready_only_after_the_warm_up_and_stops_without_losing_answers() {
    let model = WordModel::new();
    let gate = Arc::clone(&model.gate);
    let (load_tx, load) = mpsc::channel::<()>();
    let loaded = move || -> Result<Box<dyn Classify>> {
        load.recv().map_err(|error| Error::new(ErrorKind::Io, "the test is over").with_source(error))?;
        Ok(Box::new(model))
    };
    let mut sidecar = Sidecar::start(config(ServeOptions::default()), Box::new(loaded)).await.expect("it starts");
    assert_eq!(get(&sidecar, "/health").await.status, 503);
    let reply = post(&sidecar, "/predict", &json!({"inputs": "a"})).await;
    assert_eq!((reply.status, &reply.body["error_type"]), (503, &json!("Unhealthy")));
    gate.shut();
    load_tx.send(()).expect("it loads");
    while gate.met.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(get(&sidecar, "/health").await.status, 503, "it warms up");
    gate.open();
    sidecar.ready().await.expect("warm");
    assert_eq!(get(&sidecar, "/health").await.status, 200);
    gate.shut();
    let (address, met) = (sidecar.http, gate.met.load(Ordering::SeqCst));
    let body = request("POST", "/predict", "", b"{\"inputs\": \"idiot\"}");
    let asked = tokio::spawn(async move { exchange(address, &body).await });
    while gate.met.load(Ordering::SeqCst) == met {
        tokio::task::yield_now().await;
    }
    let stopping = tokio::spawn(sidecar.stop());
    tokio::time::sleep(Duration::from_millis(20)).await;
    gate.open();
    assert_eq!(asked.await.expect("no panic").status, 200, "what was under way is answered");
    stopping.await.expect("no panic");
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn a_model_that_does_not_load_is_told_and_keys_are_asked_for() {
    let broken = || -> Result<Box<dyn Classify>> { Err(Error::new(ErrorKind::Config, "no config.json")) };
    let mut sidecar = Sidecar::start(config(ServeOptions::default()), Box::new(broken)).await.expect("it starts");
    assert_eq!(sidecar.ready().await.expect_err("told").message(), "no config.json");
    sidecar.stop().await;
    let keys = ApiKeys::parse("a-good-key").expect("a key");
    let (sidecar, _) = start(SidecarConfig { keys, ..config(ServeOptions::default()) }).await;
    let body = b"{\"input\": \"a\"}";
    for (headers, status) in [
        ("", 401),
        ("authorization: Bearer another-key\r\n", 401),
        ("authorization: Bearer a-good-key\r\n", 200),
        ("x-goog-api-key: a-good-key\r\n", 200),
    ] {
        let reply = exchange(sidecar.http, &request("POST", "/v1/moderations", headers, body)).await;
        assert_eq!(reply.status, status, "{headers}");
    }
    assert_eq!(get(&sidecar, "/info").await.status, 401);
    assert_eq!((get(&sidecar, "/health").await.status, get(&sidecar, "/metrics").await.status), (200, 200));
    sidecar.stop().await;
}

#[tokio::test]
async fn certificates_that_cannot_be_read_are_named() {
    let missing = Certificate { chain: "no/chain.pem".into(), key: "no/key.pem".into() };
    let bad = SidecarConfig { tls: Some(missing), ..config(ServeOptions::default()) };
    let error = Sidecar::start(bad, Box::new(|| Ok(Box::new(WordModel::new())))).await.expect_err("refused");
    assert!(error.kind() == ErrorKind::Config && error.message().contains("no/chain.pem"), "{error}");
}

/// A TLS client that trusts the certificate of the tests alone, and speaks `versions`.
fn tls_client(versions: &[&'static rustls::SupportedProtocolVersion]) -> tokio_rustls::TlsConnector {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(testdata("chain.pem")).expect("a certificate")).expect("it is trusted");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = rustls::ClientConfig::builder_with_provider(provider).with_protocol_versions(versions);
    let client = client.expect("versions that there are").with_root_certificates(roots).with_no_client_auth();
    tokio_rustls::TlsConnector::from(Arc::new(client))
}

fn testdata(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/testdata/tls").join(name)
}

#[tokio::test]
async fn a_handshake_is_made_by_both_versions_of_tls_and_by_nothing_else() {
    let tls = Some(Certificate { chain: testdata("chain.pem"), key: testdata("key.pem") });
    let (sidecar, _) = start(SidecarConfig { tls, ..config(ServeOptions::default()) }).await;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let stream = TcpStream::connect(sidecar.http).await.expect("it listens");
        let name = "localhost".try_into().expect("a name");
        let mut stream = tls_client(&[version]).connect(name, stream).await.expect("a handshake");
        let body = json!({"input": "you idiot"}).to_string();
        stream.write_all(&request("POST", "/v1/moderations", "", body.as_bytes())).await.expect("it reads");
        let mut answer = Vec::new();
        // A server may close without a farewell after `connection: close`.
        drop(stream.read_to_end(&mut answer).await);
        let reply = parse(&answer);
        assert_eq!((reply.status, &reply.body["results"][0]["flagged"]), (200, &json!(true)), "{version:?}");
    }
    let other = TcpStream::connect(sidecar.http).await.expect("it listens");
    let name = "example.org".try_into().expect("a name");
    let wrong = tls_client(&[&rustls::version::TLS13]).connect(name, other).await;
    assert!(wrong.is_err(), "the certificate is of another name");
    let mut plain = TcpStream::connect(sidecar.http).await.expect("it listens");
    plain.write_all(&request("GET", "/health", "", b"")).await.expect("it reads");
    let mut answer = Vec::new();
    drop(plain.read_to_end(&mut answer).await);
    assert!(!answer.starts_with(b"HTTP/1.1 200"), "nothing is answered in the clear");
    sidecar.stop().await;
}
