//! The column families of the data store: one static table.
//!
//! Invariant: the names are part of the format on disk. A row is never removed from [`FAMILIES`]: one that
//! is no longer used becomes [`Use::Dropped`], so that an old folder still opens and is cleaned up, and the
//! name is never given to something else.

use crate::store::Column;

/// One column family of the data store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Family {
    /// Its name on disk.
    pub(crate) name: &'static str,
    /// What it is for.
    pub(crate) role: Use,
}

/// What a column family is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// The one that RocksDB always makes; kept empty.
    Unused,
    /// Holds a column, laid out for the way it is used.
    Holds(Column, Profile),
    /// A tombstone: dropped when a folder that has it is opened.
    #[allow(dead_code, reason = "the slot for families that later versions drop; none has been yet")]
    Dropped,
}

/// How a column family is read and written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// Point reads and scans all over, data that stays: filters, zstd at the bottom.
    Records,
    /// Appended at the end, trimmed at the front, scanned: no filters, lz4 throughout.
    Queue,
}

/// Every family that this version or an older one has written, in no particular order.
pub(crate) const FAMILIES: &[Family] = &[
    Family { name: "default", role: Use::Unused },
    Family { name: "data", role: Use::Holds(Column::Data, Profile::Records) },
    Family { name: "changes", role: Use::Holds(Column::Changes, Profile::Queue) },
];

/// The name of the family that holds `column`.
pub(crate) fn name_of(column: Column) -> &'static str {
    match column {
        Column::Data => "data",
        Column::Changes => "changes",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_has_exactly_the_family_that_is_named_for_it() {
        for column in Column::ALL {
            let holders: Vec<_> = FAMILIES
                .iter()
                .filter(|family| matches!(family.role, Use::Holds(held, _) if held == column))
                .map(|family| family.name)
                .collect();
            assert_eq!(holders, [name_of(column)]);
        }
    }

    #[test]
    fn no_name_is_used_twice() {
        let mut names: Vec<_> = FAMILIES.iter().map(|family| family.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), FAMILIES.len());
    }
}
