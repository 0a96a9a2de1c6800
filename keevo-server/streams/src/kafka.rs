//! How the brokers of Kafka are reached.
//!
//! Invariant: every call ends within the times below, so that a broker that is silent costs patience and nothing else.

use std::net::IpAddr;
use std::time::Duration;

use keevo_core::{Error, ErrorKind, Result};
use krafka::auth::{AuthConfig, TlsConfig};
use krafka::{Kafka, KrafkaError};
use serde::{Deserialize, Serialize};

use crate::spec::{Mechanism, Sasl, Tls};

/// How long one request may take.
const REQUEST: Duration = Duration::from_secs(5);
/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(3);

/// Brokers, and how they are talked to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// `host:port` of some of them, with commas.
    pub brokers: String,
    /// Whether it is encrypted.
    #[serde(default)]
    pub tls: Option<Tls>,
    /// Who this is.
    #[serde(default)]
    pub sasl: Option<Sasl>,
}

impl Connection {
    /// Whether all brokers are named by loopback addresses.
    pub(crate) fn is_loopback(&self) -> bool {
        self.brokers.split(',').all(|broker| {
            let host = broker.trim().rsplit_once(':').map_or("", |(host, _port)| host);
            let host = host.trim_start_matches('[').trim_end_matches(']');
            host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
        })
    }

    fn security(&self) -> AuthConfig {
        let tls = self.tls.as_ref().map(|tls| match &tls.ca_pem {
            Some(pem) => TlsConfig::new().with_ca_cert_pem(pem.clone()),
            None => TlsConfig::new().with_native_roots(),
        });
        let sasl = self.sasl.as_ref().map(|sasl| {
            let (user, password) = (sasl.username.clone(), sasl.password.expose().to_owned());
            match sasl.mechanism {
                Mechanism::Plain => AuthConfig::sasl_plain(user, password),
                Mechanism::ScramSha256 => AuthConfig::sasl_scram_sha256(user, password),
                Mechanism::ScramSha512 => AuthConfig::sasl_scram_sha512(user, password),
            }
        });
        match (sasl, tls) {
            (Some(sasl), Some(tls)) => sasl.with_tls(tls),
            (Some(sasl), None) => sasl,
            (None, Some(tls)) => AuthConfig::ssl(tls),
            (None, None) => AuthConfig::plaintext(),
        }
    }

    /// Connects, as a client of this name.
    pub(crate) async fn connect(&self, client: &str) -> Result<Kafka> {
        let builder = Kafka::builder(self.brokers.clone())
            .client_id(client)
            .security(self.security())
            .request_timeout(REQUEST)
            .connect_timeout(CONNECT);
        builder.connect().await.map_err(|error| failed("the brokers cannot be reached", error))
    }
}

/// What a failure of Kafka is to a caller: it is tried again, except where the configuration is wrong.
pub(crate) fn failed(what: &str, error: KrafkaError) -> Error {
    let kind = if matches!(error, KrafkaError::Config { .. }) { ErrorKind::Config } else { ErrorKind::Unavailable };
    Error::new(kind, format!("{what}: {error}")).with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_told_from_the_world() {
        let of = |brokers: &str| Connection { brokers: brokers.into(), tls: None, sasl: None }.is_loopback();
        assert!(of("127.0.0.1:1") && of("localhost:1, [::1]:2"));
        assert!(!of("127.0.0.1:1,kafka:2") && !of("10.0.0.1:1") && !of("localhost.evil.org:1"));
    }
}
