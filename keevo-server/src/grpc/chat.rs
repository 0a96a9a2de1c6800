//! `keevo.chat.v1.Chat` over `keevo-chat`.
//!
//! One app, [`APP`], until apps are configured. Invariant: the service decides nothing: rights and limits are the
//! library's, but for the size of a page.

#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use keevo_chat::{
    AppId, Channel, ChannelId, Chat, ChatEvent, ChatOptions, Delivery, Edit, Held, HistoryRequest, Holding, Message,
    NewChannel, NewMember, NewMessage, Order, Place, ReadTo, ResumeFrom, ResumeToken, Rights,
};
use keevo_core::{Engine, Error, ErrorKind, Result};
use keevo_proto::chat::v1 as pb;
use keevo_proto::chat::v1::chat_server::{Chat as ChatApi, ChatServer};
use keevo_proto::{MESSAGE_BYTES_MAX, status_from_error};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::auth::grant::{Action, Target};
use crate::auth::{Pass, while_allowed};
use crate::moderation::{Gate, Way};

/// The app that gRPC calls work on.
pub const APP: AppId = AppId(1);
/// How often the outbox worker looks for work.
const WORKER_EVERY: Duration = Duration::from_secs(1);
const LIMIT_DEFAULT: usize = 25;
/// The most messages on a page.
const HISTORY_LIMIT_MAX: usize = 300;
/// The most users that one call adds.
const USERS_MAX: usize = 100;

/// The chat service of one node.
pub struct ChatService<E> {
    chat: Chat<E>,
    /// Judges what is sent; `None` = nobody does.
    gate: Option<Gate<E>>,
    shutdown: CancellationToken,
}

impl<E> fmt::Debug for ChatService<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChatService")
    }
}

impl<E: Engine> ChatService<E> {
    /// The service over an engine, with a gate that messages pass before they are sent. It also finishes what other
    /// calls left half done, until `shutdown` is cancelled.
    pub fn server(engine: E, gate: Option<Gate<E>>, shutdown: CancellationToken) -> ChatServer<Self> {
        let service = Self::new(engine, gate, shutdown);
        let worker = service.chat.spawn_worker(WORKER_EVERY);
        let ended = service.shutdown.clone();
        tokio::spawn(async move {
            ended.cancelled().await;
            drop(worker);
        });
        ChatServer::new(service).max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    pub(crate) fn new(engine: E, gate: Option<Gate<E>>, shutdown: CancellationToken) -> Self {
        let options = ChatOptions { rights: Rights::Members, ..ChatOptions::default() };
        Self { chat: Chat::new(engine, APP, options), gate, shutdown }
    }

    /// Keeps a message back.
    async fn hold(&self, id: &ChannelId, gate: &Gate<E>, new: NewMessage) -> Result<pb::SendMessageResponse, Status> {
        let (text, user) = (new.text.clone(), new.user_id.clone());
        let kept = match answer(self.chat.hold(id, new).await)? {
            Holding::Held(kept) => kept,
            Holding::Sent(sent) => return Ok(sent_as(id, *sent)),
        };
        answer(gate.held(APP.0, id, &kept.id, &user, &text).await)?;
        Ok(pb::SendMessageResponse { message: Some(held(id, *kept)), held: true })
    }
}

fn sent_as(id: &ChannelId, sent: Message) -> pb::SendMessageResponse {
    pb::SendMessageResponse { message: Some(message(id, sent)), held: false }
}

fn answer<T>(result: Result<T>) -> Result<T, Status> {
    result.map_err(|error| status_from_error(&error))
}

/// `type:id`; a bare id is one of type `messaging`.
pub(super) fn channel_named(text: &str) -> Result<ChannelId> {
    let (kind, id) = text.split_once(':').unwrap_or(("messaging", text));
    ChannelId::new(kind, id)
}

fn channel_id(text: &str) -> Result<ChannelId, Status> {
    answer(channel_named(text))
}

fn some(text: String) -> Option<String> {
    if text.is_empty() { None } else { Some(text) }
}

fn limit(asked: u32) -> usize {
    if asked == 0 { LIMIT_DEFAULT } else { usize::try_from(asked).unwrap_or(usize::MAX) }
}

fn channel(channel: Channel) -> pb::Channel {
    pb::Channel {
        id: channel.id.as_str().to_owned(),
        created_by: channel.created_by,
        created_at_ms: channel.created_at_ms,
        custom: channel.custom.unwrap_or_default(),
    }
}

pub(super) fn message(id: &ChannelId, message: Message) -> pb::Message {
    let (sequence, thread_sequence) = match message.place {
        Place::Channel(number) => (number, 0),
        Place::Thread { reply, .. } => (0, reply),
    };
    pb::Message {
        id: message.id,
        channel: id.as_str().to_owned(),
        sequence,
        thread_sequence,
        user: message.user_id,
        text: message.text,
        parent: message.parent_id.unwrap_or_default(),
        created_at_ms: message.created_at_ms,
        edited_at_ms: message.updated_at_ms,
        deleted_at_ms: message.deleted_at_ms,
        custom: message.custom.unwrap_or_default(),
    }
}

/// What is held, with no number yet.
fn held(id: &ChannelId, held: Held) -> pb::Message {
    pb::Message {
        id: held.id,
        channel: id.as_str().to_owned(),
        user: held.user_id,
        text: held.text,
        parent: held.parent_id.unwrap_or_default(),
        created_at_ms: held.held_at_ms,
        custom: held.custom.unwrap_or_default(),
        ..pb::Message::default()
    }
}

fn event(id: &ChannelId, delivery: Delivery) -> Result<Option<pb::ChatEvent>, Status> {
    use pb::chat_event::Event;
    let member = |user: String| pb::MemberChange { channel: id.as_str().to_owned(), user };
    let event = match delivery.event {
        ChatEvent::MessageNew(new) => Event::Message(message(id, new)),
        ChatEvent::MessageUpdated(edited) => Event::Edited(message(id, edited)),
        ChatEvent::MessageDeleted(deleted) => Event::Deleted(message(id, deleted)),
        ChatEvent::MemberAdded(added) => Event::Joined(member(added.user_id)),
        ChatEvent::MemberRemoved { user_id } => Event::Left(member(user_id)),
        ChatEvent::Read(read) => {
            Event::Read(pb::ReadMoved { channel: id.as_str().to_owned(), user: read.user_id, sequence: read.sequence })
        }
        ChatEvent::ReloadRequired { reason } => {
            return Err(status_from_error(&Error::new(ErrorKind::CursorCompacted, reason)));
        }
        _ => return Ok(None),
    };
    Ok(Some(pb::ChatEvent { cursor: delivery.resume.encode(), event: Some(event) }))
}

#[tonic::async_trait]
impl<E: Engine> ChatApi for ChatService<E> {
    type SubscribeStream = BoxStream<'static, Result<pb::ChatEvent, Status>>;

