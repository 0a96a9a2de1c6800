//! The frame around a message of gRPC: a flag byte, 0 = not compressed, and the length as u32 BE.

use bytes::{Buf, BufMut, Bytes, BytesMut};

const HEAD_BYTES: usize = 5;

/// The message of a body that is one frame, not compressed.
pub(super) fn message(body: &Bytes) -> Option<Bytes> {
    let mut rest = body.clone();
    if rest.len() < HEAD_BYTES || rest.get_u8() != 0 {
        return None;
    }
    let length = usize::try_from(rest.get_u32()).ok()?;
    (rest.len() == length).then_some(rest)
}

/// The body with one message.
pub(super) fn body(message: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(HEAD_BYTES + message.len());
    out.put_u8(0);
    out.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    out.put_slice(message);
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_frame_and_nothing_else() {
        let framed = body(b"hello");
        assert_eq!(message(&framed).as_deref(), Some(&b"hello"[..]));
        assert_eq!(message(&body(b"")).as_deref(), Some(&b""[..]));
        for bad in [&b""[..], b"\0\0\0\0", b"\x01\0\0\0\0", b"\0\0\0\0\x01", b"\0\0\0\0\0\0"] {
            assert_eq!(message(&Bytes::copy_from_slice(bad)), None);
        }
    }
}
