//! Commands: `/name arguments`, handed to a handler that the app registered.
//!
//! Handlers are configuration, held in the handle as channel types are; nothing of them is stored. What a command answers
//! with is said to who ran it, or sent as its message.
//!
//! Invariant: a handler runs for a bounded time, and a bounded number of them at once, so a slow one costs whoever waits for
//! it and no other.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use keevo_core::{Engine, Error, ErrorKind, Result};
use tokio::sync::Semaphore;

use crate::channel_type::Capability;
use crate::chat::Chat;
use crate::ids::{ChannelId, validate_name};
use crate::message::{Message, NewMessage};

/// The longest name of a command, in bytes.
const NAME_BYTES_MAX: usize = 64;
/// How many commands of a handle run at once.
const RUNNING_MAX: usize = 64;
/// How long a command may take, unless the app says otherwise.
const TAKES_DEFAULT: Duration = Duration::from_secs(3);

/// What a command is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandCall {
    /// Where it was typed.
    pub channel: ChannelId,
    /// Who typed it.
    pub user_id: String,
    /// Its name, without the slash.
    pub name: String,
    /// What came behind it, without blanks around.
    pub arguments: String,
    /// The message in whose thread it was typed.
    pub parent_id: Option<String>,
}

/// What a command answers with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum CommandReply {
    /// Nothing.
    #[default]
    Nothing,
    /// Something for the user alone; it is not stored.
    Tell(String),
    /// A message, sent under the name of the user. Its sender, thread and id are those of the call.
    Send(Box<NewMessage>),
}

/// What became of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandOutcome {
    /// It was done.
    Done,
    /// It was done, and says this to the user alone.
    Told(String),
    /// It sent this message.
    Sent(Box<Message>),
}

/// Carries commands out. An error is the caller's: its kind and message reach who typed the command.
pub trait CommandHandler: Send + Sync + 'static {
    /// Carries a command out. It is dropped where it takes too long, so it must be safe to end at any point, and it may be
    /// run again for the same text when its answer was lost.
    fn run(&self, call: CommandCall) -> BoxFuture<'static, Result<CommandReply>>;
}

/// A command, as people are told of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommandInfo {
    /// Its name, without the slash.
    pub name: String,
    /// What it does.
    pub description: String,
    /// Its arguments, such as `[user] [reason]`.
    pub arguments: String,
}

/// The commands of an app, by channel type.
#[derive(Clone)]
pub struct Commands {
    /// By channel type and name; the empty type is all types.
    known: BTreeMap<(String, String), (CommandInfo, Arc<dyn CommandHandler>)>,
    takes_max: Duration,
    running: Arc<Semaphore>,
}

impl fmt::Debug for Commands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Commands").field("known", &self.known.keys()).finish_non_exhaustive()
    }
}

impl Default for Commands {
    /// None.
    fn default() -> Self {
        Self { known: BTreeMap::new(), takes_max: TAKES_DEFAULT, running: Arc::new(Semaphore::new(RUNNING_MAX)) }
    }
}

impl Commands {
    /// The same commands and this one, in channels of one type, or of all (`None`). It replaces one of the same name there.
    /// `Invalid` for a name that is not 1 to 64 of `a-z 0-9 _ -`.
    pub fn with(mut self, kind: Option<&str>, info: CommandInfo, handler: Arc<dyn CommandHandler>) -> Result<Self> {
        if !is_name(&info.name) {
            let message = format!(
                "a command's name has 1 to {NAME_BYTES_MAX} characters of a-z 0-9 _ -, unlike '{}'",
                info.name.escape_debug()
            );
            return Err(Error::invalid(message));
        }
        let kind = kind.unwrap_or_default().to_owned();
        self.known.insert((kind, info.name.clone()), (info, handler));
        Ok(self)
    }

    /// The same commands, which may take that long.
    #[must_use]
    pub fn taking_at_most(mut self, takes_max: Duration) -> Self {
        self.takes_max = takes_max;
        self
    }

    /// What can be typed in channels of this type, by name.
    pub fn of(&self, kind: &str) -> Vec<&CommandInfo> {
        let mut found: BTreeMap<&str, &CommandInfo> = BTreeMap::new();
        for ((of, name), (info, _)) in &self.known {
            // The empty type comes first, so that a type's own takes its place.
            if of.is_empty() || of == kind {
                found.insert(name, info);
            }
        }
        found.into_values().collect()
    }

