//! gRPC over real sockets: one request, streams, refusals, readiness, drain, keys and TLS.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use keevo_proto::error_from_status;
use pb::classify_stream_response::Outcome;
use pb::moderation_client::ModerationClient;
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus as Told;
use tonic_health::pb::health_client::HealthClient;

use super::*;
use crate::classify::Classify;
use crate::serve::testing::{Gate, WordModel};
use crate::serve::{ApiKeys, ServeOptions, Sidecar, SidecarConfig};

fn config(options: ServeOptions) -> SidecarConfig {
    let free = SocketAddr::from(([127, 0, 0, 1], 0));
    SidecarConfig { http: free, grpc: Some(free), tls: None, keys: ApiKeys::default(), options }
}

async fn start(config: SidecarConfig) -> (Sidecar, Arc<Gate>) {
    let model = WordModel::new();
    let gate = Arc::clone(&model.gate);
    let mut sidecar = Sidecar::start(config, Box::new(move || Ok(Box::new(model)))).await.expect("it starts");
    sidecar.ready().await.expect("it becomes ready");
    (sidecar, gate)
}

async fn channel(sidecar: &Sidecar) -> Channel {
    let address = sidecar.grpc().expect("it is served");
    Endpoint::from_shared(format!("http://{address}")).expect("an address").connect().await.expect("it listens")
}

async fn client(sidecar: &Sidecar) -> ModerationClient<Channel> {
    ModerationClient::new(channel(sidecar).await)
}

fn request(texts: &[&str]) -> pb::ClassifyRequest {
    let inputs = texts.iter().map(|text| pb::Input { text: (*text).to_owned(), pair: None }).collect();
    pb::ClassifyRequest { inputs, ..pb::ClassifyRequest::default() }
}

fn numbered(id: u64, text: &str) -> pb::ClassifyStreamRequest {
    pb::ClassifyStreamRequest { id, request: Some(request(&[text])) }
}

async fn health(sidecar: &Sidecar) -> i32 {
    let mut client = HealthClient::new(channel(sidecar).await);
    let service = "keevo.moderation.v1.Moderation".to_owned();
    client.check(HealthCheckRequest { service }).await.expect("told").into_inner().status
}

#[tokio::test]
async fn a_request_is_judged_as_a_whole() {
    let (sidecar, _) = start(config(ServeOptions { window_overlap: 4, ..ServeOptions::default() })).await;
    let mut client = client(&sidecar).await;
    let long = format!("{}idiot", "w ".repeat(40));
    let asked = pb::ClassifyRequest { raw_scores: true, ..request(&["hello", "you idiot", &long]) };
    let answer = client.classify(asked).await.expect("judged").into_inner();
    assert_eq!((answer.model.as_str(), answer.labels.join(" ")), ("words", "toxic threat".to_owned()));
    let flagged: Vec<_> = answer.results.iter().map(|one| (one.flagged, one.flagged_labels.join(" "))).collect();
    assert_eq!(flagged, [(false, String::new()), (true, "toxic".to_owned()), (true, "toxic".to_owned())]);
    let (insult, long) = (&answer.results[1], &answer.results[2]);
    assert!(insult.scores[0] > 0.9 && insult.raw_scores == [4.0, -4.0] && insult.windows == 1, "{insult:?}");
    assert!(long.windows > 1 && long.tokens > 43, "{long:?}");
    let answer = client.classify(request(&["hello"])).await.expect("judged").into_inner();
    assert!(answer.results[0].raw_scores.is_empty(), "they were not asked for");
    let info = client.get_info(pb::GetInfoRequest {}).await.expect("told").into_inner();
    assert_eq!((info.tokens_max, info.multi_label, info.request_texts_max), (16, true, 256));
    sidecar.stop().await;
}

#[tokio::test]
async fn what_cannot_be_judged_is_refused_with_its_kind() {
    let options = ServeOptions { body_bytes_max: 4_096, request_texts_max: 2, ..ServeOptions::default() };
    let (sidecar, _) = start(config(options)).await;
    let mut client = client(&sidecar).await;
    let refuse = pb::LongText::Refuse.into();
    for (asked, kind) in [
        (request(&[]), ErrorKind::Invalid),
        (request(&[""]), ErrorKind::Invalid),
        (request(&["a", "b", "c"]), ErrorKind::BatchTooLarge),
        (pb::ClassifyRequest { long_text: refuse, ..request(&["w ".repeat(40).as_str()]) }, ErrorKind::BatchTooLarge),
        (pb::ClassifyRequest { priority: 9, ..request(&["a"]) }, ErrorKind::Invalid),
        (pb::ClassifyRequest { long_text: -1, ..request(&["a"]) }, ErrorKind::Invalid),
        (request(&["nan"]), ErrorKind::Corrupt),
    ] {
        let status = client.classify(asked.clone()).await.expect_err("refused");
        assert_eq!(error_from_status(&status).kind(), kind, "{asked:?}: {status}");
    }
    let huge = client.classify(request(&["x".repeat(5_000).as_str()])).await.expect_err("refused");
    assert_eq!(huge.code(), tonic::Code::OutOfRange, "{huge}");
    assert!(client.classify(request(&["😀 مرحبا \u{202e}abc"])).await.is_ok());
    sidecar.stop().await;
}

