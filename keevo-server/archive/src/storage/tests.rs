//! Object storage of every kind behaves alike; S3 against a server that speaks as much of it as is needed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::{Mutex, PoisonError};

use axum::body::Body;
use axum::extract::{RawQuery, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use object_store::aws::AmazonS3Builder;

use super::*;

async fn behaves(storage: &dyn Storage) {
    assert_eq!(storage.get("a/b/1").await.expect("asked"), None);
    assert_eq!(storage.size("a/b/1").await.expect("asked"), None);
    assert!(storage.put_new("a/b/1", "one".into()).await.expect("written"));
    assert!(!storage.put_new("a/b/1", "other".into()).await.expect("refused"), "it is never replaced");
    assert!(storage.put_new("a/b/2", "two".into()).await.expect("written"));
    assert!(storage.put_new("a/c/3", "three".into()).await.expect("written"));
    assert_eq!(storage.get("a/b/1").await.expect("read"), Some("one".into()));
    assert_eq!(storage.get_range("a/c/3", 1..4).await.expect("read"), Some("hre".into()));
    assert_eq!(storage.get_range("a/c/3", 1..90).await.expect("cut off at the end"), Some("hree".into()));
    assert_eq!(storage.size("a/c/3").await.expect("asked"), Some(5));
    let names = |objects: Vec<Object>| objects.into_iter().map(|one| one.name).collect::<Vec<_>>();
    assert_eq!(names(storage.list("a", None).await.expect("listed")), ["a/b/1", "a/b/2", "a/c/3"]);
    assert_eq!(names(storage.list("a", Some("a/b/1")).await.expect("listed")), ["a/b/2", "a/c/3"]);
    assert!(storage.list("nothing", None).await.expect("listed").is_empty());
    assert_eq!(storage.folders("a").await.expect("listed"), ["a/b", "a/c"]);
    assert_eq!(storage.folders("").await.expect("listed"), ["a"]);
    assert!(storage.put_new("a/d/4", "four".into()).await.expect("written"));
    for _ in 0..2 {
        storage.delete("a/d/4").await.expect("gone");
        assert_eq!(storage.get("a/d/4").await.expect("asked"), None);
    }
    for contents in ["another three", "three"] {
        storage.replace("a/c/3", contents.into()).await.expect("written");
        assert_eq!(storage.get("a/c/3").await.expect("read"), Some(contents.into()));
    }
    assert!(storage.folders("nothing").await.expect("listed").is_empty());
}

#[tokio::test]
async fn memory_and_folders_behave_alike_and_a_folder_keeps_what_it_has() {
    behaves(&ObjectStorage::memory()).await;
    let dir = tempfile::tempdir().expect("a folder");
    let address = dir.path().join("new/er").display().to_string();
    behaves(&ObjectStorage::open(&address).expect("a folder")).await;
    let again = ObjectStorage::open(&format!("file://{address}")).expect("the same folder");
    assert_eq!(again.get("a/b/2").await.expect("read"), Some("two".into()));
}

#[test]
fn other_addresses_are_refused_with_what_to_write() {
    for wrong in ["", "relative/path", "ftp://host/x", "http://host", "s3:///prefix"] {
        let error = ObjectStorage::open(wrong).expect_err("refused");
        assert!(error.kind() == ErrorKind::Config && error.message().contains("s3://BUCKET"), "{wrong}: {error}");
    }
}

/// The objects of a bucket.
type Objects = Arc<Mutex<BTreeMap<String, Bytes>>>;

#[tokio::test]
async fn s3_behaves_as_a_folder_does() {
    let objects = Objects::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("bound"));
    let routes = axum::Router::new().fallback(answer).with_state(Arc::clone(&objects));
    let server = tokio::spawn(async move { axum::serve(listener, routes).await });
    let builder = AmazonS3Builder::new()
        .with_endpoint(endpoint)
        .with_allow_http(true)
        .with_access_key_id("id")
        .with_secret_access_key("secret");
    let url = Url::parse("s3://bucket/some/prefix/").expect("a URL");
    behaves(&ObjectStorage::s3(&url, builder).expect("a bucket")).await;
    let names: Vec<String> = objects.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect();
    assert_eq!(names, ["some/prefix/a/b/1", "some/prefix/a/b/2", "some/prefix/a/c/3"]);
    server.abort();
}

