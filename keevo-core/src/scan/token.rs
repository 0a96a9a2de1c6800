//! Page tokens: where a page ended, and which read view it came from.
//!
//! ```text
//! [class u8 ≥ 0x08]…                                 the last key: the next page is its own view
//! [0x01][home u64 BE][number u128 BE][last key]      the next page is of the same view
//! [0x02][bound]                                      a view ended with its shard: the next one starts at the bound
//! ```
//!
//! Invariant: a token of one kind of scan is refused by the other kind, and damage never leads out of a scan's range.

use bytes::Bytes;

use crate::error::{Error, Result};
use crate::scan::PageToken;
use crate::views::ViewId;

const IN_VIEW: u8 = 0x01;
const AT_BOUND: u8 = 0x02;

/// What a page token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// The page ended with this key.
    After { view: Option<ViewId>, last: Bytes },
    /// The next page begins at this bound.
    From(Bytes),
}

impl PageToken {
    /// Where a page of a read view ended: with the encoded key `last`.
    #[must_use]
    pub fn in_view(view: ViewId, last: &[u8]) -> Self {
        Self([&[IN_VIEW][..], &view.home.to_be_bytes(), &view.number.to_be_bytes(), last].concat().into())
    }

    /// Where a scan goes on in another read view: at an encoded key, which a forward scan includes.
    #[must_use]
    pub fn at_bound(bound: &[u8]) -> Self {
        Self([&[AT_BOUND], bound].concat().into())
    }

    pub(super) fn place(&self) -> Result<Place> {
        let bytes = &self.0;
        match bytes.split_first() {
            Some((&IN_VIEW, rest)) => {
                let (home, number, last) = rest
                    .split_first_chunk::<8>()
                    .and_then(|(home, rest)| rest.split_first_chunk::<16>().map(|(number, last)| (home, number, last)))
                    .ok_or_else(|| Error::invalid("the page token is cut short"))?;
                let view = ViewId { home: u64::from_be_bytes(*home), number: u128::from_be_bytes(*number) };
                Ok(Place::After { view: Some(view), last: bytes.slice_ref(last) })
            }
            Some((&AT_BOUND, bound)) => Ok(Place::From(bytes.slice_ref(bound))),
            _ => Ok(Place::After { view: None, last: bytes.clone() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back_and_cut_ones_are_refused() {
        let view = ViewId { home: 7, number: u128::MAX - 1 };
        let token = PageToken::in_view(view, b"\x10last");
        assert_eq!(token.place().expect("whole"), Place::After { view: Some(view), last: "\x10last".into() });
        for length in 1..25 {
            assert!(PageToken(token.0.slice(..length)).place().is_err(), "{length} bytes");
        }
        assert_eq!(PageToken::at_bound(b"\x10b").place().expect("whole"), Place::From("\x10b".into()));
        let plain = PageToken(Bytes::from_static(b"\x10last"));
        assert_eq!(plain.place().expect("whole"), Place::After { view: None, last: "\x10last".into() });
        assert_eq!(PageToken(Bytes::new()).place().expect("any"), Place::After { view: None, last: Bytes::new() });
    }
}
