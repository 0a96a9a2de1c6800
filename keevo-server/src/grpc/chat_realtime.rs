//! `keevo.chat.v1.ChatRealtime` over `keevo-chat-gateway`: the realtime protocol of docs/CHAT-API.md in messages.
//!
//! Whose conversation it is, two metadata say, and the gateway checks; `frames` turns messages into the protocol's frames and back.
//!
//! Invariant: the service decides nothing and keeps nothing: what waits for a slow client waits in the gateway's bounded queue,
//! since a response is asked for only once the connection has room.

mod frames;

use std::fmt;

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use keevo_chat_gateway::{ChatGateway, Closing, Conversation, FRAME_BYTES_MAX};
use keevo_core::{Error, ErrorKind, Result};
use keevo_proto::chat::v1 as pb;
use keevo_proto::chat::v1::chat_realtime_server::{ChatRealtime, ChatRealtimeServer};
use keevo_proto::{MESSAGE_BYTES_MAX, status_from_error};
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Request, Response, Status, Streaming};

/// The metadata that names a key of the user's app.
const KEY_METADATA: &str = "keevo-api-key";
/// The metadata that holds the user's token.
const TOKEN_METADATA: &str = "authorization";
/// The metadata of the end: its code in the protocol.
const CLOSE_METADATA: &str = "keevo-chat-close";
const BEARER: &str = "Bearer ";

/// The realtime service of one node.
pub struct RealtimeService {
    chat: ChatGateway,
}

impl fmt::Debug for RealtimeService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RealtimeService")
    }
}

impl RealtimeService {
    /// The service over the chat API of a node.
    pub fn server(chat: ChatGateway) -> ChatRealtimeServer<Self> {
        ChatRealtimeServer::new(Self { chat })
            .max_decoding_message_size(FRAME_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }
}

/// Who says that it is whom.
#[derive(Clone)]
struct Credentials {
    api_key: String,
    token: String,
}

impl Credentials {
    fn of(metadata: &MetadataMap) -> Result<Self> {
        let text = |name: &str| {
            let value = metadata.get(name).and_then(|value| value.to_str().ok()).filter(|value| !value.is_empty());
            value.ok_or_else(|| {
                let message =
                    format!("the metadata {name} is missing: a key of the app, and a token of the user, are needed");
                Error::new(ErrorKind::Unauthenticated, message)
            })
        };
        let (api_key, token) = (text(KEY_METADATA)?, text(TOKEN_METADATA)?);
        Ok(Self { api_key: api_key.to_owned(), token: token.strip_prefix(BEARER).unwrap_or(token).to_owned() })
    }
}

/// Why a client's side has ended that ended with a status: of the codes, tonic's for a message that is too large, and for one that
/// does not decode. Whoever is gone hears nothing.
fn end_of(status: &Status) -> Closing {
    match status.code() {
        Code::OutOfRange => Closing::TOO_LARGE,
        Code::Internal => Closing::BAD_FRAME,
        _ => Closing::BYE,
    }
}

/// The end of a stream: the closest kind, and the code of the protocol.
fn status_of(closing: Closing) -> Status {
    let kind = match closing.code {
        4001 => ErrorKind::Unauthenticated,
        4003 => ErrorKind::PermissionDenied,
        4005 => ErrorKind::CursorCompacted,
        4008 | 4009 | 4029 => ErrorKind::ResourceExhausted,
        1009 | 4000 | 4004 => ErrorKind::Invalid,
        _ => ErrorKind::Unavailable,
    };
    let mut status = status_from_error(&Error::new(kind, closing.reason));
    status.metadata_mut().insert(CLOSE_METADATA, MetadataValue::from(u64::from(closing.code)));
    status
}

/// What a conversation says, until it is over.
fn responses(conversation: Conversation) -> BoxStream<'static, Result<pb::ConverseResponse, Status>> {
    let batches = stream::unfold(Some(conversation), |conversation| async move {
        let mut conversation = conversation?;
        match conversation.next().await {
            Ok(told) => {
                let told = told.into_iter().map(|frame| frames::told(frame).map_err(|error| status_from_error(&error)));
                Some((told.collect::<Vec<_>>(), Some(conversation)))
            }
            Err(Closing::BYE) => None,
            Err(closing) => Some((vec![Err(status_of(closing))], None)),
        }
    });
    batches.flat_map(stream::iter).boxed()
}

#[tonic::async_trait]
impl ChatRealtime for RealtimeService {
    type ConverseStream = BoxStream<'static, Result<pb::ConverseResponse, Status>>;

    async fn converse(
        &self,
        request: Request<Streaming<pb::ConverseRequest>>,
    ) -> Result<Response<Self::ConverseStream>, Status> {
        let credentials = Credentials::of(request.metadata()).map_err(|error| status_from_error(&error))?;
        let said = request.into_inner().map(move |said| match said {
            Ok(said) => Ok(frames::said(said, &credentials.api_key, &credentials.token)),
            Err(status) => Err(end_of(&status)),
        });
        Ok(Response::new(responses(self.chat.converse(said.boxed()))))
    }
}
