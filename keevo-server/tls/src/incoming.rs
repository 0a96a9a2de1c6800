//! Connections that come in over TLS, each with who made it.
//!
//! Invariant: accepting never waits for one peer: a handshake is a task of its own with a time limit. Connections and
//! handshakes are bounded; what is beyond waits in the system's backlog.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use crate::identity;
use crate::server::{Material, ServerTls};

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// The most handshakes at a time.
const HANDSHAKES_MAX: usize = 1_024;
/// The most connections of a listener at a time.
const CONNECTIONS_MAX: usize = 16_384;
/// How long to wait after the system refused to accept, as it does when it has no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What is spoken over the connections of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// gRPC: HTTP/2, with certificates of clients where they are asked for.
    Grpc,
    /// REST: HTTP/1.1, without.
    Http,
}

/// Who made a connection, as its certificate says. tonic puts it into the extensions of each request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Where it comes from.
    pub address: SocketAddr,
    /// The common name of the client's certificate; `None` = it has shown none, or one without a name.
    pub name: Option<Arc<str>>,
    /// The node that it is, by a certificate of the nodes' CA.
    pub node: Option<u64>,
}

/// A listener's connections, once their handshakes are done.
#[derive(Debug)]
pub struct TlsIncoming {
    accepted: mpsc::Receiver<TlsConnection>,
    accepting: JoinHandle<()>,
    local: SocketAddr,
}

impl Drop for TlsIncoming {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl TlsIncoming {
    /// Accepts on `listener` from now on.
    pub fn start(listener: TcpListener, tls: Arc<ServerTls>, protocol: Protocol) -> io::Result<Self> {
        let local = listener.local_addr()?;
        let (accepted_tx, accepted) = mpsc::channel(64);
        let accepting = tokio::spawn(accept_all(listener, tls, protocol, accepted_tx));
        Ok(Self { accepted, accepting, local })
    }

    /// The next connection; waits for ever once the listener has ended.
    pub async fn next(&mut self) -> TlsConnection {
        match self.accepted.recv().await {
            Some(connection) => connection,
            // The accepting task ends only with this.
            None => std::future::pending().await,
        }
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }
}

impl Stream for TlsIncoming {
    type Item = io::Result<TlsConnection>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().accepted.poll_recv(context).map(|connection| connection.map(Ok))
    }
}

async fn accept_all(
    listener: TcpListener,
    tls: Arc<ServerTls>,
    protocol: Protocol,
    accepted_tx: mpsc::Sender<TlsConnection>,
) {
    let (connections, handshakes) =
        (Arc::new(Semaphore::new(CONNECTIONS_MAX)), Arc::new(Semaphore::new(HANDSHAKES_MAX)));
    loop {
        let Ok(permit) = Arc::clone(&connections).acquire_owned().await else { return };
        let Ok(shaking) = Arc::clone(&handshakes).acquire_owned().await else { return };
        let (tcp, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (tls, accepted_tx) = (Arc::clone(&tls), accepted_tx.clone());
        tokio::spawn(async move {
            let done = tokio::time::timeout(HANDSHAKE, shake(&tls, protocol, tcp, address, permit)).await;
            drop(shaking);
            let why = match done {
                Ok(Ok(connection)) => {
                    // With the receiver gone the server has stopped: the connection ends with it.
                    drop(accepted_tx.send(connection).await);
                    return;
                }
                Ok(Err(error)) => error.to_string(),
                Err(_elapsed) => format!("it took more than {} s", HANDSHAKE.as_secs()),
            };
            tls.handshake_failures.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(%address, why, "a TLS handshake failed");
        });
    }
}

async fn shake(
    tls: &ServerTls,
    protocol: Protocol,
    tcp: TcpStream,
    address: SocketAddr,
    permit: OwnedSemaphorePermit,
) -> io::Result<TlsConnection> {
    tcp.set_nodelay(true)?;
    let material = tls.material();
    let config = match protocol {
        Protocol::Grpc => &material.grpc,
        Protocol::Http => &material.http,
    };
    let stream = TlsAcceptor::from(Arc::clone(config)).accept(tcp).await?;
    let caller = caller(&material, address, stream.get_ref().1.peer_certificates().unwrap_or_default())?;
    Ok(TlsConnection { stream, caller, _permit: permit })
}

/// Who a verified chain belongs to.
fn caller(material: &Material, address: SocketAddr, chain: &[CertificateDer<'_>]) -> io::Result<Caller> {
    let Some(own) = chain.first() else { return Ok(Caller { address, name: None, node: None }) };
    let info = identity::info(own).map_err(io::Error::other)?;
    // One that names several nodes names none.
    let node = match info.nodes.as_slice() {
        [one] => material.node_of(chain, Some(*one)),
        _ => None,
    };
    let name = Some(info.name).filter(|name| !name.is_empty()).map(Arc::from);
    Ok(Caller { address, name, node })
}

/// One connection; it counts until it is dropped.
#[derive(Debug)]
pub struct TlsConnection {
    stream: TlsStream<TcpStream>,
    caller: Caller,
    _permit: OwnedSemaphorePermit,
}

impl TlsConnection {
    /// Who made it.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }
}

impl Connected for TlsConnection {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller.clone()
    }
}

impl AsyncRead for TlsConnection {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for TlsConnection {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
