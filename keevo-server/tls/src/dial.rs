//! A connector for tonic's channels: TCP, then TLS, then HTTP/2.
//!
//! Invariant: each connection is made with what the files say then, so that a channel outlives its certificates.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::BoxFuture;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::codegen::Service;
use tonic::codegen::http::Uri;

use crate::client::ClientTls;
use crate::identity::node_name;
use crate::server::ServerTls;

#[derive(Debug, Clone)]
enum Source {
    Client(Arc<ClientTls>),
    Peer(Arc<ServerTls>),
}

/// Dials nodes: `endpoint.connect_with_connector_lazy(dialer)`.
#[derive(Debug, Clone)]
pub struct Dialer {
    source: Source,
    /// Whom the certificate must name; `None` = the host that is dialled.
    name: Option<String>,
}

impl Dialer {
    /// Dials as a client: the node's certificate must name the host that is dialled.
    pub fn client(tls: Arc<ClientTls>) -> Self {
        Self { source: Source::Client(tls), name: None }
    }

    /// Dials node `id` as a node: its certificate must be of the nodes' CA and name that node, wherever it is.
    pub fn peer(tls: Arc<ServerTls>, id: u64) -> Self {
        Self { source: Source::Peer(tls), name: Some(node_name(id)) }
    }

    async fn config(&self) -> io::Result<Arc<ClientConfig>> {
        let config = match &self.source {
            Source::Client(tls) => Arc::clone(tls).fresh().await,
            Source::Peer(tls) => tls.dial(),
        };
        config.map_err(io::Error::other)
    }

    async fn dial(self, uri: Uri) -> io::Result<TokioIo<TlsStream<TcpStream>>> {
        let no_host = || io::Error::new(io::ErrorKind::InvalidInput, format!("{uri} names no host and port"));
        let host = uri.host().ok_or_else(no_host)?.trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = uri.port_u16().ok_or_else(no_host)?;
        let name = self.name.clone().unwrap_or_else(|| host.clone());
        let name = ServerName::try_from(name).map_err(io::Error::other)?;
        let config = self.config().await?;
        let tcp = TcpStream::connect((host.as_str(), port)).await?;
        tcp.set_nodelay(true)?;
        let stream = TlsConnector::from(config).connect(name, tcp).await?;
        if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err(io::Error::other("what answers there does not speak HTTP/2"));
        }
        Ok(TokioIo::new(stream))
    }
}

impl Service<Uri> for Dialer {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Response>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        self.clone().dial(uri).boxed()
    }
}
