//! The decoders of this crate: keys and rows of feeds, and the names and times that clients send.
//!
//! For keevo-fuzz alone, behind the feature `fuzzing`. Each promises that no bytes make it panic, and that what it
//! accepts is written and read to the same again.

use bytes::Bytes;
use keevo_core::fuzzing::Decoder;
use keevo_core::{Record, Revision};
use prost::Message;

use crate::activity::Activity;
use crate::feed_id::FeedId;
use crate::ids::{ActivityId, AppId, Identity};
use crate::keys;
use crate::lanes::Lane;
use crate::ranking::Ranking;
use crate::reactions::{Reaction, ReactionRow, RefRow, TallyRow};
use crate::rows::{self, ActivityRow, CopyRow, EdgeJobRow, EdgeRow, EntryRow, FollowerRow, JobRow, OwnRow, PointerRow};
use crate::time::ActivityTime;

/// Every decoder of this module.
pub const DECODERS: &[Decoder] = &[
    Decoder { name: "feed_key", accepts: key, samples: key_samples },
    Decoder { name: "feed_row", accepts: row, samples: row_samples },
    Decoder { name: "feed_text", accepts: text, samples: text_samples },
    Decoder { name: "feed_ranking", accepts: ranking, samples: ranking_samples },
];

fn key(input: &[u8]) -> bool {
    if let Ok(timeline) = keys::parse_timeline(input) {
        let again = keys::timeline(timeline.id, timeline.source.as_ref(), timeline.generation);
        assert_eq!(again, input, "a timeline's key is written in one way only");
        return true;
    }
    if let Ok((id, generation)) = keys::parse_own(input) {
        assert_eq!(keys::own(id, generation), input, "an own row's key is written in one way only");
        return true;
    }
    if let Ok((created_us, feed)) = keys::parse_by_time(input) {
        assert_eq!(keys::by_time(created_us, &feed), input, "a follow's key is written in one way only");
        return true;
    }
    for lane in Lane::ALL {
        if let Ok((created_us, number)) = keys::parse_pointer(lane, input) {
            assert_eq!(keys::pointer(lane, created_us, number), input, "a pointer's key is written in one way only");
            return true;
        }
    }
    keys::parse_foreign(input, &keys::foreign_prefix("f")).is_ok() || keys::parse_named(input, keys::EDGE).is_ok()
}

fn id() -> ActivityId {
    let time = ActivityTime::from_micros(1_700_000_000_000_000).expect("a time");
    ActivityId::compute(AppId(1), time, Identity::ForeignId("x"))
}

fn feed() -> FeedId {
    "user:1".parse().expect("a feed")
}

fn key_samples() -> Vec<Vec<u8>> {
    let keys = [
        keys::timeline(id(), Some(&feed()), 3),
        keys::timeline(id(), None, 3),
        keys::own(id(), 3),
        keys::foreign("f", id(), 3),
        keys::by_time(9, &feed()),
        keys::pointer(Lane::Prompt, 9, 10),
        keys::pointer(Lane::Bulk, 9, 10),
        keys::join(keys::EDGE, b"user:1"),
    ];
    keys.iter().map(|key| key.to_vec()).collect()
}

/// Input: which row, then its bytes.
fn row(input: &[u8]) -> bool {
    let Some((&kind, value)) = input.split_first() else { return false };
    let record = Record { revision: Revision(1), expires_at_ms: None, value: Bytes::copy_from_slice(value) };
    match kind % 11 {
        0 => {
            survives::<ActivityRow>(&record) && {
                let row = rows::decode::<ActivityRow>(&record).expect("it has decoded");
                // Names and fields that lie in a row are checked as they are read.
                Activity::from_row(id(), &row, None).is_ok()
            }
        }
        1 => survives::<EntryRow>(&record),
        2 => survives::<JobRow>(&record),
        3 => survives::<OwnRow>(&record),
        4 => survives::<EdgeRow>(&record),
        5 => survives::<CopyRow>(&record),
        6 => survives::<EdgeJobRow>(&record),
        7 => survives::<FollowerRow>(&record),
        8 => survives::<PointerRow>(&record) || rows::decode_count(Some(&record)).is_ok(),
        9 => {
            survives::<ReactionRow>(&record) && {
                let row = rows::decode::<ReactionRow>(&record).expect("it has decoded");
                Reaction::from_row("r", &row).is_ok()
            }
        }
        _ => survives::<TallyRow>(&record),
    }
}

fn survives<M: Message + Default + PartialEq>(record: &Record) -> bool {
    let Ok(row) = rows::decode::<M>(record) else { return false };
    let again = M::decode(rows::encode(&row)).expect("what was encoded decodes");
    assert!(again == row, "a row survives being encoded");
    true
}

