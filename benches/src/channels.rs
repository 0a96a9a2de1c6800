//! Connections for unary gRPC calls, the same for every system that is compared.

use std::time::Duration;

use keevo_core::{Error, ErrorKind, Result};
use tonic::transport::{Channel, Endpoint};

/// How long a call may take; as long as a call of keevo-client.
const CALL_WITHIN: Duration = Duration::from_secs(5);
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// Opens `count` connections to `address` (`host:port`). `Unavailable`: nobody accepts them.
pub(crate) async fn connect(address: &str, count: usize) -> Result<Vec<Channel>> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|error| Error::invalid(format!("{address} is no host:port")).with_source(error))?
        .connect_timeout(CONNECT_WITHIN)
        .timeout(CALL_WITHIN)
        .tcp_nodelay(true);
    let mut channels = Vec::new();
    for _ in 0..count {
        let channel = endpoint.connect().await.map_err(|error| {
            Error::new(ErrorKind::Unavailable, format!("{address} cannot be reached")).with_source(error)
        })?;
        channels.push(channel);
    }
    Ok(channels)
}
