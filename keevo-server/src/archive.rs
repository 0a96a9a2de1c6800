//! The node's part in the archive of the log.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use keevo_archive::{Encrypted, KeyRing, ObjectStorage, Shipper, ShipperOptions, Shipping, Storage};
use keevo_core::Result;
use keevo_raft::Node;
use tokio_util::sync::CancellationToken;

use crate::config::ArchiveConfig;

/// The storage at an address, encrypted where there are keys. `Config` where there can be none, or the keys cannot be read.
pub(crate) fn open_storage(config: &ArchiveConfig, url: &str) -> Result<Arc<dyn Storage>> {
    let storage: Arc<dyn Storage> = Arc::new(ObjectStorage::open(url)?);
    Ok(match &config.key_file {
        Some(path) => Arc::new(Encrypted::new(storage, KeyRing::open("archive_key_file", path)?)),
        None => storage,
    })
}

/// Ships the logs of the shards that a node leads; does nothing where no archive is configured.
#[derive(Debug)]
pub struct Archiving {
    shipper: Option<Shipper>,
    shipping: Option<Arc<Shipping>>,
}

/// What is known of the archive at a node, for its metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ArchiveMetrics {
    /// Segments written since the start.
    pub segments: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Rounds of a shard that failed.
    pub failures: u64,
    /// Times that entries were gone before they were archived.
    pub gaps: u64,
}

impl Archiving {
    /// Opens the archive of the configuration. `Config` where there can be none at its address.
    pub fn open(config: &ArchiveConfig, node: &Node) -> Result<Self> {
        let Some(url) = &config.url else { return Ok(Self { shipper: None, shipping: None }) };
        let storage = open_storage(config, url)?;
        let options = ShipperOptions { every: config.every, ..ShipperOptions::default() };
        let shipper = Shipper::new(Arc::new(node.clone()), storage, options);
        Ok(Self { shipping: Some(shipper.shipping()), shipper: Some(shipper) })
    }

    /// What its metrics are read from, at any time.
    pub fn meter(&self) -> impl Fn() -> Option<ArchiveMetrics> + Send + Sync + use<> {
        let shipping = self.shipping.clone();
        move || {
            shipping.as_ref().map(|shipping| ArchiveMetrics {
                segments: shipping.segments.load(Ordering::Relaxed),
                bytes: shipping.bytes.load(Ordering::Relaxed),
                failures: shipping.failures.load(Ordering::Relaxed),
                gaps: shipping.gaps.load(Ordering::Relaxed),
            })
        }
    }

    /// Ships until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        if let Some(shipper) = self.shipper {
            shipper.run(stop).await;
        }
    }
}
