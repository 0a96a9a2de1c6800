//! Chat sequence: messages are numbered without gaps, and an answered message stands where the answer said.
//!
//! ```text
//! ∀ channel c:  numbers(c) = 1, 2, …, n, and so in every thread; all counters and read states match a recount
//!                                                       as `keevo_chat::Chat::verify` counts
//! ∀ message m sent to c and answered with place p:      place(m) = p in the end
//! ∀ messages m ≠ k of c:                                place(m) ≠ place(k)
//! ```

use std::collections::{BTreeMap, BTreeSet};

use keevo_chat::{Place, Verification};

/// Judges a channel; gives how much was looked at.
pub(crate) fn judge(
    channel: u64,
    verification: &Verification,
    answered: &BTreeMap<String, Place>,
    found: &BTreeMap<String, Option<Place>>,
) -> Result<u64, String> {
    if let Some(problem) = verification.problems.first() {
        let count = verification.problems.len();
        return Err(format!("chat sequence: channel {channel} has {count} problems, the first: {problem}"));
    }
    let mut places = BTreeSet::new();
    for (id, place) in answered {
        if found.get(id).copied().flatten() != Some(*place) {
            return Err(format!(
                "chat sequence: message '{id}' of channel {channel} was answered with {place:?} and stands at {:?}",
                found.get(id)
            ));
        }
        if !places.insert(*place) {
            return Err(format!("chat sequence: two messages of channel {channel} were answered with {place:?}"));
        }
    }
    Ok(verification.messages + verification.replies + u64::try_from(answered.len()).unwrap_or(u64::MAX))
}