    async fn create_channel(
        &self,
        request: Request<pb::CreateChannelRequest>,
    ) -> Result<Response<pb::CreateChannelResponse>, Status> {
        let request = request.into_inner();
        let id = channel_id(&request.id)?;
        let mut members = vec![NewMember::new(request.created_by.clone()).with_role("owner")];
        members.extend(request.members.into_iter().filter(|user| *user != request.created_by).map(NewMember::new));
        let new = NewChannel {
            created_by: request.created_by,
            custom: some(request.custom),
            members,
            ..NewChannel::default()
        };
        let created = answer(self.chat.create_channel(&id, new).await)?;
        Ok(Response::new(pb::CreateChannelResponse { channel: Some(channel(created)) }))
    }

    async fn add_members(
        &self,
        request: Request<pb::AddMembersRequest>,
    ) -> Result<Response<pb::AddMembersResponse>, Status> {
        let request = request.into_inner();
        if request.users.len() > USERS_MAX {
            let message = format!("one call adds at most {USERS_MAX} users, not {}", request.users.len());
            return Err(status_from_error(&Error::new(ErrorKind::BatchTooLarge, message)));
        }
        let members = request.users.into_iter().map(NewMember::new).collect();
        answer(self.chat.add_members(&channel_id(&request.channel)?, members).await)?;
        Ok(Response::new(pb::AddMembersResponse {}))
    }

    async fn remove_member(
        &self,
        request: Request<pb::RemoveMemberRequest>,
    ) -> Result<Response<pb::RemoveMemberResponse>, Status> {
        let request = request.into_inner();
        answer(self.chat.remove_member(&channel_id(&request.channel)?, &request.user).await)?;
        Ok(Response::new(pb::RemoveMemberResponse {}))
    }

