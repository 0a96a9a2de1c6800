//! The one error type of the engine.
//!
//! Kinds are chosen by what the caller can do about them. Each kind has one row in [`TABLE`]: its
//! stable name, its gRPC and HTTP codes, the exit code of `keevo-cli`, and one sentence of advice.
//! Servers and clients translate through that table only, so a kind means the same everywhere.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use crate::ids::ClientId;

/// How the message of [`Error::session_not_open`] begins: only kind and message cross the network.
const SESSION_NOT_OPEN: &str = "the session is not open here, or has expired: client ";
/// How the message of [`Error::request_forgotten`] begins.
const REQUEST_FORGOTTEN: &str = "the session keeps no answer so far back: ";

/// The result of every fallible call of the engine.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, by what the caller can do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An argument is malformed in a way that no other kind names.
    Invalid,
    /// A partition or sort key is empty where it may not be, or too long.
    KeySize,
    /// A value, a batch or a fan-out exceeds its limit in bytes or operations.
    BatchTooLarge,
    /// A batch names more than one partition.
    CrossPartition,
    /// The keyspace does not exist.
    UnknownKeyspace,
    /// The configuration is wrong: an unknown key, a bad value, a missing file.
    Config,
    /// A listening address is taken.
    AddressInUse,
    /// A data folder or a peer belongs to another cluster, or half of a folder is missing.
    WrongCluster,
    /// Data was written by a newer version of Keevo.
    NewerFormat,
    /// A precondition failed: nothing was written.
    Conflict,
    /// The thing that was asked for does not exist.
    NotFound,
    /// This replica does not lead the shard; the hint may name the one that does.
    NotLeader,
    /// The shard no longer owns the key: fetch the shard map again.
    ShardMoved,
    /// A node cannot be reached or is starting; the request was not applied.
    Unavailable,
    /// Too few replicas of the shard are alive to agree; the request was not applied.
    NoQuorum,
    /// The deadline passed before a read was answered.
    DeadlineExceeded,
    /// The write may or may not have been applied.
    OutcomeUnknown,
    /// Stored or received bytes fail their checksum or do not decode.
    Corrupt,
    /// A quota, a queue or the disk is full.
    ResourceExhausted,
    /// The watch cursor lies before the retained changes.
    CursorCompacted,
    /// The read view behind a scan has ended.
    ScanExpired,
    /// The caller is not known.
    Unauthenticated,
    /// The caller may not do this.
    PermissionDenied,
    /// The disk or the operating system failed; the store has stopped.
    Io,
    /// The engine is shut down.
    Closed,
}

/// One row of [`TABLE`]: how a kind is spelled and what to do about it.
#[derive(Debug, Clone, Copy)]
pub struct ErrorRow {
    /// The kind.
    pub kind: ErrorKind,
    /// Its stable name on the wire and in logs.
    pub name: &'static str,
    /// The gRPC status code (number as in the gRPC specification).
    pub grpc_code: i32,
    /// The HTTP status code.
    pub http_status: u16,
    /// The exit code of `keevo-cli`.
    pub exit_code: u8,
    /// One sentence: what to do.
    pub advice: &'static str,
}

const fn row(
    kind: ErrorKind,
    name: &'static str,
    grpc_code: i32,
    http_status: u16,
    exit_code: u8,
    advice: &'static str,
) -> ErrorRow {
    ErrorRow { kind, name, grpc_code, http_status, exit_code, advice }
}

