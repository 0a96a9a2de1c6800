//! The REST API over an engine in memory: what each kind of caller may do, what bad input is told, limits, paging,
//! files, realtime and webhooks.

#![allow(clippy::indexing_slicing, reason = "a test may panic where it is wrong")]

mod rest {
    mod activities;
    mod apps;
    mod bayeux;
    mod entities;
    mod errors;
    mod files;
    mod follows;
    mod groups;
    mod limits;
    mod matrix;
    mod outside;
    mod privacy;
    mod reactions;
    mod rights;
    mod support;
    mod webhooks;
    mod websocket;
}
