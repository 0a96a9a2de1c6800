//! Those who have not even an id: what a channel's type lets strangers read, they read.
//!
//! Invariant: whoever has no id writes nothing, and sees nothing that only its sender is to see.

use keevo_core::{Engine, Result};

use crate::channel_type::Capability;
use crate::chat::{Chat, no_channel};
use crate::ids::ChannelId;
use crate::keys::Setting;
use crate::rights::{Denied, DeniedCode, feature};
use crate::subscribe::{ResumeFrom, Subscription};

/// Stands for nobody where a user is named: no user's id holds a control character.
const NOBODY: &str = "\u{1}";

impl<E: Engine> Chat<E> {
    /// `PermissionDenied` unless anybody may read the channel. What it reads then is for
    /// [`HistoryPage::visible_to_anybody`](crate::HistoryPage::visible_to_anybody) to filter. `NotFound` without the channel.
    pub async fn authorize_anonymous(&self, channel: &ChannelId) -> Result<()> {
        let keys = self.keys(channel).await?;
        if self.get(keys.channel()).await?.is_none() {
            return Err(no_channel(channel));
        }
        let kind = self.kind_of(channel)?;
        feature(channel, &kind, Capability::ReadChannel).map_err(Denied::into_error)?;
        if !kind.strangers.contains(&Capability::ReadChannel) {
            let message = format!("channel {channel} is for its members");
            return Err(Denied::new(DeniedCode::NotAMember, message).into_error());
        }
        if self.get(keys.setting(Setting::Disabled)).await?.is_some() {
            return Err(Denied::new(DeniedCode::Disabled, format!("channel {channel} is disabled")).into_error());
        }
        Ok(())
    }

    /// Subscribes somebody without an id to a channel that strangers may read. Errors as those of
    /// [`Chat::authorize_anonymous`]; `Invalid` for a token of a user or of another channel.
    pub async fn subscribe_anonymous(&self, channel: &ChannelId, from: ResumeFrom) -> Result<Subscription<E>> {
        self.authorize_anonymous(channel).await?;
        self.open(channel, Some(NOBODY), from).await
    }
}