/// Every kind, in the order of [`ErrorKind`].
pub const TABLE: &[ErrorRow] = &[
    row(ErrorKind::Invalid, "INVALID", 3, 400, 2, "Correct the argument and send the request again."),
    row(
        ErrorKind::KeySize,
        "KEY_SIZE",
        3,
        400,
        2,
        "Use a partition of 1 to 512 bytes and a sort key of at most 2,048 bytes.",
    ),
    row(ErrorKind::BatchTooLarge, "BATCH_TOO_LARGE", 3, 413, 2, "Split the request into several smaller ones."),
    row(
        ErrorKind::CrossPartition,
        "CROSS_PARTITION",
        3,
        400,
        2,
        "Send one batch per partition: a batch is atomic within one partition only.",
    ),
    row(ErrorKind::UnknownKeyspace, "UNKNOWN_KEYSPACE", 5, 404, 4, "Create the keyspace first, or check its name."),
    row(
        ErrorKind::Config,
        "CONFIG",
        9,
        500,
        2,
        "Correct the setting; `keevod config print --origin` shows where each value comes from.",
    ),
    row(ErrorKind::AddressInUse, "ADDRESS_IN_USE", 9, 500, 1, "Stop the other process, or choose another address."),
    row(
        ErrorKind::WrongCluster,
        "WRONG_CLUSTER",
        9,
        409,
        1,
        "Point the node at its own data folder, or at an empty one to join anew; point a client at the cluster it means.",
    ),
    row(
        ErrorKind::NewerFormat,
        "NEWER_FORMAT",
        9,
        409,
        1,
        "Start a version of Keevo at least as new as the one that wrote the data.",
    ),
    row(ErrorKind::Conflict, "CONFLICT", 10, 409, 5, "Read the current state, then decide whether to write again."),
    row(ErrorKind::NotFound, "NOT_FOUND", 5, 404, 4, "Check the name or id."),
    row(
        ErrorKind::NotLeader,
        "NOT_LEADER",
        9,
        421,
        6,
        "Send the request to the shard's leader; the hint names it when it is known.",
    ),
    row(ErrorKind::ShardMoved, "SHARD_MOVED", 9, 421, 6, "Fetch the shard map again and retry."),
    row(ErrorKind::Unavailable, "UNAVAILABLE", 14, 503, 6, "Retry with back-off; the request was not applied."),
    row(
        ErrorKind::NoQuorum,
        "NO_QUORUM",
        14,
        503,
        6,
        "Bring back enough nodes for a majority of the shard's replicas, then retry; the request was not applied.",
    ),
    row(
        ErrorKind::DeadlineExceeded,
        "DEADLINE_EXCEEDED",
        4,
        504,
        7,
        "Retry with a longer deadline, or look for the slow node in `keevo-cli cluster status`.",
    ),
    row(
        ErrorKind::OutcomeUnknown,
        "OUTCOME_UNKNOWN",
        2,
        504,
        7,
        "Read before writing again: the write may have been applied.",
    ),
    row(
        ErrorKind::Corrupt,
        "CORRUPT",
        15,
        500,
        8,
        "Do not trust this copy: restore the node from its peers or a backup.",
    ),
    row(
        ErrorKind::ResourceExhausted,
        "RESOURCE_EXHAUSTED",
        8,
        429,
        9,
        "Free space or slow down, then retry with back-off.",
    ),
    row(
        ErrorKind::CursorCompacted,
        "CURSOR_COMPACTED",
        11,
        410,
        4,
        "Scan the range again and watch from the cursor that the scan returns.",
    ),
    row(ErrorKind::ScanExpired, "SCAN_EXPIRED", 11, 410, 4, "Start the scan again from its last key."),
    row(ErrorKind::Unauthenticated, "UNAUTHENTICATED", 16, 401, 3, "Send a valid key or token."),
    row(
        ErrorKind::PermissionDenied,
        "PERMISSION_DENIED",
        7,
        403,
        3,
        "Ask an administrator for the right, or use another identity.",
    ),
    row(
        ErrorKind::Io,
        "IO",
        13,
        500,
        8,
        "Check the disk and the logs, then restart the node: it stops rather than lose a write.",
    ),
    row(ErrorKind::Closed, "CLOSED", 14, 503, 6, "Open the engine again, or retry against another node."),
];