    async fn send_message(
        &self,
        request: Request<pb::SendMessageRequest>,
    ) -> Result<Response<pb::SendMessageResponse>, Status> {
        let request = request.into_inner();
        let id = channel_id(&request.channel)?;
        let mut new = NewMessage {
            id: some(request.id),
            user_id: request.user,
            text: request.text,
            parent_id: some(request.parent),
            custom: some(request.custom),
            ..NewMessage::default()
        };
        if let Some(gate) = &self.gate
            && !new.text.is_empty()
        {
            answer(self.chat.check_send(&id, &new, false).await)?;
            let name = new.id.take().unwrap_or_else(|| gate.new_id());
            match answer(gate.pass(APP.0, &id, &name, &new.user_id, &new.text).await)? {
                Way::Through => {}
                Way::Masked(text) => new.text = text,
                Way::Held => {
                    new.id = Some(name);
                    return Ok(Response::new(self.hold(&id, gate, new).await?));
                }
                Way::Shadowed => {
                    new.id = Some(name);
                    let sent = answer(self.chat.send_shadowed(&id, new).await)?;
                    return Ok(Response::new(sent_as(&id, sent)));
                }
            }
            new.id = Some(name);
        }
        let sent = answer(self.chat.send(&id, new).await)?;
        Ok(Response::new(sent_as(&id, sent)))
    }

    async fn get_message(
        &self,
        request: Request<pb::GetMessageRequest>,
    ) -> Result<Response<pb::GetMessageResponse>, Status> {
        let request = request.into_inner();
        let id = channel_id(&request.channel)?;
        let found = answer(self.chat.message(&id, &request.id).await)?;
        Ok(Response::new(pb::GetMessageResponse { message: Some(message(&id, found)) }))
    }

    async fn history(&self, request: Request<pb::HistoryRequest>) -> Result<Response<pb::HistoryResponse>, Status> {
        let request = request.into_inner();
        let id = channel_id(&request.channel)?;
        let limit = limit(request.limit);
        if limit > HISTORY_LIMIT_MAX {
            let message = format!("a page has 1 to {HISTORY_LIMIT_MAX} messages, not {limit}");
            return Err(status_from_error(&Error::invalid(message)));
        }
        if !request.user.is_empty() {
            answer(self.chat.member(&id, &request.user).await)?;
        }
        // After a sequence a reader goes on forwards, else backwards from the newest.
        let order = if request.after_sequence.is_some() { Order::OldestFirst } else { Order::NewestFirst };
        let asked = HistoryRequest { before: request.before_sequence, after: request.after_sequence, limit, order };
        let page = if request.parent.is_empty() {
            self.chat.history(&id, asked).await
        } else {
            self.chat.thread(&id, &request.parent, asked).await
        };
        let page = answer(page)?;
        let page = if request.user.is_empty() { page } else { page.visible_to(&request.user) };
        let more = page.next.is_some();
        let resume = if request.user.is_empty() { Bytes::new() } else { page.resume.for_user(request.user).encode() };
        let messages = page.messages.into_iter().map(|one| message(&id, one)).collect();
        Ok(Response::new(pb::HistoryResponse { messages, more, resume }))
    }

    async fn edit_message(
        &self,
        request: Request<pb::EditMessageRequest>,
    ) -> Result<Response<pb::EditMessageResponse>, Status> {
        let request = request.into_inner();
        let id = channel_id(&request.channel)?;
        let mut edit =
            Edit { user_id: request.user, text: Some(request.text), custom: request.custom, ..Edit::default() };
        if let (Some(gate), Some(text)) = (&self.gate, &edit.text)
            && !text.is_empty()
        {
            answer(self.chat.check_editor(&id, &request.id, &edit).await)?;
            match answer(gate.pass(APP.0, &id, &request.id, &edit.user_id, text).await)? {
                Way::Through => {}
                Way::Masked(text) => edit.text = Some(text),
                Way::Held => {
                    let (text, user) = (text.clone(), edit.user_id.clone());
                    let kept = answer(self.chat.hold_edit(&id, &request.id, edit).await)?;
                    answer(gate.held(APP.0, &id, &request.id, &user, &text).await)?;
                    let message = Some(held(&id, kept));
                    return Ok(Response::new(pb::EditMessageResponse { message, held: true }));
                }
                // Who reads the message still reads what it said before.
                Way::Shadowed => {
                    let stands = answer(self.chat.message(&id, &request.id).await)?;
                    let message = Some(message(&id, stands));
                    return Ok(Response::new(pb::EditMessageResponse { message, held: false }));
                }
            }
        }
        let edited = answer(self.chat.edit(&id, &request.id, edit).await)?;
        Ok(Response::new(pb::EditMessageResponse { message: Some(message(&id, edited)), held: false }))
    }

