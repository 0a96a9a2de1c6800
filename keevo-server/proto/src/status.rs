//! Errors as gRPC statuses and as failures inside a stream.
//!
//! Invariant: the table of `keevo_core::ErrorKind` decides the code; the kind's name travels beside it, so that a
//! client gets back the kind that the server had. A kind that this version does not know is taken by its code.

use keevo_core::{Error, ErrorKind};
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};
use tonic::{Code, Status};

use crate::kv::v1::Failure;

/// The metadata key of the kind's stable name.
pub const KIND_METADATA: &str = "keevo-error-kind";
/// The metadata key of the address of the shard's leader.
pub const LEADER_METADATA: &str = "keevo-leader";

/// The most bytes of a status's message: it travels as a header, where each byte may take three, and peers bound
/// their headers at 16 KiB.
const MESSAGE_TEXT_BYTES_MAX: usize = 2_048;

/// The status that says what `error` says; causes stay behind, and so does what is too long for a header.
pub fn status_from_error(error: &Error) -> Status {
    let row = error.kind().row();
    let mut metadata = MetadataMap::new();
    metadata.insert(KIND_METADATA, MetadataValue::from_static(row.name));
    if let Some(leader) = error.leader().and_then(|leader| MetadataValue::<Ascii>::try_from(leader).ok()) {
        metadata.insert(LEADER_METADATA, leader);
    }
    Status::with_metadata(Code::from_i32(row.grpc_code), shortened(error.message()), metadata)
}

fn shortened(message: &str) -> String {
    if message.len() <= MESSAGE_TEXT_BYTES_MAX {
        return message.to_owned();
    }
    let kept = message.split_at(message.floor_char_boundary(MESSAGE_TEXT_BYTES_MAX)).0;
    format!("{kept}…")
}

/// The error that a status says.
pub fn error_from_status(status: &Status) -> Error {
    let text = |key| status.metadata().get(key).and_then(|value| value.to_str().ok());
    let kind =
        text(KIND_METADATA).and_then(ErrorKind::from_name).unwrap_or_else(|| kind_from_code(i32::from(status.code())));
    let error = Error::new(kind, status.message());
    match text(LEADER_METADATA) {
        Some(leader) if !leader.is_empty() => error.with_leader(leader),
        _ => error,
    }
}

/// The kind closest to a gRPC code, for statuses that name no kind or one of a newer version. An unknown failed
/// precondition is not retried, so it counts as `Invalid`; a lost answer as `OutcomeUnknown`.
pub fn kind_from_code(code: i32) -> ErrorKind {
    match Code::from_i32(code) {
        Code::InvalidArgument | Code::FailedPrecondition | Code::Unimplemented => ErrorKind::Invalid,
        Code::DeadlineExceeded => ErrorKind::DeadlineExceeded,
        Code::NotFound => ErrorKind::NotFound,
        Code::AlreadyExists | Code::Aborted => ErrorKind::Conflict,
        Code::PermissionDenied => ErrorKind::PermissionDenied,
        Code::Unauthenticated => ErrorKind::Unauthenticated,
        Code::ResourceExhausted => ErrorKind::ResourceExhausted,
        Code::OutOfRange => ErrorKind::CursorCompacted,
        Code::Unavailable => ErrorKind::Unavailable,
        Code::DataLoss => ErrorKind::Corrupt,
        Code::Internal | Code::Ok => ErrorKind::Io,
        Code::Unknown | Code::Cancelled => ErrorKind::OutcomeUnknown,
    }
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        let row = error.kind().row();
        Self {
            kind: row.name.to_owned(),
            grpc_code: row.grpc_code,
            message: error.message().to_owned(),
            leader: error.leader().unwrap_or_default().to_owned(),
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        let kind = ErrorKind::from_name(&failure.kind).unwrap_or_else(|| kind_from_code(failure.grpc_code));
        let error = Self::new(kind, failure.message);
        if failure.leader.is_empty() { error } else { error.with_leader(failure.leader) }
    }
}

#[cfg(test)]
mod tests;
