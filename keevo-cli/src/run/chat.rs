//! `keevo-cli chat`, over `keevo.chat.v1`.

mod export;
mod import;
mod search;

use bytes::Bytes;
use keevo_client::Connection;
use keevo_core::{Error, ErrorKind, Random, SeededRandom};
use keevo_proto::MESSAGE_BYTES_MAX;
use keevo_proto::chat::v1 as pb;
use keevo_proto::chat::v1::chat_client::ChatClient;
use keevo_proto::chat::v1::chat_search_client::ChatSearchClient;
use keevo_proto::chat::v1::chat_transfer_client::ChatTransferClient;
use serde_json::json;

use super::{incomplete, standard_input, until_interrupted};
use crate::args::chat::{Chat, History, Send};
use crate::confirm::confirmed;
use crate::connect::{Context, Effect, QUICK, failed};
use crate::failure::Failure;
use crate::output::{complain, show, show_line};
use crate::render::{self, Done};
use crate::text::line;

const PAGE: u32 = 1_000;

type Client = ChatClient<Connection>;
type Transfer = ChatTransferClient<Connection>;

/// Carries out a command on channels.
pub(crate) async fn run(context: &Context, command: Chat) -> Result<(), Failure> {
    let channel = context.channel().await?;
    let search = ChatSearchClient::new(channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let transfer = ChatTransferClient::new(channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let mut chat = ChatClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
    match command {
        Chat::Create { channel, by, members, custom } => {
            let custom = custom.unwrap_or_default();
            let request = pb::CreateChannelRequest { id: channel, created_by: by, members, custom };
            let stored = context.ask(Effect::Writes, QUICK, chat.create_channel(request)).await?.channel;
            show(context.output, &stored.ok_or_else(|| incomplete("the channel"))?)
        }
        Chat::Send(args) => send(context, &mut chat, args).await,
        Chat::History(args) => history(context, &mut chat, args).await,
        Chat::Search(args) => search::search(context, search, args).await,
        Chat::Watch { channel, user, resume } => watch(context, &mut chat, channel, user, resume).await,
        Chat::Read { channel, user, sequence } => {
            let request = pb::MarkReadRequest { channel: channel.clone(), user: user.clone(), sequence };
            let sequence = context.ask(Effect::Writes, QUICK, chat.mark_read(request)).await?.sequence;
            let sentence = format!("{} has read {} up to #{sequence}", line(&user), line(&channel));
            let json = json!({ "channel": channel, "user": user, "sequence": sequence });
            show(context.output, &Done { sentence, json })
        }
        Chat::Unread { channel, user } => {
            let call = chat.unread(pb::UnreadRequest { channel, user });
            show(context.output, &context.ask(Effect::Reads, QUICK, call).await?)
        }
        Chat::Channels { user, limit } => channels(context, &mut chat, user, limit).await,
        Chat::Import(args) => import::import(context, transfer, &args).await,
        Chat::Export(args) => export::export(context, transfer, args).await,
        Chat::ExportUser { user } => export::user(context, transfer, user).await,
        Chat::EraseUser { user, keep_texts, no_wait, sure } => {
            if !confirmed(context, sure, export::erasure(context, transfer.clone(), &user, keep_texts)).await? {
                return Ok(());
            }
            export::erase(context, transfer, user, keep_texts, no_wait).await
        }
        Chat::AddMember { channel, users } => {
            let request = pb::AddMembersRequest { channel: channel.clone(), users: users.clone() };
            context.ask(Effect::Writes, QUICK, chat.add_members(request)).await?;
            let sentence = format!("added {} to {}", line(&users.join(", ")), line(&channel));
            show(context.output, &Done { sentence, json: json!({ "channel": channel, "users": users }) })
        }
    }
}

async fn send(context: &Context, chat: &mut Client, args: Send) -> Result<(), Failure> {
    let text = if args.text == "-" {
        let input = standard_input()?;
        let text = std::str::from_utf8(&input)
            .map_err(|error| Error::invalid("the text on standard input is not UTF-8").with_source(error))?;
        text.trim_end_matches('\n').to_owned()
    } else {
        args.text
    };
    let id = args.id.unwrap_or_else(|| format!("{:032x}", SeededRandom::from_os().next_u128()));
    let request = pb::SendMessageRequest {
        channel: args.channel,
        id: id.clone(),
        user: args.user,
        text,
        parent: args.parent,
        custom: args.custom.unwrap_or_default(),
    };
    let answer = context.ask(Effect::Writes, QUICK, chat.send_message(request)).await;
    let stored = answer.map_err(|failure| match failure.kind() {
        ErrorKind::OutcomeUnknown => {
            failure.advise(format!("Send it again with --id {}: it is then sent once.", line(&id)))
        }
        _ => failure,
    })?;
    show(context.output, &stored.message.ok_or_else(|| incomplete("the message"))?)
}

async fn history(context: &Context, chat: &mut Client, args: History) -> Result<(), Failure> {
    let forwards = args.after.is_some();
    let request = pb::HistoryRequest {
        channel: args.channel,
        before_sequence: args.before,
        after_sequence: args.after,
        limit: args.limit,
        parent: args.thread,
        user: args.user,
    };
    let page = context.ask(Effect::Reads, QUICK, chat.history(request)).await?;
    show(context.output, &render::chat::History { page, forwards })
}

async fn watch(
    context: &Context,
    chat: &mut Client,
    channel: String,
    user: String,
    resume: Option<Bytes>,
) -> Result<(), Failure> {
    let request = pb::SubscribeRequest { channel, user, resume: resume.unwrap_or_default() };
    until_interrupted(async {
        let mut events = context.ask(Effect::Reads, QUICK, chat.subscribe(request)).await?;
        complain("watching; Ctrl-C ends it");
        while let Some(event) = events.message().await.map_err(|status| failed(Effect::Reads, &status))? {
            show_line(context.output, &event)?;
        }
        let message = "the node ended the subscription";
        Err(Error::new(ErrorKind::Unavailable, message).into())
    })
    .await
}

async fn channels(context: &Context, chat: &mut Client, user: String, limit: u32) -> Result<(), Failure> {
    let most = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut channels = Vec::new();
    let mut after = Bytes::new();
    loop {
        let left = u32::try_from(most - channels.len()).unwrap_or(PAGE).min(PAGE);
        let request = pb::ListChannelsRequest { user: user.clone(), limit: left, after };
        let page = context.ask(Effect::Reads, QUICK, chat.list_channels(request)).await?;
        channels.extend(page.channels);
        channels.truncate(most);
        if page.next.is_empty() || channels.len() == most {
            let more = !page.next.is_empty();
            return show(context.output, &render::chat::Channels { channels, more });
        }
        after = page.next;
    }
}
