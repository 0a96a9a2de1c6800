//! Text moderation: a classifier on the processor or a GPU, and the sidecar that serves it.
//!
//! [`load`] gives a model that classifies texts, and [`serve`] is the sidecar that asks it for others. What is made of
//! its scores (policies, blocklists, verdicts) is the business of whoever asks: keevod does it in
//! `keevo-moderation-policy`.
//!
//! Invariant: a text is judged as a whole or refused with an error: a score that is no number is never an answer.

#![cfg_attr(not(feature = "cuda"), forbid(unsafe_code))]

mod classify;
mod model;
pub mod serve;

pub use classify::{Classify, ModelInfo, Tokens};
pub use model::{Device, Load, Precision, TEXT_BYTES_MAX, load};
