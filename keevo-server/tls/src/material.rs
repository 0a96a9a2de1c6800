//! PEM texts become what rustls works with.

use std::path::Path;
use std::sync::Arc;

use keevo_core::{Error, ErrorKind, Result};
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The cryptography of every connection.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// An error about a file: `Config`.
pub(crate) fn bad(path: &Path, what: &str) -> Error {
    Error::new(ErrorKind::Config, format!("{} {what}", path.display()))
}

/// An error of rustls about a file: `Config`, with rustls' own words in the message.
pub(crate) fn unusable(path: &Path, what: &str, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    bad(path, &format!("{what}: {error}")).with_source(error)
}

/// The certificates in a PEM text, the first of which is its owner's.
pub(crate) fn chain(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let chain = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| unusable(path, "holds no certificate in PEM form", error))?;
    if chain.is_empty() {
        return Err(bad(path, "holds no certificate in PEM form"));
    }
    Ok(chain)
}

/// The private key in a PEM text. What is wrong with it is said without a byte of it.
pub(crate) fn key(path: &Path, pem: &[u8]) -> Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|_secret| bad(path, "holds no private key in PEM form"))
}

/// The certificates of authorities in PEM texts.
pub(crate) fn roots<'a>(texts: impl IntoIterator<Item = (&'a Path, &'a [u8])>) -> Result<Arc<RootCertStore>> {
    let mut roots = RootCertStore::empty();
    for (path, pem) in texts {
        for one in chain(path, pem)? {
            roots.add(one).map_err(|error| unusable(path, "holds a CA certificate that cannot be used", error))?;
        }
    }
    Ok(Arc::new(roots))
}
