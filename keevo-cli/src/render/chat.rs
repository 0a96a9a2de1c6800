//! Channels, messages and what happens in a channel.

use keevo_proto::chat::v1 as pb;
use keevo_proto::chat::v1::chat_event::Event;
use serde_json::{Value, json};

use super::{object, put_custom, table};
use crate::output::Answer;
use crate::text::{count, hex, line, time};

/// A message on one line and as an object; what is absent is left out.
impl Answer for pb::Message {
    fn table(&self) -> String {
        format!("{} {} {}: {}", place(self), time(self.created_at_ms), line(&self.user), said(self))
    }

    fn json(&self) -> Value {
        let mut object = object(json!({
            "id": self.id,
            "channel": self.channel,
            "user": self.user,
            "text": self.text,
            "created_at_ms": self.created_at_ms,
        }));
        for (name, number) in [("sequence", self.sequence), ("thread_sequence", self.thread_sequence)] {
            if number > 0 {
                object.insert(name.to_owned(), number.into());
            }
        }
        if !self.parent.is_empty() {
            object.insert("parent".to_owned(), self.parent.as_str().into());
        }
        for (name, at) in [("edited_at_ms", self.edited_at_ms), ("deleted_at_ms", self.deleted_at_ms)] {
            if let Some(at) = at {
                object.insert(name.to_owned(), at.into());
            }
        }
        put_custom(&mut object, &self.custom);
        object.into()
    }
}

/// The text of a message, and what became of it.
fn said(message: &pb::Message) -> String {
    if message.deleted_at_ms.is_some() {
        return "(deleted)".to_owned();
    }
    let edited = if message.edited_at_ms.is_some() { " (edited)" } else { "" };
    line(&message.text) + edited
}

/// A page of messages.
#[derive(Debug)]
pub(crate) struct History {
    pub(crate) page: pb::HistoryResponse,
    /// Whether it goes from the oldest to the newest.
    pub(crate) forwards: bool,
}

impl Answer for History {
    fn table(&self) -> String {
        let messages = &self.page.messages;
        let rows = messages.iter().map(|one| {
            [number(one), time(one.created_at_ms), line(&one.user), said(one), line(&one.parent), line(&one.id)]
        });
        let text = table(["#", "Time", "User", "Text", "Reply to", "Id"], rows.collect(), "no messages");
        let (what, option) = if self.forwards { ("newer", "after") } else { ("older", "before") };
        match messages.last() {
            Some(last) if self.page.more => format!("{text}\nthere are {what} ones: --{option} {}", number(last)),
            _ => text,
        }
    }

    fn json(&self) -> Value {
        let messages: Vec<Value> = self.page.messages.iter().map(Answer::json).collect();
        let mut object = object(json!({ "messages": messages, "more": self.page.more }));
        if !self.page.resume.is_empty() {
            object.insert("resume".to_owned(), hex(&self.page.resume).into());
        }
        object.into()
    }

    fn list(&self) -> Option<&'static str> {
        Some("messages")
    }
}

/// A message's number in its sequence: the channel's, or that of its thread.
fn number(message: &pb::Message) -> String {
    if message.thread_sequence == 0 { message.sequence } else { message.thread_sequence }.to_string()
}

/// A message's place: `#3` in the channel, `reply 2 to m1` in a thread.
fn place(message: &pb::Message) -> String {
    if message.thread_sequence == 0 {
        format!("#{}", message.sequence)
    } else {
        format!("reply {} to {}", message.thread_sequence, line(&message.parent))
    }
}

impl Answer for pb::Channel {
    fn table(&self) -> String {
        format!("channel {}, created by {} at {}", line(&self.id), line(&self.created_by), time(self.created_at_ms))
    }

    fn json(&self) -> Value {
        let mut object = object(json!({
            "id": self.id,
            "created_by": self.created_by,
            "created_at_ms": self.created_at_ms,
        }));
        put_custom(&mut object, &self.custom);
        object.into()
    }
}

/// The channels of a user.
#[derive(Debug)]
pub(crate) struct Channels {
    pub(crate) channels: Vec<pb::Channel>,
    /// Whether there are more behind the limit.
    pub(crate) more: bool,
}

