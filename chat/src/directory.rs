//! The directory of channels: the names of all channels of an app, spread over a few partitions.
//!
//! Invariant: whatever channel exists is in the directory, since the entry is written first. An entry without a channel is
//! passed over by who reads it.

use bytes::Bytes;
use keevo_core::{Batch, Engine, Key, Result, Scan, ScanRange, prefix_end};

use crate::chat::Chat;
use crate::ids::ChannelId;
use crate::keys::{self, CHANNEL_BUCKETS};
use crate::member::{behind, validate_limit};

impl<E: Engine> Chat<E> {
    /// Up to `limit` channels of the app, of a type or of all, those after `after`, in a fixed order that is not that of
    /// their names. One that is just being created may be named before it exists. Channels from before there was this list
    /// are not on it.
    pub async fn all_channels(
        &self,
        kind: Option<&str>,
        after: Option<&ChannelId>,
        limit: usize,
    ) -> Result<Vec<ChannelId>> {
        validate_limit(limit)?;
        let first = after.map_or(0, keys::channel_bucket_of);
        let mut after = after.cloned();
        let mut found = Vec::new();
        for bucket in first..CHANNEL_BUCKETS {
            let left = limit - found.len();
            found.extend(self.directory_page(bucket, kind, after.take().as_ref(), left).await?);
            if found.len() == limit {
                break;
            }
        }
        Ok(found)
    }

    /// Up to `limit` channels of one bucket by name, those after `after`.
    pub(crate) async fn directory_page(
        &self,
        bucket: u16,
        kind: Option<&str>,
        after: Option<&ChannelId>,
        limit: usize,
    ) -> Result<Vec<ChannelId>> {
        let (keyspace, partition) = (self.keyspace().await?, keys::channel_bucket(self.app, bucket));
        let prefix = kind.map_or_else(Bytes::new, |kind| Bytes::from(format!("{kind}:")));
        let mut scan = Scan::prefix(keyspace, partition.clone(), prefix.clone(), limit);
        if let Some(after) = after {
            let start = behind(&Bytes::copy_from_slice(after.as_str().as_bytes())).max(prefix.clone());
            scan.range = ScanRange::Partition { keyspace, partition, start, end: prefix_end(&prefix) };
        }
        let entries = self.first(scan, limit).await?;
        entries.iter().map(|(key, _)| keys::parse_directory(&key.sort)).collect()
    }

    /// Puts a channel into the directory.
    pub(crate) async fn list_channel(&self, channel: &ChannelId) -> Result<()> {
        let entry = self.directory_entry(channel).await?;
        self.engine.write(Batch::new().put(entry, Bytes::new())).await.map(drop)
    }

    /// Takes a channel out of the directory.
    pub(crate) async fn unlist_channel(&self, channel: &ChannelId) -> Result<()> {
        let entry = self.directory_entry(channel).await?;
        self.engine.write(Batch::new().delete(entry)).await.map(drop)
    }

    async fn directory_entry(&self, channel: &ChannelId) -> Result<Key> {
        let partition = keys::channel_bucket(self.app, keys::channel_bucket_of(channel));
        Ok(self.keyspace().await?.key(partition, Bytes::copy_from_slice(channel.as_str().as_bytes())))
    }
}
