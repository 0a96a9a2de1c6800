//! Events of a channel, rendered once for all who watch it.

use axum::extract::ws::Utf8Bytes;
use keevo_chat::{
    Actor, Capability, ChannelId, ChannelTypes, ChatEvent, Delivery, Member, Message, Place, Position, ResumeToken,
    decide,
};
use serde_json::{Value, json};

use crate::render;

/// An event on its way to sockets.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) position: Position,
    /// Continues behind it.
    pub(super) resume: ResumeToken,
    pub(super) frame: Utf8Bytes,
    /// The only user who gets it; `None` = everybody.
    pub(super) only_for: Option<String>,
    pub(super) effect: Effect,
    /// The number of a new message of the channel's own sequence.
    pub(super) number: Option<u64>,
}

/// What an event does to those who watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing.
    None,
    /// The user watches no longer, and why.
    Ends(String, &'static str),
    /// Nobody but admins of the app watches any longer.
    Disables,
    /// Nobody watches any longer.
    Deletes,
}

impl Event {
    /// The event of a delivery, which is no `ReloadRequired`.
    pub(super) fn of(channel: &ChannelId, delivery: Delivery, types: &ChannelTypes) -> Self {
        let Delivery { position, event, resume } = delivery;
        let (name, value) = render::event(channel, &event);
        let mut frame = json!({
            "type": event.name(), "cid": channel.as_str(), "version": position.version, "index": position.index,
        });
        if let Value::Object(frame) = &mut frame {
            frame.insert(name.to_owned(), value);
        }
        let only_for = event.only_for().map(str::to_owned);
        let effect = effect(channel, &event, types);
        let number = match &event {
            ChatEvent::MessageNew(Message { place: Place::Channel(number), .. }) => Some(*number),
            _ => None,
        };
        Self { position, resume, frame: frame.to_string().into(), only_for, effect, number }
    }

    /// About how much memory it takes.
    pub(super) fn bytes(&self) -> usize {
        self.frame.as_str().len() + 256
    }
}

fn effect(channel: &ChannelId, event: &ChatEvent, types: &ChannelTypes) -> Effect {
    match event {
        ChatEvent::MemberRemoved { user_id } => Effect::Ends(user_id.clone(), "removed"),
        ChatEvent::MemberUpdated(member) if !may_read(channel, member, types) => {
            Effect::Ends(member.user_id.clone(), "not-granted")
        }
        ChatEvent::ChannelDeleted => Effect::Deletes,
        ChatEvent::ChannelUpdated(channel) if channel.disabled_at_ms.is_some() => Effect::Disables,
        _ => Effect::None,
    }
}

fn may_read(channel: &ChannelId, member: &Member, types: &ChannelTypes) -> bool {
    let actor = Actor { user_id: &member.user_id, role: Some(&member.role), grants: &member.grants };
    let Ok(kind) = types.of(channel.kind()) else { return false };
    decide(channel, kind, actor, Capability::ReadChannel).is_ok()
}
