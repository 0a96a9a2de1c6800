//! `keevo-cli compact`.

use bytes::Bytes;
use clap::Args;

use crate::text::parse_hex;

/// Shown below the help.
pub(crate) const EXAMPLES: &str = "\
Examples:
  keevo-cli compact                                      # the node at 127.0.0.1:7101
  keevo-cli --endpoints 10.0.0.1:7101,10.0.0.2:7101 compact --watch
  keevo-cli compact --shard 3 --all-nodes
  keevo-cli compact --keyspace times
  keevo-cli compact --range 0180..01c0                   # bounds as `keevo-cli shard list` shows them";

/// What to compact, and where.
#[derive(Debug, Args)]
pub(crate) struct Compact {
    /// Only the rows of this shard
    #[arg(long, value_name = "SHARD", conflicts_with_all = ["keyspace", "range"])]
    pub(crate) shard: Option<u64>,
    /// Only the rows of this keyspace; a hashed one lies all over the store, so that everything is compacted
    #[arg(long, value_name = "NAME", conflicts_with = "range")]
    pub(crate) keyspace: Option<String>,
    /// Only the rows between two encoded keys, in hexadecimal digits; without one of them there is no such bound
    #[arg(long, value_name = "START..END", value_parser = range)]
    pub(crate) range: Option<Range>,
    /// On every node of the cluster, one after the other, instead of on the --endpoints
    #[arg(long)]
    pub(crate) all_nodes: bool,
    /// Show the levels as they change
    #[arg(long)]
    pub(crate) watch: bool,
}

/// Encoded keys from the first up to the second; empty = no bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Range(pub(crate) Bytes, pub(crate) Bytes);

fn range(text: &str) -> Result<Range, String> {
    let parsed = text.split_once("..").and_then(|(start, end)| Some(Range(parse_hex(start)?, parse_hex(end)?)));
    parsed.ok_or_else(|| "write START..END in hexadecimal digits, two a byte, such as 0180..01c0 or 0180..".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read() {
        assert_eq!(range("0180.."), Ok(Range(vec![1, 128].into(), Bytes::new())));
        assert_eq!(range("..01"), Ok(Range(Bytes::new(), vec![1].into())));
        for bad in ["", "01", "018..02", "0x..", "01...02"] {
            assert!(range(bad).is_err(), "{bad}");
        }
    }
}
