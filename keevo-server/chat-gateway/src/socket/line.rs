//! Reading a line: one subscription of the library, whose events go to all who watch.
//!
//! Invariant: a line that breaks goes on from its last event, and where it cannot, those who watch are told to reload.

use std::sync::Arc;
use std::time::Duration;

use keevo_chat::{ChatEvent, Position, ResumeFrom, ResumeToken, Subscription};
use keevo_core::{AnyEngine, Error, ErrorKind};
use tokio::time::Instant;

use super::channel::Published;
use super::event::Event;
use super::hub::{Channel, Hub};

/// How often a line looks whether it is still needed.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long a line stays that nobody is on: clients that drop come back soon.
const LINGER: Duration = Duration::from_secs(10);
/// How long nothing may have come of a channel before its place is read anew, so that it does not grow old.
const QUIET: Duration = Duration::from_mins(1);
/// The first wait, and the longest, before a broken line is read again.
const WAIT_FIRST: Duration = Duration::from_millis(100);
const WAIT_MAX: Duration = Duration::from_secs(5);
/// How long a line that catches up waits for sockets that are slow.
const ROOM_EVERY: Duration = Duration::from_millis(10);
const ROOM_TRIES: u32 = 1_000;

/// How a subscription ended.
enum End {
    /// The line is gone.
    Over,
    /// It broke.
    Broke(Error),
    /// It goes on from a newer place.
    Renewed,
}

impl Hub {
    /// Reads a line until it is over.
    pub(super) async fn follow(&self, channel: &Arc<Channel>, line: u64, from: ResumeToken) {
        let chat = self.inner.chats.of(channel.app).trusted.clone();
        let (mut token, mut wait) = (from, WAIT_FIRST);
        loop {
            let subscribed = chat.subscribe(&channel.id, ResumeFrom::Token(token.clone())).await;
            let broke = match subscribed {
                Ok(mut subscription) => {
                    let before = subscription.resume().position();
                    match Box::pin(self.pump(channel, line, &mut subscription, &mut token)).await {
                        End::Over => return,
                        End::Renewed => continue,
                        End::Broke(error) => {
                            if subscription.resume().position() > before {
                                wait = WAIT_FIRST;
                            }
                            error
                        }
                    }
                }
                Err(error) => error,
            };
            if !broke.kind().is_retryable() && broke.kind() != ErrorKind::DeadlineExceeded {
                tracing::warn!(channel = %channel.id, error = %broke, "the events of a channel cannot be read");
                channel.lock().reload(line, "the events cannot be read", self.now());
                self.retire(channel, line, Duration::ZERO);
                return;
            }
            tracing::debug!(channel = %channel.id, error = %broke, "the events of a channel are read again");
            if self.retire(channel, line, LINGER) {
                return;
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(WAIT_MAX);
        }
    }

    /// Publishes what a subscription gives. `token` is where to go on when it breaks. When its place was moved to now it is to be
    /// renewed: one that began, or went on after a gap, further back than the node reads has had a watch of its own until then.
    async fn pump(
        &self,
        channel: &Arc<Channel>,
        line: u64,
        subscription: &mut Subscription<AnyEngine>,
        token: &mut ResumeToken,
    ) -> End {
        let types = self.inner.chats.of(channel.app).trusted.channel_types();
        let mut heard = Instant::now();
        let mut look = tokio::time::interval_at(heard + LOOK_EVERY, LOOK_EVERY);
        loop {
            let delivery = tokio::select! {
                delivery = subscription.next() => delivery,
                _ = look.tick() => {
                    if self.retire(channel, line, LINGER) {
                        return End::Over;
                    }
                    if heard.elapsed() >= QUIET {
                        heard = Instant::now();
                        if self.refresh(channel, line, token).await {
                            return End::Renewed;
                        }
                    }
                    continue;
                }
            };
            let delivery = match delivery {
                Some(Ok(delivery)) => delivery,
                Some(Err(error)) => return End::Broke(error),
                None => return End::Broke(Error::new(ErrorKind::Unavailable, "the subscription ended")),
            };
            heard = Instant::now();
            if let ChatEvent::ReloadRequired { reason } = &delivery.event {
                channel.lock().reload(line, reason, self.now());
                self.retire(channel, line, Duration::ZERO);
                return End::Over;
            }
            *token = delivery.resume.clone();
            let event = Arc::new(Event::of(&channel.id, delivery, &types));
            let published = channel.lock().publish(line, &event, self.now());
            if published == Published::Over {
                return End::Over;
            }
            self.room(channel, line).await;
        }
    }

    /// Waits until those on a line that catches up have room for more; the slow ones are closed in the end.
    async fn room(&self, channel: &Arc<Channel>, line: u64) {
        for _ in 0..ROOM_TRIES {
            if channel.lock().has_room(line) {
                return;
            }
            tokio::time::sleep(ROOM_EVERY).await;
        }
    }

    /// Moves the place of a quiet line to now, where nothing has happened since. The watch is healthy, and a change takes
    /// it less than a call's deadline, so all of the last version has come. Whether it was moved.
    async fn refresh(&self, channel: &Arc<Channel>, line: u64, token: &mut ResumeToken) -> bool {
        let chat = self.inner.chats.of(channel.app).trusted.clone();
        let Ok(now) = chat.subscribe(&channel.id, ResumeFrom::Now).await else { return false };
        let now = now.resume().clone();
        let end = channel.lock().end_of(line);
        let same = |end: Position| end.version == now.position().version;
        let moves = end.is_some_and(same);
        if moves {
            channel.lock().refresh(line, &now);
            *token = now;
        }
        moves
    }
}
