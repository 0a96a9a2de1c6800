//! Who asked for what, and when: the part of a call that the log keeps.
//!
//! ```text
//! envelope   [format u8 = 1][crc32 u32 BE of what follows][protobuf of the fields]
//! ```
//!
//! Invariant: decoding refuses damage with `Corrupt` and a later format with `NewerFormat`; it never guesses. Nothing here
//! holds a secret: tokens and keys are taken out at the door.

use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::{Message, Oneof};

use crate::error::{Error, ErrorKind, Result};
use crate::ids::{ClusterId, ShardId};

const FORMAT: u8 = 1;
/// The most bytes of a request: it lies in one log entry, together with the write.
pub const REQUEST_BYTES_MAX: usize = 4 << 20;
/// The most bytes of a principal that are kept.
pub const PRINCIPAL_BYTES_MAX: usize = 256;

/// The principal of a call whose user was erased.
const ERASED: &str = "erased";

/// Names a call: the node whose door it came through, and when. No node gives a stamp twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct CallId {
    /// The node.
    pub node: u64,
    /// Microseconds since the epoch, by the node's clock; each later than the one before.
    pub stamp_us: u64,
}

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.node, self.stamp_us)
    }
}

/// Which way a call came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CallDoor {
    /// gRPC, a call of its own or a request of a pipe.
    Grpc,
    /// The REST API of feeds.
    FeedsHttp,
    /// The API of chat over HTTP or a WebSocket.
    ChatHttp,
}

impl CallDoor {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::FeedsHttp => "feeds-http",
            Self::ChatHttp => "chat-http",
        }
    }
}

/// What was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallRequest {
    /// What the command of the entry says: a write or a fan-out of keys and values, which need not be kept twice.
    Command,
    /// The message or body.
    Body(Bytes),
}

/// Where a call that is replayed was recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CallOrigin {
    /// The cluster.
    pub cluster: ClusterId,
    /// The shard whose log has it.
    pub shard: ShardId,
    /// Its index there.
    pub index: u64,
}

/// Who asked for what, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// Names the call.
    pub id: CallId,
    /// The time of what the call makes, in microseconds since the epoch; that of the first call where this is a replay.
    pub at_us: u64,
    /// Gives the random numbers of what the call makes.
    pub seed: u64,
    /// The app, where it is of one.
    pub app: Option<u32>,
    /// Which way it came in.
    pub door: CallDoor,
    /// Who asked.
    pub principal: String,
    /// `package.Service/Method`, or an HTTP method, a space, and path and query without secrets.
    pub method: String,
    /// What was asked.
    pub request: CallRequest,
    /// Whether something was taken out of the request.
    pub redacted: bool,
    /// Set where this is a replay.
    pub origin: Option<CallOrigin>,
    /// Whether who asked, and for what, was erased with its user: the request is empty, and cannot be made again.
    pub erased: bool,
}

#[derive(Clone, PartialEq, Message)]
struct EnvelopeMessage {
    #[prost(uint64, tag = "1")]
    node: u64,
    #[prost(fixed64, tag = "2")]
    stamp_us: u64,
    /// Less `stamp_us`, where it is another.
    #[prost(sint64, tag = "3")]
    at_offset_us: i64,
    #[prost(fixed64, tag = "4")]
    seed: u64,
    #[prost(uint32, optional, tag = "5")]
    app: Option<u32>,
    #[prost(uint32, tag = "6")]
    door: u32,
    #[prost(string, tag = "7")]
    principal: String,
    #[prost(string, tag = "8")]
    method: String,
    #[prost(oneof = "RequestMessage", tags = "9, 10")]
    request: Option<RequestMessage>,
    #[prost(bool, tag = "11")]
    redacted: bool,
    #[prost(message, optional, tag = "12")]
    origin: Option<OriginMessage>,
    /// Written in segments of the archive alone, of a version that says so.
    #[prost(bool, tag = "13")]
    erased: bool,
}

#[derive(Clone, PartialEq, Oneof)]
enum RequestMessage {
    #[prost(bool, tag = "9")]
    Command(bool),
    #[prost(bytes = "bytes", tag = "10")]
    Body(Bytes),
}

#[derive(Clone, PartialEq, Message)]
struct OriginMessage {
    #[prost(bytes = "bytes", tag = "1")]
    cluster: Bytes,
    #[prost(uint64, tag = "2")]
    shard: u64,
    #[prost(uint64, tag = "3")]
    index: u64,
}

