//! What a chat is given from outside: time, randomness, how strict it is.

use std::sync::Arc;

use keevo_core::{Clock, Random, SeededRandom, SystemClock};

/// Who checks what a user may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rights {
    /// The caller has checked. The default: a server checks before it calls.
    #[default]
    Trusted,
    /// Whoever sends, reacts, edits or deletes needs the [`Capability`](crate::Capability), as the channel's type, the
    /// member's role and its grants say ([`decide`](crate::decide)); whoever asks for its unread count or moves it must
    /// be a member. Else `PermissionDenied`. What was checked is a precondition of the write itself, so a removal or
    /// a change of a role that comes first always wins. Calls that name no user are the caller's to check, with
    /// [`Chat::authorize`](crate::Chat::authorize).
    Members,
}

/// The options of a [`Chat`](crate::Chat).
#[derive(Debug, Clone)]
pub struct ChatOptions {
    /// Gives the time of messages that bring none.
    pub clock: Arc<dyn Clock>,
    /// Gives the ids of messages that bring none.
    pub random: Arc<dyn Random>,
    /// Who checks rights.
    pub rights: Rights,
    /// The longest text of a message, in bytes; 64 KiB by default. At most 512 KiB, so that a message fits a value.
    pub text_bytes_max: usize,
    /// The longest custom data of a message, a channel or a reaction, in bytes of JSON. At most 128 KiB.
    pub custom_bytes_max: usize,
}

impl Default for ChatOptions {
    fn default() -> Self {
        Self {
            clock: Arc::new(SystemClock::new()),
            random: Arc::new(SeededRandom::from_os()),
            rights: Rights::default(),
            text_bytes_max: 64 << 10,
            custom_bytes_max: 64 << 10,
        }
    }
}

impl ChatOptions {
    /// The longest text that is accepted, whatever the option says.
    pub(crate) fn text_limit(&self) -> usize {
        self.text_bytes_max.min(512 << 10)
    }

    /// The longest custom data that is accepted, whatever the option says.
    pub(crate) fn custom_limit(&self) -> usize {
        self.custom_bytes_max.min(128 << 10)
    }
}
