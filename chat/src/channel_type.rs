//! Channel types: which features a channel has, what each role may do there, and limits.
//!
//! The types are configuration, held in the handle and replaceable at run time ([`Chat::set_channel_types`]); nothing
//! of them is stored with a channel, so a change holds from the next call on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};

use keevo_core::{Engine, Error, Result};

use crate::chat::Chat;
use crate::ids::ChannelId;

/// A feature that a channel type has, or has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Feature {
    /// Reactions on messages.
    Reactions,
    /// Threads.
    Replies,
    /// Editing what was sent.
    Edits,
    /// Quoting another message.
    Quotes,
    /// Attachments.
    Attachments,
    /// Mentions.
    Mentions,
    /// Pinned messages.
    Pins,
    /// Read positions and unread counts.
    ReadState,
    /// Delivery receipts.
    Receipts,
    /// Typing events: for front ends, nothing of it is stored.
    Typing,
    /// Commands.
    Commands,
    /// Polls.
    Polls,
    /// Shared live locations.
    Location,
}

impl Feature {
    /// Every feature.
    pub const ALL: &'static [Self] = &[
        Self::Reactions,
        Self::Replies,
        Self::Edits,
        Self::Quotes,
        Self::Attachments,
        Self::Mentions,
        Self::Pins,
        Self::ReadState,
        Self::Receipts,
        Self::Typing,
        Self::Commands,
        Self::Polls,
        Self::Location,
    ];

    /// Its stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reactions => "reactions",
            Self::Replies => "replies",
            Self::Edits => "edits",
            Self::Quotes => "quotes",
            Self::Attachments => "attachments",
            Self::Mentions => "mentions",
            Self::Pins => "pins",
            Self::ReadState => "read-state",
            Self::Receipts => "receipts",
            Self::Typing => "typing",
            Self::Commands => "commands",
            Self::Polls => "polls",
            Self::Location => "location",
        }
    }
}

/// Something that a user may do in a channel, or may not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Capability {
    /// Read messages and members, and listen.
    ReadChannel,
    /// Send messages of the channel's own sequence.
    SendMessage,
    /// Reply in threads.
    SendReply,
    /// Put reactions on messages.
    React,
    /// Edit one's own messages.
    EditOwn,
    /// Edit anybody's messages.
    EditAny,
    /// Delete one's own messages, and bring them back.
    DeleteOwn,
    /// Delete anybody's messages, and bring them back.
    DeleteAny,
    /// Change the channel's custom data and slow mode.
    UpdateChannel,
    /// Delete the channel.
    DeleteChannel,
    /// Freeze the channel and end that.
    FreezeChannel,
    /// Remove what was said.
    TruncateChannel,
    /// Add members.
    AddMembers,
    /// Remove members.
    RemoveMembers,
    /// Invite users.
    Invite,
    /// Join without an invitation.
    Join,
    /// Leave.
    Leave,
    /// Change members' roles and grants.
    ChangeRoles,
    /// Pin messages.
    PinMessage,
    /// Ban users from the channel.
    Ban,
    /// Flag messages and users for review.
    Flag,
    /// Review what was flagged.
    Review,
    /// Have a read position and an unread count.
    MarkRead,
    /// Send attachments.
    Attach,
    /// Quote messages.
    Quote,
    /// Mention users and groups.
    Mention,
    /// Mention the whole channel.
    MentionChannel,
    /// Send without regard to slow mode.
    SkipSlowMode,
    /// Write in a frozen channel.
    WriteWhenFrozen,
    /// Run commands.
    RunCommand,
    /// Make polls.
    MakePoll,
    /// Vote in polls.
    Vote,
    /// Share one's location.
    ShareLocation,
}

