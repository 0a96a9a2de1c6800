//! What waits to be sent on a stream between peers, and how it is put into messages.
//!
//! ```text
//! push ─▶ queue (bounded in frames and bytes) ─▶ ready ─▶ message of at most 1 MiB, or of one larger frame
//! ```
//!
//! Heartbeats of many groups, and their answers, wait for each other for [`HEARTBEATS_LINGER`]; whatever else leaves
//! takes them along. So a node pair exchanges a few messages a heartbeat interval, however many groups it has.
//!
//! Invariant: no message is larger than what the other end takes, so a stream never breaks on what this end sent.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use keevo_core::{Error, ErrorKind, Result};
use keevo_proto::raft::v1 as pb;
use keevo_proto::{MESSAGE_BYTES_MAX, Message};
use keevo_raft::PeerCall;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// The most frames of one message.
const FRAMES_TOGETHER_MAX: usize = 256;
/// A message is closed before it has more bytes than this, unless its first frame alone has.
const MESSAGE_BYTES: usize = 1 << 20;
/// The largest frame: what a message may have, less what is around the frame.
pub(super) const FRAME_BYTES_MAX: usize = MESSAGE_BYTES_MAX - 1_024;
/// How many bytes of frames may wait; at least one of the largest.
pub(super) const QUEUE_BYTES_MAX: usize = 2 * MESSAGE_BYTES_MAX;
/// How long heartbeats wait for company when nothing else leaves. Short beside a heartbeat interval, of 10 ms or more.
const HEARTBEATS_LINGER: Duration = Duration::from_millis(3);
/// Frames up to this size need no room of their own: their number bounds them, and a heartbeat always finds a place.
const SMALL_BYTES: usize = 4_096;

/// A frame that waits, and the room that it gives back when it leaves.
#[derive(Debug)]
struct Queued {
    frame: pb::Frame,
    bytes: usize,
    _room: Option<OwnedSemaphorePermit>,
}

/// The end where frames are put in.
#[derive(Debug, Clone)]
pub(super) struct Inbox {
    queue_tx: mpsc::Sender<Queued>,
    room: Arc<Semaphore>,
}

/// The end where they come out, in messages.
#[derive(Debug)]
pub(super) struct Outbox {
    queue_rx: mpsc::Receiver<Queued>,
    ready: VecDeque<Queued>,
    taken: Vec<Queued>,
}

/// A queue for so many frames, and for [`QUEUE_BYTES_MAX`] bytes of those that are not small.
pub(super) fn queue(frames_max: usize) -> (Inbox, Outbox) {
    let (queue_tx, queue_rx) = mpsc::channel(frames_max);
    let room = Arc::new(Semaphore::new(QUEUE_BYTES_MAX));
    (Inbox { queue_tx, room }, Outbox { queue_rx, ready: VecDeque::new(), taken: Vec::new() })
}

/// The bytes of a frame, and how much room it needs. `BatchTooLarge` for one that no message can carry.
fn measure(frame: &pb::Frame) -> Result<(usize, Option<u32>)> {
    let bytes = frame.encoded_len();
    let room = u32::try_from(bytes).ok().filter(|_| bytes <= FRAME_BYTES_MAX).ok_or_else(|| {
        let message = format!("{bytes} bytes for another node, more than the {FRAME_BYTES_MAX} of one message");
        Error::new(ErrorKind::BatchTooLarge, message)
    })?;
    Ok((bytes, (bytes > SMALL_BYTES).then_some(room)))
}

fn closed() -> Error {
    Error::new(ErrorKind::Unavailable, "the connection has ended")
}

impl Inbox {
    /// What waits: frames and the most that may, bytes of those that are not small and the most that may.
    pub(super) fn queued(&self) -> [u64; 4] {
        let frames = self.queue_tx.max_capacity().saturating_sub(self.queue_tx.capacity());
        let bytes = QUEUE_BYTES_MAX.saturating_sub(self.room.available_permits());
        [frames, self.queue_tx.max_capacity(), bytes, QUEUE_BYTES_MAX].map(|one| u64::try_from(one).unwrap_or(u64::MAX))
    }

    /// Puts a frame in, in the order of the calls. `Unavailable` when there is no place for it now.
    pub(super) fn try_push(&self, frame: pb::Frame) -> Result<()> {
        let full = || Error::new(ErrorKind::Unavailable, "too many requests wait to be sent");
        let (bytes, room) = measure(&frame)?;
        let room = match room {
            Some(room) => {
                Some(Arc::clone(&self.room).try_acquire_many_owned(room).map_err(|error| full().with_source(error))?)
            }
            None => None,
        };
        self.queue_tx.try_send(Queued { frame, bytes, _room: room }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => full(),
            mpsc::error::TrySendError::Closed(_) => closed(),
        })
    }

    /// Puts a frame in as soon as there is a place for it. `Unavailable` when the stream has ended.
    pub(super) async fn push(&self, frame: pb::Frame) -> Result<()> {
        let (bytes, room) = measure(&frame)?;
        let room = match room {
            Some(room) => {
                let wait = Arc::clone(&self.room).acquire_many_owned(room);
                // Whoever waits for room must not outlive the stream, which gives no room back.
                let room = tokio::select! {
                    room = wait => room.map_err(|error| closed().with_source(error))?,
                    () = self.queue_tx.closed() => return Err(closed()),
                };
                Some(room)
            }
            None => None,
        };
        self.queue_tx.send(Queued { frame, bytes, _room: room }).await.map_err(|_gone| closed())
    }
}

