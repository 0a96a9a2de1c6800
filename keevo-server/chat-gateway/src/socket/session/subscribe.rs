//! What a session watches: subscribing, typing, and the token that covers all of it.
//!
//! Invariant: a reply that says where channels stand is queued before any event behind those places.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, StreamExt};
use keevo_chat::{Capability, ChannelId, Feature, Position, ResumeFrom, ResumeToken};
use keevo_core::ErrorKind;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Closing, Session};
use crate::error::{Answered, Refusal};
use crate::resume;
use crate::socket::channel::Joining;
use crate::socket::frame::{self, Outcome, Wanted};

/// How many channels are looked at together.
const CONCURRENCY: usize = 8;
/// How long the right to type is taken as it was.
const TYPING_RIGHT: Duration = Duration::from_secs(10);
/// After how long a token is told again, since tokens end.
const TOKEN_AGE: Duration = Duration::from_hours(1);
/// How often a session that takes in many channels looks whether its queue has room.
const ROOM_EVERY: Duration = Duration::from_millis(10);
/// How long it does so before the client counts as too slow.
const ROOM_WITHIN: Duration = Duration::from_secs(10);

/// A channel that was asked for, and judged.
pub(super) struct Checked {
    pub(super) cid: String,
    pub(super) outcome: Outcome,
    /// Where it begins, unless it is watched already.
    start: Option<(ChannelId, ResumeToken, Option<Position>)>,
}

impl Checked {
    fn of(cid: String, outcome: Outcome) -> Self {
        Self { cid, outcome, start: None }
    }
}

impl Session {
    pub(super) async fn subscribe(&mut self, id: &Value, wanted: Vec<Wanted>) {
        let max = self.gateway.inner.options.channels_max;
        let Some(who) = &self.who else { return };
        if wanted.len() > max {
            self.refuse(id, &Refusal::field("channels", format!("has at most {max} entries, not {}", wanted.len())));
            return;
        }
        let now_ms = self.gateway.inner.shared.now_ms();
        let mut opened = Vec::with_capacity(wanted.len());
        for Wanted { cid, resume } in wanted {
            let Some(text) = resume else {
                opened.push((cid, None, None));
                continue;
            };
            let place = resume::open(&who.app, &who.user, &text, now_ms);
            match place.map(|places| places.into_iter().find(|place| place.channel().as_str() == cid)) {
                Ok(Some(place)) => opened.push((cid, Some(place), None)),
                Ok(None) => {
                    self.refuse(id, &Refusal::field("resume", format!("does not cover the channel {cid}")));
                    return;
                }
                Err(refusal) => {
                    self.refuse(id, &refusal);
                    return;
                }
            }
        }
        let checked = self.check(opened).await;
        let channels: Vec<Value> = checked.iter().map(|one| frame::status(&one.cid, &one.outcome)).collect();
        let token = self.token(&checked);
        self.say(&json!({ "type": "subscribed", "id": id, "channels": channels, "resume": token }));
        self.watch(checked).await;
    }

    /// Judges the channels that are asked for, each with where it stands.
    pub(super) async fn check(&mut self, wanted: Vec<(String, Option<ResumeToken>, Option<Position>)>) -> Vec<Checked> {
        // Those that have ended since make room.
        let number = self.seat.number;
        self.channels.retain(|_, channel| channel.lock().has(number));
        self.typing.retain(|id, _| self.channels.contains_key(id));
        let max = self.gateway.inner.options.channels_max;
        let mut room = max.saturating_sub(self.channels.len());
        let mut taken: BTreeSet<String> = BTreeSet::new();
        let mut asked = Vec::with_capacity(wanted.len());
        for (cid, place, seen) in wanted {
            let known = cid.parse::<ChannelId>().is_ok_and(|id| self.channels.contains_key(&id));
            let counts = !known && taken.insert(cid.clone());
            let fits = !counts || room > 0;
            room -= usize::from(counts && fits);
            asked.push((cid, place, seen, counts, fits));
        }
        let session = &*self;
        let judged = stream::iter(asked).map(|(cid, place, seen, counts, fits)| async move {
            if !counts {
                return Checked::of(cid, Outcome::On);
            }
            if !fits {
                let refusal = Refusal::field("channels", format!("a socket has at most {max} channels"));
                return Checked::of(cid, Outcome::Refused(refusal));
            }
            match session.judge(&cid, place).await {
                Ok(Some((id, token))) => Checked { cid, outcome: Outcome::On, start: Some((id, token, seen)) },
                Ok(None) => Checked::of(cid, Outcome::Reload),
                Err(refusal) => Checked::of(cid, Outcome::Refused(refusal)),
            }
        });
        judged.buffered(CONCURRENCY).collect().await
    }

