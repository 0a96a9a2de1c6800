//! Fan-out: one payload to many partitions, as the engine's own operation.
//!
//! The payload and a compact list of partitions are replicated as ONE log entry per shard and
//! expanded to one put each only when it is applied: log, network and fsync carry the payload once.
//!
//! A fan-out is atomic within a shard, not across shards. It needs no request id: it is repeatable
//! by key. What keeps a late repeat from doing harm are the guard (a target that has unfollowed
//! since is skipped) and the tombstone that a removal leaves.

use bytes::Bytes;

use crate::batch::{validate_ttl, validate_value};
use crate::error::{Error, ErrorKind, Result};
use crate::ids::Revision;
use crate::key::{Keyspace, validate_partition, validate_sort};
use crate::limits::{FAN_OUT_EXPANDED_BYTES_MAX, FAN_OUT_TARGETS_MAX};

/// One partition that a fan-out reaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The partition, in the fan-out's keyspace.
    pub partition: Bytes,
    /// With [`FanOut::guard_sort`]: the target is skipped unless the record there was last written
    /// at this revision. `None` = no guard for this target.
    pub guard: Option<Revision>,
}

/// What a fan-out does in each target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FanOutAction {
    /// Stores the value, unless a live tombstone lies there.
    Put {
        /// What.
        value: Bytes,
        /// Milliseconds until it expires; `None` = never.
        ttl_ms: Option<u64>,
    },
    /// Removes the record and leaves a tombstone, which later fan-out puts respect until it expires. Deletes leave it
    /// alone; an ordinary put, and a range delete over it, end it.
    Remove {
        /// How long the tombstone lives, in milliseconds.
        tombstone_ttl_ms: u64,
    },
}

/// One payload to many partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FanOut {
    /// The keyspace of all targets.
    pub keyspace: Keyspace,
    /// The sort key that is written in every target.
    pub sort: Bytes,
    /// What to do there.
    pub action: FanOutAction,
    /// The sort key, in each target, of the record that guards it.
    pub guard_sort: Option<Bytes>,
    /// The targets. An order is kept; a partition named twice is written twice, to the same effect.
    pub targets: Vec<Target>,
}

impl FanOut {
    /// Checks the limits. Every engine calls it first.
    pub fn validate(&self) -> Result<()> {
        if self.targets.is_empty() {
            return Err(Error::invalid("the fan-out has no targets"));
        }
        if self.targets.len() > FAN_OUT_TARGETS_MAX {
            return Err(Error::new(
                ErrorKind::BatchTooLarge,
                format!("the fan-out has {} targets, more than {FAN_OUT_TARGETS_MAX}", self.targets.len()),
            ));
        }
        validate_sort(&self.sort)?;
        self.guard_sort.as_ref().map_or(Ok(()), |sort| validate_sort(sort))?;
        match &self.action {
            FanOutAction::Put { value, ttl_ms } => {
                validate_value(value)?;
                validate_ttl(*ttl_ms)?;
            }
            FanOutAction::Remove { tombstone_ttl_ms } => validate_ttl(Some(*tombstone_ttl_ms))?,
        }
        for target in &self.targets {
            validate_partition(self.keyspace, &target.partition)?;
            if target.guard.is_some() && self.guard_sort.is_none() {
                return Err(Error::invalid("a target has a guard, but the fan-out names no guard_sort"));
            }
        }
        let expanded = self.expanded_bytes();
        if expanded > FAN_OUT_EXPANDED_BYTES_MAX {
            return Err(Error::new(
                ErrorKind::BatchTooLarge,
                format!("the fan-out expands to {expanded} bytes, more than {FAN_OUT_EXPANDED_BYTES_MAX}"),
            ));
        }
        Ok(())
    }

    /// The bytes of keys and values that it writes when every target takes it.
    pub fn expanded_bytes(&self) -> usize {
        let value_bytes = match &self.action {
            FanOutAction::Put { value, .. } => value.len(),
            FanOutAction::Remove { .. } => 0,
        };
        let each = |target: &Target| target.partition.len() + self.sort.len() + value_bytes;
        self.targets.iter().map(each).fold(0, usize::saturating_add)
    }
}

/// What a fan-out did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FannedOut {
    /// Targets written.
    pub applied: u64,
    /// Targets skipped: their guard did not hold or a tombstone lay there.
    pub skipped: u64,
}
