//! What texts pass before they are sent: moderation, as whoever runs the gateway provides it.

use futures::future::BoxFuture;
use keevo_chat::ChannelId;
use keevo_core::Result;

/// Which way a text goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Passed {
    /// As it is.
    Through,
    /// With this text instead.
    Masked(String),
    /// It is kept back; once it is, [`Gatekeeper::held`] is told.
    Held,
    /// Its author alone is to see it, and is not told.
    Shadowed,
}

/// Judges texts before they are sent or replaced.
pub trait Gatekeeper: Send + Sync {
    /// Judges what `user` is about to say in the message `id`.
    ///
    /// An error refuses it: `PermissionDenied` and `Invalid` for what it says, `Unavailable` where no judgement came.
    fn pass<'a>(
        &'a self,
        app: u32,
        channel: &'a ChannelId,
        id: &'a str,
        user: &'a str,
        text: &'a str,
    ) -> BoxFuture<'a, Result<Passed>>;

    /// Is told that what was to be held is, so that it goes on as soon as it is judged.
    fn held<'a>(
        &'a self,
        app: u32,
        channel: &'a ChannelId,
        id: &'a str,
        user: &'a str,
        text: &'a str,
    ) -> BoxFuture<'a, Result<()>>;
}
