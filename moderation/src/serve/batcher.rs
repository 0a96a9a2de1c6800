//! Threads that run the model, and the queue between them and everybody who waits for scores.
//!
//! ```text
//! HTTP and gRPC tasks ── submit ──> queue ── batches ──> model thread(s) ── one answer a piece ──> the tasks
//! ```
//!
//! Invariant: every piece that was taken in is answered exactly once, with scores or with an error, whatever the model
//! does; nothing of the runtime ever waits for the model.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use keevo_core::{Clock, Error, ErrorKind, Result};
use tokio::sync::oneshot;

use crate::serve::metrics::Metrics;
use crate::serve::queue::{Limits, Piece, Priority, Queue};

/// What runs a batch: raw scores for each input, in their order.
pub(crate) type Run<T> = Arc<dyn Fn(&[T]) -> Result<Vec<Vec<f32>>> + Send + Sync>;
/// The raw scores of a piece, once the model has them.
pub(crate) type Answer = oneshot::Receiver<Result<Vec<f32>>>;

/// One piece that waits.
struct Waiting<T> {
    input: T,
    deadline: Duration,
    reply: oneshot::Sender<Result<Vec<f32>>>,
}

/// How batches are made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BatchOptions {
    pub(crate) limits: Limits,
    /// How long the first piece of a batch waits for others, while others are about.
    pub(crate) wait: Duration,
    pub(crate) threads: usize,
}

struct State<T> {
    queue: Queue<Waiting<T>>,
    closed: bool,
    /// Whether the last batch had company in it: then waiting a moment for more is worth it.
    busy: bool,
}

struct Shared<T> {
    state: Mutex<State<T>>,
    wake: Condvar,
    wait: Duration,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
}

/// The queue and its threads.
pub(crate) struct Batcher<T> {
    shared: Arc<Shared<T>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl<T> fmt::Debug for Batcher<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Batcher")
    }
}

impl<T: Send + 'static> Batcher<T> {
    /// Starts the threads. Errors: `Io` where the system gives no thread.
    pub(crate) fn start(
        run: &Run<T>,
        options: BatchOptions,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> Result<Self> {
        let state = State { queue: Queue::new(options.limits), closed: false, busy: false };
        let shared =
            Arc::new(Shared { state: Mutex::new(state), wake: Condvar::new(), wait: options.wait, clock, metrics });
        let mut threads = Vec::new();
        for number in 0..options.threads.max(1) {
            let (shared, run) = (Arc::clone(&shared), Arc::clone(run));
            let thread = std::thread::Builder::new()
                .name(format!("model-{number}"))
                .spawn(move || while shared.serve_batch(&run) {})
                .map_err(|error| Error::new(ErrorKind::Io, "no thread for the model").with_source(error))?;
            threads.push(thread);
        }
        Ok(Self { shared, threads: Mutex::new(threads) })
    }

    /// Queues the pieces of one request, all or none. `tokens` of each, and a deadline by the monotonic clock.
    ///
    /// # Errors
    /// `ResourceExhausted`: the queue is full. `Unavailable`: the batcher is closed.
    pub(crate) fn submit(
        &self,
        priority: Priority,
        inputs: Vec<(T, usize)>,
        deadline: Duration,
    ) -> Result<Vec<Answer>> {
        let queued = self.shared.clock.monotonic();
        let mut answers = Vec::with_capacity(inputs.len());
        let mut pieces = Vec::with_capacity(inputs.len());
        for (input, tokens) in inputs {
            let (reply, answer) = oneshot::channel();
            answers.push(answer);
            pieces.push(Piece { tokens, queued, payload: Waiting { input, deadline, reply } });
        }
        let mut state = self.shared.lock();
        if state.closed {
            return Err(stopping());
        }
        let pushed = state.queue.push(priority, pieces);
        self.shared.gauge(&state);
        drop(state);
        if pushed.is_err() {
            self.shared.metrics.refused();
            return Err(Error::new(ErrorKind::ResourceExhausted, "the queue is full; try again later"));
        }
        self.shared.wake.notify_one();
        Ok(answers)
    }

    /// Tokens that wait, for estimates of how long.
    pub(crate) fn waiting_tokens(&self) -> usize {
        self.shared.lock().queue.tokens()
    }

    /// Takes nothing more in; what is queued is still served, then the threads end.
    pub(crate) fn close(&self) {
        self.shared.lock().closed = true;
        self.shared.wake.notify_all();
    }

    /// Waits for the threads to end. Blocks: not for the runtime.
    pub(crate) fn join(&self) {
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a thread of the model has panicked");
            }
        }
    }
}

