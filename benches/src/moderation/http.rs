//! `http_flask`: texts over HTTP, one a request, by many clients at once, to the sidecar and to Flask in turns.
//!
//! Both have the same model, all processors, and get the same texts in the same order: words of 5 to 60 tokens. What is
//! measured are whole requests; the sidecar batches what waits, Flask computes each text by itself.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, StatusCode, header};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use keevo_core::{Error, ErrorKind, Random, Result, SeededRandom};
use tokio::task::JoinSet;

use super::{ModerationArgs, Parts, Versions};
use crate::compare::line::{Line, PeerName, Runs};
use crate::compare::{Side, table};
use crate::load::arrivals::Arrivals;
use crate::load::{Measured, Tally, gather};
use crate::machine::Machine;
use crate::output::{Output, note, print};
use crate::servers::{self, Cluster};
use crate::window::Window;

/// Different texts.
const TEXTS: usize = 1_024;
/// How long a request may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
/// The longest answer.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// How long a client waits after a failure.
const PAUSE: Duration = Duration::from_millis(10);
/// How long a server may take until its model is warm.
const READY_WITHIN: Duration = Duration::from_mins(3);

/// Measures the case; its table.
pub(super) async fn run(
    args: &ModerationArgs,
    parts: &Parts,
    versions: &Versions,
    machine: &Machine,
) -> Result<String> {
    let model = parts.folder.path().join("model");
    let parent = parts.folder.path();
    let sidecar = servers::start_moderation(&parts.sidecar, &model, args.cuda, parent)?;
    let mut both = vec![sidecar, servers::start_flask(&args.python, &args.scripts, parent)?];
    let line = measure(args, versions, machine, &mut both).await;
    servers::stop_all(both).await;
    let line = line?;
    if args.output == Output::Json {
        print(&line.json())?;
    }
    Ok(format!(
        "{}\n\nRounds: {}, of {} s, each after {} s unmeasured; the servers take turns. ops/s: texts a second, one a request; \
         ratio: Keevo's over the peer's.",
        table::table(&[line]),
        args.rounds,
        args.seconds,
        args.warm_up_seconds
    ))
}

async fn measure(args: &ModerationArgs, versions: &Versions, machine: &Machine, both: &mut [Cluster]) -> Result<Line> {
    for server in both.iter_mut() {
        server.wait_ready_within(READY_WITHIN).await?;
    }
    let texts = Arc::new(texts());
    let mean = texts.iter().map(Bytes::len).sum::<usize>() / texts.len().max(1);
    let mut runs = Runs::default();
    for round in 0..args.rounds {
        for (side, server) in [Side::Keevo, Side::Peer].into_iter().zip(both.iter()) {
            let address = server.addresses().first().and_then(|address| address.parse().ok());
            let address = address.ok_or_else(|| Error::invalid("a server has no address"))?;
            let measured = drive(args, address, &texts, &server.pids(), round).await?;
            let rate = runs.add(side, measured)?;
            note(&format!("http_flask, round {} of {}: {side:?} {rate:.1}/s", round + 1, args.rounds));
        }
    }
    let peer = PeerName {
        name: "flask".to_owned(),
        version: format!("{} with PyTorch {}, traced", versions.flask, versions.torch),
    };
    for failure in runs.failures(&peer.name) {
        note(&failure);
    }
    let line = runs.line(("http_flask", args.clients), mean, &peer, machine);
    let line = line.ok_or_else(|| Error::new(ErrorKind::Unavailable, "a side did not run"))?;
    Ok(Line { offered_per_s: args.open, ..line })
}

/// Bodies of requests.
fn texts() -> Vec<Bytes> {
    let random = SeededRandom::new(5);
    let within = |from: u64, to: u64| from + random.next_u64() % (to - from);
    let text = |_| {
        // Two tokens are the model's own.
        let words = (0..within(3, 59)).map(|_| format!("w{}", within(1_000, 30_000))).collect::<Vec<_>>();
        Bytes::from(serde_json::json!({ "inputs": words.join(" ") }).to_string())
    };
    (0..TEXTS).map(text).collect()
}

async fn drive(
    args: &ModerationArgs,
    address: SocketAddr,
    texts: &Arc<Vec<Bytes>>,
    pids: &[u32],
    round: u32,
) -> Result<Measured> {
    let warm_up = Duration::from_secs(args.warm_up_seconds);
    let window = Arc::new(Window::after(warm_up, Duration::from_secs(args.seconds)));
    let arrivals = args.open.map(|per_s| Arrivals::start(per_s, &window)).transpose()?;
    let http = Client::builder(TokioExecutor::new()).build(HttpConnector::new());
    let mut clients = JoinSet::new();
    for number in 0..args.clients {
        let client = Asker {
            http: http.clone(),
            url: format!("http://{address}/predict"),
            texts: Arc::clone(texts),
            random: SeededRandom::new((u64::from(round) << 32) | u64::from(number)),
            window: Arc::clone(&window),
            arrivals: arrivals.clone(),
        };
        clients.spawn(client.run());
    }
    gather(clients, arrivals, &window, pids).await
}

/// One client.
struct Asker {
    http: Client<HttpConnector, Full<Bytes>>,
    url: String,
    texts: Arc<Vec<Bytes>>,
    random: SeededRandom,
    window: Arc<Window>,
    arrivals: Option<Arrivals>,
}

impl Asker {
    async fn run(self) -> Result<Tally> {
        let mut tally = Tally::new()?;
        loop {
            let began = match &self.arrivals {
                Some(arrivals) => arrivals.next().await,
                None => self.window.now(),
            };
            if self.window.has_ended_at(began) {
                return Ok(tally);
            }
            let asked = tokio::time::timeout(ANSWER_WITHIN, self.ask()).await;
            let done = asked.unwrap_or_else(|elapsed| {
                Err(Error::new(ErrorKind::DeadlineExceeded, "a text was not judged in time").with_source(elapsed))
            });
            let failed = done.is_err();
            tally.note(&self.window, began, self.window.now(), done);
            if failed {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    async fn ask(&self) -> Result<()> {
        let failed = |what: String| Error::new(ErrorKind::Unavailable, what);
        let number = usize::try_from(self.random.next_u64()).unwrap_or(0) % self.texts.len().max(1);
        let body = self.texts.get(number).cloned().unwrap_or_default();
        let request = Request::builder()
            .method(Method::POST)
            .uri(&self.url)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| Error::invalid("the request cannot be made").with_source(error))?;
        let answer = self.http.request(request).await.map_err(|error| failed(format!("no answer: {error}")))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| failed(format!("half an answer: {error}")))?.to_bytes();
        let scores: Option<Vec<serde_json::Value>> = serde_json::from_slice(&body).ok();
        if status == StatusCode::OK && scores.is_some_and(|scores| scores.iter().any(|one| one["score"].is_number())) {
            return Ok(());
        }
        Err(failed(format!("{status}: {}", String::from_utf8_lossy(&body))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_the_same_in_every_run_and_have_3_to_58_words() {
        let all = texts();
        assert_eq!((all.len(), &all), (TEXTS, &texts()));
        for body in &all {
            let body: serde_json::Value = serde_json::from_slice(body).expect("JSON");
            let words = body["inputs"].as_str().expect("a text").split(' ').count();
            assert!((3..=58).contains(&words), "{words}");
        }
    }
}
