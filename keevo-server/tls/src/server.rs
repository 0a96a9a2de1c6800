//! What a node accepts connections with, and what it dials its peers with.
//!
//! Invariant: a connection is a peer's only if its certificate is signed by the CA of the nodes and names the node; one of
//! the CA of the clients alone never is, whatever it says.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use keevo_core::{Error, ErrorKind, Result};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_util::sync::CancellationToken;

use crate::identity::{self, node_name};
use crate::material::{bad, chain, key, provider, roots, unusable};
use crate::reload::Reloading;

/// How often the files are looked at.
const EVERY: Duration = Duration::from_secs(1);

/// The PEM files of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerFiles {
    /// The node's certificate, then those between it and the CA.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The CA of the clients' certificates; `None` = clients show none.
    pub client_ca: Option<PathBuf>,
    /// The CA of the nodes' certificates; `None` = there are no peers.
    pub peer_ca: Option<PathBuf>,
    /// Whether a client without a certificate is turned away.
    pub client_required: bool,
    /// The node that the certificate must name if there may be peers.
    pub node_id: u64,
}

impl ServerFiles {
    fn all(&self) -> Vec<PathBuf> {
        [Some(&self.cert), Some(&self.key), self.client_ca.as_ref(), self.peer_ca.as_ref()]
            .into_iter()
            .flatten()
            .cloned()
            .collect()
    }
}

/// What the files come to.
pub(crate) struct Material {
    pub(crate) grpc: Arc<ServerConfig>,
    pub(crate) http: Arc<ServerConfig>,
    /// Says whether a certificate is a node's.
    peers: Option<Arc<dyn ClientCertVerifier>>,
    dial: Option<Arc<ClientConfig>>,
    not_after_s: i64,
}

/// What a node's TLS has counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TlsMetrics {
    /// Times that changed files were taken.
    pub reloads: u64,
    /// Times that changed files could not be used.
    pub reload_failures: u64,
    /// Whether the files are bad now, so that older ones are in use.
    pub stale: bool,
    /// Handshakes that failed or took too long.
    pub handshake_failures: u64,
    /// Until when the certificate in use is valid, seconds since 1970.
    pub not_after_s: i64,
}

/// The TLS of a node.
pub struct ServerTls {
    files: Reloading<Material>,
    pub(crate) handshake_failures: AtomicU64,
}

impl std::fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ServerTls")
    }
}

impl ServerTls {
    /// Reads the files. `Config` where one is missing or bad, the key is not the certificate's, or the certificate does
    /// not name the node although there may be peers.
    pub fn open(files: ServerFiles) -> Result<Arc<Self>> {
        let all = files.all();
        let files = Reloading::open(all, Box::new(move |contents| material(&files, contents)))?;
        Ok(Arc::new(Self { files, handshake_failures: AtomicU64::new(0) }))
    }

    /// Looks at the files now, and takes them if they have changed and are good. May block.
    pub fn check(&self) {
        self.files.check();
    }

    /// Looks at the files again and again, until `shutdown`.
    pub async fn watch(self: Arc<Self>, shutdown: CancellationToken) {
        let looking = async {
            loop {
                tokio::time::sleep(EVERY).await;
                let tls = Arc::clone(&self);
                if let Err(error) = tokio::task::spawn_blocking(move || tls.check()).await {
                    tracing::error!(%error, "the TLS files could not be looked at");
                }
            }
        };
        shutdown.run_until_cancelled(looking).await;
    }

    pub(crate) fn material(&self) -> Arc<Material> {
        self.files.current()
    }

    /// What peers are dialled with; `Config` where the node was given no CA of nodes.
    pub fn dial(&self) -> Result<Arc<ClientConfig>> {
        self.material().dial.clone().ok_or_else(|| {
            Error::new(ErrorKind::Config, "this node has no CA of nodes, so it has no peers: set tls_peer_ca")
        })
    }

    /// What was counted so far.
    pub fn metrics(&self) -> TlsMetrics {
        let (reloads, reload_failures, stale) = self.files.counts();
        TlsMetrics {
            reloads,
            reload_failures,
            stale,
            handshake_failures: self.handshake_failures.load(Ordering::Relaxed),
            not_after_s: self.material().not_after_s,
        }
    }
}

