//! What keevod makes of a text: policies and blocklists, stored verdicts, the pipeline that gives every text one, the
//! review queue, and the client of the sidecars that score texts.
//!
//! ```text
//! text ─> Policies (blocklists, thresholds) <── scores <── Pool ─> sidecars
//!              │ judgement
//!              v
//!          Verdicts (one a text version) ─> review queue ─> decisions ─> labelled data
//!              └─> Store (PostgreSQL)
//! ```
//!
//! [`Normalizer`] folds a text to the form in which spelling tricks (accents, look-alike letters, digits for letters,
//! invisible characters) are gone; [`Blocklist`] finds the terms of a list in it, in one pass however long it is.
//!
//! Invariant: positions always name the original text, at character boundaries, so that a caller can cut there. Nothing
//! here knows what is under the engine, and no model is linked: it is asked over the network.

mod blocklist;
mod lease;
mod mask;
mod metrics;
mod moderator;
mod normalize;
mod pipeline;
mod places;
mod policies;
mod policy;
mod pool;
mod queue;
mod store;
mod tables;
#[cfg(test)]
mod testing;
mod text;
mod verdict;
mod verdicts;

pub use blocklist::{Blocklist, BlocklistError, Found, Term};
pub use mask::mask;
pub use metrics::ModerationMetrics;
pub use moderator::{Checked, Moderator};
pub use normalize::{Normalized, Normalizer};
pub use pipeline::{ErasedAuthor, ErasedChannel, Pipeline, PipelineOptions, Source, Sweep};
pub use policies::{Compiled, Policies};
pub use policy::{
    Action, BLOCKLISTS_MAX, BUDGET_MS_MAX, BlocklistUse, Judgement, LISTS_IN_SCOPE_MAX, Policy, RULES_MAX, Reason,
    Rule, SCOPES_MAX, Scope, TERM_BYTES_MAX, TERMS_MAX, WhenLate,
};
pub use pool::{Pool, WorkerStatus};
pub use queue::{QueuedText, TextQueue, TextReader};
pub use store::{Store, StoreMetrics, StoreOptions};
pub use text::{TEXT_BYTES_MAX, TextId, TextKind, TextVersion};
pub use verdict::{Asking, Effects, Judge, Scores, Verdict};
pub use verdicts::{
    DECIDED_LABELS_MAX, Decided, Decision, KEYSPACE, Label, LabelPage, QUEUE_PAGE_MAX, QueuePage, QueuedVerdict,
    Ruling, Verdicts,
};