impl<T> Drop for Batcher<T> {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.wake.notify_all();
    }
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // Whoever panicked with the lock held was between two whole operations of the queue.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn gauge(&self, state: &State<T>) {
        let (realtime, bulk) = state.queue.waiting();
        self.metrics.queue(realtime, bulk, state.queue.tokens());
    }

    /// Waits for a batch; `None` once closed and empty.
    fn next_batch(&self) -> Option<Vec<Piece<Waiting<T>>>> {
        let mut state = self.lock();
        loop {
            let Some(oldest) = state.queue.oldest() else {
                if state.closed {
                    return None;
                }
                state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let waited = self.clock.monotonic().saturating_sub(oldest);
            if state.closed || !state.busy || waited >= self.wait || state.queue.fills_batch() {
                let batch = state.queue.take();
                state.busy = batch.len() > 1;
                self.gauge(&state);
                return Some(batch);
            }
            let rest = self.wait.saturating_sub(waited);
            state = self.wake.wait_timeout(state, rest).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Serves one batch; false once there will be none.
    fn serve_batch(&self, run: &Run<T>) -> bool {
        let Some(batch) = self.next_batch() else { return false };
        let now = self.clock.monotonic();
        let (mut inputs, mut replies, mut tokens) = (Vec::new(), Vec::new(), 0);
        for piece in batch {
            let Waiting { input, deadline, reply } = piece.payload;
            if reply.is_closed() {
                // Who asked has gone away.
                continue;
            }
            if deadline <= now {
                answer(reply, Err(too_late()));
                continue;
            }
            self.metrics.waited(now.saturating_sub(piece.queued));
            tokens += piece.tokens;
            inputs.push(input);
            replies.push(reply);
        }
        if inputs.is_empty() {
            return true;
        }
        let ran = catch_unwind(AssertUnwindSafe(|| run(&inputs))).unwrap_or_else(|_panic| {
            Err(Error::new(ErrorKind::Io, "the model failed in a way it should not; the log says where"))
        });
        let took = self.clock.monotonic().saturating_sub(now);
        self.metrics.ran(inputs.len(), tokens, took);
        match ran {
            Ok(rows) if rows.len() == replies.len() => {
                for (reply, row) in replies.into_iter().zip(rows) {
                    answer(reply, finite(row));
                }
            }
            Ok(rows) => {
                let message = format!("the model answered {} rows to {} texts", rows.len(), replies.len());
                fail(replies, &Error::corrupt(message));
            }
            Err(error) => {
                tracing::error!(%error, texts = replies.len(), tokens, "a batch failed");
                fail(replies, &error);
            }
        }
        true
    }
}

/// A score that is no number is an error, never an answer.
fn finite(row: Vec<f32>) -> Result<Vec<f32>> {
    if !row.is_empty() && row.iter().all(|score| score.is_finite()) {
        return Ok(row);
    }
    Err(Error::corrupt("the model gave a score that is not a number"))
}

fn fail(replies: Vec<oneshot::Sender<Result<Vec<f32>>>>, error: &Error) {
    for reply in replies {
        answer(reply, Err(Error::new(error.kind(), error.message())));
    }
}

fn answer(reply: oneshot::Sender<Result<Vec<f32>>>, result: Result<Vec<f32>>) {
    // Nobody may be waiting any more; then nobody misses the answer.
    drop(reply.send(result));
}

/// The error of a text whose time ran out before it was its turn.
pub(crate) fn too_late() -> Error {
    Error::new(ErrorKind::DeadlineExceeded, "the text could not be judged within the request's timeout")
}

/// The error of a process that ends.
pub(crate) fn stopping() -> Error {
    Error::new(ErrorKind::Unavailable, "the server is stopping; ask another")
}

#[cfg(test)]
mod tests;
