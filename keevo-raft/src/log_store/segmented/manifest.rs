//! The manifest: which segments the log consists of, and where each of them ends.
//!
//! ```text
//! keevo log 1
//! segment 12 67108801        a closed one, and its bytes in use
//! segment 13 open            the newest; it ends where its records do
//! crc 1a2b3c4d
//! ```
//!
//! Invariant: it is replaced as a whole, and names a segment only while the file is durable under its name. So a
//! segment that it names and that is not there was lost, and one that it doesn't name holds nothing.

use std::collections::BTreeMap;
use std::io;

use keevo_core::{Error, ErrorKind, Result};

use super::folder::Folder;

/// The manifest's file.
pub(super) const MANIFEST: &str = "MANIFEST";
const TEMPORARY: &str = "MANIFEST.tmp";
const FORMAT: &str = "keevo log 1";

/// What the manifest says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Manifest {
    /// The closed segments and their bytes in use.
    pub(super) closed: BTreeMap<u64, u32>,
    /// The segment that is written to.
    pub(super) open: u64,
}

impl Manifest {
    pub(super) fn render(&self) -> String {
        let closed: Vec<String> =
            self.closed.iter().map(|(number, bytes)| format!("segment {number} {bytes}\n")).collect();
        let body = format!("{FORMAT}\n{}segment {} open\n", closed.concat(), self.open);
        let crc = crc32fast::hash(body.as_bytes());
        format!("{body}crc {crc:08x}\n")
    }

    /// What a manifest's bytes say. Errors: `Corrupt`, `NewerFormat`.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self> {
        let damaged = || Error::corrupt("the manifest of the log store is damaged");
        let text = std::str::from_utf8(bytes).map_err(|error| damaged().with_source(error))?;
        let (body, crc) = text.rsplit_once("crc ").ok_or_else(damaged)?;
        if crc != format!("{:08x}\n", crc32fast::hash(body.as_bytes())) {
            return Err(damaged());
        }
        let mut lines = body.lines();
        if lines.next() != Some(FORMAT) {
            return Err(Error::new(ErrorKind::NewerFormat, "the log store was written by a newer version of Keevo"));
        }
        let mut manifest = Self::default();
        for line in lines {
            let (number, end) =
                line.strip_prefix("segment ").and_then(|rest| rest.split_once(' ')).ok_or_else(damaged)?;
            let number: u64 = number.parse().map_err(|_not_a_number| damaged())?;
            if manifest.open != 0
                || number == 0
                || number == u64::MAX
                || manifest.closed.last_key_value().is_some_and(|(last, _)| *last >= number)
            {
                return Err(damaged());
            }
            if end == "open" {
                manifest.open = number;
            } else {
                manifest.closed.insert(number, end.parse().map_err(|_not_a_number| damaged())?);
            }
        }
        if manifest.open == 0 { Err(damaged()) } else { Ok(manifest) }
    }

    /// Puts this in place of the manifest before. Durable on return, and with it every name in the folder.
    pub(super) fn save(&self, folder: &dyn Folder) -> io::Result<()> {
        folder.remove(TEMPORARY)?;
        let file = folder.open(TEMPORARY)?;
        file.write_at(self.render().as_bytes(), 0)?;
        // A failed sync is never one that is tried again, as on a full disk.
        file.sync().map_err(io::Error::other)?;
        // The names of the segments first: the manifest must not come to name one that a power cut takes back.
        folder.sync().map_err(io::Error::other)?;
        folder.rename(TEMPORARY, MANIFEST)?;
        folder.sync().map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_is_read_as_it_was_written_and_no_other_text_is_one() {
        let manifest = Manifest { closed: [(3, 100), (4, 0), (9, u32::MAX)].into(), open: 10 };
        let text = manifest.render();
        assert_eq!(Manifest::parse(text.as_bytes()).unwrap(), manifest);
        for end in 0..text.len() {
            assert_eq!(Manifest::parse(&text.as_bytes()[..end]).unwrap_err().kind(), ErrorKind::Corrupt, "{end}");
        }
        for bit in 0..text.len() * 8 {
            let mut bad = text.clone().into_bytes();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Manifest::parse(&bad).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn segments_must_rise_and_one_must_be_open() {
        for body in
            ["segment 3 1\n", "segment 3 1\nsegment 2 open\n", "segment 0 open\n", "segment 1 open\nsegment 2 5\n"]
        {
            let body = format!("{FORMAT}\n{body}");
            let text = format!("{body}crc {:08x}\n", crc32fast::hash(body.as_bytes()));
            assert_eq!(Manifest::parse(text.as_bytes()).unwrap_err().kind(), ErrorKind::Corrupt, "{body}");
        }
        let newer = "keevo log 2\nsegment 1 open\n";
        let newer = format!("{newer}crc {:08x}\n", crc32fast::hash(newer.as_bytes()));
        assert_eq!(Manifest::parse(newer.as_bytes()).unwrap_err().kind(), ErrorKind::NewerFormat);
    }
}
