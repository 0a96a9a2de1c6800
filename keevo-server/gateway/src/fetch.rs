//! Requests that the server makes for others: pages to scrape, webhooks to call.
//!
//! Invariants: an address is judged after its name was resolved, and the connection goes to the address that was
//! judged, so a name that changes its mind reaches nothing private; every redirect is judged again; bodies, time and
//! redirects are bounded.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, StatusCode, header};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::TokioExecutor;
use keevo_core::{Error, ErrorKind, Result};
use tower::Service;
use url::{Host, Url};

/// How many redirects are followed.
const REDIRECTS_MAX: usize = 4;
/// How long connecting may take, and a whole request.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);
const ANSWER_WITHIN: Duration = Duration::from_secs(8);
/// How much of the answer to a posted body is read.
const POSTED_BYTES_MAX: usize = 256 << 10;

/// An HTTP client for addresses that others chose.
#[derive(Clone)]
pub(crate) struct Fetcher {
    client: Client<HttpsConnector<HttpConnector<PublicNames>>, Full<Bytes>>,
    private: bool,
}

impl fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fetcher")
    }
}

/// What a page answered.
#[derive(Debug)]
pub(crate) struct Page {
    /// Where it was found in the end.
    pub(crate) url: Url,
    /// Its content type, in lower case.
    pub(crate) kind: String,
    pub(crate) body: Bytes,
}

impl Fetcher {
    /// A client; `private` lets it reach private, loopback and link-local addresses.
    pub(crate) fn new(private: bool) -> Result<Self> {
        let mut http = HttpConnector::new_with_resolver(PublicNames { private });
        http.enforce_http(false);
        http.set_connect_timeout(Some(CONNECT_WITHIN));
        let tls = HttpsConnectorBuilder::new().with_native_roots();
        let tls = tls.map_err(|error| {
            Error::new(ErrorKind::Config, "the system's root certificates cannot be read").with_source(error)
        })?;
        let connector = tls.https_or_http().enable_http1().wrap_connector(http);
        Ok(Self { client: Client::builder(TokioExecutor::new()).build(connector), private })
    }

    /// The page at an address, of at most `bytes_max` bytes; longer ones are cut. Follows redirects.
    pub(crate) async fn get(&self, url: &str, bytes_max: usize) -> Result<Page> {
        let mut url = self.check(url)?;
        for _ in 0..=REDIRECTS_MAX {
            let request = Request::builder()
                .method(Method::GET)
                .uri(url.as_str())
                .header(header::USER_AGENT, "Keevo (Open Graph)")
                .header(header::ACCEPT, "text/html,application/xhtml+xml,*/*;q=0.1");
            let answer = self.send(request.body(Full::default()), bytes_max, true, ANSWER_WITHIN).await?;
            if !answer.status.is_redirection() {
                if !answer.status.is_success() {
                    return Err(Error::invalid(format!("{url} answers {}", answer.status)));
                }
                return Ok(Page { url, kind: answer.kind, body: answer.body });
            }
            let next = answer.location.ok_or_else(|| Error::invalid(format!("{url} redirects to nowhere")))?;
            let next = url.join(&next).map_err(|_bad| Error::invalid(format!("{url} redirects to no address")))?;
            url = self.check(next.as_str())?;
        }
        Err(Error::invalid(format!("{url} redirects more than {REDIRECTS_MAX} times")))
    }

    /// Sends a JSON body, and gives the answer where it was taken (any 2xx), within that time. Redirects are not followed.
    pub(crate) async fn post(
        &self,
        url: &str,
        body: Bytes,
        headers: &[(&'static str, String)],
        within: Duration,
    ) -> Result<Bytes> {
        let url = self.check(url)?;
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(url.as_str())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::USER_AGENT, "Keevo (webhook)");
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let answer = self.send(request.body(Full::new(body)), POSTED_BYTES_MAX, true, within).await?;
        if answer.status.is_success() {
            return Ok(answer.body);
        }
        Err(Error::new(ErrorKind::Unavailable, format!("the webhook answers {}", answer.status)))
    }

    /// The address, if it may be asked. Names are judged when they are resolved.
    fn check(&self, url: &str) -> Result<Url> {
        let url = Url::parse(url).map_err(|_bad| Error::invalid(format!("{url:?} is no address such as https://…")))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Error::invalid(format!("{} is no http or https address", url.scheme())));
        }
        let literal = match url.host() {
            Some(Host::Ipv4(ip)) => Some(IpAddr::V4(ip)),
            Some(Host::Ipv6(ip)) => Some(IpAddr::V6(ip)),
            Some(Host::Domain(_)) => None,
            None => return Err(Error::invalid("the address names no host")),
        };
        match literal {
            Some(ip) if !self.private && !is_public(ip) => Err(refused()),
            _ => Ok(url),
        }
    }

    async fn send(
        &self,
        request: std::result::Result<Request<Full<Bytes>>, hyper::http::Error>,
        bytes_max: usize,
        cut: bool,
        within: Duration,
    ) -> Result<Answer> {
        let request = request.map_err(|error| Error::invalid("the address cannot be asked").with_source(error))?;
        let asked = async {
            let response = self.client.request(request).await.map_err(|error| unreachable(&error))?;
            let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
            let (status, location) = (response.status(), header(header::LOCATION));
            let kind = header(header::CONTENT_TYPE).unwrap_or_default().to_lowercase();
            let body = read(response.into_body(), bytes_max, cut).await?;
            Ok(Answer { status, location, kind, body })
        };
        match tokio::time::timeout(within, asked).await {
            Ok(answer) => answer,
            Err(_elapsed) => Err(Error::invalid(format!("no answer within {} ms", within.as_millis()))),
        }
    }
}

