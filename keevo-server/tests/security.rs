//! Who gets in, and what they may do there: TLS between real keevods, changes of certificates under load, rights of roles,
//! apps apart from each other, secrets that show nowhere, and values that show on no disk.

#![allow(clippy::indexing_slicing, reason = "a test may panic where it is wrong")]

mod security {
    pub(crate) mod support;

    mod metrics;
    mod rights;
    mod rotation;
    mod sealed;
    mod secrets;
    mod slow;
    mod tenants;
    mod tls;
}
