//! Log entries as bytes.
//!
//! Invariant: `decode_entry(encode_entry(entry))` is the entry, whatever it holds.

use bytes::Bytes;

use super::messages::{
    ActionMessage, AppendMessage, ArchivedMessage, CheckMessage, ClientMessage, CommandMessage, EntryMessage,
    FanOutMessage, FencedRestoreMessage, OpKindMessage, OpMessage, PlaceMessage, PreconditionMessage, PutMessage,
    RequestMessage, RestoreMessage, RestoredRowMessage, TargetMessage, Unit, WriteMessage,
};
use super::{VERSION, decode_message, encode_message, keyspace_of, newer};
use crate::batch::{Batch, Check, Op, Precondition};
use crate::command::{Command, Entry, Hlc};
use crate::error::{Error, Result};
use crate::fan_out::{FanOut, FanOutAction, Target};
use crate::ids::{ClientId, RequestId, Revision};
use crate::key::{Key, Keyspace};
use crate::restore::{Archived, Restore, RestoreFence};

pub(crate) fn encode_entry(entry: &Entry) -> Bytes {
    let command = match &entry.command {
        Command::Write(batch) => CommandMessage::Write(write_message(batch)),
        Command::FanOut(fan_out) => CommandMessage::FanOut(fan_out_message(fan_out)),
        Command::OpenSession(client) => CommandMessage::OpenSession((*client).into()),
        Command::Checksum => CommandMessage::Checksum(Unit {}),
        Command::MoveClock => CommandMessage::MoveClock(Unit {}),
        Command::Restore(restore) => match restore.fence {
            None => CommandMessage::Restore(restore_message(restore)),
            Some(RestoreFence { restore: number, source, take }) => {
                let restore = Some(restore_message(restore));
                CommandMessage::FencedRestore(FencedRestoreMessage { restore, number, source, take })
            }
        },
        Command::Archived(Archived { from, upto }) => {
            CommandMessage::Archived(ArchivedMessage { from: *from, upto: *upto })
        }
    };
    encode_message(&EntryMessage { hlc: entry.hlc.0, command: Some(command) })
}

/// The clock, which stands first and has a fixed length.
pub(crate) fn peek_hlc(bytes: &[u8]) -> Option<Hlc> {
    /// Field 1, of 64 fixed bits.
    const HLC: u8 = 1 << 3 | 1;
    match bytes {
        [VERSION, HLC, rest @ ..] => rest.first_chunk().map(|clock| Hlc(u64::from_le_bytes(*clock))),
        _ => None,
    }
}

pub(crate) fn decode_entry(bytes: &Bytes) -> Result<Entry> {
    let message: EntryMessage = decode_message(bytes, "log entry")?;
    let command = match message.command.ok_or_else(|| newer("a command"))? {
        CommandMessage::Write(write) => Command::Write(batch_of(write)?),
        CommandMessage::FanOut(fan_out) => Command::FanOut(fan_out_of(fan_out)?),
        CommandMessage::OpenSession(client) => Command::OpenSession(client.into()),
        CommandMessage::Checksum(Unit {}) => Command::Checksum,
        CommandMessage::MoveClock(Unit {}) => Command::MoveClock,
        CommandMessage::Restore(restore) => Command::Restore(restore_of(restore, None)),
        CommandMessage::FencedRestore(FencedRestoreMessage { restore, number, source, take }) => {
            let restore = restore.ok_or_else(|| Error::corrupt("a log entry restores nothing"))?;
            Command::Restore(restore_of(restore, Some(RestoreFence { restore: number, source, take })))
        }
        CommandMessage::Archived(ArchivedMessage { from, upto }) => Command::Archived(Archived { from, upto }),
    };
    Ok(Entry { hlc: Hlc(message.hlc), command })
}

fn restore_message(restore: &Restore) -> RestoreMessage {
    let row = |(key, stored): &(Bytes, Bytes)| RestoredRowMessage { key: key.clone(), stored: stored.clone() };
    RestoreMessage { base: restore.base, rows: restore.rows.iter().map(row).collect() }
}

fn restore_of(RestoreMessage { base, rows }: RestoreMessage, fence: Option<RestoreFence>) -> Restore {
    Restore { base, rows: rows.into_iter().map(|row| (row.key, row.stored)).collect(), fence }
}

impl From<ClientId> for ClientMessage {
    fn from(client: ClientId) -> Self {
        let [high, low] = [client.0 >> 64, client.0 & u128::from(u64::MAX)]
            .map(|half| u64::try_from(half).expect("half of 128 bits is 64 bits"));
        Self { high, low }
    }
}

impl From<ClientMessage> for ClientId {
    fn from(message: ClientMessage) -> Self {
        Self((u128::from(message.high) << 64) | u128::from(message.low))
    }
}

fn place_message(key: &Key) -> PlaceMessage {
    PlaceMessage { keyspace: Some(key.keyspace.into()), partition: key.partition.clone() }
}

fn elsewhere_message(key: &Key, home: Option<&Key>) -> Option<PlaceMessage> {
    (!home.is_some_and(|home| home.same_partition(key))).then(|| place_message(key))
}

/// The partition that keys without an `elsewhere` lie in.
type Home = Option<(Keyspace, Bytes)>;

fn home_of(place: Option<PlaceMessage>) -> Result<Home> {
    place.map(|place| Ok((keyspace_of(place.keyspace)?, place.partition))).transpose()
}

fn key_of(sort: Bytes, elsewhere: Option<PlaceMessage>, home: &Home) -> Result<Key> {
    let (keyspace, partition) = home_of(elsewhere)?
        .or_else(|| home.clone())
        .ok_or_else(|| Error::corrupt("a log entry holds a key without a partition"))?;
    Ok(Key { keyspace, partition, sort })
}