impl Answer for Channels {
    fn table(&self) -> String {
        let rows = self.channels.iter().map(|one| [line(&one.id), line(&one.created_by), time(one.created_at_ms)]);
        let text = table(["Channel", "Created by", "Created"], rows.collect(), "no channels");
        if !self.more {
            return text;
        }
        format!("{text}\n{}; there are more: raise --limit", count(self.channels.len(), "channel"))
    }

    fn json(&self) -> Value {
        let channels: Vec<Value> = self.channels.iter().map(Answer::json).collect();
        json!({ "channels": channels, "more": self.more })
    }

    fn list(&self) -> Option<&'static str> {
        Some("channels")
    }
}

/// The messages that a search has found.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) messages: Vec<pb::Message>,
    /// Whether there are more behind the limit.
    pub(crate) more: bool,
    /// Whether the search met a bound of what it may cost.
    pub(crate) partial: bool,
    /// Whether the index is known to lag.
    pub(crate) catching_up: bool,
}

impl Answer for Found {
    fn table(&self) -> String {
        let rows = self.messages.iter().map(|one| {
            [time(one.created_at_ms), line(&one.channel), line(&one.user), said(one), line(&one.parent), line(&one.id)]
        });
        let mut text = table(["Time", "Channel", "User", "Text", "Reply to", "Id"], rows.collect(), "nothing is found");
        let notes = [
            (self.more, "there are more: raise --limit"),
            (self.partial, "the search stopped early: more words, or --channel, narrow it down"),
            (self.catching_up, "the node's index has not caught up: look again in a moment"),
        ];
        for (_, note) in notes.iter().filter(|(holds, _)| *holds) {
            text.push('\n');
            text.push_str(note);
        }
        text
    }

    fn json(&self) -> Value {
        let messages: Vec<Value> = self.messages.iter().map(Answer::json).collect();
        json!({
            "messages": messages,
            "more": self.more,
            "partial": self.partial,
            "catching_up": self.catching_up,
        })
    }

    fn list(&self) -> Option<&'static str> {
        Some("messages")
    }
}

impl Answer for pb::UnreadResponse {
    fn table(&self) -> String {
        format!("{} unread; read up to #{} of #{}", self.unread, self.read_sequence, self.last_sequence)
    }

    fn json(&self) -> Value {
        json!({
            "unread": self.unread,
            "read_sequence": self.read_sequence,
            "last_sequence": self.last_sequence,
        })
    }
}

/// One event of a watch.
impl Answer for pb::ChatEvent {
    fn table(&self) -> String {
        match &self.event {
            None => "an event of a newer version".to_owned(),
            Some(Event::Subscribed(_)) => "subscribed".to_owned(),
            Some(Event::Message(message)) => message.table(),
            Some(Event::Edited(message)) => format!("edited {}", message.table()),
            Some(Event::Deleted(message)) => format!("deleted {} of {}", place(message), line(&message.user)),
            Some(Event::Joined(change)) => format!("{} joined", line(&change.user)),
            Some(Event::Left(change)) => format!("{} left", line(&change.user)),
            Some(Event::Read(moved)) => format!("{} has read up to #{}", line(&moved.user), moved.sequence),
        }
    }

    fn json(&self) -> Value {
        let (name, value) = match &self.event {
            None => ("unknown", Value::Null),
            Some(Event::Subscribed(_)) => ("subscribed", Value::Null),
            Some(Event::Message(message)) => ("message", message.json()),
            Some(Event::Edited(message)) => ("edited", message.json()),
            Some(Event::Deleted(message)) => ("deleted", message.json()),
            Some(Event::Joined(change)) => ("joined", json!({ "channel": change.channel, "user": change.user })),
            Some(Event::Left(change)) => ("left", json!({ "channel": change.channel, "user": change.user })),
            Some(Event::Read(moved)) => {
                ("read", json!({ "channel": moved.channel, "user": moved.user, "sequence": moved.sequence }))
            }
        };
        json!({ "event": name, "data": value, "cursor": hex(&self.cursor) })
    }
}
