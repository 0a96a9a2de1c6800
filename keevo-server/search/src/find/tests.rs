//! What the index finds, and when it stops.

#![allow(clippy::indexing_slicing, reason = "a test may panic where it is wrong")]

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use keevo_core::SystemClock;
use tempfile::TempDir;

use super::*;
use crate::CutText;
use crate::saved::Saved;
use crate::store::tests::message;
use crate::store::{HEAP_BYTES_MIN, Op, Store};

/// A clock on which a second goes by from one look to the next.
#[derive(Debug, Default)]
struct Hasty(AtomicU64);

impl Clock for Hasty {
    fn now_ms(&self) -> u64 {
        0
    }

    fn monotonic(&self) -> Duration {
        Duration::from_secs(self.0.fetch_add(1, Ordering::SeqCst))
    }
}

fn channel(name: &str) -> ChannelId {
    name.parse().expect("a name")
}

/// An index of messages, which are numbered from 0 on: the even ones are in one channel, the odd ones in another.
fn index_of(texts: impl Iterator<Item = String>) -> (TempDir, Store) {
    let folder = TempDir::new().expect("a folder");
    let mut store = Store::open(folder.path(), HEAP_BYTES_MIN, false).expect("opened").store;
    let channels = [channel("team:even"), channel("team:odd")];
    let ops = (0..).zip(texts).map(|(number, text)| {
        let channel = if number % 2 == 0 { &channels[0] } else { &channels[1] };
        Op::Put(AppId(1), channel.clone(), message(number, &text))
    });
    store.apply(ops.collect()).expect("applied");
    store.commit(&Saved::default()).expect("committed");
    (folder, store)
}

fn ask(query: &str, sort: Sort) -> Ask {
    Ask {
        app: AppId(1),
        query: TextQuery::parse(query).expect("a query"),
        channels: None,
        author: None,
        mentions: None,
        attachments: false,
        after_ms: None,
        before_ms: None,
        sort,
        from: None,
        limit: 2_000,
    }
}

/// The time of an ask was once looked at for matches only: two frequent words that no message has both of, or a phrase
/// that stands nowhere, were one step, however many messages that went through.
#[test]
fn an_ask_without_matches_ends_when_its_time_is_up() {
    let texts = (0..20_000).map(|number| match number {
        0 => "neither".to_owned(),
        number if number % 2 == 0 => "left up and down".to_owned(),
        _ => "right up and down".to_owned(),
    });
    let (_folder, store) = index_of(texts);
    let index = store.readable();
    let system: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let elsewhere = Some(vec![channel("team:odd"), channel("team:none")]);
    for sort in [Sort::Relevance, Sort::Newest] {
        let asks = [
            ask("left right", sort),
            ask("\"down up\"", sort),
            ask("up -down", sort),
            ask("up -\"and down\"", sort),
            ask("le* ri*", sort),
            Ask { channels: elsewhere.clone(), ..ask("left", sort) },
        ];
        for ask in asks {
            let whole = find(&index, &ask, &system).expect("answered");
            assert_eq!((whole.hits.len(), whole.partial), (0, false), "{:?}", ask.query);
            let hasty = Arc::new(Hasty::default());
            let cut = find(&index, &ask, &(Arc::clone(&hasty) as Arc<dyn Clock>)).expect("answered");
            assert_eq!((cut.hits.len(), cut.partial), (0, true), "{:?}", ask.query);
            let looks = hasty.0.load(Ordering::SeqCst);
            assert!(looks <= 6, "it went on for {looks} looks: {:?}", ask.query);
        }
    }
}

#[test]
fn what_was_found_before_the_time_was_up_is_given() {
    let (_folder, store) = index_of((0..20_000).map(|_| "the same words".to_owned()));
    let hasty: Arc<dyn Clock> = Arc::new(Hasty::default());
    let asked = Ask { limit: 5, ..ask("words", Sort::Oldest) };
    let hits = find(&store.readable(), &asked, &hasty).expect("answered");
    assert_eq!((hits.hits.len(), hits.more, hits.partial), (5, true, true));
}

/// A beginning once stood for the 256 most frequent words of the app: in a channel with rare ones nothing was found, and
/// `partial` told of the words of other channels.
#[test]
fn a_beginning_stands_for_all_words_whatever_other_channels_say() {
    let (_folder, store) = index_of((0..4_000).map(|number| match number {
        1 => "something prerare".to_owned(),
        number if number % 2 == 0 => format!("pre{} pre{}", number % 1_000, number % 998),
        _ => "nothing of the kind".to_owned(),
    }));
    let system: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let asked = Ask { channels: Some(vec![channel("team:odd")]), ..ask("pre*", Sort::Relevance) };
    let found = find(&store.readable(), &asked, &system).expect("answered");
    let places: Vec<Place> = found.hits.iter().map(|hit| hit.place).collect();
    assert_eq!((places, found.partial), (vec![Place::Channel(1)], false));
    let found = find(&store.readable(), &ask("pre*", Sort::Newest), &system).expect("answered");
    assert_eq!((found.hits.len(), found.more, found.partial), (2_000, true, false));
}

/// What the index finds is what [`TextQuery::matches`] says of each text.
#[test]
fn the_index_finds_what_matches() {
    let words = ["red", "reed", "blue", "bluer", "green"];
    // Numbers that look random, and are the same each time.
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        usize::try_from(state >> 24).expect("a byte")
    };
    let texts: Vec<String> = (0..1_500)
        .map(|_| (0..=next() % 7).map(|_| words[next() % words.len()]).collect::<Vec<_>>().join(" "))
        .collect();
    let (_folder, store) = index_of(texts.iter().cloned());
    let (index, system) = (store.readable(), Arc::new(SystemClock::new()) as Arc<dyn Clock>);
    for query in [
        "red",
        "red blue",
        "\"red blue\"",
        "\"red red\"",
        "\"red blue red\"",
        "\"blue green\" \"green blue\"",
        "re*",
        "re* blue*",
        "\"red reed\" blu*",
        "green -\"red green\"",
        "-\"blue blue\" -reed",
        "bluer -re*",
        "-gr*",
        "\"red absent\"",
        "abs* red",
    ] {
        let parsed = TextQuery::parse(query).expect("a query");
        let cut = texts.iter().map(|text| CutText::new(text));
        let matching: BTreeSet<u64> =
            (0..).zip(cut).filter(|(_, text)| parsed.matches(text)).map(|(number, _)| number).collect();
        for sort in [Sort::Relevance, Sort::Newest, Sort::Oldest] {
            let found = find(&index, &ask(query, sort), &system).expect("answered");
            let places: BTreeSet<u64> = found.hits.iter().map(|hit| hit.place.number()).collect();
            assert_eq!((places, found.hits.len()), (matching.clone(), matching.len()), "{query}");
        }
    }
}
