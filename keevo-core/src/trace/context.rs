//! The W3C trace context: which trace, which span of it, and whether it is recorded.
//!
//! ```text
//! header  traceparent: 00-<trace id, 32 digits>-<span id, 16 digits>-<flags, 2 digits>
//! entry   … [field 9: format u8 = 1, trace id u128 BE, span id u64 BE, flags u8]      the last field of the entry
//! ```
//!
//! A reader that does not know the field skips it, and applies the entry to the same effect.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use prost::encoding::{WireType, encode_key, encode_varint};

/// The field of an entry that holds it.
const TAG: u32 = 9;
const FORMAT: u8 = 1;
/// What the field holds, in bytes.
const BYTES: usize = 26;
/// What comes before: the key of the field, and its length. Both take one byte.
const HEAD: [u8; 2] = [0x4a, 26];

/// The place of a span in a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace; never 0.
    pub trace_id: u128,
    /// The span; never 0.
    pub span_id: u64,
    /// Whether the trace is recorded.
    pub sampled: bool,
}

impl TraceContext {
    /// Reads a `traceparent` header; `None` where it is none. Versions above 0 are read as far as they are like 0.
    pub fn parse(header: &str) -> Option<Self> {
        let hex = |text: &str, digits: usize| {
            let lower = text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
            (text.len() == digits && lower).then_some(())
        };
        let mut fields = header.trim().split('-');
        let (version, trace_id, span_id, flags) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        hex(version, 2)?;
        hex(trace_id, 32)?;
        hex(span_id, 16)?;
        hex(flags, 2)?;
        if version == "ff" || (version == "00" && fields.next().is_some()) {
            return None;
        }
        let trace_id = u128::from_str_radix(trace_id, 16).ok().filter(|id| *id != 0)?;
        let span_id = u64::from_str_radix(span_id, 16).ok().filter(|id| *id != 0)?;
        Some(Self { trace_id, span_id, sampled: u8::from_str_radix(flags, 16).ok()? & 1 == 1 })
    }

    /// The same trace, at another span.
    #[must_use]
    pub fn at(self, span_id: u64) -> Self {
        Self { span_id, ..self }
    }

    /// The context as bytes, for the way to another node.
    pub fn encode(self) -> Bytes {
        let mut out = BytesMut::with_capacity(BYTES);
        self.put(&mut out);
        out.freeze()
    }

    fn put(self, out: &mut BytesMut) {
        out.put_u8(FORMAT);
        out.put_u128(self.trace_id);
        out.put_u64(self.span_id);
        out.put_u8(u8::from(self.sampled));
    }

    /// Reads what [`TraceContext::encode`] wrote; `None` for anything else.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (&format, rest) = bytes.split_first()?;
        let (trace_id, rest) = rest.split_first_chunk::<16>()?;
        let (span_id, rest) = rest.split_first_chunk::<8>()?;
        let (trace_id, span_id) = (u128::from_be_bytes(*trace_id), u64::from_be_bytes(*span_id));
        let &[flags] = rest else { return None };
        let good = format == FORMAT && flags <= 1 && trace_id != 0 && span_id != 0;
        good.then_some(Self { trace_id, span_id, sampled: flags == 1 })
    }

    /// Appends the context to an encoded entry; nothing may be appended behind it.
    pub fn append_to(self, entry: &[u8]) -> Bytes {
        let mut out = BytesMut::with_capacity(entry.len() + HEAD.len() + BYTES);
        out.put_slice(entry);
        encode_key(TAG, WireType::LengthDelimited, &mut out);
        encode_varint(BYTES as u64, &mut out);
        self.put(&mut out);
        out.freeze()
    }

    /// The context that an encoded entry ends with. What looks like one at the end of a value is taken for one; all that
    /// comes of it is a span.
    pub fn of_entry(entry: &[u8]) -> Option<Self> {
        let (rest, bytes) = entry.split_at_checked(entry.len().checked_sub(BYTES)?)?;
        rest.ends_with(&HEAD).then(|| Self::decode(bytes)).flatten()
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, u8::from(self.sampled))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Command, Entry, Hlc};

    const HEADER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn headers_are_read_as_they_are_written() {
        let context = TraceContext::parse(HEADER).expect("a context");
        assert!(context.sampled);
        assert_eq!(context.to_string(), HEADER);
        let newer = "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00-more";
        assert_eq!(TraceContext::parse(newer).map(|one| one.sampled), Some(false));
        for wrong in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473é-00f067aa0ba902b7-01",
        ] {
            assert_eq!(TraceContext::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn an_entry_carries_it_and_says_the_same_as_before() {
        let context = TraceContext::parse(HEADER).expect("a context");
        let entry = Entry { hlc: Hlc(7), command: Command::MoveClock };
        let plain = entry.encode();
        assert_eq!(TraceContext::of_entry(&plain), None);
        let traced = context.append_to(&plain);
        assert_eq!(TraceContext::of_entry(&traced), Some(context));
        assert_eq!(Entry::decode(&traced).expect("it decodes"), entry);
        assert_eq!(TraceContext::decode(&context.encode()), Some(context));
        for cut in 0..BYTES {
            assert_eq!(TraceContext::decode(&context.encode()[..cut]), None);
        }
        assert_eq!(TraceContext::of_entry(b""), None);
    }
}
