//! The lines of an import, read and checked.
//!
//! Invariant: a field that is not known is refused: what an older system calls otherwise is not passed over in silence.

use std::collections::BTreeSet;

use keevo_core::{Error, Result};
use serde_json::{Map, Value};

use super::polls::{self, PollLine, VoteLine};
use crate::channel_type::Capability;
use crate::member::NewMember;
use crate::message::{Mentions, NewMessage};
use crate::rows::PinRow;

/// The longest line, in bytes.
pub const LINE_BYTES_MAX: usize = 1 << 20;

/// What a line says.
pub(super) enum Line {
    User(UserLine),
    Channel(ChannelLine),
    Member(MemberLine),
    Message(Box<MessageLine>),
    Poll(PollLine),
    Vote(VoteLine),
    Reaction(ReactionLine),
    Read(ReadLine),
    ThreadRead(ThreadReadLine),
}

pub(super) struct UserLine {
    pub(super) id: String,
    pub(super) role: String,
    pub(super) teams: BTreeSet<String>,
    pub(super) custom: Option<String>,
    pub(super) created_at_ms: Option<u64>,
    pub(super) updated_at_ms: Option<u64>,
    pub(super) deactivated_at_ms: Option<u64>,
}

pub(super) struct ChannelLine {
    pub(super) channel: String,
    pub(super) created_by: String,
    pub(super) created_at_ms: Option<u64>,
    pub(super) custom: Option<String>,
    pub(super) team: Option<String>,
    pub(super) distinct: Vec<String>,
    pub(super) frozen: bool,
    pub(super) disabled: bool,
    pub(super) slow_mode_ms: Option<u64>,
}

#[derive(Clone)]
pub(super) struct MemberLine {
    pub(super) channel: String,
    pub(super) user: String,
    pub(super) joined_at_ms: Option<u64>,
    role: Option<String>,
    grants: Vec<String>,
    custom: Option<String>,
}

#[derive(Clone)]
pub(super) struct MessageLine {
    pub(super) channel: String,
    pub(super) id: String,
    pub(super) parent: Option<String>,
    pub(super) updated_at_ms: Option<u64>,
    pub(super) deleted_at_ms: Option<u64>,
    pub(super) erased: bool,
    pub(super) location: bool,
    pub(super) pinned: Option<PinRow>,
    pub(super) message: NewMessage,
}

pub(super) struct ReactionLine {
    pub(super) channel: String,
    pub(super) message: String,
    pub(super) user: String,
    pub(super) kind: String,
    pub(super) created_at_ms: Option<u64>,
    pub(super) custom: Option<String>,
    pub(super) score: Option<i64>,
}

pub(super) struct ReadLine {
    pub(super) channel: String,
    pub(super) user: String,
    pub(super) message: Option<String>,
    pub(super) sequence: Option<u64>,
    pub(super) read_at_ms: Option<u64>,
}

pub(super) struct ThreadReadLine {
    pub(super) channel: String,
    pub(super) parent: String,
    pub(super) user: String,
    pub(super) message: Option<String>,
    pub(super) sequence: Option<u64>,
}

impl MemberLine {
    pub(super) fn member(self) -> Result<NewMember> {
        let unknown = |name: &str| Error::invalid(format!("there is no capability '{name}'"));
        let grants = self.grants.iter().map(|name| Capability::from_name(name).ok_or_else(|| unknown(name)));
        Ok(NewMember {
            grants: grants.collect::<Result<_>>()?,
            role: self.role.unwrap_or_else(|| NewMember::new("").role),
            user_id: self.user,
            custom: self.custom,
        })
    }
}

/// The fields of an object, taken out one by one.
pub(super) struct Fields {
    what: &'static str,
    left: Map<String, Value>,
}

pub(super) type Read<T> = std::result::Result<T, String>;

impl Fields {
    pub(super) fn new(what: &'static str, left: Map<String, Value>) -> Self {
        Self { what, left }
    }

    pub(super) fn take(&mut self, name: &str) -> Option<Value> {
        self.left.remove(name).filter(|value| !value.is_null())
    }