/// Every capability with its stable name and the feature without which nobody has it.
const CAPABILITIES: &[(Capability, &str, Option<Feature>)] = &[
    (Capability::ReadChannel, "read-channel", None),
    (Capability::SendMessage, "send-message", None),
    (Capability::SendReply, "send-reply", Some(Feature::Replies)),
    (Capability::React, "react", Some(Feature::Reactions)),
    (Capability::EditOwn, "edit-own", Some(Feature::Edits)),
    (Capability::EditAny, "edit-any", Some(Feature::Edits)),
    (Capability::DeleteOwn, "delete-own", None),
    (Capability::DeleteAny, "delete-any", None),
    (Capability::UpdateChannel, "update-channel", None),
    (Capability::DeleteChannel, "delete-channel", None),
    (Capability::FreezeChannel, "freeze-channel", None),
    (Capability::TruncateChannel, "truncate-channel", None),
    (Capability::AddMembers, "add-members", None),
    (Capability::RemoveMembers, "remove-members", None),
    (Capability::Invite, "invite", None),
    (Capability::Join, "join", None),
    (Capability::Leave, "leave", None),
    (Capability::ChangeRoles, "change-roles", None),
    (Capability::PinMessage, "pin-message", Some(Feature::Pins)),
    (Capability::Ban, "ban", None),
    (Capability::Flag, "flag", None),
    (Capability::Review, "review", None),
    (Capability::MarkRead, "mark-read", Some(Feature::ReadState)),
    (Capability::Attach, "attach", Some(Feature::Attachments)),
    (Capability::Quote, "quote", Some(Feature::Quotes)),
    (Capability::Mention, "mention", Some(Feature::Mentions)),
    (Capability::MentionChannel, "mention-channel", Some(Feature::Mentions)),
    (Capability::SkipSlowMode, "skip-slow-mode", None),
    (Capability::WriteWhenFrozen, "write-when-frozen", None),
    (Capability::RunCommand, "run-command", Some(Feature::Commands)),
    (Capability::MakePoll, "make-poll", Some(Feature::Polls)),
    (Capability::Vote, "vote", Some(Feature::Polls)),
    (Capability::ShareLocation, "share-location", Some(Feature::Location)),
];

impl Capability {
    /// Every capability.
    pub fn all() -> impl Iterator<Item = Self> {
        CAPABILITIES.iter().map(|(capability, _, _)| *capability)
    }

    /// Its stable name, such as `send-message`.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// The capability with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        CAPABILITIES.iter().find(|(_, found, _)| *found == name).map(|(capability, _, _)| *capability)
    }

    /// The feature without which nobody has it.
    pub fn feature(self) -> Option<Feature> {
        self.row().2
    }

    fn row(self) -> &'static (Self, &'static str, Option<Feature>) {
        CAPABILITIES.iter().find(|(found, _, _)| *found == self).expect("every capability has a row; a test checks it")
    }
}

/// How long messages of a channel type are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// The age from which on a message is erased, in milliseconds.
    pub age_ms_max: u64,
    /// Whether pinned messages are kept as long as they are pinned.
    pub keep_pinned: bool,
}

/// A channel type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelType {
    /// The features that its channels have.
    pub features: BTreeSet<Feature>,
    /// What members may do, by role. A role that is not named here has what `member` has.
    pub grants: BTreeMap<String, BTreeSet<Capability>>,
    /// What those may do who are no members.
    pub strangers: BTreeSet<Capability>,
    /// How long messages are kept; `None` = for good.
    pub retention: Option<Retention>,
    /// The longest text of a message, in bytes; never more than [`ChatOptions`](crate::ChatOptions) allows.
    pub text_bytes_max: usize,
}

impl Default for ChannelType {
    /// All features, 64 KiB of text, nothing for strangers. Members write and change what is theirs; guests only
    /// write, reply, react and read; moderators also run the channel; owners may also delete it; admins may do all.
    fn default() -> Self {
        use Capability as C;
        let guest = vec![C::ReadChannel, C::SendMessage, C::SendReply, C::React, C::Leave, C::Flag, C::MarkRead];
        let own = [C::EditOwn, C::DeleteOwn, C::Attach, C::Quote, C::Mention];
        let extras = [C::RunCommand, C::MakePoll, C::Vote, C::ShareLocation, C::Invite];
        let member: Vec<C> = guest.iter().copied().chain(own).chain(extras).collect();
        let beyond = [C::EditAny, C::DeleteChannel];
        let moderator: Vec<C> = C::all().filter(|one| !beyond.contains(one)).collect();
        let owner: Vec<C> = C::all().filter(|one| *one != C::EditAny).collect();
        let roles = [
            ("guest", guest),
            ("member", member),
            ("moderator", moderator),
            ("owner", owner),
            ("admin", C::all().collect()),
        ];
        Self {
            features: Feature::ALL.iter().copied().collect(),
            grants: roles.into_iter().map(|(role, all)| (role.to_owned(), all.into_iter().collect())).collect(),
            strangers: BTreeSet::new(),
            retention: None,
            text_bytes_max: 64 << 10,
        }
    }
}

impl ChannelType {
    /// The same type without a feature.
    #[must_use]
    pub fn without(mut self, feature: Feature) -> Self {
        self.features.remove(&feature);
        self
    }

    /// The same type, with these capabilities for a role, instead of what it had.
    #[must_use]
    pub fn with_grants(mut self, role: &str, capabilities: impl IntoIterator<Item = Capability>) -> Self {
        self.grants.insert(role.to_owned(), capabilities.into_iter().collect());
        self
    }