impl ErrorKind {
    /// The kind's row in [`TABLE`].
    pub fn row(self) -> &'static ErrorRow {
        TABLE.iter().find(|row| row.kind == self).expect("every kind has a row; a test checks it")
    }

    /// The kind with this stable name.
    pub fn from_name(name: &str) -> Option<Self> {
        TABLE.iter().find(|row| row.name == name).map(|row| row.kind)
    }

    /// Whether the same request may succeed later, unchanged, and was certainly not applied.
    pub fn is_retryable(self) -> bool {
        matches!(
            self,
            Self::NotLeader | Self::ShardMoved | Self::Unavailable | Self::NoQuorum | Self::ResourceExhausted
        )
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.row().name)
    }
}

/// An error of the engine: its kind, a message for a person, an optional hint for a machine.
#[derive(Debug, Clone)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    leader: Option<String>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error of `kind` with a message that says what happened, in one sentence without a stop.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), leader: None, source: None }
    }

    /// The same error with its cause.
    #[must_use]
    pub fn with_source(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    /// The same error naming the address of the shard's leader.
    #[must_use]
    pub fn with_leader(mut self, address: impl Into<String>) -> Self {
        self.leader = Some(address.into());
        self
    }

    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What happened.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The address of the shard's leader, where a [`ErrorKind::NotLeader`] knows it.
    pub fn leader(&self) -> Option<&str> {
        self.leader.as_deref()
    }

    /// A shorthand for the commonest kind.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    /// A request whose client's session is not open in the shard. This send was not applied; an earlier one may
    /// have been. A client that never sent the request before opens a session and sends it again.
    pub fn session_not_open(client: ClientId) -> Self {
        Self::new(ErrorKind::OutcomeUnknown, format!("{SESSION_NOT_OPEN}{client}"))
    }

    /// Whether this is [`Error::session_not_open`], also after it crossed the network.
    pub fn is_session_not_open(&self) -> bool {
        self.kind == ErrorKind::OutcomeUnknown && self.message.starts_with(SESSION_NOT_OPEN)
    }

    /// A request whose answer the client's session keeps no more, or never had. Sending it again gives the same.
    pub fn request_forgotten(client: ClientId, sequence: u64) -> Self {
        Self::new(ErrorKind::OutcomeUnknown, format!("{REQUEST_FORGOTTEN}request {sequence} of client {client}"))
    }

    /// Whether this is [`Error::request_forgotten`], also after it crossed the network.
    pub fn is_request_forgotten(&self) -> bool {
        self.kind == ErrorKind::OutcomeUnknown && self.message.starts_with(REQUEST_FORGOTTEN)
    }

    /// Bytes that fail their checksum or do not decode.
    pub fn corrupt(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Corrupt, message)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}. {}", self.kind, self.message.trim_end_matches('.'), self.kind.row().advice)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_complete_and_in_order() {
        assert_eq!(TABLE.len(), ErrorKind::Closed as usize + 1);
        for (position, row) in TABLE.iter().enumerate() {
            assert_eq!(row.kind as usize, position, "{} is out of order", row.name);
            assert_eq!(ErrorKind::from_name(row.name), Some(row.kind));
            assert!(row.advice.ends_with('.'), "{}: advice is a sentence", row.name);
        }
    }

    #[test]
    fn a_session_that_is_not_open_is_told_from_other_unknown_outcomes() {
        let error = Error::session_not_open(ClientId(7));
        assert_eq!(error.kind(), ErrorKind::OutcomeUnknown);
        assert!(Error::new(error.kind(), error.message()).is_session_not_open());
        assert!(!Error::new(ErrorKind::OutcomeUnknown, "the answer was lost").is_session_not_open());
        assert!(!Error::new(ErrorKind::Conflict, error.message()).is_session_not_open());
        let error = Error::request_forgotten(ClientId(7), 3);
        assert!(Error::new(error.kind(), error.message()).is_request_forgotten());
        assert!(!error.is_session_not_open() && !Error::session_not_open(ClientId(7)).is_request_forgotten());
    }

    #[test]
    fn display_says_what_happened_and_what_to_do() {
        let error = Error::new(ErrorKind::Conflict, "key a/b is at revision 7, not 5");
        assert_eq!(
            error.to_string(),
            "CONFLICT: key a/b is at revision 7, not 5. Read the current state, then decide whether to write again."
        );
    }
}
