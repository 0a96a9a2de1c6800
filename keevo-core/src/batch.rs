//! Batches: atomic writes within one partition.

use bytes::Bytes;

use crate::error::{Error, ErrorKind, Result};
use crate::ids::{RequestId, Revision};
use crate::key::{Key, validate_sort};
use crate::limits::{BATCH_BYTES_MAX, BATCH_OPS_MAX, TTL_MS_MAX, VALUE_BYTES_MAX};

/// One operation of a batch. Operations apply in order; later ones see earlier ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Stores a value, replacing what was there.
    Put {
        /// Where.
        key: Key,
        /// What.
        value: Bytes,
        /// Milliseconds until it expires, by the shard's clock; `None` = never.
        ttl_ms: Option<u64>,
    },
    /// Removes a key; removing one that is absent is no error and changes nothing.
    Delete {
        /// Which.
        key: Key,
    },
    /// Removes the keys of the partition with `start.sort <= sort < end`; an empty `end` means the partition's end.
    DeleteRange {
        /// The partition and the first sort key.
        start: Key,
        /// The sort key after the last.
        end: Bytes,
    },
    /// Adds to a signed 64-bit integer, stored as 8 bytes big-endian; absent counts as 0.
    /// A value of another length, or an overflow, is a `Conflict`. The new value is returned in
    /// [`Written::assigned`]. An existing expiry is kept.
    Merge {
        /// Which.
        key: Key,
        /// What to add.
        delta: i64,
    },
    /// Adds one to the integer at `counter` and stores `value` at `counter.partition`,
    /// `prefix ++ new number (u64 BE)`: a gapless sequence, assigned where the write is ordered. With
    /// `index`, the number (8 bytes BE) is stored there too. The number is returned in [`Written::assigned`].
    Append {
        /// The counter.
        counter: Key,
        /// What the sort keys of the sequence start with.
        prefix: Bytes,
        /// What to store.
        value: Bytes,
        /// A sort key that is to hold the assigned number.
        index: Option<Bytes>,
    },
}

impl Op {
    /// The key that names the operation's partition.
    pub fn key(&self) -> &Key {
        match self {
            Self::Put { key, .. } | Self::Delete { key } | Self::Merge { key, .. } => key,
            Self::DeleteRange { start, .. } => start,
            Self::Append { counter, .. } => counter,
        }
    }

    fn payload_bytes(&self) -> usize {
        match self {
            Self::Put { value, .. } => value.len(),
            Self::DeleteRange { end, .. } => end.len(),
            Self::Append { value, prefix, index, .. } => {
                value.len() + prefix.len() + 8 + index.as_ref().map_or(0, |index| index.len() + 8)
            }
            Self::Delete { .. } | Self::Merge { .. } => 8,
        }
    }
}

/// What must hold for a batch to be applied; all are checked against the state before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    /// The key is absent (or expired).
    Absent,
    /// The key is present.
    Exists,
    /// The key is present and was last written at this revision.
    RevisionIs(Revision),
    /// The key is present and holds exactly this value.
    ValueIs(Bytes),
}

/// A precondition: a key and what must hold of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Precondition {
    /// The key, in the batch's partition.
    pub key: Key,
    /// What must hold.
    pub check: Check,
}

