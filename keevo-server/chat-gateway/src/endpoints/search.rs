//! Search over messages: what the index knows, looked at as it is now and by who asks.
//!
//! Invariant: the index only points. Each hit is read anew, is held against what was asked, and is given only to who may
//! read its channel and sees the message; so an index that lags gives nothing away and finds nothing wrongly.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keevo_chat::{AppId, Capability, ChannelId, Message, Place};
use keevo_core::{Error, ErrorKind};
use keevo_search::{Ask, CutText, Hit, Hits, Mark, SearchIndex, Sort, TextQuery, highlight};
use serde_json::{Value, json};

use super::messages::rendered;
use crate::call::{Call, Caller};
use crate::error::{Answered, Refusal, of_query};

const LIMIT_DEFAULT: u64 = 25;
const LIMIT_MAX: usize = 100;
/// The most channels that a search names.
const NAMED_MAX: usize = 100;
/// The most channels of a user that a search covers.
const OWN_MAX: usize = 1_000;
/// The most hits that one search reads anew.
const EXAMINED_MAX: usize = 500;
/// The fewest hits that the index is asked for at once, but for the last.
const HITS_MIN: usize = 20;

/// What is asked, but for where the page begins.
struct Asked {
    ask: Ask,
    /// Whether channels of the user were left out.
    channels_cut: bool,
    limit: usize,
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

/// Finds messages.
pub(crate) async fn messages(call: &Call) -> Answered<Value> {
    let index = call.gateway.options.search.as_ref().ok_or_else(off)?;
    let Asked { mut ask, channels_cut, limit } = asked(call).await?;
    // Told as it was before: what comes in meanwhile may be found, and need not be.
    let state = index.state();
    let mut readable: BTreeMap<ChannelId, bool> = BTreeMap::new();
    let mut found = Found { partial: channels_cut, ..Found::default() };
    while found.results.len() < limit && found.examined < EXAMINED_MAX {
        let wanted = (2 * (limit - found.results.len())).max(HITS_MIN);
        ask.limit = wanted.min(EXAMINED_MAX - found.examined);
        let Hits { hits, more, partial } = search(index, &ask).await?;
        (found.more, found.partial) = (more, found.partial || partial);
        let Some(last) = hits.last() else { break };
        ask.from = Some(last.mark);
        look(call, &ask, hits, limit, &mut readable, &mut found).await?;
        if !found.more {
            break;
        }
    }
    let next = found.last.filter(|_| found.more).map(|mark| cursor_of(ask.sort, mark));
    let applied: BTreeMap<String, u64> =
        state.applied.into_iter().map(|(shard, revision)| (shard.to_string(), revision)).collect();
    Ok(json!({
        "results": found.results,
        "next": next,
        "partial": found.partial,
        "index": { "catching_up": state.catching_up, "applied": applied },
    }))
}

async fn search(index: &SearchIndex, ask: &Ask) -> Answered<Hits> {
    match index.ask(ask.clone()).await {
        Ok(hits) => Ok(hits),
        Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Io) => {
            tracing::warn!(%error, "a search failed");
            let message = "the search index of this node is being mended: try again in a moment";
            Err(Error::new(ErrorKind::Unavailable, message).into())
        }
        Err(error) => Err(error.into()),
    }
}

/// Looks at hits as they are now, and takes those that are to be given, up to `limit` in all.
async fn look(
    call: &Call,
    ask: &Ask,
    hits: Vec<Hit>,
    limit: usize,
    readable: &mut BTreeMap<ChannelId, bool>,
    found: &mut Found,
) -> Answered<()> {
    let mut places: BTreeMap<&ChannelId, Vec<Place>> = BTreeMap::new();
    for hit in &hits {
        places.entry(&hit.channel).or_default().push(hit.place);
    }
    let mut now: BTreeMap<(&ChannelId, Place), Message> = BTreeMap::new();
    for (channel, places) in places {
        let may = match readable.get(channel) {
            Some(may) => *may,
            None => may_read(call, channel).await?,
        };
        readable.insert(channel.clone(), may);
        if may {
            let messages = call.chats.trusted.messages_at(channel, &places).await?;
            now.extend(places.iter().zip(messages).filter_map(|(at, one)| Some(((channel, *at), one?))));
        }
    }
    for (number, hit) in hits.iter().enumerate() {
        found.examined += 1;
        found.last = Some(hit.mark);
        let message = now.remove(&(&hit.channel, hit.place));
        let Some(message) = message.filter(|message| is_asked_for(ask, message) && is_seen(call, message)) else {
            continue;
        };
        let cut = CutText::new(&message.text);
        if !ask.query.matches(&cut) {
            continue;
        }
        let highlights: Vec<Value> = highlight(&ask.query, &message.text, &cut)
            .into_iter()
            .map(|one| {
                let ranges: Vec<[usize; 2]> = one.ranges.iter().map(|range| [range.start, range.end]).collect();
                json!({ "text": one.text, "start": one.start, "ranges": ranges })
            })
            .collect();
        let mut messages = rendered(call, &hit.channel, std::slice::from_ref(&message)).await?;
        found.results.push(json!({ "message": messages.pop(), "highlights": highlights }));
        if found.results.len() == limit {
            found.more |= number + 1 < hits.len();
            break;
        }
    }
    Ok(())
}

