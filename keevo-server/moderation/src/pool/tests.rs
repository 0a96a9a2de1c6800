//! The pool against workers that answer, stall, refuse and die.

use std::sync::atomic::{AtomicUsize, Ordering};

use keevo_core::{ManualClock, SeededRandom, SystemClock};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

/// How a test worker answers.
#[derive(Debug, Clone, Copy)]
enum Manner {
    Well,
    /// Well, after this many milliseconds.
    Slowly(u64),
    Status(u16, &'static str),
    Never,
    HangUp,
}

struct TestWorker {
    url: String,
    asked: Arc<AtomicUsize>,
}

impl TestWorker {
    async fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, manner, Arc::clone(&counter)));
            }
        });
        Self { url, asked }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

async fn serve(mut stream: tokio::net::TcpStream, manner: Manner, asked: Arc<AtomicUsize>) {
    let mut received = Vec::new();
    loop {
        let mut part = [0; 4_096];
        match stream.read(&mut part).await {
            Ok(0) | Err(_) => return,
            Ok(count) => received.extend_from_slice(&part[..count]),
        }
        let text = String::from_utf8_lossy(&received).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
        if body.len() < length.unwrap_or(0) {
            continue;
        }
        received.clear();
        asked.fetch_add(1, Ordering::SeqCst);
        let texts: serde_json::Value = serde_json::from_str(body).expect("JSON");
        let scores = texts["input"].as_array().expect("texts").iter().map(|text| {
            let toxic = if text.as_str().expect("a text").contains("bad") { 0.9 } else { 0.1 };
            json!({"category_scores": {"toxic": toxic}})
        });
        let results: Vec<_> = scores.collect();
        let good = json!({"model": "test-1", "results": results}).to_string();
        let (status, extra, body) = match manner {
            Manner::Well => (200, "", good),
            Manner::Slowly(millis) => {
                tokio::time::sleep(Duration::from_millis(millis)).await;
                (200, "", good)
            }
            Manner::Status(status, extra) => (status, extra, r#"{"error":{"message":"no"}}"#.to_owned()),
            Manner::Never => std::future::pending().await,
            Manner::HangUp => return,
        };
        let answer = format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\n{extra}\r\n{body}", body.len());
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// A pool whose time stands still: a rest does not end.
fn pool(urls: &[&str]) -> Pool {
    pool_by(Arc::new(ManualClock::new(1_000)), urls)
}

fn pool_by(clock: Arc<dyn Clock>, urls: &[&str]) -> Pool {
    let urls: Vec<String> = urls.iter().map(|url| (*url).to_owned()).collect();
    Pool::new(&urls, None, clock, Arc::new(SeededRandom::new(7))).expect("a pool")
}

const QUICKLY: Asking = Asking { within: Duration::from_secs(5), urgent: true };

async fn ask(pool: &Pool) -> Result<Vec<Scores>> {
    pool.judge(vec!["a bad text".into(), "fine".into()], QUICKLY).await
}

#[tokio::test]
async fn scores_come_in_the_order_of_the_texts() {
    let worker = TestWorker::start(Manner::Well).await;
    let scores = ask(&pool(&[&worker.url])).await.expect("scored");
    assert_eq!(scores.iter().map(|one| one.labels["toxic"]).collect::<Vec<_>>(), [0.9, 0.1]);
    assert_eq!(scores[0].model, "test-1");
}

#[tokio::test]
async fn another_worker_answers_for_one_that_fails_and_that_one_rests() {
    let good = TestWorker::start(Manner::Well).await;
    for bad in [Manner::Status(500, ""), Manner::HangUp] {
        let bad = TestWorker::start(bad).await;
        let pool = pool(&[&good.url, &bad.url]);
        for _ in 0..40 {
            ask(&pool).await.expect("the good one answers");
        }
        assert!(pool.status()[1].resting && !pool.status()[0].resting);
        assert_eq!(bad.asked(), 3);
    }
}

#[tokio::test]
async fn retry_after_is_honoured() {
    let busy = TestWorker::start(Manner::Status(429, "retry-after: 20\r\n")).await;
    let pool = pool(&[&busy.url]);
    assert_eq!(ask(&pool).await.expect_err("busy").kind(), ErrorKind::ResourceExhausted);
    for _ in 0..5 {
        assert_eq!(ask(&pool).await.expect_err("at rest").kind(), ErrorKind::Unavailable);
    }
    assert_eq!(busy.asked(), 1);
}

#[tokio::test]
async fn a_text_that_is_refused_is_not_the_workers_fault() {
    let worker = TestWorker::start(Manner::Status(413, "")).await;
    let pool = pool(&[&worker.url]);
    for _ in 0..10 {
        assert_eq!(ask(&pool).await.expect_err("refused").kind(), ErrorKind::BatchTooLarge);
    }
    assert!(!pool.status()[0].resting);
}

#[tokio::test]
async fn who_does_not_answer_in_time_is_given_up() {
    let stuck = TestWorker::start(Manner::Never).await;
    let pool = pool(&[&stuck.url]);
    let asking = Asking { within: Duration::from_millis(50), urgent: true };
    for _ in 0..3 {
        let error = pool.judge(vec!["x".into()], asking).await.expect_err("too late");
        assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    }
    let status = pool.status();
    assert!(status[0].resting && status[0].in_flight == 0);
}

#[tokio::test]
async fn a_worker_far_slower_than_another_rests() {
    let quick = TestWorker::start(Manner::Well).await;
    let slow = TestWorker::start(Manner::Slowly(150)).await;
    let pool = pool_by(Arc::new(SystemClock::new()), &[&quick.url, &slow.url]);
    let mut asked = 0;
    while !pool.status()[1].resting {
        let questions = (0..4).map(|_| ask(&pool));
        for answer in futures::future::join_all(questions).await {
            answer.expect("scored");
        }
        asked += 1;
        assert!(asked < 50, "the slow one is never sent to rest");
    }
    assert!(slow.asked() > 0);
}

#[tokio::test]
async fn a_worker_that_is_not_there_rests_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    drop(listener);
    let pool = pool(&[&url]);
    assert_eq!(ask(&pool).await.expect_err("gone").kind(), ErrorKind::Unavailable);
    assert!(pool.status()[0].resting);
}

#[test]
fn addresses_are_checked() {
    for urls in [vec![], vec!["localhost:1"], vec!["ftp://x"], vec!["http://"], vec!["http://x"; 65]] {
        let urls: Vec<String> = urls.into_iter().map(str::to_owned).collect();
        let made = Pool::new(&urls, None, Arc::new(SystemClock::new()), Arc::new(SeededRandom::new(7)));
        assert_eq!(made.expect_err("refused").kind(), ErrorKind::Config, "{urls:?}");
    }
}
