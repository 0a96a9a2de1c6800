//! Who watches a channel, and who types: ephemeral, of this node, and told at most once a second.
//!
//! Invariant: however many come, go and type, a channel has one frame a second, with bounded lists.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

/// How long typing lasts that is not said again.
const TYPING: Duration = Duration::from_secs(6);
/// How often a channel's presence is told at most.
const EVERY: Duration = Duration::from_secs(1);
/// How long changes are gathered where nothing was told lately.
const GATHER: Duration = Duration::from_millis(50);
/// The most names of those who came, or went.
const NAMES_MAX: usize = 100;
/// The most who are told to type.
const TYPING_MAX: usize = 20;
/// The most places that are remembered in which somebody types.
const TYPING_KEPT_MAX: usize = 1_000;
/// Those of one user: a few devices, and nobody keeps others from being told.
const TYPING_OF_USER_MAX: usize = 5;

/// The presence of one channel. Times are a monotonic clock's.
#[derive(Debug, Default)]
pub(super) struct Presence {
    /// How many sockets each has.
    watchers: BTreeMap<Arc<str>, usize>,
    joined: BTreeSet<Arc<str>>,
    left: BTreeSet<Arc<str>>,
    /// Until when each types, and where.
    typing: BTreeMap<(Arc<str>, Option<String>), Duration>,
    changed: bool,
    told: Option<Duration>,
    /// Whether somebody waits to tell.
    due: Option<Duration>,
}

impl Presence {
    /// A socket of `user` watches.
    pub(super) fn enter(&mut self, user: &Arc<str>) {
        let count = self.watchers.entry(Arc::clone(user)).or_default();
        *count += 1;
        if *count == 1 && !self.left.remove(user) {
            self.joined.insert(Arc::clone(user));
        }
        self.changed = true;
    }

    /// A socket of `user` watches no longer.
    pub(super) fn leave(&mut self, user: &Arc<str>) {
        let Some(count) = self.watchers.get_mut(user) else { return };
        *count -= 1;
        if *count == 0 {
            self.watchers.remove(user);
            self.typing.retain(|(one, _), _| one != user);
            if !self.joined.remove(user) {
                self.left.insert(Arc::clone(user));
            }
        }
        self.changed = true;
    }

    /// `user` types, or types no longer.
    pub(super) fn types(&mut self, user: &Arc<str>, parent: Option<String>, typing: bool, now: Duration) {
        let key = (Arc::clone(user), parent);
        if !typing {
            self.changed |= self.typing.remove(&key).is_some();
            return;
        }
        let own = self.typing.range((Arc::clone(user), None)..).take_while(|((one, _), _)| one == user).count();
        let fits = self.typing.len() < TYPING_KEPT_MAX && own < TYPING_OF_USER_MAX;
        if fits || self.typing.contains_key(&key) {
            self.changed |= self.typing.insert(key, now + TYPING).is_none();
        }
    }

    /// How long to wait before there is something to tell; `None` = nothing is, or somebody waits for it already. Who waited
    /// for the end of somebody's typing waits on in vain when there is news before.
    pub(super) fn schedule(&mut self, now: Duration) -> Option<Duration> {
        let ends = self.typing.values().min().map(|until| until.saturating_sub(now));
        let soonest = self.told.map_or(GATHER, |told| (told + EVERY).saturating_sub(now).max(GATHER));
        let wait = if self.changed { Some(soonest) } else { ends.map(|ends| ends.max(soonest)) };
        let due = now + wait?;
        if self.due.is_some_and(|earlier| earlier <= due) {
            return None;
        }
        self.due = Some(due);
        wait
    }

    /// What there is to tell now, by whoever waited for it.
    pub(super) fn tell(&mut self, now: Duration) -> Option<Value> {
        if self.due.is_some_and(|due| now < due) {
            return None;
        }
        self.due = None;
        let before = self.typing.len();
        self.typing.retain(|_, until| *until > now);
        if !self.changed && self.typing.len() == before {
            return None;
        }
        self.changed = false;
        self.told = Some(now);
        let names = |all: BTreeSet<Arc<str>>| all.into_iter().take(NAMES_MAX).collect::<Vec<_>>();
        let (joined, left) = (std::mem::take(&mut self.joined), std::mem::take(&mut self.left));
        Some(self.said(&names(joined), &names(left)))
    }

    /// Everybody who watches, as told to one who has just come.
    pub(super) fn all(&self) -> Value {
        let joined: Vec<Arc<str>> = self.watchers.keys().take(NAMES_MAX).cloned().collect();
        self.said(&joined, &[])
    }

    /// Up to 100 who watch, and how many do.
    pub(super) fn watchers(&self) -> (Vec<&str>, usize) {
        (self.watchers.keys().take(NAMES_MAX).map(AsRef::as_ref).collect(), self.watchers.len())
    }

