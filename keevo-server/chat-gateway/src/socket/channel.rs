//! One channel of the hub: its lines, and who watches.
//!
//! A *line* is a run of the channel's events as one subscription reads them: the recent ones in a ring, then whatever
//! comes. Mostly there is one. Who comes back from further ago than its ring reaches begins another, which ends in the
//! first as soon as it meets it.
//!
//! ```text
//! line 0            floor ├──── ring ────┤ end …      whoever stands at or behind floor can join
//! line 1   floor ├── ring ──┤ end                     joins line 0 at its first event at or behind floor of line 0
//! ```
//!
//! Invariant: whoever watches has had every event up to `seen`, and none twice; a line gives it those behind that.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::Utf8Bytes;
use keevo_chat::{Position, ResumeToken};

use super::event::{Effect, Event};
use super::frame;
use super::outbox::Outbox;
use super::presence::Presence;

/// The most lines of a channel.
const LINES_MAX: usize = 8;
/// The most bytes of a ring.
const RING_BYTES_MAX: usize = 256 << 10;

/// Who comes to watch, and from where.
#[derive(Debug)]
pub(super) struct Joining {
    pub(super) outbox: Arc<Outbox>,
    pub(super) user: Arc<str>,
    /// Whether the user is an admin of the app.
    pub(super) admin: bool,
    pub(super) invisible: bool,
    /// Where the watcher stands, as of nobody.
    pub(super) token: ResumeToken,
    /// What it has had besides.
    pub(super) seen: Option<Position>,
}

/// What became of one who came.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Attached {
    /// It watches.
    On,
    /// It watches, on a line that is to be read from its token.
    Started(u64),
    /// There are too many lines.
    Full,
}

/// What became of an event.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Published {
    /// The line goes on.
    Goes,
    /// The line has ended in another, or is gone.
    Over,
}

/// Where a watcher can resume.
#[derive(Debug)]
enum Place {
    Token(ResumeToken),
    Behind(Arc<Event>),
}

#[derive(Debug)]
struct Watcher {
    outbox: Arc<Outbox>,
    user: Arc<str>,
    admin: bool,
    invisible: bool,
    line: u64,
    seen: Position,
    /// Messages up to this number are on the page that it comes from.
    known: u64,
    place: Place,
}

#[derive(Debug)]
struct Line {
    id: u64,
    /// Everything behind it is in the ring, or still to come.
    floor: Position,
    /// The last event, or where the line began.
    end: Position,
    ring: VecDeque<Arc<Event>>,
    bytes: usize,
}

/// The state of a channel.
#[derive(Debug)]
pub(super) struct State {
    cid: String,
    recent_max: usize,
    lines: Vec<Line>,
    next_line: u64,
    watchers: BTreeMap<u64, Watcher>,
    pub(super) presence: Presence,
    /// Since when nobody watches.
    pub(super) idle_since: Option<Duration>,
}

impl Watcher {
    /// Gives it an event; the reason when it watches no longer.
    fn offer(&mut self, event: &Arc<Event>) -> Option<&'static str> {
        if event.position <= self.seen {
            return None;
        }
        self.seen = event.position;
        self.place = Place::Behind(Arc::clone(event));
        match &event.effect {
            Effect::Ends(user, reason) if **user == *self.user => return Some(reason),
            Effect::Disables if !self.admin => return Some("disabled"),
            Effect::Deletes => return Some("deleted"),
            _ => {}
        }
        let known = event.number.is_some_and(|number| number <= self.known);
        if !known && event.only_for.as_ref().is_none_or(|user| **user == *self.user) {
            self.outbox.push(event.frame.clone());
        }
        None
    }
}

impl State {
    pub(super) fn new(cid: &str, recent_max: usize) -> Self {
        Self {
            cid: cid.to_owned(),
            recent_max,
            lines: Vec::new(),
            next_line: 0,
            watchers: BTreeMap::new(),
            presence: Presence::default(),
            idle_since: None,
        }
    }