    fn handler(&self, kind: &str, name: &str) -> Option<&Arc<dyn CommandHandler>> {
        let of = |kind: &str| self.known.get(&(kind.to_owned(), name.to_owned()));
        of(kind).or_else(|| of("")).map(|(_, handler)| handler)
    }
}

/// The name and the arguments of a command; `None` for a text that is none.
///
/// ```
/// # use keevo_chat::parse_command;
/// assert_eq!(parse_command("/ban  bob for spam "), Some(("ban", "bob for spam")));
/// assert_eq!(parse_command("/shrug"), Some(("shrug", "")));
/// assert_eq!(parse_command("/etc/passwd"), None);
/// assert_eq!(parse_command("and/or"), None);
/// ```
pub fn parse_command(text: &str) -> Option<(&str, &str)> {
    let rest = text.strip_prefix('/')?;
    let (name, arguments) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    is_name(name).then(|| (name, arguments.trim()))
}

fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'-';
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(plain)
}

impl<E: Engine> Chat<E> {
    /// The commands, as this handle and its clones know them.
    pub fn commands(&self) -> Arc<Commands> {
        Arc::clone(&self.commands.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the commands, for this handle and its clones.
    pub fn set_commands(&self, commands: Commands) {
        *self.commands.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(commands);
    }

    /// Runs the command that a text is, such as `/ban bob`. With the id of a message that is there already, nothing is run
    /// and that message is the answer; so a command whose answer is a message may be repeated under its id.
    ///
    /// `Invalid` for a text that is no command, `NotFound` for one that nobody registered, `PermissionDenied` for who may not run
    /// commands, `DeadlineExceeded` for one that takes too long, `ResourceExhausted` while too many run; else the
    /// handler's errors, and those of [`Chat::send`].
    pub async fn run_command(&self, channel: &ChannelId, message: NewMessage) -> Result<CommandOutcome> {
        let user = message.user_id.clone();
        validate_name("a user id", &user)?;
        let Some((name, arguments)) = parse_command(&message.text) else {
            return Err(Error::invalid("a command is a slash, a name and its arguments, such as '/ban bob'"));
        };
        let keys = self.keys(channel).await?;
        self.permit(channel, &keys, &user, &[Capability::RunCommand], true).await?;
        if let Some(id) = &message.id {
            match self.message(channel, id).await {
                Ok(sent) if sent.user_id == user => return Ok(CommandOutcome::Sent(Box::new(sent))),
                Ok(_) => {
                    let text = format!("message '{id}' was sent before by another user");
                    return Err(Error::new(ErrorKind::Conflict, text));
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        let commands = self.commands();
        let Some(handler) = commands.handler(channel.kind(), name) else {
            let known: Vec<&str> = commands.of(channel.kind()).into_iter().map(|info| info.name.as_str()).collect();
            let text = format!("there is no command '/{name}' here; there are: {}", known.join(", "));
            return Err(Error::new(ErrorKind::NotFound, text));
        };
        let Ok(_running) = commands.running.try_acquire() else {
            let text = format!("{RUNNING_MAX} commands are running: try again");
            return Err(Error::new(ErrorKind::ResourceExhausted, text));
        };
        let call = CommandCall {
            channel: channel.clone(),
            user_id: user.clone(),
            name: name.to_owned(),
            arguments: arguments.to_owned(),
            parent_id: message.parent_id.clone(),
        };
        let late = |_elapsed| {
            let text = format!("the command '/{name}' took more than {} ms", commands.takes_max.as_millis());
            Error::new(ErrorKind::DeadlineExceeded, text)
        };
        match tokio::time::timeout(commands.takes_max, handler.run(call)).await.map_err(late)?? {
            CommandReply::Nothing => Ok(CommandOutcome::Done),
            CommandReply::Tell(text) => Ok(CommandOutcome::Told(text)),
            CommandReply::Send(reply) => {
                let (id, parent_id) = (message.id, message.parent_id);
                let sent = self.send(channel, NewMessage { id, parent_id, user_id: user, ..*reply }).await?;
                Ok(CommandOutcome::Sent(Box::new(sent)))
            }
        }
    }
}
