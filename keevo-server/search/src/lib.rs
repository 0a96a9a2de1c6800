//! A node's index over the messages of chat.
//!
//! ```text
//! changes of chat ──follow──> index on disk <──ask── searches
//!                                │ hits
//!                                v
//!                    messages as they are now, and who may read them: the caller looks
//! ```
//!
//! Start with [`SearchIndex`]: it follows the changes of all shards, so the index of any node has the messages of all. It is
//! derived: it remembers the revision that it has come to in each shard in the same step in which messages become found,
//! goes on from there after a restart, and makes itself anew where it is missing, damaged, of another version, or too far
//! behind. Reading order: `words`, `query` and `highlight` are pure; `schema` says what a message is in the index; `store`
//! is the index on disk, `find` asks it by the sets of `bounded`, and `follow` keeps it.
//!
//! Invariants: a hit is a hint. What a message says and who may read it is looked up when it is asked for, so an index that
//! lags finds nothing that must not be read. Memory and work of each part are bounded. Deliberately absent: rights, and how
//! searches come in.

mod bounded;
mod find;
mod follow;
mod highlight;
mod index;
mod metrics;
mod query;
mod saved;
mod schema;
mod store;
mod words;

pub use find::{ASK_TIME_MAX, Ask, Hit, Hits, MATCHES_MAX, Mark, Sort};
pub use highlight::{Fragment, highlight};
pub use index::{AppsOf, Heads, Room, SearchIndex, SearchOptions, SearchParts};
pub use metrics::{IndexState, SearchMetrics};
pub use query::{CutText, PARTS_MAX, PREFIX_CHARS_MIN, QUERY_BYTES_MAX, TextQuery, WORDS_MAX};
pub use store::HEAP_BYTES_MIN;
