//! Search over the messages of an app.

use axum::extract::State;
use bytes::Bytes;
use keevo_chat::{AppId, Audience};
use keevo_core::{Error, Result};
use keevo_search::{Fragment, Sort};
use serde::Deserialize;
use serde_json::{Value, json};

use super::bytes::{hex, unhex};
use super::guard::Caller;
use super::reply::{Answer, Asked, Reply};
use super::{Console, channels, page_size};
use crate::search::messages::{Found, Question, find as find_messages};

/// The most characters of a message that are shown where nothing in it was looked for.
const TEXT_CHARS_MAX: usize = 400;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SearchOf {
    app: u32,
    /// What messages say, as the chat API's search takes it.
    #[serde(default)]
    query: String,
    #[serde(default)]
    channel: String,
    #[serde(default)]
    author: String,
    /// Sent then or later, in milliseconds since the epoch.
    after_ms: Option<u64>,
    /// Sent before.
    before_ms: Option<u64>,
    /// `relevance`, `newest` or `oldest`.
    sort: Option<String>,
    /// `next` of the page before.
    cursor: Option<String>,
    limit: Option<usize>,
}

/// A page of the messages of an app that are looked for.
pub(super) async fn find(State(console): State<Console>, caller: Caller, Asked(asked): Asked<SearchOf>) -> Answer {
    let limit = page_size(asked.limit)?;
    let chat = channels::chat(&console, &caller, asked.app).await?;
    let after = asked.cursor.as_deref().map(|cursor| unhex("cursor", cursor)).transpose()?;
    let question = Question {
        app: AppId(asked.app),
        sort: asked.sort.as_deref().map(sort).transpose()?,
        query: asked.query,
        channel: if asked.channel.is_empty() { None } else { Some(asked.channel.parse()?) },
        author: asked.author,
        after_ms: asked.after_ms,
        before_ms: asked.before_ms,
        after: after.map(Bytes::from),
        limit,
    };
    let page = find_messages(console.parts().metrics.search.as_ref(), &chat, &question).await?;
    Ok(Reply(json!({
        "results": page.found.iter().map(result).collect::<Vec<_>>(),
        "next": page.next.as_deref().map(hex),
        "partial": page.partial,
        "catching_up": page.state.catching_up,
        "paused": page.state.paused,
    })))
}

fn sort(name: &str) -> Result<Sort> {
    match name {
        "relevance" => Ok(Sort::Relevance),
        "newest" => Ok(Sort::Newest),
        "oldest" => Ok(Sort::Oldest),
        _ => Err(Error::invalid("sort is relevance, newest or oldest")),
    }
}

fn result(found: &Found) -> Value {
    let Found { channel, message, fragments } = found;
    let fragment = |one: &Fragment| {
        let ranges: Vec<[usize; 2]> = one.ranges.iter().map(|range| [range.start, range.end]).collect();
        json!({ "text": one.text, "start": one.start, "ranges": ranges })
    };
    let text = fragments.is_empty().then(|| message.text.chars().take(TEXT_CHARS_MAX).collect::<String>());
    json!({
        "cid": channel.as_str(),
        "id": message.id,
        "number": message.place.number(),
        "parent_id": message.parent_id,
        "user_id": message.user_id,
        "at_ms": message.created_at_ms,
        "edited_ms": message.updated_at_ms,
        "shadowed": message.audience == Audience::Sender,
        "attachments": message.attachments.len(),
        "fragments": fragments.iter().map(fragment).collect::<Vec<_>>(),
        "text": text,
    })
}
