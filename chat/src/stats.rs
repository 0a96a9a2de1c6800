//! Counts of replies and reactions per message.
//!
//! They lie in the order of the messages, so that those of a whole page of history are one more scan.

use std::collections::BTreeMap;

use bytes::Bytes;
use keevo_core::{Engine, Key, Record, Result, prefix_end};

use crate::chat::{Chat, range};
use crate::ids::Place;
use crate::keys::{self, ChannelKeys, Row, Stat};
use crate::message::{Message, MessageStats};
use crate::rows;

impl<E: Engine> Chat<E> {
    pub(crate) async fn stats_of(&self, keys: &ChannelKeys, place: Place) -> Result<MessageStats> {
        let mut stats = Stats::default();
        stats.add(self.all(keys, keys::prefix::stats(place)).await?)?;
        Ok(stats.of(place))
    }

    /// Fills in the counts of a page of messages, which are of one sequence and in order, either way.
    pub(crate) async fn fill_stats(&self, keys: &ChannelKeys, messages: &mut [Message]) -> Result<()> {
        let (Some(one), Some(other)) = (messages.first(), messages.last()) else {
            return Ok(());
        };
        let (first, last) = (one.place.min(other.place), one.place.max(other.place));
        let start: Bytes = keys::prefix::stats(first);
        let end = prefix_end(&keys::prefix::stats(last));
        let mut stats = Stats::default();
        self.walk(range(keys, start, end, 1_000), |page| {
            stats.add(page)?;
            Ok(true)
        })
        .await?;
        for message in messages {
            message.stats = Some(stats.of(message.place));
        }
        Ok(())
    }
}

#[derive(Debug, Default)]
struct Stats {
    found: BTreeMap<Place, Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    replies: u64,
    deleted_replies: u64,
    reactions: BTreeMap<String, u64>,
    scores: BTreeMap<String, i64>,
}

impl Stats {
    fn add(&mut self, records: Vec<(Key, Record)>) -> Result<()> {
        for (key, record) in records {
            let Row::Stat(place, stat) = Row::parse(&key.sort)? else {
                continue;
            };
            let counts = self.found.entry(place).or_default();
            if let Stat::Scores(kind) = stat {
                counts.scores.insert(kind.to_owned(), rows::decode_sum(&record.value)?);
                continue;
            }
            let count = rows::decode_count(&record.value)?;
            match stat {
                Stat::Replies => counts.replies = count,
                Stat::DeletedReplies => counts.deleted_replies = count,
                Stat::Reactions(kind) if count > 0 => {
                    counts.reactions.insert(kind.to_owned(), count);
                }
                Stat::CountableReplies | Stat::Scores(_) | Stat::Reactions(_) => {}
            }
        }
        Ok(())
    }

    fn of(&self, place: Place) -> MessageStats {
        self.found.get(&place).map_or_else(MessageStats::default, |counts| MessageStats {
            reply_count: counts.replies.saturating_sub(counts.deleted_replies),
            reactions: counts.reactions.clone(),
            // Of a type that nobody uses any more the sum is 0.
            scores: counts
                .scores
                .iter()
                .filter(|(kind, _)| counts.reactions.contains_key(*kind))
                .map(|(kind, sum)| (kind.clone(), *sum))
                .collect(),
        })
    }
}
