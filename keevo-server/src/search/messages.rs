//! Messages of an app that are looked for, for callers who may read all of its chat.
//!
//! Invariant: the index only points. Each hit is read anew and held against what was asked, so what was deleted, erased or
//! edited away is not found, however old the index of this node is.

use std::collections::BTreeMap;

use bytes::Bytes;
use keevo_chat::{AppId, ChannelId, Chat, Message, Place};
use keevo_core::{Engine, Error, ErrorKind, Result};
use keevo_search::{Ask, CutText, Fragment, Hit, IndexState, Mark, SearchIndex, Sort, TextQuery, highlight};

/// The most hits that one search reads anew.
const EXAMINED_MAX: usize = 500;
/// The fewest hits that the index is asked for at once, but for the last.
const HITS_MIN: usize = 20;

/// What is looked for; an empty text asks for nothing.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    /// The app.
    pub(crate) app: AppId,
    /// What messages say, as the chat API's search takes it.
    pub(crate) query: String,
    pub(crate) channel: Option<ChannelId>,
    pub(crate) author: String,
    /// Sent then or later, in milliseconds since the epoch.
    pub(crate) after_ms: Option<u64>,
    /// Sent before.
    pub(crate) before_ms: Option<u64>,
    /// In which order; `None` = by relevance where there is a query, else the newest first.
    pub(crate) sort: Option<Sort>,
    /// `next` of the page before.
    pub(crate) after: Option<Bytes>,
    /// The most messages.
    pub(crate) limit: usize,
}

/// A message that was found.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) channel: ChannelId,
    /// As it is now, without counts.
    pub(crate) message: Message,
    /// The parts of its text with what was looked for; none where no words were.
    pub(crate) fragments: Vec<Fragment>,
}

/// A page of what was found.
#[derive(Debug, Default)]
pub(crate) struct FoundPage {
    pub(crate) found: Vec<Found>,
    /// Where the next page begins; `None` = there is none.
    pub(crate) next: Option<Bytes>,
    /// Whether a bound was met, so that messages may be left out.
    pub(crate) partial: bool,
    /// How the index was when it was asked.
    pub(crate) state: IndexState,
    examined: usize,
    last: Option<Mark>,
    more: bool,
}

/// Finds messages. `Invalid` for a question that asks for nothing or is wrong, `NotFound` where its channel does not exist,
/// `Unavailable` where `index` is none or is not open yet.
pub(crate) async fn find<E: Engine>(
    index: Option<&SearchIndex>,
    chat: &Chat<E>,
    question: &Question,
) -> Result<FoundPage> {
    let index = index.ok_or_else(off)?;
    let mut ask = ask_of(question)?;
    for channel in ask.channels.iter().flatten() {
        chat.channel(channel).await?;
    }
    let mut page = FoundPage { state: index.state(), ..FoundPage::default() };
    while page.found.len() < question.limit && page.examined < EXAMINED_MAX {
        let wanted = (2 * (question.limit - page.found.len())).max(HITS_MIN);
        ask.limit = wanted.min(EXAMINED_MAX - page.examined);
        let hits = hits(index, &ask, &mut page).await?;
        let Some(last) = hits.last() else { break };
        ask.from = Some(last.mark);
        look(chat, &ask, &hits, question.limit, &mut page).await?;
        if !page.more {
            break;
        }
    }
    page.next = page.last.filter(|_| page.more).map(|mark| cursor_of(ask.sort, mark));
    Ok(page)
}

fn ask_of(question: &Question) -> Result<Ask> {
    let (query, channel) = (TextQuery::parse(&question.query)?, question.channel.clone());
    let author = Some(question.author.clone()).filter(|author| !author.is_empty());
    if query.is_empty() && author.is_none() && channel.is_none() {
        return Err(Error::invalid("say words to look for, a channel or an author"));
    }
    let natural = if query.is_empty() { Sort::Newest } else { Sort::Relevance };
    let sort = question.sort.unwrap_or(natural);
    let from = question.after.as_deref().map(|cursor| mark_of(sort, cursor)).transpose()?;
    Ok(Ask {
        app: question.app,
        query,
        channels: channel.map(|one| vec![one]),
        author,
        mentions: None,
        attachments: false,
        after_ms: question.after_ms,
        before_ms: question.before_ms,
        sort,
        from,
        limit: 0,
    })
}

/// What the index knows, behind where `ask` begins.
async fn hits(index: &SearchIndex, ask: &Ask, page: &mut FoundPage) -> Result<Vec<Hit>> {
    match index.ask(ask.clone()).await {
        Ok(hits) => {
            page.more = hits.more;
            page.partial |= hits.partial;
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
async fn look<E: Engine>(chat: &Chat<E>, ask: &Ask, hits: &[Hit], limit: usize, page: &mut FoundPage) -> Result<()> {
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
        page.examined += 1;
        page.last = Some(hit.mark);
        let Some(message) = now.remove(&(&hit.channel, hit.place)).filter(|one| is_asked_for(ask, one)) else {
            continue;
        };
        let cut = CutText::new(&message.text);
        if ask.query.matches(&cut) {
            let fragments = highlight(&ask.query, &message.text, &cut);
            page.found.push(Found { channel: hit.channel.clone(), message, fragments });
        }
        if page.found.len() == limit {
            page.more |= number + 1 < hits.len();
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

fn off() -> Error {
    Error::new(ErrorKind::Unavailable, "search is off on this node: it needs search_heap_mib, and no data_key_file")
}

fn order(sort: Sort) -> u8 {
    match sort {
        Sort::Relevance => 1,
        Sort::Newest => 2,
        Sort::Oldest => 3,
    }
}

fn cursor_of(sort: Sort, mark: Mark) -> Bytes {
    let mut bytes = vec![order(sort)];
    bytes.extend_from_slice(&mark.to_bytes());
    bytes.into()
}

fn mark_of(sort: Sort, cursor: &[u8]) -> Result<Mark> {
    let mark = cursor.split_first().filter(|(first, _)| **first == order(sort));
    let mark = mark.and_then(|(_, mark)| Mark::from_bytes(mark));
    mark.ok_or_else(|| Error::invalid("a page of such a search gave no such place to go on from"))
}
