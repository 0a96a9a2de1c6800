//! What waits to be written to a socket.
//!
//! Invariant: never more than the bounds; what would pass them ends the socket instead, which then resumes.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use axum::extract::ws::Utf8Bytes;
use tokio::sync::Notify;

/// The most frames that are written at once.
const BATCH_MAX: usize = 64;

/// Why a socket ends: a code of the protocol, and a sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closing {
    /// The code, of docs/CHAT-API.md, section 9.
    pub code: u16,
    /// What the client is to do.
    pub reason: &'static str,
}

impl Closing {
    /// The client said goodbye.
    pub const BYE: Self = Self { code: 1000, reason: "" };
    pub(crate) const STOPS: Self = Self { code: 1001, reason: "the node stops: resume at another" };
    /// A frame of the client has more than [`FRAME_BYTES_MAX`](crate::FRAME_BYTES_MAX) bytes.
    pub const TOO_LARGE: Self = Self { code: 1009, reason: "the frame is too large" };
    /// A frame of the client is none.
    pub const BAD_FRAME: Self = Self { code: 4000, reason: "that is no frame of this protocol" };
    pub(crate) const TOKEN: Self = Self { code: 4001, reason: "get a new token and resume" };
    pub(crate) const DENIED: Self =
        Self { code: 4003, reason: "the app is suspended, or the user is banned or deactivated" };
    pub(crate) const NO_HELLO: Self = Self { code: 4004, reason: "hello did not come in time" };
    pub(crate) const BAD_RESUME: Self = Self { code: 4005, reason: "connect without resume" };
    pub(crate) const SLOW: Self = Self { code: 4008, reason: "too much waits: resume" };
    pub(crate) const FULL: Self = Self { code: 4009, reason: "too many sockets, or connects: wait and resume" };
    pub(crate) const SILENT: Self = Self { code: 4010, reason: "nothing was heard for too long: resume" };
    pub(crate) const FAILED: Self = Self { code: 4011, reason: "the server cannot serve this now: wait and resume" };
    pub(crate) const FLOOD: Self = Self { code: 4029, reason: "too many frames a second: wait and resume" };
}

/// The queue of a socket.
#[derive(Debug)]
pub(crate) struct Outbox {
    queue: Mutex<Queue>,
    news: Notify,
    frames_max: usize,
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct Queue {
    frames: VecDeque<Utf8Bytes>,
    bytes: usize,
    closing: Option<Closing>,
}

impl Outbox {
    pub(crate) fn new(frames_max: usize, bytes_max: usize) -> Self {
        Self { queue: Mutex::default(), news: Notify::new(), frames_max, bytes_max }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a frame at the end; one too many ends the socket, and what waits is dropped: it is resumed.
    pub(crate) fn push(&self, frame: Utf8Bytes) {
        let mut queue = self.lock();
        if queue.closing.is_some() {
            return;
        }
        let bytes = queue.bytes + frame.as_str().len();
        if queue.frames.len() >= self.frames_max || bytes > self.bytes_max {
            *queue = Queue { closing: Some(Closing::SLOW), ..Queue::default() };
        } else {
            queue.bytes = bytes;
            queue.frames.push_back(frame);
        }
        drop(queue);
        self.news.notify_one();
    }

    /// Ends the socket behind what waits. The first reason counts.
    pub(crate) fn close(&self, closing: Closing) {
        self.lock().closing.get_or_insert(closing);
        self.news.notify_one();
    }

    /// Drops what waits; the end is still told.
    pub(crate) fn clear(&self) {
        let mut queue = self.lock();
        *queue = Queue { closing: queue.closing, ..Queue::default() };
    }

    /// Why the socket ends, if it does.
    pub(crate) fn closing(&self) -> Option<Closing> {
        self.lock().closing
    }

    /// Whether at least half of the queue is free, or the socket ends.
    pub(crate) fn has_room(&self) -> bool {
        let queue = self.lock();
        queue.closing.is_some() || (queue.frames.len() * 2 <= self.frames_max && queue.bytes * 2 <= self.bytes_max)
    }

    /// Waits for frames and takes them, or for the end once there are none: then says why.
    pub(crate) async fn take(&self) -> Result<Vec<Utf8Bytes>, Closing> {
        loop {
            {
                let mut queue = self.lock();
                if !queue.frames.is_empty() {
                    let count = queue.frames.len().min(BATCH_MAX);
                    let taken: Vec<Utf8Bytes> = queue.frames.drain(..count).collect();
                    let bytes: usize = taken.iter().map(|frame| frame.as_str().len()).sum();
                    queue.bytes = queue.bytes.saturating_sub(bytes);
                    return Ok(taken);
                }
                if let Some(closing) = queue.closing {
                    return Err(closing);
                }
            }
            self.news.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_waits_is_bounded_and_comes_in_order() {
        let outbox = Outbox::new(3, 100);
        for text in ["a", "b", "c"] {
            outbox.push(text.into());
        }
        assert!(!outbox.has_room());
        assert_eq!(outbox.take().await.expect("frames"), ["a", "b", "c"].map(Utf8Bytes::from));
        assert!(outbox.has_room());
        outbox.push("d".into());
        outbox.close(Closing::STOPS);
        outbox.close(Closing::FAILED);
        outbox.push("e".into());
        assert_eq!(outbox.take().await.expect("what came before the end"), [Utf8Bytes::from("d")]);
        let outbox_of_one_gone = Outbox::new(3, 100);
        outbox_of_one_gone.push("d".into());
        outbox_of_one_gone.close(Closing::BYE);
        outbox_of_one_gone.clear();
        assert_eq!(outbox_of_one_gone.take().await.expect_err("the end alone"), Closing::BYE);
        assert_eq!(outbox.take().await.expect_err("the end"), Closing::STOPS);
        for (frames, bytes) in [(2, 100), (10, 4)] {
            let outbox = Outbox::new(frames, bytes);
            for text in ["aa", "bb", "cc"] {
                outbox.push(text.into());
            }
            assert_eq!(outbox.take().await.expect_err("too slow"), Closing::SLOW);
        }
    }
}