    pub(super) fn text(&mut self, name: &str) -> Read<Option<String>> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(format!("'{name}' of a {} is a string", self.what)),
        }
    }

    pub(super) fn needed(&mut self, name: &str) -> Read<String> {
        self.text(name)?.ok_or_else(|| format!("a {} has a '{name}'", self.what))
    }

    pub(super) fn number(&mut self, name: &str) -> Read<Option<u64>> {
        match self.take(name).map(|value| value.as_u64()) {
            None => Ok(None),
            Some(Some(number)) => Ok(Some(number)),
            Some(None) => Err(format!("'{name}' of a {} is a whole number from 0", self.what)),
        }
    }

    pub(super) fn flag(&mut self, name: &str) -> Read<bool> {
        match self.take(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(_) => Err(format!("'{name}' of a {} is true or false", self.what)),
        }
    }

    pub(super) fn texts(&mut self, name: &str) -> Read<Vec<String>> {
        let wrong = format!("'{name}' of a {} is a list of strings", self.what);
        match self.take(name) {
            None => Ok(Vec::new()),
            Some(Value::Array(all)) => all
                .into_iter()
                .map(|one| match one {
                    Value::String(text) => Ok(text),
                    _ => Err(wrong.clone()),
                })
                .collect(),
            Some(_) => Err(wrong),
        }
    }

    /// An object, as the text that is stored.
    pub(super) fn object(&mut self, name: &str) -> Read<Option<String>> {
        match self.take(name) {
            None => Ok(None),
            Some(value @ Value::Object(_)) => Ok(Some(value.to_string())),
            Some(_) => Err(format!("'{name}' of a {} is an object", self.what)),
        }
    }

    pub(super) fn objects(&mut self, name: &str) -> Read<Vec<String>> {
        match self.take(name) {
            None => Ok(Vec::new()),
            Some(Value::Array(all)) if all.iter().all(Value::is_object) => {
                Ok(all.iter().map(Value::to_string).collect())
            }
            Some(_) => Err(format!("'{name}' of a {} is a list of objects", self.what)),
        }
    }

    /// Nothing may be left that was not asked for.
    pub(super) fn end(self) -> Read<()> {
        match self.left.keys().next() {
            None => Ok(()),
            Some(name) => Err(format!("a {} has no field '{name}'", self.what)),
        }
    }
}

/// Reads a line; the error is a sentence.
pub(super) fn parse(line: &str) -> Read<Line> {
    if line.len() > LINE_BYTES_MAX {
        return Err(format!("it is longer than {LINE_BYTES_MAX} bytes"));
    }
    let value: Value = serde_json::from_str(line).map_err(|error| format!("it is no JSON: {error}"))?;
    let one = match value {
        Value::Object(fields) if fields.len() == 1 => fields.into_iter().next(),
        _ => None,
    };
    let Some((kind, Value::Object(left))) = one else {
        return Err("it is no object with one field that names what it is".to_owned());
    };
    match kind.as_str() {
        "user" => user(Fields { what: "user", left }),
        "channel" => channel(Fields { what: "channel", left }),
        "member" => member(Fields { what: "member", left }),
        "message" => message(Fields { what: "message", left }),
        "poll" => polls::poll(Fields { what: "poll", left }).map(Line::Poll),
        "vote" => polls::vote(Fields { what: "vote", left }).map(Line::Vote),
        "reaction" => reaction(Fields { what: "reaction", left }),
        "read" => read(Fields { what: "read state", left }),
        "thread_read" => thread_read(Fields { what: "read state", left }),
        _ => Err(format!(
            "there is no kind '{kind}': use user, channel, member, poll, vote, message, reaction, read or thread_read"
        )),
    }
}

fn user(mut fields: Fields) -> Read<Line> {
    let line = UserLine {
        id: fields.needed("id")?,
        role: fields.text("role")?.unwrap_or_else(|| "user".to_owned()),
        teams: fields.texts("teams")?.into_iter().collect(),
        custom: fields.object("custom")?,
        created_at_ms: fields.number("created_at_ms")?,
        updated_at_ms: fields.number("updated_at_ms")?,
        deactivated_at_ms: fields.number("deactivated_at_ms")?,
    };
    fields.end().map(|()| Line::User(line))
}

fn channel(mut fields: Fields) -> Read<Line> {
    let line = ChannelLine {
        channel: fields.needed("channel")?,
        created_by: fields.needed("created_by")?,
        created_at_ms: fields.number("created_at_ms")?,
        custom: fields.object("custom")?,
        team: fields.text("team")?,
        distinct: fields.texts("distinct")?,
        frozen: fields.flag("frozen")?,
        disabled: fields.flag("disabled")?,
        slow_mode_ms: fields.number("slow_mode_ms")?,
    };
    fields.end().map(|()| Line::Channel(line))
}

fn member(mut fields: Fields) -> Read<Line> {
    let line = MemberLine {
        channel: fields.needed("channel")?,
        user: fields.needed("user")?,
        joined_at_ms: fields.number("joined_at_ms")?,
        role: fields.text("role")?,
        grants: fields.texts("grants")?,
        custom: fields.object("custom")?,
    };
    fields.end().map(|()| Line::Member(line))
}

