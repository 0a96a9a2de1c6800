//! `keevo.chat.v1.ChatTransfer` over `keevo-chat`: imports, exports and erasures, for operators.
//!
//! Invariant: the service decides nothing: what a line may say and how large a page is are the library's.

use std::fmt;

use bytes::Bytes;
use keevo_chat::{ChannelId, Chat, ChatOptions, Erasure, ExportPage, Texts};
use keevo_core::{Engine, Error, ErrorKind, Result};
use keevo_proto::chat::v1 as pb;
use keevo_proto::chat::v1::chat_transfer_server::{ChatTransfer, ChatTransferServer};
use keevo_proto::{MESSAGE_BYTES_MAX, status_from_error};
use tonic::{Request, Response, Status};

use super::chat::APP;

const LIMIT_DEFAULT: usize = 25;

/// The transfer service of one node.
pub struct ChatTransferService<E> {
    chat: Chat<E>,
}

impl<E> fmt::Debug for ChatTransferService<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChatTransferService")
    }
}

impl<E: Engine> ChatTransferService<E> {
    /// The service over an engine. What it begins, the worker of the chat service ends.
    pub fn server(engine: E) -> ChatTransferServer<Self> {
        ChatTransferServer::new(Self::new(engine))
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    pub(crate) fn new(engine: E) -> Self {
        Self { chat: Chat::new(engine, APP, ChatOptions::default()) }
    }
}

fn answer<T>(result: Result<T>) -> Result<T, Status> {
    result.map_err(|error| status_from_error(&error))
}

fn some(after: &Bytes) -> Option<&[u8]> {
    if after.is_empty() { None } else { Some(after) }
}

fn page(page: ExportPage) -> Response<pb::ExportResponse> {
    Response::new(pb::ExportResponse { lines: page.lines, next: page.next.unwrap_or_default() })
}

fn erasure(erasure: &Erasure) -> pb::Erasure {
    pb::Erasure {
        asked_at_ms: erasure.asked_at_ms,
        done_at_ms: erasure.done_at_ms,
        channels: erasure.channels,
        messages: erasure.messages,
        others: erasure.others,
    }
}

#[tonic::async_trait]
impl<E: Engine> ChatTransfer for ChatTransferService<E> {
    async fn import(&self, request: Request<pb::ImportRequest>) -> Result<Response<pb::ImportResponse>, Status> {
        let lines = request.into_inner().lines;
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let done = answer(Box::pin(self.chat.import(&lines)).await)?;
        let stored = done.stored.into_iter().map(|(kind, count)| (kind.to_owned(), count)).collect();
        let refused = done
            .refused
            .into_iter()
            .map(|(line, reason)| pb::RefusedLine { line: u32::try_from(line).unwrap_or(u32::MAX), reason });
        Ok(Response::new(pb::ImportResponse { stored, refused: refused.collect() }))
    }

    async fn export_channel(
        &self,
        request: Request<pb::ExportChannelRequest>,
    ) -> Result<Response<pb::ExportResponse>, Status> {
        let request = request.into_inner();
        let channel: ChannelId = answer(request.channel.parse())?;
        answer(self.chat.export_channel(&channel, some(&request.after)).await).map(page)
    }

    async fn export_users(
        &self,
        request: Request<pb::ExportUsersRequest>,
    ) -> Result<Response<pb::ExportResponse>, Status> {
        let request = request.into_inner();
        answer(self.chat.export_users(some(&request.after)).await).map(page)
    }

    async fn export_user(
        &self,
        request: Request<pb::ExportUserRequest>,
    ) -> Result<Response<pb::ExportResponse>, Status> {
        let request = request.into_inner();
        answer(self.chat.export_user(&request.user, some(&request.after)).await).map(page)
    }

    async fn list_all_channels(
        &self,
        request: Request<pb::ListAllChannelsRequest>,
    ) -> Result<Response<pb::ListAllChannelsResponse>, Status> {
        let request = request.into_inner();
        let kind = Some(request.r#type.as_str()).filter(|kind| !kind.is_empty());
        let after = if request.after.is_empty() { None } else { Some(answer(request.after.parse::<ChannelId>())?) };
        let limit =
            if request.limit == 0 { LIMIT_DEFAULT } else { usize::try_from(request.limit).unwrap_or(usize::MAX) };
        let found = answer(self.chat.all_channels(kind, after.as_ref(), limit).await)?;
        let channels = found.into_iter().map(|channel| channel.as_str().to_owned()).collect();
        Ok(Response::new(pb::ListAllChannelsResponse { channels }))
    }

    async fn erase_user(
        &self,
        request: Request<pb::EraseUserRequest>,
    ) -> Result<Response<pb::EraseUserResponse>, Status> {
        let request = request.into_inner();
        let texts = if request.keep_texts { Texts::Keep } else { Texts::Erase };
        let begun = answer(self.chat.erase_user(&request.user, texts).await)?;
        Ok(Response::new(pb::EraseUserResponse { erasure: Some(erasure(&begun)) }))
    }

    async fn get_erasure(
        &self,
        request: Request<pb::GetErasureRequest>,
    ) -> Result<Response<pb::GetErasureResponse>, Status> {
        let user = request.into_inner().user;
        let none = || Error::new(ErrorKind::NotFound, format!("nobody asked to erase user '{user}'"));
        let found = answer(answer(self.chat.erasure(&user).await)?.ok_or_else(none))?;
        Ok(Response::new(pb::GetErasureResponse { erasure: Some(erasure(&found)) }))
    }
}