    async fn delete_message(
        &self,
        request: Request<pb::DeleteMessageRequest>,
    ) -> Result<Response<pb::DeleteMessageResponse>, Status> {
        let request = request.into_inner();
        let id = channel_id(&request.channel)?;
        let deleted = answer(self.chat.delete(&id, &request.id, &request.user).await)?;
        Ok(Response::new(pb::DeleteMessageResponse { message: Some(message(&id, deleted)) }))
    }

    async fn mark_read(&self, request: Request<pb::MarkReadRequest>) -> Result<Response<pb::MarkReadResponse>, Status> {
        let request = request.into_inner();
        let to = request.sequence.map_or(ReadTo::End, ReadTo::Sequence);
        let state = answer(self.chat.mark_read(&channel_id(&request.channel)?, &request.user, to).await)?;
        Ok(Response::new(pb::MarkReadResponse { sequence: state.sequence }))
    }

    async fn unread(&self, request: Request<pb::UnreadRequest>) -> Result<Response<pb::UnreadResponse>, Status> {
        let request = request.into_inner();
        let id = channel_id(&request.channel)?;
        let state = answer(self.chat.unread_state(&id, &request.user).await)?;
        Ok(Response::new(pb::UnreadResponse {
            unread: state.unread,
            read_sequence: state.read.sequence,
            last_sequence: state.last_sequence,
        }))
    }

    async fn list_channels(
        &self,
        request: Request<pb::ListChannelsRequest>,
    ) -> Result<Response<pb::ListChannelsResponse>, Status> {
        let request = request.into_inner();
        let after = if request.after.is_empty() {
            None
        } else {
            let text = std::str::from_utf8(&request.after)
                .map_err(|_not_utf8| status_from_error(&Error::invalid("after is not the next of a page before")))?;
            Some(channel_id(text)?)
        };
        let limit = limit(request.limit);
        let listed = answer(self.chat.channels_of(&request.user, after.as_ref(), limit).await)?;
        let next = if listed.len() < limit {
            Bytes::new()
        } else {
            listed.last().map(|last| Bytes::copy_from_slice(last.channel.as_str().as_bytes())).unwrap_or_default()
        };
        let ids: Vec<ChannelId> = listed.into_iter().map(|listing| listing.channel).collect();
        let channels = answer(self.chat.channels(&ids).await)?.into_iter().map(channel).collect();
        Ok(Response::new(pb::ListChannelsResponse { channels, next }))
    }

    async fn subscribe(
        &self,
        request: Request<pb::SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let pass = request.extensions().get::<Pass>().cloned();
        let request = request.into_inner();
        let id = channel_id(&request.channel)?;
        let from = if request.resume.is_empty() {
            ResumeFrom::Now
        } else {
            ResumeFrom::Token(answer(ResumeToken::decode(&request.resume))?)
        };
        let subscription = answer(self.chat.subscribe_as(&id, &request.user, from).await)?;
        let first = pb::ChatEvent {
            cursor: subscription.resume().encode(),
            event: Some(pb::chat_event::Event::Subscribed(pb::Subscribed {})),
        };
        let events = subscription.into_stream().filter_map(move |delivery| {
            let translated = match delivery {
                Ok(delivery) => event(&id, delivery).transpose(),
                Err(error) => Some(Err(status_from_error(&error))),
            };
            std::future::ready(translated)
        });
        let first = futures::stream::once(std::future::ready(Ok(first)));
        let ended = self.shutdown.clone().cancelled_owned();
        // Behind the subscription's own error nobody asks for more, so this one is seen at a shutdown only.
        let stopped = Error::new(ErrorKind::Unavailable, "the node stops: subscribe at another with the last cursor");
        let stopped = futures::stream::once(std::future::ready(Err(status_from_error(&stopped))));
        let events = first.chain(events).take_until(ended).chain(stopped).boxed();
        let may = |pass: &Pass| pass.check(Action::Watch, Target::Chat(APP.0));
        Ok(Response::new(while_allowed(events, pass, may)))
    }
}
