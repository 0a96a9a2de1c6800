//! Connections to nodes, and what to say when there is none.
//!
//! Invariant: a call that changes something and was not answered is `OutcomeUnknown`, never a kind that promises that
//! nothing happened; only a node's own word is passed on as it is.

use std::future::Future;
use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use keevo_client::{Access, ApiKey, ClientOptions, Connection, RemoteEngine};
use keevo_core::{Error, ErrorKind};
use keevo_proto::{KIND_METADATA, error_from_status};
use keevo_tls::{ClientFiles, ClientTls};
use tonic::transport::Endpoint;
use tonic::{Response, Status};

use crate::failure::Failure;
use crate::output::Format;
use crate::settings::{KeySource, Part, Settings};

/// How long calls may take, unless `--timeout` says otherwise.
pub(crate) const QUICK: Duration = Duration::from_secs(5);
/// How long calls may take that move data.
pub(crate) const SLOW: Duration = Duration::from_mins(1);
const CONNECT: Duration = Duration::from_secs(2);
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// More than an API key may have.
const KEY_BYTES_READ: u64 = 4_096;

/// Whether a call that got no answer may have changed something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// It reads, or can be repeated without harm.
    Reads,
    /// It may have been applied.
    Writes,
}

/// What every command needs to know.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) endpoints: Vec<String>,
    pub(crate) output: Format,
    access: Access,
    /// The PEM files of certificates that the access is by.
    certificates: Vec<PathBuf>,
    timeout: Option<Duration>,
    /// The keyspace of commands that name none.
    keyspace: String,
}

impl Context {
    /// Fails with `Invalid` when no endpoint is left after empty ones are dropped.
    pub(crate) fn new(settings: Settings) -> Result<Self, Failure> {
        let access = access(&settings)?;
        let mut endpoints = Vec::new();
        for given in settings.endpoints.value.iter().map(|one| one.trim()).filter(|one| !one.is_empty()) {
            endpoints.push(match given.strip_prefix("https://") {
                Some(address) if access.tls.is_some() => address.to_owned(),
                Some(_) => {
                    let error = Error::invalid(format!("{given} needs the CA of the nodes"));
                    return Err(Failure::with_advice(error, "Name its file with --ca."));
                }
                None => given.to_owned(),
            });
        }
        if endpoints.is_empty() {
            let error = Error::invalid("no endpoint was given");
            return Err(Failure::with_advice(error, "Name a node: --endpoints 127.0.0.1:7101."));
        }
        let certificates = settings.ca.into_iter().chain(settings.cert).map(|part| part.value).collect();
        let (output, timeout, keyspace) = (settings.output, settings.timeout, settings.keyspace.value);
        Ok(Self { endpoints, output, access, certificates, timeout, keyspace })
    }

    /// The same for other nodes.
    pub(crate) fn at(&self, endpoints: Vec<String>) -> Self {
        Self { endpoints, ..self.clone() }
    }

    /// For commands that call no node: what is said of nodes is not looked at.
    pub(crate) fn offline(output: Format) -> Self {
        let (access, certificates, keyspace) = (Access::default(), Vec::new(), String::new());
        Self { endpoints: Vec::new(), output, access, certificates, timeout: None, keyspace }
    }

    /// The keyspace that was named, or that of those who name none.
    pub(crate) fn keyspace<'a>(&'a self, named: Option<&'a str>) -> &'a str {
        named.unwrap_or(&self.keyspace)
    }

    /// The PEM files of the CA and the certificate that were given.
    pub(crate) fn certificates(&self) -> &[PathBuf] {
        &self.certificates
    }

    /// The time a call has: `--timeout`, or `default`.
    pub(crate) fn limit(&self, default: Duration) -> Duration {
        self.timeout.unwrap_or(default)
    }

    /// A connection to the first endpoint that takes one.
    pub(crate) async fn channel(&self) -> Result<Connection, Failure> {
        let mut faults = Vec::new();
        for address in &self.endpoints {
            match self.try_connect(address).await? {
                Ok(channel) => return Ok(channel),
                Err(fault) => faults.push(fault),
            }
        }
        Err(unreachable(&faults))
    }

    /// A connection to one endpoint.
    pub(crate) async fn channel_to(&self, address: &str) -> Result<Connection, Failure> {
        self.try_connect(address).await?.map_err(|fault| unreachable(&[fault]))
    }

    /// The whole cluster as an engine.
    pub(crate) async fn engine(&self) -> Result<RemoteEngine, Failure> {
        drop(self.channel().await?);
        let access = self.access.clone();
        let deadline = self.limit(QUICK);
        let options = ClientOptions { deadline, pipes_per_node: 1, access, ..ClientOptions::default() };
        Ok(RemoteEngine::connect(self.endpoints.clone(), options).await?)
    }

    /// Connects, or says why that failed; an address that is none is an error at once.
    async fn try_connect(&self, address: &str) -> Result<Result<Connection, String>, Failure> {
        let endpoint = endpoint(&self.access, address)?;
        let limit = self.limit(CONNECT).min(CONNECT);
        Ok(match tokio::time::timeout(limit, self.access.connect(&endpoint)).await {
            Ok(Ok(channel)) => Ok(channel),
            Ok(Err(error)) => Err(format!("{address} ({})", root_cause(&error))),
            Err(_) => Err(format!("{address} (no answer within {} ms)", limit.as_millis())),
        })
    }