impl Envelope {
    /// The envelope as bytes.
    pub fn encode(&self) -> Bytes {
        let message = EnvelopeMessage {
            node: self.id.node,
            stamp_us: self.id.stamp_us,
            at_offset_us: self.at_us.cast_signed().wrapping_sub(self.id.stamp_us.cast_signed()),
            seed: self.seed,
            app: self.app,
            door: match self.door {
                CallDoor::Grpc => 1,
                CallDoor::FeedsHttp => 2,
                CallDoor::ChatHttp => 3,
            },
            principal: self.principal.clone(),
            method: self.method.clone(),
            request: Some(match &self.request {
                CallRequest::Command => RequestMessage::Command(true),
                CallRequest::Body(body) => RequestMessage::Body(body.clone()),
            }),
            redacted: self.redacted,
            origin: self.origin.map(|origin| OriginMessage {
                cluster: Bytes::copy_from_slice(&origin.cluster.0.to_be_bytes()),
                shard: origin.shard.0,
                index: origin.index,
            }),
            erased: self.erased,
        };
        seal(FORMAT, &message)
    }

    /// What is left of the call when its user is erased: which call it was, when, of which app, and the name of its method.
    #[must_use]
    pub fn erase(self) -> Self {
        // Of HTTP the path names users too.
        let method = match self.door {
            CallDoor::Grpc => self.method,
            CallDoor::FeedsHttp | CallDoor::ChatHttp => {
                self.method.split(' ').next().map(str::to_owned).unwrap_or_default()
            }
        };
        Self {
            seed: 0,
            principal: ERASED.to_owned(),
            method,
            request: CallRequest::Body(Bytes::new()),
            redacted: true,
            erased: true,
            ..self
        }
    }

    /// Decodes an envelope.
    pub fn decode(bytes: &Bytes) -> Result<Self> {
        let message: EnvelopeMessage = open(FORMAT, bytes, "call envelope")?;
        let door = match message.door {
            1 => CallDoor::Grpc,
            2 => CallDoor::FeedsHttp,
            3 => CallDoor::ChatHttp,
            door => return Err(Error::new(ErrorKind::NewerFormat, format!("a call came through unknown door {door}"))),
        };
        let request = match message.request {
            Some(RequestMessage::Command(_)) => CallRequest::Command,
            Some(RequestMessage::Body(body)) => CallRequest::Body(body),
            None => return Err(Error::new(ErrorKind::NewerFormat, "a call has a request of an unknown kind")),
        };
        Ok(Self {
            id: CallId { node: message.node, stamp_us: message.stamp_us },
            at_us: message.stamp_us.wrapping_add_signed(message.at_offset_us),
            seed: message.seed,
            app: message.app,
            door,
            principal: message.principal,
            method: message.method,
            request,
            redacted: message.redacted,
            origin: message.origin.as_ref().map(origin_of).transpose()?,
            erased: message.erased,
        })
    }
}

fn origin_of(message: &OriginMessage) -> Result<CallOrigin> {
    let cluster = <[u8; 16]>::try_from(message.cluster.as_ref())
        .map_err(|error| Error::corrupt("the origin of a call names no cluster").with_source(error))?;
    let cluster = ClusterId(u128::from_be_bytes(cluster));
    Ok(CallOrigin { cluster, shard: ShardId(message.shard), index: message.index })
}

/// A format byte, the CRC-32 of the message, the message.
pub(super) fn seal(format: u8, message: &impl Message) -> Bytes {
    let mut out = BytesMut::with_capacity(5 + message.encoded_len());
    out.put_u8(format);
    out.put_u32(0);
    message.encode(&mut out).expect("the buffer grows as needed");
    let crc = crc32fast::hash(out.get(5..).unwrap_or_default());
    if let Some(field) = out.get_mut(1..5) {
        field.copy_from_slice(&crc.to_be_bytes());
    }
    out.freeze()
}

/// What [`seal`] closed.
pub(super) fn open<M: Message + Default>(format: u8, bytes: &Bytes, what: &str) -> Result<M> {
    let mut rest = bytes.clone();
    if rest.len() < 5 {
        return Err(Error::corrupt(format!("a {what} has {} bytes, less than its head", rest.len())));
    }
    let found = rest.get_u8();
    if found != format {
        let kind = if found > format { ErrorKind::NewerFormat } else { ErrorKind::Corrupt };
        return Err(Error::new(kind, format!("a {what} has format {found}; this version reads {format}")));
    }
    let crc = rest.get_u32();
    if crc32fast::hash(&rest) != crc {
        return Err(Error::corrupt(format!("the checksum of a {what} does not match")));
    }
    M::decode(rest).map_err(|error| Error::corrupt(format!("a {what} does not decode")).with_source(error))
}
