//! The texts of chat and feeds, as their changes tell them.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use keevo_chat::{AppId, Chat, ChatOptions, ErasedUser, HeldChange, MessageChange};
use keevo_core::{CommitEvent, Engine, Result};
use keevo_feeds::{DeletedUser, ErasedText, Said, TextChange};
use keevo_moderation_policy::{ErasedAuthor, ErasedChannel, Source, TextId, TextKind, TextVersion};

use crate::config::ModerationConfig;

/// The sources that are configured.
pub(super) fn of<E: Engine>(config: &ModerationConfig, engine: &E) -> Vec<Arc<dyn Source>> {
    let mut sources: Vec<Arc<dyn Source>> = Vec::new();
    if config.chat {
        sources.push(Arc::new(Messages { engine: engine.clone() }));
    }
    if config.feeds {
        sources.push(Arc::new(Posts));
    }
    sources
}

/// The id of a message's text.
pub(super) fn message_id(channel: &keevo_chat::ChannelId, id: &str) -> String {
    format!("{}\0{id}", channel.as_str())
}

/// The scope of a channel.
pub(super) fn chat_scope(channel: &keevo_chat::ChannelId) -> String {
    format!("chat:{}", channel.kind())
}

/// Messages of chat.
struct Messages<E> {
    engine: E,
}

impl<E: Engine> Source for Messages<E> {
    fn name(&self) -> &'static str {
        "chat"
    }

    fn keyspace(&self) -> &'static str {
        keevo_chat::KEYSPACE
    }

    fn text(&self, event: &CommitEvent) -> Result<Option<TextVersion>> {
        let Some(MessageChange { app, channel, message }) = MessageChange::of(event)? else { return held(event) };
        if message.text.is_empty() || message.system {
            return Ok(None);
        }
        let at_ms = message.updated_at_ms.unwrap_or(message.created_at_ms);
        let version = TextVersion::new(app.0, TextKind::Message, message_id(&channel, &message.id), message.text)?;
        Ok(Some(version.by(message.user_id, chat_scope(&channel), at_ms)))
    }

    fn erased(&self, event: &CommitEvent) -> Result<Option<TextId>> {
        let Some(MessageChange { app, channel, message }) = MessageChange::of(event)? else { return Ok(None) };
        let id = TextId { app: app.0, kind: TextKind::Message, id: message_id(&channel, &message.id) };
        Ok(Some(id).filter(|_| message.erased))
    }

    fn erased_authors(&self, event: &CommitEvent) -> Result<Vec<ErasedAuthor>> {
        let of = |gone: ErasedUser| ErasedAuthor {
            app: gone.app.0,
            author: gone.user_id,
            kinds: &TextKind::ALL,
            stand_in: gone.stand_in,
        };
        Ok(ErasedUser::of(event)?.map(of).into_iter().collect())
    }

    fn erased_channel(&self, event: &CommitEvent) -> Result<Option<ErasedChannel>> {
        let of = |gone: keevo_chat::ErasedChannel| ErasedChannel { app: gone.app.0, channel: gone.channel.to_string() };
        Ok(keevo_chat::ErasedChannel::of(event)?.map(of))
    }

    fn is_gone<'a>(&'a self, app: u32, author: &'a str) -> BoxFuture<'a, Result<bool>> {
        let chat = Chat::new(self.engine.clone(), AppId(app), ChatOptions::default());
        async move { Ok(chat.erasure(author).await?.is_some()) }.boxed()
    }

    fn is_held(&self, event: &CommitEvent) -> bool {
        matches!(HeldChange::of(event), Ok(Some(_)))
    }
}

/// What is held for its verdict.
fn held(event: &CommitEvent) -> Result<Option<TextVersion>> {
    let Some(HeldChange { app, channel, held }) = HeldChange::of(event)? else { return Ok(None) };
    let version = TextVersion::new(app.0, TextKind::Message, message_id(&channel, &held.id), held.text)?;
    Ok(Some(version.by(held.user_id, chat_scope(&channel), held.held_at_ms)))
}

/// Activities and reactions of feeds.
struct Posts;

impl Source for Posts {
    fn name(&self) -> &'static str {
        "feeds"
    }

    fn keyspace(&self) -> &'static str {
        keevo_feeds::KEYSPACE
    }

    fn text(&self, event: &CommitEvent) -> Result<Option<TextVersion>> {
        let Some(change) = TextChange::of(event)? else { return Ok(None) };
        let TextChange { app, said, author, place, at_ms, text } = change;
        let (kind, id) = text_of(said);
        let scope = match kind {
            TextKind::Reaction => format!("feeds:reaction:{place}"),
            _ => format!("feeds:{place}"),
        };
        Ok(Some(TextVersion::new(app.0, kind, id, text)?.by(author, scope, at_ms)))
    }

    fn erased(&self, event: &CommitEvent) -> Result<Option<TextId>> {
        let Some(ErasedText { app, said }) = ErasedText::of(event)? else { return Ok(None) };
        let (kind, id) = text_of(said);
        Ok(Some(TextId { app: app.0, kind, id }))
    }

    /// What was taken back of a deleted user's texts; what stands is erased where it stands.
    fn erased_authors(&self, event: &CommitEvent) -> Result<Vec<ErasedAuthor>> {
        let Some(DeletedUser { app, id }) = DeletedUser::of(event)? else { return Ok(Vec::new()) };
        let of = |author, kinds| ErasedAuthor { app: app.0, author, kinds, stand_in: None };
        Ok(vec![of(format!("SU:{id}"), ACTIVITIES), of(id, POSTS)])
    }

    fn reuses_ids(&self) -> bool {
        true
    }
}

/// The kinds of texts of feeds.
const POSTS: &[TextKind] = &[TextKind::Activity, TextKind::Reaction];
/// That of activities alone.
const ACTIVITIES: &[TextKind] = &[TextKind::Activity];

/// How moderation names what says a text.
fn text_of(said: Said) -> (TextKind, String) {
    match said {
        Said::Activity(id) => (TextKind::Activity, id.to_string()),
        Said::Reaction(id) => (TextKind::Reaction, id),
    }
}
