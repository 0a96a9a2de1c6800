//! Atomicity: a batch takes place in full or not at all, and a scan of a partition sees one state.
//!
//! ```text
//! ∀ scan s of the bank:  |accounts(s)| = n  ∧  Σ { balance(a) : a ∈ accounts(s) } = n · opening balance
//! ```

use super::Verdict;
use crate::workload::bank::Account;

/// How many accounts there are.
pub(crate) const ACCOUNTS: u64 = 6;
/// What each of them begins with.
pub(crate) const OPENING: i64 = 100;

/// Judges what a scan saw.
pub(crate) fn judge(accounts: &[Account]) -> Verdict {
    let sum: i64 = accounts.iter().map(|(_, balance, _)| balance).sum();
    let expected = OPENING * i64::try_from(ACCOUNTS).unwrap_or_default();
    if u64::try_from(accounts.len()).ok() == Some(ACCOUNTS) && sum == expected {
        return Ok(());
    }
    Err(format!("atomicity: {} accounts hold {sum} together, and {ACCOUNTS} should hold {expected}", accounts.len()))
}