impl Material {
    /// The node that a verified certificate belongs to; `None` for a client's.
    pub(crate) fn node_of(&self, chain: &[CertificateDer<'_>], node: Option<u64>) -> Option<u64> {
        let (node, verifier) = (node?, self.peers.as_ref()?);
        let (own, between) = chain.split_first()?;
        verifier.verify_client_cert(own, between, UnixTime::now()).ok().map(|_verified| node)
    }
}

fn material(files: &ServerFiles, contents: &[Vec<u8>]) -> Result<Material> {
    let mut contents = contents.iter().map(Vec::as_slice);
    let mut next = || contents.next().unwrap_or_default();
    let (cert_pem, key_pem) = (next(), next());
    let client_ca = files.client_ca.as_deref().map(|path| (path, next()));
    let peer_ca = files.peer_ca.as_deref().map(|path| (path, next()));
    let own = chain(&files.cert, cert_pem)?;
    let info = identity::info(own.first().ok_or_else(|| bad(&files.cert, "holds no certificate"))?)?;
    let peers = peer_ca.map(|(path, pem)| verifier(path, roots([(path, pem)])?, true)).transpose()?;
    let dial = peer_ca.map(|ca| dialling(files, ca, own.clone(), key_pem)).transpose()?;
    if let (Some(verifier), Some((path, _))) = (&peers, peer_ca) {
        check_own(files, &own, &info.nodes, verifier.as_ref(), path)?;
    }
    let asked: Vec<(&Path, &[u8])> = client_ca.into_iter().chain(peer_ca).collect();
    let builder = || {
        ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(&files.cert, "cannot be used", error))
    };
    let finished = |config: Result<ServerConfig, rustls::Error>, protocol: &[u8]| {
        let mut config = config.map_err(|error| unusable(&files.cert, "and its key cannot be used", error))?;
        config.alpn_protocols = vec![protocol.to_vec()];
        Ok::<_, Error>(Arc::new(config))
    };
    let grpc = match asked.first() {
        None => builder()?.with_no_client_auth(),
        Some((path, _)) => {
            builder()?.with_client_cert_verifier(verifier(path, roots(asked.iter().copied())?, files.client_required)?)
        }
    };
    Ok(Material {
        grpc: finished(grpc.with_single_cert(own.clone(), key(&files.key, key_pem)?), b"h2")?,
        http: finished(builder()?.with_no_client_auth().with_single_cert(own, key(&files.key, key_pem)?), b"http/1.1")?,
        peers,
        dial,
        not_after_s: info.not_after_s,
    })
}

fn verifier(path: &Path, roots: Arc<RootCertStore>, required: bool) -> Result<Arc<dyn ClientCertVerifier>> {
    let builder = WebPkiClientVerifier::builder_with_provider(roots, provider());
    let builder = if required { builder } else { builder.allow_unauthenticated() };
    builder.build().map_err(|error| unusable(path, "holds no CA certificate that can be used", error))
}

/// What this node dials its peers with: its own certificate, and the CA that theirs are of.
fn dialling(
    files: &ServerFiles,
    ca: (&Path, &[u8]),
    own: Vec<CertificateDer<'static>>,
    key_pem: &[u8],
) -> Result<Arc<ClientConfig>> {
    let config =
        ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().and_then(|builder| {
            let key = key(&files.key, key_pem).map_err(|error| rustls::Error::General(error.message().to_owned()))?;
            let roots = roots([ca]).map_err(|error| rustls::Error::General(error.message().to_owned()))?;
            builder.with_root_certificates(roots).with_client_auth_cert(own, key)
        });
    let mut config = config.map_err(|error| unusable(&files.cert, "and its key cannot be used", error))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

/// Peers will refuse this node unless its certificate names it and is of their CA: better said at the start.
fn check_own(
    files: &ServerFiles,
    own: &[CertificateDer<'_>],
    nodes: &[u64],
    verifier: &dyn ClientCertVerifier,
    ca: &Path,
) -> Result<()> {
    let name = node_name(files.node_id);
    if nodes != [files.node_id] {
        let what = format!("must name {name}, this node, and no other; make it with `keevo-cli cert node`");
        return Err(bad(&files.cert, &what));
    }
    let (first, between) = own.split_first().ok_or_else(|| bad(&files.cert, "holds no certificate"))?;
    verifier.verify_client_cert(first, between, UnixTime::now()).map(drop).map_err(|error| {
        let what =
            format!("is not accepted by peers: it must be signed by {} and be for servers and clients", ca.display());
        unusable(&files.cert, &what, error)
    })
}
