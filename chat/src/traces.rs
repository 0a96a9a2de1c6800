//! A walk over the channels that hold anything of a user, for exports and erasures.
//!
//! Whoever leaves something in a channel leaves a row there that tells so (`11 user`, or a membership, a mention and the
//! like), so a channel without one costs a look and no more; one with it is read as a whole.
//!
//! Invariant: a step costs a bounded number of reads, and its place is all that the next one needs to know.

use bytes::Bytes;
use keevo_core::{Engine, Key, Record, Result, prefix_end};

use crate::chat::{Chat, range};
use crate::ids::ChannelId;
use crate::keys::{self, CHANNEL_BUCKETS, ChannelKeys, Mentioned};
use crate::member::behind;
use crate::rows::TraceRow;

/// How many channels one step looks at.
const CHANNELS_PAGE: usize = 64;
/// How many rows of a channel one step reads.
const ROWS_PAGE: usize = 200;

/// What a step of the walk came to.
pub(crate) enum Step {
    /// Rows of a channel, of the user's and of others, in their order.
    Rows(ChannelId, ChannelKeys, Vec<(Key, Record)>),
    /// All rows of the channel were walked.
    Walked(ChannelKeys),
    /// The next channels hold nothing of the user, or a channel begins.
    Moved,
    /// There is no channel left.
    End,
}

impl<E: Engine> Chat<E> {
    /// The next step of the walk over what `user` has left; `at` moves behind it.
    pub(crate) async fn trace(&self, user: &str, at: &mut TraceRow) -> Result<Step> {
        if at.through {
            return Ok(Step::End);
        }
        if !at.within.is_empty() {
            return self.trace_rows(at).await;
        }
        let (after, channels, last) = loop {
            let Some(bucket) = u16::try_from(at.bucket).ok().filter(|bucket| *bucket < CHANNEL_BUCKETS) else {
                at.through = true;
                return Ok(Step::End);
            };
            let after = if at.channel.is_empty() { None } else { Some(keys::stored_channel(&at.channel)?) };
            let channels = self.directory_page(bucket, None, after.as_ref(), CHANNELS_PAGE).await?;
            if let Some(last) = channels.last().cloned() {
                break (after, channels, last);
            }
            (at.bucket, at.channel) = (at.bucket + 1, String::new());
        };
        at.channel = last.to_string();
        let mut before = after;
        for channel in &channels {
            if self.has_traces(channel, user).await? {
                // The walk goes on behind this channel once it is done.
                at.channel = before.map_or_else(String::new, |channel| channel.to_string());
                (at.within, at.sort) = (channel.to_string(), Bytes::new());
                break;
            }
            before = Some(channel.clone());
        }
        Ok(Step::Moved)
    }

    async fn trace_rows(&self, at: &mut TraceRow) -> Result<Step> {
        let channel = keys::stored_channel(&at.within)?;
        let keys = self.keys(&channel).await?;
        let start = if at.sort.is_empty() { Bytes::new() } else { behind(&at.sort) };
        let rows = self.first(range(&keys, start, prefix_end(&[]), ROWS_PAGE), ROWS_PAGE).await?;
        let Some((last, _)) = rows.last() else {
            (at.channel, at.within, at.sort) = (at.within.clone(), String::new(), Bytes::new());
            return Ok(Step::Walked(keys));
        };
        at.sort = Bytes::copy_from_slice(&last.sort);
        Ok(Step::Rows(channel, keys, rows))
    }

    async fn has_traces(&self, channel: &ChannelId, user: &str) -> Result<bool> {
        let keys = self.keys(channel).await?;
        let wanted = vec![
            keys.own(user),
            keys.member(user),
            keys.read(user),
            keys.receipt(user),
            keys.invite(user),
            keys.ban(user),
            keys.mention_counter(Mentioned::User(user), None),
        ];
        Ok(self.multi_get(wanted).await?.iter().any(Option::is_some))
    }
}
