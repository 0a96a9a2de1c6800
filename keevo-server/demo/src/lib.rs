//! Real, skewed sample data for Keevo, its loader, and the verification that recomputes every figure.
//!
//! Reading order: [`Dataset`] (what there is, bundled or from a folder), [`Plan`] (what a correct store must
//! answer, computed from the input alone), [`load`] and [`verify()`] over any [`keevo_core::Engine`].
//!
//! | source | becomes |
//! | --- | --- |
//! | the Debian package index | package → feed `timeline:‹package›`, dependency → follow of `user:‹dependency›` |
//! | the packages that watch the most | feeds `aggregated:‹package›` and `notification:‹package›` that follow the same |
//! | Debian changelogs | entry → activity of `user:‹package›` |
//! | a public mail corpus | list → channel, mail → message, reply → thread |
//!
//! Invariant: mail addresses are masked while the input is read, so nothing behind this crate ever sees one.

mod bars;
mod changelog;
mod dataset;
mod extract;
pub mod load;
mod mails;
mod mask;
mod packages;
mod plan;
pub mod verify;

pub use bars::Bars;
pub use changelog::Change;
pub use dataset::{CHANGES_PER_PACKAGE, Dataset};
pub use extract::{bundled, make_extract, write_extract};
pub use load::{Loaded, Loader};
pub use mails::Mail;
pub use packages::Package;
pub use plan::{ChannelPlan, DayPlan, Plan, feed_name};
pub use verify::{Mismatches, verify};

/// The Rust of the page that people start with, run as it stands there.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/START.md")]
struct StartPage;
