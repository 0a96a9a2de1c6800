//! Who a caller is, and what it may do.
//!
//! ```text
//! request ─▶ door ─▶ rule of its method ─▶ who: key or certificate ─▶ role ─▶ grants ─▶ the service
//!              │                                    table, read twice a second ◀── meta group
//!              └─▶ audit, before and after whatever administers
//! ```
//!
//! The door decides by method and app; what a key-value request touches is known only once it is decoded, so the key-value
//! service asks the [`Pass`] that came with the call. Reading order: [`grant`], [`table`], [`authority`], `rules`, `door`.
//!
//! Invariant: with authentication on, a method without a rule is refused, and no call reads the engine to be let in: all
//! there is to know lies in the table in memory.

pub mod audit;
pub mod authority;
mod door;
pub mod grant;
mod meta;
mod pass;
mod redact;
pub mod rules;
mod shorten;
pub mod table;

pub use authority::{Authority, AuthorityMetrics};
pub(crate) use door::DoorLayer;
pub use pass::Pass;
pub(crate) use pass::while_allowed;
