//! Distinct channels: the one channel of a set of members, found by the set alone.
//!
//! Its id is a hash of the set. The set is stored with the channel and compared, so two sets of one hash can't
//! share a channel: the second one is refused.

use keevo_core::{Engine, Error, ErrorKind, Result};

use crate::channel::{Channel, NewChannel};
use crate::chat::Chat;
use crate::ids::ChannelId;
use crate::member::NewMember;
use crate::membership::each_once;

/// The most members of a distinct channel.
const DISTINCT_MEMBERS_MAX: usize = 100;

impl<E: Engine> Chat<E> {
    /// The one channel of this type that these members have, created if it is new; it keeps the creator and custom data
    /// of whoever asked first. Its members stay the same for ever. 1 to 100 members; the order does not matter.
    ///
    /// ```
    /// # use keevo_chat::{AppId, Chat, ChatOptions, NewChannel, NewMember};
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let chat = Chat::new(keevo_core::MemoryEngine::new(), AppId(1), ChatOptions::default());
    /// let both = |one: &str, other: &str| NewChannel {
    ///     created_by: one.into(),
    ///     members: vec![NewMember::new(one), NewMember::new(other)],
    ///     ..NewChannel::default()
    /// };
    /// let first = chat.distinct_channel("messaging", both("ada", "bob")).await?;
    /// let again = chat.distinct_channel("messaging", both("bob", "ada")).await?;
    /// assert_eq!(first, again);
    /// # Ok::<(), keevo_core::Error>(())
    /// # }).unwrap();
    /// ```
    pub async fn distinct_channel(&self, kind: &str, mut new: NewChannel) -> Result<Channel> {
        new.members = each_once(new.members, &self.options)?;
        let only: Vec<String> = new.members.iter().map(|member| member.user_id.clone()).collect();
        let id = distinct_id(kind, &new.members)?;
        match self.create(&id, new, only.clone()).await {
            Err(error) if error.kind() == ErrorKind::Conflict => match self.channel(&id).await {
                Ok(stored) if stored.distinct == only => Err(error),
                Ok(_) => Err(Error::new(
                    ErrorKind::Conflict,
                    format!("channel {id} belongs to other members: create a channel with an id of its own"),
                )),
                Err(_) => Err(error),
            },
            created => created,
        }
    }
}

/// The id of the one channel of these members, which are sorted and each there once.
fn distinct_id(kind: &str, members: &[NewMember]) -> Result<ChannelId> {
    if members.is_empty() || members.len() > DISTINCT_MEMBERS_MAX {
        let message = format!("a distinct channel has 1 to {DISTINCT_MEMBERS_MAX} members, not {}", members.len());
        return Err(Error::invalid(message));
    }
    // FNV-1a of 128 bits; names hold no control character, so 00 ends each. Stable for ever, since it is stored.
    let mut hash: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    let names = members.iter().flat_map(|member| member.user_id.bytes().chain([0]));
    for byte in names {
        hash = (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
    }
    ChannelId::new(kind, &format!("!members-{hash:032x}"))
}
