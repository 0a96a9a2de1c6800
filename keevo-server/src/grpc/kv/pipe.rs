//! A pipe: many requests over one stream, answered as they are ready.
//!
//! ```text
//! stream ─▶ read ─▶ a task a request ─▶ queue ─▶ stream   (what is ready when the stream is writable goes together)
//!              └─ a small read that need not wait ─▶┘
//! ```
//!
//! Invariant: the weight of the requests in flight is bounded, from the moment they are read until their answer is
//! handed to the transport; beyond it the server stops reading, and flow control reaches the client. A request that
//! was read is answered, unless the client has gone. A message that cannot be read ends the stream with an error,
//! after those answers.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt};
use keevo_core::Error;
use keevo_proto::kv::v1 as pb;
use keevo_proto::{Message, status_from_error};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tonic::{Status, Streaming};

use super::KvService;
use crate::host::Host;

/// The weight that may be in flight on one stream; a get or a write weighs 1.
const WEIGHT_MAX: usize = 1_024;
/// The same as one request for it.
const WEIGHT_ALL: u32 = 1_024;
/// What a scan weighs: its answer may be 4 MiB.
const SCAN_WEIGHT: u32 = 16;
/// The most a `multi_get` weighs: its answer may be 32 MiB.
const MULTI_GET_WEIGHT_MAX: u32 = 256;
/// A `multi_get` of up to so many keys is answered where it was read, if it need not wait.
const KEYS_AT_ONCE_MAX: usize = 32;
/// The most answers of one message.
const ANSWERS_MAX: usize = 256;
/// A message is closed when it has this many bytes.
const MESSAGE_BYTES: usize = 1 << 20;

/// An answer, and the weight that it gives back when it leaves; or why the stream ends.
type Answered = Result<(pb::PipeResponse, OwnedSemaphorePermit), Status>;

/// Serves `inbound` and gives the stream of answers.
pub(super) fn open<H: Host>(
    service: KvService<H>,
    inbound: Streaming<pb::PipeRequests>,
) -> BoxStream<'static, Result<pb::PipeResponses, Status>> {
    let (answer_tx, answer_rx) = mpsc::channel(WEIGHT_MAX);
    tokio::spawn(read(service, inbound, answer_tx));
    stream::unfold(Outbox { answer_rx, ready: VecDeque::new(), taken: Vec::new() }, |mut outbox| async {
        outbox.next().await.map(|message| (message, outbox))
    })
    .boxed()
}

async fn read<H: Host>(
    service: KvService<H>,
    mut inbound: Streaming<pb::PipeRequests>,
    answer_tx: mpsc::Sender<Answered>,
) {
    let room = Arc::new(Semaphore::new(WEIGHT_MAX));
    loop {
        let message = tokio::select! {
            () = service.shutdown.cancelled() => return,
            () = answer_tx.closed() => return,
            message = inbound.message() => message,
        };
        let message = match message {
            Ok(Some(message)) => message,
            Ok(None) => return,
            Err(status) => {
                // All the room is free once every answer has left.
                drop(room.acquire_many_owned(WEIGHT_ALL).await);
                let error = Error::invalid(format!("the stream cannot be read on: {}", status.message()));
                // A client that has gone needs no answer.
                drop(answer_tx.send(Err(status_from_error(&error))).await);
                return;
            }
        };
        for one in message.requests {
            let Ok(permit) = Arc::clone(&room).acquire_many_owned(weight(one.request.as_ref())).await else { return };
            let is_small_read = one.request.as_ref().is_some_and(is_small_read);
            let answering = service.clone();
            let mut answer = Box::pin(async move { answering.answer_any(one.request, &one.traceparent).await });
            // A read of a replica that leads is answered here and now; what has to wait gets a task, which polls it anew.
            let ready = if is_small_read { answer.as_mut().now_or_never() } else { None };
            if let Some(response) = ready {
                let response = pb::PipeResponse { id: one.id, response: Some(response) };
                if answer_tx.send(Ok((response, permit))).await.is_err() {
                    return;
                }
                continue;
            }
            let answer_tx = answer_tx.clone();
            tokio::spawn(async move {
                let response = Some(answer.await);
                // A client that has gone needs no answer.
                drop(answer_tx.send(Ok((pb::PipeResponse { id: one.id, response }, permit))).await);
            });
        }
    }
}

/// Whether a read costs about what handing it to a task does. A scan may pass over many removed records.
fn is_small_read(request: &pb::pipe_request::Request) -> bool {
    match request {
        pb::pipe_request::Request::Get(_) => true,
        pb::pipe_request::Request::MultiGet(request) => request.keys.len() <= KEYS_AT_ONCE_MAX,
        _ => false,
    }
}

fn weight(request: Option<&pb::pipe_request::Request>) -> u32 {
    match request {
        Some(pb::pipe_request::Request::Scan(_)) => SCAN_WEIGHT,
        Some(pb::pipe_request::Request::MultiGet(request)) => {
            u32::try_from(request.keys.len() / 16).unwrap_or(u32::MAX).clamp(1, MULTI_GET_WEIGHT_MAX)
        }
        _ => 1,
    }
}

struct Outbox {
    answer_rx: mpsc::Receiver<Answered>,
    ready: VecDeque<Answered>,
    taken: Vec<Answered>,
}

impl Outbox {
    /// The next message: every answer that is ready, up to the bounds of a message.
    async fn next(&mut self) -> Option<Result<pb::PipeResponses, Status>> {
        if self.ready.is_empty() {
            if self.answer_rx.recv_many(&mut self.taken, ANSWERS_MAX).await == 0 {
                return None;
            }
            self.ready.extend(self.taken.drain(..));
        }
        let mut responses = Vec::with_capacity(self.ready.len());
        let mut bytes = 0;
        while let Some(answered) = self.ready.pop_front() {
            let (response, permit) = match answered {
                Ok(answered) => answered,
                Err(status) => return Some(Err(status)),
            };
            bytes += response.encoded_len();
            responses.push(response);
            drop(permit);
            if bytes >= MESSAGE_BYTES {
                break;
            }
        }
        Some(Ok(pb::PipeResponses { responses }))
    }
}
