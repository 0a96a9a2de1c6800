//! The console's API over HTTP on a real node: who is let in, what each role sees, bounds, bad input, the page's headers.

#![allow(clippy::indexing_slicing, reason = "a test may panic where it is wrong")]

mod console {
    mod data;
    mod doors;
    mod support;
}
