//! Search over the messages of an app.
//!
//! Invariant: the index only points. Each hit is read anew and held against what was asked, so what was deleted, erased or
//! edited away is not shown, however old the index of this node is.

use std::collections::BTreeMap;

use axum::extract::State;
use keevo_chat::{AppId, Audience, ChannelId, Chat, Message, Place};
use keevo_core::{Error, ErrorKind, Result};
use keevo_raft::ClusterEngine;
use keevo_search::{Ask, CutText, Hit, Mark, SearchIndex, Sort, TextQuery, highlight};
use serde::Deserialize;
use serde_json::{Value, json};

use super::bytes::{hex, unhex};
use super::guard::Caller;
use super::reply::{Answer, Asked, Reply};
use super::{Console, channels, page_size};

/// The most hits that one search reads anew.
const EXAMINED_MAX: usize = 500;
/// The fewest hits that the index is asked for at once, but for the last.
const HITS_MIN: usize = 20;
/// The most characters of a message that are shown where nothing in it was looked for.
const TEXT_CHARS_MAX: usize = 400;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SearchOf {
    app: u32,
    /// What messages say, as the chat API's search takes it.
    #[serde(default)]
    query: String,
    channel: Option<String>,
    author: Option<String>,
    /// Sent then or later, in milliseconds since the epoch.
    after_ms: Option<u64>,
    /// Sent before.
    before_ms: Option<u64>,
    /// `relevance`, `newest` or `oldest`.
    sort: Option<String>,
    /// Where the page before ended.
    cursor: Option<String>,
    limit: Option<usize>,
}

/// A page that is being filled.
#[derive(Default)]
struct Found {
    results: Vec<Value>,
    examined: usize,
    /// Where the next page begins.
    last: Option<Mark>,
    more: bool,
    partial: bool,
}

/// A page of the messages of an app that are looked for.
pub(super) async fn find(State(console): State<Console>, caller: Caller, Asked(asked): Asked<SearchOf>) -> Answer {
    let limit = page_size(asked.limit)?;
    let chat = channels::chat(&console, &caller, asked.app).await?;
    let index = console.parts().metrics.search.as_ref().ok_or_else(off)?;
    let mut ask = asked.ask()?;
    for channel in ask.channels.iter().flatten() {
        // `NotFound` where there is none.
        chat.channel(channel).await?;
    }
    let state = index.state();
    let mut found = Found::default();
    while found.results.len() < limit && found.examined < EXAMINED_MAX {
        let wanted = (2 * (limit - found.results.len())).max(HITS_MIN);
        ask.limit = wanted.min(EXAMINED_MAX - found.examined);
        let hits = hits(index, &ask, &mut found).await?;
        let Some(last) = hits.last() else { break };
        ask.from = Some(last.mark);
        look(&chat, &ask, &hits, limit, &mut found).await?;
        if !found.more {
            break;
        }
    }
    let next = found.last.filter(|_| found.more).map(|mark| cursor_of(ask.sort, mark));
    Ok(Reply(json!({
        "results": found.results,
        "next": next,
        "partial": found.partial,
        "catching_up": state.catching_up,
        "paused": state.paused,
    })))
}

impl SearchOf {
    fn ask(&self) -> Result<Ask> {
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let (query, author) = (TextQuery::parse(&self.query)?, given(&self.author));
        let channels = given(&self.channel).map(|name| name.parse::<ChannelId>()).transpose()?.map(|one| vec![one]);
        if query.is_empty() && author.is_none() && channels.is_none() {
            return Err(Error::invalid("say words to look for, a channel or an author"));
        }
        let sort = match self.sort.as_deref() {
            None | Some("") if query.is_empty() => Sort::Newest,
            None | Some("" | "relevance") => Sort::Relevance,
            Some("newest") => Sort::Newest,
            Some("oldest") => Sort::Oldest,
            Some(_) => return Err(Error::invalid("sort is relevance, newest or oldest")),
        };
        let from = self.cursor.as_deref().map(|cursor| mark_of(sort, cursor)).transpose()?;
        Ok(Ask {
            app: AppId(self.app),
            query,
            channels,
            author,
            mentions: None,
            attachments: false,
            after_ms: self.after_ms,
            before_ms: self.before_ms,
            sort,
            from,
            limit: 0,
        })
    }
}

