//! One pipe to a node: requests that are queued when the stream is writable travel together.
//!
//! ```text
//! send ─▶ queue (bounded) ─▶ waiting ─▶ message ─▶ stream ─▶ in flight, by id ─▶ answer ─▶ caller
//! ```
//!
//! Invariant: every request gets exactly one reply, or its caller has gone. One that never left is `NotSent`; one
//! that left and whose stream broke is `Lost`, and may have been carried out.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use keevo_core::trace::{self, TraceContext};
use keevo_core::{Error, ErrorKind};
use keevo_proto::kv::v1 as pb;
use keevo_proto::kv::v1::kv_client::KvClient;
use keevo_proto::{MESSAGE_BYTES_MAX, Message, error_from_status};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::access::Connection;
use crate::options::ClientOptions;

/// What a pipe carries.
pub(crate) type Ask = pb::pipe_request::Request;
/// What it brings back.
pub(crate) type Answer = pb::pipe_response::Response;

/// The most requests of one message.
const REQUESTS_MAX: usize = 256;
/// A message is closed when it has this many bytes.
const MESSAGE_BYTES: usize = 1 << 20;

/// Why a request has no answer.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// The server answered with an error.
    Refused(Error),
    /// The request never left: it was not carried out.
    NotSent(Error),
    /// The request left and no answer came: it may have been carried out.
    Lost(Error),
}

impl Fault {
    /// What happened.
    pub(crate) fn error(&self) -> &Error {
        let (Self::Refused(error) | Self::NotSent(error) | Self::Lost(error)) = self;
        error
    }
}

struct Job {
    ask: Ask,
    /// The trace that it belongs to, if that is recorded.
    context: Option<TraceContext>,
    reply_tx: oneshot::Sender<Result<Answer, Fault>>,
}

/// A handle to the pipe's task, which ends when the last handle is dropped and the last answer is in.
#[derive(Debug)]
pub(crate) struct Pipe {
    queue_tx: mpsc::Sender<Job>,
}

impl Pipe {
    pub(crate) fn open(connection: Connection, options: &ClientOptions) -> Self {
        let (queue_tx, queue_rx) = mpsc::channel(options.queue_max.max(1));
        let task = Task {
            client: KvClient::new(connection)
                .max_decoding_message_size(MESSAGE_BYTES_MAX)
                .max_encoding_message_size(MESSAGE_BYTES_MAX),
            queue_rx,
            waiting: VecDeque::new(),
            in_flight: BTreeMap::new(),
            in_flight_max: options.in_flight_max.max(1),
            connect_timeout: options.connect_timeout,
            next_id: 0,
        };
        tokio::spawn(task.run());
        Self { queue_tx }
    }

    /// Queues a request and waits for its reply for `timeout`; after that it counts as lost.
    pub(crate) async fn call(&self, ask: Ask, timeout: Duration) -> Result<Answer, Fault> {
        let (reply_tx, reply_rx) = oneshot::channel();
        let context = trace::current().and_then(|trace| trace.context());
        self.queue_tx.try_send(Job { ask, context, reply_tx }).map_err(|error| {
            Fault::NotSent(match error {
                mpsc::error::TrySendError::Full(_) => {
                    Error::new(ErrorKind::ResourceExhausted, "too many requests wait to be sent to the node")
                }
                mpsc::error::TrySendError::Closed(_) => unavailable("the connection's task has ended"),
            })
        })?;
        match tokio::time::timeout(timeout, reply_rx).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(_)) => Err(Fault::Lost(unavailable("the connection's task has ended"))),
            Err(_) => Err(Fault::Lost(Error::new(
                ErrorKind::DeadlineExceeded,
                format!("the node did not answer within {} ms", timeout.as_millis()),
            ))),
        }
    }
}

fn unavailable(message: &str) -> Error {
    Error::new(ErrorKind::Unavailable, message)
}

struct Task {
    client: KvClient<Connection>,
    queue_rx: mpsc::Receiver<Job>,
    /// Taken from the queue and not sent yet.
    waiting: VecDeque<Job>,
    in_flight: BTreeMap<u64, oneshot::Sender<Result<Answer, Fault>>>,
    in_flight_max: usize,
    connect_timeout: Duration,
    next_id: u64,
}

impl Task {
    async fn run(mut self) {
        loop {
            if self.waiting.is_empty() {
                match self.queue_rx.recv().await {
                    Some(job) => self.waiting.push_back(job),
                    None => return,
                }
            }
            match self.connect().await {
                Ok((out_tx, inbound)) => {
                    let Err(cause) = self.serve(out_tx, inbound).await else { return };
                    self.fail(&cause);
                }
                Err(cause) => self.fail(&cause),
            }
        }
    }

