//! The page itself: what `npm run build` made of keevo-server/console, compressed, in this binary.
//!
//! ```text
//! /console/                     the document: made anew for each load, with a nonce for its styles; kept by nobody
//! /console/app.js?v=DIGEST      kept for a year: what it says never changes, another build has another digest
//! ```
//!
//! Invariant: no inline script and nothing from elsewhere ever runs in it, by its content security policy.

use std::io::Read;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use flate2::read::GzDecoder;
use keevo_core::Random;

/// The document; `{{nonce}}` stands for the nonce.
const DOCUMENT: &str = include_str!("../../console/dist/index.html");
/// What the document names as the nonce of its styles.
const NONCE: &str = "{{nonce}}";

/// A file beside the document.
struct Asset {
    name: &'static str,
    mime: &'static str,
    /// Compressed with gzip.
    gzip: &'static [u8],
}

/// All of them.
const ASSETS: [Asset; 4] = [
    Asset {
        name: "app.js",
        mime: "text/javascript; charset=utf-8",
        gzip: include_bytes!("../../console/dist/app.js.gz"),
    },
    Asset { name: "app.css", mime: "text/css; charset=utf-8", gzip: include_bytes!("../../console/dist/app.css.gz") },
    Asset { name: "icon.svg", mime: "image/svg+xml", gzip: include_bytes!("../../console/dist/icon.svg.gz") },
    Asset {
        name: "licenses.txt",
        mime: "text/plain; charset=utf-8",
        gzip: include_bytes!("../../console/dist/licenses.txt.gz"),
    },
];

/// The routes of the page.
pub(super) fn routes(random: Arc<dyn Random>) -> Router {
    Router::new()
        .route("/console", get(|| async { Redirect::permanent("/console/") }))
        .route("/console/", get(document))
        .route("/console/{name}", get(asset))
        .with_state(random)
}

/// What holds for everything that is served here.
fn guarded(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert("cross-origin-opener-policy", HeaderValue::from_static("same-origin"));
    headers.insert("cross-origin-resource-policy", HeaderValue::from_static("same-origin"));
    response
}

/// Scripts and styles of this server only; styles that the page's own script adds carry the nonce.
fn policy(nonce: &str) -> String {
    format!(
        "default-src 'none'; script-src 'self'; style-src 'self' 'nonce-{nonce}'; img-src 'self' data:; font-src 'self'; \
         connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}

async fn document(State(random): State<Arc<dyn Random>>) -> Response {
    let nonce = format!("{:016x}{:016x}", random.next_u64(), random.next_u64());
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::try_from(policy(&nonce)).unwrap_or(NOTHING)),
    ];
    guarded((headers, DOCUMENT.replace(NONCE, &nonce)).into_response())
}

/// A policy that lets nothing run.
const NOTHING: HeaderValue = HeaderValue::from_static("default-src 'none'");

async fn asset(Path(name): Path<String>, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    let Some(asset) = ASSETS.iter().find(|asset| asset.name == name) else {
        return guarded((StatusCode::NOT_FOUND, "there is no such file\n").into_response());
    };
    // The document names files with their digests; without one the file may be another one tomorrow.
    let versioned = query.is_some_and(|query| query.starts_with("v="));
    let kept = if versioned { "public, max-age=31536000, immutable" } else { "no-cache" };
    let common = [
        (header::CONTENT_TYPE, HeaderValue::from_static(asset.mime)),
        (header::CACHE_CONTROL, HeaderValue::from_static(kept)),
        (header::VARY, HeaderValue::from_static("accept-encoding")),
        (header::CONTENT_SECURITY_POLICY, NOTHING),
    ];
    if takes_gzip(&headers) {
        let encoding = [(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"))];
        return guarded((common, encoding, Bytes::from_static(asset.gzip)).into_response());
    }
    match unpacked(asset.gzip) {
        Ok(bytes) => guarded((common, bytes).into_response()),
        Err(error) => {
            tracing::error!(%error, name, "a file of the console is damaged");
            guarded(StatusCode::INTERNAL_SERVER_ERROR.into_response())
        }
    }
}

fn takes_gzip(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|line| line.to_str().ok());
    let mut named = lines.flat_map(|line| line.split(',')).map(|one| one.split(';').collect::<Vec<_>>());
    named.any(|one| {
        let refused = one.iter().skip(1).any(|part| matches!(part.trim(), "q=0" | "q=0.0" | "q=0.00" | "q=0.000"));
        one.first().is_some_and(|name| name.trim().eq_ignore_ascii_case("gzip")) && !refused
    })
}

fn unpacked(gzip: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    GzDecoder::new(gzip).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The most bytes of all files together, as they travel.
    const BYTES_MAX: usize = 1 << 20;

    #[test]
    fn the_files_are_whole_small_and_named_by_the_document() {
        let mut bytes = 0;
        for asset in &ASSETS {
            bytes += asset.gzip.len();
            let unpacked = unpacked(asset.gzip).expect(asset.name);
            assert!(!unpacked.is_empty() && std::str::from_utf8(&unpacked).is_ok(), "{}", asset.name);
        }
        assert!(bytes < BYTES_MAX, "{bytes} bytes");
        for name in ["app.js", "app.css", "icon.svg"] {
            assert!(DOCUMENT.contains(&format!("/console/{name}?v=")), "{name}");
        }
        assert!(DOCUMENT.contains(NONCE) && !DOCUMENT.contains("<script>"), "no inline script");
    }

    #[test]
    fn gzip_is_sent_to_who_takes_it() {
        let takes = |line: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(line));
            takes_gzip(&headers)
        };
        assert!(takes("gzip") && takes("br, GZIP;q=0.5") && takes("deflate,gzip"));
        assert!(!takes("br") && !takes("gzip;q=0") && !takes_gzip(&HeaderMap::new()));
    }
}