/// An atomic write within one partition.
///
/// ```
/// # use keevo_core::{Batch, Keyspace, KeyspaceId, KeyspaceKind, ErrorKind};
/// let keyspace = Keyspace { id: KeyspaceId(9), kind: KeyspaceKind::Hashed };
/// let batch = Batch::new().put(keyspace.key("alice", "a"), "1").delete(keyspace.key("alice", "b"));
/// assert!(batch.validate().is_ok());
/// let torn = batch.put(keyspace.key("bob", "a"), "1");
/// assert_eq!(torn.validate().unwrap_err().kind(), ErrorKind::CrossPartition);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// What must hold.
    pub preconditions: Vec<Precondition>,
    /// What to do.
    pub ops: Vec<Op>,
    /// Names the request, so that a retry is applied once. Without it the engine names it itself.
    pub request: Option<RequestId>,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a put.
    #[must_use]
    pub fn put(mut self, key: Key, value: impl Into<Bytes>) -> Self {
        self.ops.push(Op::Put { key, value: value.into(), ttl_ms: None });
        self
    }

    /// Adds a put that expires `ttl_ms` milliseconds after it is applied.
    #[must_use]
    pub fn put_ttl(mut self, key: Key, value: impl Into<Bytes>, ttl_ms: u64) -> Self {
        self.ops.push(Op::Put { key, value: value.into(), ttl_ms: Some(ttl_ms) });
        self
    }

    /// Adds a delete.
    #[must_use]
    pub fn delete(mut self, key: Key) -> Self {
        self.ops.push(Op::Delete { key });
        self
    }

    /// Adds a range delete: from `start` to the sort key `end`, which stays; empty = the partition's end.
    #[must_use]
    pub fn delete_range(mut self, start: Key, end: impl Into<Bytes>) -> Self {
        self.ops.push(Op::DeleteRange { start, end: end.into() });
        self
    }

    /// Adds an integer merge.
    #[must_use]
    pub fn merge(mut self, key: Key, delta: i64) -> Self {
        self.ops.push(Op::Merge { key, delta });
        self
    }

    /// Adds an append to the sequence that `counter` counts.
    #[must_use]
    pub fn append(
        mut self,
        counter: Key,
        prefix: impl Into<Bytes>,
        value: impl Into<Bytes>,
        index: Option<Bytes>,
    ) -> Self {
        self.ops.push(Op::Append { counter, prefix: prefix.into(), value: value.into(), index });
        self
    }

    /// Adds a precondition.
    #[must_use]
    pub fn require(mut self, key: Key, check: Check) -> Self {
        self.preconditions.push(Precondition { key, check });
        self
    }

    /// Names the request.
    #[must_use]
    pub fn with_request(mut self, request: RequestId) -> Self {
        self.request = Some(request);
        self
    }

    /// A key of the batch's partition; `None` for an empty batch.
    pub fn partition_key(&self) -> Option<&Key> {
        self.ops.first().map(Op::key).or_else(|| self.preconditions.first().map(|first| &first.key))
    }

    /// Checks the limits and that all keys lie in one partition. Every engine calls it first.
    pub fn validate(&self) -> Result<()> {
        let Some(first) = self.partition_key() else {
            return Err(Error::invalid("the batch is empty"));
        };
        first.validate()?;
        let count = self.ops.len() + self.preconditions.len();
        if count > BATCH_OPS_MAX {
            return Err(Error::new(
                ErrorKind::BatchTooLarge,
                format!("the batch has {count} operations and preconditions, more than {BATCH_OPS_MAX}"),
            ));
        }
        let mut bytes = 0;
        for key in self.ops.iter().map(Op::key).chain(self.preconditions.iter().map(|one| &one.key)) {
            if !key.same_partition(first) {
                return Err(across(first, key));
            }
            validate_sort(&key.sort)?;
            bytes += key.partition.len() + key.sort.len();
        }
        for op in &self.ops {
            validate_op(op)?;
            bytes += op.payload_bytes();
        }
        if bytes > BATCH_BYTES_MAX {
            return Err(Error::new(
                ErrorKind::BatchTooLarge,
                format!("the batch has {bytes} bytes, more than {BATCH_BYTES_MAX}"),
            ));
        }
        validate_request(self.request.as_ref())
    }
}

fn across(first: &Key, other: &Key) -> Error {
    let message = if first.keyspace == other.keyspace {
        format!("the batch names partitions {} and {}", first.partition.escape_ascii(), other.partition.escape_ascii())
    } else {
        format!("the batch names keyspaces {} and {}", first.keyspace.id, other.keyspace.id)
    };
    Error::new(ErrorKind::CrossPartition, message)
}

fn validate_op(op: &Op) -> Result<()> {
    match op {
        Op::Put { value, ttl_ms, .. } => {
            validate_value(value)?;
            validate_ttl(*ttl_ms)
        }
        Op::DeleteRange { end, .. } => validate_sort(end),
        Op::Append { value, prefix, index, .. } => {
            validate_value(value)?;
            let widest = [prefix.as_ref(), &[0; 8]].concat();
            validate_sort(&widest)?;
            index.as_ref().map_or(Ok(()), |index| validate_sort(index))
        }
        Op::Delete { .. } | Op::Merge { .. } => Ok(()),
    }
}

/// Refuses a value over the limit.
pub fn validate_value(value: &[u8]) -> Result<()> {
    if value.len() > VALUE_BYTES_MAX {
        return Err(Error::new(
            ErrorKind::BatchTooLarge,
            format!("the value has {} bytes, more than {VALUE_BYTES_MAX}", value.len()),
        ));
    }
    Ok(())
}

/// Refuses a time to live of zero or beyond the limit.
pub fn validate_ttl(ttl_ms: Option<u64>) -> Result<()> {
    match ttl_ms {
        Some(ttl_ms) if ttl_ms == 0 || ttl_ms > TTL_MS_MAX => {
            Err(Error::invalid(format!("a time to live is 1 to {TTL_MS_MAX} ms, not {ttl_ms}")))
        }
        _ => Ok(()),
    }
}

fn validate_request(request: Option<&RequestId>) -> Result<()> {
    match request {
        Some(request) if request.acked_below > request.sequence => Err(Error::invalid(format!(
            "request {} claims that everything below {} is answered",
            request.sequence, request.acked_below
        ))),
        _ => Ok(()),
    }
}

/// What a batch did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The revision of the write: that of every record it stored.
    pub revision: Revision,
    /// The results of the merges and appends, in the order of their operations.
    pub assigned: Vec<i64>,
}