    /// Has a socket watch. One that does already stays as it is.
    pub(super) fn attach(&mut self, socket: u64, joining: Joining) -> Attached {
        if self.watchers.contains_key(&socket) {
            return Attached::On;
        }
        let Joining { outbox, user, admin, invisible, token, seen } = joining;
        let position = token.position();
        let found = self.lines.iter().find(|line| line.floor <= position).map(|line| line.id);
        if found.is_none() && self.lines.len() >= LINES_MAX {
            return Attached::Full;
        }
        let line = found.unwrap_or(self.next_line);
        let seen = seen.map_or(position, |seen| seen.max(position));
        let known = token.known();
        let place = Place::Token(token);
        self.idle_since = None;
        if !invisible {
            self.presence.enter(&user);
        }
        outbox.push(frame::of_channel(&self.cid, self.presence.all()));
        self.watchers.insert(socket, Watcher { outbox, user, admin, invisible, line, seen, known, place });
        if found.is_some() {
            self.catch_up(socket);
            return Attached::On;
        }
        self.next_line += 1;
        self.lines.push(Line { id: line, floor: position, end: position, ring: VecDeque::new(), bytes: 0 });
        Attached::Started(line)
    }

    /// Gives a watcher what its line's ring holds behind what it has.
    fn catch_up(&mut self, socket: u64) {
        let Some(watcher) = self.watchers.get_mut(&socket) else { return };
        let Some(line) = self.lines.iter().find(|line| line.id == watcher.line) else { return };
        let gone = line.ring.iter().find_map(|event| watcher.offer(event));
        if let Some(reason) = gone {
            self.remove(socket, Some(reason));
        }
    }

    /// Takes a watcher away, and tells it why where there is a reason.
    fn remove(&mut self, socket: u64, reason: Option<&str>) {
        let Some(watcher) = self.watchers.remove(&socket) else { return };
        if !watcher.invisible {
            self.presence.leave(&watcher.user);
        }
        if let Some(reason) = reason {
            watcher.outbox.push(frame::removed(&self.cid, reason));
        }
    }

    /// A socket watches no longer.
    pub(super) fn detach(&mut self, socket: u64, now: Duration) {
        self.remove(socket, None);
        if self.watchers.is_empty() {
            self.idle_since.get_or_insert(now);
        }
    }

    /// Whether a socket watches.
    pub(super) fn has(&self, socket: u64) -> bool {
        self.watchers.contains_key(&socket)
    }

    /// Where a socket can resume.
    pub(super) fn place_of(&self, socket: u64) -> Option<ResumeToken> {
        match &self.watchers.get(&socket)?.place {
            Place::Token(token) => Some(token.clone()),
            Place::Behind(event) => Some(event.resume.clone()),
        }
    }

    /// An event of a line.
    pub(super) fn publish(&mut self, line: u64, event: &Arc<Event>, now: Duration) -> Published {
        let Some(at) = self.lines.iter().position(|one| one.id == line) else { return Published::Over };
        if let Some(line) = self.lines.get_mut(at) {
            line.push(event, self.recent_max);
        }
        let mut gone = Vec::new();
        for (socket, watcher) in self.watchers.iter_mut().filter(|(_, watcher)| watcher.line == line) {
            if let Some(reason) = watcher.offer(event) {
                gone.push((*socket, reason));
            }
        }
        for (socket, reason) in gone {
            self.remove(socket, Some(reason));
        }
        let meets = at > 0 && self.lines.first().is_some_and(|main| main.floor <= event.position);
        if meets {
            self.merge(at, line);
        }
        if self.watchers.is_empty() {
            self.idle_since.get_or_insert(now);
        }
        if meets { Published::Over } else { Published::Goes }
    }

