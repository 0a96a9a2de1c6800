//! What a certificate says of its owner.
//!
//! Invariant: what is read here decides nothing by itself: a name counts only after the certificate was verified.

use std::fmt::Write;

use keevo_core::{Error, ErrorKind, Result};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

const NODE_PREFIX: &str = "node-";
const NODE_SUFFIX: &str = ".keevo";

/// The DNS name by which a certificate says that its owner is node `id`.
pub fn node_name(id: u64) -> String {
    format!("{NODE_PREFIX}{id}{NODE_SUFFIX}")
}

/// The node that a DNS name stands for; `None` for any other name.
///
/// ```
/// assert_eq!(keevo_tls::node_of("node-3.keevo"), Some(3));
/// assert_eq!(keevo_tls::node_of("node-03.keevo"), None);
/// ```
pub fn node_of(name: &str) -> Option<u64> {
    let id = name.strip_prefix(NODE_PREFIX)?.strip_suffix(NODE_SUFFIX)?;
    let number: u64 = id.parse().ok()?;
    (number > 0 && number.to_string() == id).then_some(number)
}

/// SHA-256 as hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    digest.as_ref().iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes all text");
        text
    })
}

/// A certificate as people are shown it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateInfo {
    /// The common name of its subject; empty if it has none.
    pub name: String,
    /// Who signed it.
    pub issuer: String,
    /// The hosts it is valid for: DNS names, then addresses.
    pub hosts: Vec<String>,
    /// The nodes that it says its owner is; more than one is a mistake of whoever made it.
    pub nodes: Vec<u64>,
    /// Whether it may sign others.
    pub is_ca: bool,
    /// From when on it is valid, seconds since 1970.
    pub not_before_s: i64,
    /// Until when it is valid, seconds since 1970.
    pub not_after_s: i64,
    /// SHA-256 of the certificate, as hexadecimal digits.
    pub sha256: String,
}

/// The certificates in a PEM text, in their order. `Invalid` where there is none, or one cannot be read.
pub fn describe(pem: &[u8]) -> Result<Vec<CertificateInfo>> {
    let bad = |why: String| Error::invalid(format!("this is no certificate in PEM form: {why}"));
    let certificates = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    let certificates = certificates.map_err(|error| bad(error.to_string()))?;
    if certificates.is_empty() {
        return Err(bad("it holds none".to_owned()));
    }
    certificates.iter().map(info).collect()
}

/// What one certificate says; `Invalid` where it cannot be read.
pub(crate) fn info(der: &CertificateDer<'_>) -> Result<CertificateInfo> {
    let unreadable = |why: String| Error::new(ErrorKind::Invalid, format!("a certificate cannot be read: {why}"));
    let (_, parsed) = X509Certificate::from_der(der).map_err(|error| unreadable(error.to_string()))?;
    let common = parsed.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
    let mut hosts = Vec::new();
    let mut addresses = Vec::new();
    let alternatives = parsed.subject_alternative_name().map_err(|error| unreadable(error.to_string()))?;
    for name in alternatives.iter().flat_map(|names| names.value.general_names.iter()) {
        match name {
            GeneralName::DNSName(name) => hosts.push((*name).to_owned()),
            GeneralName::IPAddress(bytes) => addresses.extend(address(bytes)),
            _ => {}
        }
    }
    let nodes = hosts.iter().filter_map(|host| node_of(host)).collect();
    hosts.append(&mut addresses);
    Ok(CertificateInfo {
        name: common.unwrap_or_default().to_owned(),
        issuer: parsed.issuer().to_string(),
        hosts,
        nodes,
        is_ca: parsed.is_ca(),
        not_before_s: parsed.validity().not_before.timestamp(),
        not_after_s: parsed.validity().not_after.timestamp(),
        sha256: sha256(der),
    })
}

fn address(bytes: &[u8]) -> Option<String> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Some(std::net::Ipv4Addr::from(four).to_string());
    }
    <[u8; 16]>::try_from(bytes).ok().map(|sixteen| std::net::Ipv6Addr::from(sixteen).to_string())
}
