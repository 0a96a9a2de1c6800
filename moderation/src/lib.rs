//! Text moderation: what a text looks like to a reader, whether it holds a listed term, and what a classifier says.
//!
//! [`Normalizer`] folds a text to the form in which spelling tricks (accents, look-alike letters, digits for
//! letters, invisible characters) are gone; [`Blocklist`] finds the terms of a list in it, in one pass however
//! long the list is. [`load`] gives a model that classifies texts, and [`serve`] is the sidecar that asks it for others.
//!
//! Invariant: positions always name the original text, at character boundaries, so that a caller can cut there.

#![cfg_attr(not(feature = "cuda"), forbid(unsafe_code))]

mod blocklist;
mod classify;
mod model;
mod normalize;
pub mod serve;
mod tables;

pub use blocklist::{Blocklist, BlocklistError, Found, Term};
pub use classify::{Classify, ModelInfo, Tokens};
pub use model::{Device, Load, Precision, TEXT_BYTES_MAX, load};
pub use normalize::{Normalized, Normalizer};