#[tokio::test]
async fn a_stream_answers_each_request_once_and_outlives_refusals() {
    let (sidecar, _) = start(config(ServeOptions::default())).await;
    let mut client = client(&sidecar).await;
    let texts = ["hello", "idiot", "nan", ""];
    let mut requests: Vec<_> = (0..400_u64).zip(texts.iter().cycle()).map(|(id, text)| numbered(id, text)).collect();
    requests.push(pb::ClassifyStreamRequest { id: 400, request: None });
    let mut answers = client.classify_stream(tokio_stream::iter(requests)).await.expect("begun").into_inner();
    let mut told = BTreeMap::new();
    while let Some(answer) = answers.message().await.expect("it goes on") {
        let said = match answer.outcome.expect("an outcome") {
            Outcome::Response(response) => format!("{}", response.results[0].flagged),
            Outcome::Failure(failure) => failure.kind,
        };
        assert!(told.insert(answer.id, said).is_none(), "{} was answered twice", answer.id);
    }
    let mut wanted: BTreeMap<u64, String> = (0..400)
        .zip(["false", "true", "CORRUPT", "INVALID"].into_iter().cycle())
        .map(|(id, said)| (id, said.to_owned()))
        .collect();
    wanted.insert(400, "INVALID".to_owned());
    assert_eq!(told, wanted);
    sidecar.stop().await;
}

