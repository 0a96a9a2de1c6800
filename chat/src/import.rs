//! Bulk import of history: users, channels, members, polls, messages, reactions and read states, as JSON lines.
//!
//! ```text
//! {"user": {"id": "ada", "role": "user"}}
//! {"channel": {"channel": "team:a", "created_by": "ada", "created_at_ms": 1700000000000}}
//! {"member": {"channel": "team:a", "user": "ada", "joined_at_ms": 1700000000000}}
//! {"poll": {"channel": "team:a", "id": "p1", "created_by": "ada", "name": "Tea?", "options": [{"id": "y", "text": "Yes"}]}}
//! {"vote": {"channel": "team:a", "poll": "p1", "user": "bob", "options": ["y"]}}
//! {"message": {"channel": "team:a", "id": "m1", "user": "ada", "text": "hello", "created_at_ms": 1700000000001}}
//! {"message": {"channel": "team:a", "id": "m2", "user": "bob", "text": "hi", "parent": "m1"}}
//! {"reaction": {"channel": "team:a", "message": "m1", "user": "bob", "type": "like"}}
//! {"read": {"channel": "team:a", "user": "ada", "message": "m1"}}
//! {"thread_read": {"channel": "team:a", "parent": "m1", "user": "ada", "message": "m2"}}
//! ```
//!
//! A call takes its lines in this order of kinds, and those of a kind in the order given. Messages that carry their id are
//! sent once, however often they come; so an import that was cut off is repeated from the start, or from where it was.
//!
//! Invariant: what is there already stays as it is: an import adds, and never takes away or overwrites, but for read
//! positions, which move forward.

mod lines;
mod polls;
mod state;

use std::collections::BTreeMap;
use std::sync::Arc;

use keevo_core::{Engine, Error, ErrorKind, Result};

use crate::channel::{NewChannel, Origin};
use crate::chat::Chat;
use crate::ids::ChannelId;
use crate::options::{ChatOptions, Rights};
use crate::read_state::ReadTo;
use lines::{ChannelLine, Line, MemberLine, MessageLine, ReactionLine, ReadLine, ThreadReadLine, UserLine};
use polls::{PollLine, VoteLine};

pub use lines::LINE_BYTES_MAX;

/// The most lines of one call.
pub const IMPORT_LINES_MAX: usize = 1_000;
/// The most messages that are sent together.
const MESSAGES_AT_ONCE: usize = 500;

/// What an import did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Imported {
    /// How many lines of each kind are stored now, those that were there before included.
    pub stored: BTreeMap<&'static str, u64>,
    /// Lines that are not, by their number in the call from 0, and why.
    pub refused: BTreeMap<usize, String>,
}

