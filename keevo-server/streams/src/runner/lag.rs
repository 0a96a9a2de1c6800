//! How far sinks are behind, as every node sees it: also while nobody can run them.

use std::collections::BTreeMap;

use keevo_core::Result;

use super::{Inner, locked};

/// Looks at all sinks for ever.
pub(super) async fn measure(inner: &Inner) {
    loop {
        match look(inner).await {
            Ok(lag) => *locked(&inner.lag) = lag,
            Err(error) => tracing::debug!(%error, "how far the sinks are behind cannot be seen"),
        }
        tokio::time::sleep(inner.parts.options.lag_every).await;
    }
}

async fn look(inner: &Inner) -> Result<BTreeMap<String, Vec<(u64, u64)>>> {
    let statuses = inner.parts.sinks.statuses().await?;
    let lag_of = |status: crate::status::SinkStatus| {
        let lag = status.lag.iter().map(|lag| (lag.shard, lag.revisions())).collect();
        (status.sink.name, lag)
    };
    Ok(statuses.into_iter().map(lag_of).collect())
}