/// A client that sends without end while the model stands still has 64 requests under way, and what HTTP/2 has in its
/// windows; nothing more is read.
#[tokio::test]
async fn a_stream_reads_no_more_than_it_may_have_under_way() {
    let options = ServeOptions { batch_texts_max: 1, ..ServeOptions::default() };
    let (sidecar, gate) = start(config(options)).await;
    let mut client = client(&sidecar).await;
    gate.shut();
    let (sent_tx, sent) = tokio::sync::mpsc::channel(1);
    let sending = tokio::spawn(async move {
        for id in 0..1_000_u64 {
            if sent_tx.send(numbered(id, "hello")).await.is_err() {
                return;
            }
        }
    });
    let mut answers = client.classify_stream(ReceiverStream::new(sent)).await.expect("begun").into_inner();
    let waiting = || sidecar.front().moderator().expect("ready").waiting_tokens() / 3;
    tokio::time::timeout(Duration::from_secs(10), async {
        // One or two are with the model.
        while waiting() < 60 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("the window fills");
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(waiting() <= 64, "{} wait", waiting());
    gate.open();
    for _ in 0..1_000 {
        assert!(answers.message().await.expect("it goes on").is_some());
    }
    assert!(answers.message().await.expect("it ends well").is_none());
    sending.await.expect("no panic");
    sidecar.stop().await;
}

#[tokio::test]
async fn a_full_queue_says_when_to_come_again() {
    let options = ServeOptions { queue_texts_max: 2, batch_texts_max: 1, ..ServeOptions::default() };
    let (sidecar, gate) = start(config(options)).await;
    let (mut client, met) = (client(&sidecar).await, gate.met.load(Ordering::SeqCst));
    gate.shut();
    let asked = tokio::spawn({
        let mut client = client.clone();
        async move { client.classify(request(&["hello"])).await }
    });
    while gate.met.load(Ordering::SeqCst) == met {
        tokio::task::yield_now().await;
    }
    let full = client.classify(request(&["a", "b", "c"])).await.expect_err("full");
    assert_eq!(error_from_status(&full).kind(), ErrorKind::ResourceExhausted, "{full}");
    assert!(full.metadata().get(RETRY_AFTER).is_some(), "{full:?}");
    let late = client.classify(pb::ClassifyRequest { timeout_ms: 20, ..request(&["a"]) }).await.expect_err("late");
    assert_eq!(error_from_status(&late).kind(), ErrorKind::DeadlineExceeded, "{late}");
    gate.open();
    asked.await.expect("no panic").expect("judged");
    sidecar.stop().await;
}

#[tokio::test]
async fn health_follows_the_model_and_a_stop_answers_what_was_read() {
    let model = WordModel::new();
    let gate = Arc::clone(&model.gate);
    let (load_tx, load) = std::sync::mpsc::channel::<()>();
    let loaded = move || -> Result<Box<dyn Classify>> {
        load.recv().map_err(|error| Error::new(ErrorKind::Io, "the test is over").with_source(error))?;
        Ok(Box::new(model))
    };
    let mut sidecar = Sidecar::start(config(ServeOptions::default()), Box::new(loaded)).await.expect("it starts");
    assert_eq!(health(&sidecar).await, i32::from(Told::NotServing));
    let mut client = client(&sidecar).await;
    let early = client.classify(request(&["a"])).await.expect_err("not ready");
    assert_eq!(error_from_status(&early).kind(), ErrorKind::Unavailable);
    load_tx.send(()).expect("it loads");
    sidecar.ready().await.expect("warm");
    assert_eq!(health(&sidecar).await, i32::from(Told::Serving));

    let mut watching = HealthClient::new(channel(&sidecar).await);
    let watched = watching.watch(HealthCheckRequest { service: String::new() }).await.expect("it is watched");
    let met = gate.met.load(Ordering::SeqCst);
    gate.shut();
    let (sent_tx, sent) = tokio::sync::mpsc::channel(4);
    sent_tx.send(numbered(7, "idiot")).await.expect("sent");
    let mut answers = client.classify_stream(ReceiverStream::new(sent)).await.expect("begun").into_inner();
    while gate.met.load(Ordering::SeqCst) == met {
        tokio::task::yield_now().await;
    }
    let stopping = tokio::spawn(sidecar.stop());
    tokio::time::sleep(Duration::from_millis(20)).await;
    gate.open();
    let answer = answers.message().await.expect("what was under way is answered").expect("an answer");
    assert_eq!(answer.id, 7);
    let end = answers.message().await.expect_err("the stream ends since the sidecar does");
    assert_eq!(end.code(), tonic::Code::Unavailable, "{end}");
    let stopped = tokio::time::timeout(Duration::from_secs(5), stopping).await;
    stopped.expect("nobody who watches its health holds it up").expect("no panic");
    drop(watched);
}

#[tokio::test]
async fn keys_are_asked_for_before_anything_is_read() {
    let keys = ApiKeys::parse("a-good-key").expect("a key");
    let (sidecar, _) = start(SidecarConfig { keys, ..config(ServeOptions::default()) }).await;
    let mut client = client(&sidecar).await;
    for (header, good) in [(None, false), (Some("Bearer another-key"), false), (Some("Bearer a-good-key"), true)] {
        let with = |mut request: Request<pb::ClassifyRequest>| {
            if let Some(header) = header {
                request.metadata_mut().insert("authorization", header.parse().expect("a value"));
            }
            request
        };
        let answered = client.classify(with(Request::new(request(&["a"])))).await;
        let kind = answered.err().map(|status| error_from_status(&status).kind());
        assert_eq!(kind, (!good).then_some(ErrorKind::Unauthenticated), "{header:?}");
    }
    let streamed = client.classify_stream(tokio_stream::iter([numbered(1, "a")])).await;
    assert_eq!(streamed.expect_err("refused").code(), tonic::Code::Unauthenticated);
    assert_eq!(health(&sidecar).await, i32::from(Told::Serving), "health needs no key");
    sidecar.stop().await;
}

/// A channel over TLS that trusts the certificate of the tests alone.
async fn over_tls(address: SocketAddr) -> Channel {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(testdata("chain.pem")).expect("a certificate")).expect("it is trusted");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut client = client.expect("versions").with_root_certificates(roots).with_no_client_auth();
    client.alpn_protocols = vec![GRPC.to_vec()];
    let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
    let dial = tower::service_fn(move |_uri| {
        let connector = connector.clone();
        async move {
            let stream = TcpStream::connect(address).await?;
            let stream = connector.connect("localhost".try_into().expect("a name"), stream).await?;
            std::io::Result::Ok(hyper_util::rt::TokioIo::new(stream))
        }
    });
    Endpoint::from_static("http://localhost").connect_with_connector(dial).await.expect("a handshake")
}

fn testdata(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/testdata/tls").join(name)
}

#[tokio::test]
async fn calls_are_taken_over_tls_and_not_in_the_clear() {
    let tls = Some(Certificate { chain: testdata("chain.pem"), key: testdata("key.pem") });
    let (sidecar, _) = start(SidecarConfig { tls, ..config(ServeOptions::default()) }).await;
    let address = sidecar.grpc().expect("it is served");
    let mut client = ModerationClient::new(over_tls(address).await);
    let answer = client.classify(request(&["idiot"])).await.expect("judged").into_inner();
    assert!(answer.results[0].flagged);
    let plain = Endpoint::from_shared(format!("http://{address}")).expect("an address").connect_lazy();
    assert!(ModerationClient::new(plain).classify(request(&["idiot"])).await.is_err(), "nothing in the clear");
    sidecar.stop().await;
}
