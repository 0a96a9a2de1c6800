//! Fuzz targets for every decoder of bytes from disk or network, and the loop that feeds them.
//!
//! [`targets`] lists the decoders; [`run`] mutates valid samples of each under a seed. It runs on stable Rust, as a
//! test (`tests/every_target.rs`, briefly) and as the program `keevo-fuzz` (as long as it is told).
//!
//! Invariant: the same seed gives the same inputs. A target fails by panicking: when a decoder does, or when what it
//! accepts does not survive being encoded and decoded again.

mod mutate;
mod run;
mod targets;

pub use mutate::Mutator;
pub use run::{Failure, Stop, Tally, run};
pub use targets::{Target, find, targets};