/// Whether who asks sees the message.
fn is_seen(call: &Call, message: &Message) -> bool {
    call.viewer().is_none_or(|user| message.is_visible_to(user))
}

/// Whether the message, as it is now, passes the filters.
fn is_asked_for(ask: &Ask, message: &Message) -> bool {
    ask.author.as_ref().is_none_or(|author| message.user_id == *author)
        && ask.mentions.as_ref().is_none_or(|user| message.mentions.users.contains(user))
        && (!ask.attachments || !message.attachments.is_empty())
        && ask.after_ms.is_none_or(|after| message.created_at_ms >= after)
        && ask.before_ms.is_none_or(|before| message.created_at_ms < before)
}

/// Whether who asks may read the channel.
async fn may_read(call: &Call, channel: &ChannelId) -> Answered<bool> {
    let Caller::User(user) = &call.caller else { return Ok(true) };
    match call.chats.members.authorize(channel, user, Capability::ReadChannel).await {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::NotFound) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Reads the request.
async fn asked(call: &Call) -> Answered<Asked> {
    let query = TextQuery::parse(call.text("query").unwrap_or_default())
        .map_err(|error| Refusal::field("query", error.message()))?;
    let (author, mentions) = (call.owned("author_id"), call.owned("mentions"));
    let attachments = call.truth("has_attachments");
    if query.is_empty() && author.is_none() && mentions.is_none() && !attachments && !call.body.contains_key("cids") {
        let detail = "holds no word; without one, say cids, author_id, mentions or has_attachments";
        return Err(Refusal::field("query", detail));
    }
    let sort = match call.text("sort") {
        None if query.is_empty() => Sort::Newest,
        None | Some("relevance") => Sort::Relevance,
        Some("-created_at") => Sort::Newest,
        Some("created_at") => Sort::Oldest,
        Some(_) => return Err(Refusal::field("sort", "is relevance, -created_at or created_at")),
    };
    let limit = usize::try_from(call.number("limit").unwrap_or(LIMIT_DEFAULT)).unwrap_or(usize::MAX);
    if limit == 0 || limit > LIMIT_MAX {
        return Err(Refusal::field("limit", format!("is 1 to {LIMIT_MAX}")));
    }
    let from = call.text("cursor").map(|cursor| mark_of(sort, cursor).ok_or_else(bad_cursor)).transpose()?;
    let (channels, channels_cut) = channels(call).await?;
    let ask = Ask {
        app: AppId(call.app.id),
        query,
        channels,
        author,
        mentions,
        attachments,
        after_ms: call.number("created_after"),
        before_ms: call.number("created_before"),
        sort,
        from,
        limit,
    };
    Ok(Asked { ask, channels_cut, limit })
}

/// The channels that the search covers: those that it names, else the user's own, else all of the app; and whether some
/// of the user's were left out.
async fn channels(call: &Call) -> Answered<(Option<Vec<ChannelId>>, bool)> {
    if call.body.contains_key("cids") {
        let mut named = BTreeSet::new();
        for cid in call.list("cids", NAMED_MAX)?.iter().filter_map(Value::as_str) {
            let channel: ChannelId = cid.parse().map_err(|error: Error| Refusal::field("cids", error.message()))?;
            if !may_read(call, &channel).await? {
                let detail = format!("{channel} cannot be read: it does not exist, or user lacks the right");
                return Err(Refusal::denied("not-a-member", detail));
            }
            named.insert(channel);
        }
        if named.is_empty() {
            return Err(Refusal::field("cids", "names a channel at least"));
        }
        return Ok((Some(named.into_iter().collect()), false));
    }
    let Some(user) = call.viewer() else { return Ok((None, false)) };
    let listings = call.chats.trusted.channels_of(user, None, OWN_MAX).await.map_err(of_query)?;
    let cut = listings.len() == OWN_MAX;
    Ok((Some(listings.into_iter().map(|listing| listing.channel).collect()), cut))
}

fn off() -> Refusal {
    Error::new(ErrorKind::Unavailable, "search is off on this node: it needs search_heap_mib, and no data_key_file")
        .into()
}

fn bad_cursor() -> Refusal {
    Refusal::field("cursor", "is none that a page of such a search gave")
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
    URL_SAFE_NO_PAD.encode(bytes)
}

fn mark_of(sort: Sort, cursor: &str) -> Option<Mark> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).ok()?;
    let (first, mark) = bytes.split_first()?;
    Mark::from_bytes(mark).filter(|_| *first == order(sort))
}