    /// Ends a line in the first one, which has everything behind what its watchers have had.
    fn merge(&mut self, at: usize, line: u64) {
        let Some(main) = self.lines.first().map(|main| main.id) else { return };
        self.lines.remove(at);
        let moved: Vec<u64> =
            self.watchers.iter().filter(|(_, watcher)| watcher.line == line).map(|(socket, _)| *socket).collect();
        for socket in moved {
            if let Some(watcher) = self.watchers.get_mut(&socket) {
                watcher.line = main;
            }
            self.catch_up(socket);
        }
    }

    /// Ends a line whose events cannot be had: its watchers are told to reload.
    pub(super) fn reload(&mut self, line: u64, reason: &str, now: Duration) {
        self.lines.retain(|one| one.id != line);
        let on_it: Vec<u64> =
            self.watchers.iter().filter(|(_, watcher)| watcher.line == line).map(|(socket, _)| *socket).collect();
        let told = frame::reload(&self.cid, reason);
        for socket in on_it {
            if let Some(watcher) = self.watchers.get(&socket) {
                watcher.outbox.push(told.clone());
            }
            self.remove(socket, None);
        }
        if self.watchers.is_empty() {
            self.idle_since.get_or_insert(now);
        }
    }

    /// Notes that nothing has happened on a line up to `token`, which is behind everything of one version of the channel.
    pub(super) fn refresh(&mut self, line: u64, token: &ResumeToken) {
        let position = token.position();
        let Some(one) = self.lines.iter_mut().find(|one| one.id == line) else { return };
        if one.end.version != position.version {
            return;
        }
        one.end = position;
        for watcher in self.watchers.values_mut().filter(|watcher| watcher.line == line) {
            if watcher.seen.version == position.version {
                watcher.seen = position;
                watcher.place = Place::Token(token.clone());
            }
        }
    }

    /// The last event of a line.
    pub(super) fn end_of(&self, line: u64) -> Option<Position> {
        self.lines.iter().find(|one| one.id == line).map(|one| one.end)
    }

    /// Takes a line away that nobody is on, where nobody has watched since `before`; whether it is gone.
    pub(super) fn retire(&mut self, line: u64, before: Duration) -> bool {
        if !self.lines.iter().any(|one| one.id == line) {
            return true;
        }
        let used = self.watchers.values().any(|watcher| watcher.line == line);
        let lingers = self.lines.first().is_some_and(|main| main.id == line)
            && self.idle_since.is_none_or(|since| since > before);
        if used || lingers {
            return false;
        }
        self.lines.retain(|one| one.id != line);
        true
    }

    /// Whether nothing of the channel is needed any more.
    pub(super) fn is_over(&self) -> bool {
        self.lines.is_empty() && self.watchers.is_empty()
    }

    /// Whether every watcher of a line has room; the first line waits for nobody.
    pub(super) fn has_room(&self, line: u64) -> bool {
        self.lines.first().is_some_and(|main| main.id == line)
            || self.watchers.values().filter(|watcher| watcher.line == line).all(|watcher| watcher.outbox.has_room())
    }

    /// Tells all who watch.
    pub(super) fn broadcast(&self, frame: &Utf8Bytes) {
        for watcher in self.watchers.values() {
            watcher.outbox.push(frame.clone());
        }
    }

    /// A user of a watching, visible socket types.
    pub(super) fn types(&mut self, socket: u64, parent: Option<String>, typing: bool, now: Duration) {
        if let Some(watcher) = self.watchers.get(&socket).filter(|watcher| !watcher.invisible) {
            let user = Arc::clone(&watcher.user);
            self.presence.types(&user, parent, typing, now);
        }
    }
}

impl Line {
    fn push(&mut self, event: &Arc<Event>, recent_max: usize) {
        self.end = event.position;
        self.bytes += event.bytes();
        self.ring.push_back(Arc::clone(event));
        while self.ring.len() > recent_max || self.bytes > RING_BYTES_MAX {
            let Some(old) = self.ring.pop_front() else { break };
            self.bytes -= old.bytes();
            self.floor = old.position;
        }
    }
}

#[cfg(test)]
mod tests;