    /// Where the user's subscription of a channel begins; `None` = the channel is to be read again.
    async fn judge(&self, cid: &str, place: Option<ResumeToken>) -> Answered<Option<(ChannelId, ResumeToken)>> {
        let Some(who) = &self.who else { return Ok(None) };
        let id = frame::channel(cid)?;
        if place.as_ref().is_some_and(ResumeToken::replays) {
            return Err(Refusal::field("resume", "is of a page of older messages: use the one of the newest page"));
        }
        let from = place.map_or(ResumeFrom::Now, |place| ResumeFrom::Token(place.for_user(who.user.as_ref())));
        let chat = &self.gateway.inner.chats.of(who.app.id).members;
        match chat.subscribe_as(&id, &who.user, from).await {
            Ok(subscription) => Ok(Some((id, subscription.resume().clone().for_nobody()))),
            Err(error) if error.kind() == ErrorKind::CursorCompacted => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Watches what was judged. A client that takes nothing meanwhile is closed, and resumes.
    pub(super) async fn watch(&mut self, checked: Vec<Checked>) {
        for one in checked {
            let Some((id, token, seen)) = one.start else { continue };
            let since = Instant::now();
            while !self.outbox.has_room() {
                if since.elapsed() > ROOM_WITHIN {
                    self.outbox.close(Closing::SLOW);
                    return;
                }
                tokio::time::sleep(ROOM_EVERY).await;
            }
            let Some(who) = &self.who else { return };
            let joining = Joining {
                outbox: Arc::clone(&self.outbox),
                user: Arc::clone(&who.user),
                admin: who.admin,
                invisible: who.invisible,
                token,
                seen,
            };
            match self.hub.attach(who.app.id, &id, self.seat.number, joining) {
                Some(channel) => drop(self.channels.insert(id, channel)),
                None => self.outbox.push(frame::reload(id.as_str(), "too many clients come back from too far")),
            }
        }
    }

    pub(super) fn unsubscribe(&mut self, id: &Value, cids: &[String]) {
        for cid in cids {
            let channel = cid.parse::<ChannelId>().ok().and_then(|id| self.channels.remove(&id));
            if let Some(channel) = channel {
                self.typing.remove(&channel.id);
                self.hub.detach(&channel, self.seat.number);
            }
        }
        let token = self.token(&[]);
        self.say(&json!({ "type": "unsubscribed", "id": id, "resume": token }));
    }

    /// A token for all channels, as of what was put into the queue so far, and for those that are about to be watched.
    pub(super) fn token(&mut self, checked: &[Checked]) -> String {
        let Some(who) = &self.who else { return String::new() };
        let places = self.places(checked);
        let token = resume::seal(&who.app, &who.user, &places, self.gateway.inner.shared.now_ms());
        (self.told, self.told_at) = (places, Instant::now());
        token
    }

    /// A token that is worth telling: where channels stand elsewhere than the last one said, or that is old.
    pub(super) fn fresh_token(&mut self) -> Option<String> {
        let stale = self.told_at.elapsed() > TOKEN_AGE || self.places(&[]) != self.told;
        stale.then(|| self.token(&[]))
    }

    fn places(&self, checked: &[Checked]) -> Vec<ResumeToken> {
        let number = self.seat.number;
        let mut places: Vec<ResumeToken> =
            self.channels.values().filter_map(|channel| channel.lock().place_of(number)).collect();
        places.extend(checked.iter().filter_map(|one| one.start.as_ref()).map(|(_, token, seen)| match seen {
            Some(seen) => token.clone().having_seen(*seen),
            None => token.clone(),
        }));
        places
    }

    /// Has the user type in a channel that it watches.
    pub(super) async fn types(&mut self, cid: &str, parent: Option<String>, typing: bool) -> Answered<()> {
        let id = frame::channel(cid)?;
        if parent.as_ref().is_some_and(|parent| parent.len() > keevo_chat::NAME_BYTES_MAX) {
            return Err(Refusal::field("parent_id", "is no id of a message"));
        }
        let Some(channel) = self.channels.get(&id).cloned() else {
            return Err(Refusal::field("cid", "is not subscribed: subscribe first"));
        };
        let Some(who) = &self.who else { return Ok(()) };
        let chats = self.gateway.inner.chats.of(who.app.id);
        let types = chats.members.channel_types();
        if !types.of(id.kind())?.features.contains(&Feature::Typing) {
            return Err(Refusal::denied("feature-off", format!("channels of type {} have no typing", id.kind())));
        }
        if typing && self.typing.get(&id).is_none_or(|looked| looked.elapsed() > TYPING_RIGHT) {
            chats.members.authorize(&id, &who.user, Capability::SendMessage).await?;
            self.typing.insert(id, Instant::now());
        }
        channel.lock().types(self.seat.number, parent, typing, self.hub.now());
        self.hub.schedule(&channel);
        Ok(())
    }
}