#[tokio::test]
async fn an_answer_that_stops_in_its_middle_is_an_error_in_time() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("bound"));
    // The head promises a hundred bytes; ten of them come.
    let server = tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4_096];
            let read = tokio::io::AsyncReadExt::read(&mut stream, &mut request).await.expect("a request");
            assert!(read > 0);
            let head = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\nETag: \"tag\"\r\nLast-Modified: Sat, 28 Nov 2026 10:00:00 GMT\r\n\r\n";
            let answer = format!("{head}0123456789");
            tokio::io::AsyncWriteExt::write_all(&mut stream, answer.as_bytes()).await.expect("sent");
            open.push(stream);
        }
    });
    let retry = object_store::RetryConfig {
        max_retries: 1,
        retry_timeout: std::time::Duration::from_secs(5),
        ..object_store::RetryConfig::default()
    };
    let builder = AmazonS3Builder::new()
        .with_endpoint(endpoint)
        .with_allow_http(true)
        .with_retry(retry)
        .with_access_key_id("id")
        .with_secret_access_key("secret");
    let url = Url::parse("s3://bucket/").expect("a URL");
    let patience =
        s3::Patience { answer: std::time::Duration::from_secs(2), part: std::time::Duration::from_millis(200) };
    let storage = ObjectStorage::s3_with(&url, builder, patience).expect("a bucket");
    let asked = tokio::time::timeout(std::time::Duration::from_secs(20), storage.get("a"));
    let error = asked.await.expect("it ends").expect_err("it is not whole");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    server.abort();
}

async fn answer(State(objects): State<Objects>, RawQuery(query): RawQuery, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    assert!(parts.headers.contains_key(header::AUTHORIZATION), "requests are signed");
    let body = axum::body::to_bytes(body, 1 << 20).await.expect("small");
    let mut objects = objects.lock().unwrap_or_else(PoisonError::into_inner);
    let path = parts.uri.path().strip_prefix("/bucket").expect("the bucket").trim_start_matches('/').to_owned();
    match parts.method {
        Method::PUT => {
            let only_new = parts.headers.get(header::IF_NONE_MATCH).is_some_and(|value| value == "*");
            if only_new && objects.contains_key(&path) {
                return StatusCode::PRECONDITION_FAILED.into_response();
            }
            objects.insert(path, body);
            [(header::ETAG, "\"tag\"")].into_response()
        }
        Method::GET if path.is_empty() => list(&objects, &query.unwrap_or_default()),
        Method::GET | Method::HEAD => match objects.get(&path) {
            Some(object) => part(object, &parts.headers, parts.method == Method::HEAD),
            None => StatusCode::NOT_FOUND.into_response(),
        },
        Method::DELETE => {
            objects.remove(&path);
            StatusCode::NO_CONTENT.into_response()
        }
        other => panic!("{other} is not asked for"),
    }
}

/// An object, or the part of it that is asked for.
fn part(object: &Bytes, headers: &HeaderMap, is_head: bool) -> Response {
    let range = headers.get(header::RANGE).and_then(|range| range.to_str().ok()?.strip_prefix("bytes="));
    let bounds = range.and_then(|range| range.split_once('-'));
    let bound = |text: &str| text.parse::<usize>().expect("a number");
    let (from, to) = bounds.map_or((0, object.len()), |(from, to)| (bound(from), (bound(to) + 1).min(object.len())));
    let mut response = Response::builder()
        .status(if range.is_some() { 206 } else { 200 })
        .header(header::ETAG, "\"tag\"")
        .header(header::LAST_MODIFIED, "Sat, 28 Nov 2026 07:15:00 GMT")
        .header(header::CONTENT_LENGTH, to - from);
    if range.is_some() {
        response = response.header(header::CONTENT_RANGE, format!("bytes {from}-{}/{}", to - 1, object.len()));
    }
    let body = if is_head { Body::empty() } else { Body::from(object.slice(from..to)) };
    response.body(body).expect("a response")
}

fn list(objects: &BTreeMap<String, Bytes>, query: &str) -> Response {
    let field = |name: &str| {
        let found = url::form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name);
        found.map(|(_, value)| value.into_owned()).unwrap_or_default()
    };
    let (prefix, after, delimiter) = (field("prefix"), field("start-after"), field("delimiter"));
    let mut folders = BTreeSet::new();
    let mut text = String::from("<ListBucketResult><IsTruncated>false</IsTruncated>");
    for (name, object) in objects.iter().filter(|(name, _)| name.starts_with(&prefix) && **name > after) {
        let rest = &name[prefix.len()..];
        if let Some((folder, _)) = rest.split_once('/').filter(|_| !delimiter.is_empty()) {
            folders.insert(format!("{prefix}{folder}/"));
            continue;
        }
        let size = object.len();
        write!(
            text,
            "<Contents><Key>{name}</Key><LastModified>2026-11-28T07:15:00.000Z</LastModified><Size>{size}</Size></Contents>"
        )
        .expect("a string takes all text");
    }
    for folder in folders {
        write!(text, "<CommonPrefixes><Prefix>{folder}</Prefix></CommonPrefixes>").expect("a string takes all text");
    }
    text.push_str("</ListBucketResult>");
    text.into_response()
}
