//! What verdicts and decisions do to messages, activities and reactions that stand already, or that are held.
//!
//! Invariant: a text is touched only where it still says what was judged: an edit since then is another version, with a
//! verdict of its own.

use futures::FutureExt;
use futures::future::BoxFuture;
use keevo_chat::{AppId, Audience, ChannelId, Chat, ChatOptions, Edit};
use keevo_core::{Engine, Error, ErrorKind, Result};
use keevo_feeds::{ActivityId, PartialUpdate, ReactionChange};
use keevo_gateway::Registry;
use keevo_moderation_policy::{Effects, TextKind, TextVersion, Verdict};

/// Who changes what moderation changes.
const MODERATION: &str = "moderation";

/// The layers that texts lie in.
pub(super) struct LayerEffects<E> {
    engine: E,
    registry: Registry,
}

impl<E: Engine> LayerEffects<E> {
    pub(super) fn new(engine: E, registry: Registry) -> Self {
        Self { engine, registry }
    }

    fn chat(&self, version: &TextVersion) -> Chat<E> {
        Chat::new(self.engine.clone(), AppId(version.app), ChatOptions::default())
    }

    async fn remove(&self, version: &TextVersion) -> Result<()> {
        if stands_nowhere(version) {
            return Ok(());
        }
        match version.kind {
            TextKind::Message => {
                let (channel, id) = message(version)?;
                let chat = self.chat(version);
                if chat.drop_held(&channel, id, |text| version.says(text)).await? {
                    return Ok(());
                }
                let Some(found) = there(chat.message(&channel, id).await)? else { return Ok(()) };
                if version.says(&found.text) {
                    there(chat.delete(&channel, id, MODERATION).await)?;
                }
            }
            TextKind::Activity => {
                let id: ActivityId = version.id.parse()?;
                let feeds = self.registry.open(keevo_feeds::AppId(version.app)).await?;
                let found = feeds.activities(&[id]).await?;
                if found.iter().any(|activity| version.says(&activity.text())) {
                    feeds.delete_activities(&[id]).await?;
                }
            }
            TextKind::Reaction => {
                let feeds = self.registry.open(keevo_feeds::AppId(version.app)).await?;
                let Some(found) = there(feeds.reaction(&version.id).await)? else { return Ok(()) };
                if version.says(&found.text()) {
                    there(feeds.delete_reaction(&version.id, false).await)?;
                }
            }
            TextKind::Text => {}
        }
        Ok(())
    }

    async fn mask(&self, version: &TextVersion, masked: &str) -> Result<()> {
        if stands_nowhere(version) {
            return Ok(());
        }
        match version.kind {
            TextKind::Message => {
                let (channel, id) = message(version)?;
                let chat = self.chat(version);
                let Some(found) = there(chat.message(&channel, id).await)? else { return Ok(()) };
                if version.says(&found.text) {
                    let edit = Edit { user_id: MODERATION.into(), text: Some(masked.to_owned()), ..Edit::default() };
                    there(chat.edit(&channel, id, edit).await)?;
                }
            }
            TextKind::Activity => {
                let id: ActivityId = version.id.parse()?;
                let feeds = self.registry.open(keevo_feeds::AppId(version.app)).await?;
                let found = feeds.activities(&[id]).await?;
                let said = found.iter().find(|activity| version.says(&activity.text()));
                if let Some(set) = said.and_then(|activity| activity.saying(masked)) {
                    let update = PartialUpdate { id, set, unset: Vec::new() };
                    there(feeds.update_partially(vec![update]).await)?;
                }
            }
            TextKind::Reaction => {
                let feeds = self.registry.open(keevo_feeds::AppId(version.app)).await?;
                let Some(found) = there(feeds.reaction(&version.id).await)? else { return Ok(()) };
                if version.says(&found.text()) {
                    let data = found.saying(masked);
                    let change = ReactionChange { data, target_feeds: None, target_feeds_extra_data: None };
                    there(feeds.update_reaction(&version.id, change).await)?;
                }
            }
            TextKind::Text => {}
        }
        Ok(())
    }

    async fn keep_from_others(&self, version: &TextVersion) -> Result<()> {
        if stands_nowhere(version) {
            return Ok(());
        }
        if version.kind == TextKind::Message {
            let (channel, id) = message(version)?;
            let stands = there(self.chat(version).message(&channel, id).await)?;
            if stands.is_some_and(|message| message.audience == Audience::Sender) {
                return Ok(());
            }
        }
        self.remove(version).await
    }

    async fn let_go(&self, verdict: &Verdict, masked: Option<&str>) -> Result<()> {
        let version = &verdict.version;
        if stands_nowhere(version) {
            return Ok(());
        }
        if version.kind == TextKind::Message {
            let (channel, id) = message(version)?;
            let says = |text: &str| version.says(text);
            if there(self.chat(version).release(&channel, id, says, masked).await)?.flatten().is_some() {
                return Ok(());
            }
        }
        match verdict.of_hidden()? {
            Some(hidden) => self.mask(&hidden, masked.unwrap_or(&version.text)).await,
            None => Ok(()),
        }
    }

    async fn keep_out(&self, version: &TextVersion) -> Result<()> {
        if version.kind != TextKind::Message {
            return Err(Error::invalid("only authors of messages can be kept out"));
        }
        let (channel, _) = message(version)?;
        there(self.chat(version).remove_member(&channel, &version.author).await).map(drop)
    }
}

impl<E: Engine> Effects for LayerEffects<E> {
    fn take_back<'a>(&'a self, version: &'a TextVersion) -> BoxFuture<'a, Result<()>> {
        self.remove(version).boxed()
    }

    fn shadow<'a>(&'a self, version: &'a TextVersion) -> BoxFuture<'a, Result<()>> {
        self.keep_from_others(version).boxed()
    }

    fn replace<'a>(&'a self, version: &'a TextVersion, masked: &'a str) -> BoxFuture<'a, Result<()>> {
        self.mask(version, masked).boxed()
    }

    fn release<'a>(&'a self, verdict: &'a Verdict, masked: Option<&'a str>) -> BoxFuture<'a, Result<()>> {
        self.let_go(verdict, masked).boxed()
    }

    fn ban<'a>(&'a self, version: &'a TextVersion) -> BoxFuture<'a, Result<()>> {
        self.keep_out(version).boxed()
    }
}

/// Whether nothing in Keevo can say the text: it came in by a queue, whose ids are others' to choose.
fn stands_nowhere(version: &TextVersion) -> bool {
    match version.kind {
        TextKind::Message => message(version).is_err(),
        TextKind::Activity => version.id.parse::<ActivityId>().is_err(),
        TextKind::Reaction => false,
        TextKind::Text => true,
    }
}

/// The channel and id of a message's version.
fn message(version: &TextVersion) -> Result<(ChannelId, &str)> {
    let bad = || Error::corrupt("a verdict's id names no message");
    let (channel, id) = version.id.split_once('\0').ok_or_else(bad)?;
    Ok((channel.parse()?, id))
}

/// What is there; `None` for what is gone, or was deleted in between.
fn there<T>(found: Result<T>) -> Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Conflict) => Ok(None),
        Err(error) => Err(error),
    }
}