impl Imported {
    /// Notes what became of a line. An error that is not the line's own ends the import.
    fn note<T>(&mut self, number: usize, kind: &'static str, outcome: Result<T>) -> Result<()> {
        match outcome {
            Ok(_) => {
                *self.stored.entry(kind).or_default() += 1;
                Ok(())
            }
            Err(error) if is_of_line(&error) => {
                self.refused.insert(number, error.message().to_owned());
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

/// The lines of one call by kind, each with its number.
#[derive(Default)]
struct Sorted {
    users: Vec<(usize, UserLine)>,
    channels: Vec<(usize, ChannelLine)>,
    members: BTreeMap<String, Vec<(usize, MemberLine)>>,
    messages: BTreeMap<String, Vec<(usize, MessageLine)>>,
    polls: Vec<(usize, PollLine)>,
    votes: Vec<(usize, VoteLine)>,
    reactions: Vec<(usize, ReactionLine)>,
    reads: Vec<(usize, ReadLine)>,
    thread_reads: Vec<(usize, ThreadReadLine)>,
}

impl<E: Engine> Chat<E> {
    /// Imports lines, at most 1,000. Rights are not looked at. A line that is refused keeps no other from being stored; an
    /// error of the engine ends the call, and then it is to be repeated. Repeatable.
    pub async fn import(&self, lines: &[&str]) -> Result<Imported> {
        if lines.len() > IMPORT_LINES_MAX {
            let message = format!("one call takes at most {IMPORT_LINES_MAX} lines, not {}", lines.len());
            return Err(Error::new(ErrorKind::BatchTooLarge, message));
        }
        let mut done = Imported::default();
        let mut sorted = Sorted::default();
        for (number, line) in lines.iter().enumerate() {
            match lines::parse(line) {
                Ok(Line::User(user)) => sorted.users.push((number, user)),
                Ok(Line::Channel(channel)) => sorted.channels.push((number, channel)),
                Ok(Line::Member(member)) => {
                    sorted.members.entry(member.channel.clone()).or_default().push((number, member));
                }
                Ok(Line::Message(message)) => {
                    sorted.messages.entry(message.channel.clone()).or_default().push((number, *message));
                }
                Ok(Line::Poll(poll)) => sorted.polls.push((number, poll)),
                Ok(Line::Vote(vote)) => sorted.votes.push((number, vote)),
                Ok(Line::Reaction(reaction)) => sorted.reactions.push((number, reaction)),
                Ok(Line::Read(read)) => sorted.reads.push((number, read)),
                Ok(Line::ThreadRead(read)) => sorted.thread_reads.push((number, read)),
                Err(reason) => drop(done.refused.insert(number, reason)),
            }
        }
        let trusted = self.trusted();
        for (number, user) in sorted.users {
            done.note(number, "user", trusted.import_user(user).await)?;
        }
        for (number, channel) in sorted.channels {
            done.note(number, "channel", trusted.import_channel(channel).await)?;
        }
        for (channel, members) in sorted.members {
            trusted.import_members(&channel, members, &mut done).await?;
        }
        for (number, poll) in sorted.polls {
            done.note(number, "poll", trusted.import_poll(poll).await)?;
        }
        for (number, vote) in sorted.votes {
            done.note(number, "vote", trusted.import_vote(vote).await)?;
        }
        for (channel, messages) in sorted.messages {
            Box::pin(trusted.import_messages(&channel, messages, &mut done)).await?;
        }
        for (number, reaction) in sorted.reactions {
            let outcome = trusted.import_reaction(reaction).await;
            done.note(number, "reaction", outcome)?;
        }
        for (number, read) in sorted.reads {
            done.note(number, "read", trusted.import_read(read).await)?;
        }
        for (number, read) in sorted.thread_reads {
            done.note(number, "thread_read", trusted.import_thread_read(read).await)?;
        }
        Ok(done)
    }

    /// The same chat for callers whose rights are not looked at.
    fn trusted(&self) -> Self {
        let options = ChatOptions { rights: Rights::Trusted, ..(*self.options).clone() };
        Self { options: Arc::new(options), ..self.clone() }
    }

    async fn import_channel(&self, line: ChannelLine) -> Result<()> {
        let id: ChannelId = line.channel.parse()?;
        let (created_by, custom, team) = (line.created_by, line.custom, line.team);
        let new = NewChannel { created_by, custom, team, members: Vec::new() };
        let mut only = line.distinct;
        only.sort();
        only.dedup();
        let (created_at_ms, frozen, disabled) = (line.created_at_ms, line.frozen, line.disabled);
        let origin = Origin { created_at_ms, frozen, disabled, slow_mode_ms: line.slow_mode_ms };
        self.create_as(&id, new, only, origin).await.map(drop)
    }

    async fn import_members(&self, channel: &str, lines: Vec<(usize, MemberLine)>, done: &mut Imported) -> Result<()> {
        let numbers: Vec<usize> = lines.iter().map(|(number, _)| *number).collect();
        let all: Vec<MemberLine> = lines.iter().map(|(_, line)| line.clone()).collect();
        match self.import_some_members(channel, all).await {
            Ok(()) => numbers.into_iter().try_for_each(|number| done.note(number, "member", Ok(()))),
            Err(error) if is_of_line(&error) => {
                // One of them is refused: which one is found by trying each.
                for (number, line) in lines {
                    done.note(number, "member", self.import_some_members(channel, vec![line]).await)?;
                }
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    async fn import_some_members(&self, channel: &str, lines: Vec<MemberLine>) -> Result<()> {
        let id: ChannelId = channel.parse()?;
        let mut joined = BTreeMap::new();
        let mut members = Vec::with_capacity(lines.len());
        for line in lines {
            joined.extend(line.joined_at_ms.map(|at_ms| (line.user.clone(), at_ms)));
            members.push(line.member()?);
        }
        self.add_members_at(&id, members, &joined).await
    }

    async fn import_messages(
        &self,
        channel: &str,
        mut lines: Vec<(usize, MessageLine)>,
        done: &mut Imported,
    ) -> Result<()> {
        let id: ChannelId = match channel.parse() {
            Ok(id) => id,
            Err(error) => {
                for (number, _) in &lines {
                    done.note::<()>(*number, "message", Err(Error::clone(&error)))?;
                }
                return Ok(());
            }
        };
        // Replies come after what they reply to, wherever that stands in the call.
        lines.sort_by_key(|(_, line)| line.parent.is_some());
        while !lines.is_empty() {
            let rest = lines.split_off(lines.len().min(MESSAGES_AT_ONCE));
            let some = std::mem::replace(&mut lines, rest);
            let all: Vec<MessageLine> = some.iter().map(|(_, line)| line.clone()).collect();
            match self.import_some_messages(&id, all).await {
                Ok(()) => some.iter().try_for_each(|(number, _)| done.note(*number, "message", Ok(())))?,
                Err(error) if is_of_line(&error) => {
                    for (number, line) in some {
                        done.note(number, "message", self.import_some_messages(&id, vec![line]).await)?;
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn import_read(&self, line: ReadLine) -> Result<()> {
        let id: ChannelId = line.channel.parse()?;
        let to = match (line.message, line.sequence) {
            (Some(message), _) => ReadTo::Message(message),
            (None, Some(sequence)) => ReadTo::Sequence(sequence),
            (None, None) => return Err(Error::invalid("a read state names a message or a sequence")),
        };
        self.mark_read_at(&id, &line.user, to, line.read_at_ms).await.map(drop)
    }

    async fn import_thread_read(&self, line: ThreadReadLine) -> Result<()> {
        let id: ChannelId = line.channel.parse()?;
        let to = match (line.message, line.sequence) {
            (Some(message), _) => ReadTo::Message(message),
            (None, Some(sequence)) => ReadTo::Sequence(sequence),
            (None, None) => return Err(Error::invalid("a read state names a message or a sequence")),
        };
        self.mark_thread_read(&id, &line.parent, &line.user, to).await.map(drop)
    }
}

/// Whether a line is one that an import takes, as far as it can be seen alone.
#[cfg(feature = "fuzzing")]
pub(crate) fn is_line(line: &str) -> bool {
    lines::parse(line).is_ok()
}

/// Whether an error is of what a line says, so that repeating it would not help.
fn is_of_line(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Invalid
            | ErrorKind::NotFound
            | ErrorKind::Conflict
            | ErrorKind::BatchTooLarge
            | ErrorKind::PermissionDenied
    )
}
