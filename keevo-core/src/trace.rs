//! What is known of a call while it is under way: the trace that it belongs to, and the parts that its time goes to.
//!
//! ```text
//! door: Trace::begin ─▶ Trace::run(handler) ─▶ … ─▶ group: gate, queue, log, quorum, apply ─▶ Trace::part
//!                          │                            └─ the entry carries the TraceContext to every replica
//!                          └─▶ how long it took ─▶ the log of slow calls, spans
//! ```
//!
//! A handler runs inside its trace, a task-local, so that nothing between the door and the log has to hand it on.
//!
//! Invariant: a trace changes nothing about what a call does. Apply never looks at the context of an entry but to say that
//! the entry was applied; what is kept of a call is bounded.

mod context;

use std::borrow::Cow;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

pub use context::TraceContext;
use tokio::time::Instant;

use crate::ids::ShardId;

/// The most parts that are kept of a call.
const PARTS_MAX: usize = 32;

tokio::task_local! {
    static CURRENT: Arc<Trace>;
}

/// A part of a call's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// What was done, such as `gate` or `apply`.
    pub name: &'static str,
    /// The shard that it was done for.
    pub shard: Option<ShardId>,
    /// When it began, from the beginning of the call.
    pub after: Duration,
    /// How long it took.
    pub took: Duration,
}

/// A call under way.
#[derive(Debug)]
pub struct Trace {
    context: Option<TraceContext>,
    began: Instant,
    parts: Mutex<Vec<Part>>,
}

impl Trace {
    /// A call that begins now. Its context, if it has one, is that of the call's own span.
    pub fn begin(context: Option<TraceContext>) -> Arc<Self> {
        Arc::new(Self { context, began: Instant::now(), parts: Mutex::default() })
    }

    /// The context of the call's own span, if its trace is recorded.
    pub fn context(&self) -> Option<TraceContext> {
        self.context.filter(|one| one.sampled)
    }

    /// The id of its trace, recorded or not; 0 = it has none.
    pub fn trace_id(&self) -> u128 {
        self.context.map_or(0, |one| one.trace_id)
    }

    /// When it began.
    pub fn began(&self) -> Instant {
        self.began
    }

    /// Runs a handler inside the trace.
    pub async fn run<F: Future>(self: &Arc<Self>, handler: F) -> F::Output {
        CURRENT.scope(Arc::clone(self), handler).await
    }

    /// Notes what a part of the time went to. The first parts are kept, 32 of them.
    pub fn part(&self, name: &'static str, shard: Option<ShardId>, began: Instant, ended: Instant) {
        let after = began.saturating_duration_since(self.began);
        let part = Part { name, shard, after, took: ended.saturating_duration_since(began) };
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        if parts.len() < PARTS_MAX {
            parts.push(part);
        }
    }

    /// The parts so far, as they were noted.
    pub fn parts(&self) -> Vec<Part> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The trace that the caller's task is in, if it is in one.
pub fn current() -> Option<Arc<Trace>> {
    CURRENT.try_with(Arc::clone).ok()
}

/// On which side of a call a piece of work is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanKind {
    /// Inside of a process.
    Internal,
    /// It answers a call.
    Server,
    /// It makes one.
    Client,
}

/// A piece of work of a trace, once it is done.
#[derive(Debug, Clone)]
pub struct Span {
    /// What was done, such as `raft.append`.
    pub name: Cow<'static, str>,
    /// On which side.
    pub kind: SpanKind,
    /// The trace.
    pub trace_id: u128,
    /// The span that it belongs to; `None` = it is the first.
    pub parent: Option<u64>,
    /// Its id, where others belong to it; `None` = whoever takes it gives it one.
    pub id: Option<u64>,
    /// The shard that it was done for.
    pub shard: Option<ShardId>,
    /// When it began.
    pub began: Instant,
    /// When it ended.
    pub ended: Instant,
    /// Whether it failed.
    pub failed: bool,
}

/// Takes spans. It never waits: where it has no room for one it drops it.
pub trait SpanSink: Debug + Send + Sync + 'static {
    /// Takes a span.
    fn take(&self, span: Span);

    /// The id of a new span; never 0.
    fn new_id(&self) -> u64;

    /// The context of the first span of a new trace, if one is to be recorded now.
    fn sample(&self) -> Option<TraceContext>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_handler_notes_where_its_time_goes() {
        assert!(current().is_none());
        let trace = Trace::begin(None);
        let (after, took) = (Duration::from_millis(3), Duration::from_millis(4));
        let note = async {
            let inside = current().expect("inside");
            let began = inside.began() + after;
            inside.part("gate", Some(ShardId(1)), began, began + took);
        };
        trace.run(note).await;
        assert!(current().is_none());
        assert_eq!(trace.parts(), [Part { name: "gate", shard: Some(ShardId(1)), after, took }]);
        for _ in 0..2 * PARTS_MAX {
            trace.part("apply", None, trace.began(), trace.began());
        }
        assert_eq!(trace.parts().len(), PARTS_MAX);
    }

    #[test]
    fn what_is_not_sampled_is_not_recorded() {
        let context = TraceContext { trace_id: 1, span_id: 2, sampled: false };
        let trace = Trace::begin(Some(context));
        assert_eq!((trace.context(), trace.trace_id()), (None, 1));
        let sampled = TraceContext { sampled: true, ..context };
        assert_eq!(Trace::begin(Some(sampled)).context(), Some(sampled));
    }
}
