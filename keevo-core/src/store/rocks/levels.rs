//! The levels of a [`RocksStore`](super::RocksStore): how many files each holds, and how much it wants to be compacted.

use std::collections::BTreeMap;
use std::ffi::CStr;

use rocksdb::DB;

use super::errors::translate;
use crate::columns::{FAMILIES, Use};
use crate::error::Result;

/// A property that the crate has no name for: a table with a row a level.
const LEVELS: &CStr = c"rocksdb.cfstats-no-file-histogram";

/// A level of a column family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RocksLevel {
    /// The column family.
    pub family: &'static str,
    /// 0 = the newest files.
    pub level: u32,
    /// Table files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How much the store wants to compact it, in thousandths: from 1,000 on it does. 0 where it does not say.
    pub score_permille: u64,
}

/// The levels that hold files, by column family and level.
pub(super) fn collect(db: &DB) -> Result<Vec<RocksLevel>> {
    let files = db.live_files().map_err(|source| translate("list the store's files", source))?;
    let mut levels = Vec::new();
    for family in FAMILIES.iter().filter(|family| matches!(family.role, Use::Holds(..))) {
        let Some(handle) = db.cf_handle(family.name) else { continue };
        let mut sums: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
        for file in files.iter().filter(|file| file.column_family_name == family.name) {
            let sum = sums.entry(u32::try_from(file.level).unwrap_or_default()).or_default();
            *sum = (sum.0 + 1, sum.1 + u64::try_from(file.size).unwrap_or(u64::MAX));
        }
        let table = db.property_value_cf(handle, LEVELS);
        let table = table.map_err(|source| translate("read a property of the store", source))?;
        let scores = table.as_deref().map(scores).unwrap_or_default();
        levels.extend(sums.into_iter().map(|(level, (files, bytes))| {
            let score_permille = scores.get(&level).copied().unwrap_or(0);
            RocksLevel { family: family.name, level, files, bytes, score_permille }
        }));
    }
    Ok(levels)
}

/// The scores, in thousandths, in the rows `  L2   3/0   12.5 MB   0.7 …`: level, files, size and its unit, score.
fn scores(table: &str) -> BTreeMap<u32, u64> {
    let row = |line: &str| {
        let mut words = line.split_whitespace();
        let level = words.next()?.strip_prefix('L')?.parse().ok()?;
        let (whole, part) = words.nth(3)?.split_once('.')?;
        let tenths = part.get(..1)?.parse::<u64>().ok()?;
        Some((level, whole.parse::<u64>().ok()?.saturating_mul(1_000).saturating_add(tenths * 100)))
    };
    // The second table of the property, by priority, has no level in front.
    table.lines().filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_read_from_the_stores_own_table() {
        let table = "
** Compaction Stats [data] **
Level    Files   Size     Score Read(GB)  Rn(GB) Rnp1(GB)
---------------------------------------------------------
  L0      2/0    1.63 KB   0.5      0.0     0.0      0.0
  L6     12/1   34.10 MB  11.2      0.0     0.0      0.0
 Sum     14/0   34.11 MB   0.0      0.0     0.0      0.0
 Int      0/0    0.00 KB   0.0      0.0     0.0      0.0
Priority    Files   Size     Score
 Low      0/0    0.00 KB   0.0
";
        assert_eq!(scores(table), [(0, 500), (6, 11_200)].into());
        assert_eq!(scores("L0\nL1 x y z nonsense\nLx 1 2 3 4.5"), BTreeMap::new());
    }
}
