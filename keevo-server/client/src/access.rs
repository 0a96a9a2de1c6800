//! How a client reaches nodes and makes itself known to them: TLS, and the key that its requests carry.
//!
//! Invariant: a key leaves this process over TLS only, but for nodes on loopback, and is shown in no output.

use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::task::{Context, Poll};

use keevo_core::{Error, Result};
use keevo_tls::{ClientTls, Dialer};
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::codegen::http::{HeaderValue, Request, Response, header};
use tonic::transport::channel::ResponseFuture;
use tonic::transport::{Channel, Endpoint};

/// The longest key, in bytes.
const KEY_BYTES_MAX: usize = 512;

/// An API key, as `keevo-cli auth key create` prints it. Its text is never shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey(HeaderValue);

impl FromStr for ApiKey {
    type Err = Error;

    /// Reads a key; white space around it is ignored. `Invalid` where it is none.
    fn from_str(text: &str) -> Result<Self> {
        let text = text.trim();
        if text.is_empty() || text.len() > KEY_BYTES_MAX || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Error::invalid("an API key has 1 to 512 visible ASCII characters"));
        }
        let value = HeaderValue::from_str(&format!("Bearer {text}"));
        let mut value = value.map_err(|_secret| Error::invalid("an API key has visible ASCII characters only"))?;
        value.set_sensitive(true);
        Ok(Self(value))
    }
}

/// How nodes are reached. By default over TCP as it is, by nobody in particular.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// TLS; `None` = none.
    pub tls: Option<Arc<ClientTls>>,
    /// The key that requests carry; `None` = none.
    pub key: Option<ApiKey>,
}

impl Access {
    /// The endpoint at `address` (`host:port`), with Keevo's settings for it left to the caller.
    ///
    /// `Invalid`: it is no address; or a key would travel over a network in the clear.
    pub fn endpoint(&self, address: &str) -> Result<Endpoint> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let endpoint = Endpoint::from_shared(format!("{scheme}://{address}"))
            .map_err(|error| Error::invalid(format!("{address} is no host:port")).with_source(error))?;
        if self.key.is_some() && self.tls.is_none() && !is_loopback(endpoint.uri().host().unwrap_or_default()) {
            return Err(Error::invalid(format!(
                "an API key would go to {address} in the clear: use TLS, by naming the CA of the nodes"
            )));
        }
        Ok(endpoint)
    }

    /// A connection that comes about when it is first used.
    pub fn connect_lazy(&self, endpoint: &Endpoint) -> Connection {
        let channel = match &self.tls {
            None => endpoint.connect_lazy(),
            Some(tls) => endpoint.connect_with_connector_lazy(Dialer::client(Arc::clone(tls))),
        };
        Connection { channel, key: self.key.clone() }
    }

    /// A connection that has come about.
    pub async fn connect(&self, endpoint: &Endpoint) -> Result<Connection, tonic::transport::Error> {
        let channel = match &self.tls {
            None => endpoint.connect().await?,
            Some(tls) => endpoint.connect_with_connector(Dialer::client(Arc::clone(tls))).await?,
        };
        Ok(Connection { channel, key: self.key.clone() })
    }
}

fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// A connection to a node, whose requests carry the client's key. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Connection {
    channel: Channel,
    key: Option<ApiKey>,
}

impl Service<Request<Body>> for Connection {
    type Response = Response<Body>;
    type Error = tonic::transport::Error;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.channel.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> ResponseFuture {
        if let Some(ApiKey(value)) = &self.key {
            request.headers_mut().insert(header::AUTHORIZATION, value.clone());
        }
        self.channel.call(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keevo_core::ErrorKind;

    #[test]
    fn a_key_stays_on_this_machine_without_tls() {
        let access = Access { tls: None, key: Some("keevo_a_b".parse().expect("a key")) };
        for near in ["127.0.0.1:7101", "localhost:7101", "[::1]:7101"] {
            assert!(access.endpoint(near).is_ok(), "{near}");
        }
        for far in ["10.0.0.1:7101", "example.org:7101", "localhost.example.org:1"] {
            let error = access.endpoint(far).expect_err("refused");
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.message().contains("TLS"), "{error}");
            assert!(Access::default().endpoint(far).is_ok(), "{far} without a key");
        }
    }

    #[test]
    fn keys_are_read_and_never_shown() {
        let key: ApiKey = " keevo_id_0123456789abcdef\n".parse().expect("a key");
        assert_eq!(key.0.as_bytes(), b"Bearer keevo_id_0123456789abcdef");
        let access = Access { tls: None, key: Some(key) };
        assert!(!format!("{access:?}").contains("0123"), "{access:?}");
        for bad in ["", " ", "with space", "über", "a\nb"] {
            let error = bad.parse::<ApiKey>().expect_err("refused");
            assert_eq!(error.kind(), ErrorKind::Invalid);
        }
    }
}
