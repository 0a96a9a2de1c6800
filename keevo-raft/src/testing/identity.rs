//! A node's identity in memory.

use std::sync::{Mutex, PoisonError};

use keevo_core::Result;

use crate::node::{Identity, IdentityStore};

/// An identity that lives as long as the test.
#[derive(Debug, Default)]
pub(super) struct MemoryIdentity(Mutex<Option<Identity>>);

impl IdentityStore for MemoryIdentity {
    fn load(&self) -> Result<Option<Identity>> {
        Ok(*self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn save(&self, identity: &Identity) -> Result<()> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(*identity);
        Ok(())
    }
}