    fn said(&self, joined: &[Arc<str>], left: &[Arc<str>]) -> Value {
        let plain = |names: &[Arc<str>]| names.iter().map(|name| json!(name.as_ref())).collect::<Vec<_>>();
        let typing = self.typing.keys().take(TYPING_MAX);
        let typing: Vec<Value> =
            typing.map(|(user, parent)| json!({ "user_id": user.as_ref(), "parent_id": parent })).collect();
        json!({
            "type": "channel.presence",
            "joined": plain(joined),
            "left": plain(left),
            "watchers": self.watchers.len(),
            "typing": typing,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn changes_are_gathered_and_told_once_a_second() {
        let mut presence = Presence::default();
        let (ann, bob): (Arc<str>, Arc<str>) = ("ann".into(), "bob".into());
        presence.enter(&ann);
        presence.enter(&ann);
        presence.enter(&bob);
        presence.leave(&bob);
        assert_eq!(presence.schedule(secs(10)), Some(GATHER));
        assert_eq!(presence.schedule(secs(10)), None, "somebody waits already");
        let told = presence.tell(secs(11)).expect("news");
        assert_eq!((&told["joined"], &told["left"], &told["watchers"]), (&json!(["ann"]), &json!([]), &json!(1)));
        presence.leave(&ann);
        assert_eq!(presence.schedule(secs(11)), Some(EVERY));
        assert_eq!(presence.tell(secs(12)).expect("news")["left"], json!([]), "one of two sockets");
        presence.leave(&ann);
        presence.leave(&ann);
        assert_eq!(presence.schedule(secs(12)), Some(EVERY));
        assert_eq!(presence.tell(secs(13)).expect("news")["left"], json!(["ann"]));
        assert_eq!(presence.schedule(secs(13)), None, "nothing is to be told");
    }

    #[test]
    fn typing_ends_by_itself() {
        let mut presence = Presence::default();
        let ann: Arc<str> = "ann".into();
        presence.enter(&ann);
        presence.types(&ann, Some("m".to_owned()), true, secs(1));
        presence.schedule(secs(1));
        assert_eq!(presence.tell(secs(2)).expect("news")["typing"], json!([{ "user_id": "ann", "parent_id": "m" }]));
        presence.types(&ann, Some("m".to_owned()), true, secs(4));
        assert_eq!(presence.schedule(secs(4)), Some(secs(6)), "it lasts from then");
        assert_eq!(presence.tell(secs(10)).expect("news")["typing"], json!([]));
        for number in 0..2 * TYPING_KEPT_MAX {
            presence.types(&ann, Some(number.to_string()), true, secs(11));
        }
        assert_eq!(presence.typing.len(), TYPING_OF_USER_MAX, "of one user");
        for number in 0..2 * TYPING_KEPT_MAX {
            presence.types(&number.to_string().into(), None, true, secs(11));
        }
        assert_eq!(presence.typing.len(), TYPING_KEPT_MAX);
        assert_eq!(presence.all()["typing"].as_array().map(Vec::len), Some(TYPING_MAX));
    }

    /// Ten thousand come, go and type all the while, for ten seconds: those who watch get a frame a second, none of them long.
    #[test]
    fn a_storm_is_one_frame_a_second_with_bounded_lists() {
        let mut presence = Presence::default();
        let (mut frames, mut due): (Vec<(Duration, Value)>, Option<Duration>) = (Vec::new(), None);
        let users: Vec<Arc<str>> = (0..10_000).map(|number| format!("user-{number}").into()).collect();
        for step in 0..1_000 {
            let now = Duration::from_millis(10) * u32::try_from(step).expect("small");
            for user in users.iter().skip(step * 10).take(10) {
                presence.enter(user);
                presence.types(user, None, true, now);
            }
            for user in users.iter().skip((step * 10).saturating_sub(5_000)).take(if step > 500 { 10 } else { 0 }) {
                presence.leave(user);
            }
            if due.is_some_and(|due| due <= now) {
                due = None;
                frames.extend(presence.tell(now).map(|told| (now, told)));
            }
            due = presence.schedule(now).map(|wait| now + wait).or(due);
        }
        assert!((10..=11).contains(&frames.len()), "{} frames in ten seconds", frames.len());
        assert!(frames.windows(2).all(|pair| pair[1].0 >= pair[0].0 + EVERY));
        for (_, told) in &frames {
            let count = |name: &str| told[name].as_array().map_or(usize::MAX, Vec::len);
            assert!(count("joined") <= NAMES_MAX && count("left") <= NAMES_MAX && count("typing") <= TYPING_MAX);
            assert!(told.to_string().len() < 8 << 10);
        }
        let (_, last) = frames.last().expect("frames");
        assert_eq!(last["joined"].as_array().map(Vec::len), Some(NAMES_MAX), "it was a storm");
        assert!(last["watchers"].as_u64() > Some(4_000));
    }
}
