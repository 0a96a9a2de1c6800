//! Files and images over HTTP.

use axum::body::Body;
use axum::http::{Method, Request, header};
use keevo_gateway::GatewayOptions;
use serde_json::Value;

use super::support::{Answer, KEY, Lab, server, user};

/// The smallest PNG.
const PNG: &[u8] = &[
    0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0, 0, 0, 0x0d, 0x49, 0x48, 0x44, 0x52, 0, 0, 0, 1, 0, 0, 0, 1, 8,
    4, 0, 0, 0, 0xb5, 0x1c, 0x0c, 2, 0, 0, 0, 0x0b, 0x49, 0x44, 0x41, 0x54, 0x78, 0xda, 0x63, 0x64, 0x60, 0, 0, 0, 6,
    0, 2, 0x30, 0x81, 0xd0, 0x2f, 0, 0, 0, 0, 0x49, 0x45, 0x4e, 0x44, 0xae, 0x42, 0x60, 0x82,
];

async fn lab(folder: &tempfile::TempDir) -> Lab {
    let files_dir = Some(folder.path().to_owned());
    Lab::with(GatewayOptions { files_dir, file_bytes_max: 10_000, ..GatewayOptions::default() }).await
}

async fn upload(lab: &Lab, path: &str, token: &str, part: &str, name: &str, kind: &str, bytes: &[u8]) -> Answer {
    let mut body = format!(
        "--b\r\nContent-Disposition: form-data; name=\"{part}\"; filename=\"{name}\"\r\nContent-Type: {kind}\r\n\r\n"
    )
    .into_bytes();
    body.extend_from_slice(bytes);
    body.extend_from_slice(b"\r\n--b--\r\n");
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("/api/v1.0/{path}/?api_key={KEY}"))
        .header(header::HOST, "feeds.test")
        .header(header::AUTHORIZATION, token)
        .header(header::CONTENT_TYPE, "multipart/form-data; boundary=b")
        .body(Body::from(body));
    lab.send(request.expect("a request")).await
}

fn url_of(answer: Answer) -> String {
    answer.good().get("file").and_then(Value::as_str).expect("an address").to_owned()
}

async fn fetch(lab: &Lab, url: &str) -> Answer {
    let path = url.strip_prefix("http://feeds.test").expect("at the address of the request");
    lab.send(Request::builder().uri(path).body(Body::empty()).expect("a request")).await
}

fn quoted(url: &str) -> String {
    url.replace('?', "%3F").replace('&', "%26").replace('=', "%3D")
}

#[tokio::test]
async fn a_file_is_kept_served_and_deleted() {
    let folder = tempfile::tempdir().expect("a folder");
    let lab = lab(&folder).await;
    let url = url_of(upload(&lab, "files", &user("ann"), "file", "../a b.txt", "text/plain", b"hello").await);
    assert!(url.contains("/a_b.txt?"), "{url}");
    let served = fetch(&lab, &url).await;
    assert_eq!((served.status.as_u16(), served.bytes.as_slice()), (200, b"hello".as_slice()));
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("content-disposition", "attachment; filename=\"a_b.txt\""),
        ("content-security-policy", "default-src 'none'; sandbox"),
    ] {
        assert_eq!(served.headers.get(name).and_then(|value| value.to_str().ok()), Some(value));
    }
    let tampered = url.replace("expires=1", "expires=2");
    assert_eq!(fetch(&lab, &tampered).await.status, 403);
    assert_eq!(fetch(&lab, &url.replace("a_b.txt", "b.txt")).await.status, 403);
    assert_eq!(fetch(&lab, "http://feeds.test/attachments/1/../../x").await.status, 404);
    let path = format!("files/?url={}", quoted(&url));
    assert_eq!(fetch(&lab, &url_of(lab.get(&path, &user("bob")).await)).await.status, 200);
    assert_eq!(lab.delete(&path, &user("bob")).await.refused(), (403, 17));
    lab.delete(&path, &user("ann")).await.good();
    assert_eq!(lab.delete(&path, &user("ann")).await.refused(), (404, 16));
    assert_eq!(lab.get(&path, &server()).await.refused(), (404, 16));
    assert_eq!(fetch(&lab, &url).await.status, 404);
    let left = std::fs::read_dir(folder.path()).expect("the folder").count();
    assert_eq!(left, 0, "nothing of it is left on the disk");
}

#[tokio::test]
async fn images_are_told_by_their_bytes_and_resized() {
    let folder = tempfile::tempdir().expect("a folder");
    let lab = lab(&folder).await;
    let url = url_of(upload(&lab, "images", &server(), "file", "x", "text/html", PNG).await);
    let served = fetch(&lab, &url).await;
    assert_eq!(served.headers.get("content-type").and_then(|kind| kind.to_str().ok()), Some("image/png"));
    let path = format!("images/?url={}&w=8&h=4&resize=scale", quoted(&url));
    let resized = fetch(&lab, &url_of(lab.get(&path, &server()).await)).await;
    let ihdr = resized.bytes.get(16..24).expect("a PNG");
    assert_eq!(ihdr, [0, 0, 0, 8, 0, 0, 0, 4], "width and height");
    for bad in ["w=5000", "w=x", "w=4&resize=melt", "w=4&crop=somewhere"] {
        let path = format!("images/?url={}&{bad}", quoted(&url));
        assert_eq!(lab.get(&path, &server()).await.refused(), (400, 4), "{bad}");
    }
    lab.delete(&format!("images/?url={}", quoted(&url)), &server()).await.good();
    assert_eq!(std::fs::read_dir(folder.path()).expect("the folder").count(), 0, "all sizes are gone");
}

#[tokio::test]
async fn what_is_not_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    let lab = lab(&folder).await;
    let server = server();
    let refused = |path: &'static str, part: &'static str, kind: &'static str, bytes: Vec<u8>| {
        let (lab, server) = (&lab, &server);
        async move { upload(lab, path, server, part, "x", kind, &bytes).await.refused() }
    };
    assert_eq!(refused("files", "file", "text/plain", vec![b'x'; 10_001]).await, (413, 18));
    assert_eq!(refused("files", "file", "text/plain", vec![]).await, (400, 4));
    assert_eq!(refused("files", "other", "text/plain", b"x".to_vec()).await, (400, 4));
    assert_eq!(refused("files", "file", "text/html", b"<script>".to_vec()).await, (400, 4));
    assert_eq!(refused("images", "file", "image/png", b"<svg/>".to_vec()).await, (400, 4));
    let no_form = lab.post("files/", &server, serde_json::json!({})).await;
    assert_eq!(no_form.refused(), (400, 4));
    lab.change(|app| app.policies.files_write = false).await;
    assert_eq!(upload(&lab, "files", &user("ann"), "file", "x", "text/plain", b"x").await.refused(), (403, 17));
}
