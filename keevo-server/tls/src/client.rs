//! What a client dials nodes with.
//!
//! Invariant: the files are looked at whenever a connection is made, so that a client that runs for years takes new
//! certificates without a restart.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use keevo_core::{Error, ErrorKind, Result};
use rustls::ClientConfig;

use crate::material::{chain, key, provider, roots, unusable};
use crate::reload::Reloading;

/// The PEM files of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientFiles {
    /// The CA of the nodes' certificates.
    pub ca: PathBuf,
    /// The client's own certificate and its private key, where nodes ask for one.
    pub identity: Option<(PathBuf, PathBuf)>,
}

impl ClientFiles {
    /// The files as they are given on a command line. `Invalid` for a certificate without its key, a key without its
    /// certificate, or either without a CA; `None` where nothing was given.
    pub fn from_parts(ca: Option<PathBuf>, cert: Option<PathBuf>, key: Option<PathBuf>) -> Result<Option<Self>> {
        match (ca, cert, key) {
            (None, None, None) => Ok(None),
            (Some(ca), None, None) => Ok(Some(Self { ca, identity: None })),
            (Some(ca), Some(cert), Some(key)) => Ok(Some(Self { ca, identity: Some((cert, key)) })),
            (None, _, _) => Err(Error::invalid("a certificate is of use over TLS only: name the CA of the nodes too")),
            (_, None, Some(_)) => Err(Error::invalid("a key was given without its certificate")),
            (_, Some(_), None) => Err(Error::invalid("a certificate was given without its key")),
        }
    }
}

/// The TLS of a client.
pub struct ClientTls {
    files: Reloading<Arc<ClientConfig>>,
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientTls")
    }
}

impl ClientTls {
    /// Reads the files. `Config` where one is missing or bad, or the key is not the certificate's.
    pub fn open(files: ClientFiles) -> Result<Arc<Self>> {
        let mut all = vec![files.ca.clone()];
        all.extend(files.identity.iter().flat_map(|(cert, key)| [cert.clone(), key.clone()]));
        Ok(Arc::new(Self { files: Reloading::open(all, Box::new(move |contents| config(&files, contents)))? }))
    }

    /// What to dial with now; looks at the files first, without holding up the caller's thread.
    pub(crate) async fn fresh(self: Arc<Self>) -> Result<Arc<ClientConfig>> {
        let looked = tokio::task::spawn_blocking(move || {
            self.files.check();
            Arc::<ClientConfig>::clone(&self.files.current())
        });
        looked.await.map_err(|error| Error::new(ErrorKind::Io, "the TLS files were not read").with_source(error))
    }
}

fn config(files: &ClientFiles, contents: &[Vec<u8>]) -> Result<Arc<ClientConfig>> {
    let mut contents = contents.iter().map(Vec::as_slice);
    let mut next = || contents.next().unwrap_or_default();
    let roots = roots([(files.ca.as_path(), next())])?;
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(&files.ca, "cannot be used", error))?
        .with_root_certificates(roots);
    let mut config = match &files.identity {
        None => builder.with_no_client_auth(),
        Some((cert, key_path)) => {
            let (own, key) = (chain(cert, next())?, key(key_path, next())?);
            builder
                .with_client_auth_cert(own, key)
                .map_err(|error| unusable(cert, "and its key cannot be used", error))?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}