impl Outbox {
    /// While there is nothing but heartbeats: takes in what comes, for a moment.
    async fn wait_for_company(&mut self) {
        let is_heartbeat = |queued: &Queued| queued.frame.kind == PeerCall::Heartbeat.code();
        if !self.ready.iter().all(is_heartbeat) {
            return;
        }
        let until = tokio::time::Instant::now() + HEARTBEATS_LINGER;
        while self.ready.len() < FRAMES_TOGETHER_MAX {
            let room = FRAMES_TOGETHER_MAX - self.ready.len();
            let taking = self.queue_rx.recv_many(&mut self.taken, room);
            if !matches!(tokio::time::timeout_at(until, taking).await, Ok(1..)) {
                return;
            }
            let goes_now = !self.taken.iter().all(is_heartbeat);
            self.ready.extend(self.taken.drain(..));
            if goes_now {
                return;
            }
        }
    }

    /// The frames of the next message; `None` when nobody can put any in.
    pub(super) async fn next(&mut self) -> Option<Vec<pb::Frame>> {
        if self.ready.is_empty() {
            if self.queue_rx.recv_many(&mut self.taken, FRAMES_TOGETHER_MAX).await == 0 {
                return None;
            }
            self.ready.extend(self.taken.drain(..));
            self.wait_for_company().await;
        }
        let mut frames = Vec::new();
        let mut bytes = 0;
        while let Some(next) = self.ready.front() {
            if !frames.is_empty() && bytes + next.bytes > MESSAGE_BYTES {
                break;
            }
            let Some(Queued { frame, bytes: size, .. }) = self.ready.pop_front() else { break };
            bytes += size;
            frames.push(frame);
        }
        Some(frames)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(bytes: usize) -> pb::Frame {
        pb::Frame { body: vec![7; bytes].into(), ..pb::Frame::default() }
    }

    #[tokio::test]
    async fn messages_are_closed_at_their_size_and_small_frames_travel_together() {
        let (inbox, mut outbox) = queue(1_000);
        for size in [10, 20, 3 << 20, 600 << 10, 300 << 10, 300 << 10] {
            inbox.try_push(frame(size)).expect("there is room");
        }
        let mut messages = Vec::new();
        for _ in 0..4 {
            let frames = outbox.next().await.expect("a message");
            messages.push(frames.iter().map(|frame| frame.body.len()).collect::<Vec<_>>());
        }
        assert_eq!(messages, [vec![10, 20], vec![3 << 20], vec![600 << 10, 300 << 10], vec![300 << 10]]);
        for _ in 0..300 {
            inbox.try_push(frame(1)).expect("there is room");
        }
        assert_eq!(outbox.next().await.expect("a message").len(), FRAMES_TOGETHER_MAX);
        drop(inbox);
        assert_eq!(outbox.next().await.expect("the rest").len(), 300 - FRAMES_TOGETHER_MAX);
        assert_eq!(outbox.next().await, None);
    }

    #[tokio::test]
    async fn heartbeats_wait_for_company_and_everything_else_takes_them_along() {
        let heartbeat = || pb::Frame { kind: PeerCall::Heartbeat.code(), ..frame(10) };
        let (inbox, mut outbox) = queue(1_000);
        let started = tokio::time::Instant::now();
        inbox.try_push(heartbeat()).expect("there is room");
        let another = async { inbox.try_push(heartbeat()).expect("there is room") };
        let (message, ()) = tokio::join!(outbox.next(), another);
        assert_eq!(message.expect("a message").len(), 2, "the second came while the first waited");
        assert!(started.elapsed() >= HEARTBEATS_LINGER, "nothing else left meanwhile");
        inbox.try_push(heartbeat()).expect("there is room");
        let append = async {
            inbox.try_push(frame(10)).expect("there is room");
            inbox.try_push(heartbeat()).expect("there is room");
        };
        let (message, ()) = tokio::join!(outbox.next(), append);
        let kinds: Vec<_> = message.expect("a message").iter().map(|frame| frame.kind).collect();
        assert_eq!(kinds, [PeerCall::Heartbeat.code(), 0, PeerCall::Heartbeat.code()], "in the order of the calls");
        inbox.try_push(heartbeat()).expect("there is room");
        drop(inbox);
        assert_eq!(outbox.next().await.expect("the last").len(), 1);
        assert_eq!(outbox.next().await, None);
    }

    #[tokio::test]
    async fn bytes_that_wait_are_bounded_and_a_heartbeat_finds_a_place_all_the_same() {
        let (inbox, mut outbox) = queue(1_000);
        let large = 1 << 20;
        let fit = QUEUE_BYTES_MAX / (large + 64);
        for _ in 0..fit {
            inbox.try_push(frame(large)).expect("there is room");
        }
        assert_eq!(inbox.try_push(frame(large)).expect_err("full").kind(), ErrorKind::Unavailable);
        inbox.try_push(frame(100)).expect("a small one has its place");
        assert_eq!(outbox.next().await.expect("a message").len(), 1);
        inbox.try_push(frame(large)).expect("what has left gave its room back");
    }

    #[tokio::test]
    async fn a_frame_that_no_message_can_carry_is_refused_and_a_wait_for_room_ends_with_the_stream() {
        let (inbox, outbox) = queue(1_000);
        let refused = inbox.try_push(frame(MESSAGE_BYTES_MAX)).expect_err("too large");
        assert_eq!(refused.kind(), ErrorKind::BatchTooLarge);
        assert_eq!(inbox.push(frame(MESSAGE_BYTES_MAX)).await.expect_err("too large").kind(), ErrorKind::BatchTooLarge);
        for _ in 0..3 {
            inbox.try_push(frame(40 << 20)).expect("there is room");
        }
        let waiting = tokio::spawn(async move { inbox.push(frame(40 << 20)).await });
        tokio::task::yield_now().await;
        drop(outbox);
        assert_eq!(waiting.await.expect("it ran").expect_err("the stream is gone").kind(), ErrorKind::Unavailable);
    }
}
