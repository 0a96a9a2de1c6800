//! A development CA, and certificates of nodes and clients that it signs.
//!
//! Invariant: a certificate of a client names no node, and one of a node names exactly one.

use std::net::IpAddr;
use std::time::Duration;

use keevo_core::{Error, ErrorKind, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType, date_time_ymd,
};

use crate::identity::{node_name, node_of};

/// The longest life of a certificate, in days.
pub const DAYS_MAX: u32 = 36_500;
/// How long before now a certificate becomes valid, so that nodes whose clocks are behind take it.
const BEFORE: Duration = Duration::from_hours(1);
const DAY_S: u64 = 86_400;

/// Fills a key with random bytes of the operating system. `Unavailable` where it has none.
pub fn random(key: &mut [u8]) -> Result<()> {
    let none = |_unspecified| Error::new(ErrorKind::Unavailable, "the operating system gives no randomness");
    aws_lc_rs::rand::fill(key).map_err(none)
}

/// A certificate and its private key, as PEM texts.
#[derive(Clone)]
pub struct Pair {
    /// The certificate.
    pub cert: String,
    /// The private key: a secret.
    pub key: String,
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pair").field("cert", &self.cert).finish_non_exhaustive()
    }
}

/// For how long a certificate is valid.
#[derive(Debug, Clone, Copy)]
pub struct Life {
    /// Now, in milliseconds since 1970.
    pub now_ms: u64,
    /// Days from now on, 1 to [`DAYS_MAX`].
    pub days: u32,
}

/// A CA that signs.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authority")
    }
}

fn failed(what: &str) -> impl Fn(rcgen::Error) -> Error + '_ {
    move |error| Error::new(ErrorKind::Invalid, format!("{what}: {error}")).with_source(error)
}

fn params(name: &str, life: Life) -> Result<CertificateParams> {
    if name.is_empty() || name.len() > 64 || name.chars().any(char::is_control) {
        return Err(Error::invalid("the name of a certificate has 1 to 64 bytes and no control characters"));
    }
    if life.days == 0 || life.days > DAYS_MAX {
        return Err(Error::invalid(format!("a certificate is valid for 1 to {DAYS_MAX} days")));
    }
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    let now = date_time_ymd(1970, 1, 1) + Duration::from_millis(life.now_ms);
    params.not_before = now - BEFORE;
    params.not_after = now + Duration::from_secs(u64::from(life.days).saturating_mul(DAY_S));
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

impl Authority {
    /// Makes a CA: its certificate and key, and the CA itself.
    pub fn create(name: &str, life: Life) -> Result<(Pair, Self)> {
        let mut params = params(name, life)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().map_err(failed("no key could be made"))?;
        let cert = params.self_signed(&key).map_err(failed("the CA could not be made"))?;
        let pair = Pair { cert: cert.pem(), key: key.serialize_pem() };
        Ok((pair, Self { issuer: Issuer::new(params, key) }))
    }

    /// Opens a CA from its PEM texts. `Invalid` where they are none.
    pub fn open(cert_pem: &str, key_pem: &str) -> Result<Self> {
        let key = KeyPair::from_pem(key_pem).map_err(|_secret| Error::invalid("the key of the CA cannot be read"))?;
        let issuer = Issuer::from_ca_cert_pem(cert_pem, key).map_err(failed("the CA's certificate cannot be read"))?;
        Ok(Self { issuer })
    }

    /// The certificate of node `id`, for servers and clients, valid for `hosts` too: DNS names and addresses.
    pub fn node(&self, id: u64, hosts: &[String], life: Life) -> Result<Pair> {
        if id == 0 {
            return Err(Error::invalid("the ids of nodes begin with 1"));
        }
        if let Some(other) = hosts.iter().find(|host| node_of(host).is_some()) {
            return Err(Error::invalid(format!(
                "{other} names a node: a certificate names the node that it is for alone"
            )));
        }
        let name = node_name(id);
        let names = [std::slice::from_ref(&name), hosts].concat();
        self.sign(&name, &names, &[ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth], life)
    }

    /// The certificate of a client of that name.
    pub fn client(&self, name: &str, life: Life) -> Result<Pair> {
        if node_of(name).is_some() {
            return Err(Error::invalid(format!("{name} is the name of a node; choose another for a client")));
        }
        self.sign(name, &[], &[ExtendedKeyUsagePurpose::ClientAuth], life)
    }

    fn sign(&self, name: &str, hosts: &[String], usages: &[ExtendedKeyUsagePurpose], life: Life) -> Result<Pair> {
        let mut params = params(name, life)?;
        for host in hosts {
            let alternative = match host.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_name) => {
                    let bad = failed("a host must be a DNS name or an address");
                    SanType::DnsName(host.as_str().try_into().map_err(bad)?)
                }
            };
            params.subject_alt_names.push(alternative);
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = usages.to_vec();
        let key = KeyPair::generate().map_err(failed("no key could be made"))?;
        let cert = params.signed_by(&key, &self.issuer).map_err(failed("the certificate could not be signed"))?;
        Ok(Pair { cert: cert.pem(), key: key.serialize_pem() })
    }
}