    /// Waits for an answer as long as the call may take.
    pub(crate) async fn ask<T>(
        &self,
        effect: Effect,
        default: Duration,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Failure> {
        let limit = self.limit(default);
        match tokio::time::timeout(limit, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(failed(effect, &status)),
            Err(_) => {
                let kind = match effect {
                    Effect::Reads => ErrorKind::DeadlineExceeded,
                    Effect::Writes => ErrorKind::OutcomeUnknown,
                };
                let message = format!("the node did not answer within {} ms", limit.as_millis());
                Err(Error::new(kind, message).into())
            }
        }
    }
}

/// What a status says. Without a kind it comes from the connection, not from a node.
pub(crate) fn failed(effect: Effect, status: &Status) -> Failure {
    let error = error_from_status(status);
    if status.metadata().contains_key(KIND_METADATA) || error.kind() == ErrorKind::Invalid {
        return error.into();
    }
    let kind = match (effect, error.kind()) {
        (Effect::Writes, _) => ErrorKind::OutcomeUnknown,
        (Effect::Reads, ErrorKind::OutcomeUnknown | ErrorKind::Io) => ErrorKind::Unavailable,
        (Effect::Reads, kind) => kind,
    };
    Error::new(kind, format!("the connection was lost: {}", status.message())).into()
}

/// Reads the files of TLS, and the key.
fn access(settings: &Settings) -> Result<Access, Failure> {
    let path = |part: &Option<Part<PathBuf>>| part.as_ref().map(|part| part.value.clone());
    let files = ClientFiles::from_parts(path(&settings.ca), path(&settings.cert), path(&settings.cert_key))?;
    let tls = files.map(ClientTls::open).transpose()?;
    let key = settings.key.as_ref().map(|part| key(&part.value)).transpose()?;
    Ok(Access { tls, key })
}

fn key(source: &KeySource) -> Result<ApiKey, Failure> {
    let text = match source {
        KeySource::File(path) => {
            let mut text = String::new();
            let read = std::fs::File::open(path).and_then(|file| file.take(KEY_BYTES_READ).read_to_string(&mut text));
            read.map_err(|error| Failure::io(&format!("{} cannot be read", path.display()), error))?;
            text
        }
        KeySource::Variable(name) => std::env::var(name).ok().filter(|text| !text.is_empty()).ok_or_else(|| {
            let error = Error::new(ErrorKind::Config, format!("the API key is to be in {name}, which is not set"));
            Failure::with_advice(error, "Set the variable, or name a file with --api-key-file.")
        })?,
    };
    Ok(text.parse()?)
}

/// Checks that an address is `host:port`.
pub(crate) fn check_address(address: &str) -> Result<(), Failure> {
    endpoint(&Access::default(), address.strip_prefix("https://").unwrap_or(address)).map(drop)
}

fn endpoint(access: &Access, address: &str) -> Result<Endpoint, Failure> {
    let bad = |why: String| {
        let error = Error::invalid(format!("{address:?} is no endpoint{why}"));
        Failure::with_advice(error, "Write host:port, several with commas between them.")
    };
    let port = address.rsplit_once(':').filter(|(host, _)| !host.is_empty() && !host.contains('/'));
    if port.and_then(|(_, port)| port.parse::<u16>().ok()).is_none() {
        return Err(bad(String::new()));
    }
    Ok(access
        .endpoint(address)?
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(false))
}

fn unreachable(faults: &[String]) -> Failure {
    let error = Error::new(ErrorKind::Unavailable, format!("no node can be reached at {}", faults.join(", ")));
    let advice =
        "Start one with `keevod dev` (or a cluster with `keevod demo`), or name one that runs with --endpoints.";
    Failure::with_advice(error, advice)
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use keevo_proto::status_from_error;

    #[test]
    fn only_a_nodes_word_says_that_a_change_was_not_made() {
        let lost = Status::unavailable("broken pipe");
        assert_eq!(failed(Effect::Writes, &lost).kind(), ErrorKind::OutcomeUnknown);
        assert_eq!(failed(Effect::Reads, &lost).kind(), ErrorKind::Unavailable);
        let said = status_from_error(&Error::new(ErrorKind::NoQuorum, "one of three nodes is up"));
        assert_eq!(failed(Effect::Writes, &said).kind(), ErrorKind::NoQuorum);
        assert_eq!(failed(Effect::Writes, &Status::unimplemented("no feeds")).kind(), ErrorKind::Invalid);
    }

    #[test]
    fn endpoints_are_host_and_port() {
        for good in ["127.0.0.1:7101", "localhost:1", "[::1]:7101"] {
            assert!(endpoint(&Access::default(), good).is_ok(), "{good}");
        }
        for bad in ["", "localhost", "http://a:1", ":7101", "a:70000", "a b:1"] {
            assert_eq!(
                endpoint(&Access::default(), bad).map(drop).map_err(|failure| failure.exit_code()),
                Err(2),
                "{bad}"
            );
        }
    }
}