    /// The same type, with messages that are erased once they are that old; pinned ones are kept.
    #[must_use]
    pub fn with_retention(mut self, age_ms_max: u64) -> Self {
        self.retention = Some(Retention { age_ms_max, keep_pinned: true });
        self
    }

    /// The same type, with these capabilities for those who are no members.
    #[must_use]
    pub fn with_strangers(mut self, capabilities: impl IntoIterator<Item = Capability>) -> Self {
        self.strangers = capabilities.into_iter().collect();
        self
    }
}

/// The channel types of an app, by name.
///
/// ```
/// # use keevo_chat::{Capability, ChannelTypes};
/// let types = ChannelTypes::default();
/// let livestream = types.of("livestream").expect("a type");
/// assert!(livestream.strangers.contains(&Capability::SendMessage));
/// assert!(types.of("of my own").is_ok());
/// assert!(ChannelTypes::default().only_named().of("of my own").is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelTypes {
    named: BTreeMap<String, ChannelType>,
    other: Option<ChannelType>,
}

impl Default for ChannelTypes {
    /// `messaging`, `team`, `livestream`, `gaming` and `commerce`; any other name is a type with the default settings.
    ///
    /// In a `livestream` strangers read, write and react, and nothing is counted as unread. `gaming` has no pins,
    /// polls or locations. In `commerce` members can't invite.
    fn default() -> Self {
        use Capability as C;
        let open = [C::ReadChannel, C::SendMessage, C::SendReply, C::React, C::Join, C::Flag];
        let livestream = ChannelType::default().without(Feature::ReadState).without(Feature::Receipts);
        let gaming = ChannelType::default().without(Feature::Pins).without(Feature::Polls).without(Feature::Location);
        let plain = ChannelType::default();
        let commerce_members =
            plain.grants.get("member").into_iter().flatten().copied().filter(|one| *one != C::Invite);
        let commerce = ChannelType::default().with_grants("member", commerce_members.collect::<Vec<_>>());
        let named = [
            ("messaging", plain.clone()),
            ("team", plain.clone()),
            ("livestream", livestream.with_strangers(open)),
            ("gaming", gaming),
            ("commerce", commerce),
        ];
        Self { named: named.into_iter().map(|(name, kind)| (name.to_owned(), kind)).collect(), other: Some(plain) }
    }
}

impl ChannelTypes {
    /// The same types and this one, which replaces one of the same name.
    #[must_use]
    pub fn with(mut self, name: &str, kind: ChannelType) -> Self {
        self.named.insert(name.to_owned(), kind);
        self
    }

    /// The same types; a channel of any other is refused.
    #[must_use]
    pub fn only_named(mut self) -> Self {
        self.other = None;
        self
    }

    /// The type of this name; `Invalid` where there is none.
    pub fn of(&self, name: &str) -> Result<&ChannelType> {
        self.named.get(name).or(self.other.as_ref()).ok_or_else(|| {
            let known: Vec<&str> = self.named.keys().map(String::as_str).collect();
            Error::invalid(format!("there is no channel type '{name}': use one of {}", known.join(", ")))
        })
    }
}

impl ChannelTypes {
    /// Whether any type retains messages for a time only.
    pub(crate) fn any_retention(&self) -> bool {
        self.named.values().chain(&self.other).any(|kind| kind.retention.is_some())
    }
}

impl<E: Engine> Chat<E> {
    /// The channel types, as this handle and its clones know them.
    pub fn channel_types(&self) -> Arc<ChannelTypes> {
        Arc::clone(&self.types.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the channel types, for this handle and its clones.
    pub fn set_channel_types(&self, types: ChannelTypes) {
        *self.types.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(types);
    }

    /// The type of a channel; `Invalid` where there is none of its name.
    pub(crate) fn kind_of(&self, channel: &ChannelId) -> Result<ChannelType> {
        self.channel_types().of(channel.kind()).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_lead_back() {
        let names: BTreeSet<&str> = Capability::all().map(Capability::name).collect();
        assert_eq!(names.len(), CAPABILITIES.len());
        for capability in Capability::all() {
            assert_eq!(Capability::from_name(capability.name()), Some(capability));
        }
        assert_eq!(Feature::ALL.iter().map(|one| one.name()).collect::<BTreeSet<_>>().len(), Feature::ALL.len());
    }

    #[test]
    fn roles_of_the_default_type_grow() {
        let kind = ChannelType::default();
        let of = |role: &str| kind.grants.get(role).expect("a role");
        for (less, more) in [("guest", "member"), ("member", "moderator"), ("moderator", "owner"), ("owner", "admin")] {
            assert!(of(less).is_subset(of(more)) && of(less) != of(more), "{less} and {more}");
        }
    }
}
