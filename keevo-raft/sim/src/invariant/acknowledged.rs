//! Nothing acknowledged is lost: what was answered is there in the end, where the answer said.
//!
//! ```text
//! ∀ append a answered with (revision, index):  elements[index] = element(a)
//! ∀ appends a, b:                              index(a) < index(b)  ⇔  revision(a) < revision(b)
//! ```

use std::collections::BTreeMap;

use super::exactly_once::{Found, Requests};

/// Judges a partition; gives how many answers were looked at.
pub(crate) fn judge(partition: u64, found: &Found, requests: &Requests) -> Result<u64, String> {
    let elements: BTreeMap<u64, u64> = found.elements.iter().copied().collect();
    let mut answers = BTreeMap::new();
    for request in requests.of(partition) {
        let Some((revision, index)) = request.answer else { continue };
        let element = request.element;
        match elements.get(&index) {
            Some(there) if *there == element => {}
            there => {
                return Err(format!(
                    "nothing acknowledged is lost: the append of {element:#x} to partition {partition} was answered \
                     with index {index}, where in the end {there:x?} is"
                ));
            }
        }
        answers.insert(index, revision);
    }
    let revisions: Vec<_> = answers.values().collect();
    if !revisions.is_sorted() {
        return Err(format!("nothing acknowledged is lost: indexes and revisions of partition {partition} disagree"));
    }
    Ok(u64::try_from(answers.len()).unwrap_or(u64::MAX))
}