    async fn connect(&mut self) -> Result<(mpsc::Sender<pb::PipeRequests>, Streaming<pb::PipeResponses>), Error> {
        let (out_tx, out_rx) = mpsc::channel(1);
        let opened = tokio::time::timeout(self.connect_timeout, self.client.pipe(ReceiverStream::new(out_rx))).await;
        match opened {
            Ok(Ok(response)) => Ok((out_tx, response.into_inner())),
            Ok(Err(status)) => Err(broken(&status)),
            Err(elapsed) => Err(unavailable("the node did not accept a connection in time").with_source(elapsed)),
        }
    }

    /// Sends and receives until the stream breaks (its cause) or there is nothing left to do.
    async fn serve(
        &mut self,
        out_tx: mpsc::Sender<pb::PipeRequests>,
        mut inbound: Streaming<pb::PipeResponses>,
    ) -> Result<(), Error> {
        let mut open = true;
        let mut taken = Vec::new();
        while open || !self.waiting.is_empty() || !self.in_flight.is_empty() {
            if self.in_flight.len() >= self.in_flight_max {
                self.in_flight.retain(|_, reply_tx| !reply_tx.is_closed());
            }
            let may_send = !self.waiting.is_empty() && self.in_flight.len() < self.in_flight_max;
            tokio::select! {
                biased;
                count = self.queue_rx.recv_many(&mut taken, REQUESTS_MAX), if open && self.waiting.len() < REQUESTS_MAX => {
                    open = count > 0;
                    self.waiting.extend(taken.drain(..));
                }
                message = inbound.message() => match message {
                    Ok(Some(message)) => self.complete(message),
                    Ok(None) => return Err(unavailable("the node closed the connection")),
                    Err(status) => return Err(broken(&status)),
                },
                permit = out_tx.reserve(), if may_send => match permit {
                    Ok(permit) => {
                        if let Some(message) = self.next_message() {
                            permit.send(message);
                        }
                    }
                    Err(_) => return Err(unavailable("the connection to the node broke")),
                },
            }
        }
        Ok(())
    }

    /// The next requests whose callers still wait.
    fn next_message(&mut self) -> Option<pb::PipeRequests> {
        let mut requests = Vec::new();
        let mut bytes = 0;
        while requests.len() < REQUESTS_MAX && bytes < MESSAGE_BYTES && self.in_flight.len() < self.in_flight_max {
            let Some(Job { ask, context, reply_tx }) = self.waiting.pop_front() else { break };
            if reply_tx.is_closed() {
                continue;
            }
            self.next_id += 1;
            let traceparent = context.map(|context| context.to_string()).unwrap_or_default();
            let request = pb::PipeRequest { id: self.next_id, request: Some(ask), traceparent };
            bytes += request.encoded_len();
            requests.push(request);
            self.in_flight.insert(self.next_id, reply_tx);
        }
        (!requests.is_empty()).then_some(pb::PipeRequests { requests })
    }

    fn complete(&mut self, message: pb::PipeResponses) {
        for pb::PipeResponse { id, response } in message.responses {
            let Some(reply_tx) = self.in_flight.remove(&id) else { continue };
            let reply = match response {
                Some(Answer::Failure(failure)) => Err(Fault::Refused(failure.into())),
                Some(answer) => Ok(answer),
                None => Err(Fault::Lost(unavailable("the node answered in a newer version of the protocol"))),
            };
            // A caller that has gone needs no reply.
            drop(reply_tx.send(reply));
        }
    }

    /// Answers everything that was sent or waits with `cause`.
    fn fail(&mut self, cause: &Error) {
        for (_, reply_tx) in std::mem::take(&mut self.in_flight) {
            drop(reply_tx.send(Err(Fault::Lost(cause.clone()))));
        }
        for job in self.waiting.drain(..) {
            drop(job.reply_tx.send(Err(Fault::NotSent(cause.clone()))));
        }
        while let Ok(job) = self.queue_rx.try_recv() {
            drop(job.reply_tx.send(Err(Fault::NotSent(cause.clone()))));
        }
    }
}

/// A stream that broke: whatever the status says, the node cannot be reached this way now.
fn broken(status: &Status) -> Error {
    let error = error_from_status(status);
    match error.kind() {
        ErrorKind::Unauthenticated | ErrorKind::PermissionDenied | ErrorKind::WrongCluster => error,
        _ => unavailable(&format!("the connection to the node broke: {}", status.message())),
    }
}
