//! Batches and their results. On the wire a batch names its keyspace and partition once.

use bytes::Bytes;
use keevo_core::{Batch, Check, Error, ErrorKind, Key, Keyspace, Op, Precondition, Result, Revision, Written};

use super::required;
use crate::kv::v1 as pb;

/// Fails with `Invalid` for an empty batch and `CrossPartition` for one that the wire cannot say.
impl TryFrom<Batch> for pb::Batch {
    type Error = Error;

    fn try_from(batch: Batch) -> Result<Self> {
        let first = batch.partition_key().ok_or_else(|| Error::invalid("the batch is empty"))?;
        let (keyspace, partition) = (first.keyspace, first.partition.clone());
        let sort_of = |key: Key| {
            if key.keyspace == keyspace && key.partition == partition {
                return Ok(key.sort);
            }
            Err(Error::new(
                ErrorKind::CrossPartition,
                format!("the batch names partitions {} and {}", partition.escape_ascii(), key.partition.escape_ascii()),
            ))
        };
        let preconditions = batch
            .preconditions
            .into_iter()
            .map(|one| Ok(pb::Precondition { sort: sort_of(one.key)?, check: Some(one.check.into()) }))
            .collect::<Result<Vec<_>>>()?;
        let ops = batch.ops.into_iter().map(|op| op_to_wire(op, sort_of)).collect::<Result<Vec<_>>>()?;
        Ok(Self {
            keyspace: Some(keyspace.into()),
            partition: partition.clone(),
            preconditions,
            ops,
            request: batch.request.map(Into::into),
        })
    }
}

fn op_to_wire(op: Op, sort_of: impl Fn(Key) -> Result<Bytes>) -> Result<pb::Op> {
    let op = match op {
        Op::Put { key, value, ttl_ms } => pb::op::Op::Put(pb::Put { sort: sort_of(key)?, value, ttl_ms }),
        Op::Delete { key } => pb::op::Op::Delete(pb::Delete { sort: sort_of(key)? }),
        Op::DeleteRange { start, end } => pb::op::Op::DeleteRange(pb::DeleteRange { start: sort_of(start)?, end }),
        Op::Merge { key, delta } => pb::op::Op::Merge(pb::Merge { sort: sort_of(key)?, delta }),
        Op::Append { counter, prefix, value, index } => {
            pb::op::Op::Append(pb::Append { counter: sort_of(counter)?, prefix, value, index })
        }
    };
    Ok(pb::Op { op: Some(op) })
}

impl TryFrom<pb::Batch> for Batch {
    type Error = Error;

    fn try_from(wire: pb::Batch) -> Result<Self> {
        let keyspace: Keyspace = required(wire.keyspace, "batch.keyspace")?.try_into()?;
        let partition = wire.partition;
        let key = |sort| keyspace.key(partition.clone(), sort);
        let preconditions = wire
            .preconditions
            .into_iter()
            .map(|one| {
                Ok(Precondition { key: key(one.sort), check: required(one.check, "precondition.check")?.into() })
            })
            .collect::<Result<Vec<_>>>()?;
        let ops = wire
            .ops
            .into_iter()
            .map(|op| Ok(op_from_wire(required(op.op, "op.op")?, key)))
            .collect::<Result<Vec<_>>>()?;
        let request = wire.request.map(TryInto::try_into).transpose()?;
        Ok(Self { preconditions, ops, request })
    }
}

fn op_from_wire(op: pb::op::Op, key: impl Fn(Bytes) -> Key) -> Op {
    match op {
        pb::op::Op::Put(pb::Put { sort, value, ttl_ms }) => Op::Put { key: key(sort), value, ttl_ms },
        pb::op::Op::Delete(pb::Delete { sort }) => Op::Delete { key: key(sort) },
        pb::op::Op::DeleteRange(pb::DeleteRange { start, end }) => Op::DeleteRange { start: key(start), end },
        pb::op::Op::Merge(pb::Merge { sort, delta }) => Op::Merge { key: key(sort), delta },
        pb::op::Op::Append(pb::Append { counter, prefix, value, index }) => {
            Op::Append { counter: key(counter), prefix, value, index }
        }
    }
}

impl From<Check> for pb::precondition::Check {
    fn from(check: Check) -> Self {
        match check {
            Check::Absent => Self::Absent(pb::Absent {}),
            Check::Exists => Self::Exists(pb::Exists {}),
            Check::RevisionIs(revision) => Self::RevisionIs(revision.0),
            Check::ValueIs(value) => Self::ValueIs(value),
        }
    }
}

impl From<pb::precondition::Check> for Check {
    fn from(wire: pb::precondition::Check) -> Self {
        match wire {
            pb::precondition::Check::Absent(_) => Self::Absent,
            pb::precondition::Check::Exists(_) => Self::Exists,
            pb::precondition::Check::RevisionIs(revision) => Self::RevisionIs(Revision(revision)),
            pb::precondition::Check::ValueIs(value) => Self::ValueIs(value),
        }
    }
}

impl From<Written> for pb::WriteResponse {
    fn from(written: Written) -> Self {
        Self { revision: written.revision.0, assigned: written.assigned }
    }
}

impl From<pb::WriteResponse> for Written {
    fn from(wire: pb::WriteResponse) -> Self {
        Self { revision: Revision(wire.revision), assigned: wire.assigned }
    }
}
