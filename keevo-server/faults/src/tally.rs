//! What the rounds showed, summed up in the last line.

use std::collections::BTreeMap;

/// Faults that happened, by kind.
pub(crate) type Faults = BTreeMap<&'static str, u64>;

/// The sum.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    /// Calls answered and checked.
    pub(crate) checked: u64,
    /// Calls whose outcome the caller was not told.
    pub(crate) in_doubt: u64,
    pub(crate) faults: Faults,
}

impl Tally {
    /// Whether everything passed, and anything did.
    pub(crate) fn is_good(&self) -> bool {
        self.failed == 0 && self.passed > 0
    }

    /// The last line.
    pub(crate) fn line(&self) -> String {
        let faults: Vec<_> = self.faults.iter().map(|(kind, count)| format!("{kind}: {count}")).collect();
        format!(
            "faults: {} passed, {} failed, ops checked {}, in doubt {}, faults {{{}}}",
            self.passed,
            self.failed,
            self.checked,
            self.in_doubt,
            faults.join(", ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_tested_is_no_success() {
        let mut tally = Tally::default();
        assert!(!tally.is_good());
        tally.passed = 2;
        tally.faults.insert("kill", 3);
        tally.faults.insert("pause", 1);
        assert!(tally.is_good());
        let line = "faults: 2 passed, 0 failed, ops checked 0, in doubt 0, faults {kill: 3, pause: 1}";
        assert_eq!(tally.line(), line);
        tally.failed = 1;
        assert!(!tally.is_good());
    }
}