fn row_samples() -> Vec<Vec<u8>> {
    let entry = EntryRow { feed: "user:1".to_owned(), via: "user:2".to_owned(), generation: 3 };
    let activity = ActivityRow {
        actor: "u".to_owned(),
        verb: "post".to_owned(),
        object: "o".to_owned(),
        custom: Bytes::from_static(br#"{"a":[1,null,"x"]}"#),
        entries: vec![entry.clone()],
        last_gen: 3,
        ..ActivityRow::default()
    };
    let job = JobRow { entries: vec![entry.clone()], foreign_id: "f".to_owned(), bucket: 7, ..JobRow::default() };
    let bodies = [
        rows::encode(&activity),
        rows::encode(&entry),
        rows::encode(&job),
        rows::encode(&OwnRow { began_us: 9, quiet: true }),
        rows::encode(&EdgeRow { created_us: 9, bucket: 3 }),
        rows::encode(&CopyRow { everything: true, oldest: Bytes::from_static(&[7; 16]), listed_us: 9 }),
        rows::encode(&EdgeJobRow { unfollow: true, epoch: 7, ..EdgeJobRow::default() }),
        rows::encode(&FollowerRow { epoch: 7, created_us: 9, gone: true, listed_us: 9 }),
        rows::encode(&PointerRow {
            activity: Bytes::from_static(&[7; 16]),
            feed: "user:1".to_owned(),
            reaction: "r".to_owned(),
            source: "user:2".to_owned(),
        }),
        rows::encode(&ReactionRow {
            version: 3,
            kind: "like".to_owned(),
            user: "alice".to_owned(),
            data: Bytes::from_static(br#"{"a":1}"#),
            target_feeds: vec!["user:1".to_owned()],
            ..ReactionRow::default()
        }),
        rows::encode(&tally()),
    ];
    (0_u8..).zip(bodies).map(|(kind, body)| [&[kind][..], body.as_ref()].concat()).collect()
}

fn tally() -> TallyRow {
    let mut tally = TallyRow::default();
    tally.add("like", RefRow { created_us: 9, id: "r".to_owned() }, 5);
    tally
}

fn text(input: &[u8]) -> bool {
    let is_id = ActivityId::from_bytes(input).is_ok_and(|id| id.as_bytes() == input);
    let Ok(text) = std::str::from_utf8(input) else { return is_id };
    let feed = text.parse::<FeedId>();
    if let Ok(feed) = &feed {
        assert_eq!(feed.as_str(), text, "a feed is named in one way only");
    }
    is_id || feed.is_ok() || text.parse::<ActivityId>().is_ok() || text.parse::<ActivityTime>().is_ok()
}

fn text_samples() -> Vec<Vec<u8>> {
    let texts = ["user:1", "2024-01-31T12:00:00.123456Z"].map(|text| text.as_bytes().to_vec());
    texts.into_iter().chain([id().as_bytes().to_vec(), id().uuid().to_string().into_bytes()]).collect()
}

/// A score: what compiles also computes, or says why not.
fn ranking(input: &[u8]) -> bool {
    let Ok(score) = std::str::from_utf8(input) else { return false };
    let functions = serde_json::json!({"own": {"base": "decay_gauss", "scale": "5d"}});
    let Ok(ranking) = Ranking::from_json(&serde_json::json!({"score": score, "functions": functions})) else {
        return false;
    };
    let row = ActivityRow { custom: Bytes::from_static(br#"{"n":2,"t":"x"}"#), ..ActivityRow::default() };
    let activity = Activity::from_row(id(), &row, None).expect("a row without entries");
    let random = keevo_core::SeededRandom::new(1);
    let scored = ranking.score(&activity, &serde_json::Map::new(), 1_700_000_000.0, &random, None);
    scored.map_or(true, |score| {
        assert!(score.is_finite(), "a score can be shown and compared");
        true
    })
}

fn ranking_samples() -> Vec<Vec<u8>> {
    let scores = [
        "own(time) * (1 + n) ^ 0.5",
        "-min(n, 2e3, .5) / max(ln(n), log(10)) - rand_normal(0, 1, 2, 1)",
        "dist(n, 1, 2, 3, 'km') + to_unix_timestamp(\"2024-01-31T12:00:00Z\") * rand(1, 2)",
        "trunc(abs(sin(n))) + round(cos(n) + tan(n)) + decay_linear(time) + decay_exp(external.x)",
    ];
    scores.map(|score| score.as_bytes().to_vec()).to_vec()
}
