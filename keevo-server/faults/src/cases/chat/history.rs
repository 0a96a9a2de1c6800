//! A channel's history as somebody knows it: read, or put together from the events of a socket.
//!
//! Invariant: an event that comes twice, in the wrong order or after a gap is refused, with a sentence that says so.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// A message, as far as it is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) id: String,
    pub(super) user: String,
    pub(super) text: String,
    pub(super) version: u64,
    pub(super) deleted: bool,
}

/// The messages of a channel by their sequence, and the last event that was handled.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct History {
    pub(super) messages: BTreeMap<u64, Shown>,
    /// The version and index of the last event.
    pub(super) seen: Option<(u64, u64)>,
    /// The versions of the messages that came with a page: it may be newer than the place from which events come.
    read: BTreeMap<u64, u64>,
}

impl History {
    /// The highest sequence.
    pub(super) fn last(&self) -> u64 {
        self.messages.keys().next_back().copied().unwrap_or(0)
    }

    /// Takes in a message of a page.
    pub(super) fn read(&mut self, message: &Value) -> Result<(), String> {
        let (sequence, shown) = parse(message)?;
        self.read.insert(sequence, shown.version);
        self.messages.insert(sequence, shown);
        Ok(())
    }

    /// Takes in an event of the channel.
    pub(super) fn hear(&mut self, frame: &Value) -> Result<(), String> {
        let number = |name: &str| frame.get(name).and_then(Value::as_u64);
        let Some(position) = number("version").zip(number("index")) else { return Ok(()) };
        if self.seen.is_some_and(|seen| position <= seen) {
            return Err(format!("event {position:?} came after {:?}: twice, or out of order", self.seen));
        }
        self.seen = Some(position);
        let kind = frame.get("type").and_then(Value::as_str).unwrap_or_default();
        if !kind.starts_with("message.") {
            return Ok(());
        }
        let Some(message) = frame.get("message") else { return Ok(()) };
        let (sequence, shown) = parse(message)?;
        let next = self.last() + 1;
        match (kind, self.messages.get(&sequence)) {
            ("message.new", None) if sequence == next => {}
            ("message.new", None) => return Err(format!("message {sequence} came, and {next} was next: a gap")),
            ("message.new", Some(_)) => return Err(format!("message {sequence} came twice")),
            (_, None) => return Err(format!("message {sequence} was changed and never came")),
            (_, Some(before)) if shown.version > before.version => {}
            _ if self.read.get(&sequence).is_some_and(|read| shown.version <= *read) => return Ok(()),
            (_, Some(before)) => {
                return Err(format!("message {sequence} went from version {} to {}", before.version, shown.version));
            }
        }
        self.messages.insert(sequence, shown);
        Ok(())
    }

    /// What is wrong with it by itself: gaps, ids that come twice.
    pub(super) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for (expected, sequence) in (1..).zip(self.messages.keys()) {
            if expected != *sequence {
                faults.push(format!("there is a gap: sequence {sequence} follows {}", expected - 1));
                break;
            }
        }
        let ids: BTreeSet<&str> = self.messages.values().map(|shown| shown.id.as_str()).collect();
        if ids.len() < self.messages.len() {
            faults.push(format!("{} messages have only {} ids", self.messages.len(), ids.len()));
        }
        faults
    }

    /// The first difference to another's messages.
    pub(super) fn difference(&self, other: &Self) -> Option<String> {
        let sequences: BTreeSet<u64> = self.messages.keys().chain(other.messages.keys()).copied().collect();
        sequences.into_iter().find_map(|sequence| {
            let (one, two) = (self.messages.get(&sequence), other.messages.get(&sequence));
            (one != two).then(|| format!("message {sequence} is {one:?} and {two:?}"))
        })
    }

    /// How many messages behind `read` a user has not read: all but its own and the deleted ones.
    pub(super) fn unread(&self, user: &str, read: u64) -> u64 {
        let behind = self.messages.range(read.saturating_add(1)..).map(|(_, shown)| shown);
        u64::try_from(behind.filter(|shown| shown.user != user && !shown.deleted).count()).unwrap_or(u64::MAX)
    }
}

fn parse(message: &Value) -> Result<(u64, Shown), String> {
    let text = |name: &str| message.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let number = |name: &str| message.get(name).and_then(Value::as_u64);
    let (sequence, version) =
        number("sequence").zip(number("version")).ok_or_else(|| format!("{message} is no message of a channel"))?;
    let deleted = message.get("deleted_at").is_some_and(|at| !at.is_null());
    Ok((sequence, Shown { id: text("id"), user: text("user_id"), text: text("text"), version, deleted }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn message(sequence: u64, version: u64, text: &str) -> Value {
        json!({ "id": format!("m{sequence}"), "user_id": "ann", "sequence": sequence, "version": version, "text": text,
            "deleted_at": null })
    }

    fn event(kind: &str, version: u64, message: &Value) -> Value {
        json!({ "type": kind, "cid": "team:a", "version": version, "index": 1, "message": message })
    }

    fn history(events: &[Value]) -> Result<History, String> {
        let mut history = History::default();
        events.iter().try_for_each(|one| history.hear(one)).map(|()| history)
    }

    #[test]
    fn gaps_repetitions_and_lost_changes_are_seen() {
        let new = |version, sequence| event("message.new", version, &message(sequence, 1, "x"));
        assert_eq!(history(&[new(1, 1), new(2, 2)]).map(|history| history.last()), Ok(2));
        let refused = |events: &[Value]| history(events).expect_err("it is wrong");
        assert!(refused(&[new(1, 1), new(3, 3)]).ends_with("a gap"));
        assert!(refused(&[new(1, 1), new(1, 1)]).contains("twice"));
        assert!(refused(&[new(1, 1), new(2, 1)]).contains("twice"));
        assert!(refused(&[new(2, 1), new(1, 2)]).contains("out of order"));
        assert!(refused(&[event("message.updated", 1, &message(1, 2, "y"))]).contains("never came"));
        let back = [new(1, 1), event("message.updated", 2, &message(1, 1, "y"))];
        assert!(refused(&back).contains("from version 1 to 1"));
        let changed = history(&[new(1, 1), event("message.updated", 2, &message(1, 2, "y"))]).expect("in order");
        let mut read = History::default();
        read.read(&message(1, 2, "y")).expect("a message");
        assert_eq!(changed.difference(&read), None);
        read.read(&message(2, 1, "z")).expect("a message");
        assert!(changed.difference(&read).is_some_and(|said| said.starts_with("message 2 is None")));
        read.read(&message(4, 1, "z")).expect("a message");
        assert_eq!(read.faults(), ["there is a gap: sequence 4 follows 2"]);
    }

    #[test]
    fn unread_are_others_messages_that_stand() {
        let mut history = History::default();
        for sequence in 1..=4 {
            history.read(&message(sequence, 1, "x")).expect("a message");
        }
        let deleted = json!({ "id": "m5", "user_id": "ann", "sequence": 5, "version": 2, "text": "", "deleted_at": 9 });
        history.read(&deleted).expect("a message");
        assert_eq!((history.unread("bob", 0), history.unread("bob", 3), history.unread("bob", 9)), (4, 1, 0));
        assert_eq!(history.unread("ann", 0), 0);
    }
}