struct Answer {
    status: StatusCode,
    location: Option<String>,
    kind: String,
    body: Bytes,
}

/// Reads a body, frame by frame, up to `bytes_max`.
async fn read(body: hyper::body::Incoming, bytes_max: usize, cut: bool) -> Result<Bytes> {
    let mut body = Limited::new(body, bytes_max);
    let mut read = Vec::new();
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => {
                if let Ok(data) = frame.into_data() {
                    read.extend_from_slice(&data);
                }
            }
            Err(_over) if cut && !read.is_empty() => break,
            Err(_over) => return Err(Error::invalid("the answer is too long, or was cut off")),
        }
    }
    Ok(read.into())
}

fn unreachable(error: &hyper_util::client::legacy::Error) -> Error {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(one) = cause {
        if one.downcast_ref::<io::Error>().is_some_and(|io| io.kind() == io::ErrorKind::PermissionDenied) {
            return refused();
        }
        cause = one.source();
    }
    Error::invalid(format!("the address cannot be reached: {error}"))
}

fn refused() -> Error {
    Error::invalid("the address is private, loopback or link-local; the server does not ask those")
}

/// Resolves names, and keeps their public addresses.
#[derive(Debug, Clone)]
struct PublicNames {
    private: bool,
}

impl Service<Name> for PublicNames {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let private = self.private;
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let some = !found.is_empty();
            let kept: Vec<_> = found.into_iter().filter(|one| private || is_public(one.ip())).collect();
            if some && kept.is_empty() {
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, "private addresses only"));
            }
            Ok(kept.into_iter())
        })
    }
}

/// Whether an address belongs to the public internet.
fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        // Global unicast without what embeds other addresses: 6to4, Teredo, documentation.
        IpAddr::V6(ip) => ip.to_ipv4_mapped().map_or_else(
            || {
                let [first, second, ..] = ip.segments();
                let odd = matches!(second, 0 | 0x0db8 | 0x0002 | 0x0010..=0x002f);
                first & 0xe000 == 0x2000 && first != 0x2002 && !(first == 0x2001 && odd)
            },
            is_public_v4,
        ),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let shared = a == 100 && (64..128).contains(&b);
    let protocol = a == 192 && b == 0 && c == 0;
    let benchmark = a == 198 && (b == 18 || b == 19);
    !(ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_documentation()
        || ip.is_multicast()
        || shared
        || protocol
        || benchmark
        || a == 0
        || a >= 240)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_addresses_are_told_from_public_ones() {
        for public in ["8.8.8.8", "1.1.1.1", "172.15.0.1", "172.32.0.1", "100.63.0.1", "2606:4700::1111"] {
            assert!(is_public(public.parse().expect("an address")), "{public}");
        }
        for private in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "192.0.2.1",
            "198.18.0.1",
            "::1",
            "::",
            "fe80::1",
            "fc00::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "2002:7f00:1::",
            "64:ff9b::7f00:1",
        ] {
            assert!(!is_public(private.parse().expect("an address")), "{private}");
        }
    }

    #[tokio::test]
    async fn private_addresses_are_refused_by_name_and_by_number() {
        let fetcher = Fetcher::new(false).expect("a client");
        let urls =
            ["http://127.0.0.1:1/", "http://[::1]/", "http://0x7f000001/", "http://2130706433/", "http://localhost:1/"];
        for url in urls {
            let error = fetcher.get(url, 1_000).await.expect_err("refused");
            assert!(error.message().contains("private"), "{url}: {error}");
        }
        for url in ["ftp://example.org/", "nowhere", "http://", "file:///etc/passwd"] {
            assert!(fetcher.get(url, 1_000).await.is_err(), "{url}");
        }
    }
}
