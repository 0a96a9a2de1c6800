//! S3, over the HTTP client that the rest of Keevo uses: one TLS, and no second client.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use futures::StreamExt;
use http_body_util::{BodyExt, StreamBody};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector as Tcp;
use hyper_util::rt::TokioExecutor;
use keevo_core::{Error, ErrorKind, Result};
use object_store::ClientOptions;
use object_store::aws::{AmazonS3, AmazonS3Builder, S3ConditionalPut};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse, HttpResponseBody,
    HttpService,
};
use url::Url;

/// How long connecting may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// How long the head of an answer may take, after which a request is sent again.
const ANSWER_WITHIN: Duration = Duration::from_mins(1);
/// How long each further part of an answer may take.
const PART_WITHIN: Duration = Duration::from_secs(30);

/// The bucket of an address like `s3://BUCKET/PREFIX`, and what stands before all names in it. What `builder` lacks of
/// credentials, region and endpoint is `Config`.
pub(super) fn bucket(url: &Url, builder: AmazonS3Builder, patience: Patience) -> Result<(AmazonS3, String)> {
    let wrong = |why: String| Error::new(ErrorKind::Config, format!("'{url}' is no object storage: {why}"));
    let bucket = url.host_str().filter(|host| !host.is_empty());
    let bucket = bucket.ok_or_else(|| wrong("write s3://BUCKET/PREFIX".to_owned()))?;
    let store = builder
        .with_bucket_name(bucket)
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_disable_bulk_delete(true)
        .with_http_connector(Connector(patience))
        .build()
        .map_err(|error| wrong(format!("{error}; the variables AWS_* say how to reach it")))?;
    let prefix = url.path().trim_matches('/');
    let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
    Ok((store, prefix))
}

/// How long the storage may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// To answer.
    pub(super) answer: Duration,
    /// To go on with an answer.
    pub(super) part: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { answer: ANSWER_WITHIN, part: PART_WITHIN }
    }
}

/// Makes clients.
#[derive(Debug)]
struct Connector(Patience);

impl HttpConnector for Connector {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        let failed = |error: std::io::Error| object_store::Error::Generic { store: "S3", source: Box::new(error) };
        let mut tcp = Tcp::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(CONNECT_WITHIN));
        let tls = HttpsConnectorBuilder::new().with_native_roots().map_err(failed)?;
        let connector = tls.https_or_http().enable_http1().wrap_connector(tcp);
        Ok(HttpClient::new(Service(Client::builder(TokioExecutor::new()).build(connector), self.0)))
    }
}

/// A client.
struct Service(Client<HttpsConnector<Tcp>, HttpRequestBody>, Patience);

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Service")
    }
}

type Called<'a> = Pin<Box<dyn Future<Output = std::result::Result<HttpResponse, HttpError>> + Send + 'a>>;

impl HttpService for Service {
    // As `async_trait` writes it.
    fn call<'this, 'called>(&'this self, request: HttpRequest) -> Called<'called>
    where
        'this: 'called,
        Self: 'called,
    {
        Box::pin(async move {
            let part_within = self.1.part;
            let answer = tokio::time::timeout(self.1.answer, self.0.request(request)).await;
            let answer = answer.map_err(|elapsed| HttpError::new(HttpErrorKind::Timeout, elapsed))?;
            let answer = answer.map_err(|error| {
                let kind = if error.is_connect() { HttpErrorKind::Connect } else { HttpErrorKind::Interrupted };
                HttpError::new(kind, error)
            })?;
            Ok(answer.map(move |body| {
                let parts = futures::stream::unfold(Some(body), move |body| async move {
                    let mut body = body?;
                    match tokio::time::timeout(part_within, body.frame()).await {
                        Ok(Some(Ok(part))) => Some((Ok(part), Some(body))),
                        Ok(Some(Err(error))) => Some((Err(HttpError::new(HttpErrorKind::Interrupted, error)), None)),
                        Err(elapsed) => Some((Err(HttpError::new(HttpErrorKind::Timeout, elapsed)), None)),
                        Ok(None) => None,
                    }
                });
                // A body may be asked on after its end, which such a stream does not bear.
                HttpResponseBody::new(StreamBody::new(parts.fuse()))
            }))
        })
    }
}