/// What the index knows, behind where `ask` begins.
async fn hits(index: &SearchIndex, ask: &Ask, found: &mut Found) -> Result<Vec<Hit>> {
    match index.ask(ask.clone()).await {
        Ok(hits) => {
            found.more = hits.more;
            found.partial |= hits.partial;
            Ok(hits.hits)
        }
        Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Io) => {
            let message = "the search index of this node is being mended: try again in a moment";
            Err(Error::new(ErrorKind::Unavailable, message).with_source(error))
        }
        Err(error) => Err(error),
    }
}

/// Looks at hits as they are now, and takes those that are to be shown, up to `limit` in all.
async fn look(chat: &Chat<ClusterEngine>, ask: &Ask, hits: &[Hit], limit: usize, found: &mut Found) -> Result<()> {
    let mut places: BTreeMap<&ChannelId, Vec<Place>> = BTreeMap::new();
    for hit in hits {
        places.entry(&hit.channel).or_default().push(hit.place);
    }
    let mut now: BTreeMap<(&ChannelId, Place), Message> = BTreeMap::new();
    for (channel, places) in places {
        let messages = chat.messages_at(channel, &places).await?;
        now.extend(places.into_iter().zip(messages).filter_map(|(at, one)| Some(((channel, at), one?))));
    }
    for (number, hit) in hits.iter().enumerate() {
        found.examined += 1;
        found.last = Some(hit.mark);
        let Some(message) = now.remove(&(&hit.channel, hit.place)).filter(|one| is_asked_for(ask, one)) else {
            continue;
        };
        let cut = CutText::new(&message.text);
        if ask.query.matches(&cut) {
            found.results.push(result(ask, &hit.channel, &message, &cut));
        }
        if found.results.len() == limit {
            found.more |= number + 1 < hits.len();
            break;
        }
    }
    Ok(())
}

/// Whether the message, as it is now, passes the filters.
fn is_asked_for(ask: &Ask, message: &Message) -> bool {
    ask.author.as_ref().is_none_or(|author| message.user_id == *author)
        && ask.after_ms.is_none_or(|after| message.created_at_ms >= after)
        && ask.before_ms.is_none_or(|before| message.created_at_ms < before)
}

fn result(ask: &Ask, channel: &ChannelId, message: &Message, cut: &CutText) -> Value {
    let fragments: Vec<Value> = highlight(&ask.query, &message.text, cut)
        .into_iter()
        .map(|one| {
            let ranges: Vec<[usize; 2]> = one.ranges.iter().map(|range| [range.start, range.end]).collect();
            json!({ "text": one.text, "start": one.start, "ranges": ranges })
        })
        .collect();
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
        "fragments": fragments,
        "text": text,
    })
}

fn off() -> Error {
    Error::new(ErrorKind::Unavailable, "search is off on this node: set search_heap_mib")
}

fn order(sort: Sort) -> u8 {
    match sort {
        Sort::Relevance => 1,
        Sort::Newest => 2,
        Sort::Oldest => 3,
    }
}

fn cursor_of(sort: Sort, mark: Mark) -> String {
    let mut bytes = vec![order(sort)];
    bytes.extend_from_slice(&mark.to_bytes());
    hex(&bytes)
}

fn mark_of(sort: Sort, cursor: &str) -> Result<Mark> {
    let bytes = unhex("cursor", cursor)?;
    let mark =
        bytes.split_first().filter(|(first, _)| **first == order(sort)).and_then(|(_, mark)| Mark::from_bytes(mark));
    mark.ok_or_else(|| Error::invalid("cursor is what a page of such a search gave"))
}
