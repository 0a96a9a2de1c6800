//! Connections: at most so many at a time, with TLS where a certificate is given.
//!
//! Invariant: accepting never waits for one peer: a TLS handshake is a task of its own with a time limit, and a
//! connection beyond the bound waits in the system's backlog.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use keevo_core::{Error, ErrorKind, Result};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;

/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long to wait after the system refused to accept, as it does when it has no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What is spoken after the handshake, as ALPN names it: HTTP.
pub(crate) const HTTP: &[u8] = b"http/1.1";
/// gRPC.
pub(crate) const GRPC: &[u8] = b"h2";

/// A TLS certificate with its key, as PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The chain, the server's own certificate first.
    pub chain: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

impl Certificate {
    fn acceptor(&self, spoken: &[u8]) -> Result<TlsAcceptor> {
        let bad = |path: &Path, what: &str| {
            Error::new(ErrorKind::Config, format!("{} holds no {what} in PEM form that can be read", path.display()))
        };
        let chain = CertificateDer::pem_file_iter(&self.chain)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| bad(&self.chain, "certificate").with_source(error))?;
        let key = PrivateKeyDer::from_pem_file(&self.key)
            .map_err(|error| bad(&self.key, "private key").with_source(error))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let unusable = |error: rustls::Error| {
            let message = format!("the certificate {} and its key cannot be used", self.chain.display());
            Error::new(ErrorKind::Config, message).with_source(error)
        };
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(unusable)?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(unusable)?;
        config.alpn_protocols = vec![spoken.to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

/// A bound listener.
pub(crate) struct Bounded {
    local: SocketAddr,
    accepted: mpsc::Receiver<(Connection, SocketAddr)>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Drop for Bounded {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Bounded {
    /// Binds an address, on which [`HTTP`] or [`GRPC`] is `spoken`.
    ///
    /// # Errors
    /// `AddressInUse`; `Config` for an address that is not this machine's and for bad certificate files.
    pub(crate) async fn bind(
        address: SocketAddr,
        tls: Option<&Certificate>,
        connections_max: usize,
        spoken: &[u8],
    ) -> Result<Self> {
        let tls = tls.map(|certificate| certificate.acceptor(spoken)).transpose()?;
        let failed = |error: io::Error| {
            let taken = error.kind() == io::ErrorKind::AddrInUse;
            let kind = if taken { ErrorKind::AddressInUse } else { ErrorKind::Config };
            Error::new(kind, format!("cannot listen on {address}")).with_source(error)
        };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let local = listener.local_addr().map_err(failed)?;
        let (accepted_tx, accepted) = mpsc::channel(64);
        let accepting = tokio::spawn(accept_all(listener, tls, connections_max, accepted_tx));
        Ok(Self { local, accepted, accepting })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.local
    }
}

async fn accept_all(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    connections_max: usize,
    accepted_tx: mpsc::Sender<(Connection, SocketAddr)>,
) {
    let permits = Arc::new(Semaphore::new(connections_max));
    while let Ok(permit) = Arc::clone(&permits).acquire_owned().await {
        let (tcp, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if let Err(error) = tcp.set_nodelay(true) {
            tracing::debug!(%error, %peer, "the connection keeps small answers back");
        }
        let Some(tls) = tls.clone() else {
            if accepted_tx.send((Connection { stream: Stream::Plain(tcp), _permit: permit }, peer)).await.is_err() {
                return;
            }
            continue;
        };
        let accepted_tx = accepted_tx.clone();
        tokio::spawn(async move {
            match tokio::time::timeout(HANDSHAKE, tls.accept(tcp)).await {
                Ok(Ok(stream)) => {
                    let connection = Connection { stream: Stream::Tls(Box::new(stream)), _permit: permit };
                    // With the receiver gone the server has stopped: the connection ends with it.
                    drop(accepted_tx.send((connection, peer)).await);
                }
                Ok(Err(error)) => tracing::debug!(%error, %peer, "a TLS handshake failed"),
                Err(_elapsed) => tracing::debug!(%peer, "a TLS handshake took too long"),
            }
        });
    }
}

impl Listener for Bounded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        match self.accepted.recv().await {
            Some(accepted) => accepted,
            // The accepting task ends only with this listener.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }
}

impl tokio_stream::Stream for Bounded {
    type Item = io::Result<Connection>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().accepted.poll_recv(context).map(|accepted| accepted.map(|(connection, _)| Ok(connection)))
    }
}

/// One connection; it counts until it is dropped.
pub(crate) struct Connection {
    stream: Stream,
    _permit: OwnedSemaphorePermit,
}

impl tonic::transport::server::Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<tokio_rustls::server::TlsStream<TcpStream>>),
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
