//! One app sends far more requests than it may, over many connections and without a pause; the node refuses them, stays ready, and
//! answers the other app's requests as before, but for the processor time that the flood takes.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use jsonwebtoken::{EncodingKey, Header};
use keevo_core::{Clock, SystemClock};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;

use super::lab::{Cluster, Found, SECRET};

/// Connections of the flood, and of the others.
const FLOODERS: usize = 48;
const OTHERS: usize = 4;
/// Requests a minute that the app may make which floods.
const LIMIT: &str = "120";
/// How long the others are measured alone, and beside the flood.
const ALONE: Duration = Duration::from_secs(4);
const BESIDE: Duration = Duration::from_secs(8);
/// What the others wait at most, 99 times of 100, beside the flood. A build for tests on two busy cores keeps to it.
const P99_MAX: Duration = Duration::from_secs(1);
/// The pause of the others between two requests.
const PAUSE: Duration = Duration::from_millis(10);

/// A connection over which requests go one after the other.
struct Connection {
    stream: BufReader<TcpStream>,
    key: &'static str,
    token: String,
}

impl Connection {
    async fn open(at: SocketAddr, key: &'static str) -> Self {
        let claims = serde_json::json!({ "resource": "*", "action": "*", "feed_id": "*" });
        let token = jsonwebtoken::encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET.as_bytes()));
        let stream = TcpStream::connect(at).await.expect("connects");
        stream.set_nodelay(true).expect("no delay");
        Self { stream: BufReader::new(stream), key, token: token.expect("a token") }
    }

    /// The status of an answer.
    async fn ask(&mut self, method: &str, path: &str, body: &str) -> std::io::Result<u16> {
        let Self { key, token, .. } = self;
        let request = format!(
            "{method} {path}?api_key={key} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\nContent-Type: application/json\r\n\
             stream-auth-type: jwt\r\nAuthorization: {token}\r\n\r\n{body}",
            body.len()
        );
        self.stream.get_mut().write_all(request.as_bytes()).await?;
        let (mut status, mut length) = (0, 0_u64);
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            let line = line.trim_end().to_ascii_lowercase();
            if let Some(rest) = line.strip_prefix("http/1.1 ") {
                status = rest.get(..3).and_then(|code| code.parse().ok()).unwrap_or_default();
            } else if let Some(rest) = line.strip_prefix("content-length: ") {
                length = rest.parse().unwrap_or_default();
            } else if line.is_empty() {
                let mut rest = (&mut self.stream).take(length);
                tokio::io::copy(&mut rest, &mut tokio::io::sink()).await?;
                return Ok(status);
            }
        }
    }
}

/// Answers by their status: let in, refused for the limit, anything else.
#[derive(Debug, Default, Clone, Copy)]
struct Answers {
    good: u64,
    refused: u64,
    other: u64,
}

/// Asks without a pause until it is told to stop.
async fn flood(at: SocketAddr, stop: CancellationToken) -> Answers {
    let mut answers = Answers::default();
    let mut connection = Connection::open(at, "noisy").await;
    while !stop.is_cancelled() {
        match connection.ask("GET", "/api/v1.0/feed/user/noise/", "").await {
            Ok(200) => answers.good += 1,
            Ok(429) => answers.refused += 1,
            _ => answers.other += 1,
        }
    }
    answers
}

/// Publishes and reads in turns for so long: how long each request took, and how many were not answered well.
async fn others(at: SocketAddr, number: usize, time: Duration) -> (Vec<Duration>, u64) {
    let clock = SystemClock::new();
    let (began, mut took, mut failed, mut round) = (clock.monotonic(), Vec::new(), 0, 0_u64);
    let mut connection = Connection::open(at, "quiet").await;
    let feed = format!("/api/v1.0/feed/user/quiet-{number}/");
    while clock.monotonic().saturating_sub(began) < time {
        let sent = clock.monotonic();
        let answer = if round.is_multiple_of(2) {
            let body = format!("{{\"actor\":\"a\",\"verb\":\"v\",\"object\":\"{round}\"}}");
            connection.ask("POST", &feed, &body).await
        } else {
            connection.ask("GET", &feed, "").await
        };
        took.push(clock.monotonic().saturating_sub(sent));
        failed += u64::from(!matches!(answer, Ok(200 | 201)));
        round += 1;
        tokio::time::sleep(PAUSE).await;
    }
    (took, failed)
}

/// What the others saw.
struct Seen {
    p50: Duration,
    p99: Duration,
    requests: usize,
    failed: u64,
}

async fn measure(at: SocketAddr, time: Duration) -> Seen {
    let all = futures::future::join_all((0..OTHERS).map(|number| others(at, number, time))).await;
    let failed = all.iter().map(|(_, failed)| failed).sum();
    let mut took: Vec<Duration> = all.into_iter().flat_map(|(took, _)| took).collect();
    took.sort_unstable();
    let part = |percent: usize| took.get(took.len().saturating_sub(1) * percent / 100).copied().unwrap_or_default();
    Seen { p50: part(50), p99: part(99), requests: took.len(), failed }
}

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime")
}

async fn is_ready(at: SocketAddr) -> bool {
    let mut connection = Connection::open(at, "quiet").await;
    matches!(connection.ask("GET", "/ready", "").await, Ok(200))
}

/// Runs the case in a folder.
pub(crate) fn run(folder: &Path) -> Found {
    let (calm, noisy) = (runtime(), runtime());
    let cluster = Cluster::start_with(folder, 1, 2, &[]);
    for app in ["quiet", "noisy"] {
        cluster.done(&["app", "create", app, "--key", app]);
    }
    cluster.done(&["app", "rate", "1", "read", "1000000"]);
    cluster.done(&["app", "rate", "1", "add", "1000000"]);
    cluster.done(&["app", "rate", "2", "read", LIMIT]);
    // A node sees a change of an app within a second or so.
    std::thread::park_timeout(Duration::from_secs(2));
    let at = cluster.http(0);
    let before = calm.block_on(measure(at, ALONE));
    let stop = CancellationToken::new();
    let flooders: Vec<_> = (0..FLOODERS).map(|_| noisy.spawn(flood(at, stop.clone()))).collect();
    let (during, ready) = calm.block_on(async {
        let during = measure(at, BESIDE).await;
        (during, is_ready(at).await)
    });
    stop.cancel();
    let mut sum = Answers::default();
    for flooder in flooders {
        let answers = noisy.block_on(flooder).expect("it floods");
        sum.good += answers.good;
        sum.refused += answers.refused;
        sum.other += answers.other;
    }
    let mut found = Found::default();
    found.compare("requests of others that failed", &(before.failed, during.failed), &(0, 0));
    found.compare("whether the node is ready in the flood", &ready, &true);
    found.compare("answers of the flood that are neither good nor refusals", &sum.other, &0);
    let within = LIMIT.parse::<u64>().expect("a number") * 2;
    found.compare("whether the flood kept to its limit", &(sum.good <= within), &true);
    found.compare("whether there was a flood", &(sum.refused > 1_000), &true);
    found.compare("whether the others' p99 is bearable", &(during.p99 <= P99_MAX), &true);
    let shown = |seen: &Seen| format!("p50 {:.1?} p99 {:.1?} of {} requests", seen.p50, seen.p99, seen.requests);
    found.figures.push(format!("others alone: {}; beside the flood: {}", shown(&before), shown(&during)));
    found.figures.push(format!(
        "flood: {} requests refused and {} let in, in {} s, over {FLOODERS} connections",
        sum.refused,
        sum.good,
        BESIDE.as_secs()
    ));
    cluster.stop();
    found
}