fn write_message(batch: &Batch) -> WriteMessage {
    let home = batch.partition_key();
    WriteMessage {
        place: home.map(place_message),
        preconditions: batch.preconditions.iter().map(|one| precondition_message(one, home)).collect(),
        ops: batch.ops.iter().map(|op| op_message(op, home)).collect(),
        request: batch.request.map(|request| RequestMessage {
            client: Some(request.client.into()),
            sequence: request.sequence,
            acked_below: request.acked_below,
        }),
    }
}

fn batch_of(message: WriteMessage) -> Result<Batch> {
    let home = home_of(message.place)?;
    let request = message.request.map(|request| {
        let client = request.client.ok_or_else(|| Error::corrupt("a request names no client"))?;
        Ok(RequestId { client: client.into(), sequence: request.sequence, acked_below: request.acked_below })
    });
    Ok(Batch {
        preconditions: message
            .preconditions
            .into_iter()
            .map(|one| precondition_of(one, &home))
            .collect::<Result<_>>()?,
        ops: message.ops.into_iter().map(|op| op_of(op, &home)).collect::<Result<_>>()?,
        request: request.transpose()?,
    })
}

fn precondition_message(precondition: &Precondition, home: Option<&Key>) -> PreconditionMessage {
    let check = match &precondition.check {
        Check::Absent => CheckMessage::Absent(Unit {}),
        Check::Exists => CheckMessage::Exists(Unit {}),
        Check::RevisionIs(revision) => CheckMessage::RevisionIs(revision.0),
        Check::ValueIs(value) => CheckMessage::ValueIs(value.clone()),
    };
    PreconditionMessage {
        sort: precondition.key.sort.clone(),
        elsewhere: elsewhere_message(&precondition.key, home),
        check: Some(check),
    }
}

fn precondition_of(message: PreconditionMessage, home: &Home) -> Result<Precondition> {
    let check = match message.check.ok_or_else(|| newer("a precondition"))? {
        CheckMessage::Absent(Unit {}) => Check::Absent,
        CheckMessage::Exists(Unit {}) => Check::Exists,
        CheckMessage::RevisionIs(revision) => Check::RevisionIs(Revision(revision)),
        CheckMessage::ValueIs(value) => Check::ValueIs(value),
    };
    Ok(Precondition { key: key_of(message.sort, message.elsewhere, home)?, check })
}

fn op_message(op: &Op, home: Option<&Key>) -> OpMessage {
    let kind = match op {
        Op::Put { value, ttl_ms, .. } => OpKindMessage::Put(PutMessage { value: value.clone(), ttl_ms: *ttl_ms }),
        Op::Delete { .. } => OpKindMessage::Delete(Unit {}),
        Op::DeleteRange { end, .. } => OpKindMessage::DeleteRange(end.clone()),
        Op::Merge { delta, .. } => OpKindMessage::Merge(*delta),
        Op::Append { prefix, value, index, .. } => {
            OpKindMessage::Append(AppendMessage { prefix: prefix.clone(), value: value.clone(), index: index.clone() })
        }
    };
    OpMessage { sort: op.key().sort.clone(), elsewhere: elsewhere_message(op.key(), home), kind: Some(kind) }
}

fn op_of(message: OpMessage, home: &Home) -> Result<Op> {
    let key = key_of(message.sort, message.elsewhere, home)?;
    Ok(match message.kind.ok_or_else(|| newer("an operation"))? {
        OpKindMessage::Put(PutMessage { value, ttl_ms }) => Op::Put { key, value, ttl_ms },
        OpKindMessage::Delete(Unit {}) => Op::Delete { key },
        OpKindMessage::DeleteRange(end) => Op::DeleteRange { start: key, end },
        OpKindMessage::Merge(delta) => Op::Merge { key, delta },
        OpKindMessage::Append(AppendMessage { prefix, value, index }) => {
            Op::Append { counter: key, prefix, value, index }
        }
    })
}

fn fan_out_message(fan_out: &FanOut) -> FanOutMessage {
    let action = match &fan_out.action {
        FanOutAction::Put { value, ttl_ms } => ActionMessage::Put(PutMessage { value: value.clone(), ttl_ms: *ttl_ms }),
        FanOutAction::Remove { tombstone_ttl_ms } => ActionMessage::Remove(*tombstone_ttl_ms),
    };
    let targets = fan_out.targets.iter().map(|target| TargetMessage {
        partition: target.partition.clone(),
        guard: target.guard.map(|revision| revision.0),
    });
    FanOutMessage {
        keyspace: Some(fan_out.keyspace.into()),
        sort: fan_out.sort.clone(),
        guard_sort: fan_out.guard_sort.clone(),
        action: Some(action),
        targets: targets.collect(),
    }
}

fn fan_out_of(message: FanOutMessage) -> Result<FanOut> {
    let action = match message.action.ok_or_else(|| newer("a fan-out"))? {
        ActionMessage::Put(PutMessage { value, ttl_ms }) => FanOutAction::Put { value, ttl_ms },
        ActionMessage::Remove(tombstone_ttl_ms) => FanOutAction::Remove { tombstone_ttl_ms },
    };
    let targets = message
        .targets
        .into_iter()
        .map(|target| Target { partition: target.partition, guard: target.guard.map(Revision) });
    Ok(FanOut {
        keyspace: keyspace_of(message.keyspace)?,
        sort: message.sort,
        action,
        guard_sort: message.guard_sort,
        targets: targets.collect(),
    })
}