fn message(mut fields: Fields) -> Read<Line> {
    let pinned = match fields.take("pinned") {
        None => None,
        Some(Value::Object(left)) => {
            let mut pin = Fields { what: "pin", left };
            let row = PinRow {
                pinned_by: pin.needed("by")?,
                pinned_at_ms: pin.number("at_ms")?.unwrap_or(0),
                expires_at_ms: pin.number("until_ms")?,
            };
            pin.end()?;
            Some(row)
        }
        Some(_) => return Err("'pinned' of a message is an object".to_owned()),
    };
    let id = fields.needed("id")?;
    let parent = fields.text("parent")?;
    let mentions = Mentions {
        users: fields.texts("mentions")?.into_iter().collect(),
        groups: fields.texts("mentioned_groups")?.into_iter().collect(),
        channel: fields.flag("mentions_channel")?,
    };
    let message = NewMessage {
        id: Some(id.clone()),
        user_id: fields.needed("user")?,
        text: fields.text("text")?.unwrap_or_default(),
        parent_id: parent.clone(),
        custom: fields.object("custom")?,
        attachments: fields.objects("attachments")?,
        mentions,
        quoted_id: fields.text("quoted")?,
        poll_id: fields.text("poll")?,
        system: fields.flag("system")?,
        silent: fields.flag("silent")?,
        created_at_ms: fields.number("created_at_ms")?,
    };
    let line = MessageLine {
        channel: fields.needed("channel")?,
        id,
        parent,
        updated_at_ms: fields.number("updated_at_ms")?,
        deleted_at_ms: fields.number("deleted_at_ms")?,
        erased: fields.flag("erased")?,
        location: fields.flag("location")?,
        pinned,
        message,
    };
    fields.end().map(|()| Line::Message(Box::new(line)))
}

fn reaction(mut fields: Fields) -> Read<Line> {
    let score = match fields.take("score").map(|value| value.as_i64()) {
        None => None,
        Some(Some(score)) => Some(score),
        Some(None) => return Err("'score' of a reaction is a whole number".to_owned()),
    };
    let line = ReactionLine {
        channel: fields.needed("channel")?,
        message: fields.needed("message")?,
        user: fields.needed("user")?,
        kind: fields.needed("type")?,
        created_at_ms: fields.number("created_at_ms")?,
        custom: fields.object("custom")?,
        score,
    };
    fields.end().map(|()| Line::Reaction(line))
}

fn read(mut fields: Fields) -> Read<Line> {
    let line = ReadLine {
        channel: fields.needed("channel")?,
        user: fields.needed("user")?,
        message: fields.text("message")?,
        sequence: fields.number("sequence")?,
        read_at_ms: fields.number("read_at_ms")?,
    };
    fields.end().map(|()| Line::Read(line))
}

fn thread_read(mut fields: Fields) -> Read<Line> {
    let line = ThreadReadLine {
        channel: fields.needed("channel")?,
        parent: fields.needed("parent")?,
        user: fields.needed("user")?,
        message: fields.text("message")?,
        sequence: fields.number("sequence")?,
    };
    fields.end().map(|()| Line::ThreadRead(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_line_must_not_say_is_told_in_a_sentence() {
        let refused = |line: &str| parse(line).err().expect("refused");
        assert!(refused("no").starts_with("it is no JSON"));
        for line in ["[]", "{}", r#"{"user": 1}"#, r#"{"user": {}, "member": {}}"#] {
            assert!(refused(line).starts_with("it is no object with one field"), "{line}");
        }
        assert!(refused(r#"{"cat": {}}"#).starts_with("there is no kind 'cat'"));
        assert_eq!(refused(r#"{"user": {}}"#), "a user has a 'id'");
        assert_eq!(refused(r#"{"user": {"id": 1}}"#), "'id' of a user is a string");
        assert_eq!(refused(r#"{"user": {"id": "a", "name": "A"}}"#), "a user has no field 'name'");
        let message = r#"{"message": {"channel": "a:b", "id": "m", "user": "u", "created_at_ms": -1}}"#;
        assert_eq!(refused(message), "'created_at_ms' of a message is a whole number from 0");
        assert!(parse(r#"{"read": {"channel": "a:b", "user": "u", "sequence": 3, "message": null}}"#).is_ok());
        assert!(refused(&format!(r#"{{"user": {{"id": "{}"}}}}"#, "x".repeat(LINE_BYTES_MAX))).contains("longer"));
    }
}
